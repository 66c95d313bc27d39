"""The generation core: many searches' requests in, steps out, one token-level loop over all of them.

A pass holds the next token of every running row and up to `chunk` tokens of prompts on their way, so that no row waits for a
prompt. A row that ends leaves at once and the next one takes its place. Rows of a request whose stop rules look at all of them
(the first m to finish, an allowance that may bind) run in step, so what the rules do depends on the texts alone;
other rows come and go one by one.

When memory runs short, kept steps go first, the least recently used before others; then the rows that were admitted last, whose
tokens stay and whose keys and values are computed again later.
"""

from __future__ import annotations

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
from pipelines.engine.vocabulary import Vocabulary
from search.types import ROOT, Extend, Extension, Finish, Path, Row, Step, Until, parent_of

CHUNK = 256  # prompt tokens in one pass beside the running rows'

Key = tuple[int, Path]
Slots = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class _Ticket:
    """A request on its way."""

    search: int
    request: Extend
    submitted: float
    steps: list[Step | None]
    live: int  # rows that have not ended
    tight: bool = False  # whether the allowance may bind
    ended: int = 0  # rows that ended by themselves
    used: int = 0  # tokens generated
    prompt_tokens: int = 0
    cached_tokens: int = 0
    recomputed_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    admitted: float = 0.0
    seconds: float = 0.0

    @property
    def lockstep(self) -> bool:
        return self.tight or self.request.first is not None


@dataclass(slots=True, eq=False)
class _Live:
    """A row that is waiting or running."""

    ticket: _Ticket
    index: int  # in the request
    row: Row
    slot: int
    unit: _Unit
    segment: Segment | None = None  # its own positions, while it has memory


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
        self.done: list[tuple[int, Extension]] = []
        self._order: Slots | None = None  # slots of the live rows

    # --------------------------------------------------------------------------------------------- what a driver calls

    def submit(self, search: int, request: Extend) -> None:
        """Queues a request. Raises ValueError where a prefix leaves no room in the model's context, or rows that run in step
        would not fit the memory."""
        for row in request.rows:
            if len(row.prefix) >= self.context:
                raise ValueError(f"the prompt has {len(row.prefix)} tokens and the model's context {self.context}")
        ticket = _Ticket(search, request, time.monotonic(), [None] * len(request.rows), len(request.rows))
        if request.allowance is not None:
            ticket.tight = sum(self._limit(row) for row in request.rows) > request.allowance
        if ticket.lockstep:
            need = sum(pages_of(len(row.prefix) + self._limit(row)) + 1 for row in request.rows)
            if not self.plain and need > self.pool.capacity:
                have, wanted = (-(-n * self.page_bytes // (1 << 20)) for n in (self.pool.capacity, need))
                raise ValueError(
                    f"{len(request.rows)} rows in step may take {wanted} MiB of memory and cache_mb is {have}; raise it"
                )
        self.kept.drop(search, request.dropped)
        unit = _Unit()
        for index, row in enumerate(request.rows):
            slot = self.rows.take()
            self.rows.begin(slot, row.seed, self._limit(row), request.sampling, row.prefix)
            unit.rows.append(_Live(ticket, index, row, slot, unit))
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
    def advance(self) -> list[tuple[int, Extension]]:
        """Admits what there is room for, then computes one pass: a token for every running row, and pieces of prompts."""
        began = time.monotonic()
        self._admit()
        for ticket in {id(r.ticket): r.ticket for r in self.live if r.ticket.tight}.values():
            self._ration(ticket)
        if self.live or self.fills:
            tickets = [row.ticket for row in self.live] or [fill.ticket for fill in self.fills]
            self._pass()
            share = (time.monotonic() - began) / len(tickets)
            for ticket in tickets:
                ticket.seconds += share
        done, self.done = self.done, []
        return done

    def forget(self, search: int) -> None:
        """Drops a search's rows and its memory; cancellation takes effect at once."""
        for unit in [u for u in (*self.queue, *self.units) if u.rows[0].ticket.search == search]:
            self._withdraw(unit)
            for row in unit.rows:
                self.rows.leave(row.slot)
        self.queue = deque(u for u in self.queue if u.rows[0].ticket.search != search)
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
        while self.queue and running < self.max_rows and self._fits(self.queue[0], running):
            unit = self.queue.popleft()
            self.units.append(unit)
            running += len(unit.rows)
            unit.missing = len(unit.rows)
            for live in unit.rows:
                live.ticket.admitted = live.ticket.admitted or time.monotonic()
                if self.plain:
                    self._ready(live)
                else:
                    self._base(live)

    def _fits(self, unit: _Unit, running: int) -> bool:
        """Whether the next token of all that runs, and this unit, would find room; kept steps can be dropped for it."""
        if self.plain or not running:
            return True
        need = running + sum(1 + pages_of(int(self.rows.counts[live.slot])) for live in unit.rows)
        first = unit.rows[0]
        if self.kept.get(first.ticket.search, parent_of(first.row.path)) is None:
            need += pages_of(len(first.row.prefix))
        return need <= self.pool.free_pages or self.kept.evict(need)

    def _base(self, live: _Live) -> None:
        """Finds the memory of a row's prefix, or has it computed from the longest part that is held."""
        search, parent, known = live.ticket.search, parent_of(live.row.path), len(live.row.prefix) - 1
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
        live.segment = self.pool.fork(base) if base is not None else self.pool.alloc()
        self.rows.place(live.slot, *self.pool.view(live.segment), live.segment.end)
        drawn = int(self.rows.counts[live.slot])
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

    def _ration(self, ticket: _Ticket) -> None:
        """Where the allowance no longer gives every live row a token, only the first rows get one."""
        left = max((ticket.request.allowance or 0) - ticket.used, 0)
        rows = sorted((row for row in self.live if row.ticket is ticket), key=lambda row: row.index)
        if len(rows) > left:
            self._end([(row, Finish.BUDGET) for row in rows[left:]])

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
            self.rows.extend(slot, pages, segment.end)
            return True

    def _preempt(self) -> None:
        """Takes the memory of what was admitted last; it waits at the head of the queue, and keeps its tokens."""
        unit, alone = self.units[-1], len(self.units) == 1
        if alone and unit.packed:
            raise MemoryError("the memory is too small for the rows that must run together; raise cache_mb")
        self._withdraw(unit)
        self.queue.appendleft(unit)
        if alone:  # the last pages of its many short steps are half empty: it comes back with its prefix in one piece
            unit.packed = True
            self.kept.evict(self.pool.capacity)

    def _withdraw(self, unit: _Unit) -> None:
        """Takes a unit out of all that runs, and its memory from it."""
        gone = {id(row) for row in unit.rows}
        for fill in list(self.fills):
            fill.waiting = [row for row in fill.waiting if id(row) not in gone]
            if not fill.waiting:
                self.fills.remove(fill)
                if fill.key is not None:
                    self.pool.free(fill.segment)
                    self.rows.leave(fill.slot)
        for row in unit.rows:
            if row.segment is not None:
                self.pool.free(row.segment)
                row.segment = None
        self._without(unit.rows)
        if unit in self.units:
            self.units.remove(unit)

    def _without(self, rows: Sequence[_Live]) -> None:
        gone = {id(row) for row in rows}
        self.live = [row for row in self.live if id(row) not in gone]
        self._order = None

    # ------------------------------------------------------------------------------------------------ computing tokens

    def _pass(self) -> None:
        if isinstance(self.forward, PlainForward):
            self._take(self._plain(self.forward))
            return
        guesses = self._guesses()
        slots, pieces = self._placed(guesses)
        if not len(slots) and not pieces:
            return
        rows = self.rows
        parts = [(rows.next[slots], rows.ends[slots], slots)] if not guesses else self._guessed(slots, guesses)
        drawing = sum(len(ids) for ids, _, _ in parts)
        for fill, begin, end in pieces:
            parts.append((fill.tokens[begin:end], np.arange(begin, end), np.full(end - begin, fill.slot)))
        ids, positions, owners = (np.concatenate(column) for column in zip(*parts, strict=True))
        logits = self.forward(Batch(ids, rows.places(owners, positions), np.arange(drawing)))
        if len(slots):
            self._take(logits[:, : self.vocabulary.size], guesses)
        for fill, _, end in pieces:
            rows.ends[fill.slot] = end
            if end == len(fill.tokens):
                self._filled(fill)

    def _guesses(self) -> dict[int, list[int]]:
        """By slot, what the rows may write after their next token: for rows that do not run in step, while memory is plenty."""
        if not self.drafter.most or self.pool.free_pages < 2 * len(self.live):
            return {}
        found = {}
        for live in self.live:
            left = int(self.rows.limits[live.slot] - self.rows.counts[live.slot]) - 1
            if not live.ticket.lockstep and left > 0:
                guess = self.drafter.guess(live.ticket.search, self._tail(live, LENGTHS[0]), left)
                if guess:
                    found[live.slot] = guess
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
        left, pieces = self.chunk, []
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
        if path == ROOT:
            self.kept.publish(fill.tokens, fill.segment)
        for live in fill.waiting:
            self._start(live, fill.segment)

    def _plain(self, forward: PlainForward) -> torch.Tensor:
        sequences = []
        for row in self.live:
            drawn = int(self.rows.counts[row.slot])
            sequences.append(np.asarray([*row.row.prefix, *self.rows.tokens[row.slot, :drawn]], dtype=np.int64))
            row.ticket.prompt_tokens += len(row.row.prefix) if drawn == 0 else len(sequences[-1]) - 1
            row.ticket.recomputed_tokens += 0 if drawn == 0 else len(sequences[-1]) - 1
        self._order = np.array([row.slot for row in self.live], dtype=np.int64)
        return forward.whole(sequences)[:, : self.vocabulary.size]

    def _take(self, logits: torch.Tensor, guesses: dict[int, list[int]] | None = None) -> None:
        """Draws a token for each live row, further ones where it was guessed right, and ends the rows and requests that are
        due.

        A token is a function of its row's logits and noise alone, so a right guess has the logits of the next token at
        hand, and a wrong one costs nothing but its place."""
        assert self._order is not None
        drawing, ended = list(self.live), list[tuple[_Live, Finish]]()
        if not guesses:
            ended, _ = self._draw(drawing, self._order, logits)
        else:
            sizes = np.array([1 + len(guesses.get(slot, ())) for slot in self._order.tolist()])
            at = np.cumsum(sizes) - sizes
            for depth in range(int(sizes.max())):
                slots = np.array([live.slot for live in drawing], dtype=np.int64)
                over, tokens = self._draw(drawing, slots, logits[torch.from_numpy(at + depth).to(self.device)])
                ended += over
                gone = {id(live) for live, _ in over}
                right = []
                for i, live in enumerate(drawing):
                    guess = guesses.get(live.slot, ())
                    live.ticket.drafted_tokens += len(guess) if depth == 0 else 0
                    if depth < len(guess) and tokens[i] == guess[depth]:
                        live.ticket.accepted_tokens += 1
                        right += [] if id(live) in gone else [i]
                drawing, at = [drawing[i] for i in right], at[right]
                if not drawing:
                    break
        self._end(ended)
        self._cut({id(row.ticket): row.ticket for row, _ in ended if row.ticket.request.first}.values())

    def _draw(
        self, drawing: list[_Live], slots: Slots, logits: torch.Tensor
    ) -> tuple[list[tuple[_Live, Finish]], NDArray[np.int64]]:
        """Draws one token for each of these rows; those that it ends and why, and the tokens."""
        rows = self.rows
        drawn = rows.draw(slots, logits)
        tokens = rows.append(slots, drawn)
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
        if any(live.ticket.request.stops for live in drawing):
            looked |= True
        ended = []
        for i in np.flatnonzero(looked):
            live = drawing[i]
            finish = self._finish(live, int(tokens[i]), bool(edges[i]), bool(inked[i]))
            if finish is None and rows.counts[live.slot] >= rows.limits[live.slot]:
                finish = Finish.LENGTH
            if finish is not None:
                ended.append((live, finish))
        return ended

    def _finish(self, live: _Live, token: int, edge: bool, inked: bool) -> Finish | None:
        vocabulary, request = self.vocabulary, live.ticket.request
        if token in vocabulary.ends or (request.stops and self._stopped(live, token)):
            return Finish.END
        kind = vocabulary.newlines.get(token) if request.until is Until.STEP else None
        if kind is None:
            return None
        self.rows.edge[live.slot] = kind.last
        self.rows.inked[live.slot] = inked or kind.inked
        separated = kind.inside or (edge and kind.first)
        return Finish.STEP if separated and (inked or kind.inked_before) else None

    def _stopped(self, live: _Live, token: int) -> bool:
        """Whether the newest token completes a stop string, which may have begun some tokens before."""
        stops = live.ticket.request.stops
        if not self.vocabulary.may_complete(token, stops):
            return False
        count = int(self.rows.counts[live.slot])
        window = max(len(stop.encode()) for stop in stops) + 1  # a token holds a byte or more
        text = self.vocabulary.text((), self.rows.tokens[live.slot, max(count - window, 0) : count].tolist())
        return any(stop in text for stop in stops)

    def _cut(self, tickets: Iterable[_Ticket]) -> None:
        """The first-m-finish rule: rows that run on when m have ended are cancelled at that length."""
        due = {id(t) for t in tickets if t.request.first is not None and t.ended >= t.request.first}
        if due:
            self._end([(row, Finish.CANCELLED) for row in self.live if id(row.ticket) in due])

    def _end(self, ended: Sequence[tuple[_Live, Finish]]) -> None:
        """Turns rows into steps, keeps what they computed for their children, and closes requests with their last row."""
        if not ended:
            return
        for live, finish in ended:
            ticket, slot = live.ticket, live.slot
            ticket.steps[live.index] = self._step(live, finish)
            ticket.ended += finish in (Finish.END, Finish.STEP)
            if live.segment is not None:
                self.pool.shorten(live.segment, int(self.rows.ends[slot]))
                if ticket.request.until is Until.STEP and finish in (Finish.STEP, Finish.LENGTH):
                    self.kept.put(ticket.search, live.row.path, live.segment)
                else:
                    self.pool.free(live.segment)
            self.rows.leave(slot)
            live.unit.rows.remove(live)
            if not live.unit.rows:
                self.units.remove(live.unit)
            ticket.live -= 1
            if ticket.live == 0:
                self.done.append((ticket.search, self._extension(ticket)))
        self._without([live for live, _ in ended])

    def _step(self, live: _Live, finish: Finish) -> Step:
        rows, slot = self.rows, live.slot
        count = int(rows.counts[slot])
        tokens = rows.tokens[slot, :count].copy()
        logprobs, certainties, entropies, drawn, confidences = rows.statistics[slot, :, :count].copy()
        text = self.vocabulary.text(live.row.prefix, tokens.tolist())
        asked = live.ticket.request.sampling.confidence > 0
        return Step(tokens, text, logprobs, certainties, entropies, finish, drawn, confidences if asked else None)

    def _extension(self, ticket: _Ticket) -> Extension:
        computed = ticket.prompt_tokens + ticket.used + ticket.drafted_tokens - ticket.accepted_tokens
        return Extension(
            steps=tuple(step for step in ticket.steps if step is not None),
            prompt_tokens=ticket.prompt_tokens,
            cached_tokens=ticket.cached_tokens,
            recomputed_tokens=ticket.recomputed_tokens,
            drafted_tokens=ticket.drafted_tokens,
            accepted_tokens=ticket.accepted_tokens,
            flops=2.0 * self.parameters * computed,
            queue_seconds=ticket.admitted - ticket.submitted,
            seconds=ticket.seconds,
        )
