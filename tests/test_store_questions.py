"""Named questions: answers worked out by hand, on both databases."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from asked import Step, Tried, ask, rescored, samples, scheduled, spec, write
from sqlalchemy import text

from search.types import SEPARATOR
from store.audit import audit
from store.database import Database, open_database
from store.questions import QUESTIONS, astray, verifier
from store.questions.budget import budgets_of, listed
from store.questions.question import plain, rests_on_few
from store.runs import Run, retry
from store.solved import derive
from store.stats import Clusters, clustered, counted_means, resampled_means, student, wilson

README = (Path(__file__).parent.parent / "store" / "README.md").read_text()
POOLS = {
    "p0": samples(("right", 0.9), ("b", 0.2), ("right", 0.8), (None, None), chosen=0),
    "p1": samples(("b", 0.7), ("b", 0.6), ("c", 0.1), ("d", 0.3), chosen=0),
    "p2": samples(("right", 0.4), ("b", 0.5), ("b", 0.6), ("right", 0.3), chosen=2),
}


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with open_database(where) as opened:
        yield opened


@pytest.fixture
def pools(db: Database) -> Run:
    return write(db, spec(n=4), POOLS, "pools")


def steps(*texts: str) -> str:
    return "".join(text + SEPARATOR for text in texts)


# ---------------------------------------------------------------------------------------------------------------- pools


def test_accuracy_counts_what_is_right_of_what_is_closed(db: Database, pools: Run) -> None:
    [row] = ask(db, "accuracy", pools)
    assert (row["problems"], row["closed"], row["correct"], row["failed"]) == (3, 3, 1, 0)
    assert (row["accuracy"], row["low"], row["high"]) == (1 / 3, *wilson(1, 3))
    assert row["tokens"] == 10 + 11 + 12 + 13


def test_a_run_that_is_dearer_and_no_better_is_not_on_the_front(db: Database) -> None:
    cheap = write(db, spec(n=1), {"p0": samples(("right", 1.0), chosen=0)}, "cheap")
    dear = write(db, spec(n=2), {"p0": samples(("right", 1.0), ("b", 0.1), chosen=0)}, "dear")
    elsewhere = write(db, spec(n=2, problems="made"), {"p0": samples(("b", 0.1), ("b", 0.1), chosen=0)}, "elsewhere")
    assert [row["front"] for row in ask(db, "accuracy", cheap, dear, elsewhere)] == [1, 0, 1]


def test_a_run_is_best_by_the_problems_that_it_has_finished(db: Database) -> None:
    unfinished = Tried([], None, status="pending", usage={"generated_tokens": None}, verdict=None)
    run = write(db, spec(n=1), {"p0": samples(("right", 1.0), chosen=0), "p1": unfinished})
    assert [(row["problems"], row["of"], row["accuracy"]) for row in ask(db, "best", run)] == [(1, 2, 1.0)] * 2
    assert rests_on_few(ask(db, "accuracy", run))


@pytest.mark.parametrize(
    ("row", "few"), [({"problems": 60, "closed": 5}, True), ({"closed": 29}, True), ({"problems": 30}, False)]
)
def test_few_problems_are_those_that_are_finished(row: dict[str, int], few: bool) -> None:
    assert rests_on_few([{"problems": None}, {"problems": 0}, {}, row]) is few


def test_pass_at_k_is_the_closed_form(db: Database, pools: Run) -> None:
    """p0 and p2 have 2 right ones of 4: 1 - C(2, 2) / C(4, 2) = 5/6 at k = 2."""
    rows = ask(db, "pass-at-k", pools)
    assert [row["k"] for row in rows] == [1, 2, 4]
    assert [row["share"] for row in rows] == pytest.approx([1 / 3, 5 / 9, 2 / 3])
    assert all(row["low"] <= row["share"] <= row["high"] for row in rows)


def test_of_one_solution_a_problem_the_interval_is_that_of_the_accuracy(db: Database) -> None:
    run = write(db, spec("greedy"), answered("1111100000"))
    [accuracy] = ask(db, "accuracy", run)
    found = [*ask(db, "pass-at-k", run), *ask(db, "selectors", run)]
    assert len(found) > 2
    assert {(row["low"], row["high"]) for row in found} == {(accuracy["low"], accuracy["high"])} == {wilson(5, 10)}


def test_the_gap_is_between_what_was_there_and_what_was_chosen(db: Database, pools: Run) -> None:
    [row] = ask(db, "oracle-gap", pools)
    shares = [row[name] for name in ("random", "chosen", "oracle", "lost", "never", "recovered")]
    assert shares == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1 / 3, 1 / 3, 0.0])
    assert (row["lost_low"], row["lost_high"]) == wilson(1, 3)


def test_problems_whose_solutions_nobody_has_judged_yet_are_left_out(db: Database) -> None:
    """Derived before p1 was closed, as of a run that goes on."""
    run = write(db, spec(n=2), {"p0": samples(("right", 0.5), ("b", 0.5), chosen=0), "p1": Tried([], None, status="running")})
    with db.write() as connection:
        connection.execute(text("UPDATE attempt SET status = 'done' WHERE status = 'running'"))
    assert [row["share"] for row in ask(db, "pass-at-k", run)] == [0.5, 1.0]
    assert [(row["problems"], row["oracle"]) for row in ask(db, "oracle-gap", run)] == [(1, 1.0)]
    assert {row["problems"] for row in ask(db, "selectors", run)} == {1}


def test_of_an_answer_that_no_grader_could_decide_it_is_not_said_that_it_is_wrong(db: Database) -> None:
    """Neither of one that was not chosen, nor of one that was."""
    chosen = Tried([Step("0", answer="hard", value=0.5), Step("1", answer="hard", value=0.5)], "0", verdict="timeout")
    run = write(db, spec(n=2), {"p0": chosen}, derived=False)
    derive(db, run.id, lambda asked: [None for _ in asked])
    with db.read() as connection:
        assert connection.scalars(text("SELECT correct FROM solution")).all() == [None, None]
        assert connection.execute(text("SELECT solutions, right_solutions FROM attempt")).one() == (2, 0)
    assert audit(db).found["solutions"] == 0


def test_diversity_counts_different_texts(db: Database, pools: Run) -> None:
    """Texts are of the answers here: 3 + 3 + 2 of 12, since what was cut has a text too."""
    [row] = ask(db, "diversity", pools)
    assert (row["solutions"], row["texts"], row["answers"]) == pytest.approx((4.0, 8 / 3, 7 / 3))
    assert row["duplicates"] == pytest.approx(4 / 12)
    assert row["duplicates_low"] < row["duplicates"] < row["duplicates_high"]


def test_selectors_are_replayed_over_subsets(db: Database, pools: Run) -> None:
    rows = {(row["selector"], row["k"]): row for row in ask(db, "selectors", pools)}
    assert rows["oracle", 4]["accuracy"] == pytest.approx(2 / 3)
    assert rows["random", 4]["accuracy"] == pytest.approx(1 / 3)
    assert rows["best", 4]["accuracy"] == pytest.approx(1 / 3), "p0 by .9; p2 has .6 on a wrong one"
    # majority: p0 right, p1 wrong, p2 two against two, split evenly
    assert rows["majority", 4]["accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert rows["majority", 1]["accuracy"] == pytest.approx(1 / 3)
    assert rows["best", 2]["tokens"] == pytest.approx(46 / 2)
    assert {row["independent"] for row in rows.values()} == {1}


def test_steps_of_one_tree_are_not_drawn_regardless_of_each_other(db: Database) -> None:
    """A tree that was written elsewhere."""
    tree = Tried([Step("0"), Step("0.0", answer="right"), Step("0.1", answer="b")], "0.0")
    assert {row["independent"] for row in ask(db, "selectors", write(db, spec("imported"), {"p0": tree}))} == {0}


def test_disagreement_says_who_is_right(db: Database) -> None:
    run = write(db, spec(n=3), {"p0": samples(("b", 0.1), ("b", 0.2), ("right", 0.9), chosen=0)})
    rows = {(row["first"], row["second"]): row for row in ask(db, "disagreement", run)}
    row = rows["majority", "best"]
    assert (row["differ"], row["first_right"], row["second_right"], row["neither_right"]) == (1, 0, 1, 0)
    assert rows["best", "weighted"]["differ"] == 0, "b has .3 and the right one .9"


# ----------------------------------------------------------------------------------------------------------------- lost


def test_what_was_outvoted_is_lost_by_the_difference_of_the_scores(db: Database, pools: Run) -> None:
    [row] = ask(db, "lost", pools)
    assert (row["problem"], row["how"], row["path"], row["step"], row["right_solutions"]) == ("p2", "outvoted", "0", 1, 2)
    assert row["margin"] == pytest.approx(0.4 - 0.6)
    assert row["kept_margin"] is None, "it was kept"


def test_a_right_solution_that_was_pruned_is_measured_against_what_was_kept(db: Database) -> None:
    tree = Tried(
        [
            Step("0", "one", value=0.5),
            Step("1", "two", value=0.4),
            Step("0.0", "a", answer="right", value=0.3, state="pruned", cause="not among the best"),
            Step("0.1", "b", answer="b", value=0.7),
            Step("1.0", "c", answer="c", value=0.6),
        ],
        "0.1",
    )
    run = write(db, spec("beam"), {"p0": tree})
    [row] = ask(db, "lost", run)
    assert (row["how"], row["step"], row["path"], row["cause"]) == ("pruned", 2, "0.0", "not among the best")
    assert (row["margin"], row["kept_margin"]) == pytest.approx((0.3 - 0.7, 0.3 - 0.6))
    losses = {row["how"]: row for row in ask(db, "losses", run)}
    assert {how: row["lost"] for how, row in losses.items()} == {"pruned": 1, "merged": 0, "cancelled": 0, "outvoted": 0}
    assert (losses["pruned"]["share"], losses["pruned"]["preferred"], losses["pruned"]["step"]) == (1.0, 1, 2.0)


def test_what_nobody_graded_was_not_lost(db: Database) -> None:
    right = [Step("0", "a", answer="right", value=0.9), Step("1", "b", answer="b", value=0.2)]
    run = write(db, spec("beam"), {"p0": Tried(right, "0", verdict=None), "p1": Tried(right, "1")})
    assert [row["problem"] for row in ask(db, "lost", run)] == ["p1"]
    assert {row["problems"] for row in ask(db, "losses", run)} == {1}


def test_an_undecided_solution_is_neither_right_nor_wrong_of_the_verifier(db: Database) -> None:
    run = write(db, spec(), {"p0": samples(("right", 0.9), ("b", 0.8), chosen=0)})
    with db.write() as connection:
        connection.execute(text("UPDATE solution SET correct = NULL WHERE answer = 'b'"))
    [row] = ask(db, "verifier", run)
    assert (row["solutions"], row["right"]) == (1, 1.0)
    assert [row["solutions"] for row in ask(db, "calibration", run)] == [1]


def test_of_several_right_solutions_the_one_that_stayed_longest_was_lost(db: Database) -> None:
    tree = Tried(
        [
            Step("0", "a", answer="right", value=0.9, state="pruned"),
            Step("1", "b"),
            Step("1.0", "c", answer="right", value=0.2),
            Step("1.1", "d", answer="b", value=0.8),
        ],
        "1.1",
    )
    [row] = ask(db, "lost", write(db, spec("beam"), {"p0": tree}))
    assert (row["how"], row["path"], row["step"], row["right_solutions"]) == ("outvoted", "1.0", 2, 2)


def test_of_right_solutions_that_came_as_far_one_with_a_score_was_lost(db: Database) -> None:
    """The databases do not agree on where NULL is in an order."""
    tree = Tried(
        [
            Step("0", "a", answer="right", state="merged"),
            Step("1", "b", answer="right", value=0.2, state="pruned"),
            Step("2", "c", answer="b", value=0.8),
        ],
        "2",
    )
    run = write(db, spec("beam"), {"p0": tree})
    [row] = ask(db, "lost", run)
    assert (row["how"], row["path"], row["margin"]) == ("pruned", "1", pytest.approx(-0.6))
    assert [row["how"] for row in ask(db, "losses", run) if row["lost"]] == ["pruned"]


WAY = steps("one", "two", "three")
TREES = {
    "pruned": [
        Step("0", steps("one"), value=0.5),
        Step("0.0", steps("two"), value=0.3, state="pruned", cause="no room"),
        Step("0.1", steps("other"), value=0.8),
        Step("0.1.0", "so b", answer="b", value=0.9),
    ],
    # the same text was kept in a twin, and went wrong after it
    "strayed": [
        Step("0", steps("one"), value=0.5, state="pruned"),
        Step("1", steps("one"), value=0.6),
        Step("1.0", steps("other"), value=0.7),
        Step("1.0.0", "so b", answer="b", value=0.9),
    ],
    "never": [Step("0", steps("nothing of it"), value=0.5), Step("0.0", "so b", answer="b", value=0.9)],
    "unknown": [Step("0", "so b", answer="b", value=0.9)],
}


def test_a_step_that_was_dropped_on_a_way_that_another_run_went_to_its_end_was_lost_there(db: Database) -> None:
    known = {name: Tried([Step("0", WAY + "so right", answer="right")], "0") for name in TREES if name != "unknown"}
    write(db, spec("greedy"), known, "greedy")
    run = write(db, spec("beam"), {name: Tried(tree, tree[-1].path) for name, tree in TREES.items()}, "beam")
    found = {row["problem"]: row for row in ask(db, "astray", run)}
    assert {name: row["how"] for name, row in found.items()} == {
        "pruned": "pruned",
        "strayed": "strayed",
        "never": "strayed",
        "unknown": "unknown",
    }
    assert {name: row["step"] for name, row in found.items()} == {"pruned": 2, "strayed": 2, "never": 1, "unknown": None}
    assert (found["pruned"]["path"], found["pruned"]["cause"]) == ("0.0", "no room")
    assert found["pruned"]["kept_margin"] == pytest.approx(0.3 - 0.8)


def test_a_way_is_known_however_often_another_was_gone(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(astray, "KNOWN", 2)
    often = [Step(str(i), "another" + SEPARATOR + "so right", answer="right") for i in range(5)]
    way = Step("5", WAY + "so right", answer="right")
    for i, tried in enumerate((often, [*often, way], [way])):
        write(db, spec("best-of-n", i), {"pruned": Tried(tried, "0" if len(tried) > 1 else "5")})
    [row] = ask(db, "astray", write(db, spec("beam"), {"pruned": Tried(TREES["pruned"], "0.1.0")}))
    assert (row["how"], row["path"]) == ("pruned", "0.0")


def test_what_came_later_is_not_what_the_search_went_by(db: Database) -> None:
    known = {"pruned": Tried([Step("0", WAY + "so right", answer="right", value=0.9)], "0")}
    other = write(db, spec("greedy"), known, "greedy")
    lost = Tried([Step("0", "a", answer="right", value=0.3, state="pruned"), Step("1", "b", answer="b", value=0.7)], "1")
    run = write(db, spec("beam"), {"pruned": Tried(TREES["pruned"], "0.1.0"), "lost": lost}, "beam")
    before = [ask(db, name, run) for name in ("lost", "astray")]
    assert [row["kept_margin"] for [row] in before] == pytest.approx([0.3 - 0.7, 0.3 - 0.8])
    rescored(db, run, "later", 0.0)
    with db.write() as connection:  # the other run was judged by this run's own verifier, later
        row = f"SELECT '{other.id}', kind, 'fake', weights, created, environment FROM rescore"
        connection.execute(text(f"INSERT INTO rescore (run_id, kind, name, weights, created, environment) {row}"))
    assert [ask(db, name, run) for name in ("lost", "astray")] == before


# ------------------------------------------------------------------------------------------------------------- verifier


def scored(run: dict[str, Tried]) -> list[tuple[float, int]]:
    return [(s.value, int(s.answer == "right")) for t in run.values() for s in t.steps if s.value is not None]


def test_the_verifier_as_a_whole_equals_what_the_definitions_give(db: Database, pools: Run) -> None:
    [row] = ask(db, "verifier", pools)
    pairs = scored(POOLS)
    values, right = np.array([v for v, _ in pairs]), np.array([r for _, r in pairs])
    wins = [(a > b) + (a == b) / 2 for a, b in product(values[right == 1], values[right == 0])]
    assert (row["solutions"], row["problems"]) == (11, 3)
    assert row["score"] == pytest.approx(values.mean())
    assert row["right"] == pytest.approx(right.mean())
    assert row["confidence"] == pytest.approx((values - right).mean())
    assert row["brier"] == pytest.approx(((values - right) ** 2).mean())
    assert row["auc"] == pytest.approx(np.mean(wins))
    bins = [(values >= b / 10 - 1e-12) & (values < (b + 1) / 10 - 1e-12) for b in range(10)]
    assert row["ece"] == pytest.approx(sum(abs((values - right)[mine].sum()) for mine in bins) / 11)
    assert row["low"] < row["confidence"] < row["high"]


def test_calibration_has_each_score_in_its_bin(db: Database, pools: Run) -> None:
    rows = ask(db, "calibration", pools)
    assert sum(row["solutions"] for row in rows) == 11
    for row in rows:
        mine = [(v, r) for v, r in scored(POOLS) if row["from"] - 1e-12 <= v < row["to"] - 1e-12]
        assert row["solutions"] == len(mine)
        assert row["right"] == pytest.approx(np.mean([r for _, r in mine]))
        assert row["gap"] == pytest.approx(np.mean([v - r for v, r in mine]))
        assert row["low"] <= row["right"] <= row["high"]


def test_a_score_of_one_is_in_the_last_bin(db: Database) -> None:
    run = write(db, spec(n=2), {"p0": samples(("right", 1.0), ("b", 0.0), chosen=0)})
    assert [(row["from"], row["to"]) for row in ask(db, "calibration", run)] == [(0.0, 0.1), (0.9, 1.0)]
    assert ask(db, "verifier", run)[0]["auc"] == 1.0


def test_lengths_are_in_fifths_and_what_was_cut_is_left_out(db: Database) -> None:
    """Tokens 10 to 19, all of one problem: two in each fifth."""
    run = write(db, spec(n=10), {"p0": samples(*((("right" if i < 5 else "b"), i / 10) for i in range(10)), chosen=0)})
    rows = ask(db, "length", run)
    assert [(row["shortest"], row["longest"], row["solutions"]) for row in rows] == [
        (10 + 2 * i, 11 + 2 * i, 2) for i in range(5)
    ]
    assert [row["right"] for row in rows] == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert rows[2]["score_of_right"] == pytest.approx(0.4)
    assert rows[2]["score_of_wrong"] == pytest.approx(0.5)
    cut = write(db, spec(n=2), {"p0": samples(("right", 1.0), (None, None), chosen=0)})
    assert [row["solutions"] for row in ask(db, "length", cut)] == [1]


# ---------------------------------------------------------------------------------------------------------------- costs


@pytest.mark.parametrize("name", ["calibration", "verifier", "length"])
def test_of_a_very_large_run_the_problems_of_the_smallest_keys_are_the_sample(db: Database, pools: Run, name: str) -> None:
    question = QUESTIONS[name]
    sampled = replace(question, sql=question.sql.replace(f"< {verifier.SAMPLED}", "< 5"))  # each problem has four
    assert sampled.sql != question.sql
    with db.read() as connection:
        first = connection.execute(text("SELECT id FROM problem ORDER BY key")).scalars().all()[:2]
    alone = write(db, spec(n=4, seed=1), {each: POOLS[each] for each in first}, "alone")
    found, wanted = sampled.ask(db, [pools]), question.ask(db, [alone])
    assert found != question.ask(db, [pools])
    for one, other in zip(found, wanted, strict=True):
        assert {**one, "run": "", "name": ""} == {**other, "run": "", "name": ""}


def test_scores_are_compared_to_four_digits(db: Database) -> None:
    """Cut to a thousandth, all below .001 were ties."""
    run = write(db, spec(n=3), {"p0": samples(("right", 0.0009), ("b", 0.0003), ("b", 0.0002), chosen=0)})
    (row,) = ask(db, "verifier", run)
    assert row["auc"] == 1.0
    run = write(db, spec(n=4), {"p0": samples(("right", 0.0003), ("b", 0.0003), ("b", 0.0002), chosen=0)})
    (row,) = ask(db, "verifier", run)
    assert row["auc"] == 0.75


def test_costs_and_fates_add_up(db: Database) -> None:
    tree = Tried(
        [
            Step("0", "a", tokens=5),
            Step("1", "b", tokens=7, state="pruned"),
            Step("0.0", "c", answer="right", tokens=11),
            Step("0.1", "d", answer="b", tokens=13),
        ],
        "0.0",
        {"pruned_tokens": 7, "generate_seconds": 3.0, "verify_seconds": 1.0, "queue_seconds": 9.0},
    )
    run = write(db, spec("beam"), {"p0": tree})
    fates = {row["fate"]: row["tokens"] for row in ask(db, "tokens", run)}
    assert fates == {"chosen": 16, "others": 13, "pruned": 7, "cancelled": 0, "aside": 0}
    phases = {row["phase"]: (row["seconds"], row["share"]) for row in ask(db, "cost", run)}
    assert phases["generate"] == (3.0, 0.75)
    assert phases["verify"] == (1.0, 0.25)
    assert phases["queue"] == (9.0, None), "waiting is not work"
    for name in ("cost", "tokens"):
        rows = ask(db, name, run)
        assert {row["problems"] for row in rows} == {1}
        assert rests_on_few(rows), name
    assert [row["seconds"] for row in ask(db, "slow", run)] == [4.0]


def test_of_candidates_of_which_nobody_says_what_was_chosen_that_is_not_known(db: Database) -> None:
    """As of a file that was imported without it: not that nothing was."""
    tried = Tried([Step("0", "a", answer="right"), Step("1", "b", answer="b")], None, verdict=None)
    fates = {row["fate"]: (row["tokens"], row["share"]) for row in ask(db, "tokens", write(db, spec(), {"p0": tried}))}
    assert fates["chosen"] == fates["others"] == (None, None)
    nothing = Tried(tried.steps, None)  # a search that came to no choice, and was graded so
    fates = {row["fate"]: row["tokens"] for row in ask(db, "tokens", write(db, spec(seed=1), {"p0": nothing}))}
    assert (fates["chosen"], fates["others"]) == (0, 20)


def test_failures_are_named_with_their_errors(db: Database) -> None:
    run = write(db, spec("greedy"), {"p0": Tried([], None, status="failed", error="it broke"), "p1": POOLS["p1"]})
    [row] = ask(db, "failed", run)
    assert (row["problem"], row["status"], row["error"]) == ("p0", "failed", "it broke")
    [row] = ask(db, "oracle-gap", run)
    assert (row["problems"], row["never"]) == (2, 1.0), "a failed problem stays in the denominator"


# ---------------------------------------------------------------------------------------------------------------- pairs


def answered(right: str) -> dict[str, Tried]:
    """A problem a letter: 1 = right."""
    return {f"p{i}": samples(("right" if each == "1" else "b", 0.5), chosen=0) for i, each in enumerate(right)}


def test_pairs_are_over_common_problems_and_corrected_for_their_number(db: Database) -> None:
    first = write(db, spec(n=1), answered("1100000000"), "first")
    better = write(db, spec("greedy"), answered("1111111100"), "better")
    same = write(db, spec("beam"), answered("1100000000"), "same")
    rows = ask(db, "pairs", first, better, same)
    assert [row["name"] for row in rows] == ["better", "same"]
    row = rows[0]
    assert (row["difference"], row["only_baseline"], row["only_run"], row["few"]) == (pytest.approx(0.6), 0, 6, 1)
    assert row["p"] == pytest.approx(2 / 2**6)
    assert row["p_holm"] == pytest.approx(4 / 2**6)
    assert rows[1]["p_holm"] == 1.0
    [best] = [row for row in ask(db, "best", first, better, same) if row["budget"] == 1000]
    assert (best["name"], best["within"], best["tied"], best["alike"]) == ("better", 3, 2, "first and same")


def test_runs_over_other_problems_are_not_compared(db: Database) -> None:
    first = write(db, spec(n=1), answered("11"), "first")
    other = write(db, spec(n=1, problems="made"), answered("00"), "other")
    assert ask(db, "pairs", first, other) == []


def test_of_several_seeds_the_first_that_has_finished_any_problem_counts(db: Database) -> None:
    begun = Tried([], None, status="pending", usage={"generated_tokens": None}, verdict=None)
    runs = [write(db, spec(n=1), {"p0": begun}, "begun")]
    runs += [write(db, spec(n=1, seed=i), answered(right), f"seed {i}") for i, right in ((1, "10"), (2, "11"))]
    assert {(row["name"], row["within"]) for row in ask(db, "best", *runs)} == {("seed 1", 1)}


def test_a_run_of_which_nothing_was_graded_is_not_one_that_got_nothing_right(db: Database) -> None:
    first = write(db, spec(n=1), answered("11"), "first")
    told = {name: Tried(each.steps, each.chosen, verdict=None) for name, each in answered("11").items()}
    ungraded = write(db, spec("greedy"), told, "ungraded")
    assert ask(db, "pairs", first, ungraded) == ask(db, "seeds", ungraded) == ask(db, "best", ungraded) == []
    [gap] = ask(db, "oracle-gap", ungraded)
    assert (gap["oracle"], gap["chosen"], gap["lost"], gap["lost_low"], gap["recovered"]) == (1.0, None, None, None, None)
    scheduled(db, {"2026-11-01T02:00:00Z": first, "2026-11-02T02:00:00Z": ungraded})
    assert [(row["accuracy"], row["change"]) for row in ask(db, "trend", first, ungraded)] == [(1.0, None), (None, None)]


def test_a_run_however_dear_is_within_some_budget() -> None:
    assert budgets_of([{"tokens": 130_000.0}, {"tokens": 900.0}])[-1] == 200_000
    assert budgets_of([{"tokens": 30.0}]) == [50, 1000]


def test_runs_without_a_finished_problem_in_common_cannot_be_told_apart(db: Database) -> None:
    part = Tried([], None, status="pending", usage={"generated_tokens": None}, verdict=None)
    first = write(db, spec(n=1), {**answered("1"), "p1": part}, "first")
    second = write(db, spec("greedy"), {"p0": part, "p1": answered("00")["p1"]}, "second")
    [best] = [row for row in ask(db, "best", first, second) if row["budget"] == 1000]
    assert (best["name"], best["within"], best["tied"], best["alike"]) == ("first", 2, 1, "second")


@pytest.mark.parametrize(
    ("names", "said"), [("", ""), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"), ("abcde", "a, b, c and 2 more")]
)
def test_of_many_that_are_alike_the_first_are_named(names: str, said: str) -> None:
    assert listed(list(names)) == said


def test_seeds_are_told_apart_from_configurations(db: Database) -> None:
    """Ten problems, of which the second seed alone solves 6: McNemar's p as between any two runs. With a third seed that
    agrees with the first, Cochran's Q = 12 of two degrees of freedom."""
    runs = [write(db, spec(n=1, seed=s), answered(r)) for s, r in enumerate(("1100000000", "1111111100"))]
    alone = write(db, spec(n=2), answered("1100000000"))
    rows = ask(db, "seeds", *runs, alone)
    assert [(row["configuration"], row["seeds"], row["seed"]) for row in rows] == [(1, 2, 0), (1, 2, 1), (2, 1, 0)]
    assert rows[0]["spread"] == pytest.approx(0.6)
    assert rows[0]["p"] == ask(db, "pairs", *runs)[0]["p"] == 2 / 2**6
    assert (rows[2]["spread"], rows[2]["p"]) == (None, None)
    assert ask(db, "seeds", *runs, alone, *runs) == rows, "a run that is named twice is no seed of itself"
    third = write(db, spec(n=1, seed=2), answered("1100000000"))
    assert ask(db, "seeds", *runs, third)[0]["p"] == pytest.approx(math.exp(-12 / 2))


def test_the_tests_of_several_configurations_are_corrected_for_their_number(db: Database) -> None:
    """By Holm: of two, the smaller p is doubled; one without a second seed is not counted."""
    first = [write(db, spec(n=1, seed=s), answered(r)) for s, r in enumerate(("1100000000", "1111111100"))]
    second = [write(db, spec(n=2, seed=s), answered(r)) for s, r in enumerate(("1100000000", "1110000000"))]
    alone = write(db, spec(n=3), answered("1100000000"))
    rows = ask(db, "seeds", *first, *second, alone)
    assert [row["p"] for row in rows] == [2 / 2**6] * 2 + [1.0] * 2 + [None]
    assert [row["p_holm"] for row in rows] == [4 / 2**6] * 2 + [1.0] * 2 + [None]


def test_the_trend_is_of_slots_in_their_order_and_in_pairs(db: Database) -> None:
    """Two slots that were run the wrong way round, and a run that no schedule has made."""
    runs = [write(db, spec(n=1, seed=s), answered(r), f"r{s}") for s, r in enumerate(("1110", "1100", "0000"))]
    assert ask(db, "trend", *runs) == []
    scheduled(db, {"2026-11-02T02:00:00Z": runs[0], "2026-11-01T02:00:00Z": runs[1]})
    rows = ask(db, "trend", *runs)
    assert [(row["name"], row["accuracy"], row["bar"]) for row in rows] == [("r1", 0.5, 0.6), ("r0", 0.75, 0.6)]
    assert [row["change"] for row in rows] == [None, 0.25]
    assert (rows[0]["low"], rows[0]["high"]) == wilson(2, 4)
    assert (rows[0]["alarm"], rows[1]["alarm"]) == ("below", None)


# ------------------------------------------------------------------------------------------------------------ in general


def test_every_question_is_answered_by_a_frame_of_its_columns(db: Database, pools: Run) -> None:
    for question in QUESTIONS.values():
        frame = question.frame(db, [pools])
        assert list(frame.columns) == list(question.columns)
        for column in question.columns.values():
            assert {column.low, column.high} - {""} <= set(question.columns), "an interval's ends are columns"


def test_every_question_is_answered_about_a_run_that_has_nothing_yet(db: Database) -> None:
    run = write(db, spec("greedy"), {"p0": Tried([], None, status="pending")})
    for question in QUESTIONS.values():
        question.ask(db, [run])


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_is_in_the_readme_with_what_it_asks(name: str) -> None:
    assert f"| `{name}` | {QUESTIONS[name].asks} |" in README


def test_a_run_id_that_is_none_never_gets_into_the_sql() -> None:
    with pytest.raises(ValueError, match="is no run id"):
        QUESTIONS["accuracy"].about(["' OR 1=1 --"])


def test_numbers_of_both_databases_are_pythons() -> None:
    from decimal import Decimal

    found = [
        plain(each) for each in (Decimal(3), Decimal("3.0"), Decimal("0E-20"), Decimal("2.5"), float("nan"), True, "x", None)
    ]
    assert found == [3, 3.0, 0.0, 2.5, None, True, "x", None]
    assert [type(each) for each in found[:3]] == [int, float, float]


# ----------------------------------------------------------------------------------------------------------- statistics


def test_trials_of_one_cluster_are_not_taken_for_independent_ones() -> None:
    """Ten problems of which each has ten equal solutions say as much as ten solutions."""
    y = [10] * 4 + [0] * 6
    same = Clusters(10, 100, 40, 1000, sum(v * v for v in y), 10 * 40)
    low, high = clustered(same)
    assert (low, high) == pytest.approx(wilson(4, 10), abs=0.02)
    assert high - low > 2 * (wilson(40, 100)[1] - wilson(40, 100)[0])


def test_clusters_of_one_are_independent_trials() -> None:
    assert clustered(Clusters(50, 50, 20, 50, 20, 20)) == pytest.approx(wilson(20, 50), abs=0.01)


def test_where_all_agree_each_cluster_counts_once() -> None:
    assert clustered(Clusters(5, 50, 50, 500, 500, 500)) == wilson(5, 5)
    assert clustered(Clusters(0, 0, 0, 0, 0, 0)) == (0.0, 1.0)


def test_students_point_of_two_degrees_of_freedom() -> None:
    assert student(2) == pytest.approx(4.3027, abs=1e-4)


def test_a_bootstrap_over_kinds_of_problems_is_the_same_as_over_problems() -> None:
    values = np.array([[0.0], [0.5], [1.0]])
    by_kind = counted_means(values, [30, 50, 20], 20_000)
    one_by_one = resampled_means(np.repeat(values, [30, 50, 20], axis=0), 20_000)
    assert np.quantile(by_kind, [0.025, 0.5, 0.975]) == pytest.approx(np.quantile(one_by_one, [0.025, 0.5, 0.975]), abs=0.01)


def test_the_columns_of_the_readmes_views_are_those_of_the_database(db: Database) -> None:
    from sqlalchemy import inspect

    with db.read() as connection:
        asked = inspect(connection)
        views = {name: [column["name"] for column in asked.get_columns(name)] for name in asked.get_view_names()}
    told = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ((?:`\w+`(?:, )?)+) \|$", README, re.MULTILINE))
    assert {name: re.findall(r"`(\w+)`", columns) for name, columns in told.items()} == views


# ---------------------------------------------------------------------------------------------------------------- audit

DAMAGES = {
    "a row is gone": "DELETE FROM solution WHERE path = '1' AND attempt_id = 1",
    "a verdict was changed": "UPDATE solution SET correct = NOT correct WHERE path = '1' AND attempt_id = 1",
    "another is marked as chosen": "UPDATE solution SET chosen = (path = '1') WHERE attempt_id = 1",
    "two are marked as chosen": "UPDATE solution SET chosen = TRUE WHERE attempt_id = 1",
    "the attempt is open again": "UPDATE attempt SET status = 'pending' WHERE id = 1",
}


def test_what_was_derived_passes_the_audits_check(db: Database, pools: Run) -> None:
    assert "solutions" not in audit(db).found


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_audit_sees_what_was_derived_and_is_wrong(db: Database, pools: Run, damage: str) -> None:
    with db.write() as connection:
        connection.execute(text(DAMAGES[damage]))
    assert audit(db).found["solutions"] == 1


def test_a_failed_attempt_that_is_opened_again_gives_up_what_was_derived(db: Database) -> None:
    run = write(db, spec("beam"), {"p0": Tried([Step("0", answer="right")], None, status="failed", error="it broke")})
    with db.read() as connection:
        assert connection.scalar(text("SELECT solutions FROM attempt")) == 1
    assert retry(db, run.id) == 1
    with db.read() as connection:
        assert connection.execute(text("SELECT solutions, right_solutions FROM attempt")).one() == (None, None)
        assert connection.scalar(text("SELECT count(*) FROM solution")) == 0
