"""Runs written by hand, row by row, to ask questions about whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, insert, select, update

from search.ledger import Usage
from search.types import Part, Problem, RunSpec
from store import schema
from store.database import Database
from store.questions import QUESTIONS
from store.runs import Run, begin_run, close_run, get_run
from store.solved import derive


@dataclass
class Step:
    """A candidate."""

    path: str
    text: str = ""
    answer: str | None = None  # of one that has ended
    value: float | None = None
    state: str = ""  # finished where it has an answer, else live
    finish: str = ""  # end where it has an answer, else step
    tokens: int = 10
    certainty: float = 1.0
    cause: str = ""


@dataclass
class Tried:
    """An attempt: its candidates, and what was chosen of them."""

    steps: Sequence[Step]
    chosen: str | None  # path
    usage: dict[str, float] = field(default_factory=dict)
    status: str = "done"
    error: str | None = None
    verdict: str | None = ""  # "" = as the answer is, None = not graded


def problem(name: str, answer: str = "right") -> Problem:
    return Problem(name, f"what is {name}?", answer, "fake")


def spec(strategy: str = "best-of-n", seed: int = 0, problems: str = "fake", **params: object) -> RunSpec:
    return RunSpec(Part(problems), Part("fake"), Part("fake"), Part(strategy, params), seed=seed)


def write(db: Database, of: RunSpec, tried: dict[str, Tried], name: str = "", derived: bool = True) -> Run:
    """A run over these problems, whose right answer is "right"."""
    planned = begin_run(db, of, [problem(each) for each in tried], {}, name)
    for attempt in planned:
        with db.write() as connection:
            _write(connection, attempt.attempt_id, tried[attempt.problem.id])
    close_run(db, of.id)
    if derived:
        derive(db, of.id, lambda asked: [answer == of_.answer for of_, answer in asked])
    run = get_run(db, of.id)
    assert run is not None
    return run


def _write(connection: Any, attempt: int, tried: Tried) -> None:
    chosen = next((each for each in tried.steps if each.path == tried.chosen), None)
    for number, each in enumerate(tried.steps):
        connection.execute(insert(schema.candidate).values(_candidate(attempt, number, each)))
        if each.value is not None:
            score = {"value": each.value, "parts": f"[{each.value}]", "reason": "", "join_rule": "min", "number": number}
            row = {"attempt_id": attempt, "path": each.path, "verifier": "fake", "reply": 0, **score}
            connection.execute(insert(schema.score).values(row))
    usage = Usage(generated_tokens=sum(each.tokens for each in tried.steps), candidates=len(tried.steps)).asdict()
    right = chosen is not None and chosen.answer == "right"
    verdict = ("correct" if right else "none" if chosen is None else "wrong") if tried.verdict == "" else tried.verdict
    result = {
        "status": tried.status,
        "path": tried.chosen,
        "answer": None if chosen is None else chosen.answer,
        "correct": None if verdict is None else verdict == "correct",
        "verdict": verdict,
        "grader": None if verdict is None else "exact",
        "error": tried.error,
        "seconds": 1.0,
    }
    at = schema.attempt.c.id == attempt
    connection.execute(update(schema.attempt).where(at).values({**result, **usage, **tried.usage}))


def _candidate(attempt: int, number: int, each: Step) -> dict[str, Any]:
    ended = each.answer is not None
    return {
        "attempt_id": attempt,
        "path": each.path,
        "parent": each.path.rpartition(".")[0],
        "depth": each.path.count(".") + 1,
        "number": number,
        "tokens": each.tokens,
        "reply": 0,
        "packed": b"",
        "extra": b"\x00",
        "text": each.text or f"it is {each.answer}",
        "text_lossy": False,
        "text_truncated": False,
        "finish": each.finish or ("end" if ended else "step"),
        "state": each.state or ("finished" if ended else "live"),
        "cause": each.cause,
        "answer": each.answer,
        "answer_reason": "",
        "logprob": -float(each.tokens),
        "certainty": each.certainty,
    }


def samples(*answers: tuple[str | None, float | None], chosen: int, **usage: float) -> Tried:
    """Independent solutions of 10, 11, ... tokens, with their scores."""
    steps = [
        Step(str(i), answer=answer, value=value, tokens=10 + i, finish="length" if answer is None else "")
        for i, (answer, value) in enumerate(answers)
    ]
    return Tried(steps, str(chosen), usage)


def ask(db: Database, name: str, *runs: Run) -> list[dict[str, Any]]:
    return QUESTIONS[name].ask(db, runs)


def rescored(db: Database, run: Run, verifier: str, value: float) -> None:
    """As a verifier that came later would leave it: one score for all."""
    mine = select(schema.attempt.c.id).where(schema.attempt.c.run_id == run.id)
    with db.write() as connection:
        later = {"run_id": run.id, "kind": "verifier", "name": verifier, "weights": "", "created": "", "environment": "{}"}
        connection.execute(insert(schema.rescore).values(later))
        at = schema.candidate.c.attempt_id, schema.candidate.c.path
        for number, (attempt, path) in enumerate(connection.execute(select(*at).where(at[0].in_(mine))).all()):
            of = {"attempt_id": attempt, "path": path, "verifier": verifier, "value": value, "number": number}
            connection.execute(insert(schema.score).values({**of, "parts": "[]", "reason": "", "join_rule": "min"}))


def count(db: Database, table: Any) -> int:
    with db.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def scheduled(db: Database, slots: dict[str, Run]) -> None:
    """A schedule whose slots these runs were; the first raised an alarm."""
    made = {
        **dict.fromkeys(("anchor", "seeds", "catch_up", "overlap", "hook", "since", "created"), ""),
        "spec": "{}",
        "zone": "UTC",
    }
    row = {**made, "name": "nightly", "bar": 0.6, "bar_by": "point", "status": "active"}
    with db.write() as connection:
        connection.execute(schema.schedule.insert().values(row))
        for at, run in slots.items():
            alarm = "below" if at == min(slots) else None
            slot = {"schedule": "nightly", "slot_utc": at, "run_id": run.id, "alarm": alarm}
            connection.execute(schema.slot.insert().values({**slot, "status": "done", "reason": "", "noticed": at}))
