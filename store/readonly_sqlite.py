"""A SELECT on a SQLite file that cannot change it, in a child process.

Why it only reads: the file is opened with `mode=ro`, which alone lets ATTACH and VACUUM INTO write other files; so SQLite's
authorizer, asked about everything that a statement would do, allows nothing but selecting, reading columns of this file's
tables, and the functions of a list (`readonly_functions.py`), within views too. It is asked again for whatever a statement
makes SQLite prepare. No other file can be attached, no extension loaded, and `query_only` stands behind it all.

Why it ends: some functions (instr, replace, trim, LIKE) take time that grows with the product of two texts, and are asked by
nobody whether to stop. So the statement runs in a process of its own, which is killed at the deadline, and whose memory and
temporary files the kernel bounds.

A reader of a write-ahead log needs the two files beside the database, and one that may only read leaves them there. Where
they hold nothing, a connection that may write takes them away, as SQLite does when the last one closes; where they
hold what a process that was killed has written, they stay for the next writer.
"""

from __future__ import annotations

import marshal
import os
import select
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import OperationalError

from .database import _check_file, explained
from .errors import StoreError
from .readonly import QueryError, Selected, TooSlow, Value, check_version

_CHILD = Path(__file__).with_name("readonly_child.py")
_OPENING = 10.0  # seconds for the child to begin, which are not the statement's


@contextmanager
def selecting_sqlite(path: str, sql: str, parameters: Mapping[str, Value], seconds: float) -> Iterator[Selected]:
    """See `readonly.selecting`."""
    _check_file(Path(path), create=False)
    asked = (os.path.abspath(path), sql, dict(parameters), seconds)
    child = _Child(asked, seconds)
    try:
        names, version = child.answer("opened", path, child.allowance + _OPENING)
        check_version(path, set(names), version)
        child.tell(True)
        yield Selected(tuple(child.answer("columns", path)), _batches(child, path))
    finally:
        child.end()
        _tidy(path)


def _batches(child: _Child, path: str) -> Iterator[list[Any]]:
    while batch := child.answer("rows", path):
        yield batch


class _Child:
    """The process with the statement. Both sides write frames: four bytes of length, and marshal's plain values."""

    def __init__(self, asked: Any, seconds: float) -> None:
        self.seconds = self.allowance = seconds
        self.answered = False
        command = [sys.executable, "-P", str(_CHILD)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0)
        self.tell(asked)

    def tell(self, said: Any) -> None:
        assert self._process.stdin is not None
        raw = marshal.dumps(said)
        with suppress(BrokenPipeError):  # it has ended: its answer says why
            for part in (struct.pack("<I", len(raw)), raw):
                view = memoryview(part)
                while view:
                    view = view[self._process.stdin.write(view) :]

    def answer(self, kind: str, path: str, allowance: float | None = None) -> Any:
        """The next frame, which is of this kind or an error. Waiting for it is charged to the deadline."""
        began = time.monotonic()
        until = began + (self.allowance if allowance is None else allowance)
        (length,) = struct.unpack("<I", self._read(4, until))
        found, said = marshal.loads(self._read(length, until))
        self.answered = True
        if allowance is None:
            self.allowance -= time.monotonic() - began
        if found == "refused":
            raise QueryError(said)
        if found == "unusable":
            raise explained(OperationalError("query", None, sqlite3.OperationalError(said)), path, "read")
        assert found == kind
        return said

    def _read(self, length: int, until: float) -> bytes:
        assert self._process.stdout is not None
        descriptor, parts = self._process.stdout.fileno(), bytearray()
        waiter = select.poll()
        waiter.register(descriptor, select.POLLIN | select.POLLHUP)
        while len(parts) < length:
            if not waiter.poll(max(until - time.monotonic(), 0) * 1000):
                raise TooSlow(self.seconds)
            part = os.read(descriptor, min(length - len(parts), 1 << 20))
            if not part:
                if not self.answered:
                    raise StoreError("the process that reads the database could not begin; see ponderosa doctor")
                raise QueryError("the query took more memory or time than it may have; ask for less")
            parts += part
        return bytes(parts)

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


def _tidy(path: str) -> None:
    """Takes away an empty log that the reader has left, if nobody is at the database."""
    try:
        if os.path.getsize(f"{path}-wal"):
            return
        at = f"file://{quote(os.fsencode(os.path.abspath(path)))}?mode=rw"
        with closing(sqlite3.connect(at, uri=True, timeout=0)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except (OSError, sqlite3.Error):
        return


__all__ = ["selecting_sqlite"]
