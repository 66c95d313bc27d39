"""Questions about a run's verifier: is it calibrated, does it tell right from wrong, does it favour length?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import stats
from ..stats import Clusters
from .costs import RUN, with_names
from .question import Asked, Col, Question, Row

SAMPLED = 100_000  # solutions of a run, which each question goes through in about a second
# attempts: of a run with more solutions, those of the problems that come first, in the order of their hashes
_SAMPLE = f"""SELECT sampled.id
          FROM (SELECT attempt.id, coalesce(attempt.solutions, 0) AS own,
                       sum(coalesce(attempt.solutions, 0)) OVER (PARTITION BY attempt.run_id
                                                                 ORDER BY attempt.problem_key, attempt.id) AS upto
                FROM attempt WHERE attempt.run_id IN ({{runs}})) AS sampled
          WHERE sampled.upto - sampled.own < {SAMPLED}"""
_RULE = f" Of a run with more than {SAMPLED:,} solutions it is a sample: the problems of the smallest keys, which are hashes."
BINS = 10
GRAIN = 10_000  # of the score, for ranks: verifiers give four digits


def _calibration(asked: Asked) -> list[Row]:
    rows = with_names(asked, asked.rows())
    for row in rows:
        of = _clusters(row, "c")
        row["right"] = of.share
        row["low"], row["high"] = stats.clustered(of)
        row["score"] = row["total"] / row["n"]
        row["gap"] = row["score"] - row["right"]
        row["from"], row["to"] = row["bin"] / BINS, (row["bin"] + 1) / BINS
        row["solutions"] = row["n"]
    return rows


def _clusters(row: Row, y: str) -> Clusters:
    return Clusters(row["problems"], row["n"], row[y], row["nn"], row[f"{y}{y}"], row[f"n{y}"])


CALIBRATION = Question(
    name="calibration",
    title="Calibration of the verifier",
    asks="Of the solutions that the verifier gives a score, how many are right?",
    says="All whole solutions with a score, in ten bins. A calibrated verifier's score is the share that is right; "
    "above it, it is "
    "over-confident. One that was merged into an equal one has no score. Of a search tree these are the solutions that the "
    "search has left, which it chose by this very score." + _RULE,
    sql=f"""
SELECT attempt.run_id AS run, bin, count(*) AS problems, sum(n) AS n, sum(c) AS c, sum(total) AS total, sum(n * n) AS nn,
       sum(c * c) AS cc, sum(n * c) AS nc
FROM (SELECT solution.attempt_id,
             CASE WHEN solution.value >= 1 THEN {BINS - 1} ELSE CAST(floor(solution.value * {BINS}) AS INTEGER) END AS bin,
             count(*) AS n, sum(CASE WHEN solution.correct THEN 1 ELSE 0 END) AS c, sum(solution.value) AS total
      FROM solution
      WHERE solution.attempt_id IN ({_SAMPLE})
            AND solution.value IS NOT NULL AND solution.correct IS NOT NULL
      GROUP BY 1, 2) AS pools
JOIN attempt ON attempt.id = pools.attempt_id
GROUP BY attempt.run_id, bin
ORDER BY 1, 2
""",
    columns={
        **RUN,
        "from": Col("scores of the bin: from this", "share"),
        "to": Col("to below this", "share"),
        "solutions": Col("in the bin", "count"),
        "problems": Col("that they are of", "count"),
        "score": Col("mean of the bin", "share"),
        "right": Col("share of right solutions", "share", "low", "high"),
        "low": Col("of the 95% interval (Wilson, clustered by problem)", "share"),
        "high": Col("of the 95% interval (Wilson, clustered by problem)", "share"),
        "gap": Col("score - right: above 0 over-confident, below 0 under-confident", "signed"),
    },
    make=_calibration,
    needs="scores of a verifier of its own",
    computed="means, and an interval in which a problem's solutions stay together",
)


def _verifier(asked: Asked) -> list[Row]:
    grains = asked.by_run()
    return with_names(asked, [_judged(run, rows) for run, rows in grains.items() if rows])


def _judged(run: str, grains: Sequence[Row]) -> Row:
    n, c = sum(row["n"] for row in grains), sum(row["c"] for row in grains)
    total, squares = sum(row["total"] for row in grains), sum(row["squares"] for row in grains)
    right_scores = sum(row["right_total"] for row in grains)
    bins = [[row for row in grains if min(row["grain"] * BINS // GRAIN, BINS - 1) == b] for b in range(BINS)]
    errors = [abs(sum(r["total"] for r in rows) - sum(r["c"] for r in rows)) for rows in bins]
    moments = grains[0]  # of the differences score - right by problem: the same in every row
    difference = (total - c) / n
    half = _half(Clusters(moments["problems"], n, total - c, moments["nn"], moments["dd"], moments["nd"]))
    return {
        "run": run,
        "solutions": n,
        "problems": moments["problems"],
        "score": total / n,
        "right": c / n,
        "confidence": difference,
        "low": None if half is None else difference - half,
        "high": None if half is None else difference + half,
        "ece": sum(errors) / n,
        "brier": (squares - 2 * right_scores + c) / n,
        "auc": _auc(grains, c, n - c),
    }


def _half(of: Clusters) -> float | None:
    return None if of.variance is None else stats.student(of.m - 1) * math.sqrt(of.variance)


def _auc(grains: Sequence[Row], right: int, wrong: int) -> float | None:
    """The chance that a right solution has more than a wrong one; equal grains are half a win."""
    if not right or not wrong:
        return None
    below, wins = 0, 0.0
    for row in sorted(grains, key=lambda row: int(row["grain"])):
        others = row["n"] - row["c"]
        wins += row["c"] * (below + others / 2)
        below += others
    return wins / (right * wrong)


VERIFIER = Question(
    name="verifier",
    title="The verifier as a whole",
    asks="Is the verifier over-confident, and does it tell right from wrong?",
    says="Confidence is the mean score minus the share that is right: an interval above 0 says over-confident, below 0 "
    "under-confident. Solutions are those with a score: one that was merged into an equal one has none. Those of a search were "
    "kept for this very score, which alone makes it too high; independent samples say what the verifier is like." + _RULE,
    sql=f"""
SELECT grains.run, grain, grains.n, grains.c, grains.total, grains.squares, grains.right_total, moments.problems, moments.nn,
       moments.dd, moments.nd
FROM (SELECT attempt.run_id AS run, CAST(floor(solution.value * {GRAIN} + 0.5) AS INTEGER) AS grain, count(*) AS n,
             sum(CASE WHEN solution.correct THEN 1 ELSE 0 END) AS c, sum(solution.value) AS total,
             sum(solution.value * solution.value) AS squares,
             sum(CASE WHEN solution.correct THEN solution.value ELSE 0 END) AS right_total
      FROM solution JOIN attempt ON attempt.id = solution.attempt_id
      WHERE solution.attempt_id IN ({_SAMPLE})
            AND solution.value IS NOT NULL AND solution.correct IS NOT NULL
      GROUP BY 1, 2) AS grains
JOIN (SELECT attempt.run_id AS run, count(*) AS problems, sum(n * n) AS nn, sum(d * d) AS dd, sum(n * d) AS nd
      FROM (SELECT solution.attempt_id, count(*) AS n,
                   sum(solution.value - CASE WHEN solution.correct THEN 1 ELSE 0 END) AS d
            FROM solution
            WHERE solution.attempt_id IN ({_SAMPLE})
                  AND solution.value IS NOT NULL AND solution.correct IS NOT NULL
            GROUP BY solution.attempt_id) AS pools
      JOIN attempt ON attempt.id = pools.attempt_id
      GROUP BY attempt.run_id) AS moments ON moments.run = grains.run
ORDER BY grains.run, grain
""",
    columns={
        **RUN,
        "solutions": Col("with a score", "count"),
        "problems": Col("that they are of", "count"),
        "score": Col("mean", "share"),
        "right": Col("share of right solutions", "share"),
        "confidence": Col("score - right: above 0 over-confident, below 0 under-confident", "signed", "low", "high"),
        "low": Col("of the 95% interval (Student's t, clustered by problem)", "signed"),
        "high": Col("of the 95% interval (Student's t, clustered by problem)", "signed"),
        "ece": Col("expected calibration error in ten bins; lower is better, 0 is best", "share"),
        "brier": Col("mean of (score - right)^2; lower is better", "share"),
        "auc": Col("chance that a right solution scores higher than a wrong one, of any problem; .5 is chance", "share"),
    },
    make=_verifier,
    needs="scores of a verifier of its own",
    computed="sums by score to four digits, of which equal ones count half for the AUC; the interval is clustered by problem",
)

LENGTHS = 5


def _length(asked: Asked) -> list[Row]:
    rows = with_names(asked, asked.rows())
    for row in rows:
        of = _clusters(row, "c")
        row["right"] = of.share
        row["low"], row["high"] = stats.clustered(of)
        row["score"] = None if not row["scored"] else row["total"] / row["scored"]
        row["score_of_right"] = _ratio(row["right_total"], row["right_scored"])
        row["score_of_wrong"] = _ratio(row["wrong_total"], row["wrong_scored"])
        row["solutions"], row["bin"] = row["n"], row["bin"] + 1
    return rows


def _ratio(total: float | None, n: float | None) -> float | None:
    return None if not n or total is None else total / n


# the longest of each group but the last, and which group a solution is in
_LIMITS = (",\n" + " " * 19).join(f"max(CASE WHEN bin <= {i} THEN tokens END) AS longest_{i}" for i in range(LENGTHS - 1))
_UP_TO = ("\n" + " " * 18).join(f"WHEN solution.tokens <= limits.longest_{i} THEN {i}" for i in range(LENGTHS - 1))
_SCORED = "CASE WHEN solution.value IS NOT NULL AND {0} THEN 1 ELSE 0 END"
LENGTH = Question(
    name="length",
    title="Length bias",
    asks="Are long solutions right less often, and does the verifier know?",
    says="Whole solutions in five groups by length, each a fifth of the run's solutions. A verifier without length bias "
    "gives the right ones of each group the same score, and the wrong ones too." + _RULE,
    sql=f"""
SELECT attempt.run_id AS run, bin, min(shortest) AS shortest, max(longest) AS longest, count(*) AS problems, sum(n) AS n,
       sum(c) AS c, sum(n * n) AS nn, sum(c * c) AS cc, sum(n * c) AS nc, sum(scored) AS scored, sum(total) AS total,
       sum(right_scored) AS right_scored, sum(right_total) AS right_total, sum(wrong_scored) AS wrong_scored,
       sum(wrong_total) AS wrong_total
FROM (SELECT solution.attempt_id,
             CASE {_UP_TO} ELSE {LENGTHS - 1} END AS bin,
             min(solution.tokens) AS shortest, max(solution.tokens) AS longest,
             count(*) AS n, sum(CASE WHEN solution.correct THEN 1 ELSE 0 END) AS c, count(solution.value) AS scored,
             sum(solution.value) AS total, sum({_SCORED.format("solution.correct")}) AS right_scored,
             sum(CASE WHEN solution.correct THEN solution.value END) AS right_total,
             sum({_SCORED.format("NOT solution.correct")}) AS wrong_scored,
             sum(CASE WHEN NOT solution.correct THEN solution.value END) AS wrong_total
      FROM (SELECT run_id, {_LIMITS}
            FROM (SELECT run_id, tokens,
                         CAST(floor((sum(n) OVER (PARTITION BY run_id ORDER BY tokens) - (n + 1) / 2.0) * {LENGTHS}
                                    / sum(n) OVER (PARTITION BY run_id)) AS INTEGER) AS bin
                  FROM (SELECT attempt.run_id, solution.tokens, count(*) AS n
                        FROM solution JOIN attempt ON attempt.id = solution.attempt_id
                        WHERE solution.attempt_id IN ({_SAMPLE})
                              AND solution.finish = 'end'
                        GROUP BY attempt.run_id, solution.tokens) AS counted) AS lengths
            GROUP BY run_id) AS limits
      JOIN attempt AS owner ON owner.run_id = limits.run_id
      JOIN solution ON solution.attempt_id = owner.id
      WHERE solution.finish = 'end' AND owner.id IN ({_SAMPLE})
      GROUP BY 1, 2) AS pools
JOIN attempt ON attempt.id = pools.attempt_id
GROUP BY attempt.run_id, bin
ORDER BY 1, 2
""",
    columns={
        **RUN,
        "bin": Col("1 = the shortest fifth; equal lengths stay together", "count"),
        "shortest": Col("tokens", "count"),
        "longest": Col("tokens", "count"),
        "solutions": Col("in the group; those that were cut off are left out", "count"),
        "problems": Col("that they are of", "count"),
        "right": Col("share of right solutions", "share", "low", "high"),
        "low": Col("of the 95% interval (Wilson, clustered by problem)", "share"),
        "high": Col("of the 95% interval (Wilson, clustered by problem)", "share"),
        "score": Col("mean", "share"),
        "score_of_right": Col("mean score of the right ones", "share"),
        "score_of_wrong": Col("mean score of the wrong ones", "share"),
    },
    make=_length,
    needs="solutions that have ended",
    computed="means, and an interval in which a problem's solutions stay together",
)

__all__ = ["CALIBRATION", "LENGTH", "VERIFIER"]
