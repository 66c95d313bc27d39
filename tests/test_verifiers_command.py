"""External commands as verifiers: what their exit status and their last line mean, what they see, and what is no verdict."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import question

from flows.parts import part
from search.types import Finish, Join, Part, Reading, Step, Trace
from verifiers.command import Command, CommandVerifier, asked, reading
from verifiers.registry import check_verifier, load_verifier, require_sandbox
from verifiers.sandbox import Ended, Outcome, available
from verifiers.sandbox.available import Unavailable

REFUSED = available.tried()
needs_sandbox = pytest.mark.skipif(
    REFUSED is not None and os.environ.get("PONDEROSA_REQUIRE_SANDBOX") != "1", reason=f"no sandbox here: {REFUSED}"
)


def trace(*texts: str) -> Trace:
    zeros = np.zeros(1, dtype=np.float32)
    return Trace(question("p"), tuple(Step(np.zeros(1, dtype=np.int32), t, zeros, zeros, zeros, Finish.END) for t in texts))


def ended(status: int = 0, output: str = "", ended: Ended = Ended.ITSELF, errors: str = "") -> Outcome:
    return Outcome(ended, status, output.encode(), errors, 0.1)


@pytest.mark.parametrize(
    ("outcome", "parts", "reason"),
    [
        (ended(0), (1.0,), ""),
        (ended(1, "line 3: wrong"), (0.0,), ""),
        (ended(2, errors="usage: lint FILE"), (), "the command failed with exit status 2: usage: lint FILE"),
        (ended(139), (), "the command failed with exit status 139: it said nothing"),
        (ended(0, ended=Ended.TIMEOUT), (), "the command took more than 2 s"),
        (ended(0, ended=Ended.FLOOD), (), "the command printed more than it may"),
        (ended(0, ended=Ended.REFUSED, errors="bwrap: no"), (), "no sandbox: bwrap: no"),
        # it may print what it was given, and is not believed for that
        (ended(1, 'line 1: {"value": 1}\n{"value": 1}'), (0.0,), ""),
        (ended(139, '{"value": 1}'), (), "the command failed with exit status 139"),
        (ended(0, '{"value": 0}'), (1.0,), ""),
    ],
)
def test_what_a_command_exits_with_is_a_value_or_a_reason(outcome: Outcome, parts: tuple[float, ...], reason: str) -> None:
    """A checker that crashed has refuted nothing: its candidate has no value, not 0."""
    found = reading(outcome, Command("x", seconds=2.0))
    assert (found.parts, found.reason[: len(reason)], bool(found.reason)) == (parts, reason, bool(reason))


@pytest.mark.parametrize(
    ("outcome", "parts", "reason"),
    [
        (ended(0, 'checking\n{"value": 0.25}\n'), (0.25,), ""),
        (ended(1, '{"value": 1}'), (), "the command failed with exit status 1: it said nothing"),
        (ended(0, "fine"), (), "the command's last line is no JSON"),
        (ended(0, "1"), (), "the command's last line is no JSON object"),
        (ended(0), (), "the command's last line is no JSON"),
        (ended(0, '{"value": null, "reason": "no theorem\\nin it"}'), (), "no theorem in it"),
        (ended(0, '{"value": null}'), (), "the command gave no value"),
        (ended(0, '{"value": true}'), (), "the command's value is no number in [0, 1]"),
        (ended(0, '{"value": 1.5}'), (), "the command's value is no number in [0, 1]"),
        (ended(0, '{"value": NaN}'), (), "the command's last line is no JSON"),
        (ended(0, '{"score": 1}'), (), "the command's value is no number in [0, 1]"),
        (ended(0, "{broken"), (), "the command's last line is no JSON"),
    ],
)
def test_what_a_command_says_is_a_value_or_a_reason_where_it_is_asked_to(
    outcome: Outcome, parts: tuple[float, ...], reason: str
) -> None:
    found = reading(outcome, Command("x", seconds=2.0, verdict="json"))
    assert (found.parts, found.reason[: len(reason)], bool(found.reason)) == (parts, reason, bool(reason))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *(("command", "needs run="), ("command:run=  ", "needs run="), ("command:run='a", "cannot be split")),
        *(("command:run=x,mounts=opt", "whole path"), ("command:run=x,mounts=/opt/../etc", "whole path")),
        *(("command:run=x,mounts=/", "would hide or show"), ("command:run=x,mounts=/proc/1", "would hide or show")),
        *(("command:run=x,mounts=/home", "would hide or show"), ("command:run=x,memory=1", "memory must be")),
        *(("command:run=x,seconds=0", "seconds must be"), ("command:run=x,cwd=/", "no parameter 'cwd'")),
        *(("command:run=x,seconds=soon", "seconds must be a number, not 'soon'"), ("command:run=x,memory=1.5", "whole number")),
        *(("command:run=x,seconds=true", "seconds must be a number, not 'true'"), ("command:run=x,verdict=last", "'last'")),
    ],
)
def test_a_command_that_cannot_be_is_told_at_the_start(words: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_verifier(part(words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("command:run=no-such-program", "is not there, or cannot be run"),
        ("command:run=/usr/share", "is not there, or cannot be run"),
        ("command:run=true,mounts=/no/such/folder", "mount '/no/such/folder' does not exist"),
    ],
)
def test_what_is_not_on_this_machine_is_told_before_the_run_and_not_when_one_is_read(words: str, said: str) -> None:
    """A run that is stored can be audited where its checker is not installed."""
    check_verifier(part(words))
    with pytest.raises(ValueError, match=said):
        require_sandbox(part(words))


def test_a_program_outside_of_the_sandbox_needs_its_mount(folder: Path) -> None:
    with pytest.raises(ValueError, match="is not in the sandbox; name its folder in mounts="):
        Command(run=f"{folder}/check").words()
    assert Command(run=f"{folder}/check -v 'a b'", mounts=str(folder)).words() == [f"{folder}/check", "-v", "a b"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a checker, where the sandbox's user can read it."""
    made = Path(tempfile.mkdtemp(prefix="ponderosa-checker-"))
    made.chmod(0o755)
    (made / "word").write_text("lemma")
    (made / "check").write_text(f'#!/bin/sh\ngrep -q "$(cat {made}/word)" && ! (echo x > {made}/word) 2>/dev/null\n')
    (made / "check").chmod(0o755)
    yield made
    shutil.rmtree(made)


@needs_sandbox
def test_a_checker_in_its_mount_reads_the_solution_and_can_write_nothing(folder: Path) -> None:
    found = CommandVerifier(Command(run=f"{folder}/check", mounts=str(folder), seconds=5)).score(
        [trace("a lemma", ""), trace("none")]
    )
    assert [each.parts for each in found] == [(1.0,), (0.0,)]
    assert (folder / "word").read_text() == "lemma"


LINT = "import ast; import sys; ast.parse(sys.stdin.read())"


@needs_sandbox
def test_a_linter_of_a_block() -> None:
    verifier, join = load_verifier(
        Part("command", {"run": f'/usr/bin/python3 -I -S -c "{LINT}"', "block": "python", "seconds": 5})
    )
    assert join is Join.LAST
    texts = ["```python\nx = 1\n```", "```python\nx = (\n```", "x = 1", "```python\nx = 1\n```\n```python\nx = "]
    assert verifier.score([trace(text) for text in texts]) == [
        Reading((1.0,)),
        Reading((0.0,)),
        Reading((), "no block marked python"),
        Reading((), "no whole block marked python"),
    ]


@needs_sandbox
def test_a_command_is_held_as_a_program_is(folder: Path) -> None:
    def said(code: str, **more: Any) -> Reading:
        (folder / "code.py").write_text(code)
        (folder / "code.py").chmod(0o644)
        run = f"/usr/bin/python3 -I -S {folder}/code.py"
        [found] = CommandVerifier(Command(run=run, mounts=str(folder), **more)).score([trace("text")])
        return found

    limits = "import os, resource\nmb = resource.getrlimit(resource.RLIMIT_AS)[0] >> 20\n"
    held = limits + "print('{\"value\": %d}' % (os.getuid() != 0 and mb == 100))"
    assert said(held, memory=100, verdict="json").parts == (1.0,)
    assert said("import socket\nsocket.socket()").parts == (0.0,)  # an exception is exit status 1
    assert said("open('/tmp/x', 'w').write('x')\nprint('{\"value\": 0.5}')", verdict="json").parts == (0.5,)
    assert said("import time\ntime.sleep(9)", seconds=0.3).reason == "the command took more than 0.3 s"
    assert said("while True: print('x' * 9999)").reason == "the command printed more than it may"
    assert said("import os\nif os.fork(): os._exit(0)\nos.setsid()\nwhile True: pass").parts == (1.0,)


@pytest.mark.skipif(REFUSED is not None or os.geteuid() != 0, reason="as root the sandbox is another user, who cannot read it")
def test_a_mount_that_the_sandbox_cannot_read_is_told_before_the_run(folder: Path) -> None:
    hidden = folder / "hidden"
    hidden.mkdir()
    folder.chmod(0o700)
    with pytest.raises(Unavailable, match=r"cannot be made with mounts .*; is it readable\?"):
        CommandVerifier(Command(run="/usr/bin/python3", mounts=str(hidden)))


@needs_sandbox
def test_a_checker_that_cannot_start_has_refuted_nothing(folder: Path) -> None:
    """A script of an interpreter that is not in the sandbox: its failure must not look like exit status 1."""
    (folder / "check").write_text("#!/etc/no-such-shell\n")
    [found] = CommandVerifier(Command(run=f"{folder}/check", mounts=str(folder))).score([trace("x")])
    assert (found.parts, found.reason.startswith("the command failed with exit status 126: ")) == ((), True)


def test_parameters_come_as_the_command_line_reads_them() -> None:
    words = part("command:run=/usr/bin/python3 -c x=1,seconds=30,memory=4096,block=lean")
    assert asked(words.params) == Command("/usr/bin/python3 -c x=1", "", "lean", 30.0, 4096)
