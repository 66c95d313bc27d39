"""Who has memory on the core: the running rows and what they wait for, and who must give way when it runs short.

When memory runs short, kept steps go first, the least recently used before others; then the rows that were admitted last, whose
tokens stay and whose keys and values are computed again later.

A pass that runs out of memory has changed nothing: it is made again with half the rows and half the prompt tokens, until one
request alone fails, which ends with the error. CALM passes without such a fault double what may run at once again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.engine.draft import Drafter
from pipelines.engine.forward import Forward, PlainForward
from pipelines.engine.kept import Kept
from pipelines.engine.pages import PAGE, NoRoom, Pool, Segment
from pipelines.engine.rows import Rows
from pipelines.engine.scarce import OutOfMemory
from pipelines.engine.tickets import Fill, Live, Ticket, Unit
from pipelines.engine.vocabulary import Vocabulary
from search.types import Finish, Step, Until

CHUNK = 256  # prompt tokens in one pass beside the running rows'
CALM = 64  # passes without a fault after which twice as much may run at once again

log = logging.getLogger(__name__)


class TooSmall(MemoryError):
    """The pages do not suffice for one unit alone."""


class Residents:
    """The rows, the memory they have, and the kept steps."""

    def __init__(
        self,
        forward: Forward | PlainForward,
        vocabulary: Vocabulary,
        pool: Pool,
        *,
        context: int,
        parameters: int,
        page_bytes: int = 0,
        device: torch.device | None = None,
        max_rows: int = 256,
        chunk: int = CHUNK,
        draft: int = 0,
    ) -> None:
        self.forward, self.vocabulary, self.pool = forward, vocabulary, pool
        self.context, self.parameters, self.page_bytes = context, parameters, page_bytes
        self.max_rows, self.chunk = max_rows, chunk
        self.device = device or torch.device("cpu")
        self.drafter = Drafter(draft)
        self.rows = Rows(vocabulary.size, self.device)
        self.queue: deque[Unit] = deque()
        self.units: list[Unit] = []  # admitted and not ended, in the order of their admission
        self.fills: list[Fill] = []
        self.live: list[Live] = []  # in the order in which they entered: rows that share pages stand side by side
        self.kept = Kept(pool)
        self.done: list[tuple[Ticket, Exception | None]] = []
        self.abreast: int | None = None  # rows that may run at once since memory ran out; None: max_rows, as ever
        self.piece = chunk  # prompt tokens in one pass: likewise
        self.splits = 0  # times that a pass ran out of memory and was halved
        self._calm = 0  # passes since
        self._order: NDArray[np.int64] | None = None  # slots of the live rows

    @property
    def plain(self) -> bool:
        return isinstance(self.forward, PlainForward)

    def memory_used(self) -> int:
        """Bytes of the pages in use."""
        return self.pool.used_pages * self.page_bytes

    def memory_needed(self) -> int:
        """Bytes that the distinct positions of the running rows' sequences need: what a perfect cache would hold for them."""
        positions, seen = 0, set()
        for row in self.live:
            node, end = row.segment, int(self.rows.ends[row.slot])
            while node is not None and id(node) not in seen:
                seen.add(id(node))
                positions += end - node.begin
                end, node = node.begin, node.parent
        return positions * self.page_bytes // PAGE

    def _append(self, segment: Segment, slot: int, count: int) -> bool:
        """Makes room for `count` more positions; False where the segment itself had to go."""
        while True:
            try:
                pages = self.pool.append(segment, count)
            except NoRoom:
                if not self.kept.evict(self.pool.need(segment, count)):
                    self._preempt()
                    if segment.refs == 0:
                        return False
                continue
            try:
                self.rows.extend(slot, pages, segment.end)
            except MemoryError:
                self.pool.shorten(segment, segment.end - count)
                raise
            return True

    def _preempt(self) -> None:
        """Takes the memory of what was admitted last; it waits at the head of the queue, and keeps its tokens."""
        unit, alone = self.units[-1], len(self.units) == 1
        if alone and unit.packed:
            raise TooSmall("the memory is too small for the rows that must run together; raise cache_mb")
        self._withdraw(unit)
        self.queue.appendleft(unit)
        if alone:  # the last pages of its many short steps are half empty: it comes back with its prefix in one piece
            unit.packed = True
            self.kept.evict(self.pool.capacity)

    def _withdraw(self, unit: Unit) -> None:
        """Takes a unit out of all that runs, and its memory from it."""
        self._unwait(unit.rows)
        for row in unit.rows:
            if row.segment is not None:
                self.pool.free(row.segment)
                row.segment = None
        self._without(unit.rows)
        if unit in self.units:
            self.units.remove(unit)

    def _unwait(self, rows: Sequence[Live]) -> None:
        """These rows wait for nothing any more; what nobody else waits for is given up."""
        gone = {id(row) for row in rows}
        for fill in list(self.fills):
            fill.waiting = [row for row in fill.waiting if id(row) not in gone]
            if not fill.waiting:
                self.fills.remove(fill)
                if fill.key is not None:
                    self.pool.free(fill.segment)
                    self.rows.leave(fill.slot)

    def _drop(self, units: Sequence[Unit]) -> None:
        """Gives units up, and all that is theirs."""
        for unit in units:
            self._withdraw(unit)
            for row in unit.rows:
                self.rows.leave(row.slot)
        gone = {id(unit) for unit in units}
        self.queue = deque(unit for unit in self.queue if id(unit) not in gone)

    def _without(self, rows: Sequence[Live]) -> None:
        gone = {id(row) for row in rows}
        self.live = [row for row in self.live if id(row) not in gone]
        self._order = None

    def _end(self, ended: Sequence[tuple[Live, Finish]]) -> None:
        """Turns rows into steps, keeps what they computed for their children, and closes requests with their last row."""
        if not ended:
            return
        for live, finish in ended:
            ticket, slot = live.ticket, live.slot
            step = ticket.steps[live.index] = self._step(live, finish)
            if finish in (Finish.END, Finish.STEP):
                ticket.ended += 1
                if ticket.request.rules.halt is not None:
                    ticket.ends.append(step)
            if live.segment is not None:
                self.pool.shorten(live.segment, int(self.rows.ends[slot]))
                going_on = ticket.request.until is Until.STEP and finish in (Finish.STEP, Finish.LENGTH)
                if going_on or finish is Finish.PAUSE:
                    self.kept.put(ticket.search, live.row.path, live.segment)
                else:
                    self.pool.free(live.segment)
            self.rows.leave(slot)
            live.unit.rows.remove(live)
            if not live.unit.rows:
                self.units.remove(live.unit)
            ticket.live -= 1
            if ticket.live == 0:
                self.done.append((ticket, None))
        self._without([live for live, _ in ended])

    def _step(self, live: Live, finish: Finish) -> Step:
        rows, slot = self.rows, live.slot
        count = int(rows.counts[slot])
        tokens = rows.tokens[slot, :count].copy()
        logprobs, certainties, entropies, drawn, confidences = rows.statistics[slot, :, :count].copy()
        text = self.vocabulary.text(live.row.prefix, tokens.tolist())
        asked = live.ticket.request.sampling.confidence > 0
        kept = confidences if asked else None
        return Step(tokens, text, logprobs, certainties, entropies, finish, drawn, kept, ahead=live.ahead)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        """Ends a request with an error; its search's kept steps stay until it is forgotten."""
        self._drop([unit for unit in (*self.queue, *self.units) if unit.rows[0].ticket is ticket])
        ticket.live = 0
        self.done.append((ticket, error))

    def _halve(self, why: str, before: tuple[int | None, int], again: bool) -> None:
        """After a pass that ran out of memory: half the rows and half the prompt tokens at once, and no guesses. Where one unit
        alone failed `again` and nothing of it can be halved, the end of its request; then what is allowed is what was `before`
        this pass.

        Kept steps go too. That gives a GPU nothing back, whose pages are all there from the beginning; a CPU's are not."""
        for fill in self.fills:  # room was made for positions that are not there
            self.pool.shorten(fill.segment, int(self.rows.ends[fill.slot]))
            self.rows.shorten(fill.slot, fill.segment.end)
        running = sum(len(unit.rows) for unit in self.units)
        piece = min(self.piece, sum(len(fill.tokens) - fill.segment.end for fill in self.fills))
        if again and len(self.units) == 1 and piece <= 1 and not self._loosened(self.units[0]):
            self._fail(self.units[0].rows[0].ticket, OutOfMemory(f"out of memory for this request alone: {why}"))
            self.abreast, self.piece = before
            return
        self.splits += 1
        self.abreast, self.piece, self._calm = max(running // 2, 1), max(piece // 2, 1) if piece else self.piece, 0
        log.warning(
            "a pass of %d rows ran out of memory (%s): from now on at most %d at once, and %d prompt tokens",
            *(running, why, self.abreast, self.piece),
        )
        self.kept.evict(self.pool.capacity)
        while len(self.units) > 1 and running > self.abreast:
            running -= len(self.units[-1].rows)
            self.queue.appendleft(self.units[-1])
            self._withdraw(self.units[-1])

    def _loosened(self, unit: Unit) -> bool:
        """Lets rows that run in step only to share scarce FLOPs fairly come and go one by one instead; whether they did."""
        ticket = unit.rows[0].ticket
        if not ticket.partable or len(unit.rows) == 1:
            return False
        ticket.partable = ticket.lockstep = False
        self._withdraw(unit)
        singles = [Unit([live]) for live in unit.rows]
        for single in singles:
            single.rows[0].unit = single
        self.queue.extendleft(reversed(singles))
        return True

    def _recover(self) -> None:
        """Twice as much may run at once after CALM passes without a fault."""
        self._calm += 1
        if self._calm == CALM:
            self._calm, self.piece = 0, min(2 * self.piece, self.chunk)
            if self.abreast is not None:
                self.abreast = 2 * self.abreast if 2 * self.abreast < self.max_rows else None
