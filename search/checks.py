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


def word(value: object, name: str) -> str:
    """A parameter that is text, which may have been read as a number or a truth value."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def number(value: object, name: str) -> float:
    """A parameter that is a number. Raises ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{name} must be a number, not '{word(value, name)}'")
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name} must be a number, not '{value}'") from None


def whole(value: object, name: str) -> int:
    """A parameter that is a whole number. Raises ValueError for what is none."""
    found = number(value, name)
    if not found.is_integer():
        raise ValueError(f"{name} must be a whole number, not '{value}'")
    return int(found)


def scalar(text: str) -> int | float | bool | str:
    """The value that a word of a Part stands for."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            found = kind(text)
        except ValueError:
            continue
        # what would be written otherwise may be a name or a pattern: 007, 1.50. Who wants a number of it reads it as one
        return found if str(found) == text else text
    return text


def one_of(what: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError with the nearest known name and the list of them."""
    names = sorted(known)
    if value not in names:
        near = get_close_matches(value, names, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown {what} '{value}'{hint} ({', '.join(names)})")
