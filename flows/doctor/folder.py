"""Checks of where a database file is: its folder, the disk, SQLite itself."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

from .finding import Finding

GB = 1 << 30
NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "pvfs2"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.juicefs", "davfs"),
}
COMMITS = 20  # of which the median is told
SLOW_MS = 50.0


def sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Finding:
    what = ".".join(map(str, version))
    if not (3, 7, 0) <= version <= (3, 51, 2):
        return Finding("sqlite", "ok", what)
    return Finding(
        "sqlite",
        "warn",
        f"{what} can damage a file when two connections write or checkpoint at the same instant (rare; our own take turns)",
        "let no other tool write to the file, or use SQLite 3.51.3 or newer, or PostgreSQL",
    )


def writable(folder: Path, path: Path) -> Finding:
    """By trying it: rights, a read-only mount and root's exceptions are all in the answer."""
    if not folder.is_dir():
        return Finding("folder", "fail", f"'{folder}' does not exist", "create it, or name a database in another folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        mend = "change its rights, or name a database in another folder"
        return Finding("folder", "fail", f"'{folder}' cannot be written to: {error.strerror}", mend)
    if path.is_file() and not os.access(path, os.W_OK):
        return Finding("folder", "fail", f"'{path}' cannot be written to", "change its rights")
    return Finding("folder", "ok", f"'{folder.resolve()}' can be written to")


def file_system(folder: Path, mounts: str | None = None) -> Finding:
    """SQLite's write-ahead log needs memory that all its users share: not so on a network file system."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text()
        except OSError:
            return Finding("file system", "ok", "not known on this system")
    kind, longest = "unknown", -1
    for line in mounts.splitlines():
        _, place, found, *_ = [*line.split(" "), "", "", ""]
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place) or "/nowhere")
        if folder.is_relative_to(point) and len(point.parts) >= longest:  # the last of those mounted on one place counts
            kind, longest = found, len(point.parts)
    if kind in NETWORK:
        mend = "put the database on a local disk, or use PostgreSQL"
        return Finding(
            "file system", "fail", f"'{folder}' is on a network file system ({kind}): SQLite's log cannot work", mend
        )
    return Finding("file system", "ok", kind)


def disk(folder: Path, free: int | None = None) -> Finding:
    free = shutil.disk_usage(folder).free if free is None else free
    what = f"{free / GB:.1f} GB free" if free >= GB else f"{free >> 20} MB free"
    if free < 200 << 20:
        return Finding("disk", "fail", what, "free some: a run stops when the disk is full")
    if free < 2 * GB:
        return Finding("disk", "warn", what, "free some before a long run: a million candidates take 1.4 GB")
    return Finding("disk", "ok", what)


def latency(folder: Path) -> Finding:
    """Of a committed write to a scratch file beside the database, synced as ours are."""
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as scratch,
        closing(sqlite3.connect(Path(scratch) / "scratch.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE t (x)")
        return commits(lambda: connection.execute("INSERT INTO t VALUES (1)"))


def commits(write: Callable[[], object], slow: float = SLOW_MS) -> Finding:
    taken = []
    for _ in range(COMMITS):
        began = time.perf_counter()
        write()
        taken.append(1000 * (time.perf_counter() - began))
    what = f"{statistics.median(taken):.1f} ms for a committed write, {max(taken):.1f} ms at worst of {COMMITS}"
    if statistics.median(taken) > slow:
        return Finding("commit", "warn", what, "put the database on a faster disk, or nearer")
    return Finding("commit", "ok", what)
