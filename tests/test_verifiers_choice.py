"""Multiple choice: the letter an answer names, and its grading."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.problems.jsonl import DataError, load_jsonl
from search.types import Problem
from verifiers.choice import LETTERS, chosen, formed, letter
from verifiers.extract import extractor_for
from verifiers.grade import Graders, Verdict

CITIES = ("Paris", "Rome", "1,200", "an island")


@pytest.mark.parametrize(
    "form",
    [
        *("{}", "({})", "[{}]", "{}.", "{})", "**{}**", "$ {} $", "\\text{{{}}}", "\\textbf{{({})}}", "$\\mathrm{{{}}}$"),
        *("option {}", "Option ({})", "choice {}", "The option {}", "({}) Cecile", "{}) Cecile", "{}. Cecile", "{}: Cecile"),
        *("{} - Cecile", "**{}.** Cecile", "for sure {}, it can't be the others", "option {} because it fits", "{}。不是"),
    ],
)
def test_every_letter_is_read_in_every_form_people_write(form: str) -> None:
    for each in LETTERS:
        assert letter(form.format(each)) == each
    assert extractor_for({"grader": "choice"})(f"So the answer is {form.format('D')}").key == "D"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A or B",
        "(A), (B)",
        "A dog",
        "I think so",
        "K",
        "AB",
        "42",
        "2C",
        "Because",
        "all of the above",
        "ABCD",
        "x_A",
        "not B",
        "neither A nor B",
        "It cannot be B",
        "it isn't B",
    ],
)
def test_what_names_no_letter_or_two_is_not_guessed(text: str) -> None:
    assert letter(text) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("paris", "A"),
        ("**Rome**", "B"),
        ("1200.0", "C"),
        ("An  island.", "D"),
        ("C", "C"),
        ("E", None),
        ("(E) Oslo", None),
        ("Oslo", None),
    ],
)
def test_an_options_text_stands_for_its_letter(text: str, named: str | None) -> None:
    assert letter(text, CITIES) == named


def test_a_text_that_two_options_share_names_neither() -> None:
    assert letter("two", ("two", "three", "2", "TWO")) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("First I look.\nB", "B"),
        ("First I look.\n\n(C) Cecile\n", "C"),
        ("It's not A because it makes no sense, therefore I think it's B", "B"),
        ("A and B fail. I choose D.", "D"),
        ("So it is A good day", None),
        ("B不是 A", "B"),
        ("选 C", "C"),
        ("I have no idea", None),
        ("I think it cannot be B", None),
        ("It is not A, but I would choose C", "C"),
        ("", None),
    ],
)
def test_an_unmarked_choice_is_what_the_text_ends_with(text: str, named: str | None) -> None:
    assert chosen(text) == named
    assert extractor_for("choice")(text).key == named


@pytest.mark.parametrize("said", ["not B", "B or C", "neither A nor B", "A, B"])
def test_a_marked_answer_that_names_no_option_or_two_is_not_rescued_by_the_prose_around_it(said: str) -> None:
    """ "The answer is not B" was graded as B."""
    asked = Problem("p", "", "B", "", {"grader": "choice"})
    text = f"I look at B, so it is B.\nThe answer is {said}"
    with Graders() as graders:
        assert graders.grade(asked, extractor_for(asked.meta)(text).key, text) is Verdict.UNPARSED
        assert graders.grade(asked, None, "I look at A, so I choose B") is Verdict.CORRECT


def test_a_broken_box_is_not_rescued_by_the_last_line() -> None:
    assert extractor_for("choice")("\\boxed{}\nB").key is None


@pytest.mark.parametrize(
    ("text", "named"), [("B", "B"), ("(D) Alina", "D"), ("b", None), ("A-B", None), ("B+1", None), ("AB", None)]
)
def test_in_mathematics_only_what_is_a_letter_and_nothing_else_is_one(text: str, named: str | None) -> None:
    assert formed(text) == named


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(["A", "(", ")", " ", "*", "is ", "\\text{", "}", ".", "\n"])).map("".join)
)
def test_reading_never_raises_and_gives_a_letter_or_nothing(text: str) -> None:
    assert {letter(text), chosen(text), letter(text, CITIES)} <= {None, *LETTERS}


@pytest.mark.parametrize(
    "text", ["(" * 2000, "A " * 1000, "\\text{" * 300, " " * 2000, "is " * 600, "A" + "*" * 1999, "A" * 2000]
)
def test_reading_is_quick_whatever_the_text(text: str) -> None:
    start = time.process_time()
    letter(text, CITIES)
    chosen(text * 20, CITIES)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("gold", "key", "text", "verdict"),
    [
        ("B", "B", "", "correct"),
        ("(B)", "Rome", "", "correct"),
        ("Rome", "b", "", "correct"),
        ("The answer is (B) Rome.", "(B)", "", "correct"),
        ("B", "C", "", "wrong"),
        ("B", "1,200", "", "wrong"),
        ("B", "Oslo", "", "unparsed"),
        ("B", "H", "", "unparsed"),
        ("B", None, "I weigh them.\nB", "correct"),
        ("B", None, "no idea", "unparsed"),
        ("B", None, "", "none"),
        ("Oslo", "B", "", "error"),
    ],
)
def test_a_choice_is_graded_by_its_letter(gold: str, key: str | None, text: str, verdict: str) -> None:
    with Graders() as graders:
        problem = Problem("p", "", gold, "", {"grader": "choice", "options": list(CITIES)})
        assert graders.grade(problem, key, text) == verdict
        assert graders.pool.starts == 0


def test_equal_answers_to_other_options_are_not_one_pair() -> None:
    with Graders() as graders:
        for options, verdict in ((["Paris", "Rome"], "correct"), (["Rome", "Paris"], "wrong")):
            assert graders.grade(Problem("p", "", "B", "", {"grader": "choice", "options": options}), "Rome") == verdict


def rows(folder: Path, *rows: dict[str, object]) -> list[Problem]:
    file = folder / "set.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_jsonl(file)


def test_a_row_with_options_is_a_multiple_choice(tmp_path: Path) -> None:
    asked = {"question": "Which?", "answer": "B"}
    first, second, third = rows(
        tmp_path,
        {**asked, "options": [3, 4.5, "five"]},
        {**asked, "options": {"A": "x", "B": "y"}},
        {**asked, "grader": "math"},
    )
    assert first.meta == {"style": "generic", "grader": "choice", "options": ["3", "4.5", "five"]}
    assert second.meta["options"] == ["x", "y"]
    assert third.meta == {"style": "generic", "grader": "math"}
    with Graders() as graders:
        assert graders.grade(first, "4.50") == "correct"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"grader": "maths"}, "unknown grader 'maths'; did you mean 'math'?"),
        ({"grader": 3}, "field 'grader' must be text, not 3"),
        ({"grader": "exact"}, "grader 'exact' is for the synthetic families"),
        ({"options": ["only"]}, "field 'options' must be a list of 2 to 10 texts"),
        ({"options": {"A": "x", "C": "y"}}, "must have the fields A, B, C... in order, not A, C"),
        ({"options": "A B"}, "field 'options' must be a list"),
        ({"grader": "numeric", "tolerance": -1}, "field 'tolerance' must be a number, 0 or more, not -1"),
        ({"grader": "numeric", "relative": "1%"}, "field 'relative' must be a number"),
    ],
)
def test_a_row_whose_grading_cannot_be_is_refused_with_its_line(row: dict[str, object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        rows(tmp_path, {"question": "q", "answer": "5"}, {"question": "q", "answer": "5", **row})
    assert "set.jsonl:2: " in str(caught.value)
    assert reason in str(caught.value)
