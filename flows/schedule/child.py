"""An evaluation in a process of its own: `serve` starts one for each slot.

So a year of slots leaks no memory, a slot that is killed takes no other with it, and each begins with the code and the models
that are on the disk then. The child gets its job on standard input, and ends itself as by SIGTERM when that is closed: however
its parent ended. What it says on standard error is passed on; its last line tells why it failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flows.progress import said
from flows.schedule.scheduler import Later, Stopped, Touch
from search.types import RunSpec
from store.errors import LeaseLost

PATIENCE = 6.0  # seconds that a child may take to write what it has, when it is told to stop
COMMAND = (sys.executable, "-m", "flows.schedule.child")
STOPPING = (130, 143)


class Failed(Exception):
    """An evaluation that would fail again."""


@dataclass
class Children:
    """Evaluates in children; `halt` ends those that are at work."""

    database: str
    plain: bool = True
    command: Sequence[str] = COMMAND
    say: Callable[[str], None] = said
    _halted: threading.Event = field(default_factory=threading.Event)
    _living: set[subprocess.Popen[str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def evaluate(self, spec: RunSpec, name: str, touch: Touch) -> None:
        """Returns when the run is done. Raises Later, Failed or Stopped."""
        process = self._start(json.dumps({"spec": spec.json(), "name": name, "plain": self.plain}))
        lines: list[str] = []
        reader = threading.Thread(target=self._read, args=(process, lines, touch), daemon=True)
        reader.start()
        try:
            code = process.wait()
        finally:  # this thread is told to stop: the child too
            self._end(process)
        reader.join(PATIENCE)
        self._judge(code, lines)

    def halt(self) -> None:
        """Ends all that live, and lets none begin."""
        self._halted.set()
        with self._lock:
            living = set(self._living)
        ends = [threading.Thread(target=self._end, args=(process,)) for process in living]  # at once: each may take a while
        for each in ends:
            each.start()
        for each in ends:
            each.join()

    def _start(self, job: str) -> subprocess.Popen[str]:
        with self._lock:
            if self._halted.is_set():
                raise Stopped
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # it is heard by its lines, also where nobody is to see them
                env={**os.environ, "PONDEROSA_DATABASE": self.database, "PONDEROSA_QUIET": ""},
                start_new_session=True,  # Ctrl-C is its parent's to pass on
            )
            self._living.add(process)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already, and its code tells how
            process.stdin.write(job + "\n")
            process.stdin.flush()
        return process

    def _read(self, process: subprocess.Popen[str], lines: list[str], touch: Touch) -> None:
        assert process.stderr is not None
        with process.stderr as errors:
            for line in errors:
                lines[:] = [*lines[-20:], line.rstrip("\n")]
                self.say(line.rstrip("\n"))
                with contextlib.suppress(LeaseLost):  # its end will say so
                    touch()

    def _end(self, process: subprocess.Popen[str]) -> None:
        """Tells it to stop, and kills it where it does not."""
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        with contextlib.suppress(BrokenPipeError):
            assert process.stdin is not None
            process.stdin.close()
        with self._lock:
            self._living.discard(process)

    def _judge(self, code: int, lines: Sequence[str]) -> None:
        if code == 0:
            return
        if self._halted.is_set():
            raise Stopped
        told = next((line.removeprefix("ponderosa: ") for line in reversed(lines) if line.startswith("ponderosa: ")), "")
        told = told or next((line for line in reversed(lines) if line.strip()), "it said nothing")
        if code == 75:
            raise Later(told)
        if code < 0 or code in STOPPING:
            raise Later(f"its process was ended by signal {code - 128 if code > 128 else -code}")
        raise Failed(f"{told} (exit code {code})")


def main() -> None:
    """The child: one job, with the handling of signals and errors that every command has."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_with_parent, daemon=True).start()
    from flows import cli

    cli.main(lambda: _evaluated(job))


def _with_parent() -> None:
    """Ends this process when its parent has closed the pipe, or is gone."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _evaluated(job: dict[str, object]) -> None:
    from flows import launch

    spec, name = RunSpec.from_json(str(job["spec"])), str(job["name"])
    launch.launch([spec], [name], os.environ["PONDEROSA_DATABASE"], plain=bool(job["plain"]))


if __name__ == "__main__":
    main()
