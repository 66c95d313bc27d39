"""`ponderosa ask`: the verbs, and what they print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from asked import Tried, samples, spec, write
from command import Command

from flows.asking import SAYS_LITTLE, told
from flows.cli.asking import QUESTIONS as VERBS
from flows.solved import judge
from search.types import Problem
from store.database import open_database
from store.questions import QUESTIONS
from store.questions.question import rests_on_few
from store.readonly import selecting
from verifiers.grade import Graders

ONE = {"p0": samples(("right", 0.9), ("b", 0.2), chosen=0), "p1": samples(("b", 0.7), ("right", 0.6), chosen=0)}
TWO = {"p0": samples(("right", 0.9), chosen=0), "p1": samples(("b", 0.7), chosen=0)}


@pytest.fixture
def made(tmp_path: Path) -> tuple[str, str]:
    """A database with two runs; their ids."""
    with open_database(tmp_path / "made.db") as db:
        return write(db, spec(n=2), ONE, "one").id, write(db, spec("greedy"), TWO, "two").id


def test_every_question_has_a_verb_that_says_what_it_asks() -> None:
    assert {name: question.asks for name, question in QUESTIONS.items()} == VERBS


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_verb_answers_in_json_what_python_gets(name: str, made: tuple[str, str], ponderosa: Command) -> None:
    done = ponderosa("ask", name, *made, "--json", "-d", "made.db")
    with open_database("made.db") as db:
        rows = QUESTIONS[name].ask(db, made)
    few = [SAYS_LITTLE] * rests_on_few(rows)
    none = f"not in the answer, for want of {QUESTIONS[name].needs}: {', '.join(made)}"
    assert (done.code, done.err.splitlines()) == (0, [none] if name == "trend" else few)
    assert [json.loads(line) for line in done.out.splitlines()] == json.loads(json.dumps(rows))


def test_what_a_reader_should_know_is_beside_an_answer_that_goes_to_a_program(tmp_path: Path, ponderosa: Command) -> None:
    """That it rests on few problems, which run it leaves out, and which of two of one name was taken."""
    with open_database(tmp_path / "made.db") as db:
        scored = write(db, spec(n=2), ONE, "one").id
        older = write(db, spec("greedy"), {"p0": samples(("right", None), chosen=0)}, "greedy").id
        newer = write(db, spec("greedy", seed=1), {"p0": samples(("right", None), chosen=0)}, "greedy").id
    done = ponderosa("ask", "verifier", scored, older, "--format", "csv", "-d", "made.db")
    assert done.out.splitlines()[1:] != []
    assert done.err.splitlines() == [
        f"not in the answer, for want of scores of a verifier of its own: {older}",
        SAYS_LITTLE,
    ]
    done = ponderosa("ask", "accuracy", "greedy", "--json", "-d", "made.db")
    assert json.loads(done.out)["run"] == newer
    assert done.err.splitlines() == [f"2 runs have the name 'greedy': {newer}, the newest, is taken", SAYS_LITTLE]
    assert ponderosa("ask", "accuracy", newer, "--quiet", "--json", "-d", "made.db").err == ""


def test_an_answer_without_rows_says_why(made: tuple[str, str], tmp_path: Path, ponderosa: Command) -> None:
    with open_database(tmp_path / "made.db") as db:
        other = write(db, spec(n=2, problems="other"), {"p9": samples(("right", None), chosen=0)}, "other").id
        empty = write(db, spec(n=3), {"p0": Tried([], None, dict.fromkeys(("generated_tokens",), None), status="pending")}).id
    says = "there is no answer, for want of"
    for name, runs, said in (
        ("pairs", made[:1], f"{says} two runs over the same problems of which both have finished and graded some"),
        ("pairs", (made[0], other), f"{says} two runs over the same problems of which both have finished and graded some"),
        ("best", (empty,), f"{says} a run that was graded and whose generated tokens were counted"),
        ("pass-at-k", (empty,), f"not in the answer, for want of solutions that are judged: {empty}"),
        ("tokens", (empty,), f"not in the answer, for want of finished problems whose generated tokens were counted: {empty}"),
    ):
        for format in ("table", "csv"):
            done = ponderosa("ask", name, *runs, "--format", format, "-d", "made.db")
            assert (done.code, done.err) == (0, f"{said}\n"), (name, runs)
    done = ponderosa("ask", "failed", made[0], "-d", "made.db")
    assert (done.code, done.err) == (0, ""), "none is an answer"


def test_an_answer_without_rows_has_its_columns(made: tuple[str, str], ponderosa: Command) -> None:
    head = ponderosa("ask", "failed", made[0], "--format", "markdown", "-d", "made.db").out.splitlines()
    assert head == ["| run | name | problem | attempt | status | tries | verdict | error |", "|" + " --- |" * 8]


def test_a_table_shows_intervals_with_their_values(made: tuple[str, str], ponderosa: Command) -> None:
    done = ponderosa("ask", "accuracy", "all", "--format", "table", "-d", "made.db")
    assert "0.500 [0.095, 0.905]" in done.out
    assert "low" not in done.out.split("\n")[0]
    assert "fewer than 30 problems" in done.out
    assert done.out.index("one") < done.out.index("two"), "in the order in which they were made"


def test_runs_in_pairs_stand_under_their_names(made: tuple[str, str], ponderosa: Command) -> None:
    """Not as the first and the second: of two runs both are named, of more the one that all are compared with."""
    told = ponderosa("ask", "pairs", *made, "--format", "table", "-d", "made.db").out.split("\n")[0]
    assert re.search(r"few  one +two +difference .* only one  only two", told)
    with open_database("made.db") as db:
        more = write(db, spec("beam"), TWO, "three").id
    told = ponderosa("ask", "pairs", *made, more, "--format", "table", "-d", "made.db").out.split("\n")[0]
    assert re.search(r"few  one +accuracy +difference .* only one  only_run", told)


def test_the_sql_of_an_answer_can_be_asked_by_itself(made: tuple[str, str], ponderosa: Command) -> None:
    done = ponderosa("ask", "oracle-gap", made[0], "--sql", "-d", "made.db")
    with selecting("made.db", done.out) as found:
        [row] = [dict(zip(found.columns, each, strict=True)) for each in found.rows]
    assert (row["problems"], row["was_right"], row["solved"], row["missed"]) == (2, 1, 2, 1)
    told = json.loads(ponderosa("ask", "oracle-gap", made[0], "--sql", "--json", "-d", "made.db").out)
    assert told == {"question": "oracle-gap", "sql": done.out.removesuffix("\n")}
    done = ponderosa("ask", "oracle-gap", made[0], "--sql", "-o", "rows.csv", "-d", "made.db")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("ending", "read"),
    [(".csv", pd.read_csv), (".parquet", pd.read_parquet), (".jsonl", lambda f: pd.read_json(f, lines=True))],
)
def test_answers_are_written_to_files(
    ending: str, read: Callable[[str], pd.DataFrame], made: tuple[str, str], ponderosa: Command
) -> None:
    words = ("ask", "pass-at-k", *made, "-o", f"rows{ending}", "-d", "made.db")
    assert ponderosa(*words).code == 0
    assert read(f"rows{ending}")["share"].tolist() == [0.5, 1.0, 0.5]
    again = ponderosa(*words)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "--force" in again.err
    assert ponderosa(*words, "--force").code == 0


def test_the_sql_is_printed_and_no_file_is_passed_over(made: tuple[str, str], ponderosa: Command) -> None:
    done = ponderosa("ask", "lost", "--sql", "-o", "rows.csv", "-d", "made.db")
    assert (done.code, done.err) == (2, "ponderosa: --sql prints the SQL, and --output is for the answer; give one of them\n")


def test_a_run_that_is_not_there_is_said(made: tuple[str, str], ponderosa: Command) -> None:
    done = ponderosa("ask", "lost", "nonesuch", "-d", "made.db")
    assert (done.code, done.out, done.err.count("\n")) == (65, "", 1)
    assert "the nearest are" in done.err


def test_a_question_derives_the_solutions_that_nobody_has_yet(tmp_path: Path, ponderosa: Command) -> None:
    with open_database(tmp_path / "old.db") as db:
        write(db, spec(n=2), ONE, "one", derived=False)
    done = ponderosa("ask", "oracle-gap", "latest", "--json", "-d", "old.db")
    assert done.code == 0
    with open_database(tmp_path / "old.db") as db, db.read() as connection:
        assert connection.exec_driver_sql("SELECT sum(solutions) FROM attempt").scalar() == 4


def test_an_answer_that_its_grader_cannot_decide_is_neither_right_nor_wrong() -> None:
    four, unreadable = (Problem("p", "?", reference, "fake", {"grader": "integer"}) for reference in ("4", "four"))
    with Graders() as graders:
        assert judge(graders)([(four, "4"), (four, "5"), (unreadable, "4")]) == [True, False, None]


def test_a_small_p_is_not_shown_as_0() -> None:
    row = dict.fromkeys(QUESTIONS["pairs"].columns) | {"p": 0.0001, "p_holm": 0.0}
    assert told(QUESTIONS["pairs"], [row]) == (["p", "p_holm"], [("<0.001", "0.000")])
