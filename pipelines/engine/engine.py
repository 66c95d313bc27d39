"""The generation core: many searches' requests in, steps out, one token-level loop over all of them.

A pass holds the next token of every running row and up to `chunk` tokens of prompts on their way, so that no row waits for a
prompt. A row that ends leaves at once and the next one takes its place. Rows of a request whose stop rules look at all of them
(the first m to finish, an allowance that may bind) run in step, so what the rules do depends on the texts alone;
other rows come and go one by one.

When memory runs short, kept steps go first, the least recently used before others; then the rows that were admitted last, whose
tokens stay and whose keys and values are computed again later.

A pass that runs out of memory has changed nothing: it is made again with half the rows and half the prompt tokens, until one
request alone fails, which ends with the error. CALM passes without such a fault double what may run at once again.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.engine.batch import Batch
from pipelines.engine.draft import LENGTHS, Drafter
from pipelines.engine.forward import Forward, PlainForward
from pipelines.engine.kept import Kept
from pipelines.engine.pages import PAGE, NoRoom, Pool, Segment, pages_of
from pipelines.engine.rows import Rows
from pipelines.engine.ruling import foretold, pauses, unsure
from pipelines.engine.sampler import Drawn, part_of
from pipelines.engine.scarce import OutOfMemory, out_of_memory, released, said
from pipelines.engine.vocabulary import Vocabulary
from search.rules import Ahead
from search.types import ROOT, Extend, Extension, Finish, Path, Row, Step, Until, parent_of

CHUNK = 256  # prompt tokens in one pass beside the running rows'
OWN = "?"  # begins the name of a prompt that is no candidate's text
CALM = 64  # passes without a fault after which twice as much may run at once again

Key = tuple[int, Path]
Slots = NDArray[np.int64]

log = logging.getLogger(__name__)


class _TooSmall(MemoryError):
    """The pages do not suffice for one unit alone."""


@dataclass(slots=True, eq=False)
class _Ticket:
    """A request on its way."""

    search: int
    request: Extend
    submitted: float
    steps: list[Step | None]
    live: int  # rows that have not ended
    most: int | None = None  # tokens of any kind that may be computed for it: what its FLOPs pay for
    bounded: bool = False  # whether its allowance, FLOPs or seconds may stop it inside a step
    lockstep: bool = False  # whether its rows run in step
    partable: bool = False  # whether they do so only to share scarce FLOPs fairly
    ended: int = 0  # rows that ended by themselves
    ends: list[Step] = field(default_factory=list)  # their steps in that order, where a rule looks at them
    used: int = 0  # tokens generated
    prompt_tokens: int = 0
    cached_tokens: int = 0
    recomputed_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    admitted: float = 0.0
    seconds: float = 0.0

    @property
    def computed(self) -> int:
        """The tokens that it is charged for so far."""
        return self.prompt_tokens + self.used + self.drafted_tokens - self.accepted_tokens

    @property
    def left(self) -> int | None:
        """The tokens that its FLOPs still pay for; None = no bound."""
        return None if self.most is None else max(self.most - self.computed, 0)

    @property
    def late(self) -> bool:
        return self.request.seconds is not None and self.seconds >= self.request.seconds


@dataclass(slots=True, eq=False)
class _Live:
    """A row that is waiting or running."""

    ticket: _Ticket
    index: int  # in the request
    row: Row
    slot: int
    unit: _Unit
    base: Path  # under which the memory of its prefix is kept: its parent, or the name of a prompt of its own
    segment: Segment | None = None  # its own positions, while it has memory
    ahead: Ahead | None = None  # where it paused


@dataclass(slots=True, eq=False)
class _Unit:
    """Rows that are admitted together and run in step: a whole request, or one row."""

    rows: list[_Live] = field(default_factory=list)
    missing: int = 0  # rows whose memory is not complete
    packed: bool = False  # whether its prefixes stand in one piece each, since memory was too short for their steps' pieces


@dataclass(slots=True, eq=False)
class _Fill:
    """Positions on their way into memory: a prefix for the rows that wait for it, or what one row lost."""

    ticket: _Ticket  # who pays
    key: Key | None  # under which the prefix is kept; None: a row's own
    segment: Segment
    tokens: NDArray[np.int64]  # of the whole sequence
    slot: int
    waiting: list[_Live] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Computed:
    """What a pass found, before anything of it counts."""

    logits: torch.Tensor
    drawn: Drawn | None  # the next token of each live row; None where no row runs yet
    guesses: dict[int, list[int]]
    pieces: list[tuple[_Fill, int, int]]


def _base_of(request: Extend, row: Row) -> Path:
    return parent_of(row.path) if request.prompt is None else f"{OWN}{hash(row.prefix)}"


class Engine:
    """A causal language model that answers Extend requests. Not thread-safe: one driver owns it."""

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
        self.queue: deque[_Unit] = deque()
        self.units: list[_Unit] = []  # admitted and not ended, in the order of their admission
        self.fills: list[_Fill] = []
        self.live: list[_Live] = []  # in the order in which they entered: rows that share pages stand side by side
        self.kept = Kept(pool)
        self.done: list[tuple[_Ticket, Exception | None]] = []
        self.abreast: int | None = None  # rows that may run at once since memory ran out; None: max_rows, as ever
        self.piece = chunk  # prompt tokens in one pass: likewise
        self.splits = 0  # times that a pass ran out of memory and was halved
        self._calm = 0  # passes since
        self._order: Slots | None = None  # slots of the live rows

    # --------------------------------------------------------------------------------------------- what a driver calls

    def submit(self, search: int, request: Extend) -> None:
        """Queues a request. Raises ValueError where a prefix leaves no room in the model's context, or rows that run in step
        would not fit the memory."""
        for row in request.rows:
            if len(row.prefix) >= self.context:
                raise ValueError(f"the prompt has {len(row.prefix)} tokens and the model's context {self.context}")
            if row.begin and not 0 <= min(row.begin) <= max(row.begin) < self.vocabulary.size:
                raise ValueError(f"tokens to begin with must be below {self.vocabulary.size}, not {max(row.begin)}")
        ticket = _Ticket(search, request, time.monotonic(), [None] * len(request.rows), len(request.rows))
        ticket.most = self._payable(request.flops)
        tight = request.allowance is not None and sum(self._limit(row) for row in request.rows) > request.allowance
        ticket.bounded = tight or ticket.most is not None or request.seconds is not None
        ticket.lockstep = tight or request.first is not None or request.rules.halt is not None
        scarce = ticket.most is not None and self._dearest(request) > ticket.most
        if ticket.lockstep or scarce:
            need = sum(pages_of(len(row.prefix) + self._limit(row)) + 1 for row in request.rows)
            fits = self.plain or need <= self.pool.capacity
            if ticket.lockstep and not fits:
                have, wanted = (-(-n * self.page_bytes // (1 << 20)) for n in (self.pool.capacity, need))
                raise ValueError(
                    f"{len(request.rows)} rows in step may take {wanted} MiB of memory and cache_mb is {have}; raise it"
                )
            # what FLOPs pay for depends on the memory anyway: where it is too small, the rows come and go one by one instead
            ticket.partable = fits and not ticket.lockstep
            ticket.lockstep = fits
        self.kept.drop(search, request.dropped)
        if request.parted or request.prompt is not None:
            self.kept.part(search)
        unit = _Unit()
        for index, row in enumerate(request.rows):
            slot = self.rows.take()
            self.rows.begin(slot, row.seed, self._limit(row), request.sampling, row.prefix, row.begin)
            unit.rows.append(_Live(ticket, index, row, slot, unit, _base_of(request, row)))
            if not ticket.lockstep:
                self.queue.append(unit)
                unit = _Unit()
            if self.drafter.most and (index == 0 or row.prefix != request.rows[index - 1].prefix):
                self.drafter.learn(search, row.prefix, len(row.prefix) if parent_of(row.path) == ROOT else 0)
        if ticket.lockstep:
            self.queue.append(unit)

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.fills or self.live or self.done)

    @property
    def plain(self) -> bool:
        return isinstance(self.forward, PlainForward)

    @torch.inference_mode()
    def advance(self) -> list[tuple[int, Extension | Exception]]:
        """Admits what there is room for, then computes one pass: a token for every running row, and pieces of prompts. A
        request that memory does not suffice for, even alone, is answered with the error."""
        began = time.monotonic()
        self._admit()
        tickets = [row.ticket for row in self.live] + [fill.ticket for fill in self.fills]
        bounded = {id(ticket): ticket for ticket in tickets if ticket.bounded}.values()
        for ticket in bounded:
            self._ration(ticket)
        if self.live or self.fills:
            tickets = [row.ticket for row in self.live] or [fill.ticket for fill in self.fills]
            self._pass()
            share = (time.monotonic() - began) / len(tickets)
            for ticket in tickets:
                ticket.seconds += share
            for ticket in bounded:
                if ticket.live and ticket.late:
                    self._stop(ticket)
        done, self.done = self.done, []
        return [(ticket.search, error or self._extension(ticket)) for ticket, error in done]

    def forget(self, search: int) -> None:
        """Drops a search's rows and its memory; cancellation takes effect at once."""
        self._drop([u for u in (*self.queue, *self.units) if u.rows[0].ticket.search == search])
        self.kept.forget(search)
        self.drafter.forget(search)

    # ------------------------------------------------------------------------------------------------------ what it holds

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

    # --------------------------------------------------------------------------------------------------- who runs next

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

    def _may(self, unit: _Unit, running: int) -> bool:
        """Whether there is a place. Since memory ran out rows in step overshoot no longer, unless nothing else runs."""
        if self.abreast is not None and running and running + len(unit.rows) > self.abreast:
            return False
        return running < self.max_rows

    def _fits(self, unit: _Unit, running: int) -> bool:
        """Whether the next token of all that runs, and this unit, would find room; kept steps can be dropped for it."""
        if self.plain or not running:
            return True
        need = running + sum(1 + pages_of(int(self.rows.counts[live.slot])) for live in unit.rows)
        first = unit.rows[0]
        if self.kept.get(first.ticket.search, first.base) is None:
            need += pages_of(len(first.row.prefix))
        return need <= self.pool.free_pages or self.kept.evict(need)

    def _base(self, live: _Live) -> None:
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

    def _fill(self, live: _Live, search: int, parent: Path) -> _Fill:
        tokens = np.asarray(live.row.prefix[:-1], dtype=np.int64)
        segment = self.kept.begun(search, parent, tokens)
        fill = _Fill(live.ticket, (search, parent), segment, tokens, self.rows.take())
        self.rows.place(fill.slot, *self.pool.view(segment), segment.end)
        live.ticket.cached_tokens += segment.end
        live.ticket.prompt_tokens += len(tokens) - segment.end
        if self.kept.known(search, parent):
            live.ticket.recomputed_tokens += len(tokens) - segment.end
        self.fills.append(fill)
        return fill

    def _start(self, live: _Live, base: Segment | None) -> None:
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
            self.fills.append(_Fill(live.ticket, None, live.segment, tokens, live.slot, [live]))
        else:
            live.ticket.prompt_tokens += 1  # the prefix's last token, which the row feeds itself
            self._ready(live)

    def _ready(self, live: _Live) -> None:
        """A row's memory is complete; its unit runs when all its rows' are."""
        live.unit.missing -= 1
        if live.unit.missing == 0:
            self.live += live.unit.rows
            self._order = None

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
        prompts = {_base_of(request, row): len(row.prefix) - 1 for row in rows}
        return sum(prompts.values()) + sum(1 + self._limit(row) for row in rows)

    def _afford(self, unit: _Unit) -> None:
        """Ends those rows of a unit about to be admitted for which what is left does not pay up to their next token: the last
        ones, so that none has its prompt computed for nothing."""
        ticket = unit.rows[0].ticket
        left, begun, over = ticket.left, set[Path](), list[_Live]()
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

    def _missing(self, live: _Live) -> int:
        """Tokens of a row's prefix that its search would pay for now."""
        search, parent, known = live.ticket.search, live.base, len(live.row.prefix) - 1
        if self.kept.get(search, parent) is not None or any(fill.key == (search, parent) for fill in self.fills):
            return 0
        found = self.kept.begun(search, parent, np.asarray(live.row.prefix[:-1], dtype=np.int64))
        self.pool.free(found)
        return known - found.end

    def _ration(self, ticket: _Ticket) -> None:
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

    def _whole(self, live: _Live) -> int:
        """What a row's next token is charged with where all of its sequence is computed again."""
        drawn = int(self.rows.counts[live.slot])
        return len(live.row.prefix) + (drawn or 1)

    def _stop(self, ticket: _Ticket) -> None:
        """Its seconds are over: ends all its rows, wherever they are."""
        waiting = [unit for unit in self.queue if unit.rows[0].ticket is ticket]
        self.queue = deque(unit for unit in self.queue if unit.rows[0].ticket is not ticket)
        self.units += waiting
        rows = [row for unit in self.units for row in unit.rows if row.ticket is ticket]
        self._unwait(rows)
        self._end([(row, Finish.BUDGET) for row in rows])

    # ---------------------------------------------------------------------------------------------------------- memory

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
            raise _TooSmall("the memory is too small for the rows that must run together; raise cache_mb")
        self._withdraw(unit)
        self.queue.appendleft(unit)
        if alone:  # the last pages of its many short steps are half empty: it comes back with its prefix in one piece
            unit.packed = True
            self.kept.evict(self.pool.capacity)

    def _withdraw(self, unit: _Unit) -> None:
        """Takes a unit out of all that runs, and its memory from it."""
        self._unwait(unit.rows)
        for row in unit.rows:
            if row.segment is not None:
                self.pool.free(row.segment)
                row.segment = None
        self._without(unit.rows)
        if unit in self.units:
            self.units.remove(unit)

    def _unwait(self, rows: Sequence[_Live]) -> None:
        """These rows wait for nothing any more; what nobody else waits for is given up."""
        gone = {id(row) for row in rows}
        for fill in list(self.fills):
            fill.waiting = [row for row in fill.waiting if id(row) not in gone]
            if not fill.waiting:
                self.fills.remove(fill)
                if fill.key is not None:
                    self.pool.free(fill.segment)
                    self.rows.leave(fill.slot)

    def _drop(self, units: Sequence[_Unit]) -> None:
        """Gives units up, and all that is theirs."""
        for unit in units:
            self._withdraw(unit)
            for row in unit.rows:
                self.rows.leave(row.slot)
        gone = {id(unit) for unit in units}
        self.queue = deque(unit for unit in self.queue if id(unit) not in gone)

    def _without(self, rows: Sequence[_Live]) -> None:
        gone = {id(row) for row in rows}
        self.live = [row for row in self.live if id(row) not in gone]
        self._order = None

    # --------------------------------------------------------------------------------------------------- memory runs out

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

    def _loosened(self, unit: _Unit) -> bool:
        """Lets rows that run in step only to share scarce FLOPs fairly come and go one by one instead; whether they did."""
        ticket = unit.rows[0].ticket
        if not ticket.partable or len(unit.rows) == 1:
            return False
        ticket.partable = ticket.lockstep = False
        self._withdraw(unit)
        singles = [_Unit([live]) for live in unit.rows]
        for single in singles:
            single.rows[0].unit = single
        self.queue.extendleft(reversed(singles))
        return True

    def _fail(self, ticket: _Ticket, error: Exception) -> None:
        """Ends a request with an error; its search's kept steps stay until it is forgotten."""
        self._drop([unit for unit in (*self.queue, *self.units) if unit.rows[0].ticket is ticket])
        ticket.live = 0
        self.done.append((ticket, error))

    def _recover(self) -> None:
        """Twice as much may run at once after CALM passes without a fault."""
        self._calm += 1
        if self._calm == CALM:
            self._calm, self.piece = 0, min(2 * self.piece, self.chunk)
            if self.abreast is not None:
                self.abreast = 2 * self.abreast if 2 * self.abreast < self.max_rows else None

    # ------------------------------------------------------------------------------------------------ computing tokens

    def _pass(self) -> None:
        """One pass; one of half the size where memory runs out, and so on until one goes through or nothing is left of it."""
        before, again = (self.abreast, self.piece), False
        while self.live or self.fills:
            try:
                found = self._computed()
            except _TooSmall as error:
                self._fail(self.units[-1].rows[0].ticket, OutOfMemory(str(error)))
                continue
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                why = said(error)
            else:
                self._settle(found)
                if self.abreast is not None or self.piece < self.chunk:
                    self._recover()
                return
            # beyond the except clause: the error holds the frames in which it was raised, and they hold the memory
            self._halve(why, before, again)
            released()
            again = True

    def _computed(self) -> _Computed | None:
        """All of a pass that takes memory. It makes room for new positions, and changes nothing else: it can be made again."""
        if isinstance(self.forward, PlainForward):
            logits = self._plain(self.forward)
            assert self._order is not None
            return _Computed(logits, self.rows.draw(self._order, logits), {}, [])
        guesses = self._guesses()
        slots, pieces = self._placed(guesses)
        if not len(slots) and not pieces:
            return None
        rows = self.rows
        parts = [(rows.next[slots], rows.ends[slots], slots)] if not guesses else self._guessed(slots, guesses)
        drawing = sum(len(ids) for ids, _, _ in parts)
        for fill, begin, end in pieces:
            parts.append((fill.tokens[begin:end], np.arange(begin, end), np.full(end - begin, fill.slot)))
        ids, positions, owners = (np.concatenate(column) for column in zip(*parts, strict=True))
        logits = self.forward(Batch(ids, rows.places(owners, positions), np.arange(drawing)))[:, : self.vocabulary.size]
        drawn = None
        if len(slots):
            drawn = rows.draw(slots, logits[self._index(self._heads(guesses))] if guesses else logits)
        return _Computed(logits, drawn, guesses, pieces)

    def _settle(self, found: _Computed | None) -> None:
        """What a pass found counts from here on."""
        if found is None:
            return
        if self.plain:
            for row in self.live:
                before = self._whole(row) - 1
                row.ticket.prompt_tokens += before
                row.ticket.recomputed_tokens += before if self.rows.counts[row.slot] else 0
        if found.drawn is not None:
            self._take(found.logits, found.drawn, found.guesses)
        for fill, _, end in found.pieces:
            self.rows.ends[fill.slot] = end
            if end == len(fill.tokens):
                self._filled(fill)

    def _heads(self, guesses: dict[int, list[int]]) -> Slots:
        """Where each live row's next token stands among the tokens of the pass: what it guesses stands behind it."""
        assert self._order is not None
        sizes = np.array([1 + len(guesses.get(slot, ())) for slot in self._order.tolist()])
        heads: Slots = np.cumsum(sizes) - sizes
        return heads

    def _index(self, places: Slots) -> torch.Tensor:
        return torch.from_numpy(places).to(self.device)

    def _guesses(self) -> dict[int, list[int]]:
        """By slot, what the rows may write after their next token: for rows that do not run in step, while memory is plenty."""
        if not self.drafter.most or self.abreast is not None or self.pool.free_pages < 2 * len(self.live):
            return {}
        found = {}
        spare: dict[int, int] = {}  # tokens that a bounded request's FLOPs pay for beyond its rows' next ones
        for live in self.live:
            if live.ticket.left is not None:
                spare[id(live.ticket)] = spare.get(id(live.ticket), live.ticket.left) - 1
        for live in self.live:
            left = int(self.rows.limits[live.slot] - self.rows.counts[live.slot]) - 1
            left = min(left, spare.get(id(live.ticket), left))
            if not live.ticket.lockstep and left > 0 and live.ticket.request.rules.pause is None:
                guess = self.drafter.guess(live.ticket.search, self._tail(live, LENGTHS[0]), left)
                if guess:
                    found[live.slot] = guess
                    if live.ticket.most is not None:
                        spare[id(live.ticket)] -= len(guess)
        return found

    def _guessed(self, slots: Slots, guesses: dict[int, list[int]]) -> list[tuple[Slots, Slots, Slots]]:
        """Each row's next token and its guess, with their positions and slots."""
        parts = []
        for slot in slots.tolist():
            ids = np.array([self.rows.next[slot], *guesses.get(slot, ())], dtype=np.int64)
            end = int(self.rows.ends[slot])
            parts.append((ids, np.arange(end, end + len(ids)), np.full(len(ids), slot)))
        return parts

    def _tail(self, live: _Live, most: int) -> list[int]:
        """The last tokens of a row's sequence."""
        count = int(self.rows.counts[live.slot])
        drawn: list[int] = self.rows.tokens[live.slot, max(count - most, 0) : count].tolist()
        return [*live.row.prefix[len(drawn) - most :], *drawn] if len(drawn) < most else drawn

    def _placed(self, guesses: dict[int, list[int]]) -> tuple[Slots, list[tuple[_Fill, int, int]]]:
        """What goes into this pass, all of it with room; making room for one may have taken it from another."""
        while True:
            slots, pieces = self._room(guesses), self._pieces()
            if self._order is not None and all(piece[0] in self.fills for piece in pieces):
                return slots, pieces

    def _room(self, guesses: dict[int, list[int]]) -> Slots:
        """The live rows' slots, each with a place for its next token and what is guessed after it."""
        if self._order is None:
            self._order = np.array([row.slot for row in self.live], dtype=np.int64)
        rows = self.rows
        ends = rows.ends[self._order]
        if guesses:
            ends = ends + np.array([len(guesses.get(slot, ())) for slot in self._order.tolist()])
        full = ends >= rows.room[self._order]
        if full.any():
            for row, end in [(self.live[i], int(ends[i])) for i in np.flatnonzero(full)]:
                if row.segment is not None:  # not taken away for another's sake meanwhile
                    begin = row.segment.begin
                    room = begin + pages_of(end + 1 - begin) * PAGE
                    self._append(row.segment, row.slot, room - row.segment.end)
            if self._order is None:  # some went to make room
                return self._room(guesses)
        return self._order

    def _pieces(self) -> list[tuple[_Fill, int, int]]:
        """What of the fills goes into this pass, first come first served."""
        left, pieces = self.piece, []
        for fill in list(self.fills):
            if left == 0:
                break
            begin = int(self.rows.ends[fill.slot])
            end = min(begin + left, len(fill.tokens))
            if fill in self.fills and self._append(fill.segment, fill.slot, end - fill.segment.end):
                pieces.append((fill, begin, end))
                left -= end - begin
        return pieces

    def _filled(self, fill: _Fill) -> None:
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

    def _plain(self, forward: PlainForward) -> torch.Tensor:
        sequences = []
        for row in self.live:
            drawn = int(self.rows.counts[row.slot])
            sequences.append(np.asarray([*row.row.prefix, *self.rows.tokens[row.slot, :drawn]], dtype=np.int64))
        self._order = np.array([row.slot for row in self.live], dtype=np.int64)
        return forward.whole(sequences)[:, : self.vocabulary.size]

    def _take(self, logits: torch.Tensor, drawn: Drawn, guesses: dict[int, list[int]]) -> None:
        """Gives each live row the token drawn for it, further ones where it was guessed right, and ends the rows and requests
        that are due.

        A token is a function of its row's logits and noise alone, so a right guess has the logits of the next token at
        hand, and a wrong one costs nothing but its place."""
        assert self._order is not None
        drawing, slots, paused = list(self.live), self._order, list[tuple[_Live, Finish]]()
        if any(live.ticket.request.rules.pause for live in drawing):
            paused = self._paused(drawing, logits if not guesses else logits[self._index(self._heads(guesses))], drawn)
        if paused:
            gone = {id(live) for live, _ in paused}
            keep = np.array([i for i, live in enumerate(drawing) if id(live) not in gone], dtype=np.int64)
            drawing, slots, drawn = [drawing[i] for i in keep], slots[keep], part_of(drawn, torch.from_numpy(keep))
        if not drawing:
            self._end(paused)
            return
        ended, tokens = self._append_drawn(drawing, slots, drawn)
        if guesses:
            for live in drawing:
                live.ticket.drafted_tokens += len(guesses.get(live.slot, ()))
            ended = self._ahead(drawing, tokens, ended, logits, guesses)
        ended = paused + ended
        self._end(ended)
        self._cut({id(row.ticket): row.ticket for row, _ in ended}.values())

    def _paused(self, drawing: list[_Live], logits: torch.Tensor, drawn: Drawn) -> list[tuple[_Live, Finish]]:
        """The rows that a rule stops before the token that was drawn for them; each knows then what that may be."""
        entropies, paused = drawn.entropies.cpu().numpy(), []
        for i, live in enumerate(drawing):
            rule = live.ticket.request.rules.pause
            entropy = float(entropies[i])
            if rule is not None and pauses(rule, self.rows, live.slot, len(live.row.begin), entropy):
                live.ahead = foretold(rule, logits[i], entropy, live.row.seed, int(self.rows.counts[live.slot]))
                paused.append((live, Finish.PAUSE))
        return paused

    def _ahead(
        self,
        drawing: list[_Live],
        tokens: Slots,
        ended: list[tuple[_Live, Finish]],
        logits: torch.Tensor,
        guesses: dict[int, list[int]],
    ) -> list[tuple[_Live, Finish]]:
        """Goes on with the rows whose newest token was guessed right, one token after the other; all the rows that ended."""
        at, over = self._heads(guesses), {id(live) for live, _ in ended}
        if len(at) > len(drawing):  # some have paused
            running = {id(live) for live in drawing}
            at = at[[id(live) in running for live in self.live]]
        for depth in range(max(map(len, guesses.values()))):
            right = []
            for i, live in enumerate(drawing):
                guess = guesses.get(live.slot, ())
                if depth < len(guess) and tokens[i] == guess[depth]:
                    live.ticket.accepted_tokens += 1
                    right += [] if id(live) in over else [i]
            drawing, at = [drawing[i] for i in right], at[right]
            if not drawing:
                break
            slots = np.array([live.slot for live in drawing], dtype=np.int64)
            try:
                drawn = self.rows.draw(slots, logits[self._index(at + depth + 1)])
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                for live in drawing:  # what was guessed right is computed again
                    live.ticket.accepted_tokens -= 1
                break
            more, tokens = self._append_drawn(drawing, slots, drawn)
            ended = ended + more
            over = {id(live) for live, _ in more}
        return ended

    def _append_drawn(self, drawing: list[_Live], slots: Slots, drawn: Drawn) -> tuple[list[tuple[_Live, Finish]], Slots]:
        """Gives each of these rows the token drawn for it; those that it ends and why, and the tokens."""
        tokens = self.rows.append(slots, drawn)
        for live in drawing:
            live.ticket.used += 1
            if self.drafter.most:
                self.drafter.learn(live.ticket.search, self._tail(live, LENGTHS[0] + 1), 1)
        return self._ended(drawing, slots, tokens), tokens

    def _ended(self, drawing: list[_Live], slots: Slots, tokens: NDArray[np.int64]) -> list[tuple[_Live, Finish]]:
        """The rows that their newest token ends, and why. Only tokens that may end something are looked at one by one."""
        rows, vocabulary = self.rows, self.vocabulary
        special = vocabulary.special[tokens]
        edges = rows.edge[slots]
        inked = rows.inked[slots]
        rows.edge[slots] = False
        rows.inked[slots] |= ~vocabulary.blank[tokens]
        looked = special | (rows.counts[slots] >= rows.limits[slots])
        if any(live.ticket.request.stops or live.ticket.request.rules.marks for live in drawing):
            looked |= True
        ended = []
        for i in np.flatnonzero(looked):
            live = drawing[i]
            finish = self._finish(live, int(tokens[i]), bool(edges[i]), bool(inked[i]))
            if finish is None and rows.counts[live.slot] >= rows.limits[live.slot]:
                finish = Finish.LENGTH
            if finish is not None:
                ended.append((live, finish))
        if any(live.ticket.request.rules.unsure for live in drawing):
            over = {id(live) for live, _ in ended}
            ended += [(live, Finish.UNSURE) for live in drawing if id(live) not in over and self._unsure(live)]
        return ended

    def _unsure(self, live: _Live) -> bool:
        rule = live.ticket.request.rules.unsure
        return rule is not None and unsure(rule, self.rows, live.slot)

    def _finish(self, live: _Live, token: int, edge: bool, inked: bool) -> Finish | None:
        vocabulary, request = self.vocabulary, live.ticket.request
        if token in vocabulary.ends or (request.stops and self._stopped(live, token, request.stops)):
            return Finish.END
        marks = request.rules.marks
        if marks and request.until is Until.STEP and self._stopped(live, token, marks):
            return Finish.STEP
        kind = vocabulary.newlines.get(token) if request.until is Until.STEP else None
        if kind is None:
            return None
        self.rows.edge[live.slot] = kind.last
        self.rows.inked[live.slot] = inked or kind.inked
        separated = kind.inside or (edge and kind.first)
        return Finish.STEP if separated and (inked or kind.inked_before) else None

    def _stopped(self, live: _Live, token: int, stops: Sequence[str]) -> bool:
        """Whether the newest token completes one of these strings, which may have begun some tokens before."""
        if not self.vocabulary.may_complete(token, stops):
            return False
        count = int(self.rows.counts[live.slot])
        window = max(len(stop.encode()) for stop in stops) + 1  # a token holds a byte or more
        text = self.vocabulary.text((), self.rows.tokens[live.slot, max(count - window, 0) : count].tolist())
        return any(stop in text for stop in stops)

    def _cut(self, tickets: Iterable[_Ticket]) -> None:
        """The rules that look at all rows: where those that have ended suffice, the others are cancelled at that length."""
        due = set()
        for ticket in tickets:
            first, halt = ticket.request.first, ticket.request.rules.halt
            enough = first is not None and ticket.ended >= first
            if halt is not None and ticket.live and not enough:
                try:
                    enough = halt.decide(ticket.ends)
                except Exception as error:  # a rule's fault ends its own request, whatever it is
                    self._fail(ticket, error)
                    continue
            if enough:
                due.add(id(ticket))
        if due:
            self._end([(row, Finish.CANCELLED) for row in self.live if id(row.ticket) in due])

    def _end(self, ended: Sequence[tuple[_Live, Finish]]) -> None:
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

    def _step(self, live: _Live, finish: Finish) -> Step:
        rows, slot = self.rows, live.slot
        count = int(rows.counts[slot])
        tokens = rows.tokens[slot, :count].copy()
        logprobs, certainties, entropies, drawn, confidences = rows.statistics[slot, :, :count].copy()
        text = self.vocabulary.text(live.row.prefix, tokens.tolist())
        asked = live.ticket.request.sampling.confidence > 0
        kept = confidences if asked else None
        return Step(tokens, text, logprobs, certainties, entropies, finish, drawn, kept, ahead=live.ahead)

    def _extension(self, ticket: _Ticket) -> Extension:
        return Extension(
            steps=tuple(step for step in ticket.steps if step is not None),
            prompt_tokens=ticket.prompt_tokens,
            cached_tokens=ticket.cached_tokens,
            recomputed_tokens=ticket.recomputed_tokens,
            drafted_tokens=ticket.drafted_tokens,
            accepted_tokens=ticket.accepted_tokens,
            flops=2.0 * self.parameters * ticket.computed,
            queue_seconds=ticket.admitted - ticket.submitted,
            seconds=ticket.seconds,
        )
