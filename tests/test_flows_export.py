"""The verb `export`: what every format keeps to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from exports import derived, exported, written
from sqlalchemy import update

from flows.export import FORMATS, harness, parquet
from store import schema
from store.database import Database, open_database
from store.errors import WriteError

TREE = {"0": "So \\boxed{7}", "1": "So \\boxed{8}"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "runs.db") as opened:
        written(opened, [TREE, TREE])
        yield opened


def output(folder: Path, format: str) -> Path:
    return folder / ("out.jsonl" if format == "jsonl" else "out.eval" if format == "inspect" else "out")


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_there_is_not_written_over_unless_forced(database: Database, tmp_path: Path, format: str) -> None:
    to = output(tmp_path, format)
    exported(database, "made", format, to)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"is there already; name another f(ile|older), or --force writes over it"):
        exported(database, "made", format, to)
    exported(database, "made", format, to, force=True)
    assert sorted(tmp_path.rglob("*")) == before, "nothing else is left behind"


def test_force_replaces_no_folder_that_an_export_has_not_made(database: Database, tmp_path: Path) -> None:
    """`-o ~ --force` would have deleted all of it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match="replaces only folders that an export has made"):
        exported(database, "made", "parquet", mine, force=True)
    assert (mine / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize(("format", "is_folder"), [("jsonl", True), ("parquet", False)])
def test_a_folder_in_the_place_of_a_file_is_refused_and_so_is_the_reverse(
    database: Database, tmp_path: Path, format: str, is_folder: bool
) -> None:
    place = tmp_path / "place"
    place.mkdir() if is_folder else place.touch()
    with pytest.raises(ValueError, match="is a folder" if is_folder else "is no folder"):
        exported(database, "made", format, place, force=True)


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_was_cut_off_leaves_nothing_that_looks_whole(
    database: Database, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: object, *args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.export.attempts.Source._read", stopped)
    monkeypatch.setattr(parquet, "_candidates", stopped)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        exported(database, "made", format, output(tmp_path, format))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_is_full_is_one_line_and_exit_code_74(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(harness, "_sample", full)
    with pytest.raises(WriteError, match="No space left on device") as raised:
        exported(database, "made", "lm-eval", tmp_path / "out")
    assert raised.value.exit_code == 74


@pytest.mark.parametrize("format", FORMATS)
def test_unfinished_attempts_are_left_out_and_counted(database: Database, tmp_path: Path, format: str) -> None:
    with database.write() as connection:
        connection.execute(update(schema.attempt).where(schema.attempt.c.position == 1).values(status="running"))
    made = exported(database, "made", format, output(tmp_path, format))
    assert made.told()["left_out"]["unfinished problems"] == 1
    assert "1 unfinished problems left out" in made.lines()
    rows = made.files
    expected = {"parquet": ("attempts.parquet", 1), "lm-eval": (next(iter(rows)), 1), "inspect": (next(iter(rows)), 2)}
    name, count = expected.get(format, (next(iter(rows)), {"prm": 2}.get(format, 1)))
    assert rows[name] == count


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "parqet"], "unknown format 'parqet'; did you mean 'parquet'?"),
        (["--format", "jsonl", "--soft"], "--soft is for the format prm, not 'jsonl'"),
        (["--format", "prm", "--least", "0"], "least must be at least 1, not 0"),
        (["--format", "prm", "--split", "test"], "unknown split 'test'"),
        (["--format", "preferences", "--level", "steps"], "unknown level 'steps'; did you mean 'step'?"),
        (["--format", "preferences", "--margin", "3"], "--margin must be in [0, 1], as scores are, not 3.0"),
        (["--format", "preferences", "--margin", "0.1", "--level", "step"], "--margin is for whole solutions"),
        (["--format", "preferences", "--least", "2"], "--least is for pairs of steps; add --level step, or leave it out"),
        (["--format", "jsonl", "--output", "-"], "'-' is not standard output here, and would become a file; name one"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line_and_exit_code_2(
    database: Database, command: Command, tmp_path: Path, words: list[str], said: str
) -> None:
    done = command("export", "made", "-o", "out", "-d", database.shown, *words)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_said_with_the_remedy(database: Database, command: Command) -> None:
    done = command("export", "made", "--format", "jsonl", "-o", "no/where.jsonl", "-d", database.shown)
    assert (done.code, "there is no folder 'no'; create it first" in done.err) == (2, True)


def test_the_verb_tells_machines_what_was_written_in_one_line(database: Database, command: Command) -> None:
    written(database, [TREE], "second")
    done = command("export", "made", "second", "made", "--format", "jsonl", "-o", "out.jsonl", "--json", "-d", database.shown)
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    told = json.loads(done.out)
    assert told["files"] == [{"file": "out.jsonl", "rows": 3}]
    assert len(told["runs"]) == 2, "a run that is named twice is written once"
    done = command("export", "all", "--format", "jsonl", "-o", "all.jsonl", "--json", "-d", database.shown)
    assert json.loads(done.out)["runs"] == told["runs"]


def test_inspect_without_inspect_ai_names_the_remedy(
    database: Database, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    done = command("export", "made", "--format", "inspect", "-o", "out.eval", "-d", database.shown)
    assert done.code == 2
    assert done.err == "ponderosa: inspect_ai is not installed; install it with: pip install 'ponderosa[inspect]'\n"


def test_verdicts_are_those_that_are_stored_where_they_are(database: Database, tmp_path: Path) -> None:
    """A later grader's verdicts would have been computed anew, and differently."""
    run = written(database, [TREE], "other")
    exported(database, run, "jsonl", tmp_path / "graded.jsonl")
    derived(database, run, {(0, "0"): False, (0, "1"): None})
    exported(database, run, "jsonl", tmp_path / "stored.jsonl")
    assert json.loads((tmp_path / "graded.jsonl").read_text())["correct"] == [True, False]
    assert json.loads((tmp_path / "stored.jsonl").read_text())["correct"] == [False, None]
