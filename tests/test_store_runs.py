"""Runs: planning twice is planning once, and nothing finished is run or deleted again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update
from sums import tokens_match
from test_store_fakes import (
    AllKinds,
    FakeEncoder,
    FakeGenerator,
    FakeVerifier,
    dead_process,
    drive_all,
    everything,
    make_journal,
    make_problems,
    make_search,
    make_spec,
    new_database,
    rows,
    saved,
    stored_run,
)

from search.types import Embed, Embeddings, Extend, Part, Problem, Readings, Reply, RunSpec
from store import queries, queue, rescored, runs, schema
from store.audit import audit
from store.database import Database, StoreError
from store.errors import LeaseLost, Unreadable
from store.extents import pace
from store.journal import Grade
from store.leases import Lease, claim
from store.runs import (
    Planned,
    begin_run,
    close_run,
    end_run,
    find_run,
    grade,
    join_run,
    list_runs,
    open_shards,
    planned,
    problem_key,
    restart,
    retry,
    sessions,
    unreplayable,
)


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with new_database(where) as opened:
        yield opened


def count(db: Database, table: str) -> int:
    with db.read() as connection:
        return connection.scalar(select(func.count()).select_from(schema.metadata.tables[table])) or 0


def test_beginning_a_run_twice_finds_the_same_attempts_in_the_problems_order(db: Database) -> None:
    spec, problems = make_spec(seed=7), make_problems(4)
    first = begin_run(db, spec, problems, {"python": "3.11"}, name="try")
    again = begin_run(db, spec, problems[::-1], {"python": "3.12"}, name="other")
    assert first == again, "their order is that of the first begin"
    assert [(p.problem, p.seed, p.status, p.closed) for p in first] == [(p, 7, "pending", False) for p in problems]
    run = find_run(db, spec.id)
    assert (run.spec, run.name, run.status, run.environment) == (spec, "try", "running", {"python": "3.11"})


def test_an_attempt_that_ended_is_not_planned_again_and_a_finished_run_stays_finished(db: Database) -> None:
    spec = make_spec()
    stored_run(db, spec)
    end_run(db, spec.id, "done")
    assert all(p.closed for p in begin_run(db, spec, make_problems(), {}))
    run = find_run(db, spec.id)
    assert run.status == "done"
    assert run.ended is not None
    assert run.ended > run.created


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
    assert plan.problem == Problem("a\ufffd", "\ufffd", "\ufffd", meta={"k": "\x00\ud800"}), "it is searched as it is stored"
    assert row.problem == plan.problem.id
    assert begin_run(db, make_spec(), [Problem("a\x00", "\ud800", "\x00", meta={"k": "\x00\ud800"})], {}) == [plan]


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


def interrupt(db: Database, plan: Sequence[Planned], spec: RunSpec, replies: int = 1, lease: Lease | None = None) -> None:
    """Leaves what so many replies brought, as a process that died would."""
    generator, verifier, encoder = FakeGenerator(), FakeVerifier(), FakeEncoder()
    with make_journal(db, plan, lease=lease) as journal:
        for attempt in plan:
            search = make_search(attempt, spec, strategy=AllKinds())
            running = search.strategy.search(search.tree)
            request = next(running)
            journal.started(attempt.attempt_id)
            for _ in range(replies):
                if isinstance(request, Extend):
                    reply: Reply = generator.answer(request)
                elif isinstance(request, Embed):
                    reply = Embeddings(tuple(encoder.embed(request.traces)))
                else:
                    reply = Readings(tuple(verifier.score(request.traces)))
                journal.answered(attempt.attempt_id, request, reply)
                request = running.send(reply)
        saved(journal)


def test_restarting_deletes_what_an_interrupted_search_left_and_the_search_then_runs_whole(db: Database) -> None:
    spec = make_spec("beam")
    plan = begin_run(db, spec, make_problems(2), {})
    drive_all(db, spec, plan[:1])
    kept = queries.tree(db, plan[0].attempt_id)
    interrupt(db, plan[1:], make_spec("beam", seed=99), 3)
    assert queries.tree(db, plan[1].attempt_id) != []
    again = begin_run(db, spec, make_problems(2), {})
    assert [p.status for p in again] == ["done", "running"]
    left = [p for p in again if not p.closed]
    restart(db, [p.attempt_id for p in left])
    for table in ("candidate", "score", "embedding", "reply"):
        assert {row["attempt_id"] for row in rows(db, schema.metadata.tables[table])} <= {plan[0].attempt_id}
    assert [p.status for p in begin_run(db, spec, make_problems(2), {})] == ["done", "pending"]
    drive_all(db, spec, left)
    assert queries.tree(db, plan[0].attempt_id) == kept
    assert tokens_match(db, spec.id) == []
    assert queries.summary(db, spec.id).done == 2


def test_what_is_given_up_by_a_restart_is_counted_as_wasted(db: Database) -> None:
    spec = make_spec()
    plan = begin_run(db, spec, make_problems(3), {})
    wasted = 0
    for seed in (7, 8):
        interrupt(db, plan[:1], make_spec(seed=seed), 2)
        wasted += sum(row.tokens for row in queries.tree(db, plan[0].attempt_id))
        restart(db, [plan[0].attempt_id, plan[1].attempt_id])
        assert [row["wasted_tokens"] for row in rows(db, schema.attempt)] == [wasted, 0, 0]
    drive_all(db, spec, plan)
    found = queries.summary(db, spec.id)
    assert found.wasted_tokens == wasted > 0
    assert [row["wasted_tokens"] for row in rows(db, schema.attempt)] == [wasted, 0, 0], "the whole search wasted nothing"
    assert tokens_match(db, spec.id) == []


def test_a_restart_is_fenced_by_the_lease(db: Database) -> None:
    plan = begin_run(db, make_spec(), make_problems(2), {})
    interrupt(db, plan, make_spec(seed=7), 2)
    old = claim(db, make_spec().id, 0, "old")
    new = claim(db, make_spec().id, 0, "new", stale=0)
    assert isinstance(old, Lease)
    assert isinstance(new, Lease)
    before = everything(db)
    with pytest.raises(LeaseLost):
        restart(db, [p.attempt_id for p in plan], old)
    assert everything(db) == before
    restart(db, [p.attempt_id for p in plan], new)
    assert rows(db, schema.candidate) == []


def test_a_finished_attempt_cannot_be_restarted(db: Database) -> None:
    spec = make_spec()
    stored_run(db, spec, n=1)
    more = begin_run(db, make_spec(seed=1), make_problems(1), {})
    with pytest.raises(StoreError, match="attempt 1 is done; only unfinished"):
        restart(db, [more[0].attempt_id, 1])
    with pytest.raises(StoreError, match="attempt 99 is unknown"):
        restart(db, [99])
    restart(db, [])
    assert len(queries.tree(db, 1)) == 16


@pytest.mark.parametrize("spec", ["{", "[]", "{}", make_spec("beam").json().replace('"tokens":', '"tokenz":')])
def test_a_run_that_cannot_be_read_hides_no_other(db: Database, spec: str, caplog: pytest.LogCaptureFixture) -> None:
    mine, broken = make_spec(), make_spec("beam")
    stored_run(db, mine)
    begin_run(db, broken, make_problems(1), {}, "broken")
    mangled = update(schema.run).where(schema.run.c.id == broken.id).values(spec=spec, status="queued")
    db.transact(lambda connection: connection.execute(mangled))
    runs._left_out.clear()
    for _ in range(2):
        assert [run.id for run in list_runs(db)] == [mine.id]
        assert queue.wanted(db) == []
    [said] = caplog.messages
    assert said.startswith(f"run '{broken.id}' cannot be read: ")
    assert said.endswith("; it is left out")
    assert find_run(db, mine.id).id == mine.id
    for wanted in ("latest", "broken", broken.id[:8]):
        with pytest.raises(Unreadable, match=f"run '{broken.id}' cannot be read: .*a newer version may have made it"):
            find_run(db, wanted)
    assert pace(db, make_spec(n=31)) is None
    assert {fault.check for fault in audit(db).faults} == {"names"}


def test_a_failed_attempt_that_was_judged_later_can_be_tried_and_begun_again(db: Database) -> None:
    spec = make_spec()
    stored_run(db, spec, n=2)
    db.transact(lambda c: c.execute(update(schema.attempt).where(schema.attempt.c.id == 1).values(status="failed")))
    rescored.begin(db, spec.id, "grader", "exact", "", {})
    for attempt in (1, 2):
        rescored.add_verdicts(db, attempt, "exact", [rescored.Given("0", "timeout")])
    assert {row["correct"] for row in rows(db, schema.verdict)} == {False}, "what is not correct counts as wrong"
    assert retry(db, spec.id) == 1
    assert [row["attempt_id"] for row in rows(db, schema.verdict)] == [2]
    restart(db, [1])
    assert queries.tree(db, 1) == []


def test_grades_are_written_all_or_none_and_a_later_one_replaces_an_earlier(db: Database) -> None:
    spec = make_spec()
    stored_run(db, spec)
    grade(db, [(1, "wrong", False, "math"), (2, "timeout", None, "math")])
    grade(db, [(1, "correct", True, "exact")])
    with pytest.raises(StoreError, match="attempt 77 is not finished or not there"):
        grade(db, [(3, "wrong", False, "math"), (77, "wrong", False, "math")])
    found = [(a.verdict, a.correct, a.grader) for a in queries.attempts(db, spec.id)]
    assert found == [("correct", True, "exact"), ("timeout", None, "math"), (None, None, None)]


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


# ----------------------------------------------------------------------------------------------------- shards, sessions


def test_a_run_is_cut_into_shards_when_it_is_begun_and_never_again(db: Database) -> None:
    spec = make_spec()
    first = begin_run(db, spec, make_problems(7), {}, shard=3)
    assert [p.shard for p in first] == [0, 0, 0, 1, 1, 1, 2]
    assert begin_run(db, spec, make_problems(7), {}, shard=1) == first
    assert [planned(db, spec.id, shard) for shard in range(4)] == [first[:3], first[3:6], first[6:], []]
    assert open_shards(db, spec.id) == [0, 1, 2]
    drive_all(db, spec, first[:4])
    assert open_shards(db, spec.id) == [1, 2]
    drive_all(db, spec, first[4:])
    assert open_shards(db, spec.id) == []
    assert [p.shard for p in begin_run(db, make_spec(seed=1), make_problems(70), {})] == [i // 8 for i in range(70)]


def test_every_process_that_worked_on_a_run_is_recorded_with_what_it_was(db: Database) -> None:
    spec = make_spec()
    begin_run(db, spec, make_problems(1), {"python": "3.11"})
    begin_run(db, make_spec(seed=1), make_problems(1), {})
    joined = [("a/1", "3.11"), ("b/2", "3.12"), ("a/1", "3.11")]
    for owner, python in joined:
        join_run(db, spec.id, owner, {"python": python})
    found = sessions(db, spec.id)
    assert [(owner, environment["python"]) for owner, _, environment in found] == [
        ("a/1", "3.11"),
        ("b/2", "3.12"),
        ("a/1", "3.11"),
    ]
    assert sorted(started for _, started, _ in found) == [started for _, started, _ in found]
    assert sessions(db, make_spec(seed=1).id) == []
    with pytest.raises(StoreError, match="the environment cannot be stored as JSON"):
        join_run(db, spec.id, "c/3", {"x": math.nan})


# ------------------------------------------------------------------------------------------------------- ending a run


def test_a_run_is_done_when_nothing_is_left_whoever_has_a_lease(db: Database) -> None:
    spec = make_spec()
    plan = begin_run(db, spec, make_problems(2), {})
    claim(db, spec.id, 0, "elsewhere")
    drive_all(db, spec, plan)
    assert close_run(db, spec.id) == find_run(db, spec.id).status == "done"
    ended = find_run(db, spec.id).ended
    assert ended is not None
    assert close_run(db, spec.id) == "done"
    assert find_run(db, spec.id).ended == ended, "it had ended before"


def test_a_run_that_another_process_works_on_is_running(db: Database) -> None:
    spec = make_spec()
    plan = begin_run(db, spec, make_problems(2), {}, shard=1)
    other = claim(db, spec.id, 1, "elsewhere")
    drive_all(db, spec, plan[:1])
    assert close_run(db, spec.id) == find_run(db, spec.id).status == "running"
    assert find_run(db, spec.id).ended is None
    assert isinstance(other, Lease)
    other.release()
    assert close_run(db, spec.id) == find_run(db, spec.id).status == "interrupted"
    assert find_run(db, spec.id).ended is not None


def test_a_run_whose_worker_is_dead_is_interrupted(db: Database) -> None:
    spec = make_spec()
    begin_run(db, spec, make_problems(2), {})
    claim(db, spec.id, 0, dead_process())
    assert close_run(db, spec.id) == find_run(db, spec.id).status == "interrupted"


def test_a_lease_of_another_run_does_not_keep_a_run_going(db: Database) -> None:
    """Also where one id begins as the other does."""
    spec = make_spec()
    begin_run(db, spec, make_problems(2), {})
    claim(db, spec.id + "0", 0, "elsewhere")
    claim(db, "0" + spec.id, 0, "elsewhere")
    assert close_run(db, spec.id) == "interrupted"


# --------------------------------------------------------------------------------------------------- opening them again


def test_failed_attempts_are_opened_again_with_their_journals_and_nothing_else_is(db: Database) -> None:
    spec = make_spec("beam")
    plan = begin_run(db, spec, make_problems(3), {})
    well = drive_all(db, spec, plan[:1])
    judging = FakeVerifier()
    judging.score = lambda traces: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    drive_all(db, spec, plan[1:2], judging, judge=lambda _: Grade("none", False, "g"))
    before = {row["id"]: row for row in rows(db, schema.attempt)}
    failed = before[plan[1].attempt_id]
    assert (failed["status"], failed["tries"], failed["replies"], failed["verdict"]) == ("failed", 1, 1, "none")
    assert retry(db, spec.id) == 1
    after = {row["id"]: row for row in rows(db, schema.attempt)}
    assert [after[p.attempt_id] for p in (plan[0], plan[2])] == [before[p.attempt_id] for p in (plan[0], plan[2])]
    opened = after[plan[1].attempt_id]
    assert (opened["status"], opened["tries"], opened["error"]) == ("pending", 0, failed["error"])
    kept = ("id", "run_id", "problem_key", "position", "seed", "shard", "status", "tries", "error", "wasted_tokens")
    assert {name for name, value in opened.items() if value is not None} == set(kept)
    assert len(queries.tree(db, plan[1].attempt_id)) > 0, "its journal is there"
    generator = FakeGenerator()
    drive_all(db, spec, [plan[1]], generator=generator)
    assert generator.asked[0][1].rows[0].path != "0", "what was generated is not asked for again"
    assert [row.status for row in queries.attempts(db, spec.id)] == ["done", "done", "pending"]
    assert tokens_match(db, spec.id) == []
    assert retry(db, spec.id) == 0
    assert well[0].choice is not None


def test_journals_of_version_0002_that_are_open_are_named(db: Database) -> None:
    spec = make_spec()
    plan = begin_run(db, spec, make_problems(4), {})
    drive_all(db, spec, plan[:1])
    interrupt(db, plan[1:3], spec)
    old = update(schema.reply).where(schema.reply.c.attempt_id.in_([plan[0].attempt_id, plan[2].attempt_id])).values(asked=None)
    with db.write() as connection:
        connection.execute(old)
    assert unreplayable(db, spec.id) == [plan[2].attempt_id], "closed ones are not run again"
    assert unreplayable(db, make_spec(seed=1).id) == []
    restart(db, unreplayable(db, spec.id))
    assert unreplayable(db, spec.id) == []
