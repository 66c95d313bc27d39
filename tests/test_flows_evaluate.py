"""The flows under Prefect on the bundled models: their rows in the database by SQL, and what the server shows of them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.parts import spec

pytestmark = [pytest.mark.prefect, pytest.mark.filterwarnings("default")]  # Prefect's own warnings


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """Prefect's temporary server: once for all tests that need it."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=240):
        yield


def told(kind: str) -> list[Any]:
    """Flow runs, task runs or artifacts, as Prefect's server tells them."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return list(getattr(client, f"read_{kind}")())


@pytest.mark.usefixtures("server")
def test_a_sweep_under_prefect_leaves_every_candidate_in_the_database(tmp_path: Path) -> None:
    from flows import evaluate as flows

    database = str(tmp_path / "runs.db")
    specs = [spec("word:count=5,levels=2-3", s) for s in ("beam:n=4,keep=2", "best-of-n:n=3,select=weighted")]
    ids = flows.sweep([s.json() for s in specs], database, ["beam", "weighted"])  # type: ignore[arg-type]
    assert ids == [s.id for s in specs]
    (flow,) = [run for run in told("flow_runs") if "word:count=5" in run.name]
    assert (flow.name, flow.state_type.value) == ("2 runs, word:count=5,levels=2-3, bundled", "COMPLETED")
    assert set(flow.tags) == {"beam", "best-of-n", "bundled", "word"}
    names = {run.name for run in told("task_runs") if run.flow_run_id == flow.id}
    assert names
    assert names <= {"beam", "weighted", "beam + weighted"}
    kinds = {each.key: each.type for each in told("artifacts") if each.flow_run_id == flow.id}
    assert sorted(kinds.values()) == ["image", "markdown", "progress", "table"]
    with sqlite3.connect(database) as connection:
        ask = connection.execute
        assert ask("select count(*), sum(status = 'done') from attempt").fetchone() == (10, 10)
        assert ask("select count(*), sum(status = 'done') from run").fetchone() == (2, 2)
        assert ask("select count(*) from attempt where verdict is null").fetchone() == (0,)
        mismatched = """
            select count(*) from attempt a
            where generated_tokens <> (select sum(tokens) from candidate c where c.attempt_id = a.id)
               or candidates <> (select count(*) from candidate c where c.attempt_id = a.id)
               or verifier_passes <> (select count(*) from score s where s.attempt_id = a.id and value is not null)"""
        assert ask(mismatched).fetchone() == (0,)
        assert ask("select count(*) from candidate where state in ('pruned', 'merged') and cause = ''").fetchone() == (0,)
        whole = ask("select count(*) from candidate where state = 'finished'").fetchone()[0]
        assert whole >= 15
        blobs = ask("select tokens, length(packed), length(extra) from candidate").fetchall()
        assert all(own == 6 * n and extra == 1 + 2 * n for n, own, extra in blobs)


@pytest.mark.usefixtures("server")
def test_a_bad_value_is_refused_before_anything_is_begun(tmp_path: Path) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows import evaluate as flows

    with pytest.raises(ParameterTypeError, match="did you mean 'best-of-n'"):
        flows.evaluate({"strategy": "best_of_n"}, str(tmp_path / "none.db"))  # type: ignore[arg-type]
    assert not (tmp_path / "none.db").exists()


@pytest.mark.usefixtures("server")
def test_rescore_and_report_are_flows_too(tmp_path: Path) -> None:
    from flows import after
    from flows import evaluate as flows

    database = str(tmp_path / "runs.db")
    run = flows.evaluate({"problems": "word:count=4,levels=2-3", "strategy": "best-of-n:n=3"}, database)  # type: ignore[arg-type]
    lines = after.rescore_run({"run": run, "verifier": "equation", "grader": "exact"}, database)  # type: ignore[arg-type]
    assert "12 scores added" in lines[0]
    text = after.report_runs({"runs": [run], "file": str(tmp_path / "report.md")}, database)  # type: ignore[arg-type]
    assert run in text
    assert "<svg" in (tmp_path / "report.svg").read_text()
    names = {flow.name for flow in told("flow_runs")}
    assert "best-of-n:n=3,select=majority, word:count=4,levels=2-3, bundled, seed 0" in names
    assert f"rescore run {run}, verifier equation, grader exact" in names
