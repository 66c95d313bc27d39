"""The parent's side of the grading child: started when first needed, killed at the wall limit, started again after."""

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
from pathlib import Path
from types import TracebackType
from typing import IO, Any

WORKER = Path(__file__).with_name("grade_worker.py")
START_SECONDS = 60.0  # importing sympy on a busy machine


class Child:
    """One grading process, one request at a time; safe to share between threads.

    `seconds` is the wall limit of one request. The child's own limits are below it, so that the kill is the exception.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        self.seconds = seconds
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._pending = b""

    def ask(self, gold: str, answer: str, *, prose: bool = False, letters: bool = False) -> tuple[str, str]:
        """(verdict, detail) of a pair; "timeout" where the limit passed, "error" where the child died."""
        inner = max(1, int(self.seconds * 0.4))
        request = {"gold": gold, "answer": answer, "prose": prose, "letters": letters, "seconds": inner}
        with self._lock:
            process = self._running() or self._start()
            try:
                self._write(process, request)
                reply = self._read(process, self.seconds)
            except TimeoutError:
                self._kill()
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
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        with self._lock:
            self._kill()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes] | None:
        process = self._process
        return process if process is not None and process.poll() is None else None

    def _start(self) -> subprocess.Popen[bytes]:
        self._kill()
        self.starts += 1
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            # -P: the folder of the script is not searched for modules; it holds names such as `size` and `grade`
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle
        )
        try:
            self._read(self._process, START_SECONDS)
        except OSError as problem:
            self._errors.seek(0)
            said = self._errors.read()[-500:].decode(errors="replace").strip().splitlines()
            self._kill()
            raise RuntimeError(f"the grading child does not start: {said[-1] if said else problem}") from None
        return self._process

    @staticmethod
    def _write(process: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
        """The next line of the child; TimeoutError after `seconds`, OSError where the child is gone."""
        assert process.stdout is not None
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(end - time.monotonic(), 0)):
                    raise TimeoutError
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    raise BrokenPipeError("the child closed its pipe")
                self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _kill(self) -> None:
        process, self._process, self._pending = self._process, None, b""
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None


__all__ = ["Child"]
