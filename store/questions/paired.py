"""Questions about several runs: which is better, in pairs and corrected for their number; and whether the seed mattered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .. import stats
from ..compare import FEW, Comparison, Side, adjusted, common, paired, side
from ..runs import Run, named
from .costs import RUN, with_names
from .question import Asked, Col, Question, Row

RESAMPLES = 10_000

_RESULTS = """
SELECT attempt.run_id AS run, attempt.problem_key AS problem, attempt.seed, attempt.verdict,
       CASE WHEN attempt.correct THEN 1 ELSE 0 END AS correct, attempt.generated_tokens AS tokens,
       attempt.verifier_passes AS passes
FROM attempt
WHERE attempt.run_id IN ({runs}) AND attempt.status IN ('done', 'failed')
ORDER BY attempt.run_id, attempt.position
"""


def sets_of(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs by what they were asked, in the order given: only runs over one set of problems are compared."""
    out: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        out[str(run.spec.problems)].append(run)
    return dict(out)


def _pairs(asked: Asked) -> list[Row]:
    out, found = [], []
    for runs in sets_of(asked.runs).values():
        if len(runs) < 2:
            continue
        sides = [(run, each) for run in runs if (each := side(asked.db, [run])).right]
        for run, second in sides[1:]:
            comparison = compared(sides[0][1], second)
            if comparison is not None:
                found.append(comparison)
                out.append(_pair(sides[0][0], run, comparison))
    # all that are asked for at once are one family of tests
    for row, pair in zip(out, adjusted(found), strict=True):
        row["p_holm"] = pair.decisive if pair.holm is None else pair.holm
    return with_names(asked, out)


def compared(first: Side, second: Side) -> Comparison | None:
    """Over the problems that both have finished; None where there are none."""
    try:
        return paired(first, second, common([first, second], intersect=True), RESAMPLES)
    except ValueError:
        return None


def tied_with(best: Side, others: Sequence[Side]) -> list[bool]:
    """Which of the others cannot be told apart from the best one: McNemar's test, Holm's correction, 5%. One without a
    problem in common cannot."""
    ps = []
    for other in others:
        shared = best.right.keys() & other.right.keys()
        only = (sum(a.right[key] > b.right[key] for key in shared) for a, b in ((best, other), (other, best)))
        ps.append(stats.mcnemar(*only))
    return [p > 0.05 for p in stats.holm(ps)]


def _pair(first: Run, second: Run, of: Comparison) -> Row:
    difference, low, high = of.difference
    row: Row = {"run": second.id, "baseline": named(first), "problems": of.problems, "few": int(of.problems < FEW)}
    row |= {"baseline_accuracy": of.first, "accuracy": of.second, "difference": difference, "low": low, "high": high}
    row |= {"p": of.decisive, "only_baseline": of.only_first, "only_run": of.only_second}
    for unit in ("tokens", "passes"):
        ratio = of.ratios[unit]
        names = (unit, f"{unit}_low", f"{unit}_high")
        row |= dict(zip(names, (None,) * 3 if ratio is None else ratio, strict=True))
    return row


PAIRS = Question(
    name="pairs",
    title="In pairs",
    asks="Is each run better than the first one, over the same problems?",
    says="Differences are the run's minus the baseline's, which is the first run over its problems, on those that both have "
    "finished. p is McNemar's exact test, and p (Holm) the same corrected for the number of comparisons that are asked for at "
    "once. Where few problems differ, the interval, from a bootstrap, may leave out 0 and p still be above 0.05: p decides.",
    sql=_RESULTS,
    columns={
        **RUN,
        "baseline": Col("the run it is compared with: the first over its problems"),
        "problems": Col("that both have finished", "count"),
        "few": Col(f"1 = fewer than {FEW} problems: the intervals say little", "count"),
        "baseline_accuracy": Col("accuracy of the baseline on these", "share", title="{baseline}"),
        "accuracy": Col("accuracy of the run on these", "share", title="{name}"),
        "difference": Col("the run's accuracy minus the baseline's; above 0 the run is better", "signed", "low", "high"),
        "low": Col("of the 95% interval (bootstrap over problems)", "signed"),
        "high": Col("of the 95% interval (bootstrap over problems)", "signed"),
        "p": Col("two-sided, McNemar's exact test", "share"),
        "p_holm": Col("corrected for the number of comparisons (Holm)", "share"),
        "only_baseline": Col("problems that only the baseline solved", "count", title="only {baseline}"),
        "only_run": Col("problems that only the run solved", "count", title="only {name}"),
        "tokens": Col("generated tokens, run / baseline", "number", "tokens_low", "tokens_high"),
        "tokens_low": Col("of the 95% interval (bootstrap over problems)", "number"),
        "tokens_high": Col("of the 95% interval (bootstrap over problems)", "number"),
        "passes": Col("verifier passes, run / baseline", "number", "passes_low", "passes_high"),
        "passes_low": Col("of the 95% interval (bootstrap over problems)", "number"),
        "passes_high": Col("of the 95% interval (bootstrap over problems)", "number"),
    },
    make=_pairs,
    wants="two runs over the same problems of which both have finished and graded some",
    computed=f"differences, ratios and a paired bootstrap over problems ({RESAMPLES:,} resamples, seed 0); McNemar's "
    f"test; Holm's correction",
)


def _seeds(asked: Asked) -> list[Row]:
    results, groups = {}, defaultdict[str, list[Run]](list)
    found = asked.by_run()
    for run in asked.runs:
        if any(row["verdict"] is not None for row in found[run.id]):
            results[run.id] = {row["problem"]: row["correct"] for row in found[run.id]}
            groups[replace(run.spec, seed=0).id].append(run)
    told = [_of_group(runs, results) for runs in groups.values()]
    # all configurations that are asked about at once are one family of tests
    tested = [rows for rows in told if rows[0]["p"] is not None]
    for rows, p in zip(tested, stats.holm([rows[0]["p"] for rows in tested]), strict=True):
        for row in rows:
            row["p_holm"] = p
    return [{**row, "configuration": i} for i, rows in enumerate(told, start=1) for row in rows]


def _of_group(runs: Sequence[Run], results: dict[str, dict[str, int]]) -> list[Row]:
    shared = [key for key in results[runs[0].id] if all(key in results[run.id] for run in runs)]
    table = np.array([[results[run.id][key] for run in runs] for key in shared], dtype=np.float64).reshape(-1, len(runs))
    p = _cochran(table) if len(runs) > 1 and len(shared) else None
    shares = table.mean(axis=0) if len(shared) else np.array([])
    spread = float(shares.max() - shares.min()) if len(runs) > 1 and len(shared) else None
    out: list[Row] = []
    for run in runs:
        mine = list(results[run.id].values())
        low, high = stats.wilson(sum(mine), len(mine))
        row: Row = {"run": run.id, "name": named(run), "seed": run.spec.seed, "seeds": len(runs), "problems": len(mine)}
        out.append({**row, "accuracy": sum(mine) / len(mine), "low": low, "high": high, "spread": spread, "p": p})
    return out


def _cochran(table: np.ndarray) -> float:
    """Cochran's Q: the chance of so different accuracies if no seed is better than another on any problem. 1 where all
    agree. Of two seeds, McNemar's exact test of the same: Q's distribution is right for many problems only."""
    from scipy.stats import chi2

    k = table.shape[1]
    if k == 2:
        return stats.mcnemar(*(int((table[:, i] > table[:, 1 - i]).sum()) for i in (0, 1)))
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    below = k * rows.sum() - (rows**2).sum()
    if below == 0:
        return 1.0
    q = (k - 1) * (k * (columns**2).sum() - columns.sum() ** 2) / below
    return float(chi2.sf(q, k - 1))


SEEDS = Question(
    name="seeds",
    title="Seeds",
    asks="Did the seed matter?",
    says="Runs that differ in the seed alone. A small p says that the seeds differ by more than chance on the same "
    "problems; a spread within the intervals does not. p (Holm) is corrected for the number of configurations that have "
    "several. A run with one seed says nothing about it.",
    sql=_RESULTS,
    columns={
        **RUN,
        "seed": Col("of the run", "id"),
        "seeds": Col("of this configuration, here", "count"),
        "problems": Col("finished ones", "count"),
        "accuracy": Col("of this seed; higher is better", "share", "low", "high"),
        "low": Col("of the 95% interval (Wilson)", "share"),
        "high": Col("of the 95% interval (Wilson)", "share"),
        "spread": Col("highest accuracy of its seeds minus the lowest, over the problems that all have", "share"),
        "p": Col("of Cochran's Q, of two seeds McNemar's exact test: no seed is better than another", "share"),
        "p_holm": Col("corrected for the number of configurations with several seeds (Holm)", "share"),
        "configuration": Col("of the run, here: the same number where the seed alone differs", "id"),
    },
    make=_seeds,
    needs="finished problems that were graded",
    computed="accuracies with Wilson intervals, their spread, and Cochran's Q (of two seeds McNemar's exact test) over the "
    "problems that all seeds have finished; Holm's correction",
)

__all__ = ["PAIRS", "SEEDS", "compared", "sets_of", "tied_with"]
