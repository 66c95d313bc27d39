"""The environment of a command: `.env` in the current folder, under what is set already.

Of that file only the variables that begin with PONDEROSA_ are taken: it may be another program's, and what is in a folder must
not change how Python or a library behaves. (Prefect reads its own PREFECT_ variables from it.) A value is taken as it stands:
nothing in it is expanded.
"""

from __future__ import annotations

import os
from pathlib import Path

from flows.cli.app import PREFIX

FILE = ".env"


class BadEnvironment(ValueError):
    """A `.env` that cannot be read. The line is not shown: it may hold a key."""

    exit_code = 65  # EX_DATAERR


def load(file: str = FILE) -> None:
    """Sets what the file says and is not set. An empty variable is as if it were not there."""
    path = Path(file)
    if not path.is_file():
        return
    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8") as lines:
            found = list(parse_stream(lines))
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise BadEnvironment(f"cannot read '{file}': {what}") from None
    for each in found:
        if each.error or (each.key is not None and each.value is None):
            raise BadEnvironment(f"line {_line(each.original.string, each.original.line)} of '{file}' is not NAME=VALUE")
        if each.key and each.key.startswith(PREFIX) and each.value and not os.environ.get(each.key):
            os.environ[each.key] = each.value


def _line(text: str, first: int) -> int:
    """The parser counts the empty lines before a statement as its own."""
    return first + len(text) - len(text.lstrip("\n"))
