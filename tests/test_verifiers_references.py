"""References that no grader can read: refused with their line when the file is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.parts import spec
from flows.work import check
from pipelines.problems.jsonl import DataError
from pipelines.problems.load import load_problems
from search.types import Part, Problem
from verifiers.references import unreadable

PLAIN = {"question": "Q?", "answer": "2"}


def load(folder: Path, *rows: dict[str, object]) -> list[Problem]:
    file = folder / "set.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_problems(Part("jsonl", {"file": str(file)}), unreadable)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"answer": "D", "options": ["3", "4"]},
            "answer 'D' cannot be read by grader 'choice': the reference names no option; "
            "write the letter of the right option, A to B",
        ),
        ({"answer": 1, "options": ["x", "y"]}, "the right option, A to B (it looks like an index; the first option is A)"),
        ({"answer": "abc", "grader": "numeric"}, "answer 'abc' cannot be read by grader 'numeric': the reference is not one"),
        ({"answer": 1.5, "grader": "integer"}, "answer '1.5' cannot be read by grader 'integer': the reference is no integer"),
        ({"answer": "Paris", "grader": "choice"}, "answer 'Paris' cannot be read by grader 'choice'"),
    ],
)
def test_a_reference_that_no_grader_can_read_is_refused_by_its_line(row: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, PLAIN, {**PLAIN, **row})
    assert "set.jsonl:2: answer '" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        {"answer": "B", "options": ["3", "4"]},
        {"answer": "(b)", "options": ["3", "4"]},
        {"answer": "The answer is (B).", "options": ["3", "4"]},
        {"answer": 4, "options": [3, 4]},
        {"answer": "\\boxed{B}", "options": ["3", "4"]},
        {"answer": "6.02 \\times 10^{23} mol", "grader": "numeric", "tolerance": 1},
        {"answer": "007", "grader": "integer"},
        {"answer": "any $x \\in Y$", "grader": "math"},
    ],
)
def test_whatever_its_grader_reads_is_a_reference(row: dict[str, object], tmp_path: Path) -> None:
    assert len(load(tmp_path, {**PLAIN, **row})) == 1


def test_a_run_refuses_such_a_file_before_it_begins(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps({"question": "Q?", "answer": 1, "options": ["x", "y"]}))
    with pytest.raises(DataError, match=r"set\.jsonl:1: answer '1' cannot be read by grader 'choice'"):
        check(spec(f"jsonl:file={file}", "best-of-n:n=2", "equation", "bundled"))
