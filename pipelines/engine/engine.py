"""The generation core: many searches' requests in, steps out, one token-level loop over all of them.

A pass holds the next token of every running row and up to `chunk` tokens of prompts on their way, so that no row waits for a
prompt. A row that ends leaves at once and the next one takes its place. Rows of a request whose stop rules look at all of them
(the first m to finish, an allowance that may bind) run in step, so what the rules do depends on the texts alone;
other rows come and go one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.engine.admission import Admission
from pipelines.engine.batch import Batch
from pipelines.engine.draft import LENGTHS
from pipelines.engine.ends import Ends
from pipelines.engine.forward import PlainForward
from pipelines.engine.guesses import Guesses, guessed, guesses_for, heads, tail
from pipelines.engine.pages import PAGE, pages_of
from pipelines.engine.residents import CALM, CHUNK, TooSmall
from pipelines.engine.ruling import foretold, pauses
from pipelines.engine.sampler import Drawn, part_of
from pipelines.engine.scarce import OutOfMemory, out_of_memory, released, said
from pipelines.engine.tickets import Fill, Live, Ticket, Unit, base_of
from search.types import ROOT, Extend, Extension, Finish, parent_of

Slots = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Computed:
    """What a pass found, before anything of it counts."""

    logits: torch.Tensor
    drawn: Drawn | None  # the next token of each live row; None where no row runs yet
    guesses: Guesses
    pieces: list[tuple[Fill, int, int]]


class Engine(Admission):
    """A causal language model that answers Extend requests. Not thread-safe: one driver owns it."""

    @cached_property
    def ends(self) -> Ends:
        return Ends(self.vocabulary, self.rows)

    def submit(self, search: int, request: Extend) -> None:
        """Queues a request. Raises ValueError where a prefix leaves no room in the model's context, or rows that run in step
        would not fit the memory."""
        for row in request.rows:
            if len(row.prefix) >= self.context:
                raise ValueError(f"the prompt has {len(row.prefix)} tokens and the model's context {self.context}")
            if row.begin and not 0 <= min(row.begin) <= max(row.begin) < self.vocabulary.size:
                raise ValueError(f"tokens to begin with must be below {self.vocabulary.size}, not {max(row.begin)}")
        ticket = Ticket(search, request, time.monotonic(), [None] * len(request.rows), len(request.rows))
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
        unit = Unit()
        for index, row in enumerate(request.rows):
            slot = self.rows.take()
            self.rows.begin(slot, row.seed, self._limit(row), request.sampling, row.prefix, row.begin)
            unit.rows.append(Live(ticket, index, row, slot, unit, base_of(request, row)))
            if not ticket.lockstep:
                self.queue.append(unit)
                unit = Unit()
            if self.drafter.most and (index == 0 or row.prefix != request.rows[index - 1].prefix):
                self.drafter.learn(search, row.prefix, len(row.prefix) if parent_of(row.path) == ROOT else 0)
        if ticket.lockstep:
            self.queue.append(unit)

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.fills or self.live or self.done)

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

    def _pass(self) -> None:
        """One pass; one of half the size where memory runs out, and so on until one goes through or nothing is left of it."""
        before, again = (self.abreast, self.piece), False
        while self.live or self.fills:
            try:
                found = self._computed()
            except TooSmall as error:
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
        guesses = self._foreseen()
        slots, pieces = self._placed(guesses)
        if not len(slots) and not pieces:
            return None
        rows = self.rows
        parts = [(rows.next[slots], rows.ends[slots], slots)] if not guesses else guessed(slots, rows, guesses)
        drawing = sum(len(ids) for ids, _, _ in parts)
        for fill, begin, end in pieces:
            parts.append((fill.tokens[begin:end], np.arange(begin, end), np.full(end - begin, fill.slot)))
        ids, positions, owners = (np.concatenate(column) for column in zip(*parts, strict=True))
        logits = self.forward(Batch(ids, rows.places(owners, positions), np.arange(drawing)))[:, : self.vocabulary.size]
        drawn = None
        if len(slots):
            drawn = rows.draw(slots, logits[self._index(heads(slots, guesses))] if guesses else logits)
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

    def _index(self, places: Slots) -> torch.Tensor:
        return torch.from_numpy(places).to(self.device)

    def _placed(self, guesses: Guesses) -> tuple[Slots, list[tuple[Fill, int, int]]]:
        """What goes into this pass, all of it with room; making room for one may have taken it from another."""
        while True:
            slots, pieces = self._room(guesses), self._pieces()
            if self._order is not None and all(piece[0] in self.fills for piece in pieces):
                return slots, pieces

    def _room(self, guesses: Guesses) -> Slots:
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

    def _pieces(self) -> list[tuple[Fill, int, int]]:
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

    def _plain(self, forward: PlainForward) -> torch.Tensor:
        sequences = []
        for row in self.live:
            drawn = int(self.rows.counts[row.slot])
            sequences.append(np.asarray([*row.row.prefix, *self.rows.tokens[row.slot, :drawn]], dtype=np.int64))
        self._order = np.array([row.slot for row in self.live], dtype=np.int64)
        return forward.whole(sequences)[:, : self.vocabulary.size]

    def _take(self, logits: torch.Tensor, drawn: Drawn, guesses: Guesses) -> None:
        """Gives each live row the token drawn for it, further ones where it was guessed right, and ends the rows and requests
        that are due.

        A token is a function of its row's logits and noise alone, so a right guess has the logits of the next token at
        hand, and a wrong one costs nothing but its place."""
        assert self._order is not None
        drawing, slots, paused = list(self.live), self._order, list[tuple[Live, Finish]]()
        if any(live.ticket.request.rules.pause for live in drawing):
            paused = self._paused(drawing, logits if not guesses else logits[self._index(heads(self._order, guesses))], drawn)
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

    def _paused(self, drawing: list[Live], logits: torch.Tensor, drawn: Drawn) -> list[tuple[Live, Finish]]:
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
        drawing: list[Live],
        tokens: Slots,
        ended: list[tuple[Live, Finish]],
        logits: torch.Tensor,
        guesses: Guesses,
    ) -> list[tuple[Live, Finish]]:
        """Goes on with the rows whose newest token was guessed right, one token after the other; all the rows that ended."""
        assert self._order is not None
        at, over = heads(self._order, guesses), {id(live) for live, _ in ended}
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

    def _append_drawn(self, drawing: list[Live], slots: Slots, drawn: Drawn) -> tuple[list[tuple[Live, Finish]], Slots]:
        """Gives each of these rows the token drawn for it; those that it ends and why, and the tokens."""
        tokens = self.rows.append(slots, drawn)
        for live in drawing:
            live.ticket.used += 1
            if self.drafter.most:
                self.drafter.learn(live.ticket.search, tail(self.rows, live, LENGTHS[0] + 1), 1)
        return self.ends.of(drawing, slots, tokens), tokens

    def _cut(self, tickets: Iterable[Ticket]) -> None:
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

    def _extension(self, ticket: Ticket) -> Extension:
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

    def _foreseen(self) -> Guesses:
        """Guesses ahead while memory is plenty."""
        if not self.drafter.most or self.abreast is not None or self.pool.free_pages < 2 * len(self.live):
            return {}
        return guesses_for(self.live, self.rows, self.drafter)


__all__ = ["CALM", "CHUNK", "Engine"]
