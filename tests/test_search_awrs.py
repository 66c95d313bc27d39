"""Adaptive weighted rejection sampling: its estimate on small distributions, and particles against enumeration."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from test_search_decoders import TableGenerator, bushy, every, flat, model, played, solved

from pipelines.models import TextModel
from search.drive import Outcome
from search.rules import Ahead
from search.strategies.awrs import AWRS
from search.strategies.rejection import drawn, phantoms
from search.types import Budget, State

__all__ = ["model"]  # the fixture

END = 9
RUNS = 20_000
CARD = {0: 0.5, 1: 0.3, 2: 0.2}


def told(odds: Mapping[int, float], rng: np.random.Generator, peek: int = 32) -> Ahead:
    """What a paused row says of these probabilities: a sample without replacement."""
    logs = np.log(np.array(list(odds.values())))
    keys = logs + rng.gumbel(size=len(logs))
    order = np.argsort(-keys)[:peek]
    tokens = np.array(list(odds), dtype=np.int32)
    return Ahead(0.0, tokens[order], logs[order].astype(np.float32), keys[order].astype(np.float32))


def play(ahead: Ahead, allowed: Collection[int], rng: np.random.Generator) -> tuple[tuple[int, float] | None, list[int]]:
    """What a draw comes to, and the tokens that it asked about."""
    draw, asked = drawn(ahead, rng), list[int]()
    try:
        token = next(draw)
        while True:
            asked.append(token)
            token = draw.send(token in allowed)
    except StopIteration as end:
        return end.value, asked


@pytest.mark.parametrize(
    ("odds", "allowed"),
    [
        (CARD, {1, 2}),
        (CARD, {2}),
        ({0: 0.9, 1: 0.06, 2: 0.03, 3: 0.01}, {1, 3}),
        ({0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25}, {0, 1, 2}),
    ],
)
def test_the_mean_estimate_is_the_allowed_mass_whatever_token_was_taken(odds: Mapping[int, float], allowed: set[int]) -> None:
    """The card's check: p = (.5, .3, .2) with b and c allowed has the mean .5, and takes them with .6 and .4."""
    rng, sums, squares, counts = np.random.default_rng(3), Counter[int](), Counter[int](), Counter[int]()
    for _ in range(RUNS):
        result, _ = play(told(odds, rng), allowed, rng)
        assert result is not None
        weight = math.exp(result[1])
        counts[result[0]] += 1
        sums[result[0]] += weight  # type: ignore[assignment]
        squares[result[0]] += weight**2  # type: ignore[assignment]
    mass = sum(odds[token] for token in allowed)
    for token in allowed:  # 4 standard errors: a false alarm in 16,000
        share, n = odds[token] / mass, counts[token]
        assert n / RUNS == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / RUNS) + 1e-9)
        mean = sums[token] / n
        assert mean == pytest.approx(mass, abs=4 * math.sqrt(max(squares[token] / n - mean**2, 0) / n) + 1e-9)
    assert set(counts) == allowed


def test_no_token_is_checked_twice_and_none_after_the_second_that_is_allowed() -> None:
    rng, lengths = np.random.default_rng(0), Counter[int]()
    for _ in range(500):
        _, asked = play(told(CARD, rng), {1, 2}, rng)
        assert len(set(asked)) == len(asked)
        assert sum(token in (1, 2) for token in asked) <= 2
        lengths[len(asked)] += 1
    assert set(lengths) == {1, 2, 3}


def test_where_all_is_allowed_the_weight_is_one_and_where_nothing_is_there_is_no_token() -> None:
    rng = np.random.default_rng(0)
    assert {play(told(CARD, rng), {0, 1, 2}, rng)[0][1] for _ in range(200)} == {0.0}  # type: ignore[index]
    assert {play(told(CARD, rng), (), rng)[0] for _ in range(50)} == {None}
    assert play(told({7: 1.0}, rng), {7}, rng) == ((7, 0.0), [7])


def test_what_is_not_proposed_lowers_the_mean_by_no_more_than_its_mass() -> None:
    """Two proposals of four tokens: what all are barred of is lost with weight 0, and the mean is too low, never too high."""
    odds, allowed, rng = {0: 0.6, 1: 0.2, 2: 0.15, 3: 0.05}, {1, 3}, np.random.default_rng(5)
    results = [play(told(odds, rng, peek=2), allowed, rng)[0] for _ in range(RUNS)]
    mean = sum(math.exp(result[1]) for result in results if result) / RUNS
    unnamed = 0.35  # at most: the two tokens that were proposed are 0 and another, nearly always
    assert None in results
    assert 0.25 - unnamed <= mean <= 0.25 + 4 * 0.5 / math.sqrt(RUNS)
    assert mean < 0.24, "the second draw ended early, or the lost ones were not counted"


def test_phantoms_are_geometric() -> None:
    rng = np.random.default_rng(1)
    counts = Counter(phantoms(0.25, rng) for _ in range(RUNS))
    for k in range(4):
        p = 0.25 * 0.75**k
        assert counts[k] / RUNS == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / RUNS))
    assert {phantoms(1.0, rng) for _ in range(20)} == {0}


# ------------------------------------------------------------------------------------------------------------ particles

NO_FOUR = r"(\\boxed\{[12356]\})*"
ENDS_IN_SIX = r"(\\boxed\{\d\})*\\boxed\{6\}"


def written(text: tuple[int, ...]) -> str:
    return "".join(f"\\boxed{{{token}}}" for token in text[:-1])


def evidence(outcome: Outcome) -> float:
    """The estimate that the choice's reason gives; 0 where every particle was lost."""
    assert outcome.choice is not None
    found = re.search(r"log evidence (\S+),", outcome.choice.reason)
    if found is None:
        assert "every particle was lost" in outcome.choice.reason
        return 0.0
    return math.exp(float(found[1]))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("pattern", "ess"),
    [
        (NO_FOUR, 1.0),
        pytest.param(ENDS_IN_SIX, 0.6, marks=SLOW),
        pytest.param(NO_FOUR, 0.0, marks=SLOW),
        pytest.param(ENDS_IN_SIX, 1.0, marks=SLOW),
    ],
)
def test_evidence_and_weights_are_what_enumeration_says(pattern: str, ess: float) -> None:
    """The evidence times an answer's share of the weight has the mean p(answer and pattern), with and without resampling. A
    pattern that only the end can break is the hard one: no token before it is barred."""
    truth = Counter[str]()
    for text, p in every(bushy).items():
        if re.fullmatch(pattern, written(text)):
            truth[str(text[0])] += p  # type: ignore[assignment]
    assert 0.05 < sum(truth.values()) < 0.8
    runs, found = 1000, {answer: list[float]() for answer in truth}
    for seed in range(runs):
        outcome = played(AWRS(n=3, pattern=pattern, ess=ess), TableGenerator(bushy), seed)
        votes = {vote.answer: vote.weight for vote in outcome.choice.votes} if outcome.choice else {}
        assert set(votes) <= set(truth)
        for answer, values in found.items():
            values.append(evidence(outcome) * votes.get(answer, 0.0))
    for answer, p in truth.items():
        spread = 4 * float(np.std(found[answer])) / math.sqrt(runs)
        assert float(np.mean(found[answer])) == pytest.approx(p, abs=spread), answer
        assert spread < 0.07


def test_a_chosen_text_keeps_to_the_pattern_and_the_barred_ones_are_stored_as_pruned() -> None:
    barred = 0
    for seed in range(60):
        outcome = played(AWRS(n=3, pattern=NO_FOUR), TableGenerator(bushy), seed)
        tree, choice = outcome.search.tree, outcome.choice
        assert choice is not None
        for candidate in tree.candidates.values():
            state, cause = tree.states[candidate.path]
            against = re.fullmatch(NO_FOUR, tree.text(candidate.path)) is None
            assert (cause == "breaks the pattern") == against
            barred += against
            assert not against or state is State.PRUNED
        assert choice.path is None or re.fullmatch(NO_FOUR, tree.text(choice.path))
        assert tree.usage.generated_tokens == sum(len(c.step) for c in tree.candidates.values())
    assert barred > 20


def test_particles_that_were_copied_go_on_with_noise_of_their_own() -> None:
    """Copies that shared the noise of one candidate would all write one text: the particles would be one."""

    def table(text: tuple[int, ...]) -> dict[int, float]:
        if not text:
            return {1: 0.02, 2: 0.98}  # 2 leads nowhere: whoever has 1 is copied
        if text[0] == 2:
            return {3: 1.0} if len(text) == 1 else {END: 1.0}
        return {4: 0.25, 5: 0.25, 6: 0.25, 7: 0.25} if len(text) < 4 else {END: 1.0}

    pattern, kinds = r"(\\boxed\{2\})?|\\boxed\{1\}(\\boxed\{[4567]\})*", list[int]()
    for seed in range(60):
        tree = played(AWRS(n=8, pattern=pattern, ess=0.9), TableGenerator(table), seed).search.tree
        said = {c.path: tree.text(c.path) for c in tree.candidates.values()}
        ones = [path for path, text in said.items() if text == "\\boxed{1}" and tree.states[path][0] is State.LIVE]
        if len(ones) == 1:  # all that ends comes from one
            kinds.append(len({said[c.path] for c in tree.candidates.values() if c.finished}))
    assert len(kinds) >= 4
    assert min(kinds) >= 3
    assert max(kinds) > 4, "they differ in their last token alone: there are four of those"


def test_a_pattern_that_nothing_keeps_to_chooses_nothing_and_says_so() -> None:
    outcome = played(AWRS(n=3, pattern="x+"), TableGenerator(flat(CARD)))
    assert outcome.choice is not None
    assert outcome.choice.path is None
    assert "every particle was lost" in outcome.choice.reason


def test_a_budget_that_ends_it_is_said_and_held() -> None:
    for most in range(1, 12):
        outcome = played(AWRS(n=3, pattern=NO_FOUR), TableGenerator(bushy), 4, budget=Budget(candidates=most))
        assert outcome.choice is not None
        assert len(outcome.search.tree.candidates) <= most
        if most < 9:
            assert "cut short by the budget" in outcome.choice.reason
            assert "evidence" not in outcome.choice.reason


def test_a_rule_in_python_takes_the_place_of_the_pattern() -> None:
    @dataclass(frozen=True)
    class Odd(AWRS):
        def allows(self, text: str, whole: bool) -> bool:
            return all(int(digit) % 2 for digit in re.findall(r"\d", text))

    for seed in range(20):
        choice = played(Odd(n=2), TableGenerator(flat({1: 0.2, 2: 0.3, 3: 0.5})), seed).choice
        assert choice is not None
        assert choice.answer in ("1", "3")


def test_wrong_parameters_are_refused_in_one_line() -> None:
    for make, says in (
        (lambda: AWRS(pattern="(a"), r"pattern '\(a' is no regular expression"),
        (lambda: AWRS(ess=1.5), "ess must be between 0 and 1, a part of n, not 1.5"),
        (lambda: AWRS(peek=0), "peek must be at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=says):
            make()


# ---------------------------------------------------------------------------------------------------------- the model


def test_the_models_solutions_keep_to_a_pattern_that_it_would_mostly_break(model: TextModel) -> None:
    pattern = "(?s)[^*]*"  # no multiplication
    free = [solved(AWRS(n=2), model, seed) for seed in range(2)]
    assert all("log evidence 0," in (outcome.choice.reason if outcome.choice else "") for outcome in free)
    bound = [solved(AWRS(n=2, pattern=pattern), model, seed) for seed in range(2)]
    ended = {True: list[str](), False: list[str]()}
    for outcome in (*free, *bound):
        tree = outcome.search.tree
        live = [c.path for c in tree.candidates.values() if tree.states[c.path][0] is State.FINISHED]
        ended[outcome in bound] += [tree.text(path) for path in live]
    assert any("*" in text for text in ended[False])
    assert len(ended[True]) >= 2
    assert not any("*" in text for text in ended[True])


def test_the_models_letters_are_those_that_it_writes_when_it_is_let_write(model: TextModel) -> None:
    """The text of a token is learned once for each token before it: a text so checked must be the text itself."""
    tree = solved(AWRS(n=3, pattern="(?s)[^*]*"), model, 1).search.tree
    for candidate in tree.candidates.values():
        if candidate.finished:
            tokens = tree.tokens(candidate.path)[len(tree.question.tokens) :]
            assert tree.text(candidate.path) == model.tokenizer.decode(list(tokens), skip_special_tokens=True)
