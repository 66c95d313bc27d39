"""Questions about right answers that a search had and did not choose: where they were lost, and by how much."""

from __future__ import annotations

from ..stats import wilson
from .costs import RUN, with_names
from .question import Asked, Col, Question, Row, own

# how a right solution was lost, by the state it ended in
HOW = {
    "pruned": "pruned",
    "merged": "merged",
    "cancelled": "cancelled",
    "failed": "cancelled",
    "finished": "outvoted",
    "live": "outvoted",
}


def _lost(asked: Asked) -> list[Row]:
    rows = with_names(asked, asked.rows())
    for row in rows:
        row["how"] = HOW[row["state"]]
        row["margin"] = _minus(row["score"], row["chosen_score"])
        row["kept_margin"] = _minus(row["score"], row["kept_score"]) if row["how"] != "outvoted" else None
    return rows


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


# of each attempt that chose wrong, the right solution that came furthest; PostgreSQL would have those without a score first
_FURTHEST = """
      SELECT solution.attempt_id, solution.path, solution.steps AS step, solution.state, solution.value AS score,
             solution.answer,
             row_number() OVER (PARTITION BY solution.attempt_id ORDER BY
                 CASE WHEN solution.state IN ('finished', 'live') THEN 0 ELSE 1 END, solution.steps DESC,
                 CASE WHEN solution.value IS NULL THEN 1 ELSE 0 END, solution.value DESC, solution.number) AS place
      FROM solution
      WHERE solution.correct AND solution.attempt_id IN (
          SELECT attempt.id FROM attempt
          WHERE attempt.run_id IN ({runs}) AND attempt.status IN ('done', 'failed') AND attempt.right_solutions > 0
                AND attempt.verdict IS NOT NULL AND (attempt.correct IS NULL OR NOT attempt.correct))"""

LOST = Question(
    name="lost",
    title="Where the right answer was lost",
    asks="Of the problems that a run got wrong although it had a right solution: where was that lost?",
    says="For each such problem the right solution that came furthest: the one that stayed to the end, else the deepest. "
    "Outvoted: it was there at the end and another was chosen. Pruned, merged, cancelled: the search dropped it at that step. "
    "A step is what the strategy generates at a time: a part of a solution in a search, in best-of-n the whole of it. Right is "
    "said of the final answer, whatever the steps before it say. Right solutions that were never finished are not known to "
    "have been right, and are not here.",
    sql=f"""
SELECT attempt.run_id AS run, problem.id AS problem, attempt.id AS attempt, attempt.right_solutions, lost.path, lost.step,
       lost.state, lost.score, lost.answer, attempt.path AS chosen, attempt.answer AS chosen_answer,
       winner.value AS chosen_score,
       candidate.cause,
       CASE WHEN lost.state NOT IN ('finished', 'live') THEN (
           SELECT min(kept.value) FROM candidate AS other JOIN score AS kept
               ON kept.attempt_id = other.attempt_id AND kept.path = other.path
           WHERE other.attempt_id = attempt.id AND other.depth = candidate.depth AND other.state NOT IN ('pruned', 'merged')
                 AND {own("kept", "attempt.run_id")}
       ) END AS kept_score
FROM ({_FURTHEST}) AS lost
JOIN attempt ON attempt.id = lost.attempt_id
JOIN problem ON problem.key = attempt.problem_key
JOIN candidate ON candidate.attempt_id = lost.attempt_id AND candidate.path = lost.path
LEFT JOIN solution AS winner ON winner.attempt_id = attempt.id AND winner.path = attempt.path
WHERE lost.place = 1
ORDER BY attempt.run_id, lost.step DESC, attempt.position
""",
    columns={
        **RUN,
        "problem": Col("its id"),
        "attempt": Col("id of the attempt", "id"),
        "how": Col("pruned, merged, cancelled, or outvoted"),
        "step": Col("at which it was lost, from 1; a solution written in one go is one step", "count"),
        "path": Col("of the lost solution"),
        "answer": Col("of the lost solution: right"),
        "score": Col("of the lost solution by the run's verifier, higher is better", "share"),
        "chosen": Col("path of what was chosen"),
        "chosen_answer": Col("of what was chosen: wrong"),
        "chosen_score": Col("of what was chosen", "share"),
        "margin": Col("score of the lost minus that of the chosen: below 0 the verifier preferred the wrong one", "signed"),
        "kept_margin": Col("score of the lost minus the lowest that was kept at that depth", "signed"),
        "right_solutions": Col("right ones of this problem, all lost", "count"),
        "cause": Col("of its state, as the search gave it"),
    },
    make=_lost,
    computed="how, from the state; the two differences, of scores that are not rounded",
)


def _losses(asked: Asked) -> list[Row]:
    out = []
    for run, rows in asked.by_run().items():
        closed = rows[0]["problems"] if rows else 0
        states = {row["state"]: row for row in rows}
        for how in ("pruned", "merged", "cancelled", "outvoted"):
            if closed:
                mine = [states[state] for state, named in HOW.items() if named == how and state in states]
                out.append({"run": run, "how": how, "problems": closed, **_summed(mine, closed)})
    return with_names(asked, out)


def _summed(rows: list[Row], closed: int) -> Row:
    lost, steps, margins, both, preferred = (
        sum(row[name] or 0 for row in rows) for name in ("lost", "steps", "margins", "scored", "preferred")
    )
    low, high = wilson(lost, closed)
    return {
        "lost": lost,
        "share": lost / closed,
        "low": low,
        "high": high,
        "step": steps / lost if lost else None,
        "margin": margins / both if both else None,
        "preferred": preferred if both else None,
        "scored": both,
    }


LOSSES = Question(
    name="losses",
    title="How right answers were lost",
    asks="How often was a right answer pruned, merged, cancelled or outvoted?",
    says="The answers of `lost`, counted: there was a right solution. Attempts that never had one, and left the way to it, are "
    "in `astray`. Where the verifier preferred the wrong one, only a better verifier helps.",
    sql=f"""
SELECT runs.run, runs.problems, lost.state, lost.lost, lost.steps, lost.margins, lost.preferred, lost.scored
FROM (SELECT attempt.run_id AS run, count(*) AS problems
      FROM attempt
      WHERE attempt.run_id IN ({{runs}}) AND attempt.status IN ('done', 'failed')
            AND attempt.verdict IS NOT NULL AND attempt.solutions IS NOT NULL
      GROUP BY attempt.run_id) AS runs
LEFT JOIN (
    SELECT attempt.run_id AS run, lost.state, count(*) AS lost, sum(lost.step) AS steps,
           sum(lost.score - winner.value) AS margins,
           sum(CASE WHEN lost.score < winner.value THEN 1 ELSE 0 END) AS preferred, count(lost.score - winner.value) AS scored
    FROM ({_FURTHEST}) AS lost
    JOIN attempt ON attempt.id = lost.attempt_id
    LEFT JOIN solution AS winner ON winner.attempt_id = attempt.id AND winner.path = attempt.path
    WHERE lost.place = 1
    GROUP BY attempt.run_id, lost.state) AS lost ON lost.run = runs.run
ORDER BY runs.run, lost.state
""",
    columns={
        **RUN,
        "how": Col("pruned, merged, cancelled, or outvoted"),
        "problems": Col("finished ones whose solutions are judged", "count"),
        "lost": Col("problems whose right answer was lost so", "count"),
        "share": Col("of the finished problems; lower is better", "share", "low", "high"),
        "low": Col("of the 95% interval (Wilson)", "share"),
        "high": Col("of the 95% interval (Wilson)", "share"),
        "step": Col("mean step at which they were lost, from 1; a solution written in one go is one step", "number"),
        "margin": Col("mean score of the lost minus that of the chosen", "signed"),
        "scored": Col("of the lost: both have a score", "count"),
        "preferred": Col("of those: the verifier gave the wrong one more", "count"),
    },
    make=_losses,
    needs="finished problems that were graded",
    computed="a row a way, means, and the Wilson interval of each share",
)

__all__ = ["HOW", "LOSSES", "LOST"]
