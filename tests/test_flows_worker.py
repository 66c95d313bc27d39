"""Workers: what they take, what they leave alone, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from postgres import Postgres

from flows import audit, hurry, work
from flows.parts import spec
from flows.worker import Worker
from pipelines.remote.errors import Away
from search.types import RunSpec, Sampling
from store import queries, queue
from store.database import Database, open_database
from store.errors import StoreError
from store.runs import close_run, find_run, sessions

PROBLEMS = "word:count=8,levels=2-4,seed=3"
ROOT = Path(__file__).parent.parent


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "runs.db") as opened:
        yield opened


def submitted(database: Database, seed: int = 0, problems: str = PROBLEMS, shard: int = 4) -> RunSpec:
    asked = spec(problems, "greedy", seed=seed)
    assert work.submit(database, asked, shard=shard)
    return asked


def status(database: Database, asked: RunSpec) -> str:
    return find_run(database, asked.id).status


def test_a_worker_does_what_is_submitted_and_leaves_what_a_person_has_ended(database: Database) -> None:
    mine, interrupted, cancelled = (submitted(database, seed) for seed in range(3))
    queue.begin(database, interrupted.id)
    close_run(database, interrupted.id)
    queue.cancel(database, cancelled.id)
    assert find_run(database, mine.id).environment == {}
    said: list[str] = []
    worker = Worker(database, said.append)
    assert worker.once() == 1  # stretch of shards
    assert worker.once() == 0
    assert [status(database, each) for each in (mine, interrupted, cancelled)] == ["done", "interrupted", "cancelled"]
    assert queries.summary(database, mine.id).done == 8
    assert "device" in find_run(database, mine.id).environment
    assert len(sessions(database, mine.id)) == 1
    assert said[-1].endswith("; 8/8")


def test_a_worker_can_be_told_which_runs_it_is_for(database: Database) -> None:
    first, second = submitted(database, 0), submitted(database, 1)
    Worker(database, lambda line: None, [second.id]).once()
    assert [status(database, each) for each in (first, second)] == ["queued", "done"]


def test_a_run_that_cannot_be_worked_on_here_is_said_once_and_holds_up_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = submitted(database, 0), submitted(database, 1)
    check = work.check

    def picky(asked: RunSpec, problems: bool = True) -> None:
        if asked.id == bad.id:
            raise ValueError("the run was made with weights that are not here")
        check(asked, problems)

    monkeypatch.setattr(work, "check", picky)
    said: list[str] = []
    worker = Worker(database, said.append)
    assert (worker.once(), worker.once()) == (1, 0)
    assert [status(database, each) for each in (bad, good)] == ["queued", "done"]
    assert [line for line in said if "weights" in line] == [
        f"run {bad.id} cannot be worked on here: the run was made with weights that are not here"
    ]


def test_a_run_whose_server_is_away_holds_up_no_other(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    away, here = submitted(database, 0), submitted(database, 1)
    work_extent = work.work_extent

    def lost(database: Database, asked: RunSpec, *what: object, **how: object) -> object:
        if asked.id == away.id:
            raise Away("the server at http://127.0.0.1:1 stays away")
        return work_extent(database, asked, *what, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "work_extent", lost)
    said: list[str] = []
    told: list[Mapping[str, object]] = []
    assert Worker(database, said.append, tell=told.append).once() == 1
    assert [status(database, each) for each in (away, here)] == ["queued", "done"]
    assert told[0] == {"run": away.id, "event": "unable", "reason": "the server at http://127.0.0.1:1 stays away"}
    assert (told[-1]["run"], told[-1]["done"], told[-1]["total"]) == (here.id, 8, 8)


def test_a_worker_that_is_stopped_puts_its_run_back_into_the_queue(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(BaseException):
        pass

    def stopped(*what: object, **how: object) -> None:
        raise Stop

    asked = submitted(database)
    monkeypatch.setattr(work, "work_extent", stopped)
    with pytest.raises(Stop):
        Worker(database, lambda line: None).once()
    assert status(database, asked) == "queued"  # and not interrupted: another worker goes on with it


def test_an_error_that_a_signal_became_ends_the_worker(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of the run, which would be left alone for minutes."""

    def stopped(*what: object, **how: object) -> None:
        raise ValueError("Error calling function `serialize`: _Stopped: 15")

    asked = submitted(database)
    monkeypatch.setattr(work, "work_extent", stopped)
    worker = Worker(database, lambda line: None)
    assert worker.once() == 0
    worker.unable.clear()
    monkeypatch.setattr(hurry, "heard", lambda: signal.SIGTERM)
    with pytest.raises(ValueError, match="_Stopped: 15"):
        worker.once()
    assert worker.unable == {}
    assert status(database, asked) == "queued"


def test_a_run_that_is_cancelled_under_a_worker_does_not_end_the_worker(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = submitted(database, 0), submitted(database, 1)
    work_extent = work.work_extent

    def cancelling(database: Database, asked: RunSpec, *what: object, **how: object) -> object:
        if asked.id == first.id:
            queue.cancel(database, first.id)
        return work_extent(database, asked, *what, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "work_extent", cancelling)
    Worker(database, lambda line: None).once()
    assert [status(database, each) for each in (first, second)] == ["cancelled", "done"]


# ------------------------------------------------------------------------------------------------------------- processes


@contextmanager
def started(where: str, folder: Path, *arguments: str, count: int = 1) -> Iterator[list[subprocess.Popen[str]]]:
    """Workers, killed at the end of the block where they have not ended."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(folder)}
    command = [sys.executable, "-m", "flows.cli", "worker", "-d", where, "--slots", "8", *arguments]
    made = [subprocess.Popen(command, cwd=folder, env=environment, text=True, stderr=subprocess.PIPE) for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            each.kill()
            each.wait()
            assert each.stderr is not None
            each.stderr.close()


def until(what: object, seconds: float = 240.0) -> None:
    ends = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < ends, "it does not happen"
        time.sleep(0.05)


def tokens(database: Database) -> int:
    from sqlalchemy import func, select

    from store import schema

    with database.read() as connection:
        return int(connection.scalar(select(func.coalesce(func.sum(schema.candidate.c.tokens), 0))) or 0)


@pytest.mark.crash
def test_three_workers_on_one_server_of_which_one_is_killed_do_the_run(postgres: Postgres, tmp_path: Path) -> None:
    where = postgres.url("workers")
    asked = spec("word:count=400,levels=2-4,seed=5", "beam:n=8,keep=4")
    with open_database(where) as database:
        work.submit(database, asked, shard=8)
    with open_database(where) as database, started(where, tmp_path, "--until-done", count=3) as workers:
        until(lambda: len(set(queue.owners(database, asked.id))) == 3)  # each has several shards
        (victim, *others) = workers
        has = [owner for owner in queue.owners(database, asked.id) if owner.split("/")[2] == str(victim.pid)]
        until(lambda: tokens(database) > 2000)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        ends = [(worker.wait(240), worker.communicate()[1]) for worker in others]
        assert [code for code, _ in ends] == [0, 0], ends
        assert has
        assert status(database, asked) == "done"
        assert len(sessions(database, asked.id)) == 3
        assert queries.summary(database, asked.id).done == 400
        assert audit.run(database, asked.id, None, False) == 0


@pytest.mark.crash
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_in_a_long_generation_ends_in_time_and_leaves_nothing(
    where: str, tmp_path: Path, number: signal.Signals
) -> None:
    import psutil  # type: ignore[import-untyped]

    with open_database(where) as database, started(where, tmp_path) as (worker,):
        hot = Sampling(temperature=4.0)  # hardly a solution ends by itself
        asked = spec("word:count=64,seed=7", "best-of-n:n=8,select=majority", "logprob", sampling=hot, tokens=2000)
        work.submit(database, asked)
        until(lambda: queue.owners(database, asked.id))
        time.sleep(3.0)
        children = psutil.Process(worker.pid).children(recursive=True)
        began = time.monotonic()
        worker.send_signal(number)
        said = worker.communicate(timeout=60)[1]
        took = time.monotonic() - began
        assert took < 10
        assert worker.returncode == 128 + number, said
        assert "Traceback" not in said
        assert not [child for child in children if child.is_running()]
        assert queue.owners(database, asked.id) == []
        if took < hurry.PATIENCE:  # else it was ended, and another worker goes on with what a dead one had
            assert status(database, asked) == "queued"


@pytest.mark.crash
def test_a_worker_that_is_told_twice_ends_at_once(tmp_path: Path) -> None:
    where = str(tmp_path / "twice.db")
    with open_database(where) as database, started(where, tmp_path) as (worker,):
        work.submit(database, spec("word:count=64,seed=7", "best-of-n:n=8,select=majority"))
        until(lambda: queue.owners(database, find_run(database, "latest").id))
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=10)
        assert worker.returncode in (-signal.SIGTERM, 143)


def test_a_worker_says_who_has_its_device_where_it_is_not_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import device_slots as slots
    from flows import worker
    from store.errors import Unavailable

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with slots.slot("cuda:0", 1), pytest.raises(Unavailable, match="cuda:0 is taken"):
        worker.run(str(tmp_path / "a.db"), "cuda:0", 1, (), True, False, lambda line: None)
    for device in ("cuda:", "cuda:x", "cpu:1"):
        with pytest.raises(ValueError, match=f"unknown device '{device}'"):
            worker.placed(device, None)
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        worker.run(str(tmp_path / "a.db"), "gpu", 1, (), True, False, lambda line: None)


def test_a_worker_that_is_not_to_wait_for_more_ends_when_nothing_is_left(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import worker

    asked, said = submitted(database), list[str]()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert worker.run(database.shown, "cpu", 8, (), True, False, said.append)
    assert status(database, asked) == "done"
    with pytest.raises(StoreError, match="directory"):
        worker.run(str(tmp_path), "cpu", 8, (), True, False, said.append)
