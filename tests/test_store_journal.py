"""The journal: idempotent, whole commits only, nothing invalid in a column."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table, select
from sqlalchemy.exc import IntegrityError
from test_store_fakes import (
    FakeGenerator,
    FakeVerifier,
    drive_all,
    make_journal,
    make_problems,
    make_search,
    make_spec,
    make_step,
    stored_run,
)

from search.drive import Driver, Outcome, Search
from search.tree import Tree
from search.types import (
    GREEDY,
    Answer,
    Ask,
    Budget,
    Candidate,
    Choice,
    Extend,
    Extension,
    Finish,
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
from store.journal import StoreJournal
from store.runs import begin_run
from store.values import TEXT_LIMIT, unpack_stats, unpack_tokens, view

TABLES = list(schema.metadata.tables.values())


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "a.db") as opened:
        yield opened


def rows(db: Database, table: Table) -> list[dict[str, Any]]:
    with db.read() as connection:
        return [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]


def everything(db: Database) -> dict[str, list[dict[str, Any]]]:
    return {table.name: rows(db, table) for table in TABLES}


def started(db: Database, n: int = 1) -> StoreJournal:
    return make_journal(db, begin_run(db, make_spec(), make_problems(n), {}))


def extension(*steps: Step, first: int = 0) -> tuple[Extend, Extension]:
    asked = tuple(Row(str(first + i), i, (1, 2), 9) for i in range(len(steps)))
    return Extend(asked, Until.END, GREEDY), Extension(steps, 12, 1, 3, 8, 5, seconds=0.5)


def verification(*readings: Reading) -> tuple[Verify, Readings]:
    paths = tuple(str(i) for i in range(len(readings)))
    traces = tuple(Trace(Question("p0", "?", ()), ()) for _ in readings)
    return Verify(paths, traces), Readings(readings, seconds=0.25)


def ended(tree: Tree, choice: Choice | None, error: str = "") -> Outcome:
    return Outcome(Search(1, tree, None), choice, error, seconds=1.5)  # type: ignore[arg-type]


def a_tree(**options: Any) -> Tree:
    return Tree(Question("p0", "?", (1,)), lambda text: Answer(text.strip() or None, ""), **options)


def test_a_step_comes_back_token_for_token_and_bit_for_bit(db: Database) -> None:
    journal, step = started(db), make_step("héllo", seed=5, length=7)
    journal.extended(1, *extension(step))
    journal.commit()
    [row] = rows(db, schema.candidate)
    assert np.array_equal(unpack_tokens(row["token_ids"]), step.tokens)
    assert np.array_equal(unpack_stats(row["stats"], 7), np.stack([step.logprobs, step.certainties, step.entropies]))
    assert (row["text"], row["text_lossy"], row["text_truncated"]) == ("héllo", False, False)
    assert (row["logprob"], row["certainty"], row["tokens"]) == (step.logprob, step.certainty, 7)
    assert (row["parent"], row["depth"], row["state"], row["cause"]) == ("", 1, "finished", "end")


def test_confidences_are_kept_where_the_step_has_them(db: Database) -> None:
    journal, plain = started(db), make_step(length=3)
    asked = replace(plain, confidences=np.array([7, 8, 9], np.float32))
    none = replace(make_step(length=0), confidences=np.array([], np.float32))
    journal.extended(1, *extension(asked, plain, none))
    journal.commit()
    stats = [unpack_stats(row["stats"], row["tokens"]) for row in rows(db, schema.candidate)]
    assert [array.shape for array in stats] == [(4, 3), (3, 3), (3, 0)]
    assert stats[0][3].tolist() == [7, 8, 9]
    assert np.array_equal(stats[0][:3], stats[1])


def test_blobs_are_little_endian_and_of_known_size(db: Database) -> None:
    journal = started(db)
    journal.extended(1, *extension(make_step(length=0), Step(*_arrays(258), Finish.STEP)))
    journal.commit()
    empty, one = rows(db, schema.candidate)
    assert (empty["token_ids"], empty["stats"], empty["certainty"]) == (b"", b"", 0.0)
    assert one["token_ids"] == b"\x02\x01\x00\x00"
    assert one["stats"] == np.array([-1, 2, 3], "<f4").tobytes()


def _arrays(token: int) -> tuple[Any, ...]:
    stats = (np.array([x], np.float32) for x in (-1, 2, 3))
    logprobs, certainties, entropies = stats
    return np.array([token], np.int32), "t", logprobs, certainties, entropies


@pytest.mark.parametrize("fresh", [False, True], ids=["by the same journal", "by a new journal"])
def test_writing_the_same_replies_twice_changes_nothing(db: Database, fresh: bool) -> None:
    extended = extension(make_step(seed=1), make_step(seed=2))
    verified = verification(Reading((0.5,), passes=1), Reading((0.25,), passes=1))
    journal = started(db)
    for _ in range(2):
        journal.extended(1, *extended)
        journal.verified(1, *verified)
        journal.commit()
        once = everything(db)
        journal = started(db) if fresh else journal
    journal.extended(1, *extended)
    journal.extended(1, *extended)  # twice in one transaction
    journal.verified(1, *verified)
    journal.commit()
    assert everything(db) == once
    assert [len(once[name]) for name in ("candidate", "score", "reply")] == [2, 2, 2]


def test_another_reply_under_a_number_in_use_is_an_error_not_silence(db: Database) -> None:
    first, second = started(db), started(db)
    first.extended(1, *extension(make_step()))
    first.commit()
    second.extended(1, *extension(make_step(), first=5))
    with pytest.raises(IntegrityError):
        second.commit()
    assert [row["path"] for row in rows(db, schema.candidate)] == ["0"]


def test_writing_a_whole_drive_again_changes_nothing(tmp_path: Path) -> None:
    spec = make_spec("beam")
    db, _ = stored_run(tmp_path / "a.db", spec)
    before = everything(db)
    drive_all(db, spec, begin_run(db, spec, make_problems(), {}))
    assert everything(db) == before
    db.close()


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def test_killing_between_commits_loses_whole_commits_only(tmp_path: Path) -> None:
    """The n-th commit never happens: the rows of the first n - 1 are there, those of one reply all or none."""
    spec = make_spec("beam", n=4, keep=2)
    whole, _ = stored_run(tmp_path / "whole.db", spec, n=2)
    final = rows(whole, schema.reply)
    deaths = 0
    for n in range(1, 100):
        db = open_database(tmp_path / f"{n}.db")
        plan = begin_run(db, spec, make_problems(2), {})
        journal = _Mortal(db, {p.attempt_id: p.attempt_id for p in plan}, "fake", lives=n)
        driver = Driver(FakeGenerator(), FakeVerifier(), journal)
        try:
            list(driver.drive(make_search(p, spec) for p in plan))
        except Killed:
            deaths += 1
            _assert_whole_replies(db, final)
            db.close()
            continue
        assert _timeless(everything(db)) == _timeless(everything(whole))
        db.close()
        break
    assert deaths > 5
    whole.close()


class _Mortal(StoreJournal):
    def __init__(self, *args: Any, lives: int) -> None:
        super().__init__(*args)
        self.lives = lives

    def commit(self) -> None:
        self.lives -= 1
        if not self.lives:
            raise Killed
        super().commit()


def _assert_whole_replies(db: Database, final: list[dict[str, Any]]) -> None:
    replies = rows(db, schema.reply)
    known = {(r["attempt_id"], r["number"]): r["paths"] for r in final}
    assert all(known[r["attempt_id"], r["number"]] == r["paths"] for r in replies)
    asked = {(r["attempt_id"], r["kind"], path) for r in replies for path in json.loads(r["paths"])}
    kept = {(c["attempt_id"], "extend", c["path"]) for c in rows(db, schema.candidate)}
    kept |= {(s["attempt_id"], "verify", s["path"]) for s in rows(db, schema.score)}
    assert asked == kept


def _timeless(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    clocked = {"created", "cost", *(c.name for c in schema.attempt.c if c.name.endswith("seconds"))}
    return {t: [{k: v for k, v in row.items() if k not in clocked} for row in found] for t, found in tables.items()}


def test_nothing_is_written_before_commit_and_a_failed_commit_can_be_repeated(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = started(db)
    before = everything(db)
    journal.extended(1, *extension(make_step()))
    assert everything(db) == before
    with monkeypatch.context() as broken:
        broken.setattr(Database, "write", lambda _self: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            journal.commit()
    journal.commit()
    assert len(rows(db, schema.candidate)) == 1


@given(st.text(alphabet=st.characters(), max_size=30))
def test_any_text_becomes_storable_by_one_rule(text: str) -> None:
    stored = view(text)
    stored.text.encode()
    assert "\x00" not in stored.text
    assert len(stored.text) == len(text)
    assert stored.lossy == (stored.text != text)
    for new, old in zip(stored.text, text, strict=True):
        assert new == old or (new == "\ufffd" and (old == "\x00" or "\ud800" <= old <= "\udfff"))


def test_nul_and_lone_surrogates_are_replaced_and_flagged_and_long_text_is_cut(db: Database) -> None:
    journal = started(db)
    texts = ["a\x00b", "x\ud800y", "\ufffd fine", "z" * (TEXT_LIMIT + 1), "z" * TEXT_LIMIT]
    journal.extended(1, *extension(*(make_step(text) for text in texts)))
    journal.commit()
    found = [(r["text"], r["text_lossy"], r["text_truncated"]) for r in rows(db, schema.candidate)]
    assert found[:3] == [("a\ufffdb", True, False), ("x\ufffdy", True, False), ("\ufffd fine", False, False)]
    assert [(len(text), lossy, cut) for text, lossy, cut in found[3:]] == [
        (TEXT_LIMIT, False, True),
        (TEXT_LIMIT, False, False),
    ]


def test_hostile_text_can_be_stored_wherever_a_search_brings_it(db: Database) -> None:
    bad = "\x00\ud800"
    journal, tree = started(db), a_tree()
    step = make_step(bad)
    tree.candidates["0"], tree.states["0"] = Candidate("0", step), (State.PRUNED, bad)
    journal.extended(1, *extension(step))
    journal.verified(1, *verification(Reading((), reason=bad)))
    journal.closed(ended(tree, Choice("0", bad, bad, (Vote(bad, 1, 1.0),))))
    journal.commit()
    [attempt] = rows(db, schema.attempt)
    [candidate] = rows(db, schema.candidate)
    assert {attempt["answer"], attempt["reason"], candidate["answer"], candidate["cause"]} == {"\ufffd\ufffd"}
    assert json.loads(attempt["votes"]) == [["\ufffd\ufffd", 1, 1.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.5, -0.1])
def test_an_invalid_score_is_never_stored_as_a_number(db: Database, bad: float) -> None:
    journal = started(db)
    journal.extended(1, *extension(make_step(seed=1), make_step(seed=2)))
    journal.verified(1, *verification(Reading((0.5, bad), flops=bad), Reading((0.5,))))
    journal.commit()
    first, second = rows(db, schema.score)
    assert (first["value"], first["parts"], second["value"]) == (None, "[]", 0.5)
    assert first["reason"] == f"invalid value {bad}"
    with db.read() as connection:
        kinds = connection.exec_driver_sql("SELECT typeof(value) FROM score ORDER BY path").scalars().all()
    assert kinds == ["null", "real"]


def test_a_statistic_that_is_not_finite_is_null_in_its_column_and_kept_in_the_blob(db: Database) -> None:
    journal, step = started(db), make_step(length=2)
    step.logprobs[0], step.certainties[1] = -np.inf, np.nan
    request, reply = extension(step)
    journal.extended(1, request, Extension(reply.steps, seconds=math.nan, flops=math.inf))
    journal.commit()
    [row] = rows(db, schema.candidate)
    assert (row["logprob"], row["certainty"]) == (None, None)
    assert np.isneginf(unpack_stats(row["stats"], 2)[0, 0])
    cost = json.loads(rows(db, schema.reply)[0]["cost"])
    assert (cost["seconds"], cost["flops"]) == (None, None)


def test_a_closed_attempt_holds_its_choice_its_ledger_and_its_candidates_last_states(tmp_path: Path) -> None:
    db, outcomes = stored_run(tmp_path / "a.db", make_spec("beam"))
    by_id = {row["id"]: row for row in rows(db, schema.attempt)}
    for outcome in outcomes:
        tree, choice, row = outcome.search.tree, outcome.choice, by_id[outcome.search.key]
        assert choice is not None
        assert (row["status"], row["error"], row["path"]) == ("done", None, choice.path)
        assert (row["answer"], row["reason"], row["seconds"]) == (choice.answer, choice.reason, outcome.seconds)
        assert json.loads(row["votes"]) == [[v.answer, v.count, v.weight] for v in choice.votes]
        assert {name: row[name] for name in schema.LEDGER} == tree.usage.asdict()
        stored = {c.path: c for c in queries.tree(db, outcome.search.key)}
        assert {p: (c.state, c.cause) for p, c in stored.items()} == {
            p: (s.value, cause) for p, (s, cause) in tree.states.items()
        }
        assert {p: (c.answer, c.answer_reason) for p, c in stored.items()} == {
            p: (a.key, a.reason) for p in tree.candidates for a in [tree.answer(p)]
        }
        assert {s.path: s for c in stored.values() for s in c.scores} == tree.scores
    db.close()


def test_scores_refused_by_the_budget_of_passes_are_stored_with_their_reason(tmp_path: Path) -> None:
    spec = make_spec(n=5, select="best")
    db, _ = stored_run(tmp_path / "a.db", spec, n=1, budget=Budget(passes=2))
    scores = [score for row in queries.tree(db, 1) for score in row.scores]
    assert [score.value is None for score in scores] == [False, False, True, True, True]
    assert {score.reason for score in scores[2:]} == {"the budget of verifier passes is spent"}
    db.close()


def test_a_failed_search_keeps_its_candidates_its_cost_and_its_error(db: Database) -> None:
    class Faulty:
        def search(self, tree: Tree) -> Ask[Choice]:
            yield from tree.extend([""], n=2)
            raise RuntimeError("bad\x00luck")

    spec = make_spec()
    plan = begin_run(db, spec, make_problems(2), {})
    searches = [make_search(p, spec) for p in plan]
    searches[0].strategy = Faulty()
    list(Driver(FakeGenerator(), journal=make_journal(db, plan)).drive(searches))
    failed, done = rows(db, schema.attempt)
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert (failed["error"], failed["answer"]) == ("RuntimeError: bad\ufffdluck", None)
    assert failed["candidates"] == len(queries.tree(db, plan[0].attempt_id)) == 2
    assert queries.tokens_match(db, spec.id) == []


def test_a_reply_of_the_wrong_size_ends_its_own_search_only(db: Database) -> None:
    class Short(FakeGenerator):
        def answer(self, request: Extend) -> Extension:
            whole = super().answer(request)
            return Extension(whole.steps[1:]) if request.rows[0].seed == first else whole

    spec = make_spec(n=3)
    plan = begin_run(db, spec, make_problems(2), {})
    searches = [make_search(p, spec) for p in plan]
    first = seed_of(spec.seed, "p0", "0")
    list(Driver(Short(), FakeVerifier(), make_journal(db, plan)).drive(searches))
    failed, done = rows(db, schema.attempt)
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert "2 steps for 3 rows" in failed["error"]
    assert queries.tokens_match(db, spec.id) == []


def test_an_extractor_that_raises_costs_its_candidate_the_answer_and_nothing_else(db: Database) -> None:
    def broken(text: str) -> Answer:
        raise RecursionError(f"{text} is too deep")

    journal, step = started(db), make_step()
    tree = Tree(Question("p0", "?", (1,)), broken)
    tree.candidates["0"], tree.states["0"] = Candidate("0", step), (State.FINISHED, "end")
    journal.extended(1, *extension(step))
    journal.closed(ended(tree, None, "RecursionError: too deep"))
    journal.commit()
    [row] = rows(db, schema.candidate)
    assert (row["answer"], row["answer_reason"]) == (None, "RecursionError: x is too deep")


def test_an_attempt_is_running_from_its_first_reply_and_closes_once(db: Database) -> None:
    journal = started(db)
    assert rows(db, schema.attempt)[0]["status"] == "pending"
    journal.extended(1, *extension(make_step()))
    journal.commit()
    assert rows(db, schema.attempt)[0]["status"] == "running"
    journal.closed(ended(a_tree(), Choice(None, "42", "first")))
    journal.commit()
    journal.closed(ended(a_tree(), Choice(None, "43", "late")))
    journal.extended(1, *extension(make_step()))
    journal.commit()
    assert (rows(db, schema.attempt)[0]["status"], rows(db, schema.attempt)[0]["answer"]) == ("done", "42")


def test_replies_are_stored_in_order_with_their_paths_and_cost(db: Database) -> None:
    journal = started(db)
    journal.extended(1, *extension(make_step(seed=1), make_step(seed=2)))
    journal.verified(1, *verification(Reading((0.5,), passes=1, tokens=3, flops=2.0)))
    journal.extended(1, *extension(make_step(seed=3), first=2))
    journal.commit()
    found = [(r["number"], r["kind"], json.loads(r["paths"])) for r in rows(db, schema.reply)]
    assert found == [(0, "extend", ["0", "1"]), (1, "verify", ["0"]), (2, "extend", ["2"])]
    extended, cost, _ = (json.loads(row["cost"]) for row in rows(db, schema.reply))
    assert extended == {
        "prompt_tokens": 12,
        "cached_tokens": 1,
        "recomputed_tokens": 3,
        "drafted_tokens": 8,
        "accepted_tokens": 5,
        "flops": 0.0,
        "queue_seconds": 0.0,
        "seconds": 0.5,
    }
    assert cost == {"passes": [1], "tokens": [3], "flops": [2.0], "queue_seconds": 0.0, "seconds": 0.25}
    assert [r["number"] for r in rows(db, schema.candidate)] == [0, 1, 2]
