"""One end-to-end flow under Prefect on the bundled models, its rows checked in the database by SQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from flows.parts import spec


@pytest.mark.prefect
@pytest.mark.filterwarnings("default")  # Prefect's own
def test_a_sweep_under_prefect_leaves_every_candidate_in_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    from prefect.testing.utilities import prefect_test_harness

    from flows import evaluate as flows

    database = str(tmp_path / "runs.db")
    specs = [spec("word:count=5,levels=2-3", s) for s in ("beam:n=4,keep=2", "best-of-n:n=3,select=weighted")]
    with prefect_test_harness(server_startup_timeout=240):
        ids = flows.sweep([s.json() for s in specs], database, ["beam", "weighted"])
        states = _flow_runs()
    assert ids == [s.id for s in specs]
    assert sorted(states) == [("beam", "COMPLETED"), ("weighted", "COMPLETED")]
    with sqlite3.connect(database) as connection:
        ask = connection.execute
        assert ask("select count(*), sum(status = 'done') from attempt").fetchone() == (10, 10)
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


def _flow_runs() -> list[tuple[str, str]]:
    """(name, state) of the evaluations as Prefect's server tells them."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    return [(run.name, str(run.state_type.value)) for run in runs if run.parent_task_run_id is not None]
