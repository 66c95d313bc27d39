"""A request on its way, and its rules that look at all of its rows.

The rules go by tokens, never by the clock: a row that has ended counts once no row that still runs could end with fewer tokens.
So what they decide depends on the texts alone, whichever row the server happened to write first; a row that waits for its turn
holds the decision up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.remote.writing import Writing
from search.types import Extend, Finish, order

Write = Callable[["Ticket", list[Writing]], Coroutine[Any, Any, None]]
LEAST = 8  # tokens of a share of what is left of a budget: for fewer no row is gone on with


@dataclass(slots=True, eq=False)
class Ticket:
    """A request and its rows. The event loop writes, the driver's thread reads what is over, and charges seconds."""

    search: int
    request: Extend
    rows: list[Writing]
    allowance: int | None  # tokens that all rows together may have
    submitted: float  # seconds on the monotonic clock, as is
    started: float | None = None  # when the first row was sent
    seconds: float = 0.0
    late: bool = False
    over: bool = False
    error: Exception | None = None
    prompt: int = 0
    cached: int = 0
    decided: int = 0  # rows that the halt has looked at
    stopped: bool = False  # by a rule or by the clock
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    groups: list[list[Writing]] = field(default_factory=list)  # of rows, one a task

    # ------------------------------------------------------------------------------------------------ on the event loop

    async def side_by_side(self, groups: list[list[Writing]], write: Write) -> None:
        """Has all groups written; the first that fails ends the others, and is raised. None is left running, whatever
        happens."""
        self.groups, self.tasks = groups, [asyncio.create_task(write(self, group)) for group in groups]
        try:
            done, _ = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_EXCEPTION)
            failed = [error for task in done if not task.cancelled() and (error := task.exception())]
            if failed:
                raise failed[0]
        finally:
            for task in self.tasks:
                _cancel(task)
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def look(self) -> None:
        """Stops the rows that still run where those that have ended suffice."""
        if not self.stopped and any(row.ended for row in self.rows) and self.enough():
            self.stop()

    def stop(self) -> None:
        """Cuts every row that still runs: their connections are closed. What the server has ended is counted to its end."""
        self.stopped = True
        for task, group in zip(self.tasks, self.groups, strict=True):
            if any(row.finish is None or row.finish is Finish.CANCELLED for row in group):
                _cancel(task)

    # ------------------------------------------------------------------------------------------------------------ rules

    def settled(self) -> list[Writing]:
        """The rows that have ended by themselves and that none can come before, in the order of (tokens, path)."""
        if any(row.finish is not None and not row.closed for row in self.rows):
            return []  # what the server counts of it is on its way
        least = min((row.length for row in self.rows if row.finish is None), default=None)
        ended = sorted((row for row in self.rows if row.ended), key=_order)
        return [row for row in ended if least is None or row.length <= least]

    def enough(self) -> bool:
        """Whether those that have ended stop the others; those that are over what decided it count as stopped too."""
        first, halt = self.request.first, self.request.rules.halt
        if first is None and halt is None:
            return False
        settled = self.settled()
        for last in sorted({row.length for row in settled}):
            ended = [row for row in settled if row.length <= last]
            if (first is not None and len(ended) >= first) or (halt is not None and self._halts(ended)):
                for row in self.rows:
                    if row.length > last or not row.ended:
                        row.finish = Finish.CANCELLED if row.finish is None or row.ended else row.finish
                return True
        return False

    def _halts(self, ended: Sequence[Writing]) -> bool:
        halt = self.request.rules.halt
        if halt is None or len(ended) <= self.decided:
            return False
        self.decided = len(ended)
        return halt.decide([row.step() for row in ended])

    # ---------------------------------------------------------------------------------------------------------- budgets

    def share(self) -> None:
        """Gives each row its part of the allowance, as equal parts as their limits have it."""
        if self.allowance is None:
            return
        left = self.allowance
        for waiting, row in enumerate(sorted(self.rows, key=lambda each: each.row.limit)):
            row.limit = min(row.row.limit, left // (len(self.rows) - waiting))
            left -= row.limit
        for row in self.rows:
            row.limit += (more := min(row.row.limit - row.limit, left))
            left -= more

    def share_again(self) -> list[Writing]:
        """Gives what rows have left over to those that ran into their share; these go on. None where it is too little."""
        cut = [row for row in self.rows if row.finish is Finish.LENGTH and row.limit <= row.length < row.row.limit]
        if self.allowance is None or not cut:
            return []
        left = self.allowance - sum(row.length for row in self.rows)
        if left < LEAST * len(cut):
            return []
        for row in cut:
            row.limit = min(row.row.limit, row.length + left // len(cut))
            row.finish = None
        return cut

    def close(self) -> None:
        """Every row has an end: what the budget cut says so."""
        for row in self.rows:
            if row.finish is None:
                row.finish = Finish.BUDGET if self.late else Finish.CANCELLED
            elif row.finish is Finish.LENGTH and row.limit < row.row.limit and row.length >= row.limit:
                row.finish = Finish.BUDGET


def _cancel(task: asyncio.Task[None]) -> None:
    """Once only, and never the one that runs, which leaves by itself: a second one would end the closing of the connection
    in its middle, and the server would go on."""
    if task is not asyncio.current_task() and not task.cancelling():
        task.cancel()


def _order(row: Writing) -> tuple[int, tuple[int, ...]]:
    return row.length, order(row.row.path)


__all__ = ["LEAST", "Ticket"]
