"""The generation core: many searches' requests in, steps out, one token for every running row at a time.

A request is admitted whole and its rows run in step, so what its stop rules do depends on its texts alone. Rows of all
requests share one batch; a row that ends leaves it at once and the next request takes the place.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.engine.cache import Segments, Slots
from pipelines.engine.forward import Decode, Fresh
from pipelines.engine.sampler import Drawn, Settings, draw
from pipelines.engine.vocabulary import Vocabulary
from search.types import ROOT, Extend, Extension, Finish, Row, Step, Until, lineage, parent_of

LEAST_ROWS = 16  # smaller batches are padded to this: below it, matrix products on CPU round differently
PREFILL_TOKENS = 8192  # padded tokens of one prefill pass


@dataclass(slots=True, eq=False)
class _Ticket:
    """A request on its way."""

    search: int
    request: Extend
    submitted: float
    steps: list[Step | None]
    live: int
    ended: int = 0  # rows that ended by themselves
    used: int = 0  # tokens generated
    tight: bool = False  # whether the allowance may bind
    prompt_tokens: int = 0
    cached_tokens: int = 0
    admitted: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True, eq=False)
class _Live:
    """A running row; its slot is its place in the engine's list."""

    ticket: _Ticket
    index: int  # in the request
    row: Row
    position: int  # of the token fed next
    count: int = 0  # tokens drawn
    inked: bool = False  # whether anything but white space was written
    edge: bool = False  # whether the last token ends in a newline
    tokens: list[int] = field(default_factory=list)


class Engine:
    """A causal language model that answers Extend requests. Not thread-safe: one driver owns it."""

    def __init__(
        self, model: Any, vocabulary: Vocabulary, *, context: int, max_rows: int = 256, cache_bytes: int = 1 << 30
    ) -> None:
        config = model.config
        self.model, self.vocabulary, self.context, self.max_rows = model, vocabulary, context, max_rows
        self.parameters = sum(p.numel() for p in model.parameters())
        self.device = next(model.parameters()).device
        dtype = next(model.parameters()).dtype
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.slots = Slots(config.num_hidden_layers, heads, size, dtype, self.device)
        self.segments = Segments(cache_bytes)
        self.queue: deque[_Ticket] = deque()
        self.live: list[_Live] = []
        self.batch = _Batch(self.device)
        self.done: list[tuple[int, Extension]] = []

    # --------------------------------------------------------------------------------------------- what a driver calls

    def submit(self, search: int, request: Extend) -> None:
        """Queues a request. Raises ValueError where a prefix leaves no room in the model's context."""
        for row in request.rows:
            if len(row.prefix) >= self.context:
                raise ValueError(f"the prompt has {len(row.prefix)} tokens and the model's context {self.context}")
        ticket = _Ticket(search, request, time.monotonic(), [None] * len(request.rows), len(request.rows))
        if request.allowance is not None:
            ticket.tight = sum(self._limit(row) for row in request.rows) > request.allowance
        self.queue.append(ticket)

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.live or self.done)

    @torch.inference_mode()
    def advance(self) -> list[tuple[int, Extension]]:
        """Admits what there is room for, then draws one token for every running row."""
        began = time.monotonic()
        self._admit()
        for ticket in {id(r.ticket): r.ticket for r in self.live if r.ticket.tight}.values():
            self._ration(ticket)
        if self.live:
            tickets = [row.ticket for row in self.live]
            self._decode()
            share = (time.monotonic() - began) / len(tickets)
            for ticket in tickets:
                ticket.seconds += share
        self.segments.trim()  # not before: what is admitted together needs its prefixes until its rows have entered
        done, self.done = self.done, []
        return done

    @torch.inference_mode()
    def forget(self, search: int) -> None:
        """Drops a search's rows and its memory; cancellation takes effect at once."""
        self.queue = deque(t for t in self.queue if t.search != search)
        for slot in reversed(range(len(self.live))):
            if self.live[slot].ticket.search == search:
                self._leave(slot)
        self.segments.forget(search)

    # --------------------------------------------------------------------------------------------------- who runs next

    def _limit(self, row: Row) -> int:
        return min(row.limit, self.context - len(row.prefix))

    def _admit(self) -> None:
        """Whole requests while fewer than max_rows rows run: the last one may overshoot, so none waits for ever."""
        admitted: list[_Ticket] = []
        while self.queue and len(self.live) + sum(t.live for t in admitted) < self.max_rows:
            admitted.append(self.queue.popleft())
        if not admitted:
            return
        self._prefill(admitted)
        for ticket in admitted:
            ticket.admitted = time.monotonic()
            for index, row in enumerate(ticket.request.rows):
                self._enter(_Live(ticket, index, row, len(row.prefix) - 1))

    def _enter(self, live: _Live) -> None:
        slot = len(self.live)
        self.slots.reserve(slot + 1, len(live.row.prefix) + self._limit(live.row))
        chain = self._chain(live.ticket.search, live.row)
        assert chain is not None or len(live.row.prefix) == 1
        for begin, segment in chain or ():
            self.slots.write(slot, begin, segment)
        self.live.append(live)
        self.batch.enter(slot, live, self._limit(live.row))

    def _leave(self, slot: int) -> None:
        """Takes a row out; the last row moves into its place."""
        last = len(self.live) - 1
        if slot != last:
            moved = self.live[last]
            self.slots.move(last, slot, moved.position)
            self.live[slot] = moved
            self.batch.move(last, slot)
        self.live.pop()

    def _ration(self, ticket: _Ticket) -> None:
        """Where the allowance no longer gives every live row a token, only the first rows get one."""
        left = (ticket.request.allowance or 0) - ticket.used
        rows = [(row.index, slot) for slot, row in enumerate(self.live) if row.ticket is ticket]
        stopped = sorted(rows)[max(left, 0) :]
        for _, slot in sorted(stopped, key=lambda pair: -pair[1]):
            self._end(slot, Finish.BUDGET)

    # ------------------------------------------------------------------------------------------------ computing tokens

    def _chain(self, search: int, row: Row) -> list[tuple[int, Tensor]] | None:
        return self.segments.chain(search, [ROOT, *lineage(parent_of(row.path))])

    def _prefill(self, tickets: Sequence[_Ticket]) -> None:
        """Computes the prefixes that are not held, each once, all requests together, all but their last token: that one
        is fed when the row draws its first."""
        missing: dict[tuple[int, str], tuple[int, ...]] = {}
        for ticket in tickets:
            for row in ticket.request.rows:
                parent = parent_of(row.path)
                known = len(row.prefix) - 1
                if (ticket.search, parent) in missing or known == 0 or self._chain(ticket.search, row) is not None:
                    ticket.cached_tokens += known
                else:
                    missing[ticket.search, parent] = row.prefix[:-1]
                    ticket.prompt_tokens += known
                ticket.prompt_tokens += 1
        for keys in _packed(missing):
            self._fresh(keys, [missing[key] for key in keys])

    def _fresh(self, keys: Sequence[tuple[int, str]], prefixes: Sequence[tuple[int, ...]]) -> None:
        longest = max(map(len, prefixes))
        ids = torch.zeros(len(prefixes), longest, dtype=torch.long)
        for i, prefix in enumerate(prefixes):
            ids[i, : len(prefix)] = torch.tensor(prefix)
        memory = Fresh({})
        positions = torch.arange(longest, device=self.device)[None].expand(len(prefixes), -1)
        self.model.base_model(input_ids=ids.to(self.device), position_ids=positions, use_cache=False, memory=memory)
        pairs = [memory.kept[layer] for layer in range(self.slots.data.shape[0])]
        for i, (key, prefix) in enumerate(zip(keys, prefixes, strict=True)):
            segment = torch.stack([torch.stack((k[i, :, : len(prefix)], v[i, :, : len(prefix)])) for k, v in pairs])
            self.segments.put(key, 0, segment)

    def _decode(self) -> None:
        rows = len(self.live)
        padded = max(rows, LEAST_ROWS)
        batch = self.batch
        batch.reserve(padded)
        batch.positions[rows:padded] = 0
        reach = -(-(int(batch.positions[:rows].max()) + 1) // 32) * 32
        self.slots.reserve(padded, reach)
        mask = (torch.arange(reach)[None] <= batch.positions[:padded, None]).to(self.device)[:, None, None]
        positions = batch.positions[:padded].to(self.device)
        ids = batch.inputs[:padded].to(self.device)
        memory = Decode(self.slots, positions, mask)
        # the whole module, not its head alone: some families scale or cap their logits after it
        out = self.model(input_ids=ids[:, None], position_ids=positions[:, None], use_cache=False, memory=memory)
        logits = out.logits[:rows, -1, : self.vocabulary.size].float()
        drawn = draw(logits, batch.settings.rows(slice(0, rows)), batch.seeds[:rows], batch.counts[:rows])
        self._take(drawn)

    def _take(self, drawn: Drawn) -> None:
        """Gives each row its token, and ends the rows and requests that are due."""
        rows = len(self.live)
        tokens = drawn.tokens.cpu()
        written = tokens.tolist()
        self.batch.take(rows, tokens, drawn)
        ended: list[tuple[int, Finish]] = []
        limits = self.batch.limits
        for slot, live in enumerate(self.live):
            token = written[slot]
            live.tokens.append(token)
            live.count += 1
            live.position += 1
            live.ticket.used += 1
            finish = self._finish(live, token)
            if finish is None and live.count >= limits[slot]:
                finish = Finish.LENGTH
            if finish is not None:
                ended.append((slot, finish))
        for slot, finish in reversed(ended):
            live = self.live[slot]
            live.ticket.ended += finish in (Finish.END, Finish.STEP)
            self._end(slot, finish)
        self._cut({id(t): t for t in (r.ticket for r in self.live) if t.request.first}.values())

    def _finish(self, live: _Live, token: int) -> Finish | None:
        vocabulary = self.vocabulary
        if token in vocabulary.ends:
            return Finish.END
        if live.ticket.request.until is Until.STEP:
            kind = vocabulary.newlines.get(token)
            if kind is not None:
                separated = kind.inside or (live.edge and kind.first)
                inked = live.inked or kind.inked_before
                live.edge = kind.last
                live.inked = live.inked or kind.inked
                return Finish.STEP if separated and inked else None
            live.edge = False
            live.inked = live.inked or token not in vocabulary.blanks
        return None

    def _cut(self, tickets: Any) -> None:
        """The first-m-finish rule: rows that run on when m have ended are cancelled at that length."""
        due = [t for t in tickets if t.ended >= t.request.first]
        if due:
            for slot in reversed(range(len(self.live))):
                if any(self.live[slot].ticket is t for t in due):
                    self._end(slot, Finish.CANCELLED)

    def _end(self, slot: int, finish: Finish) -> None:
        """Turns a row into a step, keeps what it computed for its children, and closes its request when it is the last."""
        live = self.live[slot]
        ticket = live.ticket
        logprobs, certainties, entropies = self.batch.statistics(slot, live.count)
        text = self.vocabulary.text(live.row.prefix, live.tokens)
        tokens = np.asarray(live.tokens, dtype=np.int32)
        ticket.steps[live.index] = Step(tokens, text, logprobs, certainties, entropies, finish)
        if finish is Finish.STEP:
            begin = len(live.row.prefix) - 1
            self.segments.put((ticket.search, live.row.path), begin, self.slots.read(slot, begin, live.position))
        self._leave(slot)
        ticket.live -= 1
        if ticket.live == 0:
            steps = tuple(step for step in ticket.steps if step is not None)
            self.done.append((ticket.search, self._extension(ticket, steps)))

    def _extension(self, ticket: _Ticket, steps: tuple[Step, ...]) -> Extension:
        computed = ticket.prompt_tokens + ticket.used
        return Extension(
            steps=steps,
            prompt_tokens=ticket.prompt_tokens,
            cached_tokens=ticket.cached_tokens,
            flops=2.0 * self.parameters * computed,
            queue_seconds=ticket.admitted - ticket.submitted,
            seconds=ticket.seconds,
        )


class _Batch:
    """The running rows' state as arrays, by slot."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inputs = torch.zeros(LEAST_ROWS, dtype=torch.long)
        self.positions = torch.zeros(LEAST_ROWS, dtype=torch.long)
        self.counts = torch.zeros(LEAST_ROWS, dtype=torch.long, device=device)
        self.seeds = torch.zeros(LEAST_ROWS, dtype=torch.long, device=device)
        ones = torch.ones(LEAST_ROWS, device=device)
        self.settings = Settings(ones.clone(), torch.zeros_like(self.counts), ones.clone(), torch.zeros_like(ones))
        self.limits: NDArray[np.int64] = np.zeros(LEAST_ROWS, dtype=np.int64)
        self.kept: NDArray[np.float32] = np.zeros((3, LEAST_ROWS, 64), dtype=np.float32)

    def reserve(self, rows: int) -> None:
        have = len(self.inputs)
        if rows <= have:
            return
        more = max(rows, 2 * have) - have
        for owner, name in self._arrays():
            old = getattr(owner, name)
            setattr(owner, name, torch.cat((old, old.new_zeros(more))))
        self.limits = np.concatenate((self.limits, np.zeros(more, dtype=np.int64)))
        self.kept = np.concatenate((self.kept, np.zeros((3, more, self.kept.shape[2]), dtype=np.float32)), axis=1)

    def _arrays(self) -> Iterator[tuple[Any, str]]:
        for name in ("inputs", "positions", "counts", "seeds"):
            yield self, name
        for name in ("temperature", "top_k", "top_p", "min_p"):
            yield self.settings, name

    def enter(self, slot: int, live: _Live, limit: int) -> None:
        self.reserve(slot + 1)
        if limit > self.kept.shape[2]:
            room = np.zeros((3, self.kept.shape[1], limit + 64), dtype=np.float32)
            room[:, :, : self.kept.shape[2]] = self.kept
            self.kept = room
        sampling = live.ticket.request.sampling
        self.inputs[slot], self.positions[slot] = live.row.prefix[-1], live.position
        self.counts[slot], self.seeds[slot], self.limits[slot] = 0, live.row.seed, limit
        self.settings.temperature[slot], self.settings.top_k[slot] = sampling.temperature, sampling.top_k
        self.settings.top_p[slot], self.settings.min_p[slot] = sampling.top_p, sampling.min_p

    def move(self, source: int, target: int) -> None:
        for owner, name in self._arrays():
            array = getattr(owner, name)
            array[target] = array[source].clone()
        self.limits[target] = self.limits[source]
        self.kept[:, target] = self.kept[:, source]

    def take(self, rows: int, tokens: Tensor, drawn: Drawn) -> None:
        """Stores the statistics at each row's count and moves on by one position."""
        index, counts = np.arange(rows), self.counts[:rows].cpu().numpy()
        for i, values in enumerate((drawn.logprobs, drawn.certainties, drawn.entropies)):
            self.kept[i, index, counts] = values.cpu().numpy()
        self.inputs[:rows] = tokens
        self.positions[:rows] += 1
        self.counts[:rows] += 1

    def statistics(self, slot: int, count: int) -> tuple[NDArray[np.float32], ...]:
        return tuple(self.kept[i, slot, :count].copy() for i in range(3))


def _packed(prefixes: dict[tuple[int, str], tuple[int, ...]]) -> Iterator[list[tuple[int, str]]]:
    """Keys of like length together, at most PREFILL_TOKENS padded tokens a pass."""
    held: list[tuple[int, str]] = []
    for key in sorted(prefixes, key=lambda k: len(prefixes[k])):
        if held and len(prefixes[key]) * (len(held) + 1) > PREFILL_TOKENS:
            yield held
            held = []
        held.append(key)
    if held:
        yield held
