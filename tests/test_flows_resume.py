"""Interrupted runs from the command line: killed, terminated, gone on with, and refused where the code is another's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from postgres import PASSWORD, Postgres
from sqlalchemy import select

from flows import hurry, launch, tables, versions, work
from flows.parts import spec
from search.drive import Diverged
from search.strategies import beam
from search.types import RunSpec
from store import queries, schema
from store.database import open_database
from store.errors import StoreError, Unavailable
from store.leases import Held, Lease, claim, is_dead
from store.runs import find_run, sessions
from store.views import VIEWS

PROBLEMS = "word:count=24,levels=2-4,seed=5"
STRATEGY = "beam:n=8,keep=4"
ROWS = """select a.position, c.path, c.text, c.state, c.cause, c.answer, c.packed, c.extra
    from candidate c join attempt a on a.id = attempt_id order by 1, 2"""
RESULTS = (
    "select position, status, path, answer, reason, votes, verdict, generated_tokens, pruned_tokens from attempt order by 1"
)


def started(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def wait_for_candidates(path: Path, least: int) -> None:
    for _ in range(6000):  # five minutes: a busy machine loads the models for one
        with contextlib.suppress(sqlite3.Error):
            if path.exists() and ask(path, "select count(*) from candidate")[0][0] >= least:  # type: ignore[operator]
                return
        time.sleep(0.05)
    raise AssertionError("the run writes nothing")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as it is when nothing interrupts it."""
    path = tmp_path_factory.mktemp("whole") / "whole.db"
    with open_database(path) as database:
        work.evaluate(database, spec(PROBLEMS, STRATEGY))
    return path


@pytest.mark.crash
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_in_mid_search_goes_on_and_ends_like_one_that_was_not(
    whole: Path, tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    path = tmp_path / "a.db"
    running = started("run", "--plain", "--problems", PROBLEMS, "--strategy", STRATEGY, "-d", "a.db", cwd=tmp_path)
    wait_for_candidates(path, 100)
    running.send_signal(stop)
    began = time.monotonic()
    status, _, err = ended(running)
    took = time.monotonic() - began
    assert status == code, err
    if stop is not signal.SIGKILL:
        assert took < 10
        assert err.splitlines()[-1].endswith("goes on from here")
        check_left(path, took)
    status, out, err = ended(started("runs", "-d", "a.db", cwd=tmp_path))  # whatever the dead process left in the table
    found = "abandoned" if stop is signal.SIGKILL or took >= hurry.PATIENCE else "interrupted"
    assert (status, found in out, "running" in out) == (0, True, False), out + err
    status, out, err = ended(started("show", "-d", "a.db", cwd=tmp_path))
    assert "does the rest" in out
    assert "ponderosa resume" in out
    before = ask(path, "select attempt_id, path, packed from candidate")
    open_ = ask(path, "select count(*) from attempt where status not in ('done', 'failed')")[0][0]
    assert 100 <= len(before) < len(ask(whole, ROWS))
    assert open_ > 0
    status, out, err = ended(started("resume", "--plain", "-d", "a.db", cwd=tmp_path))
    assert status == 0, err
    assert "24 problems" in out
    assert ask(path, ROWS) == ask(whole, ROWS)
    assert ask(path, RESULTS) == ask(whole, RESULTS)
    assert set(before) <= set(ask(path, "select attempt_id, path, packed from candidate"))
    assert ask(path, "select count(*) from session") == [(2,)]
    status, out, err = ended(started("audit", "-d", "a.db", "--replay", "all", "--json", cwd=tmp_path))
    assert (status, json.loads(out)["clean"], json.loads(out)["replayed"]) == (0, True, 24), err


@pytest.mark.crash
def test_two_processes_share_a_run(tmp_path: Path) -> None:
    """Each does what the other has not, or waits for it."""
    running = [started("run", "--plain", "--problems", "word:count=12", "-d", "a.db", cwd=tmp_path) for _ in range(2)]
    results = [ended(each) for each in running]
    assert [status for status, _, _ in results] == [0, 0], results
    path = tmp_path / "a.db"
    assert ask(path, "select status, count(*) from attempt group by 1") == [("done", 12)]
    assert ask(path, "select status from run") == [("done",)]
    assert ask(path, "select count(distinct owner) from session") == [(2,)]


# ------------------------------------------------------------------------------------------------------- in this process


class _Cut(Exception):
    pass


def cut(path: Path, asked: RunSpec, after: int) -> None:
    """A run that ends in an error of the process once it has some candidates."""
    engine = work.generator_of(asked.generator).engine
    advance, seen = engine.advance, 0

    def cutting() -> object:
        nonlocal seen
        seen += 1
        if seen == after:
            raise _Cut
        return advance()

    engine.advance = cutting  # type: ignore[method-assign, assignment]
    try:
        with open_database(path) as database, pytest.raises(_Cut):
            work.evaluate(database, asked)
    finally:
        engine.advance = advance  # type: ignore[method-assign]


def test_a_run_of_which_nothing_is_finished_can_be_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = spec("word:count=6,levels=4-5,seed=3", "beam:n=4,keep=2")
    cut(tmp_path / "a.db", asked, after=40)
    with open_database(tmp_path / "a.db") as database:
        assert (queries.verifiers(database, asked.id), queries.verifiers(database, asked.id, closed=True)) == (["prm"], [])
        capsys.readouterr()
        tables.show_run(database, asked.id, None)
    told = capsys.readouterr().out
    assert "interrupted: 0 done, 0 failed, 6 pending" in told
    assert "selectors" not in told


def test_what_is_stored_is_not_generated_again(whole: Path, tmp_path: Path) -> None:
    path, asked = tmp_path / "a.db", spec(PROBLEMS, STRATEGY)
    cut(path, asked, 60)
    stored = ask(path, "select coalesce(sum(tokens), 0) from candidate")[0][0]
    engine = work.generator_of(asked.generator).engine
    generated, advance = 0, engine.advance

    def counting() -> object:
        nonlocal generated
        replies = advance()
        generated += sum(len(step) for _, reply in replies for step in reply.steps)  # type: ignore[union-attr]
        return replies

    engine.advance = counting  # type: ignore[method-assign, assignment]
    try:
        with open_database(path) as database:
            work.resume(database, asked)
    finally:
        engine.advance = advance  # type: ignore[method-assign]
    total = ask(whole, "select sum(tokens) from candidate")[0][0]
    assert isinstance(stored, int)
    assert stored > 500
    assert generated == total - stored  # type: ignore[operator]
    assert ask(path, ROWS) == ask(whole, ROWS)


def test_a_strategy_that_has_changed_is_said_and_nothing_is_touched(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = tmp_path / "a.db", spec(PROBLEMS, STRATEGY)
    cut(path, asked, 60)
    before = ask(path, ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(beam, "shares", lambda n, among: [1] * among)
        with open_database(path) as database:
            with pytest.raises(Diverged, match=r"are not those of their journals.*resume .* --restart") as raised:
                work.resume(database, asked)
            assert "\n" not in str(raised.value)
            assert raised.value.exit_code == 65
            found = queries.summary(database, asked.id)
    assert (found.failed, found.pending > 0) == (0, True)
    assert set(before) <= set(ask(path, ROWS))
    with open_database(path) as database:  # with the code it was begun with it goes on
        work.resume(database, asked)
    assert ask(path, ROWS) == ask(whole, ROWS)


def test_unfinished_searches_can_be_begun_again_and_what_they_had_is_wasted(whole: Path, tmp_path: Path) -> None:
    path, asked = tmp_path / "a.db", spec(PROBLEMS, STRATEGY)
    cut(path, asked, 60)
    lost = ask(path, "select sum(tokens) from candidate join attempt a on a.id = attempt_id where status <> 'done'")[0][0]
    launch.resume("latest", str(path), restart=True, plain=True)
    assert ask(path, "select sum(wasted_tokens) from attempt") == [(lost,)]
    assert ask(path, ROWS) == ask(whole, ROWS)


def test_failed_problems_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = tmp_path / "a.db", spec("word:count=3", "greedy")

    def broken(self: object, tree: object) -> Iterator[object]:
        raise RuntimeError("a bug")
        yield

    with monkeypatch.context() as patch:
        patch.setattr("search.strategies.greedy.Greedy.search", broken)
        with open_database(path) as database:
            work.evaluate(database, asked)
    assert ask(path, "select status, tries, error, correct from attempt") == [("failed", 3, "RuntimeError: a bug", 0)] * 3
    launch.resume("latest", str(path), retry_failed=True, plain=True)
    assert ask(path, "select status, count(*) from attempt group by 1") == [("done", 3)]


def test_a_run_that_another_process_has_is_not_begun_again(tmp_path: Path) -> None:
    path, asked = tmp_path / "a.db", spec("word:count=3", "greedy")
    with open_database(path) as database:
        work.plan(database, asked)
        held = claim(database, asked.id, 0, "elsewhere/boot/1/1")
        assert isinstance(held, Lease)
        with pytest.raises(Unavailable, match="is at work in process 1 on elsewhere; stop that one first") as raised:
            work.begin_again(database, asked.id)
        assert raised.value.exit_code == 75
        assert isinstance(work.work_extent(database, asked, [0]), Held)


def test_a_process_with_other_versions_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = tmp_path / "a.db", spec("word:count=3", "greedy")
    with open_database(path) as database:
        work.plan(database, asked)
        work.join(database, asked)
        said: list[str] = []
        work.join(database, asked, said.append)
        assert said == []
        monkeypatch.setattr(versions, "commit", lambda: "another")
        work.join(database, asked, said.append)
        assert len(said) == 1
        assert "commit" in said[0]
        assert "-> another" in said[0]
        assert len(sessions(database, asked.id)) == 3
        stored = find_run(database, asked.id).environment
    assert (stored["device"], stored["dtype"], stored["path"]) == ("cpu", "float32", "FusedForward")
    assert {"torch", "sqlite", "processor", "commit", "python"} <= set(stored)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("resume", "nothing"), 65, "there is no run 'nothing': the database 'a.db' has no runs yet"),
        (("audit", "nothing"), 65, "there is no run 'nothing'"),
        (("audit", "--replay", "some"), 2, "--replay must be a number or 'all', not 'some'"),
        (("audit", "-d", "missing.db"), 65, "there is no database at 'missing.db'"),
        (("resume", "-d", "missing.db"), 65, "there is no database at 'missing.db'"),
        (("run", "--flops", "-1", "--plain"), 2, "budget of flops must be a finite number above 0, not -1.0"),
        (("run", "--seconds", "nan", "--plain"), 2, "budget of seconds must be a finite number above 0, not nan"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, command: Command, arguments: tuple[str, ...], code: int, says: str) -> None:
    open_database(tmp_path / "a.db").close()
    where = () if "-d" in arguments else ("-d", "a.db")
    done = command(*arguments, *where)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_a_database_that_fails_is_one_line_and_its_exit_code(postgres: Postgres, command: Command) -> None:
    wrong = postgres.url_with_password("wrong")
    done = command("runs", "-d", wrong)
    assert (done.code, len(done.err.splitlines())) == (65, 1), done.err
    assert "password authentication failed" in done.err
    assert "wrong" not in done.err.replace("check the URL", "")


KEY = "sk-planted-key-of-a-server"


@pytest.mark.crash
def test_what_is_secret_is_told_nowhere(postgres: Postgres, tmp_path: Path, command: Command) -> None:
    """A password in the database's URL and a server's key: in what commands print, in Prefect's folder, in our database, in the
    messages of what goes wrong."""
    url = postgres.url_with_password()
    (tmp_path / ".env").write_text(f"PONDEROSA_API_KEY={KEY}\nPONDEROSA_DATABASE={url}\n")
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(Path(__file__).parent.parent)}
    wrong = postgres.url_with_password("wrong" + PASSWORD)
    words: tuple[str, ...] = ("run", "--problems", "word:count=2", "--strategy", "greedy")
    ran = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout + ran.stderr
    for code, words in (
        (0, ("show",)),
        (0, ("show", "--json")),
        (0, ("show", "--spec")),
        (65, ("show", "nothing")),
        (None, ("doctor",)),
        (65, ("runs", "-d", wrong)),
        (75, ("runs", "-d", f"postgresql://u:{PASSWORD}@nowhere.invalid/x")),
        (65, ("runs", "-d", f"postgresql+nodriver://u:{PASSWORD}@localhost/x")),
    ):
        done = command(*words)
        assert code is None or done.code == code, done.err
        told += done.out + done.err
    from urllib.parse import quote, quote_plus

    assert (tmp_path / "prefect" / "prefect.db").is_file()
    secrets = {PASSWORD, quote(PASSWORD), quote_plus(PASSWORD), KEY}
    for secret in secrets:
        assert secret not in told
        for file in (tmp_path / "prefect").rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    with open_database(url) as database:
        assert queries.summary(database, find_run(database, "latest").id).done == 2
        with database.read() as connection:
            for table in schema.metadata.sorted_tables:
                for row in connection.execute(select(table)):
                    assert not any(secret in str(row) for secret in secrets), table.name


@pytest.mark.crash
@pytest.mark.prefect
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["before Prefect is there", "in the flow"])
def test_a_run_under_prefect_that_is_stopped_ends_in_seconds_without_its_traceback(
    tmp_path: Path, stop: signal.Signals, when: str
) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(Path(__file__).parent.parent)}
    many = "word:count=64,seed=5" if when != "in the flow" else "word:count=4000,seed=5"
    command = [sys.executable, "-m", "flows.cli", "run", "--problems", many, "--strategy", STRATEGY, "-d", "a.db"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]
    wait_for_candidates(tmp_path / "a.db", 10)
    if when == "in the flow":
        for _ in range(3000):
            if ask(tmp_path / "a.db", "select count(*) from session") != [(0,)]:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the flow did not begin")
    else:
        assert ask(tmp_path / "a.db", "select count(*) from session") == [(0,)], "the flow had begun"
    os.killpg(running.pid, stop)  # as a terminal does: Prefect's server gets it too
    began = time.monotonic()
    out, err = running.communicate(timeout=600)
    assert running.returncode == 128 + stop, err
    took = time.monotonic() - began
    assert took < 30
    assert "Traceback" not in out + err, err
    assert err.splitlines()[-1].endswith("goes on from here")
    assert [line for line in err.splitlines() if "word" not in line and "problems" not in line][:-1] == []
    check_left(tmp_path / "a.db", took)
    assert children_at(tmp_path) == []


def check_left(path: Path, took: float) -> None:
    """What a run leaves that was told to stop, and took so many seconds to."""
    if took < hurry.PATIENCE:
        assert ask(path, "select distinct owner from lease") == [("",)]
        assert ask(path, "select status from run") == [("interrupted",)]
    else:  # the machine was too busy: it was ended, and whoever goes on finds its lease free
        assert all(not owner or is_dead(owner) for (owner,) in ask(path, "select owner from lease"))


def children_at(home: Path) -> list[str]:
    """What still runs with that folder in its environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(home).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
    return found


def test_a_database_without_its_server_is_given_up_with_its_exit_code() -> None:
    with pytest.raises(StoreError, match="cannot open the database") as raised:
        open_database("postgresql://nobody@127.0.0.1:1/nothing")
    assert raised.value.exit_code == 75


def test_a_database_whose_tables_are_not_as_they_should_be_is_one_line(tmp_path: Path, command: Command) -> None:
    with open_database(tmp_path / "a.db") as database:
        work.plan(database, spec("word:count=3", "greedy"))
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        for view in reversed(VIEWS):
            connection.execute(f"DROP VIEW {view}")
        connection.execute("ALTER TABLE attempt DROP COLUMN flops")
    done = command("show", "-d", "a.db")
    assert (done.code, len(done.err.splitlines())) == (65, 1), done.err
    assert "no such column: attempt.flops" in done.err
