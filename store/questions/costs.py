"""Questions about what was spent: accuracy against cost, seconds by phase, tokens by fate, slow and failed problems."""

from __future__ import annotations

from search.types import GIVEN_UP

from ..runs import named
from ..stats import wilson
from .question import Asked, Col, Question, Row

RUN = {
    "run": Col("id of the run"),
    "name": Col("its name, or its strategy with parameters"),
}
SLOWEST = 20


def with_names(asked: Asked, rows: list[Row]) -> list[Row]:
    """The rows with the names of their runs, in the order in which the runs were named."""
    names, places = {run.id: named(run) for run in asked.runs}, {run.id: i for i, run in enumerate(asked.runs)}
    return sorted(({**row, "name": names[row["run"]]} for row in rows), key=lambda row: places[row["run"]])


def _accuracy(asked: Asked) -> list[Row]:
    rows = with_names(asked, asked.rows())
    sets = {run.id: str(run.spec.problems) for run in asked.runs}
    for row in rows:
        row["problem_set"] = sets[row["run"]]
        if row["closed"] and row["graded"]:
            row["accuracy"] = row["correct"] / row["closed"]
            row["low"], row["high"] = wilson(row["correct"], row["closed"])
    for row in rows:
        row["front"] = None if row.get("accuracy") is None or row["tokens"] is None else int(_on_front(row, rows))
    return rows


def _on_front(row: Row, rows: list[Row]) -> bool:
    """Whether no other run over the same problems is at least as good for no more tokens, and better in one of the two."""
    for other in rows:
        if other["problem_set"] != row["problem_set"] or other.get("accuracy") is None or other["tokens"] is None:
            continue
        better = (other["accuracy"] > row["accuracy"], other["tokens"] < row["tokens"])
        if other["accuracy"] >= row["accuracy"] and other["tokens"] <= row["tokens"] and any(better):
            return False
    return True


ACCURACY = Question(
    name="accuracy",
    title="Accuracy against cost",
    asks="What did each run get right, and for how much?",
    says="Means are a problem's. On the front: no other run over the same problems is better in accuracy or generated tokens "
    "and as good in the other.",
    sql="""
SELECT attempt.run_id AS run, count(*) AS problems,
       sum(CASE WHEN attempt.status IN ('done', 'failed') THEN 1 ELSE 0 END) AS closed,
       sum(CASE WHEN attempt.status = 'failed' THEN 1 ELSE 0 END) AS failed,
       sum(CASE WHEN attempt.verdict IS NOT NULL THEN 1 ELSE 0 END) AS graded,
       sum(CASE WHEN attempt.correct THEN 1 ELSE 0 END) AS correct,
       avg(attempt.generated_tokens) AS tokens, avg(attempt.sequential_tokens) AS sequential,
       avg(attempt.verifier_passes) AS passes, avg(attempt.candidates) AS candidates, avg(attempt.flops) AS flops,
       sum(attempt.generate_seconds + attempt.verify_seconds + attempt.embed_seconds + attempt.store_seconds) AS seconds
FROM attempt
WHERE attempt.run_id IN ({runs})
GROUP BY attempt.run_id
""",
    columns={
        **RUN,
        "problem_set": Col("what it was asked; accuracies compare within one set only"),
        "problems": Col("problems in the run", "count"),
        "closed": Col("finished ones: the denominator", "count"),
        "failed": Col("finished ones that ended in an error; they count as wrong", "count"),
        "correct": Col("finished ones with a right answer", "count"),
        "accuracy": Col("correct / closed; higher is better", "share", "low", "high"),
        "low": Col("of the 95% interval (Wilson)", "share"),
        "high": Col("of the 95% interval (Wilson)", "share"),
        "tokens": Col("generated tokens a problem, pruned and cancelled ones too", "number"),
        "sequential": Col("longest chain of tokens that had to wait for each other, a problem", "number"),
        "passes": Col("passes of the verifier a problem", "number"),
        "candidates": Col("steps, solutions and what was asked aside, a problem", "number"),
        "flops": Col("2 x parameters x tokens of all models, a problem", "number"),
        "seconds": Col("of the whole run: generating, verifying, embedding, storing", "seconds"),
        "front": Col("1 = on the Pareto front of accuracy against generated tokens", "count"),
    },
    make=_accuracy,
    computed="accuracy = correct / closed, its Wilson interval, and which runs are on the front",
)

_PHASES = ("queue", "generate", "verify", "embed", "store")


def _phases(asked: Asked) -> list[Row]:
    out = []
    for row in with_names(asked, asked.rows()):
        total = sum(row[phase] or 0.0 for phase in _PHASES if phase != "queue")
        for phase in _PHASES:
            seconds = row[phase]
            share = None if phase == "queue" or not total or seconds is None else seconds / total
            out.append({**row, "phase": phase, "seconds": seconds, "share": share})
    return out


COST = Question(
    name="cost",
    title="Cost by phase",
    asks="Where did the seconds go?",
    says="Seconds of the whole run. A batch's time is shared out among its rows, so the phases add up to the models' "
    "time, with what another run took for solutions that it shared; waiting in the queue is beside them, since searches wait "
    "side by side. The first run of a process also has what comes once, such as models that warm up; the rows cannot tell it "
    "apart.",
    sql="""
SELECT attempt.run_id AS run, count(*) AS problems, sum(attempt.queue_seconds) AS queue,
       sum(attempt.generate_seconds) AS generate, sum(attempt.verify_seconds) AS verify, sum(attempt.embed_seconds) AS embed,
       sum(attempt.store_seconds) AS store
FROM attempt
WHERE attempt.run_id IN ({runs}) AND attempt.status IN ('done', 'failed')
GROUP BY attempt.run_id
""",
    columns={
        **RUN,
        "phase": Col("queue (waiting), generate, verify, embed, store"),
        "seconds": Col("sum over the run's problems", "seconds"),
        "share": Col("of what the models and the store took; waiting is not counted", "share"),
        "problems": Col("finished ones", "count"),
    },
    make=_phases,
    needs="finished problems",
    computed="a row a phase, and each one's share",
)

_CUT = ", ".join(f"'{finish}'" for finish in sorted(GIVEN_UP))  # among the cancelled already
_FATES = ("chosen", "others", "pruned", "cancelled", "aside")


def _fates(asked: Asked) -> list[Row]:
    out = []
    for row in with_names(asked, asked.rows()):
        total, told = row["total"] or 0, (row["chosen"], row["pruned"], row["cancelled"], row["aside"])
        row["others"] = None if None in told else total - sum(told)  # candidates written elsewhere have no ledger
        for fate in _FATES:
            share = row[fate] / total if total and row[fate] is not None else None
            out.append({**row, "fate": fate, "tokens": row[fate], "share": share})
    return out


TOKENS = Question(
    name="tokens",
    title="Tokens by fate",
    asks="What became of the generated tokens?",
    says="Chosen: all steps of what was chosen. Others: solutions that were not, and steps that led nowhere. Aside: what a "
    "strategy asked on the way, such as plans and comparisons.",
    sql=f"""
SELECT attempt.run_id AS run, count(*) AS problems, sum(attempt.generated_tokens) AS total,
       CASE WHEN count(attempt.path) + count(attempt.verdict) > 0 THEN coalesce(sum(solution.tokens), 0) END AS chosen,
       sum(attempt.pruned_tokens) AS pruned, sum(attempt.cancelled_tokens) AS cancelled,
       coalesce(max(asked.tokens), 0) AS aside
FROM attempt LEFT JOIN solution ON solution.attempt_id = attempt.id AND solution.path = attempt.path
LEFT JOIN (SELECT attempt.run_id AS run, sum(candidate.tokens) AS tokens
           FROM candidate JOIN attempt ON attempt.id = candidate.attempt_id
           WHERE attempt.run_id IN ({{runs}}) AND candidate.state = 'aside' AND candidate.finish NOT IN ({_CUT})
           GROUP BY attempt.run_id) AS asked ON asked.run = attempt.run_id
WHERE attempt.run_id IN ({{runs}}) AND attempt.generated_tokens IS NOT NULL
GROUP BY attempt.run_id
""",
    columns={
        **RUN,
        "fate": Col("chosen (all its steps), pruned (or merged), cancelled (by a stop rule), aside, others"),
        "tokens": Col("sum over the run's problems", "count"),
        "share": Col("of all generated tokens", "share"),
        "problems": Col("finished ones whose tokens were counted", "count"),
    },
    make=_fates,
    needs="finished problems whose generated tokens were counted",
    computed="a row a fate, others as what is left, and each one's share",
)


SLOW = Question(
    name="slow",
    title="Slow problems",
    asks=f"Which {SLOWEST} problems of each run took the longest?",
    says="Seconds are of the models, for this problem alone; its search waited beside others for longer than that.",
    sql=f"""
SELECT run, problem, attempt, models AS seconds, tokens, candidates, tries, verdict
FROM (SELECT attempt.run_id AS run, problem.id AS problem, attempt.id AS attempt,
             attempt.generate_seconds + attempt.verify_seconds + attempt.embed_seconds AS models,
             attempt.generated_tokens AS tokens, attempt.candidates, attempt.tries, attempt.verdict,
             row_number() OVER (PARTITION BY attempt.run_id ORDER BY
                 attempt.generate_seconds + attempt.verify_seconds + attempt.embed_seconds DESC, attempt.position) AS place
      FROM attempt JOIN problem ON problem.key = attempt.problem_key
      WHERE attempt.run_id IN ({{runs}}) AND attempt.generate_seconds IS NOT NULL) AS ranked
WHERE place <= {SLOWEST}
ORDER BY run, place
""",
    columns={
        **RUN,
        "problem": Col("its id"),
        "attempt": Col("id of the attempt", "id"),
        "seconds": Col("generating, verifying, embedding", "seconds"),
        "tokens": Col("generated", "count"),
        "candidates": Col("steps and solutions", "count"),
        "tries": Col("that ended in an error before", "count"),
        "verdict": Col("of what was chosen"),
    },
    make=lambda asked: with_names(asked, asked.rows()),
    needs="finished problems whose seconds were measured",
    computed="nothing but the runs' names",
)

FAILED = Question(
    name="failed",
    title="Failed problems",
    asks="Which problems failed, or could not be graded, and why?",
    says="A failed problem counts as wrong; one that came to its end after failed tries is here too. A verdict of error or "
    "timeout is the grader's, not the model's.",
    sql="""
SELECT attempt.run_id AS run, problem.id AS problem, attempt.id AS attempt, attempt.status, attempt.tries, attempt.verdict,
       attempt.error
FROM attempt JOIN problem ON problem.key = attempt.problem_key
WHERE attempt.run_id IN ({runs}) AND (attempt.status = 'failed' OR attempt.tries > 0 OR attempt.verdict IN ('error', 'timeout'))
ORDER BY attempt.run_id, attempt.position
""",
    columns={
        **RUN,
        "problem": Col("its id"),
        "attempt": Col("id of the attempt", "id"),
        "status": Col("pending, running, done, failed"),
        "tries": Col("that ended in an error", "count"),
        "verdict": Col("of what was chosen"),
        "error": Col("of the last try that failed"),
    },
    make=lambda asked: with_names(asked, asked.rows()),
    computed="nothing but the runs' names",
)

__all__ = ["ACCURACY", "COST", "FAILED", "RUN", "SLOW", "TOKENS", "with_names"]
