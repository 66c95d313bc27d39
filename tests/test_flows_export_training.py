"""`export --format prm` and `preferences`: labels of steps and pairs, from trees made by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from exports import HOSTILE, PROBLEMS, exported, searched, written

from flows import imports
from flows.export.preferences import Text, around
from flows.parts import part
from search.types import Finish, Part
from store import schema
from store.database import Database, open_database
from store.runs import find_run

# a: one right and one wrong below; b: wrong only; c: pruned; d: right, in one go
TREE = {
    "0": "a\n\n",
    "0.0": "a0 \\boxed{7}",
    "0.1": "a1 \\boxed{8}",
    "1": "b\n\n",
    "1.0": "b0 \\boxed{9}",
    "2": "c\n\n",
    "3": "a\n\nd\n\nd0 \\boxed{7}",
}
ROWS = [
    (["a", "a0 \\boxed{7}"], [True, True]),
    (["a", "a1 \\boxed{8}"], [True, False]),
    (["a", "d", "d0 \\boxed{7}"], [True, True, True]),
    (["b", "b0 \\boxed{9}"], [False, False]),
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "runs.db") as opened:
        yield opened


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    assert pq.read_table(folder / "data.parquet").to_pylist() == found, "the two files are the same rows"
    return found


def labelled(folder: Path) -> list[tuple[list[str], list[Any]]]:
    return [(row["completions"], row["labels"]) for row in rows(folder)]


# ------------------------------------------------------------------------------------------------------------------- prm


def test_a_step_is_right_where_any_solution_below_it_is(database: Database, tmp_path: Path) -> None:
    run = written(database, [TREE], left=["2"])
    exported(database, run, "prm", tmp_path / "out")
    assert sorted(labelled(tmp_path / "out")) == sorted(ROWS)
    assert {row["prompt"] for row in rows(tmp_path / "out")} == {"What is 0?"}
    kinds = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "out" / "data.parquet")}
    assert kinds == {"prompt": "string", "completions": "list<element: string>", "labels": "list<element: bool>"}


def test_soft_labels_are_shares_of_the_solutions_below(database: Database, tmp_path: Path) -> None:
    run = written(database, [TREE], left=["2"])
    made = exported(database, run, "prm", tmp_path / "out", soft=True)
    assert next(labels for steps, labels in labelled(tmp_path / "out") if steps[0] == "a") == [pytest.approx(2 / 3), 1.0]
    assert str(pq.read_schema(tmp_path / "out" / "data.parquet").field("labels").type) == "list<element: double>"
    assert any("TRL's PRMTrainer makes whole numbers of them" in line for line in made.lines())


def test_least_cuts_a_row_where_too_few_solutions_are_below(database: Database, tmp_path: Path) -> None:
    run = written(database, [TREE], left=["2"])
    exported(database, run, "prm", tmp_path / "out", least=2)
    assert labelled(tmp_path / "out") == [(["a"], [True])]


def test_unpruned_leaves_out_what_a_search_has_cut_below(database: Database, tmp_path: Path) -> None:
    tree = {**TREE, "0.2": "a2\n\n"}
    run = written(database, [tree], left=["2", "0.2"])
    exported(database, run, "prm", tmp_path / "out", unpruned=True)
    made = exported(database, run, "prm", tmp_path / "again", unpruned=True)
    assert labelled(tmp_path / "out") == labelled(tmp_path / "again") == [ROWS[3]]
    assert made.left_out["rows below which something was cut"] == 3


def test_what_a_budget_cut_counts_for_nothing_and_what_ran_too_long_is_wrong(database: Database, tmp_path: Path) -> None:
    tree = {"0": "a \\boxed{7}", "1": "b \\boxed{7}", "2": "c \\boxed{7}"}
    run = written(database, [tree], ends={"1": Finish.BUDGET, "2": Finish.LENGTH})
    exported(database, run, "prm", tmp_path / "out")
    assert labelled(tmp_path / "out") == [(["a \\boxed{7}"], [True]), (["c \\boxed{7}"], [False])]


@pytest.mark.parametrize(("format", "options"), [("prm", {}), ("preferences", {}), ("preferences", {"level": "step"})])
def test_what_answers_a_prompt_of_the_strategys_own_is_no_solution(
    database: Database, tmp_path: Path, format: str, options: dict[str, object]
) -> None:
    """A comparison of two solutions was labelled by whether it is the answer to the problem."""
    tree = {"0": "a \\boxed{7}", "1": "b \\boxed{8}", "2": "Better: A. \\boxed{1}", "3": "Better: B. \\boxed{7}", "4": "x\n\n"}
    run = written(database, [tree], prompts={"2": "Which is better?", "3": "Which is better?", "4": "Make a plan."})
    made = exported(database, run, format, tmp_path / "out", **options)
    assert {row["prompt"].strip() for row in rows(tmp_path / "out")} == {"What is 0?"}
    assert len(rows(tmp_path / "out")) == (2 if format == "prm" else 1)
    assert made.left_out["texts to prompts of a strategy's own"] == 2


def test_equal_solutions_are_one_row_and_a_shared_sample_counts_once(database: Database, tmp_path: Path) -> None:
    """Two runs with the same seed have the same samples: counted twice they would be two solutions below a step."""
    tree = {"0": "a\n\nx \\boxed{7}", "1": "a\n\nx \\boxed{7}", "2": "a\n\ny \\boxed{8}"}
    runs = [written(database, [tree], "one"), written(database, [tree], "two")]
    exported(database, runs, "prm", tmp_path / "out", soft=True)
    third = pytest.approx(2 / 3)
    assert labelled(tmp_path / "out") == [(["a", "x \\boxed{7}"], [third, 1.0]), (["a", "y \\boxed{8}"], [third, 0.0])]
    assert "| solutions that several runs share, counted once | 3 |" in (tmp_path / "out" / "README.md").read_text()


def test_equal_texts_of_two_imports_are_two_samples(database: Database, tmp_path: Path) -> None:
    """Greedy answers of two models, as two files: where they were alike, one of them was taken for a copy of the other."""
    for name in ("a", "b"):
        texts = [{"text": "s\n\n7", "answer": "7"}, {"text": f"s\n\n{name}", "answer": "8"}]
        line = {"id": "p", "problem": "What is 0?", "answer": "7", "candidates": texts}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
        imports.run(database.shown, [str(tmp_path / f"{name}.jsonl")], "ponderosa", name=name)
    exported(database, ["a", "b"], "prm", tmp_path / "out", soft=True)
    assert labelled(tmp_path / "out") == [(["s", "7"], [0.5, 1.0]), (["s", "a"], [0.5, 0.0]), (["s", "b"], [0.5, 0.0])]


def test_balance_takes_as_many_right_as_wrong_rows_of_a_problem(database: Database, tmp_path: Path) -> None:
    easy = {"0": "a \\boxed{7}", "1": "b \\boxed{7}"}
    mixed = {"0": "a \\boxed{7}", "1": "b \\boxed{7}", "2": "c \\boxed{8}"}
    run = written(database, [easy, mixed])
    made = exported(database, run, "prm", tmp_path / "out", balance=True)
    assert [(row["prompt"], row["labels"]) for row in rows(tmp_path / "out")] == [
        ("What is 1?", [True]),
        ("What is 1?", [False]),
    ]
    assert made.left_out["rows that had no counterpart"] == 3


def test_labels_of_a_real_tree_are_those_of_its_solutions(tmp_path: Path) -> None:
    with open_database(searched(tmp_path / "real.db")) as db:
        exported(db, ["flat", "tree"], "prm", tmp_path / "hard")
        exported(db, ["flat", "tree"], "prm", tmp_path / "soft", soft=True)
        exported(db, ["flat", "tree"], "prm", tmp_path / "again")
    assert (tmp_path / "hard" / "data.jsonl").read_bytes() == (tmp_path / "again" / "data.jsonl").read_bytes()
    hard, soft = labelled(tmp_path / "hard"), labelled(tmp_path / "soft")
    assert len(hard) > 5
    assert [labels for _, labels in hard] == [[share > 0 for share in shares] for _, shares in soft]
    assert len({json.dumps(row) for row in rows(tmp_path / "hard")}) == len(hard)
    for _, labels in hard:
        assert labels == sorted(labels, reverse=True), "nothing right follows a step that nothing right follows"


# ----------------------------------------------------------------------------------------------------------- preferences


def pairs(folder: Path) -> list[tuple[str, str]]:
    return [(row["chosen"], row["rejected"]) for row in rows(folder)]


def test_pairs_are_of_a_right_and_a_wrong_solution_of_one_problem(database: Database, tmp_path: Path) -> None:
    run = written(database, [TREE, {"0": "only \\boxed{7}"}], left=["2"])
    exported(database, run, "preferences", tmp_path / "out")
    right, wrong = {"a\n\na0 \\boxed{7}", "a\n\nd\n\nd0 \\boxed{7}"}, {"a\n\na1 \\boxed{8}", "b\n\nb0 \\boxed{9}"}
    assert sorted(pairs(tmp_path / "out")) == sorted((a, b) for a in right for b in wrong)
    assert {row["prompt"] for row in rows(tmp_path / "out")} == {"What is 0?"}


def test_a_problem_gives_no_more_pairs_than_asked_and_each_solution_its_turn(database: Database, tmp_path: Path) -> None:
    tree = {str(i): f"{i} \\boxed{{{7 if i < 3 else 8}}}" for i in range(6)}
    run = written(database, [tree, tree])
    exported(database, run, "preferences", tmp_path / "out", pairs=3)
    found = pairs(tmp_path / "out")
    assert len(found) == 6
    assert len({chosen for chosen, _ in found[:3]}) == len({rejected for _, rejected in found[:3]}) == 3


def test_around_has_every_pair_once() -> None:
    right, wrong = [Text(str(i)) for i in range(4)], [Text(str(i)) for i in range(6)]
    for a, b in ((right, wrong), (wrong, right)):
        found = list(around(a, b))
        assert len(found) == len(set(found)) == 24


def test_margin_wants_the_verifier_to_agree(database: Database, tmp_path: Path) -> None:
    tree = {"0": "a \\boxed{7}", "1": "b \\boxed{8}", "2": "c \\boxed{8}", "3": "d \\boxed{8}"}
    run = written(database, [tree], scores={"0": 0.8, "1": 0.75, "2": 0.5})
    exported(database, run, "preferences", tmp_path / "out", margin=0.1)
    assert pairs(tmp_path / "out") == [("a \\boxed{7}", "c \\boxed{8}")], "without a score there is no margin"


def test_margin_takes_the_scores_of_any_run_that_has_the_text(database: Database, tmp_path: Path) -> None:
    """A sweep's first run, without scores, has the samples of the next: their pairs were lost, as many as 1,331 of 1,331."""
    tree = {"0": "a \\boxed{7}", "1": "b \\boxed{8}"}
    runs = [written(database, [tree], "bare"), written(database, [tree], "scored", scores={"0": 0.8, "1": 0.5})]
    third = written(database, [{"0": tree["1"], "1": tree["0"]}], "elsewhere", scores={"0": 0.7, "1": 0.9})
    for i, some in enumerate((runs, runs[::-1])):
        exported(database, some, "preferences", tmp_path / str(i), margin=0.3)
        assert pairs(tmp_path / str(i)) == [(tree["0"], tree["1"])]
    made = exported(database, third, "preferences", tmp_path / "less", margin=0.3)
    assert (pairs(tmp_path / "less"), made.left_out["problems whose pairs the verifier does not part by the margin"]) == ([], 1)


def test_margin_compares_no_verifiers_with_each_other(database: Database, tmp_path: Path) -> None:
    one = written(database, [{"0": "a \\boxed{7}"}], "one", scores={"0": 0.8})
    other = written(database, [{"1": "b \\boxed{8}"}], "two", scores={"1": 0.1})
    exported(database, [one, other], "preferences", tmp_path / "same", margin=0.3)
    assert len(pairs(tmp_path / "same")) == 1
    spec = replace(find_run(database, other).spec, verifier=Part("prm", {"model": "another"}))
    with database.write() as connection:
        connection.execute(schema.run.update().where(schema.run.c.id == other).values(spec=spec.json()))
    exported(database, [one, other], "preferences", tmp_path / "out", margin=0.3)
    assert pairs(tmp_path / "out") == []


def test_a_text_of_very_many_steps_is_written_in_time(database: Database, tmp_path: Path) -> None:
    """Each step had a copy of the steps before it: 400,000 of them took minutes and tens of gigabytes."""
    run = written(database, [{"0": "x\n\n" * 100_000 + "\\boxed{7}", "1": "\\boxed{8}"}])
    began = time.process_time()
    exported(database, run, "prm", tmp_path / "prm")
    exported(database, run, "preferences", tmp_path / "pairs", level="step")
    assert [len(steps) for steps, _ in labelled(tmp_path / "prm")] == [100_001, 1]
    assert len(rows(tmp_path / "pairs")) == 1
    assert time.process_time() - began < 20


def test_balance_takes_as_many_longer_as_shorter_choices(database: Database, tmp_path: Path) -> None:
    longer = {"0": "long, long \\boxed{7}", "1": "s \\boxed{8}"}
    shorter = {"0": "s \\boxed{7}", "1": "long, long \\boxed{8}"}
    run = written(database, [longer, longer, shorter, longer])
    exported(database, run, "preferences", tmp_path / "out", balance=True)
    signs = [len(chosen) > len(rejected) for chosen, rejected in pairs(tmp_path / "out")]
    assert signs == [True, False, True], "the second would have led by two"


def test_pairs_of_steps_follow_one_beginning_and_part_right_from_wrong(database: Database, tmp_path: Path) -> None:
    run = written(database, [TREE], left=["2"])
    exported(database, run, "preferences", tmp_path / "out", level="step")
    found = {(row["prompt"], row["chosen"], row["rejected"]) for row in rows(tmp_path / "out")}
    after_a = "What is 0?\n\na\n\n"
    assert found == {(after_a, "a0 \\boxed{7}", "a1 \\boxed{8}"), (after_a, "d", "a1 \\boxed{8}")}, "a is mixed, and in no pair"


def test_least_counts_for_steps_in_pairs_too(database: Database, tmp_path: Path) -> None:
    run = written(database, [TREE], left=["2"])
    exported(database, run, "preferences", tmp_path / "out", level="step", least=2)
    assert rows(tmp_path / "out") == []


# --------------------------------------------------------------------------------------------------------------- the card


@pytest.mark.parametrize("format", ["prm", "preferences"])
def test_held_out_problems_are_named_on_the_card_and_left_out_of_a_train_split(
    database: Database, tmp_path: Path, format: str
) -> None:
    """Data of a test set would be trained on unnoticed. A bundled set without a split is the test split."""
    train = written(database, [TREE, TREE], "train", set_=part(PROBLEMS), left=["2"])
    test = written(database, [TREE], "test", set_=Part("word", {"count": 1}), left=["2"])
    made = exported(database, [train, test], format, tmp_path / "all")
    card = (tmp_path / "all" / "README.md").read_text()
    assert any(f"run {test} is over test problems" in line for line in made.lines())
    assert f"**Held-out problems are in it** (runs {test})" in card
    assert f"| {train} | word:count=5,levels=4-8,seed=3,split=train | train |" in card
    made = exported(database, [train, test], format, tmp_path / "kept", split="train")
    assert made.left_out["problems that are held out"] == 2, "the other run has it too"
    assert {row["prompt"] for row in rows(tmp_path / "kept")} == {"What is 1?"}
    assert "Held-out problems" not in (tmp_path / "kept" / "README.md").read_text()


def test_runs_over_one_held_out_set_are_told_of_in_one_line(database: Database, tmp_path: Path) -> None:
    """A sweep said the same of each of its runs."""
    test = written(database, [TREE], "test", set_=Part("word", {"count": 1}), left=["2"])
    other = written(database, [TREE], "other", left=["2"])
    with database.write() as connection:
        spec = replace(find_run(database, test).spec, seed=1).json()
        connection.execute(schema.run.update().where(schema.run.c.id == other).values(spec=spec))
    made = exported(database, [test, other], "prm", tmp_path / "out")
    assert made.notes == ["2 runs are over test problems (word:count=1): do not measure on what learns from this"]


def test_a_held_out_problem_is_left_out_of_a_train_split_where_a_file_has_it_too(database: Database, tmp_path: Path) -> None:
    """Of a run that was exported and imported again nobody knew that its problems were of the test set."""
    written(database, [TREE], "test", set_=Part("word", {"count": 1}), left=["2"])
    file = written(database, [TREE, TREE], "file", set_=Part("imported", {}), left=["2"])
    made = exported(database, file, "prm", tmp_path / "out", split="train")
    assert {row["prompt"] for row in rows(tmp_path / "out")} == {"What is 1?"}
    assert made.left_out["problems that are held out"] == 1


def test_a_hostile_text_is_held_as_far_as_it_can_be(database: Database, tmp_path: Path) -> None:
    run = written(database, [{"0": HOSTILE, "1": "x\x00 \\boxed{8}"}])
    made = exported(database, run, "preferences", tmp_path / "out")
    assert pairs(tmp_path / "out") == [(HOSTILE.replace("\ud800", "\ufffd"), "x\x00 \\boxed{8}")]
    assert (made.replaced, "1 lone surrogates" in " ".join(made.lines())) == (1, True)
