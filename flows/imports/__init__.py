"""Brings in candidates that were written elsewhere, as a run: every query and selector then works on them, with no model.

The files are read twice: first all of it is checked, then it is written, in batches. So a fault in the last line stores
nothing, and an import that was cut off is gone on with by the same command. The run's id is a hash of what the files hold
and of how they are to be read, so the same files again change nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from flows import solved
from flows.progress import EVERY, said
from pipelines.problems.jsonl import DataError
from search.checks import one_of
from search.types import Join, Part, RunSpec
from store.database import Database, open_database
from store.errors import StoreError
from store.imported import IMPORTED, begin, end, write
from store.runs import end_run
from store.solved import derive
from store.values import clean
from verifiers.extract import STYLES
from verifiers.grade import Graders

from .convert import Converter
from .files import digest, found
from .formats import FORMATS, Format, Skipped, records
from .grading import Tally, grade_chosen, tally, unchosen
from .records import Record
from .tokens import counter

Batch = list[tuple[int, Record]]  # place among the problems, record
PROBLEMS, CANDIDATES = 256, 4096  # of one transaction, at most


def run(
    where: str,
    names: Sequence[str],
    format: str,
    name: str = "",
    grade: bool = True,
    join: str = "",
    style: str = "math",
    tokenizer: str = "",
) -> tuple[str, list[str]]:
    """Imports files or folders into a database; the run's id, and what there is to say of it in lines."""
    one_of("format", format, FORMATS)
    one_of("answer style", style, STYLES)
    if join:
        one_of("join", join, list(Join))
    known = FORMATS[format]
    converter = Converter(format, Join(join) if join else known.join, style, counter(tokenizer) if tokenizer else None)
    files = found(names, known.patterns)
    spec = _spec(converter, digest(files, known.named), tokenizer)
    skipped = Skipped()
    problems, candidates = _check(files, known, converter, skipped)
    lines = [f"{problems:,} problems with {candidates:,} candidates from {format}"]
    if skipped.filters:
        lines.append(f"{skipped.filters:,} lines of other filters have the same texts, and were left out")
    environment = {"format": format, "files": [clean(file.name) for file in files[:100]], "candidates": candidates}
    with open_database(where) as database:
        done, there = begin(database, spec, environment, name)
        if done:
            lines.append("it is there already; nothing was changed")
        elif there:
            lines.append(f"gone on with: {there:,} problems were there")
        rest = islice(enumerate(record for _, record in records(files, known)), there, None)
        graded = Tally()
        none = _store(database, spec.id, None if done else _batches(rest), converter, graded, grade)
    if none:
        lines.append(f"{none:,} of the {problems:,} problems name no choice: they count as wrong, since others do")
    return spec.id, lines + graded.lines()


def _store(
    database: Database, run_id: str, batches: Iterator[Batch] | None, converter: Converter, graded: Tally, grade: bool
) -> int:
    """Writes what is not there yet (None: all is), a batch a transaction, and grades; how many problems are wrong for want of
    a choice. What is there is how the files begin."""
    spoke = time.monotonic()
    try:
        with Graders() as graders:
            for batch in batches or ():
                attempts = [converter.attempt(record, position) for position, record in batch]
                if grade:
                    tally(graded, graders, attempts, [record for _, record in batch])
                write(database, run_id, attempts)
                if time.monotonic() - spoke >= EVERY:
                    spoke = time.monotonic()
                    said(f"{batch[-1][0] + 1:,} problems are written")
            if batches is not None:
                end(database, run_id)
            if not grade:
                return 0
            grade_chosen(database, run_id, graders)
            none = unchosen(database, run_id)
            derive(database, run_id, solved.judge(graders), solved.cheap)  # last: a new verdict makes it undone
            return none
    except BaseException:
        if batches is not None:
            with suppress(StoreError):  # what ended it is what matters
                end_run(database, run_id, "interrupted")
        raise


def _spec(converter: Converter, content: str, tokenizer: str) -> RunSpec:
    """How the run is named. No model, no budget and no sampling is known."""
    return RunSpec(
        problems=Part(IMPORTED, {"format": converter.format, "content": content, "style": converter.style}),
        generator=Part(IMPORTED, {"tokenizer": tokenizer} if tokenizer else {}),
        verifier=Part(IMPORTED, {"join": converter.join.value}),
        strategy=Part(IMPORTED),
    )


def _check(files: Sequence[Path], format: Format, converter: Converter, skipped: Skipped) -> tuple[int, int]:
    """Reads all of it; how many problems and candidates there are. Raises DataError for what cannot be stored."""
    seen: set[bytes] = set()  # digests: the ids of a million problems would be a hundred megabytes
    candidates, position = 0, -1
    for position, (where, record) in enumerate(records(files, format, skipped)):
        try:
            problem = converter.problem(record, position)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        key = hashlib.blake2b(clean(problem.id).encode(), digest_size=8).digest()
        if key in seen:
            first = _first(files, format, converter, problem.id)
            raise DataError(f"{where}: duplicate id '{clean(problem.id)[:80]}', first at {first}; give each problem its own")
        seen.add(key)
        candidates += len(record.candidates)
    if position < 0:
        raise DataError(f"{files[0]}: there are 0 problems in it")
    return position + 1, candidates


def _first(files: Sequence[Path], format: Format, converter: Converter, name: str) -> str:
    found = (where for i, (where, r) in enumerate(records(files, format)) if clean(converter.problem(r, i).id) == clean(name))
    return next(found)


def _batches(numbered: Iterator[tuple[int, Record]]) -> Iterator[Batch]:
    batch: Batch = []
    size: Counter[str] = Counter()
    for position, record in numbered:
        batch.append((position, record))
        size["candidates"] += len(record.candidates)
        if len(batch) >= PROBLEMS or size["candidates"] >= CANDIDATES:
            yield batch
            batch, size = [], Counter()
    if batch:
        yield batch
