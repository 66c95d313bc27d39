"""One pool of samples for many runs: rows of a request that another run's rows answer are read, and not generated again.

A continuation is a function of the generator's weights, the sampling, its seed, the prompt and its token limit, and its seed is
one of the run's seed, the problem and the path. So best-of-n with n = 4, or with another selector, verifier or budget, asks for
what a run with n = 16 has stored. That a stored row is the answer is not guessed: the request that would have made it is built,
and its digest must be the one in the journal. Only first continuations are shared, those of the prompt itself.

What a row has cost is charged as if it had been generated, at the rates of the reply it was stored with; `shared_tokens` and
`shared_seconds` say how much of that nobody spent again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from search.packing import unpack_all
from search.rules import NO_RULES
from search.types import (
    ROOT,
    Extend,
    Extension,
    Finish,
    Packed,
    Path,
    Row,
    RunSpec,
    Step,
    TextGenerator,
    Until,
    child_of,
    depth_of,
    seed_of,
)

from . import schema
from .database import Database
from .runs import Run, list_runs
from .values import exact_text

_A, _C, _R = schema.attempt.c, schema.candidate.c, schema.reply.c

WHOLE = (Finish.END, Finish.STEP, Finish.LENGTH)  # steps that nothing outside of them has cut
# what a text depends on beside the run's spec, as far as it is known: others may round otherwise, and draw other tokens
ENVIRONMENT = ("torch", "machine", "processor", "device", "dtype", "path", "threads")


def generation_key(spec: RunSpec) -> tuple[str, str] | None:
    """What two runs must have in common to share samples, beside what a request says: the generator and its weights. None where
    the weights are not known (a hub's model, a server's): then nothing is shared."""
    weights = spec.weights.split(" ")[0]
    return (json.dumps([spec.generator.name, dict(spec.generator.params)], sort_keys=True), weights) if weights else None


def sources(db: Database, spec: RunSpec, environment: Mapping[str, Any], known: bool = True) -> list[Run]:
    """The runs whose rows may answer this one's, itself left out. `known`: whether the generator has a fingerprint."""
    key = generation_key(spec) if known else None
    if key is None:
        return []
    here = [environment.get(name) for name in ENVIRONMENT]
    return [
        run
        for run in list_runs(db)
        if run.id != spec.id
        and run.spec.seed == spec.seed
        and generation_key(run.spec) == key
        and run.spec.budget.flops is None
        and run.spec.budget.seconds is None
        and [run.environment.get(name) for name in ENVIRONMENT] == here
    ]


class _Cost(NamedTuple):
    """What the reply that stored rows come from had cost, and of how many rows and tokens it was."""

    rows: int
    tokens: int
    fields: Mapping[str, float]

    def of(self, name: str) -> float:
        return float(self.fields.get(name, 0))


class _Source(NamedTuple):
    """Stored rows that answer a request's."""

    steps: Mapping[Path, Step]
    cost: _Cost


@dataclass
class _Chain:
    """What another run's search of the same problem was answered, and which of it answered requests of one kind."""

    run_id: str
    replies: list[Any]
    alike: list[_Stored] | None = None  # not looked at yet


@dataclass
class _Stored:
    """A stored reply, whose rows are read when they are first asked for."""

    reply: Any
    _rows: list[tuple[Any, Step]] | None = None

    def source(self, connection: Connection, request: Extend, spec: RunSpec, wanted: Mapping[Path, Row]) -> _Source:
        """Its rows that are wanted, and would have come out so with the request's limit too."""
        limit = _limit(request.until, spec)

        def same(row: Any) -> bool:
            asked = wanted[row.path].limit
            return Finish(row.finish) in WHOLE and (asked == limit or (row.finish != Finish.LENGTH and row.tokens < asked))

        rows = self._read(connection)
        cost = _Cost(len(rows), sum(row.tokens for row, _ in rows), json.loads(self.reply.cost))
        return _Source({row.path: step for row, step in rows if row.path in wanted and same(row)}, cost)

    def _read(self, connection: Connection) -> list[tuple[Any, Step]]:
        if self._rows is None:
            names = _C.path, _C.tokens, _C.packed, _C.extra, _C.text, _C.text_zlib, _C.finish
            mine = select(*names).where(_C.attempt_id == self.reply.attempt, _C.reply == self.reply.number)
            rows = connection.execute(mine).all()
            texts = [exact_text(row.text, row.text_zlib) for row in rows]
            steps = unpack_all([Packed(row.packed, row.extra) for row in rows], texts, [Finish(row.finish) for row in rows])
            self._rows = list(zip(rows, steps, strict=True))
        return self._rows


@dataclass
class Shared:
    """A generator that asks the store first. Requests that it cannot answer, or the rows of one that it lacks, go to `engine`.
    A search's key must be its attempt's id."""

    engine: TextGenerator
    database: Database
    runs: Sequence[Run]
    tokens: int = 0  # read and not generated, so far
    _ready: list[tuple[int, Extension]] = field(default_factory=list)
    _begun: dict[int, tuple[Extend, _Source]] = field(default_factory=dict)
    _hopeless: set[tuple[str, object]] = field(default_factory=set)  # runs, and requests of a kind that they have no rows for
    _known: dict[int, dict[object, list[_Chain]]] = field(default_factory=dict)  # by search, and the kind of a request of it

    def submit(self, search: int, request: Extend) -> None:
        """As the engine's. Raises ValueError where what is left for the engine can never be met."""
        found = self._found(search, request) if self.runs and _may_be_stored(request) else None
        rest = tuple(row for row in request.rows if found is None or row.path not in found.steps)
        if found is None or (rest and _tight(request)) or (not rest and not _fits(request, found)):
            self.engine.submit(search, request)
        elif rest:
            self.engine.submit(search, replace(request, rows=rest))
            self._begun[search] = (request, found)
        else:
            self._ready.append((search, _joined(request, found, None)))

    def advance(self) -> Sequence[tuple[int, Extension | Exception]]:
        done: list[tuple[int, Extension | Exception]] = [*self._ready]
        self._ready = []
        for search, reply in self.engine.advance() if self.engine.busy else ():
            begun = self._begun.pop(search, None)
            done.append((search, reply if begun is None or isinstance(reply, Exception) else _joined(*begun, reply)))
        self.tokens += sum(reply.shared_tokens for _, reply in done if isinstance(reply, Extension))
        return done

    def forget(self, search: int) -> None:
        self._begun.pop(search, None)
        self._known.pop(search, None)
        self._ready = [each for each in self._ready if each[0] != search]
        self.engine.forget(search)

    @property
    def busy(self) -> bool:
        return bool(self._ready) or self.engine.busy

    def _found(self, search: int, request: Extend) -> _Source | None:
        """The stored rows that answer the most of a request's."""
        shape = (request.until, request.sampling, request.stops)
        hopeful = {run.id: run.spec for run in self.runs if (run.id, shape) not in self._hopeless}
        if not hopeful:
            return None
        wanted = {row.path: row for row in request.rows}
        known = self._known.setdefault(search, {})
        kind = shape, request.rows[0].prefix

        def look(connection: Connection) -> _Source | None:
            best: _Source | None = None
            if kind not in known:
                known[kind] = self._chains(connection, search, [*hopeful])
            for chains in known[kind]:
                spec = hopeful.get(chains.run_id)
                if spec is None:
                    continue
                if chains.alike is None:
                    chains.alike = [_Stored(reply) for reply in _alike(connection, request, spec, chains.replies)]
                if not chains.alike:  # its strategy asks for something else: so it does for every problem
                    self._hopeless.add((chains.run_id, shape))
                for stored in chains.alike:
                    source = stored.source(connection, request, spec, wanted)
                    if source.steps and (best is None or len(source.steps) > len(best.steps)):
                        best = source
                if best is not None and len(best.steps) == len(wanted):
                    break
            return best

        return self.database.consult(look)

    def _chains(self, connection: Connection, search: int, runs: list[str]) -> list[_Chain]:
        stored = self._replies(connection, search, runs)
        found = groupby(stored, lambda reply: (reply.attempt, reply.run_id))
        return [_Chain(run_id, list(replies)) for (_, run_id), replies in found]

    def _replies(self, connection: Connection, search: int, runs: list[str]) -> Sequence[Any]:
        """What other runs were answered for the same problem with the same seed, those of each attempt in their order."""
        other = schema.attempt.alias("other")
        o, p = other.c, schema.problem.c
        columns = o.id.label("attempt"), o.run_id, o.seed, p.id.label("problem"), _R.number, _R.asked, _R.cost
        asked = (
            select(*columns, _R["count"].label("rows"))
            .join_from(schema.attempt, other, (o.problem_key == _A.problem_key) & (o.seed == _A.seed))
            .join(schema.problem, p.key == _A.problem_key)
            .join(schema.reply, _R.attempt_id == o.id)
            .where(_A.id == search, o.id != search, o.run_id.in_(runs), _R.kind == "extend")
            .order_by(o.id, _R.number)
        )
        return connection.execute(asked).all()


# ------------------------------------------------------------------------------------------------------------ internals


def _may_be_stored(request: Extend) -> bool:
    """Whether its rows are first continuations of the prompt that depend on nothing but themselves."""
    plain = request.first is None and request.rules == NO_RULES and request.flops is None and request.seconds is None
    own = not request.model and request.prompt is None and not request.parted and not request.dropped
    rows = request.rows
    return plain and own and all(depth_of(r.path) == 1 and not r.begin and r.prefix == rows[0].prefix for r in rows)


def _limit(until: Until, spec: RunSpec) -> int:
    return min(spec.step_tokens, spec.tokens) if until is Until.STEP else spec.tokens


def _alike(connection: Connection, request: Extend, spec: RunSpec, replies: Sequence[Any]) -> list[Any]:
    """Those of an attempt's first replies that answered a request of this kind, as their digests say: children of the root, one
    after another."""
    found: list[Any] = []
    first = spent = 0  # rows and tokens of the replies before
    for reply in replies:
        paths = [child_of(ROOT, first + i) for i in range(reply.rows)]
        if reply.asked != _as_asked(request, spec, reply, paths, spent).digest:
            break
        found.append(reply)
        first += reply.rows
        if spec.budget.tokens is not None:
            mine = select(func.sum(_C.tokens)).where(_C.attempt_id == reply.attempt, _C.reply == reply.number)
            spent += connection.scalar(mine) or 0
    return found


def _as_asked(request: Extend, spec: RunSpec, reply: Any, paths: Sequence[Path], spent: int) -> Extend:
    """The request that a stored reply would have answered, if it is one of this kind."""
    limit, prefix = _limit(request.until, spec), request.rows[0].prefix
    made = tuple(Row(path, seed_of(reply.seed, reply.problem, path), prefix, limit) for path in paths)
    allowance = None if spec.budget.tokens is None else max(spec.budget.tokens - spent, 0)
    return replace(request, rows=made, allowance=allowance)


def _tight(request: Extend) -> bool:
    """Whether its rows might use up its allowance: then they run in step, and cannot be parted."""
    return request.allowance is not None and sum(row.limit for row in request.rows) > request.allowance


def _fits(request: Extend, found: _Source) -> bool:
    return not _tight(request) or sum(map(len, found.steps.values())) < (request.allowance or 0)


def _joined(request: Extend, found: _Source, reply: Extension | None) -> Extension:
    """The whole answer: rows from the store and, where it lacked some, from the engine, at the cost of all of them."""
    fresh = iter(reply.steps if reply is not None else ())
    steps = tuple(found.steps[row.path] if row.path in found.steps else next(fresh) for row in request.rows)
    cost, tokens = found.cost, sum(map(len, found.steps.values()))
    share = tokens / cost.tokens if cost.tokens else 0.0
    prompt = cost.of("prompt_tokens") - cost.of("recomputed_tokens")
    each = cost.of("cached_tokens") / (cost.rows - 1) if cost.rows > 1 else prompt
    drafted, accepted = (round(cost.of(name) * share) for name in ("drafted_tokens", "accepted_tokens"))
    computed = cost.of("prompt_tokens") + cost.tokens + cost.of("drafted_tokens") - cost.of("accepted_tokens")
    rate = cost.of("flops") / computed if computed else 0.0
    own = int(prompt) if reply is None else 0  # the engine has computed the prompt, and has charged it
    base = reply or Extension(())
    seconds = cost.of("seconds") * share
    return replace(
        base,
        steps=steps,
        prompt_tokens=base.prompt_tokens + own,
        cached_tokens=base.cached_tokens + round(each * (len(found.steps) - (reply is None))),
        drafted_tokens=base.drafted_tokens + drafted,
        accepted_tokens=base.accepted_tokens + accepted,
        flops=base.flops + rate * (own + tokens + drafted - accepted),
        seconds=base.seconds + seconds,
        shared_tokens=tokens,
        shared_seconds=seconds,
    )


__all__ = ["ENVIRONMENT", "Shared", "generation_key", "sources"]
