"""Checks of parameters: one line that says what, the value, and what would do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def positive(**values: int) -> None:
    """Raises ValueError for the first value below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")


def at_least_zero(**values: int) -> None:
    """Raises ValueError for the first value below 0."""
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name} must be 0 (off) or more, not {value}")


def one_of(what: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError with the nearest known name and the list of them."""
    names = sorted(known)
    if value not in names:
        near = get_close_matches(value, names, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown {what} '{value}'{hint} ({', '.join(names)})")
