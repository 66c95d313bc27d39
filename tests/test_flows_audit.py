"""The audit finds every kind of damage, and nothing where there is none. Runs are of the bundled models."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import audit, rescore, work
from flows.parts import part, spec
from search.strategies import beam
from store.audit import CHECKS
from store.database import Database, open_database
from store.runs import find_run

PROBLEMS = "word:count=4,levels=2-3,seed=3"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of beam search and one of best-of-n, which a verifier and a grader have judged later."""
    path = tmp_path_factory.mktemp("audit") / "whole.db"
    with open_database(path) as database:
        work.evaluate(database, spec(PROBLEMS, "beam:n=4,keep=2"), "beam")
        work.evaluate(database, spec(PROBLEMS, "best-of-n:n=3,select=weighted"), "best")
        rescore.run(database, "best", part("equation"), "exact")
    return path


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copy(whole, tmp_path / "copy.db")
    with open_database(tmp_path / "copy.db") as database:
        yield database


def damaged(database: Database, statement: str) -> None:
    """Behind the program's back, and past the foreign keys."""
    with sqlite3.connect(database.shown) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        assert connection.execute(statement).rowcount > 0


def test_a_whole_database_is_clean(copied: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.run(copied, None, replays=None) == 0
    said = capsys.readouterr().out
    assert said.count("ok  ") == len(CHECKS) + 1
    assert "8 of 8 replayed" in said


def test_it_is_clean_on_either_database(where: str) -> None:
    with open_database(where) as database:
        work.evaluate(database, spec(PROBLEMS, "astar:k=2"), "astar")
        report = audit.audit(database)
        assert report.clean, report.faults
        assert (report.looked["attempt"], report.looked["reply"] > 8) == (4, True)
        replays = audit.Replays()
        audit.replay(database, find_run(database, "astar"), None, replays)
        assert (replays.done, replays.faults) == (4, [])


ONE = "attempt_id = 1"
PARENT = f"{ONE} AND path = (SELECT parent FROM candidate WHERE {ONE} AND depth = 2 LIMIT 1)"
LAST = "(SELECT max(number) FROM {0} WHERE attempt_id = 1)"
FIFTH = "WHERE attempt_id = 5 AND path = '0'"
DAMAGE = {
    "a reply is lost": ("replies", f"DELETE FROM reply WHERE {ONE} AND number = 2"),
    "the last reply is lost": ("replies", f"DELETE FROM reply WHERE {ONE} AND number = {LAST.format('reply')}"),
    "a candidate is lost": ("replies", f"DELETE FROM candidate WHERE {ONE} AND number = {LAST.format('candidate')}"),
    "a score is lost": ("replies", f"DELETE FROM score WHERE {ONE} AND number = 1"),
    "a candidate is of no reply": ("replies", f"UPDATE candidate SET reply = 999 WHERE {ONE} AND path = '0'"),
    "a problem has two attempts": (
        "keys",
        "INSERT INTO attempt (run_id, problem_key, position, seed, status) "
        "SELECT run_id, problem_key, position, seed, 'pending' FROM attempt WHERE id = 1",
    ),
    "the chosen candidate is another": ("results", "UPDATE attempt SET path = '77' WHERE id = 1"),
    "the answer is another": ("results", "UPDATE attempt SET answer = answer || '1' WHERE answer IS NOT NULL"),
    "a verdict contradicts itself": ("results", "UPDATE attempt SET correct = NOT correct WHERE id = 1"),
    "a failure has no error": ("results", "UPDATE attempt SET status = 'failed' WHERE id = 1"),
    "a run is done before its attempts": ("counts", "UPDATE attempt SET status = 'pending' WHERE id = 1"),
    "a status is unknown": ("counts", "UPDATE run SET status = 'asleep'"),
    "a run has no attempts": (
        "counts",
        "INSERT INTO run SELECT 'x', name, spec, status, created, ended, environment, problems FROM run LIMIT 1",
    ),
    "a problem is lost": ("counts", "DELETE FROM attempt WHERE id = 1"),
    "a spec is another": ("names", "UPDATE run SET spec = replace(spec, '\"seed\":0', '\"seed\":1')"),
    "a reference answer is another": ("names", "UPDATE problem SET answer = '99'"),
    "a question is another": ("names", "UPDATE problem SET prompt = prompt || ' '"),
    "the ledger has a token more": ("ledger", "UPDATE attempt SET generated_tokens = generated_tokens + 1 WHERE id = 1"),
    "the ledger has fewer FLOPs": ("ledger", "UPDATE attempt SET flops = flops - 1e6 WHERE id = 1"),
    "the ledger has another second": ("ledger", "UPDATE attempt SET verify_seconds = verify_seconds + 1 WHERE id = 1"),
    "the ledger has no entry": ("ledger", "UPDATE attempt SET pruned_tokens = NULL WHERE id = 1"),
    "a step has another length": ("ledger", f"UPDATE candidate SET tokens = tokens + 1 WHERE {ONE} AND path = '0'"),
    "a parent is another": ("tree", f"UPDATE candidate SET parent = '9' WHERE {ONE} AND path = '0.0'"),
    "a depth is another": ("tree", f"UPDATE candidate SET depth = 7 WHERE {ONE} AND path = '0.0'"),
    "a parent is not there": ("tree", f"UPDATE candidate SET path = '99' WHERE {PARENT}"),
    "a child is older than its parent": ("tree", f"UPDATE candidate SET number = 999 WHERE {PARENT}"),
    "a score is over 1": ("scores", "UPDATE score SET value = 1.5 WHERE rowid = 1"),
    "a score is infinite": ("scores", "UPDATE score SET value = 9e999 WHERE rowid = 1"),
    "a score is not its parts'": ("scores", "UPDATE score SET value = value * 0.5 WHERE value > 0"),
    "a score is nothing without a reason": ("scores", "UPDATE score SET value = NULL WHERE rowid = 1"),
    "a score is of nothing": ("scores", f"UPDATE score SET path = '77' WHERE {ONE} AND number = 0"),
    "tokens are cut": ("tokens", f"UPDATE candidate SET packed = substr(packed, 1, 5) WHERE {ONE} AND path = '0'"),
    "statistics are cut": ("tokens", f"UPDATE candidate SET extra = substr(extra, 1, 4) WHERE {ONE} AND path = '0'"),
    "a later verdict is unknown": ("later", "UPDATE verdict SET verdict = 'right'"),
    "a later verdict contradicts itself": ("later", f"UPDATE verdict SET correct = NOT correct {FIFTH}"),
    "a later verdict is not decided": ("later", f"UPDATE verdict SET correct = NULL {FIFTH}"),
    "a later verdict is lost": ("later", f"DELETE FROM verdict {FIFTH}"),
    "a later score is lost": ("later", f"DELETE FROM score {FIFTH} AND verifier LIKE 'equation%'"),
    "a later grader is not on record": ("later", "DELETE FROM rescore WHERE kind = 'grader'"),
    "a later one is of no kind": ("later", "UPDATE rescore SET kind = 'judge' WHERE kind = 'verifier'"),
    "a reference goes nowhere": ("file", "UPDATE attempt SET run_id = 'nowhere' WHERE id = 1"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found(copied: Database, what: str) -> None:
    check, statement = DAMAGE[what]
    if what == "a problem has two attempts":  # the schema itself refuses it
        with pytest.raises(sqlite3.IntegrityError):
            damaged(copied, statement)
        return
    damaged(copied, statement)
    report = audit.audit(copied)
    assert report.found[check] > 0, report.faults
    assert audit.run(copied, None, replays=0) == 1


def test_every_check_of_the_rows_has_a_damage_here() -> None:
    elsewhere = {"slots", "solutions"}  # test_store_slots.py, test_store_questions.py
    assert {check for check, _ in DAMAGE.values()} == set(CHECKS) - elsewhere


def test_a_choice_that_does_not_follow_from_the_candidates_is_found_by_replaying(copied: Database) -> None:
    damaged(copied, "UPDATE attempt SET votes = '[]', reason = 'by hand' WHERE id = 1")
    assert audit.audit(copied).clean  # the rows do not contradict each other
    replays = audit.Replays()
    for name in ("beam", "best"):
        audit.replay(copied, find_run(copied, name), None, replays)
    assert {fault.where for fault in replays.faults} == {"attempt 1"}


def test_a_strategy_that_has_changed_is_found_by_replaying(copied: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "shares", lambda n, among: [1] * among)
    replays = audit.Replays()
    audit.replay(copied, find_run(copied, "beam"), None, replays)
    assert len(replays.faults) == 4
    assert all("Diverged" in fault.what for fault in replays.faults)


def test_a_sample_of_the_searches_is_replayed_evenly(copied: Database) -> None:
    replays = audit.Replays()
    audit.replay(copied, find_run(copied, "beam"), 2, replays)
    assert (replays.done, replays.closed) == (2, 4)


def test_one_run_is_audited_alone_and_as_json(copied: Database, capsys: pytest.CaptureFixture[str]) -> None:
    damaged(copied, "UPDATE attempt SET flops = 0 WHERE run_id = (SELECT id FROM run WHERE name = 'best')")
    assert audit.run(copied, "beam", json=True) == 0
    assert json.loads(capsys.readouterr().out)["looked"]["attempt"] == 4
    assert audit.run(copied, "best", json=True) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["clean"], said["found"]) == (False, {"ledger": 4})
    assert said["faults"][0]["what"].startswith("flops is 0")


def test_faults_of_one_kind_are_counted_and_the_first_are_shown(copied: Database) -> None:
    damaged(copied, "UPDATE candidate SET depth = 99")
    report = audit.audit(copied)
    assert len([fault for fault in report.faults if fault.check == "tree"]) == 20
    assert report.found["tree"] == report.looked["candidate"] > 20
