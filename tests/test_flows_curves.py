"""The figures' arithmetic: costs at equal accuracy, the clustered bootstrap, replayed pools, and Countdown's oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.figures import curves, noise, votes
from flows.figures.judged import Judged
from flows.figures.measured import Point, Pools, accuracies, cost_at, difference, point, pools, ratio, ratio_of, runs, whole
from flows.figures.noise import Oracle, labels
from flows.figures.plots import draw
from flows.parts import spec
from flows.sizes import SIZED, words
from pipelines.dice import Dice, DiceVerifier, dice_problems, play
from search.estimate import Pool, pass_at_k
from search.select import Entry, Selector
from search.strategies import STRATEGIES, build
from search.types import Finish, Join, Part, Question, Step, Trace

PROBLEMS = "countdown:split=test,count=3,seed=1"


def flat(accuracy: float, cost: float, name: str = "") -> Point:
    """Ten problems, the first so many of them right, each of one cost."""
    right = np.array([1.0] * round(accuracy * 10) + [0.0] * (10 - round(accuracy * 10)))
    return Point(name, right, np.full(10, cost), np.full(10, cost / 10), np.full(10, cost * 3))


# ---------------------------------------------------------------------------------------------------------- comparisons


def test_cost_at_equal_accuracy_is_read_between_the_points_of_the_curve() -> None:
    accuracy, cost = np.array([0.2, 0.4, 0.8]), np.array([100.0, 200, 800])
    assert cost_at(accuracy, cost, 0.6) == pytest.approx(500)
    assert cost_at(accuracy, cost, 0.9) == np.inf
    assert cost_at(accuracy, cost, 0.1) == 100  # the curve's cheapest point


def test_a_point_that_is_no_better_than_a_cheaper_one_is_passed_over() -> None:
    """Interpolated through, it would make an accuracy dearer that the curve had reached before."""
    accuracy, cost = np.array([0.2, 0.4, 0.3, 0.6]), np.array([1.0, 2, 4, 8])
    assert cost_at(accuracy, cost, 0.4) == 2
    assert cost_at(accuracy, cost, 0.5) == pytest.approx(5)


def test_a_ratio_is_the_curves_cost_over_the_points() -> None:
    curve = [flat(0.2, 100), flat(0.4, 200), flat(0.8, 800)]
    other = flat(0.6, 250)
    for what in ("tokens", "passes", "verifier_tokens"):
        value, low, high = ratio(curve, other, what)
        assert value == pytest.approx(2.0)
        assert low <= value <= high
    assert ratio(curve, flat(0.9, 250), "tokens")[0] == np.inf
    free = Point("majority", other.right, other.tokens, np.zeros(10))
    assert np.isnan(ratio(curve, free, "passes")[0])


def test_a_curve_against_itself_is_one_in_every_draw() -> None:
    """Resampled apart, the interval would have the luck of the problems in it."""
    chances = [np.linspace(0, top, 10) for top in (0.4, 0.8, 1.6)]
    curve = [Point("", right, np.full(10, cost), np.ones(10)) for right, cost in zip(chances, (100, 200, 800), strict=True)]
    assert ratio(curve, curve[1], "tokens") == pytest.approx((1.0, 1.0, 1.0))
    assert difference(curve[1], curve[1]) == (0.0, 0.0, 0.0)
    assert ratio_of(curve[1], curve[0], "tokens") == pytest.approx((2.0, 2.0, 2.0))


def test_the_bootstrap_keeps_the_seeds_of_a_problem_together() -> None:
    """Five seeds that agree say no more than one: counted as problems of their own they would halve the interval."""
    rng = np.random.default_rng(0)
    one = (rng.random(60) < 0.5).astype(float)
    clustered = Point("", one, one, one)  # the mean over five equal seeds
    apart = Point("", np.repeat(one, 5), np.repeat(one, 5), np.repeat(one, 5))
    (_, low, high), (_, least, most) = accuracies([clustered])[0], accuracies([apart])[0]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 60), rel=0.15)
    assert (high - low) / (most - least) == pytest.approx(np.sqrt(5), rel=0.15)


# ---------------------------------------------------------------------------------------------------------------- pools


def test_a_pool_gives_every_n_without_bias_and_its_share_of_the_cost() -> None:
    def entry(i: int, answer: str, value: float) -> Entry:
        return Entry(str(i), answer, 5, parts=(value,), value=value)

    pool = Pool.of([entry(0, "a", 0.9), entry(1, "b", 0.5), entry(2, "b", 0.4), entry(3, "a", 0.1)], lambda a: a == "b")
    have = Pools(("p",), ((pool,),), np.array([[[40.0, 4.0, 100.0]]]))
    one, two, four = have.points("best-of-n", Selector("best"), (1, 2, 4))
    # the first is the best of 3 of the 6 pairs, the second of 2, the third of 1
    assert [p.right[0] for p in (one, two, four)] == pytest.approx([0.5, 0.5, 0.0])
    assert (two.tokens[0], two.passes[0], two.verifier_tokens[0]) == (20.0, 2.0, 50.0)
    assert have.points("majority", Selector("majority"), (2,))[0].passes[0] == 0.0


def test_curves_run_are_resumed_and_drawn(tmp_path: Path) -> None:
    database = str(tmp_path / "figures.db")
    asked = (PROBLEMS, "prm", (0, 1), database)
    small = "best-of-n:n=4,select=best"
    assert not whole([spec(PROBLEMS, small)], database)
    ids = runs(small, *asked)
    assert whole([spec(PROBLEMS, small, seed=seed) for seed in (0, 1)], database)
    assert runs(small, *asked) == ids
    have, stored = pools(ids, database), point(small, ids, database)
    whole_pool = have.points("best-of-n", Selector("best"), (4,))[0]
    for name in ("right", "tokens", "passes", "verifier_tokens"):  # all of a pool is the run itself
        assert getattr(whole_pool, name) == pytest.approx(getattr(stored, name))
    assert {row[2] for row in votes.rows(have, ["borda"], (2, 4))} == {"split", "by the rule"}
    drawn = {"best-of-n": have.points("best-of-n", Selector("best"), (1, 2, 4)), "astar-rises": [stored]}
    for name in ("a.svg", "b.svg"):
        draw("countdown", drawn, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert curves.Asked(PROBLEMS, "prm", (0, 7), database, stored=True).ids(small) is None


def test_every_registered_strategy_is_in_the_table() -> None:
    assert {each.partition(":")[0] for each in words()} == set(STRATEGIES)
    assert set(SIZED) <= set(STRATEGIES)
    for each in [*words(), *(s for own in curves.SETTINGS.values() for s in own)]:
        spec(PROBLEMS, each)


# ----------------------------------------------------------------------------------------------------------- the oracle

QUESTION = "Use 3, 5, 7 to make 36."  # (5+7)*3
RIGHT = "5+7=12, left 3,12: 15,9,36,4, need 36."


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ((RIGHT, "3*12=36, left 36, need 36.", "The answer is \\boxed{3*(5+7)}"), (True, True, True)),
        (("3+5=8, left 7,8: 15,1,56, need 36.",), (False,)),  # true, and a dead end
        (("5+7=13, left 3,13: 16,10,39, need 36.",), (False,)),  # not true
        (("5+8=13, left 3,13: 16,10,39, need 36.",), (False,)),  # a number that is not there
        ((RIGHT, "3+12=15, left 15, need 36.", "The answer is \\boxed{3+(5+7)}"), (True, False, False)),
        (("no step at all",), (False,)),
    ],
)
def test_the_oracle_knows_what_can_still_be_made(texts: tuple[str, ...], told: tuple[bool, ...]) -> None:
    assert labels(QUESTION, texts) == told


def trace(*texts: str) -> Trace:
    blank = np.zeros(3, dtype=np.float32)
    steps = tuple(Step(np.zeros(3, dtype=np.int32), text + "\n\n", blank, blank, blank, Finish.STEP) for text in texts)
    return Trace(Question("p", QUESTION, ()), steps)


def test_the_oracles_noise_is_a_function_of_the_text() -> None:
    """Drawn anew for every reading, the value of a prefix would depend on which of its children asked."""
    short, long = trace(RIGHT), trace(RIGHT, "3*12=36, left 36, need 36.")
    first, second = Oracle(2.0).score([short, long])
    assert first.parts == second.parts[:1]
    assert Oracle(2.0).score([long]) == [second]
    assert Oracle(2.0, seed=1).score([short])[0].parts != first.parts
    assert (second.passes, second.tokens) == (1, 6)
    exact = Oracle().score([long])[0].parts
    assert exact == pytest.approx((1 / (1 + np.exp(-2.0)),) * 2)


def test_best_of_n_under_a_perfect_verifier_is_pass_at_n() -> None:
    dice = Dice(p=0.25 ** (1 / 4))
    problems = dice_problems(20, 0, 4)
    outcomes = [play(build(Part("best-of-n", {"n": 6})), problems, dice=dice, seed=seed) for seed in (0, 1)]
    judged = Judged.by(outcomes, [DiceVerifier(dice)] * 2, Join.LAST)
    curve = judged.curve(lambda question, answer: answer == Dice.answer_of(question))
    right = [[sum("wrong" not in c.step.text for c in o.search.tree.candidates.values()) for o in row] for row in outcomes]
    for n, each in enumerate(curve, 1):
        wanted = np.mean([[pass_at_k(6, r, n) for r in row] for row in right])
        assert each.right.mean() == pytest.approx(wanted)
        assert each.passes.tolist() == [float(n)] * 20
    assert judged.auc(lambda question, texts: ["wrong" not in text for text in texts]) == 1.0


def test_the_noise_figure_prints_a_line_for_each_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "noise dice --problems 5 --seeds 0 --samples 4 --depths 3 --noises 0 1 --biases 0"
    monkeypatch.setattr("sys.argv", words.split())
    noise.main()
    assert sum(line.startswith("3 ") for line in capsys.readouterr().out.splitlines()) == 2
