"""Verdicts as they are shown: a set that could not be graded must not look like a bad model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from test_store_fakes import make_spec, stored_run

from flows import tables
from store import queries
from store.database import open_database
from store.runs import grade


def graded(file: Path, verdicts: Sequence[str]) -> str:
    """A stored run with these verdicts; its id."""
    spec = make_spec("greedy")
    with open_database(str(file)) as db:
        stored_run(db, spec, n=len(verdicts))
        rows = queries.attempts(db, spec.id)
        grade(db, [(row.id, each, each == "correct", "numeric") for row, each in zip(rows, verdicts, strict=True)])
    return spec.id


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["wrong", "error", "correct", "error", "none"], "verdicts    correct 1, wrong 1, error 2, none 1\n"),
        (["timeout", "unparsed"], "verdicts    correct 0, wrong 0, unparsed 1, timeout 1\n"),
        (["wrong", "correct"], None),
    ],
)
def test_a_run_shows_the_verdicts_that_are_neither_correct_nor_wrong(
    given: list[str], shown: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the accuracy was shown."""
    run = graded(tmp_path / "a.db", given)
    with open_database(str(tmp_path / "a.db")) as opened:
        tables.show_run(opened, run, None)
    out = capsys.readouterr().out
    assert ("verdicts" in out) is (shown is not None)
    assert shown is None or shown in out


def test_a_run_whose_answers_could_not_be_graded_warns_at_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = graded(tmp_path / "a.db", ["wrong", "error", "error"])
    tables.compare(str(tmp_path / "a.db"), [run])
    error = capsys.readouterr().err
    assert error.startswith(f"warning: run {run}: 2 answers could not be graded and count as wrong (verdict error)")
    assert error.count("\n") == 1
    run = graded(tmp_path / "b.db", ["wrong", "correct", "timeout"])
    tables.compare(str(tmp_path / "b.db"), [run])
    assert capsys.readouterr().err == ""
