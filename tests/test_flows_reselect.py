"""`ponderosa reselect`: estimates over stored candidates, against the selectors themselves on every subset."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from command import Command
from sqlalchemy import text
from test_store_fakes import FakeVerifier, make_spec, new_database, stored_run

from flows import work
from flows.parts import part, spec
from flows.reselect import about, parsed
from search.estimate import Pool, estimates
from search.packing import unpack
from search.select import SELECTORS, Entry, Selector
from search.tree import scored
from search.types import Budget, Finish, Join, Packed, Part, Problem, Question, Sampling, Step, Trace
from store import queries
from store.database import Database, open_database
from store.pools import Signal, pools
from store.reselect import Plan, Row, named, planned_for, rejoined, reselect
from store.runs import Run, find_run, planned
from store.solutions import allowed, pools_of
from verifiers.grade import Graders, Verdict
from verifiers.registry import load_verifier, signals


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on the bundled models: best-of-6 and a beam."""
    folder = tmp_path_factory.mktemp("reselect")
    with open_database(folder / "a.db") as opened:
        for strategy in ("best-of-n:n=6,select=best", "beam:n=4,keep=2"):
            work.evaluate(opened, spec("word:count=4", strategy), strategy.partition(":")[0])
        # scored by a signal as it ran, with what every signal goes by
        asked = spec("word:count=4", "beam:n=4,keep=2", "confidence:window=8", sampling=Sampling(confidence=20))
        work.evaluate(opened, asked, "sure")
    return folder


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with new_database(str(tmp_path / "a.db")) as opened:
        yield opened


def stored_step(db: Database, attempt: int, path: str) -> Step:
    with db.read() as connection:
        asked = text("SELECT packed, extra FROM candidate WHERE attempt_id = :attempt AND path = :path")
        row = connection.execute(asked, {"attempt": attempt, "path": path}).one()
    return unpack(Packed(row.packed, row.extra), "", Finish.END)


def right(problem: Problem, answer: str) -> bool:
    return answer == problem.answer


def rows_of(db: Database, run: Run, plan: Plan) -> dict[tuple[str, object], Row]:
    return {(row.selector, row.n if row.budget is None else row.budget): row for row in reselect(db, run, plan, right).rows}


def test_each_selector_at_each_size_is_the_mean_over_all_subsets_of_the_stored_solutions(ponderosa: Command, ran: Path) -> None:
    done = ponderosa("reselect", "best-of-n", "--n", "1,2,6", "--json", "-d", "a.db", cwd=ran)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["pool"]["independent"] is True
    assert told["confidences"] == "self-certainty"
    got = {(row["selector"], row["n"]): row for row in told["rows"]}
    assert {name for name, _ in got} == {"random", "oracle", *SELECTORS}
    with open_database(str(ran / "a.db"), create=False) as db, Graders() as graders:
        run = find_run(db, "best-of-n")
        problems = {a.attempt_id: a.problem for a in planned(db, run.id)}
        pools = queries.entries(db, run.id, confidences=True)
        found = queries.summary(db, run.id)
        for name in SELECTORS:
            for n in (1, 2, 6):
                wins = [
                    np.mean(
                        [
                            graders.grade(problems[attempt], Selector(name)(subset).answer) is Verdict.CORRECT
                            for subset in combinations(pool, n)
                        ]
                    )
                    for attempt, pool in pools.items()
                ]
                assert got[name, n]["by_rule"] == pytest.approx(np.mean(wins)), (name, n)
                assert got[name, n]["tokens"] == pytest.approx(found.generated_tokens * n / 6)
        # at the whole pool, the run's own selector is what the run chose and what it cost
        assert got["best", 6]["by_rule"] == pytest.approx(found.accuracy)
        assert got["best", 6]["passes"] == pytest.approx(found.verifier_passes)
        assert got["majority", 6]["passes"] == 0
    assert got["oracle", 1]["accuracy"] == pytest.approx(got["random", 6]["accuracy"])


def test_a_tree_is_told_apart_from_independent_solutions_and_has_a_row_for_all_of_each_pool(
    ponderosa: Command, ran: Path
) -> None:
    done = ponderosa("reselect", "beam", "--selector", "best", "-d", "a.db", cwd=ran)
    assert done.code == 0, done.err
    assert "whole solutions a problem that beam ended or cut, pruned ones too; they may depend on each other" in done.out
    assert "deepconf" not in done.out
    with open_database(str(ran / "a.db"), create=False) as db:
        sizes = pools_of(db, find_run(db, "beam")).sizes
    words = {line.split()[1] for line in done.out.splitlines() if line.startswith("best ")}
    assert ("all" in words) == (len(set(sizes)) > 1)


def test_nothing_is_generated_and_nothing_is_written(ponderosa: Command, ran: Path) -> None:
    before = (ran / "a.db").read_bytes()
    assert ponderosa("reselect", "best-of-n", "-d", "a.db", cwd=ran).code == 0
    assert (ran / "a.db").read_bytes() == before


BAD = [
    (("--n", "7"), 2, "n=7 cannot be drawn from every pool; the largest possible is 6, the least 1"),
    (("--n", "0"), 2, "n=0 cannot be drawn from every pool"),
    (("--n", "two"), 2, "'two' is not a count"),
    (("--selector", "majorty"), 2, "unknown selector 'majorty'; did you mean 'majority'?"),
    (("--selector", "majority:power=2"), 2, "selector 'majority' takes no power; borda does"),
    (("--selector", "deepconf:keep=2"), 2, "keep must be above 0 and at most 1, not 2.0"),
    (("--join", "max"), 2, "unknown join 'max'"),
    (("--budget", "0"), 2, "a budget must be at least 1 token, not 0"),
    (("--resamples", "0"), 2, "resamples must be at least 1, not 0"),
    (("--verifier", "nobody"), 2, "unknown verifier 'nobody'"),
    (("--verifier", "prm:join=min"), 2, "the run was not scored by 'prm:join=min': its scores are"),
    (("--verifier", "entropy:join=max"), 2, "unknown join 'max'"),
    (("--verifier", "confidence:window=0"), 2, "window must be at least 1 token, not 0"),
    (("--verifier", "confidence"), 2, "its tokens' top-k confidences are not stored: ask for them with --confidence 20"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_what_the_pools_cannot_serve_is_refused_in_one_line(
    ponderosa: Command, ran: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = ponderosa("reselect", "best-of-n", *arguments, "-d", "a.db", cwd=ran)
    assert done.code == code, done.err
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_signal_over_what_is_stored_has_the_values_that_it_had_as_the_run_went(ran: Path) -> None:
    """To the last bit, and for solutions of several steps."""
    with open_database(str(ran / "a.db"), create=False) as db:
        run = find_run(db, "sure")
        signal = Signal(*load_verifier(Part("confidence", {"window": 8})))
        live, again = queries.entries(db, run.id), dict(pools(db, run.id, signal=signal))
        pairs = [both for attempt, pool in live.items() for both in zip(pool, again[attempt], strict=True)]
        judged = [(was, now) for was, now in pairs if was.value is not None]  # a beam does not judge all that it ends
        assert [(now.value, now.parts) for _, now in judged] == [(was.value, was.parts) for was, _ in judged]
        assert len({was.value for was, _ in judged}) > 4


@pytest.mark.parametrize(
    "name", [name for name in signals() if name != "confidence"] + ["confidence:of=self-certainty,window=16"]
)
def test_every_signal_scores_a_run_that_was_scored_by_another(ponderosa: Command, ran: Path, name: str) -> None:
    done = ponderosa(
        "reselect", "best-of-n", "--verifier", name, "--selector", "best", "--n", "6", "--json", "-d", "a.db", cwd=ran
    )
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["signal"] == name.partition(":")[0]
    row = next(row for row in told["rows"] if row["selector"] == "best")
    assert row["passes"] == 0, "it runs no model"
    with open_database(str(ran / "a.db"), create=False) as db, Graders() as graders:
        run = find_run(db, "best-of-n")
        problems = {a.attempt_id: a.problem for a in planned(db, run.id)}
        verifier, join = load_verifier(part(name))
        wins = []
        for attempt, pool in queries.entries(db, run.id).items():
            steps = [stored_step(db, attempt, entry.path) for entry in pool]
            traces = [Trace(Question("", "", ()), (step,)) for step in steps]
            scores = [scored(e.path, "", r.parts, r.reason, join) for e, r in zip(pool, verifier.score(traces), strict=True)]
            judged = [replace(e, value=s.value, parts=s.parts) for e, s in zip(pool, scores, strict=True)]
            wins.append(graders.grade(problems[attempt], Selector("best")(judged).answer) is Verdict.CORRECT)
    assert row["by_rule"] == pytest.approx(np.mean(wins))


def test_a_signal_has_no_value_where_no_statistics_are_stored(db: Database) -> None:
    stored_run(db, make_spec(n=4))
    run = find_run(db, make_spec(n=4).id)
    with db.write() as connection:
        # as an import writes what has no statistics, with its tokens counted or not
        connection.execute(text("UPDATE candidate SET packed = x'', extra = x'00', tokens = 0 WHERE attempt_id % 2 = 1"))
        connection.execute(text("UPDATE candidate SET packed = x'', extra = x'00' WHERE attempt_id % 2 = 0"))
    signal = Signal(*load_verifier(Part("entropy")))
    plan = replace(planned_for(pools_of(db, run), [Selector("majority")], [4]), signal=signal)
    with pytest.raises(
        ValueError, match=f"verifier 'entropy' cannot score run {run.id}: no statistics of its tokens are stored"
    ):
        reselect(db, run, plan, right)
    assert {entry.value for _, pool in pools(db, run.id, signal=signal) for entry in pool} == {None}


def test_a_budget_takes_the_first_solutions_whose_tokens_fit(db: Database) -> None:
    stored_run(db, make_spec(n=6), n=5)
    run = find_run(db, make_spec(n=6).id)
    plan = planned_for(pools_of(db, run), [Selector("majority")], budgets=[1, 14, 1000])
    rows = rows_of(db, run, plan)
    problems = {a.attempt_id: a.problem for a in planned(db, run.id)}
    heads = {}
    for attempt, pool in queries.entries(db, run.id).items():
        spent, heads[attempt] = 0, []
        for entry in pool:
            spent += entry.tokens
            if spent > 14:
                break
            heads[attempt].append(entry)
    chosen = {attempt: Selector("majority")(head) for attempt, head in heads.items()}
    row = rows["majority", 14]
    assert row.by_rule == pytest.approx(np.mean([c.answer == problems[a].answer for a, c in chosen.items()]))
    assert row.tokens == pytest.approx(np.mean([sum(e.tokens for e in head) for head in heads.values()]))
    assert row.candidates == pytest.approx(np.mean([len(head) for head in heads.values()]))
    assert row.tokens is not None
    assert row.tokens <= 14
    whole = rows_of(db, run, planned_for(pools_of(db, run), [Selector("majority")], [6]))["majority", 6]
    assert rows["majority", 1000].accuracy == whole.accuracy


def test_a_budget_is_refused_for_solutions_that_depend_on_each_other(db: Database) -> None:
    stored_run(db, make_spec("first-finish"))
    have = pools_of(db, find_run(db, make_spec("first-finish").id))
    with pytest.raises(ValueError, match="those of first-finish are not; leave it out"):
        planned_for(have, budgets=[100])


def test_scores_of_steps_can_be_read_by_another_rule(db: Database) -> None:
    stored_run(db, make_spec("beam", n=6, keep=3), n=4, budget=Budget(tokens=120))
    run = find_run(db, make_spec("beam", n=6, keep=3).id)
    have = pools_of(db, run)
    plan = planned_for(have, [Selector("best"), Selector("best", join=Join.MEAN), Selector("majority")], [None])
    plan = rejoined(plan, Join.LAST)
    rows = rows_of(db, run, plan)
    assert set(rows) == {(name, None) for name in ("random", "best:join=last", "best:join=mean", "majority", "oracle")}
    problems = {a.attempt_id: a.problem for a in planned(db, run.id)}
    for join in (Join.LAST, Join.MEAN):
        wins = [
            Selector("best", join=join)(pool).answer == problems[a].answer for a, pool in queries.entries(db, run.id).items()
        ]
        assert rows[f"best:join={join}", None].by_rule == pytest.approx(np.mean(wins))


def test_a_problem_without_solutions_is_an_abstention_at_every_size(db: Database) -> None:
    stored_run(db, make_spec(n=4), n=2)
    with db.write() as connection:
        connection.execute(text("DELETE FROM score WHERE attempt_id = 2"))
        connection.execute(text("DELETE FROM candidate WHERE attempt_id = 2"))
        connection.execute(text("UPDATE attempt SET status = 'failed' WHERE id = 2"))
    run = find_run(db, make_spec(n=4).id)
    have = pools_of(db, run)
    assert (have.sizes, have.smallest) == ((4, 0), 4)
    rows = rows_of(db, run, planned_for(have))
    lost = queries.entries(db, run.id)[1]
    for row in rows.values():
        assert row.abstains >= 0.5
        assert row.accuracy <= 0.5
    assert rows["oracle", 4].abstains == (0.5 if any(entry.answer for entry in lost) else 1.0)


def test_unfinished_problems_are_left_out_and_said_to_be(db: Database) -> None:
    stored_run(db, make_spec(n=4), n=3)
    with db.write() as connection:
        connection.execute(text("UPDATE attempt SET status = 'running' WHERE id = 2"))
    run = find_run(db, make_spec(n=4).id)
    have = pools_of(db, run)
    assert (have.sizes, have.pending) == ((4, 4), 1)
    assert about(have).endswith("; 1 unfinished problems are left out")
    assert reselect(db, run, planned_for(have, sizes=[1]), right).problems == 2


def test_only_the_selectors_that_the_data_allow_are_run(db: Database) -> None:
    """No scores, and, as in candidates written elsewhere, no statistics of tokens."""
    stored_run(db, make_spec(n=4))
    run = find_run(db, make_spec(n=4).id)
    have = pools_of(db, run)
    assert allowed(have.scored, have.measured) == [name for name, rule in SELECTORS.items() if not rule.needs_verifier]
    with pytest.raises(ValueError, match="selector 'best' needs a verifier's scores, and the run has none"):
        planned_for(have, [Selector("best")])
    with db.write() as connection:
        connection.execute(text("UPDATE candidate SET certainty = NULL, logprob = NULL"))
    bare = pools_of(db, run)
    assert allowed(bare.scored, bare.measured) == ["majority", "shortest"]
    with pytest.raises(ValueError, match="selector 'deepconf' needs statistics of tokens, and the run has none"):
        planned_for(bare, [Selector("deepconf")])


def test_a_run_without_a_whole_solution_has_nothing_to_select_from(db: Database) -> None:
    stored_run(db, make_spec(n=4), n=1)
    with db.write() as connection:
        connection.execute(text("UPDATE candidate SET finish = 'step'"))
    with pytest.raises(ValueError, match="no solution of the 1 finished problems is whole"):
        planned_for(pools_of(db, find_run(db, make_spec(n=4).id)))


def test_the_scores_of_one_of_several_verifiers_can_be_asked(db: Database) -> None:
    spec = make_spec(n=4, select="best")
    stored_run(db, spec, n=3, verifier=FakeVerifier())
    with db.write() as connection:
        copy = "INSERT INTO score SELECT attempt_id, path, 'other', 1 - value, '[0.1]', '', 'min', reply, number FROM score"
        connection.execute(text(copy))
    run = find_run(db, spec.id)
    plan = planned_for(pools_of(db, run), [Selector("best")], [4])
    found = {}
    for name in ("fake", "other"):
        wanted = Plan(plan.selectors, plan.sizes, verifier=name)
        found[name] = rows_of(db, run, wanted)["best", 4].by_rule
        pools = queries.entries(db, run.id, name)
        problems = {a.attempt_id: a.problem for a in planned(db, run.id)}
        assert found[name] == pytest.approx(
            np.mean([Selector("best")(p).answer == problems[a].answer for a, p in pools.items()])
        )


def test_the_interval_is_over_problems_and_repeats_by_seed(db: Database) -> None:
    stored_run(db, make_spec(n=4), n=12)
    run = find_run(db, make_spec(n=4).id)
    plan = planned_for(pools_of(db, run), [Selector("majority")], [4])
    row = rows_of(db, run, plan)["majority", 4]
    assert row.low <= row.accuracy <= row.high
    assert row.high - row.low > 0.1  # twelve problems say little
    assert rows_of(db, run, plan)["majority", 4] == row


def test_the_words_of_the_command_line_are_selectors_sizes_and_tokens() -> None:
    words = parsed(["borda:power=1.2", "deepconf:measure=tail,keep=0.5,window=64", "best:join=min"], "1,4, all", ["2k"])
    selectors = [
        Selector("borda", power=1.2),
        Selector("deepconf", measure="tail", keep=0.5, window=64),
        Selector("best", join=Join.MIN),
    ]
    assert words == (selectors, [1, 4, None], [2000])
    assert [named(s) for s in selectors] == ["borda:power=1.2", "deepconf:measure=tail,window=64,keep=0.5", "best:join=min"]
    assert parsed([], None, []) == ([], [], [])


@pytest.mark.crash
def test_two_hundred_pools_of_64_with_every_selector_at_seven_sizes_take_less_than_the_bar() -> None:
    """The bar is 20 s of one core; it takes about 4."""
    rng = np.random.default_rng(0)
    began = time.process_time()
    for problem in range(200):
        answers = rng.choice(12, 64, p=rng.dirichlet(np.ones(12) * 0.4))
        pool = [
            Entry(str(i), f"{a}" if a < 11 else None, int(rng.integers(20, 60)), rng.random(), -rng.random(), (), rng.random(),
                  rng.random(40).astype(np.float32), "x")
            for i, a in enumerate(answers)
        ]  # fmt: skip
        marked = Pool.of(pool, lambda answer: answer == "0")
        for name in SELECTORS:
            assert len(estimates(marked, Selector(name), [1, 2, 4, 8, 16, 32, 64], 100, problem)) == 7
    assert time.process_time() - began < 20
