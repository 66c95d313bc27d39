"""`ponderosa compare`: paired differences, tests, cost ratios, and accuracy at equal cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command import Command
from sqlalchemy import text
from test_store_fakes import drive_all, make_problems, make_spec, new_database

from flows import work
from flows.parts import spec
from search.estimate import Pool, estimates, expected_max
from search.select import Selector
from search.types import Budget, Problem, RunSpec, seed_of
from store import queries
from store.compare import Side, adjusted, common, paired, side
from store.database import Database, open_database
from store.equal_cost import at_equal_cost
from store.runs import begin_run, find_run, grade, planned, problem_key
from store.solutions import solutions


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with new_database(str(tmp_path / "a.db")) as opened:
        yield opened


def right(problem: Problem, answer: str) -> bool:
    return answer == problem.answer


def graded(db: Database, spec: RunSpec, n: int = 12, solved: set[int] | None = None) -> Side:
    """A stored run, graded by its answers, or as if it had solved these problems."""
    drive_all(db, spec, begin_run(db, spec, make_problems(n), {}))
    answers = {a.attempt_id: a.problem.answer for a in planned(db, spec.id)}
    marks = []
    for i, row in enumerate(queries.attempts(db, spec.id)):
        correct = row.answer == answers[row.id] if solved is None else i in solved
        marks.append((row.id, "correct" if correct else "wrong", correct, "g"))
    grade(db, marks)
    return side(db, [find_run(db, spec.id)])


def test_discordant_problems_differences_and_ratios_are_those_of_the_rows(db: Database) -> None:
    first = graded(db, make_spec(n=2), solved={0, 1, 2, 3, 4, 5, 6})
    second = graded(db, make_spec(n=4), solved={0, 1, 7})
    keys = common([first, second], intersect=False)
    found = paired(first, second, keys)
    assert (found.problems, found.first, found.second) == (12, 7 / 12, 3 / 12)
    assert found.difference[0] == pytest.approx(-4 / 12)
    assert found.difference[1] < -4 / 12 < found.difference[2]
    assert (found.only_first, found.only_second) == (5, 1)
    assert found.exact_p == pytest.approx(2 * (1 + 6) / 64)
    tokens = [queries.summary(db, each.runs[0].id).generated_tokens for each in (first, second)]
    ratio = found.ratios["tokens"]
    assert ratio is not None
    assert ratio[0] == pytest.approx(tokens[1] / tokens[0])  # type: ignore[operator]
    assert ratio[1] <= ratio[0] <= ratio[2]
    assert found.ratios["passes"] is None  # neither reads scores
    back = paired(second, first, keys)
    assert back.difference == pytest.approx(tuple(-x for x in (found.difference[0], found.difference[2], found.difference[1])))
    assert (back.exact_p, back.only_first) == (found.exact_p, 1)


def test_a_run_against_itself_differs_by_nothing(db: Database) -> None:
    one = graded(db, make_spec(n=2))
    found = paired(one, one, common([one, one], intersect=False))
    assert (found.difference, found.p, found.exact_p) == ((0.0, 0.0, 0.0), 1.0, 1.0)
    assert found.ratios["tokens"] == (1.0, 1.0, 1.0)


def test_seeds_of_one_group_are_averaged_by_problem_and_count_a_problem_once(db: Database) -> None:
    graded(db, make_spec(n=2, seed=0), solved={0, 1})
    graded(db, make_spec(n=2, seed=1), solved={1, 2})
    other = graded(db, make_spec(n=4), solved=set())
    runs = [find_run(db, make_spec(n=2, seed=seed).id) for seed in (0, 1)]
    group = side(db, runs)
    assert list(group.right.values())[:4] == [0.5, 1.0, 0.5, 0.0]
    found = paired(group, other, common([group, other], intersect=False))
    assert (found.first, found.only_first, found.exact_p) == (pytest.approx(2 / 12), None, None)
    key = next(iter(group.right))
    each = [side(db, [run]).costs[key]["tokens"] for run in runs]
    assert group.costs[key]["tokens"] == pytest.approx(np.mean(each))


def test_a_group_of_runs_that_differ_in_more_than_the_seed_is_refused(db: Database) -> None:
    graded(db, make_spec(n=2))
    graded(db, make_spec(n=4, seed=1))
    runs = [find_run(db, make_spec(n=2).id), find_run(db, make_spec(n=4, seed=1).id)]
    with pytest.raises(ValueError, match="differ in more than their seeds; compare them one by one"):
        side(db, runs)
    with pytest.raises(ValueError, match="is given more than once in one group"):
        side(db, runs[:1] * 2)


def test_different_problems_are_refused_with_their_counts_unless_the_common_ones_are_asked_for(db: Database) -> None:
    many, few = graded(db, make_spec(n=2), n=12), graded(db, make_spec(n=4), n=5)
    with pytest.raises(ValueError, match=r"finished different problems: 12, 5, of which 5 are in all; .* --intersect"):
        common([many, few], intersect=False)
    keys = common([many, few], intersect=True)
    assert keys == [problem_key(problem) for problem in make_problems(5)]
    assert paired(many, few, keys).problems == 5


def test_runs_without_a_common_problem_are_refused_in_any_case(db: Database) -> None:
    here = graded(db, make_spec(n=2), n=2)
    spec = make_spec(n=4)
    begin_run(db, spec, [Problem("else", "what else?", "1", "fake")], {})
    with pytest.raises(ValueError, match=r"no finished problem in common \(2, 0 finished and graded\)"):
        common([here, side(db, [find_run(db, spec.id)])], intersect=True)


def test_several_comparisons_get_holms_p_of_the_exact_test(db: Database) -> None:
    first = graded(db, make_spec(n=2), solved=set(range(12)))
    others = [graded(db, make_spec(n=n), solved=set(range(k))) for n, k in ((3, 2), (4, 6))]
    keys = common([first, *others], intersect=False)
    pairs = [paired(first, other, keys) for other in others]
    assert [pair.exact_p for pair in pairs] == [pytest.approx(2 / 2**10), pytest.approx(2 / 2**6)]
    assert [pair.holm for pair in adjusted(pairs)] == [pytest.approx(4 / 2**10), pytest.approx(2 / 2**6)]
    assert adjusted(pairs[:1])[0].holm is None


@pytest.mark.parametrize("unit", ["tokens", "sequential"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_dearer_best_of_n_is_cut_to_the_others_cost_by_a_mixture_of_two_sizes(
    db: Database, unit: str, turned: bool
) -> None:
    cheap, dear = graded(db, make_spec(n=3)), graded(db, make_spec(n=8))
    keys = common([cheap, dear], intersect=False)
    found = at_equal_cost(db, *((dear, cheap) if turned else (cheap, dear)), keys, unit, right, resamples=500)
    target = np.mean([cheap.costs[key][unit] for key in keys])
    own = list(solutions(db, dear.runs[0]))
    if unit == "sequential":
        curve = [np.mean([expected_max([e.tokens for e in each.entries], k) for each in own]) for k in range(1, 9)]
    else:
        curve = [np.mean([getattr(each, unit) for each in own]) * k / 8 for k in range(1, 9)]
    low = max(k for k in range(1, 9) if curve[k - 1] <= target)
    mixed = (target - curve[low - 1]) / (curve[low] - curve[low - 1])
    assert found.k == pytest.approx(low + mixed)
    assert found.cost == pytest.approx(target)
    chances = []
    for each in own:
        pool = Pool.of(each.entries, lambda answer, each=each: right(each.problem, answer))
        at = estimates(pool, Selector("majority"), [low, low + 1], seed=seed_of(0, each.key, ""))
        chances.append((1 - mixed) * at[0].by_rule + mixed * at[1].by_rule)
    accuracy = np.mean(list(cheap.right.values()))
    told = (found.second, found.first) if turned else (found.first, found.second)
    assert told == (pytest.approx(accuracy), pytest.approx(np.mean(chances)))
    assert found.difference is not None
    assert found.difference[0] == pytest.approx((accuracy - np.mean(chances)) * (1 if turned else -1))
    assert found.reduced == ("first" if turned else "second")


def test_costs_within_5_percent_are_called_equal(db: Database) -> None:
    one = graded(db, make_spec(n=4))
    found = at_equal_cost(db, one, one, list(one.right), "tokens", right)
    assert (found.already, found.ratio, found.k) == (True, 1.0, None)


def test_what_cannot_be_cut_down_is_said_to_be_no_comparison_at_equal_cost(db: Database) -> None:
    greedy, pool = graded(db, make_spec("greedy")), graded(db, make_spec(n=4))
    beam = graded(db, make_spec("beam", n=8, keep=4))
    keys = list(greedy.right)
    assert (
        "beam cannot be cut down to the other's cost: the costs differ by a factor of"
        in at_equal_cost(db, greedy, beam, keys, "tokens", right).reason
    )
    assert at_equal_cost(db, greedy, pool, keys, "passes", right).reason == "a side has no passes to compare by"
    with db.write() as connection:
        connection.execute(text("UPDATE attempt SET generated_tokens = 1 WHERE run_id = :run"), {"run": greedy.runs[0].id})
    cheap = side(db, list(greedy.runs))
    assert at_equal_cost(db, cheap, pool, keys, "tokens", right).reason.startswith(
        "one solution of the second alone costs more"
    )
    bounded = RunSpec(
        *(getattr(make_spec(n=4), f) for f in ("problems", "generator", "verifier", "strategy")), budget=Budget(tokens=999)
    )
    assert (
        "had a budget, so its solutions are not independent"
        in at_equal_cost(db, cheap, graded(db, bounded), keys, "tokens", right).reason
    )


# ------------------------------------------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    with open_database(folder / "a.db") as opened:
        for name, strategy, seed in (("one", "greedy", 0), ("six", "best-of-n:n=6", 0), ("six-1", "best-of-n:n=6", 1)):
            work.evaluate(opened, spec("word:count=4", strategy, seed=seed), name)
        work.evaluate(opened, spec("word:count=2", "greedy"), "two")
    return folder


def test_the_command_compares_every_later_side_with_the_first(ponderosa: Command, ran: Path) -> None:
    done = ponderosa("compare", "one", "six+six-1", "six", "-d", "a.db", cwd=ran)
    assert done.code == 0, done.err
    assert done.out.startswith("problems  4 that all have finished; fewer than 30, so the intervals say little")
    assert done.out.count("McNemar") == 1  # not for a group of seeds
    assert done.out.count("Holm") == 2
    assert done.out.count("of its 6 solutions") == 2 or "alone costs more" in done.out


def test_the_command_speaks_json_for_machines(ponderosa: Command, ran: Path) -> None:
    done = ponderosa("compare", "six", "six-1", "--json", "--cost", "flops", "-d", "a.db", cwd=ran)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    [pair] = told["comparisons"]
    assert (told["problems"], told["few"], len(told["sides"])) == (4, True, 2)
    assert pair["difference"][0] == pytest.approx(pair["second"] - pair["first"])
    assert pair["equal_cost"]["unit"] == "flops"
    assert set(pair["ratios"]) == {"tokens", "sequential", "passes", "flops", "seconds"}


BAD = [
    (("one",), 2, "compare needs 2 to 26 runs, not 1; join seeds of one with '+'"),
    (("one", "nothing"), 65, "nothing"),
    (("one", "six", "--cost", "money"), 2, "unknown cost 'money'"),
    (("one", "two"), 2, "the runs have finished different problems: 4, 2, of which 2 are in all"),
    (("one+six", "two"), 2, "differ in more than their seeds"),
    (("one", "six", "--resamples", "0"), 2, "resamples must be at least 1, not 0"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_comparisons_get_one_line_and_their_exit_code(
    ponderosa: Command, ran: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = ponderosa("compare", *arguments, "-d", "a.db", cwd=ran)
    assert done.code == code, done.err
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_common_problems_can_be_compared_where_the_sets_differ(ponderosa: Command, ran: Path) -> None:
    done = ponderosa("compare", "one", "two", "--intersect", "-d", "a.db", cwd=ran)
    assert done.code == 0, done.err
    assert "problems  2 that all have finished" in done.out
    assert "within 5%: this is a comparison at equal cost" in done.out
