"""Live progress on standard error, so that data stay clean: bars on a terminal, a plain line every few seconds elsewhere,
nothing with --quiet.

The runs of one command share one board: a bar each, and those that are done stay, with their accuracy.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from flows.watching import Progress, Watcher
from store.stats import wilson

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

EVERY = 5.0  # seconds between plain lines
WIDE = 100  # columns of a terminal that hold all there is to say


def quiet() -> bool:
    return bool(os.environ.get("PONDEROSA_QUIET"))


def said(line: str) -> None:
    """A line for the person who watches."""
    if not quiet():
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


# --------------------------------------------------------------------------------------------------------------- in words


def accuracy(progress: Progress) -> str:
    """The share of right ones so far, with its 95% interval (Wilson); failed ones are wrong."""
    if not progress.done:
        return "-"
    low, high = wilson(progress.right, progress.done)
    return f"{progress.right / progress.done:.3f} [{low:.2f}, {high:.2f}]"


def spent(progress: Progress) -> str:
    """What the problems done here have used of their budget, in the mean."""
    return "" if progress.budget is None else f"budget {progress.budget:.0%}"


def left(progress: Progress) -> str:
    seconds = progress.seconds_left
    return "" if seconds is None else f"{_time(progress.seconds)}" if not seconds else f"{_time(seconds)} left"


def line(title: str, progress: Progress) -> str:
    """How far a run is, in one line."""
    told = (
        f"{progress.done}/{progress.total} problems",
        f"accuracy {accuracy(progress)}",
        f"{progress.tokens_per_second:,.0f} tokens/s",
        spent(progress),
        left(progress),
    )
    return f"{title}: {', '.join(filter(None, told))}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


# --------------------------------------------------------------------------------------------------------------- the board


class Board(Protocol):
    """Where the runs of a command are shown; each has a row, by its key."""

    def watcher(self, title: str, key: str) -> Watcher: ...


class _Nothing:
    def watcher(self, title: str, key: str) -> Watcher:
        return lambda progress: None


class _Lines:
    """Plain lines, for logs."""

    def watcher(self, title: str, key: str) -> Watcher:
        last, ended = time.monotonic(), False

        def watch(progress: Progress) -> None:
            nonlocal last, ended
            now, end = time.monotonic(), progress.done == progress.total
            if (end and not ended) or now - last >= EVERY:
                last, ended = now, end
                said(line(title, progress))

        return watch


class _Bars:
    """A bar a run. The terminal's width decides what there is room for."""

    def __init__(self, bars: Bars, count: int) -> None:
        self.bars, self.count = bars, count
        self.rows: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def watcher(self, title: str, key: str) -> Watcher:
        with self._lock:
            if key not in self.rows:
                place = f"{len(self.rows) + 1}/{self.count} " if self.count > 1 else ""
                self.rows[key] = self.bars.add_task(place + title, total=None, accuracy="", rate="", budget="", left="starting")
        row = self.rows[key]

        def watch(progress: Progress) -> None:
            self.bars.update(
                row,
                total=progress.total,
                completed=progress.done,
                accuracy=accuracy(progress),
                rate=f"{progress.tokens_per_second:,.0f} tokens/s",
                budget=spent(progress),
                left=left(progress),
            )

        return watch


_board: Board | None = None


@contextmanager
def board(count: int = 1) -> Iterator[Board]:
    """The command's board for so many runs, while the block runs; one that is there already is used."""
    global _board
    if _board is not None:
        yield _board
        return
    try:
        if quiet():
            _board = _Nothing()
            yield _board
        elif sys.stderr.isatty():
            with _bars() as bars:
                _board = _Bars(bars, count)
                yield _board
        else:
            _board = _Lines()
            yield _board
    finally:
        _board = None


@contextmanager
def shown(title: str, enabled: bool = True, key: str = "") -> Iterator[Watcher]:
    """A watcher that shows progress on the board while the block runs. `key`: the row's; by default its title."""
    if not enabled:
        yield lambda progress: None
        return
    with board() as shared:
        yield shared.watcher(title, key or title)


def _bars() -> Bars:
    from rich import progress
    from rich.console import Console
    from rich.table import Column

    console = Console(stderr=True)
    cut = Column(no_wrap=True, overflow="ellipsis", ratio=1, min_width=8)
    columns: list[progress.ProgressColumn] = [
        progress.TextColumn("{task.description}", table_column=cut, markup=False),
        progress.TextColumn("{task.completed}/{task.total}", justify="right", table_column=Column(no_wrap=True)),
    ]
    wide = ("accuracy", "rate", "budget", "left") if console.width >= WIDE else ("accuracy", "left")
    if console.width >= 50:
        for name in wide:
            columns.append(progress.TextColumn(f"{{task.fields[{name}]}}", table_column=Column(no_wrap=True), markup=False))
        columns.insert(1, progress.BarColumn(bar_width=20 if console.width >= WIDE else 10))
    return progress.Progress(*columns, console=console, expand=True)


__all__ = ["EVERY", "Board", "accuracy", "board", "left", "line", "quiet", "said", "shown", "spent"]
