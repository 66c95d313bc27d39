"""The search trees of a page: every candidate of an attempt with its score, and where its tokens stand in its text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from flows.report.document import Branch, TreeOf, Votes
from search.packing import unpack_likelihoods
from search.types import lineage, order
from store import schema
from store.database import Database
from store.runs import Run
from store.solved import own_verifier
from store.values import plain_text

_A, _C, _S, _V = schema.attempt.c, schema.candidate.c, schema.score.c, schema.solution.c
LARGEST = 10_000  # branches of one tree
ANSWERS = 1_000  # of one tree's votes, the heaviest
AT_ONCE = 64  # attempts read at a time
LONGEST = 20_000  # characters of one step's text
FILE = "tokenizer.json"


def trees(db: Database, run: Run, attempts: Sequence[int], lost: Mapping[int, str]) -> Iterator[TreeOf]:
    """The trees of attempts of one run. `lost`: by attempt, the path of the right solution that was lost."""
    words = _Words(run)
    with db.read() as connection:
        own = own_verifier(connection, run.id)
    for begin in range(0, len(attempts), AT_ONCE):
        with db.read() as connection:  # which is given back before anybody looks at what it gave
            found = list(_some(connection, run, attempts[begin : begin + AT_ONCE], lost, own, words))
        yield from found


def _some(
    connection: Connection, run: Run, ids: Sequence[int], lost: Mapping[int, str], own: str | None, words: _Words
) -> Iterator[TreeOf]:
    heads = connection.execute(select(_A.id, _A.path, _A.reason, _A.votes).where(_A.id.in_(ids)))
    chosen = {row.id: row for row in heads}
    columns = (
        *(_C.attempt_id, _C.path, _C.parent, _C.number, _C.tokens, _C.packed, _C.extra, _C.text, _C.text_zlib, _C.finish),
        *(_C.state, _C.cause, _C.answer, _C.logprob, _C.certainty),
    )
    found: dict[int, list[Any]] = {attempt: [] for attempt in ids}
    for row in connection.execute(select(*columns).where(_C.attempt_id.in_(ids))):
        found[row.attempt_id].append(row)
    scored = select(_S.attempt_id, _S.path, _S.value, _S.reason).where(_S.attempt_id.in_(ids), _S.verifier == own)
    scores = {(row.attempt_id, row.path): (row.value, row.reason) for row in connection.execute(scored)}
    judged = select(_V.attempt_id, _V.path, _V.answer, _V.correct).where(_V.attempt_id.in_(ids), _V.answer.is_not(None))
    solutions = connection.execute(judged.order_by(_V.attempt_id, _V.number)).all()
    right = {(row.attempt_id, row.path): row.correct for row in solutions}
    answers: dict[int, list[tuple[str, bool | None]]] = {attempt: [] for attempt in ids}
    for solution in solutions:
        answers[solution.attempt_id].append((solution.answer, solution.correct))
    for attempt in ids:
        head, rows = chosen[attempt], found[attempt]
        kept = _kept(rows, [path for path in (head.path, lost.get(attempt)) if path])
        yield TreeOf(
            attempt=attempt,
            chosen=head.path,
            lost=lost.get(attempt),
            branches=tuple(_branches(attempt, kept, scores, right, words)),
            in_all=len(rows),
            reason=head.reason or "",
            votes=_votes(head.votes, answers[attempt]),
        )


def _votes(stored: str | None, solutions: Sequence[tuple[str, bool | None]]) -> tuple[Votes, ...]:
    """The choice's own; of an attempt that has none, such as an imported one, how many solutions gave each answer."""
    right = dict(solutions)
    counts: list[tuple[str, int, float | None]] = json.loads(stored or "[]")
    counts = counts or [(answer, count, None) for answer, count in Counter(answer for answer, _ in solutions).most_common()]
    return tuple(Votes(answer, count, weight, right.get(answer)) for answer, count, weight in counts[:ANSWERS])


def _kept(rows: list[Any], paths: Sequence[str]) -> list[Any]:
    """Of too many, those on the named paths and the first that were made: their parents were made before them."""
    if len(rows) > LARGEST:
        needed = {each for path in paths for each in lineage(path)}
        by_age = sorted(rows, key=lambda row: row.number)
        rows = [row for i, row in enumerate(by_age) if i < LARGEST - len(needed) or row.path in needed]
    return sorted(rows, key=lambda row: order(row.path))


def _branches(
    attempt: int,
    rows: Sequence[Any],
    scores: Mapping[tuple[int, str], tuple[float | None, str]],
    right: Mapping[tuple[int, str], bool],
    words: _Words,
) -> Iterator[Branch]:
    tokens, logprobs, ends = unpack_likelihoods([row.packed for row in rows])
    ids, chances = tokens.tolist(), np.exp(logprobs).tolist()
    unknown = np.cumsum(~np.isfinite(logprobs)).tolist()  # so many up to a token: of imported candidates all may be
    begin = 0
    for row, end in zip(rows, ends.tolist(), strict=True):
        text = plain_text(row.text, row.text_zlib)[:LONGEST]
        value, why = scores.get((attempt, row.path), (None, ""))
        known = begin < end and unknown[end - 1] == (unknown[begin - 1] if begin else 0)
        lengths = words.lengths(ids[begin:end], text) if known else ()
        own, begin = slice(begin, end), end
        yield Branch(
            path=row.path,
            parent=row.parent,
            text=text,
            tokens=row.tokens,
            state=row.state,
            cause=row.cause,
            finish=row.finish,
            answer=row.answer,
            correct=right.get((attempt, row.path)),
            score=value,
            why=why,
            logprob=row.logprob,
            certainty=row.certainty,
            lengths=lengths,
            chances=tuple(chances[own]) if lengths else (),
        )


class _Words:
    """A run's tokens as characters of its texts; none without the tokenizer, and where the pieces are not the text."""

    def __init__(self, run: Run) -> None:
        self.tokenizer = _tokenizer(run.spec.generator.name)
        self._known = _Pieces(self.tokenizer)

    def lengths(self, ids: Sequence[int], text: str) -> tuple[int, ...]:
        """Characters of each token; () where these are not the text."""
        if self.tokenizer is None or not ids or not text:
            return ()
        known = self._known
        pieces = [known[each] for each in ids]
        if "".join(pieces) == text:
            return tuple(map(len, pieces))
        return self._read_on(ids, text) if len(ids) <= 512 else ()

    def _read_on(self, ids: Sequence[int], text: str) -> tuple[int, ...]:
        """Where a token's text depends on those before it: by how the text grows."""
        ends = [len(str(self.tokenizer.decode(ids[: i + 1], skip_special_tokens=True))) for i in range(len(ids))]
        if str(self.tokenizer.decode(ids, skip_special_tokens=True)) != text:
            return ()
        return tuple(max(end - begin, 0) for begin, end in zip([0, *ends], ends, strict=False))


class _Pieces(dict[int, str]):
    """Each token's text by itself, decoded once."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, token: int) -> str:
        self[token] = piece = str(self._tokenizer.decode([token], skip_special_tokens=True))
        return piece


@lru_cache(maxsize=4)
def _tokenizer(name: str) -> Any:
    """A generator's tokenizer, without transformers, which takes seconds to import; None where it is not here."""
    from huggingface_hub import try_to_load_from_cache
    from tokenizers import Tokenizer

    from pipelines.models import locate
    from pipelines.remote import is_remote

    if is_remote(name):
        return None
    try:
        where = locate(name, "generator")
        file = try_to_load_from_cache(where, FILE) if isinstance(where, str) else str(where / FILE)
        return Tokenizer.from_file(file) if isinstance(file, str) and Path(file).is_file() else None
    except Exception:  # the model is no longer there, or has another kind of tokenizer: its texts are there all the same
        return None


__all__ = ["LARGEST", "trees"]
