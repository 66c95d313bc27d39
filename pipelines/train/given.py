"""What a training script is given, checked before any work: one line that says what, the value and the remedy, exit code 2."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


class Refused(ValueError):
    """What was given will not do; one line."""


def refuse(line: object) -> NoReturn:
    """Ends the script."""
    sys.stderr.write(f"error: {' '.join(str(line).split())[:400]}\n")
    raise SystemExit(2)


@contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
    """Ends the script in one line where one of these errors is raised within."""
    try:
        yield
    except kinds as error:
        refuse(error)


def least(bound: int, **values: int | None) -> None:
    """Refuses the first value below the bound; None is not given."""
    for name, value in values.items():
        if value is not None and value < bound:
            raise Refused(f"--{name.replace('_', '-')} must be at least {bound}, not {value}")


def above_zero(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise Refused(f"--{name.replace('_', '-')} must be above 0, not {value:g}")


def shares(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 <= value <= 1:
            raise Refused(f"--{name.replace('_', '-')} must be from 0 to 1, not {value:g}")


def writable_file(path: Path) -> None:
    """Refuses a file that could not be written; leaves it as it is."""
    if path.is_dir():
        raise Refused(f"{path} is a folder; name a file in it")
    if path.exists():
        _tried(path, lambda: path.open("r+b").close())
        return
    if not path.parent.is_dir():
        raise Refused(f"{path} cannot be written: {path.parent} is no folder; make it first")
    _tried(path, lambda: tempfile.TemporaryFile(dir=path.parent).close())


def writable_folder(path: Path) -> None:
    """Refuses a folder that could not be written into, or made; leaves nothing behind."""
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not there.is_dir():
        raise Refused(f"{path} cannot be a folder: {there} is a file; name another")
    _tried(path, lambda: tempfile.TemporaryFile(dir=there).close())


def readable_file(path: Path) -> None:
    if not path.is_file():
        raise Refused(f"{path} is no file; name one that exists")
    _tried(path, lambda: path.open("rb").close(), "read")


def folder_with(path: Path, name: str) -> None:
    """Refuses what is no folder with such a file: a hub is not asked."""
    if not (path / name).is_file():
        raise Refused(f"{path} has no {name}; name the folder of a model")


def _tried(path: Path, how: Callable[[], object], what: str = "written") -> None:
    try:
        how()
    except OSError as error:
        raise Refused(f"{path} cannot be {what}: {error.strerror or error}; name another") from None


__all__ = [
    "Refused",
    "above_zero",
    "folder_with",
    "least",
    "readable_file",
    "refuse",
    "refusing",
    "shares",
    "writable_file",
    "writable_folder",
]
