"""Servers that others wrote, serving the bundled generator.

`transformers serve` is started where its extra is installed (`pip install "transformers[serving]"`). Others are named in
PONDEROSA_TEST_SERVERS, with blanks between: "openai:http://localhost:8123/v1:concurrency=1".
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import audit, work
from flows.parts import spec
from pipelines.models import BUNDLED
from search.types import GREEDY, RunSpec
from store.database import open_database

NAMED = os.environ.get("PONDEROSA_TEST_SERVERS", "").split()
SERVING = all(importlib.util.find_spec(each) for each in ("openai", "uvicorn", "fastapi"))
PROBLEMS = "word:count=2,levels=2-3,seed=3"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["transformers serve", *NAMED])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """How the server is named as a generator."""
    if request.param != "transformers serve":
        yield request.param
        return
    if not SERVING:
        pytest.skip("transformers[serving] is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", start, "serve", str(BUNDLED["generator"]), "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(
        command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "transformers serve ended by itself"
            time.sleep(0.5)
        yield f"openai:http://127.0.0.1:{port}/v1:model={BUNDLED['generator']},concurrency=2"
    finally:
        process.terminate()
        process.wait(30)


def asked(server: str, strategy: str, tokenizer: bool = True) -> RunSpec:
    joint = "," if "=" in server else ":"
    far = f"{server}{joint}tokenizer=bundled" if tokenizer else server
    return spec(PROBLEMS, strategy, generator=far, sampling=GREEDY, tokens=120, step_tokens=48)


@pytest.mark.parametrize("strategy", ["greedy", "beam:n=2,keep=1", "first-finish:n=2", "best-of-n:n=2"])
def test_a_real_server_gives_the_same_texts_as_the_core_and_a_clean_store(
    server: str, tmp_path: Path, strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_database(tmp_path / "runs.db") as database:
        local = spec(PROBLEMS, strategy, sampling=GREEDY, tokens=120, step_tokens=48)
        far = asked(server, strategy)
        for each in (local, far):
            work.evaluate(database, each)
        found = audit.run(database, None, None)
        assert found == 0, capsys.readouterr().out
        texts = """
            select c.path, c.text from candidate c join attempt a on a.id = attempt_id
            where run_id = ? order by problem_key, 1"""
        with database.read() as connection:
            first, second = ([tuple(row) for row in connection.exec_driver_sql(texts, (each.id,))] for each in (local, far))
        assert first == second
