"""The demo as a newcomer runs it, on fewer problems: Prefect's own temporary server in a home of its own."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flows.demo import FAMILIES, OTHERS, SEEDED, STRATEGIES


@pytest.mark.slow
@pytest.mark.prefect
def test_the_demo_prints_its_tables_and_leaves_its_runs_in_the_database(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo", "--problems", "5"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    for family in FAMILIES:
        assert f"{family}: 5 held-out problems" in done.stdout
    for strategy in STRATEGIES:
        assert len(re.findall(rf"^{re.escape(strategy)} +[01]\.\d\d\d  \[", done.stdout, re.MULTILINE)) == len(FAMILIES)
    for strategy in OTHERS:
        assert re.search(rf"^{re.escape(strategy)} +[01]\.\d\d\d  \[", done.stdout, re.MULTILINE), strategy
    assert re.search(r"\d+ s in all: \d+ generating, \d+ verifying, \d+ \(\d+%\)", done.stdout)
    assert done.stdout.count("ponderosa ") == 3  # what to try next
    assert "report    .ponderosa/demo.html" in done.stdout
    page = (tmp_path / ".ponderosa" / "demo.html").read_text()
    assert page.count("Did the seed matter?") == len(FAMILIES)
    assert f"{len(OTHERS)} further strategies were run on 5 problems of countdown each" in page
    with sqlite3.connect(tmp_path / ".ponderosa" / "ponderosa.db") as connection:
        runs = connection.execute("select status, count(*) from run group by 1").fetchall()
        ended = connection.execute("select status, count(*) from attempt group by 1").fetchall()
    made = len(FAMILIES) * (len(STRATEGIES) + len(SEEDED)) + len(OTHERS)
    assert runs == [("done", made)]
    assert ended == [("done", 5 * made)]
