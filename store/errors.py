"""The exceptions of this folder: each is one line that says what, the value, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence


class StoreError(Exception):
    """What is wrong with a database or with what was asked of it."""

    exit_code = 65  # EX_DATAERR: the input is at fault, not the program


class WriteError(StoreError):
    """The disk is full, or does not take what is written. What was committed before is there."""

    exit_code = 74  # EX_IOERR


class Unreadable(StoreError):
    """A run or a schedule whose row is damaged, or of a newer version: it is left out, and the others are served."""


class Unavailable(StoreError):
    """The database does not answer, or another process holds it. The same command may work later."""

    exit_code = 75  # EX_TEMPFAIL


class Cancelled(StoreError):
    """The run was called off. What it has is kept, and it can be gone on with."""

    exit_code = 130  # as of a command that a person interrupts


class LeaseLost(Unavailable):
    """Another process has taken over the shard: nothing of this one's is written any more."""


def why(error: Exception) -> str:
    """What is wrong with something that was read, in one line."""
    kind = "" if isinstance(error, StoreError | ValueError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())[:200]


def one_of(what: str, value: str, known: Sequence[str]) -> None:
    """Raises StoreError with the choices for a value that is none of them."""
    if value not in known:
        raise StoreError(f"unknown {what} '{value}' ({', '.join(known)})")
