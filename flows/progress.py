"""Live progress: a bar on a terminal, a plain line every few seconds elsewhere. On standard error, so that data stay clean."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flows.work import Progress, Watcher

EVERY = 5.0  # seconds between plain lines


def line(title: str, progress: Progress) -> str:
    """How far a run is, in one line."""
    left = progress.seconds_left
    return (
        f"{title}: {progress.done}/{progress.total} problems, {progress.right} right, "
        f"{progress.tokens_per_second:,.0f} tokens/s, {'-' if left is None else f'{left:.0f} s'} left"
    )


def said(line: str) -> None:
    """A line for the person who watches."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextmanager
def shown(title: str, enabled: bool = True) -> Iterator[Watcher]:
    """A watcher that shows progress while the block runs."""
    if not enabled:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with _bar(title) as watch:
            yield watch
    else:
        yield _Lines(title)


class _Lines:
    """Plain lines, for logs."""

    def __init__(self, title: str) -> None:
        self.title, self.last = title, time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self.last >= EVERY or progress.done == progress.total:
            self.last = now
            sys.stderr.write(line(self.title, progress) + "\n")
            sys.stderr.flush()


@contextmanager
def _bar(title: str) -> Iterator[Watcher]:
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description:<28}"),
        bars.BarColumn(bar_width=24),
        bars.TextColumn("{task.completed}/{task.total} problems"),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TextColumn("{task.fields[left]}"),
    )
    with bars.Progress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(title, total=None, rate="", left="starting")

        def watch(progress: Progress) -> None:
            left = progress.seconds_left
            display.update(
                task,
                total=progress.total,
                completed=progress.done,
                rate=f"{progress.tokens_per_second:,.0f} tokens/s",
                left="" if left is None else f"{left:.0f} s left",
            )

        yield watch
