"""`store/questions/README.md` is what the questions are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from store import queries
from store.questions import QUESTIONS

README = (Path(__file__).parent.parent / "store" / "questions" / "README.md").read_text()
SECTIONS = {part.split("`")[0]: part for part in re.split(r"^## `", README, flags=re.MULTILINE)[1:]}


def test_every_question_has_its_section_and_no_other() -> None:
    assert list(SECTIONS) == list(QUESTIONS)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_section_has_the_questions_sql_and_an_answer(name: str) -> None:
    question, section = QUESTIONS[name], SECTIONS[name]
    assert question.sql.strip().replace("{runs}", "'RUN'") in section, "python -m flows.figures.questions"
    assert f"{question.asks} {question.says}" in section
    answer = section.split(f"$ ponderosa ask {name} RUN...\n")[1]
    assert name == "failed" or not answer.startswith("(no rows)"), "an example without an answer shows nothing"
    if not answer.startswith("(no rows)"):
        head, first = (set(line.split()) for line in answer.split("\n")[:2])
        assert head - first <= set(question.columns), "a title that is no column's name is a run's"
    assert re.search(r"^\((\d[\d,]* rows|no rows)\)$", answer, re.MULTILINE)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_a_function_of_the_queries_too(name: str) -> None:
    assert getattr(queries, name.replace("-", "_")) == QUESTIONS[name].frame


def test_what_is_no_question_is_no_function() -> None:
    with pytest.raises(AttributeError, match="nonesuch"):
        queries.nonesuch  # noqa: B018
