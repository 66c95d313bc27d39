"""Real problem sets from JSON Lines: what is read, and one line with the place for what is not."""

import gzip
import json
import os
from pathlib import Path

import pytest

from pipelines.problems.jsonl import DataError, load_jsonl
from pipelines.problems.load import load_problems
from pipelines.problems.prompts import PROMPTS, ask
from search.types import Part, Problem

SHARED = Path(os.environ.get("PONDEROSA_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
ROW = {"id": "a", "prompt": "1+1?", "answer": "2"}


def write(folder: Path, *lines: object, name: str = "set.jsonl", end: str = "\n") -> Path:
    file = folder / name
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_bytes("".join(text + end for text in texts).encode())
    return file


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"question": "Q?", "answer": "so 1,000+234=1,234\n#### 1,234"},
            Problem("set-0", "Q?", "1234", "gsm8k/set", {"style": "gsm8k"}),
        ),
        (
            {"problem": "P", "answer": "\\frac{1}{2}", "subject": "Algebra", "level": 5, "unique_id": "test/1.json"},
            Problem("test/1.json", "P", "\\frac{1}{2}", "math/set", {"style": "math", "subject": "Algebra", "level": 5}),
        ),
        ({"id": 7, "problem": "P", "answer": 33}, Problem("7", "P", "33", "aime/set", {"style": "aime"})),
        (
            {"numbers": [30, 100, 93], "target": 23},
            Problem(
                "set-0",
                "Use 30, 100, 93 to make 23.",
                "23 from 30,93,100",
                "countdown/set",
                {"style": "countdown", "family": "countdown", "level": 3},
            ),
        ),
        (ROW, Problem("a", "1+1?", "2", "generic/set", {"style": "generic"})),
        ({"question": "Q?", "answer": 2.5}, Problem("set-0", "Q?", "2.5", "generic/set", {"style": "generic"})),
    ],
)
def test_the_first_row_tells_the_style(row: dict[str, object], problem: Problem, tmp_path: Path) -> None:
    assert load_jsonl(write(tmp_path, row)) == [problem]


TESTS = {"suite": "assert f(1) == 2"}
PLAIN, CODE = {"question": "Q?", "answer": "2"}, {"question": "Write f.", "tests": TESTS}


@pytest.mark.parametrize(
    ("rows", "styles"),
    [
        ([PLAIN, {**CODE, "answer": "f = ..."}], ["generic", "code"]),
        ([PLAIN, CODE], ["generic", "code"]),
        ([CODE, PLAIN], ["code", "generic"]),
        ([{**PLAIN, "tests": None}, {**CODE, "answer": None}], ["generic", "code"]),
        ([PLAIN, {"numbers": [3, 4], "target": 7}, {"problem": "P", "answer": "x"}], ["generic", "countdown", "math"]),
        ([{"question": None, "prompt": "P", "answer": "1"}], ["generic"]),
    ],
)
def test_each_row_of_a_mixed_file_is_read_by_its_own_fields(rows: list[object], styles: list[str], tmp_path: Path) -> None:
    """The first row told for all: the tests of a later one were not read, and nobody said so."""
    found = load_jsonl(write(tmp_path, *rows))
    assert [each.meta["style"] for each in found] == styles
    assert [each.source for each in found] == [f"{style}/set" for style in styles]
    assert ["tests" in each.meta for each in found] == [style == "code" for style in styles]


def test_tests_are_read_where_the_question_is_named_and_refused_where_a_style_would_ignore_them(tmp_path: Path) -> None:
    file = write(tmp_path, {"q": "Q?", "answer": "2"}, {"q": "Write f.", "tests": TESTS})
    assert [each.meta["style"] for each in load_jsonl(file, question="q")] == ["generic", "code"]
    with pytest.raises(DataError, match=r"set\.jsonl:2: field 'tests' is not read by style generic; take style auto or code"):
        load_jsonl(file, question="q", style="generic")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"options": ["3", "4", " 3"]}, "field 'options' has '3' twice, as A and C; make them differ"),
        ({"tolerance": 0.1}, "field 'tolerance' is for grader 'numeric'; write \"grader\": \"numeric\", or remove the field"),
        ({"relative": 0.1, "grader": "math"}, "field 'relative' is for grader 'numeric'"),
        ({"tolerence": 0.1, "grader": "numeric"}, "field 'tolerence' is not known; write 'tolerance' if that is meant"),
        ({"Options": ["1", "2"]}, "field 'Options' is not known; write 'options' if that is meant"),
        ({"test": TESTS}, "field 'test' is not known; write 'tests' if that is meant"),
        ({"grade": "numeric"}, "field 'grade' is not known; write 'grader' if that is meant"),
    ],
)
def test_what_would_be_ignored_in_grading_is_refused_with_its_line(more: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_jsonl(write(tmp_path, ROW, {**ROW, "id": "b", **more}))
    assert f"set.jsonl:2: {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_unknown_fields_are_the_files_own_affair(tmp_path: Path) -> None:
    more = {"grade": 8, "subject": "x", "choices": [], "relation": 1, "text": "", "difficulty": 3, "option": "B"}
    assert len(load_jsonl(write(tmp_path, {**ROW, **more, "options": ["2", "3"]}))) == 1


def test_digits_as_text_are_aime_where_the_file_says_so(tmp_path: Path) -> None:
    row = {"problem": "P", "answer": "025"}
    assert load_jsonl(write(tmp_path, row, name="aime_2025.jsonl"))[0].answer == "25"
    assert load_jsonl(write(tmp_path, row, name="other.jsonl"))[0].meta == {"style": "math"}


def test_fields_can_be_named(tmp_path: Path) -> None:
    file = write(tmp_path, {"q": "Q?", "gold": 4, "key": "k1"})
    (problem,) = load_jsonl(file, question="q", answer="gold", id="key")
    assert (problem.id, problem.prompt, problem.answer) == ("k1", "Q?", "4")
    assert load_problems(Part("jsonl", {"file": file, "question": "q", "answer": "gold", "id": "key"})) == [problem]


def test_a_byte_order_mark_crlf_and_blank_lines_are_no_errors(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    rows = [json.dumps({"prompt": "p\u2028q", "answer": "1"}, ensure_ascii=False), "", json.dumps(ROW), "  ", ""]
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    assert [p.id for p in load_jsonl(file)] == ["set-0", "a"]


def test_a_last_line_without_a_line_end_is_read(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps(ROW))
    assert len(load_jsonl(file)) == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([ROW, "{oops}"], ":2: not JSON, column 2: "),
        ([ROW, "[1, 2]"], ":2: not a JSON object but [1, 2]"),
        ([ROW, '{"prompt": "x", "answer": NaN}'], ":2: not JSON: NaN"),
        ([ROW, '{"a":' * 100_000], ":2: nested too deeply"),
        ([ROW, {"id": "b", "prompt": "x"}], ":2: field 'answer' is missing (fields: id, prompt)"),
        ([ROW, {"id": "b", "answer": "x"}], ":2: no field prompt, question, problem (fields: id, answer)"),
        ([ROW, {"id": "b", "prompt": 5, "answer": "x"}], ":2: field 'prompt' must be text, not a number: 5"),
        ([ROW, {"id": "b", "prompt": "x", "answer": ["y"]}], ":2: field 'answer' must be text, not a list: ['y']"),
        ([ROW, {"id": "b", "prompt": "x", "answer": None}], ":2: field 'answer' must be text, not null"),
        ([ROW, {"id": "b", "prompt": " ", "answer": "x"}], ":2: field 'prompt' is empty"),
        ([ROW, {"id": [], "prompt": "x", "answer": "y"}], ":2: field 'id' must be text or an integer, not []"),
        ([ROW, "", {**ROW, "prompt": "other"}], ":3: duplicate id 'a', first on line 1"),
        (
            [{"question": "Q", "answer": "#### 4"}, {"question": "Q", "answer": "4"}],
            ":2: field 'answer' does not end in",
        ),
        (
            [{"problem": "P", "answer": 33}, {"problem": "P", "answer": 1000}],
            ":2: field 'answer' must be an integer from 0",
        ),
        ([{"numbers": [1, "2"], "target": 3}], ":1: field 'numbers' must be a list of integers"),
        ([{"numbers": [1, 2], "target": "3"}], ":1: field 'target' must be an integer, not text: 3"),
        ([{"foo": 1}], ":1: no known fields (fields: foo; known: "),
        ([{"prompt": "x" * 1_000_000, "answer": "y"}], ":1: the line has 1000030 bytes, more than 1000000"),
        ([], ": dataset has 0 problems"),
        (["", "  "], ": dataset has 0 problems"),
    ],
)
def test_a_bad_line_is_one_line_with_its_place_and_reason(lines: list[object], said: str, tmp_path: Path) -> None:
    file = write(tmp_path, *lines)
    with pytest.raises(DataError) as caught:
        load_jsonl(file)
    assert str(caught.value).startswith(f"{file}{said}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 65
    assert len(str(caught.value)) < 400 + len(str(file))


def test_a_cut_last_line_is_called_that(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW)[:20])
    with pytest.raises(DataError, match=r"set\.jsonl:2: not JSON, column .*; the last line looks cut off"):
        load_jsonl(file)


def test_what_is_not_utf8_names_line_and_byte(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_bytes(json.dumps(ROW).encode() + b'\n{"prompt": "caf\xe9", "answer": "1"}\n')
    with pytest.raises(DataError, match=r"set\.jsonl:2: not UTF-8 at byte 16 of the line"):
        load_jsonl(file)


def test_gzip_is_recognised(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_bytes(gzip.compress(json.dumps(ROW).encode()))
    with pytest.raises(DataError, match=r"set\.jsonl:1: is compressed with gzip"):
        load_jsonl(file)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("https://example.org/a.jsonl", "is a URL; download the file"),
        ("no/such.jsonl", "no such file"),
        (".", "is a directory, not a file"),
        ("x" * 5000, "name too long"),
    ],
)
def test_what_is_no_file_says_what_it_is(path: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        load_jsonl(path)
    assert said in str(caught.value).lower().replace("url", "URL")


def test_the_limit_cuts_but_the_whole_file_is_checked(tmp_path: Path) -> None:
    rows = [{**ROW, "id": str(i)} for i in range(5)]
    assert [p.id for p in load_jsonl(write(tmp_path, *rows), limit=2)] == ["0", "1"]
    with pytest.raises(DataError, match=":6: "):
        load_jsonl(write(tmp_path, *rows, "broken"), limit=2)
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        load_jsonl(write(tmp_path, *rows), limit=0)


def test_the_boxed_prompt_asks_for_steps_and_a_box(tmp_path: Path) -> None:
    (problem,) = load_jsonl(write(tmp_path, ROW), prompt="boxed")
    assert problem.prompt.startswith("1+1?\n")
    assert "\\boxed{}" in problem.prompt
    with pytest.raises(ValueError, match=r"unknown prompt 'boxd'; did you mean 'boxed'\?"):
        load_jsonl(write(tmp_path, ROW), prompt="boxd")


def test_a_question_with_braces_goes_through_every_template() -> None:
    question = "Simplify \\frac{1}{2} {question} {0}"
    assert all(question in ask(question, name) for name in PROMPTS)


def test_naming_fields_of_a_style_that_has_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="style gsm8k has fields of its own"):
        load_jsonl(write(tmp_path, ROW), style="gsm8k", question="q")


@pytest.mark.parametrize(
    ("name", "style", "count"),
    [
        ("gsm8k_test_first200", "gsm8k", 200),
        ("math500_first100", "math", 100),
        ("aime2024", "aime", 30),
        ("countdown_first100", "countdown", 100),
    ],
)
def test_samples_of_real_sets_load(name: str, style: str, count: int) -> None:
    file = SHARED / f"{name}.jsonl"
    if not file.exists():
        pytest.skip("the samples are not on this machine")
    problems = load_jsonl(file)
    assert len(problems) == count
    assert {p.meta["style"] for p in problems} == {style}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if style == "gsm8k":
        assert [p.answer for p in problems] == [row["final"] for row in rows]
