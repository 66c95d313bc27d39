"""What the tests of exports write: small runs of the bundled models, and trees made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import select

from flows import export, work
from flows.export import Exported, Options
from flows.parts import spec
from search.types import Answer, Finish, Join, Part, Problem, RunSpec, Score, State, order
from store import imported, schema
from store.database import Database, open_database

PROBLEMS = "word:split=train,count=5,levels=4-8,seed=3"
HOSTILE = "a\x00b\ud800c\x1b[31m\r\n\t\u2028d\u0301 \\boxed{7}"


def searched(file: Path) -> Path:
    """A database with two runs of the bundled models over the same problems: best-of-n, and a beam that prunes."""
    with open_database(file) as db:
        work.evaluate(db, spec(PROBLEMS, "best-of-n:n=3,select=weighted"), "flat")
        work.evaluate(db, spec(PROBLEMS, "beam:n=4,keep=2"), "tree")
    return file


def written(
    db: Database,
    trees: Sequence[Mapping[str, str]],
    name: str = "made",
    scores: Mapping[str, float] | None = None,
    set_: Part | None = None,
    answer: str = "7",
    left: Sequence[str] = (),
    ends: Mapping[str, Finish] | None = None,
    prompts: Mapping[str, str] | None = None,
) -> str:
    """Stores trees, path -> text, as a run, a problem each; its id. A text with a box is a whole solution with that answer;
    `left`: steps that were pruned; `ends`: why solutions ended, where it is not by themselves; `prompts`: of the strategy's
    own, by path."""
    how = spec(PROBLEMS, "best-of-n:n=3")
    found = RunSpec(
        problems=set_ or Part("made", {"name": name}), generator=how.generator, verifier=how.verifier, strategy=how.strategy
    )
    imported.begin(db, found, {"commit": "0123456789+"}, name)
    attempts = [_attempt(i, tree, scores or {}, answer, left, ends or {}) for i, tree in enumerate(trees)]
    imported.write(db, found.id, attempts)
    with db.write() as connection:
        for path, prompt in (prompts or {}).items():
            connection.execute(schema.candidate.update().where(schema.candidate.c.path == path).values(prompt=prompt))
    imported.end(db, found.id)
    return found.id


def _attempt(
    i: int,
    tree: Mapping[str, str],
    scores: Mapping[str, float],
    answer: str,
    left: Sequence[str],
    ends: Mapping[str, Finish],
) -> imported.ImportedAttempt:
    candidates = []
    for path in sorted(tree, key=order):
        _, box, rest = tree[path].rpartition("\\boxed{")
        said = rest.partition("}")[0] if box else None
        finish = ends.get(path, Finish.END) if box else Finish.STEP
        state = State.PRUNED if path in left else State.FINISHED if finish is Finish.END else State.LIVE
        score = [(Score(path, "prm", scores[path], (scores[path],)), Join.MIN)] if path in scores else []
        key = Answer(said if finish is Finish.END else None, "" if said else "no answer")
        candidates.append(imported.ImportedCandidate(path, tree[path], finish, state, "", key, scores=tuple(score)))
    chosen = next((each.path for each in candidates if each.finish is Finish.END), None)
    problem = Problem(f"p{i}", f"What is {i}?", answer, "made", {"style": "generic"})
    return imported.ImportedAttempt(problem, i, candidates, chosen)


def derived(db: Database, run_id: str, correct: Mapping[tuple[int, str], bool | None]) -> None:
    """Rows of `solution` for a run's whole solutions, with these verdicts by position and path; others are wrong."""
    attempt, candidate = schema.attempt.c, schema.candidate.c
    asked = select(attempt.position, candidate.attempt_id, candidate.path, candidate.number, candidate.answer).join_from(
        schema.candidate, schema.attempt
    )
    same = {"steps": 1, "tokens": 0, "finish": "end", "state": "finished", "chosen": False, "digest": 0}
    with db.write() as connection:
        mine = select(attempt.id).where(attempt.run_id == run_id)
        connection.execute(schema.solution.delete().where(schema.solution.c.attempt_id.in_(mine)))
        connection.execute(schema.attempt.update().where(attempt.run_id == run_id).values(solutions=1, right_solutions=0))
        rows = connection.execute(asked.where(attempt.run_id == run_id, candidate.finish != "step")).all()
        for row in rows:
            values = {
                "correct": correct.get((row.position, row.path), False),
                **{name: getattr(row, name) for name in ("attempt_id", "path", "number", "answer")},
            }
            connection.execute(schema.solution.insert().values({**same, **values}))


def graded(db: Database, run_id: str, verdict: str = "correct") -> None:
    """Gives the run's first choice a verdict."""
    attempt = schema.attempt.c
    first = schema.attempt.update().where(attempt.run_id == run_id, attempt.position == 0)
    with db.write() as connection:
        connection.execute(first.values(correct=verdict == "correct", verdict=verdict))


def exported(
    db: Database, wanted: str | Sequence[str], format: str, to: Path, force: bool = False, **options: object
) -> Exported:
    runs = [wanted] if isinstance(wanted, str) else wanted
    return export.run(db, runs, format, str(to), Options(**options), force)  # type: ignore[arg-type]
