"""The synthetic families, their splits and labels, and the sets drawn from them."""

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.problems import FAMILIES, SPLITS, instances
from pipelines.problems.countdown import Countdown, canonical, evaluate, parse, reachable
from pipelines.problems.load import levels_of, load_problems
from pipelines.problems.synthetic import synthetic
from search.types import Part

DRAWS = 3000


@pytest.mark.parametrize("name", FAMILIES)
def test_train_validation_and_test_share_no_instance(name: str) -> None:
    family = FAMILIES[name]
    counts = {"train": DRAWS, "validation": DRAWS // 10, "test": DRAWS // 10}
    drawn = {split: {i.key for i in itertools.islice(instances(family, split, seed=1), counts[split])} for split in SPLITS}
    questions = {
        split: {i.question for i in itertools.islice(instances(family, split, seed=2), counts[split] // 3)} for split in SPLITS
    }
    for first, second in itertools.combinations(SPLITS, 2):
        assert not drawn[first] & drawn[second]
        assert not questions[first] & questions[second], "nor a question, whatever its key"


@pytest.mark.parametrize("name", FAMILIES)
def test_one_in_ten_is_test_and_one_in_ten_validation(name: str) -> None:
    family, rng = FAMILIES[name], random.Random(5)
    splits: list[str] = [family.make(rng, rng.choice(family.levels)).split for _ in range(DRAWS)]
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(splits.count(split) / DRAWS - share) < 0.04


@pytest.mark.parametrize("name", FAMILIES)
def test_gold_steps_are_labelled_right_and_give_the_answer(name: str) -> None:
    family, rng = FAMILIES[name], random.Random(6)
    for _ in range(500):
        instance = family.make(rng, rng.choice(family.levels))
        assert family.label(instance, instance.steps) == [True] * len(instance.steps)
        boxed = instance.steps[-1].partition("\\boxed{")[2].removesuffix("}")
        assert family.check(instance.answer, boxed)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_corrupted_solution_ends_in_its_only_wrong_step(name: str) -> None:
    family, rng = FAMILIES[name], random.Random(8)
    for _ in range(1000):
        instance = family.make(rng, rng.choice(family.levels))
        steps = family.corrupt(rng, instance)
        labels = family.label(instance, steps)
        assert labels == [True] * (len(steps) - 1) + [False], (instance.question, steps)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("text", ["", "x", "-", "((", "1e9", "\\frac{1}{2}", "9" * 100])
def test_no_family_takes_an_answer_it_cannot_read(name: str, text: str) -> None:
    instance = FAMILIES[name].make(random.Random(1), FAMILIES[name].levels[0])
    assert not FAMILIES[name].check(instance.answer, text)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_synthetic_set_is_distinct_and_repeats(name: str) -> None:
    problems = synthetic(name, "test", 60, seed=3)
    assert len({p.id for p in problems}) == len({p.prompt for p in problems}) == 60
    assert synthetic(name, "test", 60, seed=3) == problems
    assert synthetic(name, "test", 20, seed=3) == problems[:20], "a smaller set is the beginning of a larger one"
    assert synthetic(name, "test", 60, seed=4) != problems
    assert problems[17].id == f"{name}-test-3-17"
    assert problems[0].source == f"synthetic/{name}"
    assert problems[0].meta == {"family": name, "level": FAMILIES[name].levels[0]}


def test_levels_are_those_asked_for() -> None:
    assert {p.meta["level"] for p in synthetic("word", count=20, levels=(2, 5))} == {2, 5}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"family": "wrod"}, "unknown family 'wrod'; did you mean 'word'? (countdown, guess, word)"),
        ({"family": "word", "split": "tset"}, "unknown split 'tset'; did you mean 'test'? (test, train, validation)"),
        ({"family": "word", "levels": [9]}, "unknown level 9 of word (2 to 8)"),
        ({"family": "word", "levels": []}, "levels of word must not be empty (2 to 8)"),
        ({"family": "word", "count": 0}, "count must be at least 1, not 0"),
    ],
)
def test_a_parameter_that_will_not_do_is_named(arguments: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        synthetic(**arguments)  # type: ignore[arg-type]
    assert str(caught.value) == line


def test_asking_for_more_than_there_are_ends_with_how_many_there_are() -> None:
    with pytest.raises(ValueError, match=r"count 100000 is too many: guess test gave [0-9]+ distinct problems"):
        synthetic("guess", "test", 100_000, levels=(1,))


def test_a_part_of_a_run_loads_its_problems() -> None:
    part = Part("word", {"split": "test", "count": "5", "seed": 0, "levels": "2-3"})
    assert load_problems(part) == synthetic("word", "test", 5, 0, (2, 3))
    assert len(load_problems(Part("guess"))) == 100


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (Part("wrod"), "unknown problem set 'wrod'; did you mean 'word'? (countdown, guess, jsonl, word)"),
        (Part("word", {"cuont": 3}), "unknown parameter of word 'cuont'; did you mean 'count'?"),
        (Part("word", {"file": "x"}), "unknown parameter of word 'file'"),
        (Part("word", {"count": "many"}), "count must be an integer, not 'many'"),
        (Part("word", {"count": True}), "count must be an integer, not 'True'"),
        (Part("word", {"levels": "5-2"}), "levels must be written 3, 2-5 or 2+4, not '5-2'"),
        (Part("jsonl"), "jsonl needs file=PATH"),
        (Part("jsonl", {"file": "x", "style": "gms8k"}), "unknown style 'gms8k'; did you mean 'gsm8k'?"),
    ],
)
def test_a_part_that_will_not_do_says_what_would(part: Part, line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load_problems(part)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("written", "levels"), [(3, [3]), ("3", [3]), ("2-5", [2, 3, 4, 5]), ("2+4-5+2", [2, 4, 5]), ([2, 3], [2, 3])]
)
def test_levels_are_written_in_several_ways(written: object, levels: list[int]) -> None:
    assert levels_of(written) == levels


# ---------------------------------------------------------------------------------------- countdown against brute force


Tree = tuple[str, int | None, list[int]]  # text, value where every division is exact, numbers


def combined(left: Tree, op: str, right: Tree) -> Tree:
    a, b = left[1], right[1]
    result: int | None = None
    if a is not None and b is not None:
        if op == "/":
            exact = Fraction(a, b) if b else None
            result = int(exact) if exact is not None and exact.denominator == 1 else None
        else:
            result = {"+": a + b, "-": a - b, "*": a * b}[op]
    return f"({left[0]}{op}{right[0]})", result, left[2] + right[2]


TREES = st.recursive(
    st.integers(0, 99).map(lambda n: (str(n), n, [n])),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: combined(*t)),
    max_leaves=5,
)


@given(TREES)
def test_evaluate_agrees_with_the_tree_it_was_written_from(tree: Tree) -> None:
    text, result, numbers = tree
    assert evaluate(text) == (None if result is None else (result, sorted(numbers)))
    key = canonical(text)
    assert key is not None
    assert canonical(key) == key
    assert evaluate(key) == evaluate(text)


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99)), min_size=1, max_size=5), st.integers(0, 99))
def test_evaluate_keeps_the_usual_precedence(tail: list[tuple[str, int]], first: int) -> None:
    text = str(first) + "".join(f"{op}{n}" for op, n in tail)
    result = evaluate(text)
    assert result is not None
    assert result[0] == eval(text)  # our own text, in a test


def all_expressions(numbers: tuple[Tree, ...]) -> Iterator[Tree]:
    """Every way to combine all the numbers, one operation at a time."""
    if len(numbers) == 1:
        yield numbers[0]
    for i, j in itertools.permutations(range(len(numbers)), 2):
        rest = tuple(n for k, n in enumerate(numbers) if k not in (i, j))
        for op in "+-*/":
            new = combined(numbers[i], op, numbers[j])
            if new[1] is not None and 1 <= new[1] <= 99:
                yield from all_expressions((*rest, new))


@given(st.lists(st.integers(1, 15), min_size=2, max_size=3), st.integers(1, 60))
def test_a_target_is_reachable_exactly_where_brute_force_finds_it(numbers: list[int], target: int) -> None:
    reference = f"{target} from {','.join(map(str, sorted(numbers)))}"
    leaves: tuple[Tree, ...] = tuple((str(n), n, [n]) for n in numbers)
    found = [text for text, result, _ in all_expressions(leaves) if result == target]
    assert bool(found) == reachable(tuple(sorted(numbers)), target)
    assert all(Countdown().check(reference, text) for text in found)


@pytest.mark.parametrize("text", ["15+24", "12*(8+15)/4", "12/8", "15+8+4+12+1", "15-", "x+1", "__import__('os')", "2**3"])
def test_wrong_countdown_answers_are_wrong(text: str) -> None:
    assert not Countdown().check("39 from 4,8,12,15", text)


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    parsed = parse(text)
    assert (parsed is None) == (canonical(text) is None)
