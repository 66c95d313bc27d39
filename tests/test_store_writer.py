"""The writer: in order, merged while it is busy, and no failure unheard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from store.writer import Writer

SECONDS = 10.0  # a wait that is over at once where nothing is wrong


class Desk:
    """What a writer writes to: it can be made to wait, and to fail."""

    def __init__(self) -> None:
        self.transactions: list[list[int]] = []
        self.failing: BaseException | None = None
        self.busy = threading.Event()  # a transaction has begun
        self.open = threading.Event()  # it may end
        self.open.set()
        self.thread = ""

    def write(self, batches: list[int]) -> None:
        self.thread = threading.current_thread().name
        self.busy.set()
        assert self.open.wait(SECONDS)
        if self.failing is not None:
            raise self.failing
        self.transactions.append(batches)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def writer(desk: Desk) -> Iterator[Writer[int]]:
    made: Writer[int] = Writer(desk.write)
    yield made
    desk.open.set()
    made.close()


def writers() -> int:
    return sum(thread.name == "writer" for thread in threading.enumerate())


def test_what_comes_while_a_transaction_is_on_its_way_shares_the_next(desk: Desk, writer: Writer[int]) -> None:
    """The cost of making a transaction durable is paid once for all that waited."""
    desk.open.clear()
    numbers = [writer.submit(0)]
    assert desk.busy.wait(SECONDS)
    numbers += [writer.submit(i) for i in range(1, 6)]
    assert (numbers, writer.last) == ([1, 2, 3, 4, 5, 6], 6)
    assert [writer.written(number) for number in numbers] == [None] * 6
    desk.open.set()
    assert [writer.written(number, wait=True) is not None for number in numbers] == [True] * 6
    assert desk.transactions == [[0], [1, 2, 3, 4, 5]]
    assert desk.thread == "writer"


def test_the_seconds_of_a_transaction_are_shared_by_its_batches(desk: Desk, writer: Writer[int]) -> None:
    desk.open.clear()
    threading.Timer(0.2, desk.open.set).start()
    assert (writer.written(writer.submit(0), wait=True) or 0) > 0.1
    desk.open.clear()
    desk.busy.clear()
    writer.submit(1)
    assert desk.busy.wait(SECONDS)
    for i in range(2, 6):
        writer.submit(i)
    desk.open.set()
    assert (writer.written(6, wait=True) or 0) < 0.1
    assert (writer.written(1) or 0) > 0.1


def test_the_order_is_kept_whoever_submits(desk: Desk, writer: Writer[int]) -> None:
    def submit(first: int) -> list[int]:
        return [writer.submit(first + i) for i in range(200)]

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(submit, range(0, 4000, 1000)))
    writer.written(writer.last, wait=True)
    written = [batch for transaction in desk.transactions for batch in transaction]
    for first, own in zip(range(0, 4000, 1000), numbers, strict=True):
        assert [written[number - 1] for number in own] == list(range(first, first + 200)), "a number is not its batch's place"
        assert own == sorted(own)


def test_a_failure_reaches_every_waiter_and_whoever_comes_later(desk: Desk, writer: Writer[int]) -> None:
    desk.open.clear()
    desk.failing = OSError("disk full")
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(writer.written, writer.submit(i), True) for i in range(3)]
        assert desk.busy.wait(SECONDS)
        desk.open.set()
        for each in waiting:
            with pytest.raises(OSError, match="disk full"):
                each.result(SECONDS)
    for again in (lambda: writer.submit(9), lambda: writer.written(3), lambda: writer.written(1, wait=True)):
        with pytest.raises(OSError, match="disk full"):
            again()
    assert desk.transactions == []


def test_what_was_written_before_a_failure_is_known_to_be(desk: Desk, writer: Writer[int]) -> None:
    first = writer.submit(0)
    writer.written(first, wait=True)
    desk.failing = OSError("disk full")
    with pytest.raises(OSError, match="disk full"):
        writer.written(writer.submit(1), wait=True)
    assert writer.written(first) is not None
    assert desk.transactions == [[0]]


class Killed(BaseException):
    """What no `except Exception` catches."""


def test_even_what_is_no_exception_is_not_swallowed_by_the_thread(desk: Desk, writer: Writer[int]) -> None:
    desk.failing = Killed()
    with pytest.raises(Killed):
        writer.written(writer.submit(0), wait=True)


def test_closing_writes_what_is_left_and_ends_the_thread(desk: Desk, writer: Writer[int]) -> None:
    before = writers()
    desk.open.clear()
    for i in range(5):
        writer.submit(i)
    assert writers() == before + 1
    threading.Timer(0.05, desk.open.set).start()
    writer.close()
    assert [batch for transaction in desk.transactions for batch in transaction] == list(range(5))
    assert writers() == before
    writer.close()


def test_a_writer_that_was_given_nothing_has_no_thread(writer: Writer[int]) -> None:
    assert (writers(), writer.last) == (0, 0)
    assert writer.written(0) == 0.0
    writer.close()


def test_closing_after_a_failure_does_not_hang(desk: Desk, writer: Writer[int]) -> None:
    desk.failing = OSError("disk full")
    writer.submit(0)
    desk.busy.wait(SECONDS)
    writer.close()
    with pytest.raises(OSError, match="disk full"):
        writer.written(1)
