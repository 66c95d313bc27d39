"""PlanSearch, in-context novelty and self-agreement: what is asked, from what, and who may vote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path as FilePath

import numpy as np
import pytest
from fakes import boxed, spelled

from flows import audit, work
from flows.parts import spec
from pipelines.models import load_generator
from search.drive import Driver, Search
from search.select import Selector
from search.strategies import Strategy
from search.strategies.asking import filled, lines_of, tail
from search.strategies.icn import ICN
from search.strategies.plan_search import PlanSearch, spread, subsets
from search.strategies.self_agreement import SelfAgreement
from search.tree import Tree
from search.types import (
    GREEDY,
    ROOT,
    Ask,
    Budget,
    Candidate,
    Choice,
    Extend,
    Extension,
    Finish,
    Path,
    Question,
    State,
    Step,
    Until,
    parent_of,
)
from store.database import open_database

PROBLEM = "Add {two} numbers, \\frac{1}{2} and {problem}."
Says = Callable[[str, Path], str]


@dataclass
class Talker:
    """Answers each prompt ("": the problem's own) at once with a text, one token a word; a text that ends in "..." is cut."""

    says: Says
    asked: list[tuple[Path, str]] = field(default_factory=list)
    waiting: list[tuple[int, Extend]] = field(default_factory=list)

    def submit(self, search: int, request: Extend) -> None:
        self.waiting.append((search, request))

    def advance(self) -> list[tuple[int, Extension]]:
        done = [
            (search, Extension(tuple(self.step(request, row.path) for row in request.rows))) for search, request in self.waiting
        ]
        self.waiting = []
        return done

    def step(self, request: Extend, path: Path) -> Step:
        self.asked.append((path, request.prompt or ""))
        text = self.says(request.prompt or "", path)
        zeros = np.zeros(len(text.split()) + 1, dtype=np.float32)
        finish = Finish.LENGTH if text.endswith("...") else Finish.END
        return Step(np.arange(len(zeros), dtype=np.int32), text, zeros, zeros, zeros, finish)

    def forget(self, search: int) -> None:
        self.waiting = []

    @property
    def busy(self) -> bool:
        return bool(self.waiting)


def played(strategy: Strategy, says: Says, budget: Budget = Budget()) -> tuple[Tree, Choice, list[tuple[Path, str]]]:
    talker = Talker(says)
    tree = Tree(Question("q", PROBLEM, (1, 2)), boxed, budget=budget, encode=spelled, render=spelled)
    (outcome,) = Driver(talker).drive([Search(0, tree, strategy)])
    assert outcome.choice is not None, outcome.error
    return tree, outcome.choice, talker.asked


def kind(prompt: str) -> str:
    for words, name in (
        ("observations that could help", "observe"),
        ("new observations", "derive"),
        ("a plan to solve it that uses", "plan"),
        ("is wrong", "mend"),
        ("by the following plan", "solve"),
    ):
        if words in prompt:
            return name
    raise AssertionError(f"an unknown prompt: {prompt}")


NAMES = [f"obs-{letter}" for letter in "abcdefghij"]


def obliging(prompt: str, path: Path) -> str:
    """Ten observations, two more that follow, a plan with a box that must not count, and an answer."""
    return {
        "observe": "Here they are:\n\n" + "\n".join(f"{i}. {name}" for i, name in enumerate(NAMES, start=1)) + "\n\\boxed{9}",
        "derive": "- derived-1\n- derived-2",
        "plan": "use \\boxed{9} " + path,
        "mend": "mended \\boxed{9} " + path,
        "solve": "so \\boxed{1}" if path.endswith(".0") else "so \\boxed{2}",
    }[kind(prompt)]


def of_kind(asked: list[tuple[Path, str]], wanted: str) -> list[tuple[Path, str]]:
    return [(path, prompt) for path, prompt in asked if kind(prompt) == wanted]


# ---------------------------------------------------------------------------------------------------------- plan-search


def test_ten_observations_by_twos_are_56_subsets() -> None:
    found = subsets(range(10), 2)
    assert len(found) == len(set(found)) == 56
    assert (found[0], found[1], found[-1]) == ((), (0,), (8, 9))
    assert subsets([], 2) == [()]
    assert len(subsets(range(3), 5)) == 8


def test_a_cap_takes_evenly_from_all_sizes() -> None:
    assert spread(range(56), 0) == spread(range(56), 99) == list(range(56))
    assert spread(range(56), 8) == [0, 7, 14, 21, 28, 35, 42, 49]
    assert {len(those) for those in spread(subsets(range(10), 2), 16)} == {0, 1, 2}


def test_each_subset_has_a_plan_that_is_told_just_its_observations_and_a_solution_that_is_told_the_plan() -> None:
    tree, choice, asked = played(PlanSearch(combinations=0), obliging)
    plans, solutions = of_kind(asked, "plan"), of_kind(asked, "solve")
    assert len(asked) == 1 + 56 + 56
    told = [tuple(name for name in NAMES if name in prompt) for _, prompt in plans]
    assert sorted(told) == sorted(those for k in range(3) for those in combinations(NAMES, k))
    assert [path for path, _ in plans if parent_of(path) != "0"] == []
    for (path, prompt), (plan, _) in zip(solutions, plans, strict=True):
        assert parent_of(path) == plan
        assert tree.text(plan) in prompt
    assert all(PROBLEM in prompt for _, prompt in asked), "a brace in the problem was taken for a place to fill"
    assert (choice.answer, [vote.count for vote in choice.votes]) == ("1", [56]), "a plan or an observation had a vote"
    assert all(tree.prompts[path] == prompt for path, prompt in asked)


def test_criticism_doubles_the_solutions_and_solves_the_mended_plan() -> None:
    tree, choice, asked = played(PlanSearch(observations=4, combinations=3, criticise=True), obliging)
    assert [kind(prompt) for _, prompt in asked] == ["observe", *(["plan", "solve", "mend", "solve"] * 3)]
    for (mended, prompt), (solution, last) in zip(of_kind(asked, "mend"), of_kind(asked, "solve")[1::2], strict=True):
        assert tree.text(parent_of(mended)) in prompt
        assert parent_of(solution) == mended
        assert tree.text(mended) in last
    assert sum(vote.count for vote in choice.votes) == 6


def test_a_second_layer_is_derived_from_each_subset_and_told_to_its_plan() -> None:
    _, _, asked = played(PlanSearch(observations=2, layers=2), obliging)
    assert [kind(prompt) for _, prompt in asked] == ["observe", "plan", "solve", *(["derive", "plan", "solve"] * 3)]
    for (derived, prompt), (plan, told) in zip(of_kind(asked, "derive"), of_kind(asked, "plan")[1:], strict=True):
        assert parent_of(plan) == derived
        names = [name for name in NAMES[:2] if name in prompt]
        assert names
        assert all(name in told for name in [*names, "derived-1", "derived-2"])


def test_a_list_that_is_too_short_is_asked_for_others_than_are_known() -> None:
    def slow(prompt: str, path: Path) -> str:
        return f"- thought{len(path)}" if kind(prompt) == "observe" and len(path) < 6 else obliging(prompt, path)

    _, _, asked = played(PlanSearch(observations=3, combinations=1), slow)
    lists = of_kind(asked, "observe")
    assert [path for path, _ in lists] == ["0", "0.0", "0.0.0"]
    assert "thought" not in lists[0][1]
    assert "- thought1\n- thought3" in lists[2][1]
    assert "Write 1 observations" in lists[2][1]
    assert of_kind(asked, "plan")[0][0] == "0.0.0.0"


@pytest.mark.parametrize("text", ["", "\n\n", "Here they are:", "half a line..."])
def test_without_observations_there_is_one_plan_of_the_problem_alone(text: str) -> None:
    _, choice, asked = played(PlanSearch(), lambda prompt, path: text if kind(prompt) == "observe" else obliging(prompt, path))
    assert [kind(prompt) for _, prompt in asked] == ["observe", "plan", "solve"]
    assert "What is known" not in asked[1][1]
    assert choice.answer == "1"


def test_a_budget_leaves_whole_solutions_and_not_plans_alone() -> None:
    for most, solutions in ((1, 0), (2, 0), (3, 1), (4, 1), (9, 4)):
        tree, choice, asked = played(PlanSearch(), obliging, Budget(candidates=most))
        assert len(tree.candidates) == most
        assert len(of_kind(asked, "solve")) == solutions
        assert (choice.answer is not None) == (solutions > 0)
        assert sum(vote.count for vote in choice.votes) == solutions


def test_a_selector_that_scores_is_given_the_solutions_alone() -> None:
    tree, _, _ = played(PlanSearch(combinations=4), obliging)
    running = PlanSearch(combinations=4, select=Selector("best")).search(replaced(tree))
    talker, request = Talker(obliging), next(running)
    while isinstance(request, Extend):
        request = running.send(Extension(tuple(talker.step(request, row.path) for row in request.rows)))
    assert [kind(dict(talker.asked)[path]) for path in request.paths] == ["solve"] * 4


def replaced(tree: Tree) -> Tree:
    return Tree(tree.question, boxed, encode=spelled, render=spelled)


# -------------------------------------------------------------------------------------------------------------- helpers


def listed(text: str, finish: Finish = Finish.END) -> list[str]:
    none = np.zeros(0, dtype=np.float32)
    return lines_of(Candidate("0", Step(none.astype(np.int32), text, none, none, none, finish)))


def test_a_list_is_read_with_or_without_its_bullets() -> None:
    assert listed("Well:\n- a\n* b\n1. c\n2) d\n- a\nbye") == ["a", "b", "c", "d"]
    assert listed("first\n\n second \nIn short:") == ["first", "second"]
    assert listed("3 * 8 = 24\n-5 + 2") == ["3 * 8 = 24", "-5 + 2"], "a number is no bullet"
    assert listed("- a\n- b\n- half", Finish.LENGTH) == ["a", "b"]


def test_a_template_is_filled_in_one_pass() -> None:
    assert filled("{a} {b} \\boxed{} {c}", a="{b}", b="x") == "{b} x \\boxed{} {c}"


def test_of_a_long_text_the_end_is_shown() -> None:
    tree = Tree(Question("q", "q", ()), boxed, encode=spelled)
    text = " ".join(f"w{i}" for i in range(50)) + " \\boxed{3}"
    kept = tail(tree, text, 5)
    assert kept.startswith("...")
    assert kept.endswith("\\boxed{3}")
    assert 3 <= len(spelled(kept[3:])) <= 5
    assert tail(tree, text, 51) == text
    assert tail(tree, text, 0) == "..."


# ------------------------------------------------------------------------------------------------------------------ icn


def test_each_solution_is_asked_for_with_the_last_ones_in_sight() -> None:
    def counting(prompt: str, path: Path) -> str:
        return f"way{path} \\boxed{{{path}}}" + ("..." if path == "2" else "")

    tree, choice, asked = played(ICN(n=6, keep=2), counting)
    assert [path for path, _ in asked] == list("012345")
    assert asked[0][1] == "", "the first is of the problem alone"
    shown = [[i for i in range(6) if f"way{i}" in prompt] for _, prompt in asked]
    assert shown == [[], [0], [0, 1], [0, 1], [1, 3], [3, 4]], "a cut one was shown, or not the last two"
    assert all(PROBLEM in prompt and "different way" in prompt for _, prompt in asked[1:])
    assert "0" not in tree.prompts
    assert choice.answer == "0"
    assert sum(vote.count for vote in choice.votes) == 5


def test_what_is_shown_fits_its_room() -> None:
    def lengthy(prompt: str, path: Path) -> str:
        return "word " * 200 + f"\\boxed{{{path}}}"

    _, _, asked = played(ICN(n=4, keep=3, room=30), lengthy)
    for i, (_, prompt) in enumerate(asked[1:], start=1):
        assert all(f"\\boxed{{{j}}}" in prompt for j in range(i)), "the answer is what must stay"
        assert prompt.count("word ") <= 30


# -------------------------------------------------------------------------------------------------------- self-agreement


def answering(digits: str, last: str) -> Says:
    return lambda prompt, path: last if prompt else f"I say \\boxed{{{digits[int(path)]}}}"


def test_of_identical_solutions_the_answer_is_theirs_where_the_model_reads_them() -> None:
    def reading(prompt: str, path: Path) -> str:
        return f"they say \\boxed{{{prompt.split('boxed{')[1][0]}}}" if prompt else "I say \\boxed{3}"

    _, choice, asked = played(SelfAgreement(n=4), reading)
    assert (choice.path, choice.answer) == ("4", "3")
    assert "and it is their majority" in choice.reason
    assert asked[-1][1].count("I say \\boxed{3}") == 4
    assert PROBLEM in asked[-1][1]


def test_the_models_word_stands_against_the_majority_and_is_said_to() -> None:
    _, choice, _ = played(SelfAgreement(n=3), answering("112", "it is \\boxed{2}"))
    assert (choice.path, choice.answer) == ("3", "2")
    assert "their majority is 1" in choice.reason


def test_without_an_answer_it_is_the_majority_and_why_is_said() -> None:
    tree, choice, _ = played(SelfAgreement(n=3), answering("112", "I cannot tell"))
    assert (choice.path, choice.answer) == ("0", "1")
    assert choice.reason.endswith("the model gave no answer: no boxed answer")
    assert tree.states["3"][0] is State.FINISHED
    cut = played(SelfAgreement(n=3), answering("112", "it is \\boxed{2}..."))[1]
    assert (cut.answer, cut.reason.endswith("not finished (length)")) == ("1", True)
    short = played(SelfAgreement(n=3), answering("112", "\\boxed{2}"), Budget(candidates=3))[1]
    assert (short.answer, "the budget did not allow" in short.reason) == ("1", True)
    alone = played(SelfAgreement(n=1), answering("1", "\\boxed{2}"))[1]
    assert (alone.answer, "nothing to agree on" in alone.reason) == ("1", True)


def test_wrong_parameters_are_refused_in_one_line() -> None:
    for make, says in (
        (lambda: PlanSearch(layers=3), "layers must be 1 or 2, not 3"),
        (lambda: PlanSearch(combinations=-1), r"combinations must be 0 \(off\) or more, not -1"),
        (lambda: PlanSearch(size=0), "size must be at least 1, not 0"),
        (lambda: ICN(keep=0), "keep must be at least 1, not 0"),
        (lambda: SelfAgreement(room=0), "room must be at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=says):
            make()


# ---------------------------------------------------------------------------------------------------------- the model


@dataclass(frozen=True)
class Asking:
    """A solution, and then one of another problem in four places of the tree."""

    other: str

    def search(self, tree: Tree) -> Ask[Choice]:
        (own,) = yield from tree.extend([ROOT], until=Until.END, sampling=GREEDY)
        for at in (own.path, ROOT):
            yield from tree.extend([at], until=Until.END, sampling=GREEDY, prompt=self.other)
        (step,) = yield from tree.extend([ROOT], until=Until.STEP, sampling=GREEDY, prompt=self.other)
        yield from tree.extend([step], until=Until.END, sampling=GREEDY)
        yield from tree.extend([ROOT], until=Until.END, sampling=GREEDY)
        return Choice(None, None, "asked")


def test_what_answers_a_question_of_its_own_reads_that_question_and_nothing_else() -> None:
    """The engine keeps a prefix under the parent's path. A child by name that took it read the search's own problem."""
    model, mine, other = load_generator(), "Use 3, 5, 7, 2 to make 24.", "Use 9, 4, 6, 1 to make 30."

    def solved(strategy: Strategy, question: str) -> Tree:
        tree = Tree(Question("q", question, model.encode(question)), boxed, encode=model.plainly, render=model.encode)
        (outcome,) = Driver(model.engine).drive([Search(0, tree, strategy)])
        assert outcome.choice is not None, outcome.error
        return tree

    tree, alone = solved(Asking(other), mine), solved(Asking(mine), other)
    assert alone.text("0") != tree.text("0")
    assert [tree.text(path) for path in ("0.0", "1", "2.0")] == [alone.text("0")] * 3
    assert tree.text("3") == tree.text("0")


@pytest.mark.parametrize("strategy", ["plan-search:observations=3,combinations=3", "icn:n=3,keep=2", "self-agreement:n=3"])
def test_a_run_on_the_bundled_model_is_audited_without_a_fault(tmp_path: FilePath, strategy: str) -> None:
    """The bundled model follows no instructions: what it says is of no use, but stored, charged and replayed."""
    with open_database(tmp_path / "runs.db") as database:
        run = work.evaluate(database, replace(spec("countdown:count=2", strategy), seed=3))
        assert audit.run(database, run) == 0
