"""What a row of a code problem says of its tests.

{"prompt": "Write add(a, b).", "tests": {"entry": "add", "calls": [{"args": [1, 2], "expected": 3}]}}
{"prompt": "Read two numbers and print their sum.", "tests": {"stdin": [{"input": "1 2\\n", "output": "3\\n"}]}}
{"prompt": "Write add(a, b).", "tests": {"suite": "assert add(1, 2) == 3"}}

`entry` is a function's name, or `Solution.add`: a method of a class that is made without arguments. `seconds` (5 by default) is
the time that one test may take. A suite is run as code in the program's own process, where a program can forge its verdict:
calls and stdin are better wherever they will do.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

KINDS = {"calls": ("args", "expected"), "stdin": ("input", "output")}
ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", re.ASCII)
FIELDS = ("calls", "stdin", "suite", "entry", "seconds")
MOST = 1000  # tests
FORGEABLE = "code-forgeable"  # the grader's name where the tests are a suite


def cases_of(value: Any) -> dict[str, Any]:
    """The tests of a row, as they are kept in the problem's meta. ValueError with the reason for what cannot be."""
    if isinstance(value, str):  # some sets hold JSON in JSON
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"field 'tests' is text but no JSON: {value[:60]}") from None
    if not isinstance(value, Mapping):
        raise ValueError(f"field 'tests' must be an object, not {json.dumps(value)[:60]}")
    unknown, kinds = set(value) - set(FIELDS), [name for name in FIELDS[:3] if name in value]
    if unknown:
        raise ValueError(f"field 'tests' has an unknown field '{min(unknown)[:40]}' (known: {', '.join(FIELDS)})")
    if len(kinds) != 1:
        raise ValueError(f"field 'tests' must have one of calls, stdin and suite, not {' and '.join(kinds) or 'none'}")
    _check_entry(value, kinds[0])
    seconds = value.get("seconds", 5.0)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 60 or math.isnan(seconds):
        raise ValueError(f"field 'seconds' of tests must be a number above 0 and at most 60, not {json.dumps(seconds)[:60]}")
    if kinds[0] == "suite":
        if not isinstance(value["suite"], str) or not value["suite"].strip():
            raise ValueError(f"field 'suite' of tests must be code, not {json.dumps(value['suite'])[:60]}")
        _check_suite(value["suite"])
    else:
        _check_pairs(kinds[0], value[kinds[0]])
    return dict(value)


def _check_suite(suite: str) -> None:
    """A suite that is no Python would fail every program. It is compiled, and not run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(suite, "suite", "exec", dont_inherit=True)
    except SyntaxError as error:
        at, text = f", its line {error.lineno}" * bool(error.lineno), " ".join((error.text or "").split())
        said = ": ".join(filter(None, (error.msg, text[:60])))
        raise ValueError(f"field 'suite' of tests is no Python{at}: {said}") from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"field 'suite' of tests is no Python: {str(error)[:80] or type(error).__name__}") from None


def _check_entry(value: Mapping[str, Any], kind: str) -> None:
    entry = value.get("entry", "")
    if not isinstance(entry, str) or ((entry or kind == "calls") and not ENTRY.fullmatch(entry)):
        raise ValueError(f"field 'entry' of tests must be NAME or CLASS.NAME, not {json.dumps(entry)[:60]}")
    if entry and kind == "stdin":
        raise ValueError("field 'entry' of tests is for calls and suites; a program that reads stdin has none")


def _check_pairs(kind: str, pairs: Any) -> None:
    if not isinstance(pairs, list) or not 1 <= len(pairs) <= MOST:
        raise ValueError(f"field '{kind}' of tests must be a list of 1 to {MOST} tests, not {json.dumps(pairs)[:60]}")
    wanted = KINDS[kind]
    for number, pair in enumerate(pairs, start=1):
        if not isinstance(pair, Mapping) or set(pair) != set(wanted):
            raise ValueError(f"test {number} must have {' and '.join(wanted)} and no more, not {json.dumps(pair)[:60]}")
        if kind == "calls" and not isinstance(pair["args"], list):
            raise ValueError(f"test {number}: args must be a list, not {json.dumps(pair['args'])[:60]}")
        if kind == "stdin" and not all(isinstance(pair[name], str) for name in wanted):
            raise ValueError(f"test {number}: input and output must be text, not {json.dumps(pair)[:60]}")


def named(tests: Mapping[str, Any]) -> str:
    """What stands for the tests where a reference answer is shown: how many, and 12 digits of their hash."""
    digest = hashlib.blake2b(json.dumps(tests, sort_keys=True).encode(), digest_size=6).hexdigest()
    count = next((len(tests[kind]) for kind in KINDS if kind in tests), 0)
    return f"{f'{count} test' + 's' * (count != 1) if count else 'a suite'} {digest}"


def grader_of(tests: Mapping[str, Any]) -> str:
    return FORGEABLE if "suite" in tests else "code"


__all__ = ["FORGEABLE", "cases_of", "grader_of", "named"]
