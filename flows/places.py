"""Where files and folders are written: under a temporary name beside their place, which they take when all of them is there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import WriteError

_BESIDE = ("-turn", "-wal", "-shm", "-journal")  # ends of the files that stand beside a database


@contextmanager
def making(place: Path, folder: bool = False) -> Iterator[Path]:
    """A file that is not there yet, or an empty folder. At the end of the block it takes the place, also of what is there; it
    is gone if the block raises. WriteError where it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix=".ponderosa-", dir=place.parent, ignore_cleanup_errors=True) as work:
            part = Path(work, f"new{place.suffix}")
            if folder:
                part.mkdir()
            yield part
            _renamed(part, place, Path(work, "old"))
    except OSError as error:
        raise WriteError(f"cannot write '{place}': {error.strerror or error}") from error


def checked(place: Path, force: bool, folder: bool = False) -> None:
    """Raises ValueError where there is no place to write to, or something is in it: without `force` anything, with it what is
    not of its kind (a device such as /dev/null would become a file), a database, or a file of one."""
    kind = "folder" if folder else "file"
    if not place.name:
        raise ValueError(f"'{place}' names no {kind}; write one that is not there yet")
    if str(place) == "-":
        raise ValueError(f"'-' is not standard output here, and would become a {kind}; name one")
    if not os.path.isdir(place.parent):  # Path.is_dir raises for a name that is too long
        raise ValueError(f"cannot write '{place}': there is no folder '{place.parent}'; create it first")
    for of in (str(place).removesuffix(end) for end in _BESIDE if place.name.endswith(end)):
        if os.path.isfile(of) and os.path.exists(f"{of}-turn"):
            raise ValueError(f"'{place}' belongs to the database '{of}'; name another place")
    if not os.path.lexists(place):
        return
    if not (place.is_dir() if folder else place.is_file() or not place.exists()):  # or a link to nothing
        raise ValueError(f"'{place}' is {'a folder' if place.is_dir() else f'no {kind}'}; name another place")
    if os.path.exists(f"{place}-turn"):  # which every database of ours has beside it
        raise ValueError(f"'{place}' is a database; name another place")
    if not force:
        raise ValueError(f"'{place}' is there already; name another {kind}, or --force writes over it")


def _renamed(part: Path, place: Path, old: Path) -> None:
    if not (part.is_dir() and place.is_dir()):
        part.replace(place)
        return
    place.rename(old)  # a folder takes no other's name
    try:
        part.rename(place)
    except BaseException:
        old.rename(place)
        raise


__all__ = ["checked", "making"]
