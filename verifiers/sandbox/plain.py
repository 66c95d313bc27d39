"""What a sandboxed program answers, read and compared outside of the sandbox: strictly typed JSON, and nothing else.

An object of the program's own cannot get here, so no `__eq__` of its own decides anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

LARGEST = 1 << 20  # characters of one value
DEEPEST = 60
TOLERANCE = 1e-6  # relative, and absolute near 0
SPACES = re.compile(r"(\s+)")


def parsed(text: str) -> Any:
    """The value of a JSON text. ValueError for one that is too long, too deep, or holds a number that is none or has more
    digits than Python turns into an integer."""
    if len(text) > LARGEST:
        raise ValueError(f"{len(text)} characters, more than {LARGEST}")
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _shallow(value, DEEPEST)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _shallow(value: Any, left: int) -> None:
    if left < 0:
        raise ValueError("nested too deeply")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _shallow(each, left - 1)


def same(expected: Any, given: Any) -> bool:
    """Whether two values of JSON are the same: true is not 1, and text is not a number; 2.0 is 2.

    Where the expected number has a decimal point, a number within 1e-6 of it (relative, and absolute below 1) will do; an
    expected whole number must be met exactly. Lists in their order, objects by their keys.
    """
    if isinstance(expected, bool) or isinstance(given, bool) or expected is None or given is None:
        return type(expected) is type(given) and expected == given
    if isinstance(expected, float) and isinstance(given, (int, float)):
        return _near(expected, given)
    if isinstance(expected, int) and isinstance(given, (int, float)):
        return bool(expected == given)
    if type(expected) is not type(given):
        return False
    if isinstance(expected, list):
        return len(expected) == len(given) and all(map(same, expected, given))
    if isinstance(expected, Mapping):
        return expected.keys() == given.keys() and all(same(expected[key], given[key]) for key in expected)
    return bool(expected == given)


def _near(expected: float, given: float) -> bool:
    try:
        return math.isclose(expected, float(given), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    except OverflowError:
        return False


def same_output(expected: str, given: str) -> bool:
    """Whether two printed outputs are the same, line by line: the spaces at the ends of lines and the empty lines at the end do
    not count, all others do; a number with a decimal point may differ as in `same`."""
    wanted, got = ([line.rstrip() for line in text.rstrip().split("\n")] for text in (expected, given))
    return len(wanted) == len(got) and all(map(_same_line, wanted, got))


def _same_line(expected: str, given: str) -> bool:
    if expected == given:
        return True
    if "." not in expected:
        return False
    words, others = SPACES.split(expected), SPACES.split(given)  # words, with what is between them
    return len(words) == len(others) and all(map(_same_word, words, others))


def _same_word(expected: str, given: str) -> bool:
    if expected == given:
        return True
    try:
        return "." in expected and math.isfinite(float(expected)) and _near(float(expected), float(given))
    except ValueError:
        return False


__all__ = ["parsed", "same", "same_output"]
