"""The environment of a command: `.env` in the current folder, under what is set already.

Of that file only the variables that begin with PONDEROSA_ are taken: it may be another program's, and what is in a folder must
not change how Python or a library behaves. (Prefect reads its own PREFECT_ variables from it.) A value is taken as it stands:
nothing in it is expanded. What begins with PONDEROSA_ and is no variable of ours is told of: it is most likely a slip.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from flows.cli.app import PREFIX

FILE = ".env"
# variables that are no flag's: those of every command, and what an alarm's hook is told, which may call us
PLAIN = {PREFIX + name for name in ("API_KEY", "DATABASE", "DEBUG", "QUIET", "REQUIRE_SANDBOX", "SHARED_DATA", "TEST_SERVERS")}
TOLD = {PREFIX + name for name in ("ACCURACY", "BAR", "EVENT", "HIGH", "LOW", "PROBLEMS", "REASON", "RUN", "SCHEDULE", "SLOT")}


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


def warn() -> None:
    """A line on standard error for each variable that is ours by its name and that nothing reads."""
    ours = {name for name, value in os.environ.items() if name.startswith(PREFIX) and value} - PLAIN - TOLD
    if not ours:  # the flags are looked through for nobody else
        return
    import typer

    from flows.cli.app import app

    known = {*PLAIN, *_variables(typer.main.get_command(app))}
    for name in sorted(ours - known):
        near = get_close_matches(name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], 1)
        meant = f"; did you mean {PREFIX}{near[0]}?" if near else "; a flag's variable is its name in capitals"
        sys.stderr.write(f"warning: no flag has the variable {name}, and it changes nothing{meant}\n")


def _variables(command: Any) -> Iterator[str]:
    for param in command.params:
        if isinstance(param.envvar, str):
            yield param.envvar
    for each in getattr(command, "commands", {}).values():
        yield from _variables(each)


def _line(text: str, first: int) -> int:
    """The parser counts the empty lines before a statement as its own."""
    return first + len(text) - len(text.lstrip("\n"))
