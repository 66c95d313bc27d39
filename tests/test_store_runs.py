"""Runs: planning twice is planning once, and nothing finished is run or deleted again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select
from test_store_fakes import FakeGenerator, drive_all, make_journal, make_problems, make_search, make_spec, stored_run

from search.types import Extend, Part, Problem, Until
from store import queries, schema
from store.database import Database, StoreError, open_database
from store.runs import begin_run, end_run, find_run, grade, list_runs, planned, problem_key, restart


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "a.db") as opened:
        yield opened


def count(db: Database, table: str) -> int:
    with db.read() as connection:
        return connection.scalar(select(func.count()).select_from(schema.metadata.tables[table])) or 0


def test_beginning_a_run_twice_finds_the_same_attempts_in_the_problems_order(db: Database) -> None:
    spec, problems = make_spec(seed=7), make_problems(4)
    first = begin_run(db, spec, problems, {"python": "3.11"}, name="try")
    again = begin_run(db, spec, problems[::-1], {"python": "3.12"}, name="other")
    assert first == again[::-1]
    assert [(p.problem, p.seed, p.status, p.closed) for p in first] == [(p, 7, "pending", False) for p in problems]
    run = find_run(db, spec.id)
    assert (run.spec, run.name, run.status, run.environment) == (spec, "try", "running", {"python": "3.11"})


def test_an_attempt_that_ended_is_not_planned_again_and_a_finished_run_stays_finished(tmp_path: Path) -> None:
    spec = make_spec()
    db, _ = stored_run(tmp_path / "a.db", spec)
    end_run(db, spec.id, "done")
    assert all(p.closed for p in begin_run(db, spec, make_problems(), {}))
    run = find_run(db, spec.id)
    assert run.status == "done"
    assert run.ended is not None
    assert run.ended > run.created
    db.close()


def test_the_plan_of_a_run_can_be_read_back_with_its_problems(db: Database) -> None:
    plan = begin_run(db, make_spec(), make_problems(12), {})
    begin_run(db, make_spec(seed=1), make_problems(12)[::-1], {})
    assert planned(db, make_spec().id) == plan
    assert planned(db, "nothing") == []


def test_an_interrupted_run_is_running_again_when_it_is_begun_again(db: Database) -> None:
    spec = make_spec()
    begin_run(db, spec, make_problems(), {})
    end_run(db, spec.id, "interrupted")
    begin_run(db, spec, make_problems(), {})
    assert (find_run(db, spec.id).status, find_run(db, spec.id).ended) == ("running", None)


def test_two_runs_share_their_problems(db: Database) -> None:
    begin_run(db, make_spec(seed=1), make_problems(3), {})
    begin_run(db, make_spec(seed=2), make_problems(4), {})
    assert (count(db, "problem"), count(db, "attempt"), count(db, "run")) == (4, 7, 2)


@pytest.mark.parametrize("change", [{"id": "x"}, {"prompt": "x"}, {"answer": "x"}, {"source": "x"}])
def test_a_problem_of_other_content_has_another_key(change: dict[str, str]) -> None:
    problem = make_problems()[0]
    assert problem_key(replace(problem, **change)) != problem_key(problem)  # type: ignore[arg-type]
    assert problem_key(replace(problem, meta={"other": 1})) == problem_key(problem)


def test_the_parts_of_a_key_cannot_run_into_each_other() -> None:
    assert problem_key(Problem("a|b", "c", "d")) != problem_key(Problem("a", "b|c", "d"))


def test_a_problem_of_hostile_text_can_be_stored(db: Database) -> None:
    [plan] = begin_run(db, make_spec(), [Problem("a\x00", "\ud800", "\x00", meta={"k": "\x00\ud800"})], {})
    [row] = queries.attempts(db, make_spec().id)
    assert (row.problem, plan.problem.id) == ("a\ufffd", "a\x00")


@pytest.mark.parametrize(
    ("problems", "environment", "said"),
    [
        ([], {}, "has 0 problems"),
        (make_problems(2) + make_problems(1), {}, "problem id 'p0' is given twice (places 0 and 2)"),
        ([Problem("p", "?", "1", meta={"x": math.nan})], {}, "the meta of problem 'p' cannot be stored as JSON"),
        (make_problems(1), {"x": object()}, "the environment cannot be stored as JSON"),
    ],
)
def test_a_run_that_cannot_be_stored_is_refused_whole(
    db: Database, problems: list[Problem], environment: dict[str, object], said: str
) -> None:
    with pytest.raises(StoreError) as raised:
        begin_run(db, make_spec(), problems, environment)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list_runs(db) == []


def test_other_problems_under_the_same_spec_are_refused(db: Database) -> None:
    begin_run(db, make_spec(), make_problems(3), {})
    with pytest.raises(StoreError, match="was begun with 3 other problems than these 2"):
        begin_run(db, make_spec(), make_problems(2), {})


def test_restarting_deletes_what_an_interrupted_search_left_and_the_search_then_runs_whole(db: Database) -> None:
    spec = make_spec("beam")
    plan = begin_run(db, spec, make_problems(2), {})
    drive_all(db, spec, plan[:1])
    kept = queries.tree(db, plan[0].attempt_id)
    _interrupt(db, plan[1].attempt_id)
    again = begin_run(db, spec, make_problems(2), {})
    assert [p.status for p in again] == ["done", "running"]
    left = [p for p in again if not p.closed]
    restart(db, [p.attempt_id for p in left])
    assert queries.tree(db, left[0].attempt_id) == []
    assert [p.status for p in begin_run(db, spec, make_problems(2), {})] == ["done", "pending"]
    drive_all(db, spec, left)
    assert queries.tree(db, plan[0].attempt_id) == kept
    assert queries.tokens_match(db, spec.id) == []
    assert queries.summary(db, spec.id).done == 2


def _interrupt(db: Database, attempt_id: int) -> None:
    """Leaves the first reply of another search under the attempt, as a process that died would."""
    spec = make_spec("beam", seed=99)
    plan = [p for p in begin_run(db, make_spec("beam"), make_problems(2), {}) if p.attempt_id == attempt_id]
    journal, search = make_journal(db, plan), make_search(plan[0], spec)
    asking = search.strategy.search(search.tree)
    request = next(asking)
    assert isinstance(request, Extend)
    assert request.until is Until.STEP
    journal.extended(attempt_id, request, FakeGenerator().answer(request))
    journal.commit()
    assert queries.tree(db, attempt_id) != []


def test_a_finished_attempt_cannot_be_restarted(tmp_path: Path) -> None:
    spec = make_spec()
    db, _ = stored_run(tmp_path / "a.db", spec, n=1)
    more = begin_run(db, make_spec(seed=1), make_problems(1), {})
    with pytest.raises(StoreError, match="attempt 1 is done; only unfinished"):
        restart(db, [more[0].attempt_id, 1])
    with pytest.raises(StoreError, match="attempt 99 is unknown"):
        restart(db, [99])
    restart(db, [])
    assert len(queries.tree(db, 1)) == 16
    db.close()


def test_grades_are_written_all_or_none_and_a_later_one_replaces_an_earlier(tmp_path: Path) -> None:
    spec = make_spec()
    db, _ = stored_run(tmp_path / "a.db", spec)
    grade(db, [(1, "wrong", False, "math"), (2, "timeout", None, "math")])
    grade(db, [(1, "correct", True, "exact")])
    with pytest.raises(StoreError, match="attempt 77 is not finished or not there"):
        grade(db, [(3, "wrong", False, "math"), (77, "wrong", False, "math")])
    found = [(a.verdict, a.correct, a.grader) for a in queries.attempts(db, spec.id)]
    assert found == [("correct", True, "exact"), ("timeout", None, "math"), (None, None, None)]
    db.close()


@pytest.mark.parametrize(
    ("verdict", "correct", "said"),
    [
        ("right", True, "unknown verdict 'right' (correct, wrong, unparsed, timeout, error, none)"),
        ("wrong", True, "they contradict"),
        ("correct", None, "they contradict"),
    ],
)
def test_a_grade_that_makes_no_sense_is_refused(db: Database, verdict: str, correct: bool | None, said: str) -> None:
    with pytest.raises(StoreError) as raised:
        grade(db, [(1, verdict, correct, "math")])
    assert said in str(raised.value)


def test_an_attempt_is_not_graded_before_it_has_ended(db: Database) -> None:
    [plan] = begin_run(db, make_spec(), make_problems(1), {})
    with pytest.raises(StoreError, match="is not finished"):
        grade(db, [(plan.attempt_id, "wrong", False, "math")])


def test_a_run_is_found_by_id_prefix_name_and_latest(db: Database) -> None:
    specs = [make_spec(seed=seed) for seed in range(3)]
    for i, spec in enumerate(specs):
        begin_run(db, spec, make_problems(1), {}, name="even" if i % 2 == 0 else "odd")
    assert [r.id for r in list_runs(db)] == [s.id for s in specs[::-1]]
    assert find_run(db, specs[0].id).id == find_run(db, specs[0].id[:9].upper()).id == specs[0].id
    assert find_run(db, "even").id == find_run(db, "latest").id == specs[2].id
    assert find_run(db, "odd").id == specs[1].id


def test_an_unknown_run_is_refused_with_the_nearest_three(db: Database) -> None:
    with pytest.raises(StoreError, match="has no runs yet"):
        find_run(db, "latest")
    specs = [make_spec(seed=seed) for seed in range(20)]
    for spec in specs:
        begin_run(db, spec, make_problems(1), {}, name=f"seed {spec.seed}")
    typed = specs[4].id[:-1] + "x"
    with pytest.raises(StoreError) as raised:
        find_run(db, typed)
    assert f"there is no run '{typed}'; the nearest are {specs[4].id} 'seed 4', " in str(raised.value)
    assert str(raised.value).count("seed") == 3
    for nothing in ("", "%", "_"):
        with pytest.raises(StoreError, match="there is no run"):
            find_run(db, nothing)


def test_a_prefix_of_several_runs_is_refused(db: Database) -> None:
    for seed in range(40):
        begin_run(db, make_spec(seed=seed), make_problems(1), {})
    ids = [run.id for run in list_runs(db)]
    twice = next(i[0] for i in ids if sum(other.startswith(i[0]) for other in ids) > 1)
    with pytest.raises(StoreError, match=f"'{twice}' is the start of .* write more of the id"):
        find_run(db, twice)


def test_a_run_cannot_end_in_an_unknown_way_nor_an_unknown_run_at_all(db: Database) -> None:
    with pytest.raises(StoreError, match="unknown run status 'over'"):
        end_run(db, "x", "over")
    with pytest.raises(StoreError, match="there is no run 'x'"):
        end_run(db, "x", "done")


def test_a_spec_comes_back_as_it_was(db: Database) -> None:
    spec = replace(make_spec("beam", n=8, keep=2), problems=Part("word", {"level": 3, "name": "ü\ud800"}))
    begin_run(db, spec, make_problems(1), {})
    assert find_run(db, spec.id).spec == spec
