"""The parent's side of a grading child: a process that is killed at the wall limit and started again at once.

A child never outlives its parent: it holds the reading end of a pipe that nothing is ever written to, and the kernel ends it
(SIGIO) when the writing end is closed, however the parent ended and whatever the child is computing.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

WORKER = Path(__file__).with_name("grade_worker.py")
START_SECONDS = 60.0  # for a start by itself, outside of the limit of a request: importing sympy on a busy machine


@dataclass(slots=True, eq=False)
class _Process:
    """A started worker with its pipes."""

    popen: subprocess.Popen[bytes]
    errors: IO[bytes]
    lifeline: int  # the writing end
    ready: bool = False  # it has said that it is up
    pending: bytes = field(default=b"")

    def write(self, request: dict[str, Any]) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(request).encode() + b"\n")
        self.popen.stdin.flush()

    def read(self, seconds: float) -> dict[str, Any]:
        """The next line; TimeoutError after `seconds`, OSError where the process is gone."""
        assert self.popen.stdout is not None
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.popen.stdout, selectors.EVENT_READ)
            while b"\n" not in self.pending:
                if not selector.select(max(end - time.monotonic(), 0)):
                    raise TimeoutError
                chunk = os.read(self.popen.stdout.fileno(), 65536)
                if not chunk:
                    raise BrokenPipeError("the child closed its pipe")
                self.pending += chunk
        line, _, self.pending = self.pending.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def end(self) -> None:
        """Kills and reaps it, and closes what belongs to it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout, self.errors):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        os.close(self.lifeline)

    def said(self) -> str:
        """The last line of what it wrote to its errors."""
        self.errors.seek(0)
        lines = self.errors.read()[-500:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


class Child:
    """One grading process, one request at a time; safe to share between threads.

    `seconds` is the wall limit of one request, from when the process is up: a start has a limit of its own (START_SECONDS), so
    that no verdict depends on how long imports take. The child's own limits are below it, so that the kill is the exception.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        self.seconds = seconds
        self.starts = 0
        self._process: _Process | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Starts the process where none runs, without waiting until it is up."""
        with self._lock:
            self._running() or self._start()

    @property
    def ready(self) -> bool:
        """Whether a request would be computed at once. Does not wait."""
        process = self._process
        if process is None or process.popen.poll() is not None:
            return False
        if not process.ready:
            with contextlib.suppress(OSError):  # TimeoutError is one too
                process.read(0)
                process.ready = True
        return process.ready

    def ask(self, gold: str, answer: str, *, prose: bool = False, letters: bool = False) -> tuple[str, str]:
        """(verdict, detail) of a pair; "timeout" where the limit passed, "error" where the child died. RuntimeError with what
        it said where it does not start."""
        inner = max(1, int(self.seconds * 0.4))
        request = {"gold": gold, "answer": answer, "prose": prose, "letters": letters, "seconds": inner}
        with self._lock:
            process = self._running() or self._start()
            try:
                self._await(process)
                process.write(request)
                reply = process.read(self.seconds)
            except TimeoutError:
                self._kill()
                self._start()  # while the next answer is on its way
                return "timeout", f"no answer within {self.seconds:g} s"
            except OSError:
                self._kill()
                return "error", "the grading child died"
            except BaseException:  # Ctrl-C between request and reply: the reply must not answer the next request
                self._kill()
                raise
        return str(reply["verdict"]), str(reply["detail"])

    @property
    def pid(self) -> int | None:
        return self._process.popen.pid if self._process is not None else None

    def interrupt(self) -> None:
        """Kills the process under a request, which ends at once with an "error"."""
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def close(self) -> None:
        with self._lock:
            self._kill()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _running(self) -> _Process | None:
        process = self._process
        return process if process is not None and process.popen.poll() is None else None

    def _start(self) -> _Process:
        self._kill()
        self.starts += 1
        reading, writing = os.pipe()
        try:
            errors = tempfile.TemporaryFile()  # noqa: SIM115
            popen = subprocess.Popen(
                # -P: the folder of the script is not searched for modules; it holds names such as `size` and `grade`
                [sys.executable, "-P", str(WORKER), str(reading)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=(reading,),
                start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle
            )
        finally:
            os.close(reading)
        self._process = _Process(popen, errors, writing)
        return self._process

    def _await(self, process: _Process) -> None:
        """Waits until the process is up."""
        if process.ready:
            return
        try:
            process.read(START_SECONDS)
        except OSError as problem:
            process.popen.kill()
            process.popen.wait()
            why = process.said() or str(problem) or f"it is not up after {START_SECONDS:g} s"
            self._kill()
            raise RuntimeError(f"the grading child does not start: {why}") from None
        process.ready = True

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


__all__ = ["Child"]
