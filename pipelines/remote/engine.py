"""A server that answers Extend requests as the local core does.

Every row is a request of its own, with the row's seed; or up to n= rows of one prefix are one, where the server proves to give
as many. `concurrency` of them are on their way at once. Text comes as it is written, so a row can be cut in the middle: the
connection is closed, the server stops, and what was received is kept and charged.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from pipelines.remote import probe
from pipelines.remote.asking import Asker
from pipelines.remote.demands import check
from pipelines.remote.loop import shared
from pipelines.remote.tickets import Ticket
from pipelines.remote.words import Words
from pipelines.remote.writing import Writing
from search.types import Extend, Extension

TURN = 0.01  # seconds that the driver waits for news, before it looks after its verifier


@dataclass
class RemoteEngine:
    """One model on one server. One driver owns it; what it does for it runs on the shared event loop."""

    asker: Asker
    device: str = "remote"
    _tickets: dict[int, tuple[Ticket, Future[None]]] = field(default_factory=dict)
    _clock: float = field(default_factory=time.monotonic)

    @property
    def words(self) -> Words:
        return self.asker.words

    @property
    def traits(self) -> probe.Traits:
        return self.asker.traits

    @property
    def parameters(self) -> float:
        """Of the model; 0 = not known."""
        return self.asker.place.options.parameters or self.traits.parameters

    def submit(self, search: int, request: Extend) -> None:
        """Raises ValueError for what no completions server can do."""
        check(request, self.asker.place.options, self.parameters)
        rows = [Writing(request, row, self.words, row.limit) for row in request.rows]
        ticket = Ticket(search, request, rows, self._allowance(request), time.monotonic())
        ticket.share()
        if not self._tickets:
            self._clock = time.monotonic()
        self._tickets[search] = ticket, shared().start(self.asker.serve(ticket))

    def advance(self) -> list[tuple[int, Extension | Exception]]:
        """Waits a moment for news. Raises Away or BadSetup where the server fails for all."""
        self.asker.news.wait(TURN)
        self.asker.news.clear()
        self._charge()
        if self.asker.fault is not None:
            fault, self.asker.fault = self.asker.fault, None
            raise fault
        over = [ticket for ticket, _ in self._tickets.values() if ticket.over]
        for ticket in over:
            del self._tickets[ticket.search]
        return [(ticket.search, ticket.error or self._extension(ticket)) for ticket in over]

    def forget(self, search: int) -> None:
        """Closes the connections of what is on its way for it."""
        if found := self._tickets.pop(search, None):
            found[1].cancel()

    @property
    def busy(self) -> bool:
        return bool(self._tickets)

    def tells(self, k: int) -> bool:
        """Whether the server tells the k likeliest tokens of each."""
        return shared().wait(probe.tops(self.asker.client, self.traits, k))

    def close(self) -> None:
        for search in list(self._tickets):
            self.forget(search)
        shared().wait(self.asker.client.http.aclose())

    def _charge(self) -> None:
        """Shares the time since the last turn between the requests that were on their way; stops those that have no more."""
        now = time.monotonic()
        running = [ticket for ticket, _ in self._tickets.values() if ticket.started is not None]
        for ticket in running:
            ticket.seconds += (now - self._clock) / len(running)
            bound = ticket.request.seconds
            if bound is not None and ticket.seconds >= bound and not (ticket.late or ticket.over):
                ticket.late = True
                shared().loop.call_soon_threadsafe(ticket.stop)
        self._clock = now

    def _extension(self, ticket: Ticket) -> Extension:
        steps = tuple(row.step() for row in ticket.rows)
        computed = ticket.prompt + sum(map(len, steps))
        queued = (ticket.started or ticket.submitted) - ticket.submitted
        flops = 2.0 * self.parameters * computed
        return Extension(steps, ticket.prompt, ticket.cached, flops=flops, queue_seconds=queued, seconds=ticket.seconds)

    def _allowance(self, request: Extend) -> int | None:
        """Tokens that the rows may have: by the request, and by what its FLOPs pay for beside the prompts. The size of a prompt
        that is not known is at most its bytes."""
        if request.flops is None:
            return request.allowance
        texts = [self.words.prompt(row.text[0]) + row.text[1] for row in request.rows if row.text is not None]
        prompts = sum(self.asker.size(text) or len(text.encode()) for text in texts)
        paid = max(int(request.flops / (2 * self.parameters)) - prompts, 0)
        return paid if request.allowance is None else min(paid, request.allowance)


__all__ = ["RemoteEngine"]
