"""The constraint of a run: a step whose text it does not allow is barred, for every strategy and without its help."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import numpy as np
import pytest
from fakes import boxed, question
from laws import LAWS, World

from flows import audit, work
from flows.parts import spec
from search.strategies import build
from search.tree import Tree, constraint_of
from search.types import ROOT, Extend, Extension, Finish, Part, State, Step, Until, parent_of
from store.database import open_database

PARTS = (
    Part("best-of-n", {"n": 6}),
    Part("beam", {"n": 4, "keep": 2}),
    Part("particles", {"n": 4, "ess": 1.0}),
    Part("awrs", {"n": 3}),
    Part("plan-search", {"observations": 2}),
)
# all but the law by which what is pruned was marked: a barred step is born pruned
KEPT = [law for law in LAWS if law != "what_is_dropped_stays_dropped"]


def well(text: str) -> bool:
    """No step may begin with a bad word."""
    return not text.startswith("bad")


@dataclass(frozen=True)
class Constrained(World):
    def tree(self, name: str, reference: str = "") -> Tree:
        made = super().tree(name, reference)
        made.constraint = well
        return made


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_a_barred_step_is_stored_with_its_cause_and_never_goes_on_nor_wins(part: Part) -> None:
    barred = 0
    for tree, choice in Constrained().run(build(part)).choices():
        for path, candidate in tree.candidates.items():
            texts = [piece.strip() for piece in candidate.step.text.split("\n\n") if piece.strip()]
            if candidate.step.finish is Finish.BARRED:
                barred += 1
                assert not all(map(well, texts)), f"{path} is barred, and it is well"
                aside = path in tree.prompts and tree.states[path][0] is State.ASIDE
                assert aside or tree.states[path] == (State.PRUNED, "breaks the constraint")
                assert tree.answer(path).key is None
            elif candidate.step.finish in (Finish.STEP, Finish.END):
                assert all(map(well, texts)), f"{path} ended against the constraint"
            asks = path in tree.prompts
            parent = tree.candidates.get(parent_of(path))
            assert asks or parent is None or parent.step.finish is not Finish.BARRED, f"{path} goes on from a barred step"
        assert choice.path is None or tree.candidates[choice.path].step.finish is Finish.END
    assert barred or part.name == "awrs", "nothing was barred, so this shows nothing"


@pytest.mark.parametrize("law", KEPT)
@pytest.mark.parametrize("part", PARTS[:3], ids=str)
def test_the_laws_hold_under_a_constraint(part: Part, law: str) -> None:
    """Among them that a search is replayed to the same tree: what is barred is decided when a reply comes, and not stored."""
    LAWS[law](build(part), Constrained())


def ended(text: str, finish: Finish, allowed: str = r"\d") -> Finish:
    """What becomes of a step that ended so, under a regular expression."""
    made = Tree(question("q"), boxed, constraint=constraint_of(replace(spec("countdown", "greedy"), constraint=allowed)))
    running = made.extend([ROOT], until=Until.STEP)
    assert isinstance(next(running), Extend)
    none = np.zeros(1, dtype=np.float32)
    with pytest.raises(StopIteration):
        running.send(Extension((Step(np.zeros(1, dtype=np.int32), text, none, none, none, finish),)))
    return made.candidates["0"].step.finish


def test_each_piece_of_a_text_must_hold_a_match_and_what_did_not_end_by_itself_is_left_alone() -> None:
    assert ended("one 1\n\n", Finish.STEP) is Finish.STEP
    assert ended("one\n\n", Finish.STEP) is Finish.BARRED
    assert ended("one 1\n\ntwo\n\nthree 3", Finish.END) is Finish.BARRED, "a solution in one go is judged step by step"
    assert ended("one 1\n\ntwo 2\n\n\n\n", Finish.END) is Finish.END, "an empty piece is no step"
    assert ended("one", Finish.LENGTH) is Finish.LENGTH
    assert ended("one", Finish.CANCELLED) is Finish.CANCELLED
    assert ended("one", Finish.END, "") is Finish.END


def test_a_run_without_a_constraint_has_the_id_that_it_had_before_there_was_one() -> None:
    plain = spec("countdown:count=2", "greedy")
    assert "constraint" not in plain.json()
    assert replace(plain, constraint="x").id != plain.id
    with pytest.raises(ValueError, match=r"constraint '\(x' is no regular expression"):
        replace(plain, constraint="(x")


def test_a_run_of_the_bundled_model_bars_what_its_expression_does_not_match(tmp_path: FilePath) -> None:
    """Steps without a multiplication alone: barred ones are in the database with their cause, and the audit replays them."""
    asked = replace(spec("countdown:count=4", "beam:n=4,keep=2"), constraint=r"\A[^*]*\Z")
    with open_database(tmp_path / "runs.db") as database:
        run = work.evaluate(database, asked)
        assert audit.run(database, run) == 0
        with sqlite3.connect(database.shown) as connection:
            rows = connection.execute("select text, state, cause, finish from candidate").fetchall()
            chosen = connection.execute(
                "select c.text from attempt a join candidate c on c.attempt_id = a.id and c.path = a.path"
            ).fetchall()
    barred = [row for row in rows if row[2] == "breaks the constraint"]
    assert barred
    assert all("*" in text and state == "pruned" for text, state, _, _ in barred)
    assert not any("*" in text for text, state, _, _ in rows if state in ("live", "finished"))
    assert chosen
    assert not any(re.search(r"\*", text) for (text,) in chosen)
