"""A data set to train on: a folder with data.jsonl, the same as data.parquet, and a card, README.md, that the Hugging Face hub
and `datasets.load_dataset(FOLDER)` read too."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row as SqlRow
from sqlalchemy import select

from store import schema
from store.errors import Unreadable
from store.runs import Run, run_of

from .attempts import Attempt, Source
from .told import Exported, Options
from .trie import Grown

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

GROUP = 4096  # rows of a row group
LEARNED = ("train", "unknown")  # parts of sets that are not known to be held out
Row = dict[str, Any]


class Rows:
    """Takes rows, and writes them to both files. Memory does not grow with them."""

    def __init__(self, place: Path, schema: pa.Schema, parquet: pq.ParquetWriter) -> None:
        self.schema, self._parquet = schema, parquet
        self._lines = (place / "data.jsonl").open("x", encoding="ascii", newline="\n")
        self._waiting: list[Row] = []
        self.count = 0

    def add(self, row: Row) -> None:
        self._lines.write(json.dumps(row, allow_nan=False) + "\n")
        self._waiting.append(row)
        self.count += 1
        if len(self._waiting) >= GROUP:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._parquet.write_table(pa.Table.from_pylist(self._waiting, schema=self.schema))
            self._waiting.clear()

    def close(self) -> None:
        self.flush()
        self._lines.close()


@contextmanager
def rows(place: Path, schema: pa.Schema, made: Exported) -> Iterator[Rows]:
    """The rows of the data set in the folder `place`."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(place / "data.parquet", schema, compression="zstd") as parquet:
        out = Rows(place, schema, parquet)
        try:
            yield out
        finally:
            out.close()
    made.files |= {"data.jsonl": out.count, "data.parquet": out.count}


def part_of(run: Run) -> str:
    """Which part of its set a run's problems are: train, test (or another that the set names), or unknown (of a file)."""
    problems = run.spec.problems
    if problems.name in ("jsonl", "imported"):
        return "unknown"
    return str(problems.params.get("split", "test"))


def taken(source: Source, options: Options, made: Exported) -> list[Run]:
    """The runs that may be learned from: all, or with `--split train` those whose problems are not known to be held out."""
    parts = {run.id: part_of(run) for run in source.runs}
    if options.split == "train":
        held = [run for run in source.runs if parts[run.id] not in LEARNED]
        made.left_out["problems that are held out"] += sum(source.closed(run) for run in held)
        return [run for run in source.runs if run not in held]
    over: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for run in source.runs:
        if parts[run.id] not in LEARNED:
            over[parts[run.id], str(run.spec.problems)].append(run.id)
    for (part, name), ids in over.items():
        which = f"run {ids[0]} is" if len(ids) == 1 else f"{len(ids)} runs are"
        made.note(f"{which} over {part} problems ({name}): do not measure on what learns from this")
    return list(source.runs)


def problems(source: Source, runs: Sequence[Run], options: Options, made: Exported) -> Iterator[list[Attempt]]:
    """Each problem with its attempts in these runs. With `--split train` none that any run of the database has among held-out
    ones: a file may hold them, and an import of such a run does."""
    held = _held_out(source) if options.split == "train" else frozenset()
    for attempts in source.problems(runs):
        if attempts[0].row["problem_key"] in held:
            made.left_out["problems that are held out"] += len(attempts)
        else:
            yield attempts


def _held_out(source: Source) -> frozenset[str]:
    """The keys of the problems whose prompts are those of known held-out ones."""
    runs = [row.id for row in source.connection.execute(select(schema.run)) if not _is_learned_from(row)]
    problem, attempt = schema.problem.c, schema.attempt.c
    prompts = select(problem.prompt).join_from(schema.problem, schema.attempt).where(attempt.run_id.in_(runs))
    return frozenset(source.connection.scalars(select(problem.key).where(problem.prompt.in_(prompts))))


def _is_learned_from(row: SqlRow[Any]) -> bool:
    try:
        return part_of(run_of(row)) in LEARNED
    except Unreadable:
        return False  # who knows what it held out


def count(tree: Grown, made: Exported, counts: Counter[str]) -> None:
    """Counts what of a problem's texts is in no row, and what counts once."""
    made.left_out["undecided solutions"] += tree.undecided
    made.left_out["texts to prompts of a strategy's own"] += tree.others
    counts["solutions that several runs share, counted once"] += tree.shared


def card(place: Path, source: Source, runs: Sequence[Run], options: Options, made: Exported, rule: str, counts: Row) -> None:
    """Writes README.md: the rule, the runs with their problem sets and whether these are held out, the counts."""
    lines = [
        *("---", "configs:", "- config_name: default", "  data_files: data.parquet", "---", ""),
        *(f"# Ponderosa export: {made.format}", "", rule, "", f"Options: `{json.dumps(options.given())}`.", ""),
        *(
            "| run | problems | part | generator | strategy | verifier | seed | attempts | used |",
            "|---|---|---|---|---|---|--:|--:|---|",
        ),
    ]
    for run in source.runs:
        spec = run.spec
        cells = run.id, spec.problems, part_of(run), spec.generator, spec.strategy, spec.verifier, spec.seed
        lines.append(f"| {' | '.join(map(_cell, (*cells, source.closed(run), 'yes' if run in runs else 'no')))} |")
    held = [run.id for run in runs if part_of(run) not in LEARNED]
    if held:
        lines += [
            "",
            f"**Held-out problems are in it** (runs {', '.join(held)}): measure nothing on them that learned from this.",
        ]
    elif any(part_of(run) == "unknown" for run in runs):
        lines += ["", "Whether the problems of part `unknown` are held out is not known here."]
    total = counts | {f"left out: {what}": count for what, count in made.left_out.items() if count}
    lines += ["", "| count | |", "|---|--:|", *(f"| {_cell(name)} | {_cell(value)} |" for name, value in total.items()), ""]
    (place / "README.md").write_text("\n".join(lines), encoding="utf-8")
    made.files["README.md"] = 1


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


__all__ = ["Rows", "card", "count", "part_of", "rows", "taken"]
