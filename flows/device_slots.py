"""Slots of a device: how many processes of this host may compute on it at the same time.

A slot is a lock on a file in a folder of the user's, by host and device. The kernel gives it back when its holder ends,
however it ends; nothing is left to be cleaned up. A process holds what its forked children inherit: a slot is free when the
last of them is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from store.errors import StoreError, Unavailable
from store.leases import is_dead, readable, this_process

LOOK = 0.5  # seconds between two tries for a slot


@dataclass(frozen=True, slots=True)
class Slot:
    """One of a device's slots, held by this process."""

    device: str
    number: int
    file: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a slot, as it says itself."""

    owner: str  # as in a lease
    since: str  # UTC, ISO 8601
    slots: int  # that it thinks the device has

    def __str__(self) -> str:
        return f"{readable(self.owner)} since {self.since}"


def folder() -> Path:
    """Where this user's slots are: in the runtime folder, which ends with the host's session, or a temporary one. Raises
    StoreError where somebody else made it."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    path = (
        Path(base) / "ponderosa" if base and os.path.isdir(base) else Path(tempfile.gettempdir()) / f"ponderosa-{os.getuid()}"
    )
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StoreError(f"the folder '{path}' for device slots is not this user's; remove it, or set XDG_RUNTIME_DIR")
    return path


def slots_of(device: str) -> int:
    """How many slots a device has where nobody says: 1, and of the CPU its cores."""
    if device != "cpu":
        return 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


@contextmanager
def slot(device: str, slots: int, wait: bool = True, say: Callable[[str], None] = lambda line: None) -> Iterator[Slot]:
    """Holds a slot of the device for the block; waits for one, and says who has them. Without `wait` it raises Unavailable."""
    if slots < 1:
        raise ValueError(f"a device needs at least 1 slot, not {slots}")
    said = False
    while (held := _tried(device, slots)) is None:
        taken = ", ".join(str(each) for each in holders(device)) or "another process"
        full = f"all {slots} slots of {device} are taken ({taken})" if slots > 1 else f"{device} is taken ({taken})"
        if not wait:
            raise Unavailable(f"{full}; stop one, or leave --no-wait out")
        if not said:
            said = True
            say(f"waiting: {full}")
        time.sleep(LOOK)
    try:
        yield held
    finally:
        os.ftruncate(held.file, 0)
        os.close(held.file)


def holders(device: str) -> list[Holder]:
    """Who has slots of a device now, of those that live. No lock is tried for it: that would be in others' way."""
    written = [_written(path) for path in sorted(folder().glob(f"{_name(device)}.*"))]
    return [each for each in written if each is not None and not is_dead(each.owner)]


# ------------------------------------------------------------------------------------------------------------ internals


def _tried(device: str, slots: int) -> Slot | None:
    """A free slot. Raises StoreError where the device's holders count its slots otherwise: two numbers are no bound."""
    for number in range(slots):
        file = os.open(folder() / f"{_name(device)}.{number}", os.O_CREAT | os.O_RDWR, 0o600)
        if _locked(file):
            os.ftruncate(file, 0)  # what a dead holder said
            other = next((each for each in holders(device) if each.slots != slots), None)
            if other is not None:
                os.close(file)
                raise StoreError(f"{device} has {other.slots} slots by {other}; say --slots {other.slots}, or stop it")
            told = Holder(this_process(), datetime.now(UTC).isoformat(timespec="seconds"), slots)
            os.pwrite(file, json.dumps(asdict(told)).encode(), 0)
            return Slot(device, number, file)
        os.close(file)
    return None


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _written(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # nobody, or one who has just taken it and not said so yet
        return None


def _name(device: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", device)


__all__ = ["Holder", "Slot", "folder", "holders", "slot", "slots_of"]
