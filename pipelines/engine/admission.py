"""Who runs next, from which memory, and what a request may still spend."""

from __future__ import annotations

import math
import time
from collections import deque

import numpy as np

from pipelines.engine.pages import Segment, pages_of
from pipelines.engine.residents import Residents
from pipelines.engine.tickets import OWN, Fill, Live, Ticket, Unit, base_of
from search.types import ROOT, Extend, Finish, Path, Row


class Admission(Residents):
    """Units in order, while there is room for them and their request can pay."""

    def _limit(self, row: Row) -> int:
        return min(row.limit, self.context - len(row.prefix))

    def _admit(self) -> None:
        """Units in order while fewer than max_rows rows run: rows in step may overshoot, so that none waits for ever."""
        running = len(self.live) + sum(len(fill.waiting) for fill in self.fills)
        while self.queue and self._may(self.queue[0], running) and self._fits(self.queue[0], running):
            unit = self.queue.popleft()
            self.units.append(unit)
            ticket = unit.rows[0].ticket
            ticket.admitted = ticket.admitted or time.monotonic()
            if ticket.bounded:
                self._afford(unit)
            running += len(unit.rows)
            unit.missing = len(unit.rows)
            for live in list(unit.rows):
                if self.plain:
                    self._ready(live)
                else:
                    self._base(live)

    def _may(self, unit: Unit, running: int) -> bool:
        """Whether there is a place. Since memory ran out rows in step overshoot no longer, unless nothing else runs."""
        if self.abreast is not None and running and running + len(unit.rows) > self.abreast:
            return False
        return running < self.max_rows

    def _fits(self, unit: Unit, running: int) -> bool:
        """Whether the next token of all that runs, and this unit, would find room; kept steps can be dropped for it."""
        if self.plain or not running:
            return True
        need = running + sum(1 + pages_of(int(self.rows.counts[live.slot])) for live in unit.rows)
        first = unit.rows[0]
        if self.kept.get(first.ticket.search, first.base) is None:
            need += pages_of(len(first.row.prefix))
        return need <= self.pool.free_pages or self.kept.evict(need)

    def _base(self, live: Live) -> None:
        """Finds the memory of a row's prefix, or has it computed from the longest part that is held."""
        search, parent, known = live.ticket.search, live.base, len(live.row.prefix) - 1
        held = self.kept.get(search, parent)
        if held is not None or known == 0:
            live.ticket.cached_tokens += known
            self._start(live, held)
            return
        fill = next((f for f in self.fills if f.key == (search, parent)), None)
        if fill is None:
            fill = self._fill(live, search, parent)
        else:
            live.ticket.cached_tokens += known
        fill.waiting.append(live)
        if fill.segment.end == len(fill.tokens):  # another search's prompt holds all of it
            self._filled(fill)

    def _fill(self, live: Live, search: int, parent: Path) -> Fill:
        tokens = np.asarray(live.row.prefix[:-1], dtype=np.int64)
        segment = self.kept.begun(search, parent, tokens)
        fill = Fill(live.ticket, (search, parent), segment, tokens, self.rows.take())
        self.rows.place(fill.slot, *self.pool.view(segment), segment.end)
        live.ticket.cached_tokens += segment.end
        live.ticket.prompt_tokens += len(tokens) - segment.end
        if self.kept.known(search, parent):
            live.ticket.recomputed_tokens += len(tokens) - segment.end
        self.fills.append(fill)
        return fill

    def _start(self, live: Live, base: Segment | None) -> None:
        """Gives a row its own segment; what it drew before it lost its memory must be computed again."""
        drawn = int(self.rows.counts[live.slot])
        if live.ticket.left is not None and max(drawn, 1) + 1 > live.ticket.left:  # its siblings spent what it waited for
            self._end([(live, Finish.BUDGET)])
            self._ready(live)
            return
        live.segment = self.pool.fork(base) if base is not None else self.pool.alloc()
        self.rows.place(live.slot, *self.pool.view(live.segment), live.segment.end)
        if drawn:
            tokens = np.asarray([*live.row.prefix, *self.rows.tokens[live.slot, : drawn - 1]], dtype=np.int64)
            live.ticket.prompt_tokens += drawn
            live.ticket.recomputed_tokens += drawn
            self.fills.append(Fill(live.ticket, None, live.segment, tokens, live.slot, [live]))
        else:
            live.ticket.prompt_tokens += 1  # the prefix's last token, which the row feeds itself
            self._ready(live)

    def _ready(self, live: Live) -> None:
        """A row's memory is complete; its unit runs when all its rows' are."""
        live.unit.missing -= 1
        if live.unit.missing == 0:
            self.live += live.unit.rows
            self._order = None

    def _filled(self, fill: Fill) -> None:
        self.fills.remove(fill)
        if fill.key is None:
            self._ready(fill.waiting[0])
            return
        search, path = fill.key
        self.kept.put(search, path, fill.segment)
        self.rows.leave(fill.slot)
        if path == ROOT or path.startswith(OWN):
            self.kept.publish(fill.tokens, fill.segment)
        for live in fill.waiting:
            self._start(live, fill.segment)

    # ------------------------------------------------------------------------------------------------- what they may spend

    def _payable(self, flops: float | None) -> int | None:
        """The most tokens whose charge, 2 x parameters each, is not above the FLOPs; None = no bound."""
        if flops is None or math.isinf(flops):
            return None
        most = max(int(flops / (2.0 * self.parameters)), 0)
        return most if 2.0 * self.parameters * most <= flops else most - 1  # the quotient may have been rounded up

    def _dearest(self, request: Extend) -> int:
        """Tokens that rows may be charged for if nothing of them is in memory, and nothing is dropped from it."""
        rows = request.rows
        if self.plain:
            return sum(1 + n * len(row.prefix) + n * (n - 1) // 2 for row in rows if (n := self._limit(row)))
        prompts = {base_of(request, row): len(row.prefix) - 1 for row in rows}
        return sum(prompts.values()) + sum(1 + self._limit(row) for row in rows)

    def _afford(self, unit: Unit) -> None:
        """Ends those rows of a unit about to be admitted for which what is left does not pay up to their next token: the last
        ones, so that none has its prompt computed for nothing."""
        ticket = unit.rows[0].ticket
        left, begun, over = ticket.left, set[Path](), list[Live]()
        for live in unit.rows:
            if ticket.late or over:
                over.append(live)
            elif left is not None and not self.plain:
                drawn, parent = int(self.rows.counts[live.slot]), live.base
                price = max(drawn, 1) + 1 + (0 if parent in begun else self._missing(live))
                if price > left:
                    over.append(live)
                left -= price
                begun.add(parent)
        self._end([(live, Finish.BUDGET) for live in over])

    def _missing(self, live: Live) -> int:
        """Tokens of a row's prefix that its search would pay for now."""
        search, parent, known = live.ticket.search, live.base, len(live.row.prefix) - 1
        if self.kept.get(search, parent) is not None or any(fill.key == (search, parent) for fill in self.fills):
            return 0
        found = self.kept.begun(search, parent, np.asarray(live.row.prefix[:-1], dtype=np.int64))
        self.pool.free(found)
        return known - found.end

    def _ration(self, ticket: Ticket) -> None:
        """Where the allowance or the FLOPs no longer give every live row a token, only the first rows get one."""
        rows = sorted((row for row in self.live if row.ticket is ticket), key=lambda row: row.index)
        most = len(rows)
        if ticket.request.allowance is not None:
            most = min(most, max(ticket.request.allowance - ticket.used, 0))
        if ticket.left is not None:
            prices = [self._whole(row) if self.plain else 1 for row in rows]
            most = min(most, int(np.searchsorted(np.cumsum(prices), ticket.left, side="right")))
        if len(rows) > most:
            self._end([(row, Finish.BUDGET) for row in rows[most:]])

    def _whole(self, live: Live) -> int:
        """What a row's next token is charged with where all of its sequence is computed again."""
        drawn = int(self.rows.counts[live.slot])
        return len(live.row.prefix) + (drawn or 1)

    def _stop(self, ticket: Ticket) -> None:
        """Its seconds are over: ends all its rows, wherever they are."""
        waiting = [unit for unit in self.queue if unit.rows[0].ticket is ticket]
        self.queue = deque(unit for unit in self.queue if unit.rows[0].ticket is not ticket)
        self.units += waiting
        rows = [row for unit in self.units for row in unit.rows if row.ticket is ticket]
        self._unwait(rows)
        self._end([(row, Finish.BUDGET) for row in rows])
