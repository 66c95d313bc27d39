"""The one exception of this folder."""

from __future__ import annotations

from collections.abc import Sequence


class StoreError(Exception):
    """What is wrong with a database or with what was asked of it, in one line: what, the value, and the remedy."""

    exit_code = 65  # EX_DATAERR: the input is at fault, not the program


def one_of(what: str, value: str, known: Sequence[str]) -> None:
    """Raises StoreError with the choices for a value that is none of them."""
    if value not in known:
        raise StoreError(f"unknown {what} '{value}' ({', '.join(known)})")
