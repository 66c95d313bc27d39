"""Questions about each problem's pool of solutions: pass@k, the gap to the oracle, diversity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.estimate import pass_at_k

from .. import stats
from ..stats import Clusters, wilson
from .costs import RUN, with_names
from .question import Asked, Col, Question, Row

ROUNDS = 2_000  # of the bootstrap over problems


def _pass_at_k(asked: Asked) -> list[Row]:
    out = []
    for run, rows in asked.by_run().items():
        for k in _sizes([row["n"] for row in rows]):
            # a problem with fewer solutions has all of them looked at; one without any is not solved
            values = np.array([[pass_at_k(row["n"], row["c"], min(k, row["n"])) if row["n"] else 0.0] for row in rows])
            counts = [row["problems"] for row in rows]
            share = float(np.average(values[:, 0], weights=counts))
            low, high = stats.mean_interval(values, share, sum(counts), stats.counted_means(values, counts, ROUNDS)[:, 0])
            full = sum(row["problems"] for row in rows if row["n"] >= k)
            row = {"run": run, "k": k, "share": share, "low": low, "high": high, "problems": sum(counts), "full": full}
            out.append(row)
    return with_names(asked, out)


def _sizes(pools: Sequence[int]) -> list[int]:
    """Powers of two up to the largest pool, and that."""
    largest = max(pools, default=0)
    return sorted({1 << i for i in range(largest.bit_length())} | {largest} - {0}) if largest else []


PASS_AT_K = Question(
    name="pass-at-k",
    title="pass@k",
    asks="How many problems have a right answer among k solutions?",
    says="1 - C(n - c, k) / C(n, k), over n solutions of which c are right, mean over problems (Chen and others 2021, "
    "unbiased where "
    "solutions are drawn regardless of each other; of a search tree it is the share of subsets of what the search has "
    "left). Where k is all that each problem has, the interval is Wilson's, as of an accuracy; else it is of a bootstrap.",
    sql="""
SELECT attempt.run_id AS run, attempt.solutions AS n, attempt.right_solutions AS c, count(*) AS problems
FROM attempt
WHERE attempt.run_id IN ({runs}) AND attempt.solutions IS NOT NULL
GROUP BY attempt.run_id, attempt.solutions, attempt.right_solutions
ORDER BY 1, 2, 3
""",
    columns={
        **RUN,
        "k": Col("solutions looked at; problems with fewer have all of theirs looked at", "count"),
        "share": Col("of the problems that have a right one among them; higher is better", "share", "low", "high"),
        "low": Col("of the 95% interval (bootstrap over problems, or Wilson)", "share"),
        "high": Col("of the 95% interval (bootstrap over problems, or Wilson)", "share"),
        "problems": Col("finished ones, whose solutions are judged", "count"),
        "full": Col("of them with k solutions or more; where it falls, the curve levels off for want of solutions", "count"),
    },
    make=_pass_at_k,
    needs="solutions that are judged",
    computed="pass@k of each kind of problem (n, c), its mean, and a bootstrap over problems (2,000 resamples, seed 0); "
    "Wilson's interval where each problem has 0 or 1, or all are alike",
)


def _gap(asked: Asked) -> list[Row]:
    rows = with_names(asked, asked.rows())
    for row in rows:
        n = row["problems"]
        row |= {"random": row["at_random"] / n, "oracle": row["solved"] / n, "never": 1 - row["solved"] / n}
        if row["graded"]:  # else nothing is known of what was chosen, or nothing was
            row |= {"chosen": row["was_right"] / n, "lost": row["missed"] / n}
            row["lost_low"], row["lost_high"] = wilson(row["missed"], n)
            between = row["oracle"] - row["random"]
            row["recovered"] = (row["chosen"] - row["random"]) / between if between > 0 else None
    return rows


ORACLE_GAP = Question(
    name="oracle-gap",
    title="The gap to the oracle",
    asks="What would a perfect choice among the solutions have bought?",
    says="Oracle: some solution of the problem is right. Random: one drawn at random. Lost: a right one was there, and "
    "another was "
    "chosen. Never: no right one was made, which no verifier can mend.",
    sql="""
SELECT attempt.run_id AS run, count(*) AS problems,
       sum(CASE WHEN attempt.verdict IS NOT NULL THEN 1 ELSE 0 END) AS graded,
       sum(CASE WHEN attempt.correct THEN 1 ELSE 0 END) AS was_right,
       sum(CASE WHEN attempt.right_solutions > 0 THEN 1 ELSE 0 END) AS solved,
       sum(CASE WHEN attempt.right_solutions > 0 AND (attempt.correct IS NULL OR NOT attempt.correct)
                THEN 1 ELSE 0 END) AS missed,
       sum(CASE WHEN attempt.solutions > 0 THEN attempt.right_solutions * 1.0 / attempt.solutions ELSE 0 END) AS at_random
FROM attempt
WHERE attempt.run_id IN ({runs}) AND attempt.solutions IS NOT NULL
GROUP BY attempt.run_id
""",
    columns={
        **RUN,
        "problems": Col("finished ones, whose solutions are judged", "count"),
        "random": Col("share right of one solution drawn at random", "share"),
        "chosen": Col("share right of what the run chose", "share"),
        "oracle": Col("share of problems with a right solution", "share"),
        "recovered": Col("(chosen - random) / (oracle - random): 0 = as good as chance, 1 = perfect", "signed"),
        "lost": Col(
            "share of problems with a right solution that was not chosen; lower is better", "share", "lost_low", "lost_high"
        ),
        "lost_low": Col("of the 95% interval (Wilson)", "share"),
        "lost_high": Col("of the 95% interval (Wilson)", "share"),
        "never": Col("share of problems without a right solution", "share"),
    },
    make=_gap,
    needs="finished problems whose solutions are judged",
    computed="shares of the problems, recovered, and the Wilson interval of lost",
)


def _diversity(asked: Asked) -> list[Row]:
    rows = with_names(asked, asked.rows())
    for row in rows:
        texts = Clusters(row["problems"], row["n"], row["texts"], row["nn"], row["texts_squared"], row["n_texts"])
        low, high = stats.clustered(texts)
        row |= {"duplicates": 1 - texts.share, "duplicates_low": 1 - high, "duplicates_high": 1 - low}
        row["answers_share"] = row["answers"] / row["n"]
        row["solutions"], row["texts"], row["answers"] = (row[name] / row["problems"] for name in ("n", "texts", "answers"))
    return rows


DIVERSITY = Question(
    name="diversity",
    title="Duplicates and diversity",
    asks="How many of the solutions are different?",
    says="A duplicate has the same text as an earlier solution of its problem: it was paid for and adds nothing but a vote.",
    sql="""
SELECT attempt.run_id AS run, count(*) AS problems, sum(n) AS n, sum(texts) AS texts, sum(answers) AS answers, sum(n * n) AS nn,
       sum(texts * texts) AS texts_squared, sum(n * texts) AS n_texts
FROM (SELECT solution.attempt_id, count(*) AS n, count(DISTINCT solution.digest) AS texts,
             count(DISTINCT solution.answer) AS answers
      FROM solution
      WHERE solution.attempt_id IN (SELECT attempt.id FROM attempt WHERE attempt.run_id IN ({runs}))
      GROUP BY solution.attempt_id) AS pools
JOIN attempt ON attempt.id = pools.attempt_id
GROUP BY attempt.run_id
""",
    columns={
        **RUN,
        "problems": Col("with solutions", "count"),
        "solutions": Col("a problem, merged ones too", "number"),
        "texts": Col("different texts a problem", "number"),
        "answers": Col("different answers a problem", "number"),
        "duplicates": Col(
            "share of solutions whose text was there; lower is better", "share", "duplicates_low", "duplicates_high"
        ),
        "duplicates_low": Col("of the 95% interval (Wilson, clustered by problem)", "share"),
        "duplicates_high": Col("of the 95% interval (Wilson, clustered by problem)", "share"),
        "answers_share": Col("different answers / solutions", "share"),
    },
    make=_diversity,
    needs="solutions of finished problems",
    computed="means and shares, and an interval in which a problem's solutions stay together",
)

__all__ = ["DIVERSITY", "ORACLE_GAP", "PASS_AT_K"]
