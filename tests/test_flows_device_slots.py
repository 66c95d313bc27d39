"""Device slots: as many holders as there are slots, and a slot that ends with its holder, however that ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows import device_slots as slots
from flows.device_slots import holders, slot
from store.errors import StoreError, Unavailable

HOLD = """
import sys, time
from flows.device_slots import slot
held = slot("cuda:0", int(sys.argv[1]))
held.__enter__()
print(1, flush=True)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@contextmanager
def holder(count: int = 1, then: str = "time.sleep(600)") -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a slot of cuda:0, once it has it; killed at the end of the block."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", f"{HOLD}\n{then}", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"1\n"
            yield process
        finally:
            process.kill()


def test_a_slot_is_one_processs_and_free_at_once_when_that_one_is_killed() -> None:
    with holder() as process:
        with pytest.raises(Unavailable, match=f"cuda:0 is taken .process {process.pid} .*--no-wait"), slot("cuda:0", 1, False):
            pass
        process.kill()
        process.wait()
        with slot("cuda:0", 1, wait=False) as taken:
            assert (taken.device, taken.number) == ("cuda:0", 0)
            assert [each.owner.split("/")[2] for each in holders("cuda:0")] == [str(os.getpid())]
    assert holders("cuda:0") == []


def test_who_waits_says_who_has_the_device_and_gets_it() -> None:
    said: list[str] = []
    with holder() as process:
        began = time.monotonic()
        threading.Timer(0.7, process.kill).start()
        with slot("cuda:0", 1, say=said.append):
            assert time.monotonic() - began > 0.6
    assert said == [f"waiting: cuda:0 is taken (process {process.pid} on {os.uname().nodename} since {said[0][-26:-1]})"]


def test_there_are_as_many_holders_as_slots_and_other_devices_are_apart() -> None:
    with slot("cuda:0", 2, wait=False) as first, slot("cuda:0", 2, wait=False) as second:
        assert (first.number, second.number) == (0, 1)
        with pytest.raises(Unavailable, match="all 2 slots of cuda:0"), slot("cuda:0", 2, wait=False):
            pass
        with slot("cuda:1", 1, wait=False):
            pass
    with slot("cuda:0", 2, wait=False) as again:
        assert again.number == 0


def test_two_numbers_of_slots_for_one_device_are_refused() -> None:
    refused = pytest.raises(StoreError, match=r"cuda:0 has 1 slots by process .*say --slots 1")
    with slot("cuda:0", 1, wait=False), refused, slot("cuda:0", 2, wait=False):  # the first thinks that it is alone
        pass
    with slot("cuda:0", 2, wait=False):
        pass


def test_what_a_dead_holder_wrote_binds_nobody() -> None:
    with holder(count=3):
        pass
    (left,) = slots.folder().glob("cuda-0.*")
    assert json.loads(left.read_text())["slots"] == 3
    with slot("cuda:0", 1, wait=False):
        assert [each.slots for each in holders("cuda:0")] == [1]


def test_a_child_that_outlives_the_holder_and_may_still_compute_keeps_the_slot() -> None:
    forked = "import os; p = os.fork(); print(p, flush=True) if p else time.sleep(600)"
    with holder(then=forked) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.wait()
        try:
            with pytest.raises(Unavailable), slot("cuda:0", 1, wait=False):
                pass
        finally:
            os.kill(child, signal.SIGKILL)
    with slot("cuda:0", 1):  # as soon as the kernel has ended it
        pass


def test_a_folder_that_is_not_the_users_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ponderosa").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is not this user's"), slot("cuda:0", 1):
        pass
