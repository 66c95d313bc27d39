"""Views with plain names, for people who bring their own tools. They hold nothing, so a newer version may make them anew.

`store/README.md` has their columns, which a test compares with these.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

# a value of a run's spec, as text
_SPEC = {"sqlite": "json_extract(run.spec, '$.{0}')", "postgresql": "(run.spec::json #>> '{{{1}}}')"}

VIEWS = {
    "runs": """
SELECT run.id AS run, {label} AS name, {strategy} AS strategy, {set} AS problem_set, {generator} AS generator,
       {verifier} AS verifier, {seed} AS seed, run.status, run.created, run.ended, run.spec,
       count(attempt.id) AS problems,
       sum(CASE WHEN attempt.status IN ('done', 'failed') THEN 1 ELSE 0 END) AS closed,
       sum(CASE WHEN attempt.status = 'failed' THEN 1 ELSE 0 END) AS failed,
       sum(CASE WHEN attempt.correct THEN 1 ELSE 0 END) AS correct,
       avg(attempt.generated_tokens) AS tokens, avg(attempt.sequential_tokens) AS sequential_tokens,
       avg(attempt.verifier_passes) AS verifier_passes, avg(attempt.candidates) AS candidates
FROM run LEFT JOIN attempt ON attempt.run_id = run.id
GROUP BY run.id, run.name, run.spec, run.status, run.created, run.ended""",
    "results": """
SELECT attempt.run_id AS run, {label} AS name, {strategy} AS strategy, problem.id AS problem, problem.source, problem.prompt,
       problem.answer AS reference, attempt.id AS attempt, attempt.position, attempt.seed, attempt.status, attempt.answer,
       attempt.verdict, attempt.correct, attempt.path, attempt.reason, attempt.error, attempt.tries,
       attempt.generated_tokens AS tokens, attempt.sequential_tokens, attempt.pruned_tokens, attempt.cancelled_tokens,
       attempt.candidates, attempt.solutions, attempt.right_solutions, attempt.verifier_passes, attempt.flops,
       attempt.generate_seconds, attempt.verify_seconds, attempt.seconds
FROM attempt JOIN run ON run.id = attempt.run_id JOIN problem ON problem.key = attempt.problem_key""",
    "solutions": """
SELECT attempt.run_id AS run, {label} AS name, {strategy} AS strategy, problem.id AS problem, attempt.position,
       solution.attempt_id AS attempt, solution.path, solution.number, solution.steps, solution.tokens, solution.finish,
       solution.state, solution.chosen, solution.answer, solution.correct, solution.value AS score, solution.logprob,
       solution.certainty, solution.digest
FROM solution JOIN attempt ON attempt.id = solution.attempt_id JOIN run ON run.id = attempt.run_id
JOIN problem ON problem.key = attempt.problem_key""",
    "steps": """
SELECT attempt.run_id AS run, {label} AS name, {strategy} AS strategy, problem.id AS problem, attempt.position,
       candidate.attempt_id AS attempt, candidate.path, candidate.parent, candidate.depth, candidate.number, candidate.tokens,
       candidate.text, candidate.finish, candidate.state, candidate.cause, candidate.answer, candidate.logprob,
       candidate.certainty
FROM candidate JOIN attempt ON attempt.id = candidate.attempt_id JOIN run ON run.id = attempt.run_id
JOIN problem ON problem.key = attempt.problem_key""",
    "scores": """
SELECT attempt.run_id AS run, problem.id AS problem, score.attempt_id AS attempt, score.path, score.verifier,
       score.value AS score, score.reason, score.join_rule, score.number
FROM score JOIN attempt ON attempt.id = score.attempt_id JOIN problem ON problem.key = attempt.problem_key""",
}


def definitions(dialect: str) -> dict[str, str]:
    """The SELECT of each view, by name, for a database of this kind."""

    def spec(*keys: str) -> str:
        return _SPEC[dialect].format(".".join(keys), ",".join(keys))

    words = {
        "strategy": spec("strategy", "name"),
        "set": spec("problems", "name"),
        "generator": spec("generator", "name"),
        "verifier": spec("verifier", "name"),
        "seed": f"CAST({spec('seed')} AS BIGINT)",
        "label": f"CASE WHEN run.name = '' THEN {spec('strategy', 'name')} ELSE run.name END",
    }
    return {name: select.strip().format(**words) for name, select in VIEWS.items()}


def create(connection: Connection) -> None:
    """Makes the views anew."""
    for name in reversed(VIEWS):
        connection.execute(text(f"DROP VIEW IF EXISTS {name}"))
    for name, select in definitions(connection.dialect.name).items():
        # what looks like a parameter (PostgreSQL's ::) is none
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {select}")


__all__ = ["VIEWS", "create", "definitions"]
