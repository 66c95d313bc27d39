"""What the formats write: the closed attempts of runs with their candidates, scores and verdicts, a few at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, func, select

from search.packing import unpack_tokens
from search.types import Finish, Path, Problem, order
from store import schema
from store.pools import in_all, mean_over_tokens, whole_paths, written
from store.runs import Run
from store.values import exact_text

_A, _C, _S, _P, _L = schema.attempt.c, schema.candidate.c, schema.score.c, schema.problem.c, schema.solution.c
CANDIDATES = 4096  # read at a time, but for an attempt that has more
_COLUMNS = (
    *(_C.attempt_id, _C.path, _C.tokens, _C.packed, _C.prompt, _C.text, _C.text_zlib, _C.finish, _C.state, _C.cause),
    *(_C.answer, _C.answer_reason, _C.logprob, _C.certainty),
)


@dataclass(frozen=True, slots=True)
class Node:
    """One candidate: its own step only."""

    path: Path
    text: str  # exact
    tokens: int  # 0 beside a text: not known
    packed: bytes
    prompt: str | None  # the question it answers, where that is one of the strategy's own
    finish: Finish
    state: str
    cause: str
    answer: str | None
    answer_reason: str
    logprob: float | None  # sum over the step, nats; None = not known
    certainty: float | None  # mean over the step's tokens, nats; None = not known

    @property
    def ids(self) -> list[int] | None:
        """The step's token ids; None = not known."""
        found: list[int] = unpack_tokens(self.packed).tolist()
        return None if not found and (self.tokens or self.text) else found


@dataclass(frozen=True)
class Attempt:
    """One closed attempt. Its candidates and whole solutions (ended or cut) are in order of path."""

    run: Run
    problem: Problem
    row: Mapping[str, Any]  # of the table
    nodes: Mapping[Path, Node]
    scores: Mapping[Path, Sequence[Any]]  # rows of the table
    stored: Mapping[Path, Any]  # rows of `solution`

    @property
    def id(self) -> int:
        return int(self.row["id"])

    @property
    def chosen(self) -> Path | None:
        path: Path | None = self.row["path"]
        return path

    @cached_property
    def wholes(self) -> list[Path]:
        """The whole solutions: what goes on, or has been gone on with, is none."""
        return whole_paths(self.nodes)

    def steps(self, path: Path) -> list[Node]:
        """The candidates whose steps make a partial or whole solution: from the first, or from the last that answered a prompt
        of its own."""
        return [self.nodes[each] for each in written(self.nodes, path)]

    def text(self, path: Path) -> str:
        return "".join(node.text for node in self.steps(path))

    def own_prompt(self, path: Path) -> str | None:
        """The prompt of the strategy's own that a solution answers; None = it answers the problem."""
        return self.steps(path)[0].prompt

    def tokens(self, path: Path) -> int | None:
        """Of a solution; None = not known."""
        nodes = self.steps(path)
        return None if any(not node.tokens and node.text for node in nodes) else sum(node.tokens for node in nodes)

    def ids(self, path: Path) -> list[int] | None:
        """A solution's token ids; None = not known."""
        parts = [node.ids for node in self.steps(path)]
        return None if any(part is None for part in parts) else [token for part in parts for token in part or ()]

    def logprob(self, path: Path) -> float | None:
        """The sum of ln p over a solution's tokens, nats, <= 0; None = not known."""
        return in_all([node.logprob for node in self.steps(path)])

    def certainty(self, path: Path) -> float | None:
        """The mean over a solution's tokens, nats, higher = surer; None = not known."""
        nodes = self.steps(path)
        return mean_over_tokens([node.certainty for node in nodes], [node.tokens for node in nodes])

    def value(self, path: Path) -> float | None:
        """By the run's own verifier, in [0, 1], higher = better; None = none, or several have scored and none is the run's."""
        if path in self.stored:
            value: float | None = self.stored[path].value
            return value
        found = {row.verifier: row.value for row in self.scores.get(path, ())}
        own = self.run.spec.verifier.name
        return found.get(own) if own in found else next(iter(found.values())) if len(found) == 1 else None


@dataclass(frozen=True)
class Source:
    """One consistent view of the runs that are exported."""

    connection: Connection
    runs: tuple[Run, ...]

    @property
    def several(self) -> bool:
        return len(self.runs) > 1

    def unfinished(self) -> int:
        """Attempts that are left out since they are not closed."""
        asked = select(func.count()).where(_A.run_id.in_([run.id for run in self.runs]), _A.status.not_in(schema.CLOSED))
        return self.connection.scalar(asked) or 0

    def closed(self, run: Run) -> int:
        asked = select(func.count()).where(_A.run_id == run.id, _A.status.in_(schema.CLOSED))
        return self.connection.scalar(asked) or 0

    def begun(self, run: Run) -> int:
        """Attempts that it was begun with, closed or not."""
        return self.connection.scalar(select(func.count()).where(_A.run_id == run.id)) or 0

    def graded(self, run: Run) -> bool:
        """Whether any choice of the run has a verdict. Else nothing was chosen, or judged, and no accuracy is known."""
        asked = select(_A.id).where(_A.run_id == run.id, _A.verdict.is_not(None)).limit(1)
        return self.connection.scalar(asked) is not None

    def attempts(self, run: Run) -> Iterator[Attempt]:
        """The closed attempts of a run in the order of its problems. Memory does not grow with the run, but for their ids."""
        asked = select(_A.id, _A.candidates).where(_A.run_id == run.id, _A.status.in_(schema.CLOSED))
        for batch in _batches(self.connection.execute(asked.order_by(_A.position, _A.id)).all()):
            yield from self._read(batch)

    def problems(self, runs: Sequence[Run]) -> Iterator[list[Attempt]]:
        """Each problem with its attempts in all these runs, in the order in which the runs have them."""
        by_key: defaultdict[str, list[Any]] = defaultdict(list)
        for run in runs:
            asked = select(_A.id, _A.candidates, _A.problem_key).where(_A.run_id == run.id, _A.status.in_(schema.CLOSED))
            for row in self.connection.execute(asked.order_by(_A.position, _A.id)):
                by_key[row.problem_key].append(row)
        for some in _together(by_key.values()):
            found = {attempt.id: attempt for attempt in self._read([row.id for rows in some for row in rows])}
            yield from ([found[row.id] for row in rows] for rows in some)

    def _read(self, ids: Sequence[int]) -> list[Attempt]:
        runs = {run.id: run for run in self.runs}
        asked = select(schema.attempt).where(_A.id.in_(ids))
        rows = {row["id"]: dict(row) for row in self.connection.execute(asked).mappings()}
        asked = select(schema.problem).where(_P.key.in_({row["problem_key"] for row in rows.values()}))
        problems = {row["key"]: _problem(dict(row)) for row in self.connection.execute(asked).mappings()}
        nodes: defaultdict[int, list[Node]] = defaultdict(list)
        for row in self.connection.execute(select(*_COLUMNS).where(_C.attempt_id.in_(ids))):
            nodes[row.attempt_id].append(_node(row))
        scores: defaultdict[int, defaultdict[Path, list[Any]]] = defaultdict(lambda: defaultdict(list))
        for row in self.connection.execute(select(schema.score).where(_S.attempt_id.in_(ids)).order_by(_S.verifier)):
            scores[row.attempt_id][row.path].append(row)
        stored: defaultdict[int, dict[Path, Any]] = defaultdict(dict)
        for row in self.connection.execute(select(schema.solution).where(_L.attempt_id.in_(ids))):
            stored[row.attempt_id][row.path] = row
        return [
            Attempt(
                run=runs[rows[i]["run_id"]],
                problem=problems[rows[i]["problem_key"]],
                row=rows[i],
                nodes={node.path: node for node in sorted(nodes[i], key=lambda node: order(node.path))},
                scores=scores[i],
                stored=stored[i],
            )
            for i in ids
        ]


def _batches(rows: Sequence[Any]) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for row in rows:
        batch.append(row.id)
        size += row.candidates or 0
        if size >= CANDIDATES or len(batch) >= CANDIDATES // 16:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _together(problems: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """As `_batches`, and no problem in two of them."""
    batch: list[Sequence[Any]] = []
    size = 0
    for rows in problems:
        batch.append(rows)
        size += sum((row.candidates or 0) + 16 for row in rows)
        if size >= CANDIDATES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _problem(row: Mapping[str, Any]) -> Problem:
    return Problem(row["id"], row["prompt"], row["answer"], row["source"], json.loads(row["meta"]))


def _node(row: Any) -> Node:
    return Node(
        path=row.path,
        text=exact_text(row.text, row.text_zlib),
        tokens=row.tokens,
        packed=row.packed,
        prompt=row.prompt,
        finish=Finish(row.finish),
        state=row.state,
        cause=row.cause,
        answer=row.answer,
        answer_reason=row.answer_reason,
        logprob=row.logprob,
        certainty=row.certainty,
    )


__all__ = ["Attempt", "Node", "Source"]
