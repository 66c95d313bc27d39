"""What a person sees while a run goes on: plain lines in a log, bars in a terminal of any width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from flows import progress
from flows.parts import spec
from flows.work import Progress, evaluate, used
from search.ledger import Usage
from search.tree import Tree
from search.types import Budget
from store.database import open_database

ROOT = Path(__file__).parent.parent


def made(**given: object) -> Progress:
    return Progress(**{"total": 50, "done": 20, "right": 12, "tokens": 4000, **given})  # type: ignore[arg-type]


def test_a_line_has_all_that_there_is_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.work.time.monotonic", lambda: 110.0)
    told = progress.line("beam", made(started=100.0, spent=5.0, bounded=20, under_way=1000))
    assert told == "beam: 20/50 problems, accuracy 0.600 [0.39, 0.78], 500 tokens/s, budget 25%, 15 s left"
    assert progress.line("beam", Progress(50, started=100.0)) == "beam: 0/50 problems, accuracy -, 0 tokens/s"


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s left"), (75, "1 min 15 s left"), (7260, "2 h 01 min left")])
def test_the_time_left_is_in_what_it_is_read_in(seconds: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.work.time.monotonic", lambda: 100.0 + seconds)
    assert progress.left(made(total=40, started=100.0)) == said


def test_lines_come_at_the_end_and_every_few_seconds_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("beam") as watch:
        for done in range(51):
            watch(made(done=done, right=done))
        watch(made(done=50, right=50))
    assert [line[:11] for line in capsys.readouterr().err.splitlines()] == ["beam: 50/50"]


def test_the_budget_is_told_by_the_bound_that_came_nearest() -> None:
    tree = Tree.__new__(Tree)
    tree.usage, tree.budget = Usage(generated_tokens=50, verifier_passes=9, flops=1e9), Budget(tokens=100, passes=10)
    assert used(tree) == 0.9
    tree.budget = Budget()
    assert used(tree) is None


def test_tokens_of_problems_under_way_are_counted(tmp_path: Path) -> None:
    """With long solutions nothing is done for minutes, and the pace would stand at 0."""
    seen: list[int] = []
    with open_database(tmp_path / "a.db") as database:
        evaluate(database, spec("word:count=16", "beam:n=8"), watch=lambda p: seen.append(p.under_way))
    assert seen[-1] == 0
    assert max(seen) > 0


# ------------------------------------------------------------------------------------------------------------ a terminal


def terminal(width: int, cwd: Path, *words: str) -> tuple[int, str]:
    """The command in a pseudo-terminal of that width: its exit code, and the text without its control sequences."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-m", "flows.cli", *words]
    running = subprocess.Popen(command, stdin=follower, stdout=subprocess.DEVNULL, stderr=follower, cwd=cwd, env=environment)
    os.close(follower)
    told = b""
    while True:
        try:
            told += os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
    os.close(leader)
    return running.wait(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told.decode())


@pytest.mark.crash  # two runs in processes of their own
@pytest.mark.parametrize("width", [20, pytest.param(70, marks=pytest.mark.slow), pytest.param(140, marks=pytest.mark.slow)])
def test_a_terminal_has_a_bar_a_run_and_those_that_are_done_stay(width: int, tmp_path: Path) -> None:
    words = ("--strategy", "greedy", "--strategy", "best-of-n:n=2", "--problems", "word:count=3", "--budget", "300")
    code, told = terminal(width, tmp_path, "sweep", *words, "--plain")
    assert code == 0, told
    last = [line.strip() for line in told.replace("\r", "\n").split("\n") if line.strip()][-2:]
    assert last[0].startswith("1/2 gr")
    assert last[1].startswith("2/2 be")
    for line in last:
        assert "3/3" in line
        assert len(line) <= width
        assert ("accuracy" in line or "[0." in line) == (width > 20), line
        assert ("tokens/s" in line, "budget" in line) == (width == 140, width == 140)
