"""The work of a run on the real bundled models, without Prefect, and what the database holds after it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import laws
import pytest
from sums import tokens_match

from flows import audit, solved, work
from flows.parts import spec
from search.strategies import STRATEGIES, build
from search.types import Join, Problem, RunSpec
from store import queries
from store.database import Database, open_database
from store.pools import entries
from store.runs import find_run
from store.solutions import pools_of

SEARCHED = """
    select problem_key, c.path, text, c.state from candidate c join attempt a on a.id = attempt_id order by 1, 2"""
PROBLEMS = "word:count=6,levels=2-4,seed=3"
SETTINGS = {
    "adadec": "adadec:threshold=0.5",
    "adaptive-consistency": "adaptive-consistency:n=6",
    "allocated": "allocated:n=3",
    "astar": "astar:k=3",
    "awrs": "awrs:n=2,peek=8",
    "beam": "beam:n=4,keep=2",
    "best-first": "best-first:k=3",
    "best-of-n": "best-of-n:n=4,select=weighted",
    "budget-forcing": "budget-forcing:waits=1",
    "cntp": "cntp:trials=4",
    "collaborative": "collaborative:n=4",
    "contrastive": "contrastive:k=2",
    "deepconf": "deepconf:n=6,warmup=3,window=8",
    "diverse-beam": "diverse-beam:n=2",
    "dvts": "dvts:n=4,width=2",
    "early-stopping": "early-stopping:n=6,window=3",
    "entropy-adaptive": "entropy-adaptive:tau=0.3",
    "fetch": "fetch:of=beam,how=embedding,n=4,keep=2",
    "first-finish": "first-finish:n=4,m=2",
    "greedy": "greedy",
    "icn": "icn:n=2",
    "knockout": "knockout:n=3,room=64",
    "last-finish": "last-finish:n=4,m=2",
    "mcts": "mcts:k=3,simulations=6",
    "mirostat": "mirostat",
    "momentum": "momentum",
    "particles": "particles:n=4",
    "pg-td": "pg-td:k=2,simulations=4",
    "plan-search": "plan-search:observations=2,combinations=2",
    "rebase": "rebase:n=4",
    "rstar": "rstar:k=2,simulations=4",
    "self-agreement": "self-agreement:n=3",
    "stochastic-beam": "stochastic-beam:n=2",
}
LONG = ("contrastive", "stochastic-beam")  # on the real model
SHAPES = ("astar", "beam", "best-of-n", "contrastive", "entropy-adaptive", "first-finish", "greedy", "stochastic-beam")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "runs.db") as opened:
        yield opened


def rows(database: Database, sql: str) -> list[tuple[object, ...]]:
    """Straight from the file, with nothing of ours between."""
    with sqlite3.connect(database.shown) as connection:
        return connection.execute(sql).fetchall()


def test_every_strategy_has_a_setting_here() -> None:
    assert set(SETTINGS) == set(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_of_each_strategy_leaves_its_whole_search_in_the_database(database: Database, name: str) -> None:
    asked = spec(PROBLEMS, SETTINGS[name])
    run = work.evaluate(database, asked, name)
    found = queries.summary(database, run)
    assert (found.problems, found.done, found.failed, found.graded) == (6, 6, 0, 6)
    assert tokens_match(database, run) == []
    (orphans,) = rows(
        database,
        "select count(*) from candidate c where c.parent <> '' and not exists "
        "(select 1 from candidate p where p.attempt_id = c.attempt_id and p.path = c.parent)",
    )
    assert orphans == (0,)
    chosen = rows(
        database,
        "select a.answer, c.answer, c.state from attempt a join candidate c on c.attempt_id = a.id and c.path = a.path",
    )
    assert len(chosen) >= (1 if name == "plan-search" else 4)  # the bundled model follows no instructions
    assert all(said == held and state == "finished" for said, held, state in chosen)
    (passes,) = rows(database, "select sum(verifier_passes) from attempt")
    (scored,) = rows(database, "select count(*) from score where value is not null")
    assert passes == scored
    if name in ("beam", "astar"):
        assert rows(database, "select count(*) from candidate where state in ('pruned', 'merged')") != [(0,)]
    again = audit.Replays()
    audit.replay(database, find_run(database, run), None, again)
    assert (again.done, again.faults) == (6, [])


@pytest.mark.parametrize("name", ["knockout", "plan-search"])
def test_what_is_asked_aside_is_no_solution_and_older_runs_replay_without_it(database: Database, name: str) -> None:
    run = work.evaluate(database, spec(PROBLEMS, SETTINGS[name]))
    beside = "from candidate where state = 'aside'"
    causes = {"knockout": {"comparison"}, "plan-search": {"list", "plan"}}[name]
    assert {cause for (cause,) in rows(database, f"select cause {beside}")} == causes
    assert rows(database, f"select count(*) {beside} and (answer is not null or prompt is null)") == [(0,)]
    (wholes,) = rows(database, "select count(*) from candidate where state <> 'aside'")
    solved.ensure(database, [run])
    assert rows(database, "select count(*) from solution") == [wholes]
    sizes = pools_of(database, find_run(database, run)).sizes
    assert sizes == tuple(len(pool) for pool in entries(database, run).values())
    assert (sum(sizes),) == wholes
    assert sizes == (3,) * 6 or name != "knockout"
    with sqlite3.connect(database.shown) as connection:
        connection.execute("update candidate set state = 'finished', cause = 'end' where state = 'aside' and finish = 'end'")
    again = audit.Replays()
    audit.replay(database, find_run(database, run), None, again)
    assert (again.done, again.faults) == (6, [])
    with sqlite3.connect(database.shown) as connection:
        connection.execute(
            "update candidate set state = 'pruned' where prompt is not null and number = (select max(number) from candidate)"
        )
    again = audit.Replays()
    audit.replay(database, find_run(database, run), None, again)
    assert again.faults, "any other state is a fault"


def test_running_the_same_spec_again_generates_nothing(database: Database) -> None:
    asked = spec(PROBLEMS, "best-of-n:n=2")
    work.evaluate(database, asked)
    before = rows(database, "select attempt_id, path, text from candidate order by 1, 2")
    seen: list[int] = []
    work.evaluate(database, asked, watch=lambda progress: seen.append(progress.done))
    assert seen == []
    assert rows(database, "select attempt_id, path, text from candidate order by 1, 2") == before


def test_a_run_cut_off_in_the_middle_goes_on_and_ends_like_one_that_was_not(tmp_path: Path) -> None:
    asked = spec(PROBLEMS, "beam:n=4,keep=2")
    texts = []
    for name in ("whole", "cut"):
        with open_database(tmp_path / f"{name}.db") as opened:
            if name == "cut":

                def stop(progress: work.Progress) -> None:
                    if progress.done == 2:
                        raise KeyboardInterrupt

                with pytest.raises(KeyboardInterrupt):
                    work.evaluate(opened, asked, watch=stop)
                assert find_run(opened, asked.id).status == "interrupted"
            work.evaluate(opened, asked)
            assert find_run(opened, asked.id).status == "done"
            texts.append(
                rows(
                    opened,
                    SEARCHED,
                )
            )
    assert texts[0] == texts[1]


def test_the_same_texts_come_out_whatever_runs_beside_a_search() -> None:
    asked = spec(PROBLEMS, "beam:n=4,keep=2")
    problems = [(i, p) for i, p in enumerate(_problems(asked))]
    together = {o.search.key: _texts(o) for o in work.solve(problems, asked)}
    for pair in problems[:3]:
        (alone,) = work.solve([pair], asked)
        assert _texts(alone) == together[pair[0]]


@pytest.mark.parametrize("budget", ["50", *(pytest.param(each, marks=pytest.mark.slow) for each in ("1", "333"))])
def test_a_token_budget_is_never_passed_on_the_real_model(budget: str) -> None:
    for name in SHAPES:  # the laws hold it for all, on the small language
        asked = spec(PROBLEMS, SETTINGS[name], budget=budget)
        for outcome in work.solve(list(enumerate(_problems(asked))), asked):
            assert outcome.error == "", (name, outcome.error)
            assert outcome.search.tree.usage.generated_tokens <= int(budget)


def test_no_search_made_here_can_reach_a_reference_answer() -> None:
    asked = spec(PROBLEMS, "beam:n=4,keep=2")
    problem = Problem("p", "Ben has 2 coins. Ben finds 3 more. How many coins does Ben have now?", "the-reference-7719")
    made = work.search_of(0, problem, asked, work.generator_of(asked.generator), work.verifier_of(asked.verifier))
    assert laws.trail("the-reference-7719", made) is None
    assert laws.trail("the-reference-7719", [made, problem]) is not None


def test_a_runs_stops_are_its_trees() -> None:
    asked = replace(spec(PROBLEMS, "greedy"), stops=("Question:",))
    problem = Problem("p", "Ben has 2 coins.", "2")
    made = work.search_of(0, problem, asked, work.generator_of(asked.generator), work.verifier_of(asked.verifier))
    assert made.tree.stops == ("Question:",)


def _problems(asked: RunSpec) -> list[Problem]:
    from pipelines.problems.load import load_problems

    return load_problems(asked.problems)


def _texts(outcome: object) -> dict[str, str]:
    return {path: c.step.text for path, c in outcome.search.tree.candidates.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", [n if n in SHAPES and n not in LONG else pytest.param(n, marks=pytest.mark.slow) for n in STRATEGIES]
)
def test_a_budget_of_flops_is_passed_by_one_scored_trace_at_most(database: Database, name: str) -> None:
    whole_spec = spec(PROBLEMS, SETTINGS[name])
    whole = work.evaluate(database, whole_spec)
    (most,) = rows(database, "select max(flops) from attempt")
    scorer = work.verifier_of(whole_spec.verifier)[0].scorer  # type: ignore[attr-defined]
    longest = 2.0 * scorer.parameters * 512  # of a prompt and a solution, computed from the first token
    if getattr(build(whole_spec.strategy), "needs_encoder", False):  # what one vector may cost: a text as long as the context
        longest += 2 * work.generator_of(whole_spec.generator).engine.parameters * 512
    for share in (0.03, 0.3, 0.8):
        bound = share * most[0]  # type: ignore[operator]
        asked = spec(PROBLEMS, SETTINGS[name], flops=bound)
        run = work.evaluate(database, asked)
        assert run != whole
        spent = rows(database, f"select flops, error from attempt where run_id = '{run}'")
        assert all(flops <= bound + longest and error is None for flops, error in spent)  # type: ignore[operator]
        assert share < 0.3 or sum(flops for flops, _ in spent) > 0  # type: ignore[misc]
    assert audit.run(database, None, replays=None) == 0  # empty steps and refused scores are replayed like others


@pytest.mark.parametrize(("verifier", "join"), [("prm", "min"), ("prm:join=prod", "prod"), ("logprob", "prod")])
def test_the_join_of_steps_is_in_the_spec_and_read_back_from_the_store(database: Database, verifier: str, join: str) -> None:
    """A default that was not written down would change what an old run means when it changes."""
    run = work.evaluate(database, spec(PROBLEMS, "best-of-n:n=2,select=best", verifier))
    assert find_run(database, run).spec.verifier.params["join"] == join
    found = rows(database, "select distinct join_rule from score")
    assert found == [(join,)]
    some = rows(database, "select parts, value from score where value is not null")
    assert some
    assert all(Join(join)(json.loads(parts)) == value for parts, value in some)  # type: ignore[arg-type]


def test_a_budget_of_seconds_ends_a_search_soon_after(database: Database) -> None:
    asked = spec(PROBLEMS, "best-of-n:n=64", seconds=0.02)
    run = work.evaluate(database, asked)
    found = rows(database, f"select generate_seconds + verify_seconds, candidates from attempt where run_id = '{run}'")
    assert all(candidates == 64 for _, candidates in found)
    assert rows(database, "select count(*) from candidate where finish = 'budget'") != [(0,)]
    (longest,) = rows(database, "select max(generate_seconds) from attempt")
    assert longest[0] < 1.0  # type: ignore[operator]  # a pass over it; the whole search takes seconds
    assert audit.run(database, None, replays=None) == 0
