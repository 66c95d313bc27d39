"""The verifier `command`: an external program (a proof checker, a linter) that judges a solution, in the sandbox.

    command:run=/usr/bin/python3 -I -S -c "import ast;import sys;ast.parse(sys.stdin.read())",block=python
    command:run=/opt/lean/bin/lean --stdin,mounts=/opt/lean,block=lean,seconds=30,memory=4096

The solution's text is the command's input (or, with `block`, the last block between fences that is marked so). It sees /usr,
the files and folders of `mounts` (joined by ":"), and nothing else; all of it read-only, but 16 MB in /tmp. Its verdict is its
exit status: 0 is 1.0, 1 is 0.0, and any other is a failure of the command itself, which is no value. With `verdict=json` it is
the last line that it prints, where it exits with 0: `{"value": 0.5}` with a number in [0, 1], higher = better, or
`{"value": null, "reason": "..."}` for none. That must be asked for, as a command that prints what it was given, as a
compiler's messages do, would let a solution write its own verdict.

`run` is split as a shell would, without a shell; a comma would end it, as in any parameter.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.checks import number, one_of, whole, word
from search.types import Reading, Trace

from .fences import blocks
from .sandbox import Ended, Limits, Outcome, Unavailable, command, parsed, require

PLACES = ("/usr/bin", "/bin")
HIDDEN = ("/", "/dev", "/proc", "/sys", "/tmp", "/usr", "/etc", "/home", "/root", "/var", "/run")
MB = 1 << 20
SCRATCH = 16 * MB  # of /tmp
TAKES: dict[str, Callable[[Any, str], Any]] = {
    "run": word,
    "mounts": word,
    "block": word,
    "seconds": number,
    "memory": whole,
    "verdict": word,
}
VERDICTS = ("status", "json")


@dataclass(frozen=True, slots=True)
class Command:
    """What is run, as its parameters say it. Raises ValueError in one line for what cannot be."""

    run: str
    mounts: str = ""
    block: str = ""  # the language of the block that is judged; "": the whole text
    seconds: float = 10.0  # wall and processor time
    memory: int = 2048  # MB of each process
    verdict: str = "status"  # or "json": where its verdict is

    def __post_init__(self) -> None:
        one_of("verdict of a command", self.verdict, VERDICTS)
        if not (math.isfinite(self.seconds) and 0 < self.seconds <= 600):
            raise ValueError(f"seconds must be above 0 and at most 600, not {self.seconds}")
        if not 16 <= self.memory <= 1 << 20:
            raise ValueError(f"memory must be from 16 to 1048576 MB, not {self.memory}")
        for mount in self.mounted:
            _check_mount(mount)
        self._split()

    @property
    def mounted(self) -> tuple[str, ...]:
        return tuple(filter(None, self.mounts.split(":")))

    def _split(self) -> list[str]:
        try:
            words = shlex.split(self.run)
        except ValueError as error:
            raise ValueError(f"command '{self.run}' cannot be split into words: {error}") from None
        if not words:
            raise ValueError("verifier 'command' needs run=PROGRAM ARGUMENTS, as in command:run=/usr/bin/python3 check.py")
        return words

    def words(self) -> list[str]:
        """The command, its program with its whole path. Raises ValueError where it, or a mount, is not there."""
        for mount in self.mounted:
            if not Path(mount).exists():
                raise ValueError(f"mount '{mount}' does not exist")
        name, *rest = self._split()
        found = [name] if name.startswith("/") else [f"{place}/{name}" for place in PLACES]
        there = next((each for each in found if Path(each).is_file() and os.access(each, os.X_OK)), None)
        if there is None:
            raise ValueError(f"program '{name}' is not there, or cannot be run; give its whole path")
        if not any(Path(there).is_relative_to(each) for each in ("/usr", "/bin", "/lib", "/lib64", *self.mounted)):
            raise ValueError(f"program '{there}' is not in the sandbox; name its folder in mounts=")
        return [there, *rest]

    @property
    def limits(self) -> Limits:
        return Limits(
            seconds=self.seconds,
            cpu=math.ceil(self.seconds),
            memory=self.memory * MB,
            scratch=SCRATCH,
            processes=64,
            descriptors=256,
        )


def _check_mount(mount: str) -> None:
    if not mount.startswith("/") or os.path.normpath(mount) != mount:
        raise ValueError(f"mount '{mount}' must be a whole path, such as /opt/lean")
    if mount in HIDDEN or mount.startswith(("/proc/", "/sys/", "/dev/")):
        raise ValueError(
            f"mount '{mount}' would hide or show what the system has there; name the folder itself, such as /opt/lean"
        )


def asked(params: Mapping[str, Any]) -> Command:
    """The command that a run's words name. A number may have been read from any of them."""
    known = {key: kind(params[key], key) for key, kind in TAKES.items() if key in params}
    if "run" not in known:
        raise ValueError("verifier 'command' needs run=PROGRAM ARGUMENTS, as in command:run=/usr/bin/python3 check.py")
    return Command(**known)


class CommandVerifier:
    """One value in [0, 1] a solution. No passes and no tokens: it runs no model."""

    name = "command"

    def __init__(self, asked: Command) -> None:
        require()
        self.asked, self.words = asked, asked.words()
        tried = command(["/usr/bin/python3", "-I", "-S", "-c", ""], b"", asked.limits, asked.mounted)
        if tried.ended is Ended.REFUSED:
            raise Unavailable(
                f"the sandbox cannot be made with mounts '{asked.mounts}': {_last(tried.errors)}; is it readable?"
            )

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        """Side by side, one sandbox each."""
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="command") as threads:
            return list(threads.map(self._read, traces))

    def _read(self, trace: Trace) -> Reading:
        text = "".join(step.text for step in trace.steps)
        if self.asked.block:
            marked = [block for language, block in blocks(text) if language.lower() == self.asked.block.lower()]
            if not marked or marked[-1] is None:
                return Reading((), f"no {'whole ' * bool(marked)}block marked {self.asked.block}")
            text = marked[-1]
        feed = text.encode("utf-8", "replace")
        return reading(command(self.words, feed, self.asked.limits, self.asked.mounted), self.asked)


def reading(outcome: Outcome, asked: Command) -> Reading:
    """What a run of the command says, by the rules above."""
    match outcome.ended:
        case Ended.REFUSED:
            return Reading((), f"no sandbox: {_last(outcome.errors)}")
        case Ended.TIMEOUT:
            return Reading((), f"the command took more than {asked.seconds:g} s")
        case Ended.FLOOD:
            return Reading((), "the command printed more than it may")
    if asked.verdict == "json" and outcome.status == 0:
        return _told(_last(outcome.output.decode(errors="replace")))
    if asked.verdict == "status" and outcome.status in (0, 1):
        return Reading((1.0 - outcome.status,))
    return Reading(
        (), f"the command failed with exit status {outcome.status}: {_last(outcome.errors)[:200] or 'it said nothing'}"
    )


def _told(line: str) -> Reading:
    try:
        told = parsed(line)
    except ValueError as error:
        return Reading((), f"the command's last line is no JSON: {error}"[:200])
    if not isinstance(told, dict):
        return Reading((), f"the command's last line is no JSON object: {line[:100]}")
    value = told.get("value")
    if value is None and "value" in told:
        return Reading((), " ".join(str(told.get("reason") or "the command gave no value").split())[:200])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return Reading((), f"the command's value is no number in [0, 1]: {line[:100]}")
    return Reading((float(value),))


def _last(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


__all__ = ["Command", "CommandVerifier", "asked", "reading"]
