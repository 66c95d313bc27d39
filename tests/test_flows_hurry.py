"""A command that is told to stop ends in time, whatever its cleaning up waits for, and takes its children along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CODE = """
import signal, subprocess, sys, time
from flows import hurry
hurry.PATIENCE = 0.5
if sys.argv[1] == "armed":
    hurry.arm("told {}\\n".format)
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
hurry.begin(signal.SIGTERM)
time.sleep(float(sys.argv[2]))
child.kill()
hurry.end(signal.SIGTERM)
"""


def ended(*arguments: str) -> tuple[int, str, float, bool]:
    """The exit code, what it said, the seconds it took, and whether the child lives on."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command, began = [sys.executable, "-c", CODE, *arguments], time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    seconds = time.monotonic() - began
    until = time.monotonic() + 5
    while (lives := _lives(done.stdout.strip())) and time.monotonic() < until:
        time.sleep(0.05)  # a signal is on its way when its sender has ended
    return done.returncode, done.stderr, seconds, lives


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_cleaning_up_that_hangs_is_ended_with_the_signals_code_and_no_child_is_left() -> None:
    code, said, seconds, lives = ended("armed", "60")
    assert (code, said, lives) == (128 + signal.SIGTERM, "told 15\n", False)
    assert seconds < 50


def test_cleaning_up_that_ends_by_itself_ends_with_the_same_code() -> None:
    assert ended("armed", "0.1")[:2] == (143, "told 15\n")


def test_a_process_that_is_not_a_commands_own_is_never_ended() -> None:
    """Tests and notebooks raise KeyboardInterrupt in the work, and live on."""
    code, _, seconds, _ = ended("not", "1.5")
    assert code == 143
    assert seconds > 1.5


SWALLOWED = """
import os, signal, sys, time
from contextlib import nullcontext
from flows.cli import entry
from prefect.utilities.engine import capture_sigterm

class Gone:
    def __del__(self):
        os.kill(os.getpid(), signal.Signals[sys.argv[2]])
        for _ in range(1000):
            time.sleep(0)

def work():
    with capture_sigterm() if sys.argv[1] == "prefect" else nullcontext():
        Gone()
        time.sleep(60)

entry.main(work)
"""


@pytest.mark.crash
@pytest.mark.parametrize(("whose", "name"), [("ours", "SIGTERM"), ("ours", "SIGINT"), ("prefect", "SIGTERM")])
def test_a_signal_that_comes_while_an_object_is_destroyed_is_not_lost(whose: str, name: str) -> None:
    """Python ignores what is raised there."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED, whose, name], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 128 + signal.Signals[name], done.stderr
    assert done.stderr == f"ponderosa: {'interrupted' if name == 'SIGINT' else 'terminated'}\n"
    assert time.monotonic() - began < 50


REPLACED = """
import os, signal, sqlite3, sys, time
from contextlib import closing, nullcontext
from flows.cli import entry
from prefect.utilities.engine import capture_sigterm
from pydantic import BaseModel, model_serializer

def told():
    os.kill(os.getpid(), signal.Signals[sys.argv[3]])
    for _ in range(1000):
        time.sleep(0)
    return {}

class Model(BaseModel):
    @model_serializer
    def plain(self):
        return told()

def query():
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.create_function("told", 0, told)
        connection.execute("select told()").fetchall()

def dump():
    Model().model_dump_json()

def work():
    with capture_sigterm() if sys.argv[2] == "prefect" else nullcontext():
        {"dump": dump, "query": query}[sys.argv[1]]()
    time.sleep(60)

entry.main(work)
"""


@pytest.mark.crash
@pytest.mark.parametrize(("whose", "name"), [("ours", "SIGTERM"), ("ours", "SIGINT"), ("prefect", "SIGTERM")])
@pytest.mark.parametrize("where", ["dump", "query"])
def test_a_signal_of_which_compiled_code_makes_another_error_ends_the_command_all_the_same(
    where: str, whose: str, name: str
) -> None:
    """pydantic's serializers and sqlite3 raise errors of their own where Python code that they call raises anything."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", REPLACED, where, whose, name]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 128 + signal.Signals[name], done.stderr
    assert done.stderr == f"ponderosa: {'interrupted' if name == 'SIGINT' else 'terminated'}\n"
