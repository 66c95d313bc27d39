"""The command line in this process: what it wrote, and its exit code. (A process of its own takes a second to begin.)"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

Command = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs `ponderosa` with these words in an empty folder, with no variable of ours set."""
    from flows import hurry
    from flows.cli import main

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PONDEROSA_") and name != "PONDEROSA_REQUIRE_SANDBOX"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    # armed, it may end the process: that would be all the tests
    monkeypatch.setattr("flows.hurry.arm", lambda words: monkeypatch.setattr("flows.hurry._words", words))
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # put back at the test's end
    environment = dict(os.environ)

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["ponderosa", *words])
        capsys.readouterr()
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            for name in os.environ.keys() - environment.keys():  # what .env has set
                del os.environ[name]
            for each, handler in before.items():
                signal.signal(each, handler)
            hurry.listen()  # what it was told is forgotten, and what is to come is not its
            signal.set_wakeup_fd(-1)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def ponderosa(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Command:
    """`command` with a wide terminal, in the folder `cwd`."""
    monkeypatch.setenv("COLUMNS", "160")
    command: Command = request.getfixturevalue("command")

    def run(*words: str, cwd: Path | None = None) -> Done:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        return command(*words)

    return run
