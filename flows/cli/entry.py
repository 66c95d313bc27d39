"""The entry point: signals, and errors as one line with an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from flows import hurry
from flows.cli import environment
from flows.cli.app import app

if TYPE_CHECKING:
    from store.errors import StoreError

AGAIN = 0.05  # seconds until a signal that was swallowed is sent again


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM: what was answered is written, and the lease is given back. No KeyboardInterrupt, which the libraries
    between here and the work take for theirs."""


def _stop(signum: int, frame: object) -> None:
    for each in hurry.STOPS:
        signal.signal(each, signal.SIG_DFL)  # a second one ends the process at once
    hurry.begin(signum)
    raise _Stopped(signum)


def listen() -> None:
    """From now on a signal to stop raises; one that was raised where nothing can be, as in a destructor or a weak reference's
    callback, is sent again."""
    unraisable = sys.unraisablehook

    def hear() -> None:
        for each in hurry.STOPS:
            signal.signal(each, _stop)

    def swallowed(what: sys.UnraisableHookArgs) -> None:
        if (signum := _stopped_by(what.exc_value)) is None:
            unraisable(what)
            return
        if signal.getsignal(signum) is signal.SIG_DFL:  # else it is Prefect's, and stays
            hear()
        threading.Timer(AGAIN, os.kill, (os.getpid(), signum)).start()

    hurry.listen()
    hear()
    sys.unraisablehook = swallowed


# what goes on when it is begun again; other verbs begin anew, or have nothing to go on with
GOES_ON = {
    **dict.fromkeys(("run", "sweep", "resume", "demo", "allocate"), "; the same command again, or `ponderosa resume`, goes on"),
    **dict.fromkeys(("import", "rescore", "serve", "worker"), "; the same command again goes on"),
}


def _last_words(signum: int) -> str:
    how = "interrupted" if signum == signal.SIGINT else "terminated"
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return f"ponderosa: {how}{GOES_ON[verb] + ' from here' if verb in GOES_ON else ''}\n"


def _stopped_by(error: BaseException | None) -> int | None:
    """The signal that ended the work, whatever was raised on the way out: Prefect makes an error of its own of SIGTERM within a
    flow, and another where its server cannot be told any more."""
    while error is not None:
        if isinstance(error, _Stopped):
            return int(error.args[0])
        if type(error).__name__ == "TerminationSignal":
            return signal.SIGTERM
        error = error.__cause__ or error.__context__
    return None


def _explained(error: BaseException) -> BaseException:
    """A database driver's error in the store's words, and a disk's, which is full where standard output goes to."""
    if isinstance(error, OSError) and error.errno in _DISK:
        _to_nobody(sys.stdout)
        return _unwritten(error)
    if not type(error).__module__.startswith("sqlalchemy."):
        return error
    from sqlalchemy.exc import DBAPIError

    from store.database import explained

    return explained(error, "in use", "use") if isinstance(error, DBAPIError) else error


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _unwritten(error: OSError) -> StoreError:
    from store.errors import WriteError

    at = f" '{error.filename}'" if error.filename else ""
    return WriteError(f"cannot write{at}: {error.strerror}; make room there, or write elsewhere")


def _open_streams() -> None:
    """A stream that is closed (`>&-`) is one to nobody: else what is opened first would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def main(what: Callable[[], object] | None = None) -> None:
    """The entry point: every error that is the user's to mend is one line and an exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its warnings are not the user's to mend
    _open_streams()
    listen()
    hurry.arm(_last_words)
    try:
        environment.load()
        app(prog_name="ponderosa") if what is None else what()
    except SystemExit as end:
        _end(end)
    except BaseException as error:
        if (signum := hurry.heard() or _stopped_by(error)) is not None:  # an event loop may have taken the ear away
            hurry.end(signum)
        error = _explained(error)
        exits = getattr(error, "exit_code", 2 if isinstance(error, ValueError) else None)
        if os.environ.get("PONDEROSA_DEBUG") or exits is None:
            raise error
        sys.stderr.write(f"ponderosa: {' '.join(str(error).split())}\n")
        raise SystemExit(exits) from None


def _end(end: SystemExit) -> None:
    """Ends; what is still to be written may find that nobody reads any more."""
    if type(sys.stdout).__name__ == "PacifyFlushWrapper":  # what typer puts there when a reader has gone, to end with 1
        raise SystemExit(128 + signal.SIGPIPE) from None
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_quietly()
    except OSError as error:
        _to_nobody(sys.stdout)
        unwritten = _unwritten(error)
        sys.stderr.write(f"ponderosa: {unwritten}\n")
        raise SystemExit(unwritten.exit_code) from None
    raise end


def _leave_quietly() -> None:
    """Whoever read standard output has closed it, as `head` does: that is no error, and the rest is for nobody."""
    _to_nobody(sys.stdout)
    raise SystemExit(128 + signal.SIGPIPE)


def _to_nobody(stream: TextIO) -> None:
    """What it still holds is written to nobody when the process ends, and no error comes of it."""
    with suppress(OSError, ValueError):  # a test's stream has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
