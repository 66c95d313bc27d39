"""Whether a command was told to stop, and its end.

A signal's handler raises in the main thread, wherever that is, and what comes out at the end need not be what it raised:
compiled code that calls Python may make an error of its own of it, as pydantic's serializers do. So each signal is noted
where no Python code is between, by the interpreter itself.

After the first there is an end to the command's cleaning up: what is left then needs none.

What was answered is in the database, and a lease whose process is known to be dead is free. So a command that waits for a
server that does not answer, or for Prefect's, ends PATIENCE seconds after it was told to.
"""

from __future__ import annotations

import glob
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

PATIENCE = 9.0  # seconds
STOPS = (signal.SIGINT, signal.SIGTERM)

_armed, _told = threading.Event(), threading.Event()
_ear = _mouth = -1  # a pipe, into which the interpreter writes the number of each signal that it hears
_heard: int | None = None
_words: Callable[[int], str] = "".format  # what is said of a signal: nothing, of a process that is no command's


def arm(words: Callable[[int], str]) -> None:
    """Says that this process is a command's own, and may be ended. `words`: the line for a signal."""
    global _words
    _words = words
    _armed.set()


def listen() -> None:
    """From now on signals are noted, whoever handles them; what was noted before is forgotten. In the main thread."""
    global _ear, _mouth, _heard
    if _ear < 0:
        _ear, _mouth = os.pipe()
        os.set_blocking(_ear, False)
        os.set_blocking(_mouth, False)
    signal.set_wakeup_fd(_mouth, warn_on_full_buffer=False)
    _heard = None
    heard()  # it reads all there is
    _heard = None


def heard() -> int | None:
    """The first signal to stop that this process was sent since it listens."""
    global _heard
    with suppress(BlockingIOError):
        while _ear >= 0 and _heard is None and (numbers := os.read(_ear, 4096)):
            _heard = next((number for number in numbers if number in STOPS), None)
    return _heard


def begin(signum: int) -> None:
    """Ends the process in PATIENCE seconds, as the signal would, unless it ends before."""
    if _armed.is_set():
        last = threading.Timer(PATIENCE, _at_once, (signum,))
        last.daemon = True
        last.start()


def _at_once(signum: int) -> NoReturn:
    """The children too: Prefect's temporary server would live on."""
    if not _told.is_set():
        with suppress(OSError):
            os.write(2, _words(signum).encode())  # past Python's own buffer, which whoever hangs may hold
    for listed in glob.glob("/proc/self/task/*/children"):  # Linux
        with suppress(OSError):
            for child in Path(listed).read_text().split():
                os.kill(int(child), signal.SIGKILL)
    os._exit(128 + signum)


def end(signum: int) -> NoReturn:
    """Says so, and ends the process, when all is cleaned up. Taking torch down in good order takes seconds where the machine is
    busy, and is for nobody; Prefect's temporary server, which is a child, is stopped by it."""
    _told.set()
    sys.stderr.write(_words(signum))
    if _armed.is_set() and "prefect" not in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + signum)
    raise SystemExit(128 + signum)


@contextmanager
def hurrying() -> Iterator[None]:
    """Within a flow it is Prefect that handles the signal, and what that raises ends the block."""
    try:
        yield
    except BaseException:
        if (signum := heard()) is not None:
            begin(signum)
        raise


__all__ = ["PATIENCE", "STOPS", "arm", "begin", "end", "heard", "hurrying", "listen"]
