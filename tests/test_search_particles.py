"""Particle filtering: weights, resampling, evidence, particle Gibbs, and the ends of a search."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from fakes import DIGIT, END, GOOD, SEPARATOR, FakeGenerator, always_nan, never_ending, noise, step_of
from laws import World, by_hand
from plays import ends, searched, word

from search.select import Selector
from search.strategies.astar import AStar
from search.strategies.particles import CLIP, Particles, Swarm, drawn, log_odds
from search.strategies.weights import SCHEMES, normalised
from search.tree import Tree
from search.types import (
    ROOT,
    Ask,
    Budget,
    Candidate,
    Choice,
    Extend,
    Path,
    Row,
    Sampling,
    State,
    Trace,
    Verify,
    lineage,
    parent_of,
)

AS_PUBLISHED = {"weights": "current", "resampling": "multinomial", "ess": 1.0}


def shares(rewards: Sequence[float], temperature: float = 1.0, weights: str = "current") -> list[float]:
    swarm = Swarm(len(rewards))
    swarm.log_odds = np.array([log_odds(r) for r in rewards])
    swarm.weigh(temperature, weights)  # type: ignore[arg-type]
    return normalised(swarm.log_weights).tolist()  # type: ignore[no-any-return]


# -------------------------------------------------------------------------------------------------------------- weights


def test_weights_are_odds_and_not_a_softmax_of_the_values() -> None:
    """The card: (.9, .5, .1) weigh .890, .099, .011; a softmax of r itself is nearly uniform, .472, .316, .212."""
    assert shares([0.9, 0.5, 0.1]) == pytest.approx([0.890, 0.099, 0.011], abs=5e-4)
    assert shares([0.9, 0.5, 0.1], weights="incremental") == pytest.approx(shares([0.9, 0.5, 0.1])), "odds 1 at the start"
    soft = np.exp([0.9, 0.5, 0.1]) / np.exp([0.9, 0.5, 0.1]).sum()
    assert soft == pytest.approx([0.472, 0.316, 0.212], abs=5e-4)


def test_a_high_temperature_is_uniform_and_a_low_one_greedy() -> None:
    assert shares([0.9, 0.5, 0.1], 1e9) == pytest.approx([1 / 3] * 3)
    assert shares([0.9, 0.8, 0.1], 1e-3) == pytest.approx([1, 0, 0])


def test_values_of_0_and_1_have_finite_odds() -> None:
    assert log_odds(1.0) == pytest.approx(-math.log(CLIP), abs=1e-6)
    assert log_odds(0.0) == pytest.approx(math.log(CLIP), abs=1e-6)
    assert log_odds(0.5) == 0


def test_incremental_weights_are_ratios_and_current_ones_forget() -> None:
    """From .8 to .6 to .9, never resampled: the product of the ratios is the last odds, 9. Resampled after the .8, it is
    9 / 4, where the published rule says 9 again."""
    for weights, after in (("incremental", 9 / 4), ("current", 9)):
        swarm = Swarm(2)
        for i, r in enumerate((0.8, 0.6, 0.9)):
            swarm.log_odds[:] = log_odds(r)
            swarm.weigh(1.0, weights)  # type: ignore[arg-type]
            assert np.exp(swarm.log_weights) == pytest.approx([(4, 1.5, 9)[i]] * 2)
        swarm = Swarm(2)
        for i, r in enumerate((0.8, 0.9)):
            swarm.log_odds[:] = log_odds(r)
            swarm.weigh(1.0, weights)  # type: ignore[arg-type]
            if i == 0:
                swarm.resample([0, 1])
        assert np.exp(swarm.log_weights) == pytest.approx([after] * 2)


@pytest.mark.parametrize(
    ("rewards", "progress", "linear", "entropic"),
    [
        ([0.5] * 4, 0.25, 1.75, 1.0),
        ([1.0, 0.0, 0.0, 0.0], 0.25, 1.75, 3.0),  # one of four has the weight: 4 (1 - .25)
        ([1.0, 0.0, 0.0, 0.0], 0.5, 1.5, 1.0),
        ([1.0, 1.0, 0.0, 0.0], 0.25, 1.75, 1.0),  # half is not less than half
        ([0.5] * 4, 1.0, 1.0, 1.0),
    ],
)
def test_annealing_is_as_in_its_rules(rewards: list[float], progress: float, linear: float, entropic: float) -> None:
    for anneal, factor in (("linear", linear), ("entropic", entropic), ("none", 1.0)):
        swarm = Swarm(4)
        swarm.log_odds = np.array([log_odds(r) for r in rewards])
        tempered = Particles(n=4, temperature=0.5, anneal=anneal)._tempered(swarm, progress)  # type: ignore[arg-type]
        assert tempered == pytest.approx(0.5 * factor, rel=1e-6)


# ------------------------------------------------------------------------------------------------- searches by a script


def test_one_particle_is_plain_sampling() -> None:
    """The chain 0, 0.0, 0.0.0 with the seeds of its paths, whatever the verifier says."""
    world = World(tokens=40)
    for mine, plain in zip(world.run(Particles(n=1)).choices(), world.run(AStar(k=1)).choices(), strict=True):
        texts = [{p: c.step.text for p, c in tree.candidates.items()} for tree, _ in (mine, plain)]
        assert texts[0] == texts[1]
        assert mine[1].path == plain[1].path


def test_who_is_drawn_twice_has_two_children_and_who_is_not_is_dropped() -> None:
    texts = {"0": word(0), "1": word(1), "0.0": ends(1), "0.1": ends(2)}
    tree, choice, asked = searched(Particles(n=2, ess=1.0), texts, {"0": 1.0, "1": 0.0, "0.0": 0.4, "0.1": 0.6})
    assert asked == [("0", "1"), ("0.0", "0.1")]
    assert tree.states["1"] == (State.PRUNED, "not resampled")
    assert choice.path == "0.1"
    assert choice.reason.endswith("1 resampling")


def test_ancestors_are_kept_in_the_text() -> None:
    """Each row continues the very tokens of the particle that was drawn, as often as it was drawn."""
    world = World(tokens=40)
    for name in world.names:
        tree = world.tree(name)
        for request, _ in by_hand(Particles(n=6, ess=1.0), tree, world):
            if isinstance(request, Extend):
                for row in request.rows:
                    said = [token for p in lineage(parent_of(row.path)) for token in tree.candidates[p].step.tokens.tolist()]
                    assert list(row.prefix) == [*tree.question.tokens, *said]
        for path in tree.candidates:
            assert tree.text(path) == tree.text(parent_of(path)) + tree.candidates[path].step.text


def test_steps_of_one_text_are_not_merged_and_each_is_judged() -> None:
    """Three of four wrote the same: merged, the fourth would have half the weight instead of a quarter."""
    texts = {"0": ends(1), "1": ends(1), "2": ends(1), "3": ends(2)}
    strategy = Particles(n=4, select=Selector("majority"))
    tree, choice, _ = searched(strategy, texts, {"0": 0.5, "3": 0.5})
    assert {vote.answer: vote.count for vote in choice.votes} == {"1": 3, "2": 1}
    assert tree.usage.verifier_passes == 4
    assert "log evidence 0, ESS 4.0 of 4, 0 resamplings" in choice.reason


def test_nobody_is_resampled_while_the_weights_are_even_enough() -> None:
    texts = {"0": word(0), "1": word(1), "0.0": ends(1), "1.0": ends(2)}
    rewards = {"0": 0.6, "1": 0.5, "0.0": 0.4, "1.0": 0.6}
    texts |= {"0.1": ends(3), "1.1": ends(3)}
    rewards |= {"0.1": 0.1, "1.1": 0.1}
    for ess, times in ((0.5, 0), (0.0, 0), (1.0, 1)):
        _, choice, _ = searched(Particles(n=2, ess=ess), texts, rewards)
        assert f", {times} resampling" in choice.reason


def test_an_ess_of_1_resamples_even_weights_as_well() -> None:
    """As published: at every step, where a threshold at the number of particles would leave even ones alone."""
    texts = {"0": word(0), "1": word(1), "0.0": ends(1), "0.1": ends(2), "1.0": ends(3), "1.1": ends(0)}
    _, choice, _ = searched(Particles(n=2, **AS_PUBLISHED), texts, dict.fromkeys(texts, 0.5))  # type: ignore[arg-type]
    assert choice.reason.endswith("log evidence 0, ESS 2.0 of 2, 1 resampling")


def test_a_finished_particle_takes_part_in_resampling() -> None:
    """Its weight is frozen at .999; the open one of .001 is not drawn, and the search is over."""
    texts = {"0": ends(1), "1": word(1)}
    tree, choice, asked = searched(Particles(n=2, ess=1.0), texts, {"0": 0.9999, "1": 0.0001})
    assert asked == [("0", "1")]
    assert tree.states["1"] == (State.PRUNED, "not resampled")
    assert (choice.path, choice.votes[0].count) == ("0", 2)


def test_a_solution_that_was_not_drawn_is_taken_back_where_none_is_left() -> None:
    long = [*([GOOD] * 9), DIGIT + 1, END]
    texts = {"0": ends(1), "1": word(1), "1.0": long, "1.1": long}
    tree, choice, _ = searched(Particles(n=2, ess=1.0), texts, {"0": 0.0001, "1": 0.9999})
    assert choice.path == "0"
    assert tree.states["0"][0] is State.FINISHED
    assert choice.reason.endswith("every particle was lost, ESS 0.0 of 2, 1 resampling")


def test_what_is_lost_has_no_weight_and_its_place_is_filled_by_resampling() -> None:
    long = [*([GOOD] * 9), DIGIT + 1, END]
    texts = {"0": long, "1": word(1), "1.0": ends(2), "1.1": ends(2), "1.2": ends(1), "2": long}
    rewards = {"1": 0.5, "1.0": 0.5, "1.2": 0.5}
    _, choice, asked = searched(Particles(n=3), texts, rewards)
    assert asked == [("0", "1", "2"), ("1.0", "1.1", "1.2")]
    assert f"log evidence {math.log(1 / 3):.4g}" in choice.reason, "two of three are outside the target"


def test_with_no_valid_value_every_particle_is_lost() -> None:
    for tree, choice in World(judge=always_nan).run(Particles(n=3)).choices():
        assert choice.path is None
        assert "every particle was lost, ESS 0.0 of 3" in choice.reason
        assert all(state is not State.LIVE for state, _ in tree.states.values())


def test_the_budget_ends_it_with_what_has_finished_and_no_evidence() -> None:
    texts = {"0": ends(1), "1": word(1), "1.0": ends(2)}
    rewards = {"0": 0.5, "1": 0.5, "1.0": 0.9}
    _, choice, _ = searched(Particles(n=2), texts, rewards, Budget(candidates=2))
    assert choice.path == "0"
    assert "cut short by the budget" in choice.reason
    assert "evidence" not in choice.reason
    _, choice, _ = searched(Particles(n=2), texts, rewards)
    assert choice.path == "1.0"


def test_once_the_verifier_passes_are_spent_no_more_is_generated() -> None:
    world = World(budget=Budget(passes=9), tokens=60)
    for name in world.names:
        tree = world.tree(name)
        for request, _ in by_hand(Particles(n=4, sweeps=3), tree, world):
            assert isinstance(request, Verify) or tree.usage.verifier_passes < 9


def test_at_the_last_depth_what_is_open_is_not_chosen() -> None:
    world = World(lambda **batching: FakeGenerator(never_ending, **batching), tokens=60)
    for tree, choice in world.run(Particles(n=3, depth=2)).choices():
        assert choice.path is None
        assert "log evidence" in choice.reason
        assert max(c.depth for c in tree.candidates.values()) == 2


def test_a_selector_that_adds_up_sees_even_weights() -> None:
    """One particle has nearly all the weight: by count it would lose two to one."""
    texts = {"0": ends(1), "1": ends(2), "2": ends(2)}
    rewards = {"0": 0.99999, "1": 0.01}
    _, choice, _ = searched(Particles(n=3, ess=0.0, select=Selector("majority")), texts, rewards)
    assert (choice.answer, choice.votes[0].count) == ("1", 3)
    _, choice, _ = searched(Particles(n=3, ess=0.0), texts, rewards)
    assert (choice.answer, len(choice.votes)) == ("1", 2)


# ------------------------------------------------------------------------------------- a small model that can be summed

FIRST = {0: 0.5, 1: 0.3, 2: 0.2}  # the first word; 2 ends at once
SECOND = {0: {0: 0.9, 1: 0.1}, 1: {0: 0.4, 1: 0.6}}  # the digit after it
REWARDS = {(0,): 0.7, (1,): 0.2, (2,): 0.6, (0, 0): 0.3, (0, 1): 0.9, (1, 0): 0.25, (1, 1): 0.8}


def picked(u: float, of: dict[int, float]) -> int:
    for key, p in of.items():
        u -= p
        if u < 0:
            return key
    return max(of)


def model(short: bool) -> Callable[[Row, Sampling], Callable[[Sequence[int]], int]]:
    """Two steps of one draw each; where `short`, the first word 2 is a solution."""

    def language(row: Row, _: Sampling) -> Callable[[Sequence[int]], int]:
        u = noise("model", row.seed)
        if len(row.prefix) == 2:
            first = picked(u, FIRST)
            text = [DIGIT + 2, END] if first == 2 and short else [GOOD + first % 2, SEPARATOR]
        else:
            text = [DIGIT + picked(u, SECOND[row.prefix[2] - GOOD]), END]
        return lambda said: text[len(said)]

    return language


def words_of(tokens: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(step[0] - (DIGIT if step[0] < GOOD else GOOD) for step in tokens)


def judge(trace: Trace) -> tuple[float, ...]:
    return (REWARDS[words_of([step.tokens.tolist() for step in trace.steps])],)


def solutions(short: bool) -> dict[tuple[int, ...], float]:
    """Every whole text, and its probability."""
    found: dict[tuple[int, ...], float] = {(2,): FIRST[2]} if short else {}
    for first, second in product((0, 1), (0, 1)):
        # without short ends a first word of 2 is written as 0
        p = FIRST[first] + (FIRST[2] if first == 0 and not short else 0)
        found[first, second] = p * SECOND[first][second]
    return found


def odds(r: float) -> float:
    return r / (1 - r)


def estimates(strategy: Particles, short: bool, searches: int) -> np.ndarray:
    """exp of the log evidence of many searches."""
    world = World(lambda **b: FakeGenerator(model(short), **b), judge=judge, names=tuple(map(str, range(searches))))
    found = [re.search(r"log evidence (\S+),", choice.reason) for _, choice in world.run(strategy).choices()]
    assert all(found)
    return np.array([math.exp(float(each[1])) for each in found if each])


@pytest.mark.parametrize(
    "given",
    [
        *({"resampling": scheme, "ess": 1.0} for scheme in SCHEMES[:2]),
        *(pytest.param({"resampling": scheme, "ess": 1.0}, marks=pytest.mark.slow) for scheme in SCHEMES[2:]),
        pytest.param({"ess": 0.7}, marks=pytest.mark.slow),
        {"ess": 0.9, "temperature": 2.0},
        pytest.param({"ess": 0.0}, marks=pytest.mark.slow),
        {"ess": 0.8, "anneal": "linear", "depth": 3},
    ],
    ids=str,
)
def test_the_evidence_is_unbiased(given: dict[str, object]) -> None:
    """Against the sum over all texts of p odds(r)^(1/T), within 4 standard errors. Resampling that favoured anyone,
    duplicates merged, or weights not reset would all show here."""
    power = 1 / float(given.get("temperature", 1.0))  # type: ignore[arg-type]
    exact = sum(p * odds(REWARDS[text]) ** power for text, p in solutions(True).items())
    found = estimates(Particles(n=3, **given), True, 500)  # type: ignore[arg-type]
    assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(len(found)) + 5e-4 * exact
    assert found.std() > 0


def test_as_published_the_target_is_the_product_of_the_odds_of_all_steps() -> None:
    """Another target than the odds of the whole text, and the estimate of its sum is unbiased as well."""
    texts = solutions(False)
    product_of_odds = sum(p * odds(REWARDS[text]) * odds(REWARDS[text[:1]]) for text, p in texts.items())
    last_odds = sum(p * odds(REWARDS[text]) for text, p in texts.items())
    found = estimates(Particles(n=3, **AS_PUBLISHED), False, 600)  # type: ignore[arg-type]
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - product_of_odds) < 4 * error
    assert abs(found.mean() - last_odds) > 4 * error, "it would be seen"


def test_the_evidence_varies_less_with_more_particles_and_better_schemes() -> None:
    spread = {n: estimates(Particles(n=n, ess=1.0), True, 150).std() for n in (2, 16)}
    assert spread[16] < spread[2] / 2


# -------------------------------------------------------------------------------------------------------- particle Gibbs


def test_a_later_sweep_follows_its_reference_and_samples_the_others_anew() -> None:
    """One particle of two is the reference: one fresh row at the root, and the reference is neither written again nor judged
    again nor dropped."""
    world = World(lambda **b: FakeGenerator(model(False), **b), judge=judge)
    strategy = Particles(n=2, sweeps=3, ess=1.0)
    for name in world.names:
        tree = world.tree(name)
        roots = [
            sum(parent_of(row.path) == ROOT for row in request.rows)
            for request, _ in by_hand(strategy, tree, world)
            if isinstance(request, Extend)
        ]
        assert [n for n in roots if n] == [2, 1, 1]
        assert tree.usage.verifier_passes == len(tree.candidates)
        assert any(c.finished and tree.states[p][0] is State.FINISHED for p, c in tree.candidates.items())


def test_another_sweep_is_chosen_among_as_well() -> None:
    texts = {"0": ends(1), "1": ends(2), "2": ends(3)}
    rewards = {"0": 0.3, "1": 0.4, "2": 0.9}
    _, choice, asked = searched(Particles(n=2, sweeps=2), texts, rewards)
    assert asked == [("0", "1"), ("2",)]
    assert (choice.path, len(choice.votes)) == ("2", 3)
    assert "0 resamplings" in choice.reason


@pytest.mark.parametrize("scheme", SCHEMES)
def test_beside_a_reference_the_others_are_drawn_one_by_one(scheme: str) -> None:
    """It is never resampled, and each pair of the others is as likely as its weights say. The rest of a systematic draw is
    not: after .7 has taken its places, it is not independent."""
    strategy, rng, draws = Particles(n=3, resampling=scheme), np.random.default_rng(3), 3000  # type: ignore[arg-type]
    weights, pairs = (0.7, 0.2, 0.1), Counter[tuple[Path, ...]]()
    for _ in range(draws):
        tree, swarm = World().tree("q"), Swarm(3)
        tree.candidates |= {path: Candidate(path, step_of([GOOD, SEPARATOR])) for path in "abc"}
        swarm.paths, swarm.log_weights = list("abc"), np.log(weights)
        strategy._resample(tree, swarm, rng, True)
        assert swarm.paths[0] == "a"
        assert set(tree.states) == set("abc") - set(swarm.paths)
        pairs[tuple(sorted(swarm.paths[1:]))] += 1
    of = dict(zip("abc", weights, strict=True))
    expected = {(x, y): draws * of[x] * of[y] * (1 if x == y else 2) for x in "abc" for y in "abc" if x <= y}
    assert sum((pairs[pair] - e) ** 2 / e for pair, e in expected.items()) < 25.7, "5 degrees of freedom: 1 in 10,000"


MILD = {(0,): 0.6, (1,): 0.4, (2,): 0.5, (0, 0): 0.3, (0, 1): 0.8, (1, 0): 0.3, (1, 1): 0.8}  # so that the chain mixes


@dataclass(frozen=True)
class Chain:
    """The reference after so many sweeps."""

    inner: Particles
    sweeps: int

    def search(self, tree: Tree) -> Ask[Choice]:
        reference: Path = ROOT
        rng = np.random.default_rng(int(tree.question.id))
        for _ in range(self.sweeps):
            reference = drawn((yield from self.inner.sweep(tree, reference, rng)), rng)
        return Choice(reference, "", "last reference")


def far_from_the_posterior(sweeps: int, searches: int) -> float:
    """Chi square, with 4 degrees of freedom, of the references of many chains against p odds(r) / evidence."""
    world = World(
        lambda **b: FakeGenerator(model(True), **b),
        judge=lambda trace: (MILD[words_of([step.tokens.tolist() for step in trace.steps])],),
        names=tuple(map(str, range(searches))),
    )
    counts: Counter[tuple[int, ...]] = Counter()
    for tree, choice in world.run(Chain(Particles(n=3, ess=1.0), sweeps)).choices():
        counts[words_of([step.tokens.tolist() for step in tree.steps(choice.path or "")])] += 1
    weights = {text: p * odds(MILD[text]) for text, p in solutions(True).items()}
    expected = {text: searches * weight / sum(weights.values()) for text, weight in weights.items()}
    assert set(counts) <= set(expected)
    return sum((counts[text] - e) ** 2 / e for text, e in expected.items())


def test_particle_gibbs_comes_to_the_posterior_with_few_particles() -> None:
    """One sweep of three particles is far from it: weights that are made to sum to 1 favour the likely. Sweeps that forgot
    their reference would stay there."""
    assert far_from_the_posterior(10, 250) < 23.5, "1 in 10,000"
    assert far_from_the_posterior(1, 250) > 60


def test_randomness_is_of_the_search_and_not_of_the_process() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    texts = [sorted(tree.candidates) for tree, _ in World().run(Particles(n=6, ess=1.0)).choices()]
    np.random.seed(7)
    assert texts == [sorted(tree.candidates) for tree, _ in World().run(Particles(n=6, ess=1.0)).choices()]
    np.random.set_state(("MT19937", np.array(before, dtype=np.uint32), 624, 0, 0.0))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"n": 0}, "n must be at least 1, not 0"),
        ({"sweeps": 0}, "sweeps must be at least 1, not 0"),
        ({"n": 1, "sweeps": 2}, "n must be at least 2 where sweeps are more than 1"),
        ({"temperature": 0.0}, "temperature must be a finite number above 0, not 0.0"),
        ({"temperature": math.nan}, "temperature must be a finite number above 0, not nan"),
        ({"ess": 1.5}, "ess must be between 0 and 1, a part of n, not 1.5"),
        ({"weights": "currant"}, "unknown weights 'currant'; did you mean 'current'\\?"),
        ({"resampling": "systemic"}, "unknown resampling 'systemic'; did you mean 'systematic'\\?"),
        ({"anneal": "entropy"}, "unknown anneal 'entropy'; did you mean 'entropic'\\?"),
    ],
)
def test_bad_parameters_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Particles(**wrong)  # type: ignore[arg-type]
