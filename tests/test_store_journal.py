"""The journal: idempotent, whole transactions only, exact, nothing invalid in a column."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sums import tokens_match
from test_store_fakes import (
    FakeEncoder,
    FakeGenerator,
    FakeVerifier,
    drive_all,
    everything,
    make_journal,
    make_problems,
    make_search,
    make_spec,
    make_step,
    new_database,
    rows,
    saved,
    stored_run,
    timeless,
    unpacked,
)

from search.drive import Driver, Outcome, Search
from search.packing import rounded
from search.tree import Tree
from search.types import (
    GREEDY,
    Answer,
    Ask,
    Budget,
    Candidate,
    Choice,
    Embed,
    Embedding,
    Embeddings,
    Extend,
    Extension,
    Packed,
    Question,
    Reading,
    Readings,
    Row,
    State,
    Step,
    Trace,
    Until,
    Verify,
    Vote,
    seed_of,
)
from store import queries, schema
from store.database import Database, open_database
from store.journal import Grade, StoreJournal
from store.runs import begin_run
from store.values import unpack_ids


@pytest.fixture
def db(where: str) -> Iterator[Database]:
    with new_database(where) as opened:
        yield opened


@pytest.fixture
def journal(db: Database) -> Iterator[StoreJournal]:
    """Of a run of one problem, whose attempt is 1, as is its search."""
    with make_journal(db, begin_run(db, make_spec(), make_problems(1), {})) as made:
        made.started(1)
        yield made


def extension(*steps: Step, first: int = 0) -> tuple[Extend, Extension]:
    asked = tuple(Row(str(first + i), i, (1, 2), 9) for i in range(len(steps)))
    return Extend(asked, Until.END, GREEDY), Extension(tuple(rounded(steps)), 12, 1, 3, 8, 5, seconds=0.5)


def verification(*readings: Reading) -> tuple[Verify, Readings]:
    paths = tuple(str(i) for i in range(len(readings)))
    traces = tuple(Trace(Question("p0", "?", ()), ()) for _ in readings)
    return Verify(paths, traces), Readings(readings, seconds=0.25)


def embedding(*vectors: list[float]) -> tuple[Embed, Embeddings]:
    paths = tuple(str(i) for i in range(len(vectors)))
    found = tuple(Embedding(np.array(vector, np.float32), 4, 2.0) for vector in vectors)
    return Embed(paths, tuple(Trace(Question("p0", "?", ()), ()) for _ in vectors)), Embeddings(found, seconds=0.125)


def ended(tree: Tree, choice: Choice | None, error: str = "") -> Outcome:
    return Outcome(Search(1, tree, None), choice, error, seconds=1.5)  # type: ignore[arg-type]


def a_tree(**options: Any) -> Tree:
    return Tree(Question("p0", "?", (1,)), lambda text: Answer(text.strip() or None, ""), **options)


# --------------------------------------------------------------------------------------------------------------- columns


def test_a_step_comes_back_token_for_token_and_bit_for_bit_as_it_was_seen(db: Database, journal: StoreJournal) -> None:
    step = replace(make_step("héllo", seed=5, length=7), drawn=-np.arange(7, dtype=np.float32))
    request, reply = extension(step)
    journal.answered(1, request, reply)
    saved(journal)
    [row], [seen] = rows(db, schema.candidate), reply.steps
    back = unpacked(row)
    for name in ("tokens", "logprobs", "certainties", "entropies", "drawn"):
        assert np.array_equal(getattr(back, name), getattr(seen, name)), name
    assert np.array_equal(back.tokens, step.tokens)
    assert (row["text"], row["text_zlib"], row["text_lossy"], row["text_truncated"]) == ("héllo", None, False, False)
    assert (row["logprob"], row["certainty"], row["tokens"]) == (seen.logprob, seen.certainty, 7)
    assert (row["parent"], row["depth"], row["state"], row["cause"]) == ("", 1, "finished", "end")
    assert (len(row["packed"]), row["reply"], row["number"]) == (6 * 7, 0, 0)


def test_a_step_that_nobody_rounded_is_stored_as_its_rounding(db: Database, journal: StoreJournal) -> None:
    request, reply = extension(make_step(seed=5))
    journal.answered(1, request, replace(reply, steps=(make_step(seed=5),)))
    saved(journal)
    [row] = rows(db, schema.candidate)
    assert Packed(row["packed"], row["extra"]) == reply.steps[0].packed


def test_confidences_are_kept_where_the_step_has_them(db: Database, journal: StoreJournal) -> None:
    plain = make_step(length=3)
    asked = replace(plain, confidences=np.array([7, 8, 9], np.float32))
    none = replace(make_step(length=0), confidences=np.array([], np.float32))
    journal.answered(1, *extension(asked, plain, none))
    saved(journal)
    back = [unpacked(row) for row in rows(db, schema.candidate)]
    kept = [None if step.confidences is None else step.confidences.tolist() for step in back]
    assert kept == [[7, 8, 9], None, []]
    assert np.array_equal(back[0].logprobs, back[1].logprobs)


def test_a_vector_is_float16_little_endian(db: Database, journal: StoreJournal) -> None:
    journal.answered(1, *extension(make_step(seed=1), make_step(seed=2)))
    journal.answered(1, *embedding([1.0, 1 / 3], [-2.0, 7e-8]))
    saved(journal)
    found = rows(db, schema.embedding)
    assert [np.frombuffer(row["vector"], "<f2").tolist() for row in found] == [
        [1.0, float(np.float16(1 / 3))],
        [-2.0, float(np.float16(7e-8))],
    ]
    assert [(row["path"], row["encoder"], row["reply"], row["number"]) for row in found] == [
        ("0", FakeEncoder.name, 1, 0),
        ("1", FakeEncoder.name, 1, 1),
    ]


# ----------------------------------------------------------------------------------------------------------- idempotence


@pytest.mark.parametrize("fresh", [False, True], ids=["by the same journal", "by a new journal"])
def test_writing_the_same_replies_twice_changes_nothing(db: Database, journal: StoreJournal, fresh: bool) -> None:
    """A transaction whose answer was lost with the connection is done again from its start."""
    replies = [
        extension(make_step(seed=1), make_step(seed=2)),
        verification(Reading((0.5,), passes=1), Reading((0.25,), passes=1)),
        embedding([1.0], [2.0]),
    ]

    def write(into: StoreJournal, times: int = 1) -> None:
        for _ in range(times):
            into.started(1)
            for request, reply in replies:
                into.answered(1, request, reply)
        saved(into)

    write(journal)
    once = everything(db)
    if fresh:
        with make_journal(db, begin_run(db, make_spec(), make_problems(1), {})) as again:
            write(again)
            write(again, 2)
    else:
        write(journal)
        write(journal, 2)
    assert everything(db) == once
    assert [len(once[name]) for name in ("candidate", "score", "embedding", "reply")] == [2, 2, 2, 3]


def test_writing_a_whole_drive_again_changes_nothing(db: Database) -> None:
    spec = make_spec("beam")
    stored_run(db, spec)
    before = everything(db)
    drive_all(db, spec, begin_run(db, spec, make_problems(), {}))
    assert everything(db) == before


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


class Mortal(StoreJournal):
    """Waits for each transaction, and dies of the `lives`th, before or after it is committed."""

    lives = 0
    after = False

    def written(self, number: int, wait: bool = True) -> float | None:
        return super().written(number, True)

    def _write(self, buffers: list[Any]) -> None:
        type(self).lives -= 1
        if self.after or self.lives:
            super()._write(buffers)
        if not self.lives:
            raise Killed


@pytest.mark.crash
@pytest.mark.parametrize("after", [False, True], ids=["before it is committed", "after"])
def test_killing_at_any_transaction_loses_whole_transactions_only_and_the_rest_is_made_up_for(
    tmp_path: Path, after: bool
) -> None:
    """The n-th never happens, or its answer is lost: what is there is whole, and going on from it gives the same rows."""
    spec = make_spec("beam", n=4, keep=2)
    empty = tmp_path / "empty.db"
    open_database(empty).close()
    shutil.copy(empty, tmp_path / "whole.db")
    with open_database(tmp_path / "whole.db") as whole:
        stored_run(whole, spec, n=2)
        final = timeless(everything(whole))
    deaths = 0
    for n in range(1, 100):
        shutil.copy(empty, tmp_path / f"{n}.db")
        with open_database(tmp_path / f"{n}.db") as db:
            plan = begin_run(db, spec, make_problems(2), {})
            Mortal.lives, Mortal.after = n, after
            try:
                with Mortal(db, {p.attempt_id: p.attempt_id for p in plan}, "fake", encoder=FakeEncoder.name) as journal:
                    list(Driver(FakeGenerator(), FakeVerifier(), journal).drive(make_search(p, spec) for p in plan))
            except Killed:
                deaths += 1
                _assert_whole_replies(db, final)
                generator, left = FakeGenerator(), len(final["candidate"]) - len(rows(db, schema.candidate))
                drive_all(db, spec, [p for p in begin_run(db, spec, make_problems(2), {}) if not p.closed], generator=generator)
                assert sum(len(request.rows) for _, request in generator.asked) == left, "what is stored is generated again"
            assert timeless(everything(db)) == final
        if deaths < n:
            break
    assert deaths > 5


def _assert_whole_replies(db: Database, final: dict[str, list[dict[str, Any]]]) -> None:
    """Each reply is there with all the rows that it brought, and no row without its reply."""
    replies = {(r["attempt_id"], r["number"]): r["count"] for r in rows(db, schema.reply)}
    assert replies.items() <= {(r["attempt_id"], r["number"]): r["count"] for r in final["reply"]}.items()
    found: dict[tuple[int, int], int] = {}
    for table in (schema.candidate, schema.score):
        for row in rows(db, table):
            found[row["attempt_id"], row["reply"]] = found.get((row["attempt_id"], row["reply"]), 0) + 1
    assert found == replies


def test_nothing_is_written_before_it_is_committed_nor_seen_before_it_is_written(
    db: Database, journal: StoreJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(db)
    gate = threading.Event()
    write = Database.write

    def slowly(self: Database, *of: Any) -> Any:
        assert gate.wait(10)
        return write(self, *of)

    monkeypatch.setattr(Database, "write", slowly)
    journal.answered(1, *extension(make_step()))
    assert everything(db) == before
    number = journal.commit()
    assert journal.written(number, wait=False) is None
    assert everything(db) == before
    gate.set()
    assert journal.written(number, wait=True) is not None
    assert len(rows(db, schema.candidate)) == 1
    assert journal.commit() == number, "there is nothing to write"


def test_a_transaction_that_fails_is_heard_of_and_nothing_follows_it(
    db: Database, journal: StoreJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(db)
    monkeypatch.setattr(Database, "write", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    journal.answered(1, *extension(make_step()))
    with pytest.raises(OSError, match="disk full"):
        saved(journal)
    monkeypatch.undo()
    journal.answered(1, *extension(make_step(), first=1))
    with pytest.raises(OSError, match="disk full"):
        journal.commit()
    assert everything(db) == before


def test_leaving_the_journal_writes_what_was_committed_and_nothing_else(db: Database) -> None:
    plan = begin_run(db, make_spec(), make_problems(1), {})
    with make_journal(db, plan) as journal:
        journal.answered(1, *extension(make_step()))
        journal.commit()
        journal.answered(1, *extension(make_step(), first=1))
    assert [row["path"] for row in rows(db, schema.candidate)] == ["0"]
    assert not [thread for thread in threading.enumerate() if thread.name == "writer"]


# ---------------------------------------------------------------------------------------------------------- what is odd


def test_hostile_text_can_be_stored_wherever_a_search_brings_it(db: Database, journal: StoreJournal) -> None:
    bad = "\x00\ud800"
    tree = a_tree()
    step = make_step(bad)
    tree.candidates["0"], tree.states["0"] = Candidate("0", step), (State.PRUNED, bad)
    journal.answered(1, *extension(step))
    journal.answered(1, *verification(Reading((), reason=bad)))
    journal.closed(ended(tree, Choice("0", bad, bad, (Vote(bad, 1, 1.0),))))
    saved(journal)
    [attempt] = rows(db, schema.attempt)
    [candidate] = rows(db, schema.candidate)
    assert {attempt["answer"], attempt["reason"], candidate["answer"], candidate["cause"]} == {"\ufffd\ufffd"}
    assert json.loads(attempt["votes"]) == [["\ufffd\ufffd", 1, 1.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.5, -0.1])
def test_an_invalid_score_is_never_stored_as_a_number(db: Database, journal: StoreJournal, bad: float) -> None:
    journal.answered(1, *extension(make_step(seed=1), make_step(seed=2)))
    journal.answered(1, *verification(Reading((0.5, bad), flops=bad), Reading((0.5,))))
    saved(journal)
    first, second = rows(db, schema.score)
    assert (first["value"], first["parts"], second["value"]) == (None, "[]", 0.5)
    assert first["reason"] == f"invalid value {bad}"
    cost = json.loads(rows(db, schema.reply)[1]["cost"])
    assert cost == {"seconds": 0.25} | ({"flops": bad} if math.isfinite(bad) else {})
    if db.is_sqlite:
        with db.read() as connection:
            kinds = connection.exec_driver_sql("SELECT typeof(value) FROM score ORDER BY path").scalars().all()
        assert kinds == ["null", "real"]


def test_a_statistic_that_is_not_finite_is_null_in_its_column_and_kept_in_the_blob(db: Database, journal: StoreJournal) -> None:
    step = make_step(length=2)
    step.logprobs[0], step.certainties[1] = -np.inf, np.nan
    request, reply = extension(step)
    journal.answered(1, request, Extension(reply.steps, seconds=math.nan, flops=math.inf))
    saved(journal)
    [row] = rows(db, schema.candidate)
    assert (row["logprob"], row["certainty"]) == (None, None)
    back = unpacked(row)
    assert np.isneginf(back.logprobs[0])
    assert np.isnan(back.certainties[1])
    assert rows(db, schema.reply)[0]["cost"] == "{}", "NaN is no JSON, and 0 says nothing"


def test_a_closed_attempt_holds_its_choice_its_ledger_and_its_candidates_last_states(db: Database) -> None:
    outcomes = stored_run(db, make_spec("beam"))
    by_id = {row["id"]: row for row in rows(db, schema.attempt)}
    for outcome in outcomes:
        tree, choice, row = outcome.search.tree, outcome.choice, by_id[outcome.search.key]
        assert choice is not None
        assert (row["status"], row["error"], row["path"]) == ("done", None, choice.path)
        assert (row["answer"], row["reason"], row["seconds"]) == (choice.answer, choice.reason, outcome.seconds)
        assert json.loads(row["votes"]) == [[v.answer, v.count, v.weight] for v in choice.votes]
        assert {name: row[name] for name in schema.LEDGER} == tree.usage.asdict()
        assert unpack_ids(row["prompt_ids"]) == tree.question.tokens
        stored = {c.path: c for c in queries.tree(db, outcome.search.key)}
        assert {p: (c.state, c.cause) for p, c in stored.items()} == {
            p: (s.value, cause) for p, (s, cause) in tree.states.items()
        }
        assert {p: (c.answer, c.answer_reason) for p, c in stored.items()} == {
            p: (a.key, a.reason) for p in tree.candidates for a in [tree.answer(p)]
        }
        assert {s.path: s for c in stored.values() for s in c.scores} == tree.scores


def test_scores_refused_by_the_budget_of_passes_are_stored_with_their_reason(db: Database) -> None:
    spec = make_spec(n=5, select="best")
    stored_run(db, spec, n=1, budget=Budget(passes=2))
    scores = [score for row in queries.tree(db, 1) for score in row.scores]
    assert [score.value is None for score in scores] == [False, False, True, True, True]
    assert {score.reason for score in scores[2:]} == {"the budget of verifier passes is spent"}
    assert [(row["reply"], row["number"]) for row in rows(db, schema.score)] == [
        (1, 0),
        (1, 1),
        (None, 2),
        (None, 3),
        (None, 4),
    ]


def test_a_failed_search_keeps_its_candidates_its_cost_and_its_error(db: Database) -> None:
    class Faulty:
        def search(self, tree: Tree) -> Ask[Choice]:
            yield from tree.extend([""], n=2)
            raise RuntimeError("bad\x00luck")

    spec = make_spec()
    plan = begin_run(db, spec, make_problems(2), {})
    searches = [make_search(p, spec) for p in plan]
    searches[0].strategy = Faulty()
    with make_journal(db, plan) as journal:
        list(Driver(FakeGenerator(), journal=journal).drive(searches))
    failed, done = rows(db, schema.attempt)
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert (failed["error"], failed["answer"]) == ("RuntimeError: bad\ufffdluck", None)
    assert failed["candidates"] == len(queries.tree(db, plan[0].attempt_id)) == 2
    assert tokens_match(db, spec.id) == []


def test_a_reply_of_the_wrong_size_ends_its_own_search_only(db: Database) -> None:
    class Short(FakeGenerator):
        def answer(self, request: Extend) -> Extension:
            whole = super().answer(request)
            return Extension(whole.steps[1:]) if request.rows[0].seed == first else whole

    spec = make_spec(n=3)
    plan = begin_run(db, spec, make_problems(2), {})
    searches = [make_search(p, spec) for p in plan]
    first = seed_of(spec.seed, "p0", "0")
    with make_journal(db, plan) as journal:
        list(Driver(Short(), FakeVerifier(), journal).drive(searches))
    failed, done = rows(db, schema.attempt)
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert "2 steps for 3 rows" in failed["error"]
    assert tokens_match(db, spec.id) == []


def test_an_extractor_that_raises_costs_its_candidate_the_answer_and_nothing_else(db: Database, journal: StoreJournal) -> None:
    def broken(text: str) -> Answer:
        raise RecursionError(f"{text} is too deep")

    step = make_step()
    tree = Tree(Question("p0", "?", (1,)), broken)
    tree.candidates["0"], tree.states["0"] = Candidate("0", step), (State.FINISHED, "end")
    journal.answered(1, *extension(step))
    journal.closed(ended(tree, None, "RecursionError: too deep"))
    saved(journal)
    [row] = rows(db, schema.candidate)
    assert (row["answer"], row["answer_reason"]) == (None, "RecursionError: x is too deep")


def test_an_attempt_is_running_from_its_start_and_closes_once(db: Database, journal: StoreJournal) -> None:
    assert rows(db, schema.attempt)[0]["status"] == "pending"
    saved(journal)
    assert rows(db, schema.attempt)[0]["status"] == "running"
    journal.closed(ended(a_tree(), Choice(None, "42", "first")))
    saved(journal)
    before = rows(db, schema.attempt)
    assert (before[0]["status"], before[0]["answer"], before[0]["replies"]) == ("done", "42", 0)
    journal.started(1)
    journal.closed(ended(a_tree(), Choice(None, "43", "late")))
    journal.closed(ended(a_tree(), None, "RuntimeError: later"))
    saved(journal)
    assert rows(db, schema.attempt) == before


def test_replies_are_stored_in_order_with_their_size_and_cost(db: Database, journal: StoreJournal) -> None:
    requests = []
    for request, reply in (
        extension(make_step(seed=1), make_step(seed=2)),
        verification(Reading((0.5,), passes=1, tokens=3, flops=2.0), Reading((0.5,), passes=1, tokens=4)),
        embedding([1.0], [2.0]),
        extension(make_step(seed=3), first=2),
    ):
        journal.answered(1, request, reply)
        requests.append(request)
    saved(journal)
    found = rows(db, schema.reply)
    assert [(r["number"], r["kind"], r["count"]) for r in found] == [
        (0, "extend", 2),
        (1, "verify", 2),
        (2, "embed", 2),
        (3, "extend", 1),
    ]
    assert [r["asked"] for r in found] == [request.digest for request in requests]
    extended, verified, embedded, _ = (json.loads(row["cost"]) for row in found)
    assert extended == {
        "prompt_tokens": 12,
        "cached_tokens": 1,
        "recomputed_tokens": 3,
        "drafted_tokens": 8,
        "accepted_tokens": 5,
        "seconds": 0.5,
    }
    assert verified == {"passes": 2, "tokens": 7, "flops": 2.0, "seconds": 0.25}
    assert embedded == {"tokens": 8, "flops": 4.0, "seconds": 0.125}
    assert [(r["number"], r["reply"]) for r in rows(db, schema.candidate)] == [(0, 0), (1, 0), (2, 3)]
    assert [(r["number"], r["reply"]) for r in rows(db, schema.score)] == [(0, 1), (1, 1)]


# ---------------------------------------------------------------------------------------------------- grades and tries


class Flaky(FakeVerifier):
    """Raises at its first `faults` batches."""

    def __init__(self, faults: int) -> None:
        super().__init__()
        self.faults = faults

    def score(self, traces: Any) -> list[Reading]:
        self.faults -= 1
        if self.faults >= 0:
            raise RuntimeError("out of\x00memory")
        return super().score(traces)


def test_an_attempt_that_closes_is_graded_in_the_same_transaction(db: Database) -> None:
    def judge(outcome: Outcome) -> Grade:
        right = outcome.search.tree.question.id == "p1"
        return Grade("correct" if right else "wrong", right, "ma\x00th")

    spec = make_spec("greedy")
    plan = begin_run(db, spec, make_problems(3), {})
    with make_journal(db, plan, judge=judge) as journal:
        list(Driver(FakeGenerator(), journal=journal).drive(make_search(p, spec) for p in plan))
        assert [journal.right(p.attempt_id) for p in plan] == [False, True, False]
        assert not journal.right(99)
    found = [(a.verdict, a.correct, a.grader) for a in queries.attempts(db, spec.id)]
    assert found == [("wrong", False, "ma\ufffdth"), ("correct", True, "ma\ufffdth"), ("wrong", False, "ma\ufffdth")]


def attempt_of(db: Database) -> dict[str, Any]:
    [row] = rows(db, schema.attempt)
    return row


def test_a_search_that_fails_once_and_then_succeeds_is_done_and_keeps_the_error(db: Database) -> None:
    """In one drive after the other, as a worker does it: what it was answered is not asked for again."""
    spec = make_spec("best-of-n", n=4, select="best")
    plan = begin_run(db, spec, make_problems(1), {})
    generator, verifier = FakeGenerator(), Flaky(1)
    with make_journal(db, plan, most_tries=3) as journal:
        for status, tries in (("running", 1), ("done", 1)):
            [outcome] = Driver(generator, verifier, journal).drive([make_search(plan[0], spec)])
            row = attempt_of(db)
            assert (row["status"], row["tries"], row["error"]) == (status, tries, "RuntimeError: out of\ufffdmemory")
            assert (row["generated_tokens"] is None) == (status == "running")
    assert len(generator.asked) == 1
    assert outcome.choice is not None
    assert attempt_of(db)["path"] == outcome.choice.path
    assert tokens_match(db, spec.id) == []


@pytest.mark.parametrize("before", [0, 2])
def test_a_search_that_fails_three_times_has_failed(db: Database, before: int) -> None:
    """Tries of earlier processes count."""
    spec = make_spec("best-of-n", n=4, select="best")
    plan = begin_run(db, spec, make_problems(1), {})
    grades = []

    def judge(outcome: Outcome) -> Grade:
        grades.append(outcome.choice)
        return Grade("none", False, "math")

    with make_journal(db, plan, tries={1: before}, most_tries=3, judge=judge) as journal:
        for tries in range(before + 1, 4):
            assert grades == [], "a search that is tried again has no grade"
            assert attempt_of(db)["status"] in ("pending", "running")
            list(Driver(FakeGenerator(), Flaky(1), journal).drive([make_search(plan[0], spec)]))
            assert attempt_of(db)["tries"] == tries
    row = attempt_of(db)
    assert (row["status"], row["verdict"], grades) == ("failed", "none", [None])
    assert row["error"] == "RuntimeError: out of\ufffdmemory"
    assert (row["generated_tokens"], row["replies"]) == (sum(c.tokens for c in queries.tree(db, 1)), 1)
