"""Shards over a Dask cluster: what is refused, and that each process keeps its models while all write to one database."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import cluster
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
