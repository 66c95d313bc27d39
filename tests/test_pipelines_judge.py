"""What the bundled judge is taught is exact, is what is read from it, and the model that is shipped has learned it."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator

import pytest

from pipelines.models import BUNDLED, NAMES, load_generator, locate
from pipelines.problems import FAMILIES, Instance, instances
from pipelines.problems.instance import apply
from pipelines.train.checking import CHECK, DIRECT, asked, asked_pair, better, checked, right, verdict
from pipelines.train.tokenizer import CONTEXT
from search.strategies.knockout import verdict_of
from search.types import SEPARATOR
from verifiers.verdicts import FORMS

EQUATION = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")


def solutions(family: str, count: int, seed: int = 0) -> Iterator[tuple[Instance, list[str]]]:
    """Demonstrations, corrupted ones, beginnings, and texts that are none."""
    rng = random.Random(seed)
    for i, instance in enumerate(itertools.islice(instances(FAMILIES[family], "validation", seed), count)):
        steps = FAMILIES[family].demonstrate(rng, instance)
        yield instance, steps
        yield instance, FAMILIES[family].corrupt(rng, instance)
        yield instance, steps[: rng.randint(0, len(steps))]
        yield instance, [["Thought process:"], ["\\boxed{}"], ["1+1=2.", "1/0=3, left 5, need 7."], [" ".join(steps)]][i % 4]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_check_has_a_line_a_step_that_ends_in_its_exact_label_and_is_read_so(family: str) -> None:
    """Were a line read as two, or a verdict as another's, training and reading would each be right and the score wrong."""
    form = FORMS["check"]
    assert form.template == CHECK
    assert FORMS["direct"].template == DIRECT
    for instance, steps in solutions(family, 150):
        labels = FAMILIES[family].label(instance, steps)
        text = SEPARATOR.join(checked(instance, steps))
        spans, said = form.stepwise(text, len(steps)) or (), form.judged(text)
        assert [span.value for span in spans] == [float(label) for label in labels]
        assert said is not None
        assert said.value == float(right(instance, steps))
        assert FORMS["direct"].judged(verdict(instance, steps)) is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_check_works_out_itself_is_true(family: str) -> None:
    """A judge taught a wrong sum would find right steps wrong."""
    seen = 0
    for instance, steps in solutions(family, 150, seed=1):
        for line in checked(instance, steps):
            for a, op, b, c in EQUATION.findall(line.partition(" not ")[0]):
                assert apply(int(a), op, int(b)) == int(c), (instance.question, steps, line)
                seen += 1
    assert seen > 100


@pytest.mark.parametrize("family", ["word", "guess"])
def test_a_line_says_what_differs_exactly_where_the_step_is_wrong(family: str) -> None:
    differing = 0
    for instance, steps in solutions(family, 150, seed=2):
        for line in checked(instance, steps)[:-1]:
            if " not " in line:
                assert line.endswith(", no."), line
                differing += 1
    assert differing > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_the_verdict_is_on_the_answer_and_without_one_on_every_step(family: str) -> None:
    seen = set()
    for instance, steps in solutions(family, 150, seed=3):
        labels = FAMILIES[family].label(instance, steps)
        answered = bool(steps) and "\\boxed{" in steps[-1]
        wanted = labels[-1] if answered else bool(labels) and all(labels)
        assert right(instance, steps) == wanted
        seen.add((answered, wanted))
    assert len(seen) == 4, "every kind is there"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_comparison_names_the_right_one_and_of_two_alike_any(family: str) -> None:
    rng = random.Random(4)
    letters: dict[tuple[bool, bool], set[str]] = {}
    for instance in itertools.islice(instances(FAMILIES[family], "validation", 4), 300):
        first, second = (FAMILIES[family].demonstrate(rng, instance) for _ in "AB")
        letter = verdict_of(SEPARATOR.join(better(rng, instance, first, second)))
        assert letter is not None
        letters.setdefault((right(instance, first), right(instance, second)), set()).add(letter)
    assert letters[True, False] == {"A"}
    assert letters[False, True] == {"B"}
    assert letters[True, True] == {"A", "B"}


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_the_judge_has_the_generators_tokens_to_the_byte(file: str) -> None:
    """It judges in the generator's own runs, as their second model."""
    assert (BUNDLED["judge"] / file).read_bytes() == (BUNDLED["generator"] / file).read_bytes()


def test_the_judge_is_asked_for_by_its_name_and_is_small() -> None:
    assert locate(NAMES["judge"], "generator") == BUNDLED["judge"]
    assert (BUNDLED["judge"] / "model.safetensors").stat().st_size < 3_000_000


def test_checks_and_comparisons_fit_the_judges_context() -> None:
    model = load_generator(NAMES["judge"])
    rng = random.Random(5)
    for family in FAMILIES:
        for instance in itertools.islice(instances(FAMILIES[family], "validation", 5), 40):
            first, second = (FAMILIES[family].demonstrate(rng, instance) for _ in "AB")
            check = asked(CHECK, instance.question, first, "123456"), checked(instance, first)
            pair = asked_pair(instance.question, first, second, "123456"), better(rng, instance, first, second)
            for prompt, said in (check, pair):
                assert len(model.encode(prompt)) + len(model.plainly(SEPARATOR.join(said))) < CONTEXT
