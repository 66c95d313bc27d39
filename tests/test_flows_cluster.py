"""Shards over a Dask cluster: what is refused, and that each process keeps its models while all write to one database."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import cluster, hurry, work
from flows.parts import spec
from store import queries
from store.database import open_database
from store.runs import find_run, sessions


@pytest.mark.parametrize(
    ("asked", "plain", "says"),
    [
        ("local:2", True, "leave --plain out"),
        ("local:0", False, "must be local:PROCESSES"),
        ("local", False, "must be local:PROCESSES"),
        ("local:two", False, "must be local:PROCESSES"),
        ("scheduler", False, "or an address such as"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_before_anything_is_loaded(asked: str, plain: bool, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        cluster.check_cluster(asked, plain)


def test_without_the_extra_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'ponderosa\[dask\]'"):
        cluster.check_cluster("local:2")


@pytest.mark.parametrize(
    ("shards", "processes", "parts"), [(64, 2, [8] * 8), (3, 2, [1, 1, 1]), (1000, 2, [8] * 125), (20, 1, [5] * 4), (1, 8, [1])]
)
def test_shards_go_to_the_processes_in_parts_of_about_a_minute(shards: int, processes: int, parts: list[int]) -> None:
    split = cluster.split(range(shards), processes)
    assert [len(part) for part in split] == parts
    assert [each for part in split for each in part] == list(range(shards))


@pytest.mark.parametrize(("heard", "status"), [(None, "running"), (15, "cancelled")])
def test_an_error_that_a_signal_became_calls_the_run_off_and_another_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: int | None, status: str
) -> None:
    """The cluster's processes would not hear of the signal otherwise."""

    def submit(*what: object) -> None:
        monkeypatch.setattr(hurry, "heard", lambda: heard)
        raise ValueError("Error calling function `serialize`")

    client = SimpleNamespace(nthreads=lambda: {"one": 1})
    monkeypatch.setattr(cluster, "_reachable_api", nullcontext)
    monkeypatch.setattr(cluster, "_runner", lambda cluster: nullcontext(SimpleNamespace(client=client, submit=submit)))
    asked = spec("word:count=2", "greedy")
    with open_database(tmp_path / "a.db") as database:
        work.plan(database, asked)
        with pytest.raises(ValueError, match="Error calling function"):
            cluster.spread("local:1", None, {"run_id": asked.id}, [0], database, "")
        assert find_run(database, asked.id).status == status


@pytest.mark.slow
@pytest.mark.prefect
def test_a_run_over_two_processes_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("prefect_dask")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PREFECT_HOME": str(tmp_path / "prefect")}
    command = [sys.executable, "-m", "flows.cli", "run", "--problems", "word:count=12", "--strategy", "beam:n=4,keep=2"]
    command += ["--shard", "3", "--cluster", "local:2", "-d", str(tmp_path / "a.db")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    with open_database(tmp_path / "a.db") as database:
        run = find_run(database, "latest")
        assert (run.status, queries.summary(database, run.id).done) == ("done", 12)
        assert len({owner for owner, _, _ in sessions(database, run.id)}) == 3, "who planned it, and the two that worked"
