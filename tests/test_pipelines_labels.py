"""Ways to label steps, on completions and annotators that are functions of what they are given."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines.models import load_generator
from pipelines.problems import FAMILIES, Instance, instances
from pipelines.train import annotator, labels, omega, spare
from pipelines.train.labelled import Sample, read, write
from pipelines.train.rollouts import Drawn, Rollouts, Steps, ended, pieces, right, shepherd
from pipelines.train.samples import Solution, exactly

SUM = Instance(
    "word", 2, "Ann has 2 coins. Ann finds 3. Ann finds 4. How many?", "9", "sum", ("2+3=5.", "5+4=9.", r"\boxed{9}")
)


def drawn(*rights: int) -> Drawn:
    return Drawn(tuple(("step", "end") for _ in rights), tuple(map(bool, rights)), (5,) * len(rights))


@dataclass
class Prefixes:
    """Completions by how many steps there are before them: `worth` of ten are right. Keeps what it was asked for."""

    worth: Sequence[int]
    asked: list[Steps] = field(default_factory=list)

    def draw(self, wanted: Sequence[tuple[Instance, Steps]]) -> list[Drawn]:
        self.asked += [steps for _, steps in wanted]
        return [drawn(*[1] * self.worth[len(s) - 1], *[0] * (10 - self.worth[len(s) - 1])) for _, s in wanted]


# ------------------------------------------------------------------------------------------------------- Math-Shepherd


def test_hard_labels_are_any_and_soft_ones_the_share_of_the_completions() -> None:
    """The method card: 1, 0, 0, 0, 0, 0, 0, 0 -> 1 and .125; the last step's label is the outcome."""
    one = drawn(1, 0, 0, 0, 0, 0, 0, 0)
    assert shepherd([one], False, soft=False) == (1.0, 0.0)
    assert shepherd([one], True, soft=True) == (0.125, 1.0)


def test_what_two_solutions_share_is_drawn_and_charged_once() -> None:
    """Charging every solution for a beginning it shares would make rollouts look dearer than they are."""
    source = Prefixes([10, 0])
    twice = [Solution(SUM, ("a", "b", r"\boxed{9}"), 3), Solution(SUM, ("a", "c", r"\boxed{8}"), 3)]
    rows = labels.METHODS["shepherd-hard"](twice, source)
    assert [row.labels for row in rows] == [(1.0, 0.0, 1.0), (1.0, 0.0, 0.0)]
    assert [(row.tokens, row.rollouts) for row in rows] == [(100, 20), (50, 10)]
    assert not rows[0].soft
    assert labels.METHODS["shepherd-soft"](twice, source)[0].soft


def test_nothing_is_drawn_after_a_step_that_already_answers() -> None:
    source = Prefixes([10, 10, 10])
    early = [Solution(SUM, ("a", r"\boxed{8}", "b", r"\boxed{9}"), 3)]
    (row,) = labels.METHODS["shepherd-hard"](early, source)
    assert row.labels == (1.0, 0.0, 1.0, 1.0)
    assert source.asked == [("a",), ("a", r"\boxed{8}", "b")]


# ------------------------------------------------------------------------------------------------------------ OmegaPRM


def halved(count: int, source: Prefixes) -> int:
    """Runs a halving along a solution of `count` steps."""
    steps = tuple(f"s{i}" for i in range(1, count + 1))
    halving = omega.first_zero(count)
    try:
        asked = next(halving)
        while True:
            asked = halving.send(source.draw([(SUM, steps[:asked])])[0])
    except StopIteration as stop:
        return int(stop.value)


def test_halving_finds_the_first_step_without_a_right_completion_in_three_estimates() -> None:
    """The method card: MC 1, .9, .5, .2, 0, 0, 0, 0 -> step 5 in 3 estimates, where one after the other takes 5."""
    source = Prefixes([10, 9, 5, 2, 0, 0, 0, 0])
    assert halved(8, source) == 4
    assert [len(steps) for steps in source.asked] == [4, 6, 5]


@pytest.mark.parametrize("count", range(1, 12))
def test_halving_agrees_with_a_plain_scan_for_every_place(count: int) -> None:
    assert [halved(count, Prefixes([1] * first + [0] * (count - first))) for first in range(count)] == list(range(count))


def test_the_rule_that_chooses_what_to_search_has_the_cards_numbers() -> None:
    assert omega.quality(0.5, 250) == pytest.approx(0.6708, abs=5e-5)
    assert omega.quality(0.5, 250) + omega.bonus(1, 1) == pytest.approx(0.7333, abs=5e-5)


def test_of_wrong_solutions_the_short_ones_of_good_beginnings_are_searched_first() -> None:
    root = Drawn((("a", "b"), ("c", "d"), ("e",)), (False, False, True), (90, 10, 5))
    tree = omega.Tree(root, grown=True)
    tree.states["c",] = omega.State(("c",), Drawn((("x",), ("y",)), (True, False), (5, 5)))
    chosen = tree.select()
    assert chosen is not None
    assert (chosen[0].steps, chosen[1]) == (("c",), 1)  # MC 1/2 there, 1/3 at the root
    assert omega.Tree(root).select() == (omega.State((), root), 1)  # not grown: the root's own, the shorter of the two


def test_a_state_whose_completions_all_fail_is_not_searched_and_the_root_is() -> None:
    """Where all samples are wrong, the root has MC = 0; leaving it out would leave them without labels."""
    tree = omega.Tree(drawn(0, 0), grown=True)
    tree.states["z",] = omega.State(("z",), drawn(0, 0))
    chosen = tree.select()
    assert chosen is not None
    assert chosen[0].steps == ()


def test_omega_labels_up_to_the_first_wrong_step_and_asks_a_beginning_once() -> None:
    source = Prefixes([10, 5, 0, 0])
    wrong = ("a", "b", "c", "d", r"\boxed{8}")
    twice = [Solution(SUM, wrong, 9), Solution(SUM, (*wrong[:4], r"\boxed{7}"), 9), Solution(SUM, ("a", r"\boxed{9}"), 4)]
    rows = labels.METHODS["omega"](twice, source)
    assert rows[0].labels == (1.0, 1.0, 0.0, None, None)
    assert rows[1].labels == (1.0, 1.0, 0.0, None, None)
    assert rows[2].labels == (1.0, 1.0)
    assert len(source.asked) == len(set(source.asked)) < 8
    assert sum(row.rollouts for row in rows) == 10 * len(source.asked)


def test_a_wrong_solution_that_was_not_searched_has_its_outcome_only() -> None:
    rows = labels.by_halving(searches=0)([Solution(SUM, ("a", "b", r"\boxed{8}"), 9)], Prefixes([1, 1]))
    assert rows[0].labels == (None, None, 0.0)


def test_grown_search_adds_the_completions_found_on_the_way() -> None:
    def half(wanted: Sequence[tuple[Instance, Steps]]) -> list[Drawn]:
        return [Drawn((("x", r"\boxed{9}"), (f"y{len(s)}", r"\boxed{1}")), (True, False), (5, 5)) for _, s in wanted]

    class Source:
        draw = staticmethod(half)

    rows = labels.by_halving(searches=3, grown=True)([Solution(SUM, ("a", "b", r"\boxed{8}"), 9)], Source())
    assert [row.steps for row in rows][:2] == [("a", "b", r"\boxed{8}"), ("a", "y1", r"\boxed{1}")]
    assert len(rows) == 3
    assert not any(row.outcome for row in rows)


# --------------------------------------------------------------------------------------------------------------- SPARE


def test_the_pass_by_program_aligns_and_finds_the_kinds_of_errors_it_says() -> None:
    question, reference = (
        "Ann has 12 coins. Ann finds 3. Ann loses 5.",
        ["Finds 3: 12+3=15.", "Loses 5: 15-5=10.", r"\boxed{10}"],
    )

    def first(step: str) -> float:
        return spare.by_program(question, [step, r"\boxed{10}"], reference, True)[0]

    assert first("Finds 3: 12+3=15.") == 1
    assert first("Finds 3: 3+12=15.") == 1  # a sum in another order
    assert first("Finds 3: 12+3=16.") == 0  # does not hold
    assert first("Loses 5: 12-5=7.") == 0  # the same sentence, another equation
    assert first("Loses 5: 15-5=10.") == 0  # a step of the reference, but its 15 is not there yet
    assert first("Finds 9: 12+9=21.") == 0  # a number that is nowhere
    assert first("Something: 12-3=9.") == 1  # another way, no visible error
    assert first("Let us think.") == 0  # states nothing


def test_the_pass_by_program_does_not_see_a_dead_end() -> None:
    """It holds steps against the reference and never solves the problem; calling the exact checker here would make the
    comparison of methods meaningless."""
    instance = next(instances(FAMILIES["countdown"], "train", 0, [1]))
    dead = _dead_ends(instance)
    assert dead
    assert FAMILIES["countdown"].label(instance, [dead[0]]) == [False]
    assert spare.by_program(instance.question, [dead[0], r"\boxed{1}"], instance.steps, False) == (1.0, 0.0)


def _dead_ends(instance: Instance) -> list[str]:
    from pipelines.problems.countdown import listed, moves, reachable

    *numbers, target = map(int, re.findall(r"\d+", instance.question))
    found = [(e, rest) for e, rest in moves(numbers) if not reachable(tuple(sorted(rest)), target)]
    return [f"{e}, {listed(rest, [], target)}" for e, rest in found]


@pytest.mark.parametrize("family", ["word", "countdown"])
def test_reference_solutions_are_all_right_to_the_pass_by_program(family: str) -> None:
    source = instances(FAMILIES[family], "train", 3)
    for instance in (next(source) for _ in range(50)):
        assert set(spare.by_program(instance.question, instance.steps, instance.steps, True)) == {1.0}, instance.steps


def written(*lines: tuple[int, str]) -> str:
    return "\n".join(f"Step {i}: aligned with reference step {i}; errors: none; label: {label}" for i, label in lines)


def test_an_annotators_labels_are_parsed_strictly() -> None:
    """The method card: labels for 1, 2, 4 of five steps -> l1, l2, 0, l4, the outcome."""
    text = written((1, "+1"), (2, "-1"), (4, "+1"))
    assert annotator.parse(text, 5, True) == (1.0, 0.0, 0.0, 1.0, 1.0)
    assert annotator.parse(text, 5, False) == (1.0, 0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    "line",
    [
        "Step 1: label: 1",
        "Step 1: label: +1.",
        "Step 1: label: +10",
        "Step 1 label: +1",
        "step 1: label: +1",
        "Step 1: the label: could be +1",
        "Step 11: label: +1",
        "Step 1: label: +1\nStep 1: label: -1",
        "",
    ],
)
def test_what_is_not_exactly_a_label_is_wrong(line: str) -> None:
    assert annotator.parse(line, 2, True) == (0.0, 1.0)


def echo(prompts: Sequence[str]) -> list[tuple[str, int]]:
    """An annotator that holds a step right when it is also a step of the reference, reading both from its prompt."""
    out = []
    for prompt in prompts:
        reference, steps = (re.findall(r"^\d+\. (.*)$", part, re.MULTILINE) for part in prompt.split("A student's steps:"))
        lines = [f"Step {i}: errors: none; label: {'+1' if s in reference else '-1'}" for i, s in enumerate(steps, 1)]
        out.append(("\n".join(lines), 7 * len(lines)))
    return out


def test_the_annotator_is_shown_problem_reference_and_steps_and_each_solution_gets_its_own_labels() -> None:
    rows = labels.by_annotator(echo)(
        [Solution(SUM, ("2+3=5.", "5+4=8.", r"\boxed{8}"), 9), Solution(SUM, ("2+3=6.", r"\boxed{9}"), 6)], Prefixes([])
    )
    assert [row.labels for row in rows] == [(1.0, 0.0, 0.0), (0.0, 1.0)]
    assert [row.tokens for row in rows] == [21, 14]


def test_a_generator_is_asked_each_prompt_by_itself() -> None:
    """Replies come back in the order in which they end, not in that of the prompts."""
    ask = annotator.asking(load_generator("bundled"), 12)
    prompts = ["Use 4, 2 to make 6.", "Ben has 27 coins. Ben finds 12 more. How many coins does Ben have now?"]
    both = ask(prompts)
    assert both == [ask([prompt])[0] for prompt in prompts]
    assert "27+12" in both[1][0]
    assert all(0 < tokens <= 12 for _, tokens in both)


def test_braces_in_a_problem_do_not_change_the_prompt() -> None:
    """str.format would take {reference} in a question for a place to fill in."""
    text = annotator.prompt("What is {reference}?", ["one"], ["a\nb"])
    assert "What is {reference}?" in text
    assert "1. a b" in text


# ------------------------------------------------------------------------------------------------- files, the generator


def test_labelled_samples_come_back_from_their_file(tmp_path: Path) -> None:
    samples = [Sample("word", "q", ("a", "b"), (0.25, None), False, "g", True, 12, 8)]
    write(samples, tmp_path / "x.jsonl")
    assert read(tmp_path / "x.jsonl") == samples


def test_files_from_before_outcomes_were_kept_are_read(tmp_path: Path) -> None:
    row = {"family": "word", "question": "q", "steps": ["a", "b"], "labels": [True, False], "gold": "c"}
    (tmp_path / "old.jsonl").write_text(json.dumps(row) + "\n")
    assert read(tmp_path / "old.jsonl") == [Sample("word", "q", ("a", "b"), (1.0, 0.0), False, "c")]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"labels": [1]}, "1 labels for 2 steps"), ({"labels": [1, 2]}, "label 2.0"), ({"steps": None}, "line 2")],
)
def test_what_is_no_labelled_sample_is_named_by_its_line(tmp_path: Path, change: dict[str, object], said: str) -> None:
    row = {"family": "word", "question": "q", "steps": ["a", "b"], "labels": [1, 0]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | change) + "\n")
    with pytest.raises(ValueError, match=said) as raised:
        read(tmp_path / "x.jsonl")
    assert "x.jsonl line 2" in str(raised.value)


def test_completions_of_a_beginning_do_not_depend_on_who_else_asks_and_go_on_from_it() -> None:
    model = load_generator("bundled")
    instance = next(instances(FAMILIES["word"], "train", 5, [2]))
    other = next(instances(FAMILIES["countdown"], "train", 5, [1]))
    alone = Rollouts(model, 3).draw([(instance, instance.steps[:2])])
    among = Rollouts(model, 3).draw([(other, ()), (instance, instance.steps[:2]), (instance, instance.steps[:2])])
    assert alone[0] == among[1] == among[2]
    assert alone[0].steps[0][-1].startswith("The answer is")
    assert all(right(instance, (*instance.steps[:2], *s)) == r for s, r in zip(alone[0].steps, alone[0].right, strict=True))
    assert alone[0].mc > 0  # all that is left is to say the answer


def test_a_solution_is_right_by_the_answer_of_its_last_step() -> None:
    assert right(SUM, ("2+3=5.", r"The answer is \boxed{9}"))
    assert not right(SUM, (r"\boxed{9}", "and so on"))
    assert not right(SUM, ())
    assert ended(["a", r"\boxed{}"])
    assert pieces("a\n\nb\n\n") == ("a", "b")


def test_exact_samples_are_cut_after_the_first_wrong_step_and_kept_once() -> None:
    instance = next(instances(FAMILIES["word"], "train", 5, [3]))
    wrong = [Solution(instance, (instance.steps[0], "1+1=3.", last), 9) for last in ("x", "y")]
    (row,) = exactly(wrong)
    assert (row.steps, row.labels, row.outcome, row.gold) == (
        (instance.steps[0], "1+1=3."),
        (1.0, 0.0),
        False,
        instance.steps[1],
    )
