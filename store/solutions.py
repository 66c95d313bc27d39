"""What there is to select from: each problem's whole solutions, with what their search has cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import and_, func, select

from search.select import SELECTORS, Entry
from search.types import GOES_ON, Problem, State

from . import schema
from .database import Database
from .pools import Signal, pools
from .runs import Run, planned, problem_key

_A, _C, _S = schema.attempt.c, schema.candidate.c, schema.score.c
INDEPENDENT = ("best-of-n", "greedy", "imported")  # strategies whose candidates were drawn without regard to each other
LEDGER = ("generated_tokens", "verifier_passes", "flops")
SECONDS = ("generate_seconds", "verify_seconds", "embed_seconds")  # the models' time, as a budget of seconds has it


@dataclass(frozen=True, slots=True)
class Pools:
    """What a run's pools are like."""

    strategy: str
    sizes: tuple[int, ...]  # whole solutions of each finished problem, as `pools` gives them, in the problems' order
    pending: int  # problems that are not finished, and left out
    flat: bool  # all were generated in one go, side by side
    scored: bool  # some have a verifier's value
    measured: bool  # some have statistics of their tokens (what was written elsewhere may not)

    @property
    def smallest(self) -> int:
        """The smallest pool that is not empty: the largest subset that every problem has. A problem without solutions has
        nothing to choose from at any size."""
        return min((size for size in self.sizes if size), default=0)

    @property
    def independent(self) -> bool:
        """Whether a subset of k is what the strategy would have drawn with k."""
        return self.strategy in INDEPENDENT and self.flat


@dataclass(frozen=True, slots=True, eq=False)
class Solutions:
    """One finished problem: its pool, what was chosen of it, and what its search has cost (None = not known)."""

    problem: Problem
    key: str  # the same in every run
    entries: list[Entry]  # in order of path
    correct: bool  # what the run chose
    tokens: float | None  # generated: pruned and cancelled ones too
    passes: float | None
    flops: float | None
    seconds: float | None


def pools_of(db: Database, run: Run) -> Pools:
    """Counts only: no solution is read."""
    mine = and_(_A.run_id == run.id, _A.status.in_(schema.CLOSED))
    own = select(_A.id).where(mine)
    whole = _C.finish.not_in(GOES_ON), _C.state != State.ASIDE
    ended = select(_C.attempt_id, func.count()).where(_C.attempt_id.in_(own), *whole)
    above = schema.candidate.alias()  # a thought that went on after its end is no solution
    on = and_(above.c.attempt_id == _C.attempt_id, above.c.path == _C.parent, above.c.finish.not_in(GOES_ON))
    on = and_(on, above.c.state != State.ASIDE)
    went_on = select(_C.attempt_id, func.count(above.c.path.distinct())).join_from(schema.candidate, above, on)
    went_on = went_on.where(_C.attempt_id.in_(own), _C.depth > 1)
    with db.read() as connection:
        attempts = connection.scalars(own.order_by(_A.position, _A.id)).all()
        wholes: Counter[int] = Counter(dict(connection.execute(ended.group_by(_C.attempt_id)).all()))
        wholes.subtract(dict(connection.execute(went_on.group_by(_C.attempt_id)).all()))
        total = connection.scalar(select(func.count()).where(_A.run_id == run.id)) or 0
        deep = connection.scalar(select(_C.path).where(_C.attempt_id.in_(own), _C.depth > 1).limit(1))
        value = connection.scalar(select(_S.path).where(_S.attempt_id.in_(own), _S.value.is_not(None)).limit(1))
        sure = connection.scalar(select(_C.path).where(_C.attempt_id.in_(own), _C.certainty.is_not(None)).limit(1))
    return Pools(
        run.spec.strategy.name,
        tuple(wholes[attempt] for attempt in attempts),
        total - len(attempts),
        flat=deep is None,
        scored=value is not None,
        measured=sure is not None,
    )


def allowed(scored: bool, measured: bool) -> list[str]:
    """The selectors that the stored data allow: `scored` and `measured` are those of Pools."""
    of_tokens = ("self-certainty", "borda", "logprob", "deepconf")
    names = [name for name, rule in SELECTORS.items() if scored or not rule.needs_verifier]
    return [name for name in names if measured or name not in of_tokens]


def solutions(
    db: Database, run: Run, verifier: str | None = None, confidences: bool = False, signal: Signal | None = None
) -> Iterator[Solutions]:
    """The finished problems in their order, as `pools` reads them. Memory does not grow with the run, but for its problems."""
    problems = {attempt.attempt_id: attempt.problem for attempt in planned(db, run.id)}
    asked = select(_A.id, _A.correct, *(_A[name] for name in (*LEDGER, *SECONDS))).where(_A.run_id == run.id)
    with db.read() as connection:
        ledgers = {row.id: row for row in connection.execute(asked)}
    for attempt, entries in pools(db, run.id, verifier, confidences, signal):
        row = ledgers[attempt]
        tokens, passes, flops = [None if (v := row._mapping[name]) is None else float(v) for name in LEDGER]
        parts = [row._mapping[name] for name in SECONDS]
        seconds = None if None in parts else float(sum(parts))
        costs = (tokens, passes, flops, seconds)
        yield Solutions(problems[attempt], problem_key(problems[attempt]), entries, bool(row.correct), *costs)


__all__ = ["INDEPENDENT", "Pools", "Solutions", "allowed", "pools_of", "solutions"]
