"""Asks a server for the rows of requests, on the event loop: what is asked together, what a failure means, what is charged."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from pipelines.remote.address import Place
from pipelines.remote.client import Client
from pipelines.remote.errors import Away, BadSetup, Broken
from pipelines.remote.pace import Bucket, Pace
from pipelines.remote.probe import Traits
from pipelines.remote.tickets import Ticket
from pipelines.remote.wire import Usage, Wish, messages
from pipelines.remote.words import Words
from pipelines.remote.writing import Writing
from search.types import GREEDY, SEPARATOR, Finish, Until

AGAIN = 0x9E3779B1  # what a row's seed is moved by where it is gone on with: the noise of its beginning is not drawn twice
KNOWN = 4096  # prompts whose size is remembered
ALIKE, LONG = 4, 80  # samples of one question, and characters, that may be the same by chance
T = TypeVar("T")
log = logging.getLogger("pipelines.remote")


@dataclass
class Asker:
    """One model on one server."""

    place: Place
    words: Words
    client: Client
    traits: Traits
    news: threading.Event = field(default_factory=threading.Event)  # set when a request is over
    fault: Exception | None = None  # what ends all of them
    prompts: dict[str, int] = field(default_factory=dict)  # the server's counts, by text: for requests it does not count
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        options = self.place.options
        self.pace = Pace(Bucket(options.rpm), Bucket(options.tpm))
        self.slots = asyncio.Semaphore(options.concurrency)
        self.together = options.n if self.traits.together else 1

    def size(self, prompt: str) -> int | None:
        """Tokens of a prompt, where they are known."""
        return self.prompts.get(prompt) or self.words.count(prompt)

    def say(self, kind: str, line: str) -> None:
        """A warning, once of each kind."""
        if kind not in self._said:
            self._said.add(kind)
            log.warning("the server at %s %s", self.place.url, self.client.clean(line))

    async def serve(self, ticket: Ticket) -> None:
        """All rows of a request to their ends."""
        try:
            while todo := [row for row in ticket.rows if row.finish is None] or self._shared_out(ticket):
                await ticket.side_by_side(self._grouped(todo), self._write)
                if ticket.stopped:
                    break
            ticket.close()
            self._compare(ticket)
        except (Away, BadSetup) as fault:
            self.fault = type(fault)(self.client.clean(fault))
        except Exception as error:  # a rule's fault, or a request that the server does not take, ends its own search
            ticket.error = error
        ticket.over = True
        self.news.set()

    def _shared_out(self, ticket: Ticket) -> list[Writing]:
        return [] if self.place.options.api == "chat" else ticket.share_again()

    def _grouped(self, rows: list[Writing]) -> list[list[Writing]]:
        """Rows that are asked for in one request: of one prefix and limit, as many as the server proves to give at once. Rows
        that end where only we can see it stay alone."""
        request = rows[0].request
        ours = request.until is Until.STEP or request.stops or request.rules.unsure
        most = 1 if ours and not (self.traits.stops and not request.rules.unsure) else self.together
        groups: list[list[Writing]] = []
        for row in rows:
            like = groups[-1][0] if groups and len(groups[-1]) < most else None
            alike = like is not None and (like.row.text, like.left, like.text) == (row.row.text, row.left, row.text)
            groups[-1].append(row) if alike else groups.append([row])
        return groups

    async def _write(self, ticket: Ticket, group: list[Writing]) -> None:
        """Asks for a group until the server has done what it does with it; a single row, until it has an end."""
        async with self.slots:
            while group[0].finish is None:
                if group[0].left < 1:
                    group[0].finish = Finish.LENGTH
                    return
                before = [row.length for row in group]
                try:
                    await self._attempt(ticket, group)
                    if [row.length for row in group] == before and all(row.finish is None for row in group):
                        raise Broken("an answer with nothing in it")
                except Broken as fault:
                    await self._again(fault, group, before)
                else:
                    self.pace.answered = time.monotonic()
                    for row in group:
                        row.failures = 0
                if len(group) > 1:
                    return

    async def _again(self, fault: Broken, group: list[Writing], before: list[int]) -> None:
        """Waits until a request that failed may be sent again. A text is gone on with where it was cut; a chat cannot be.
        Raises Away where the server answers nobody, RuntimeError where it fails at this request alone."""
        chat, now = self.place.options.api == "chat", time.monotonic()
        if any(row.length > length for row, length in zip(group, before, strict=True)):
            self.say("cut", f"broke off in mid-stream ({fault}); what was received is kept, and the rest is asked for again")
        for row, length in zip(group, before, strict=True):
            row.failing = row.failing if row.failures else now
            row.failures = 1 if row.length > length and not chat else row.failures + 1
            if chat and row.finish is None:
                row.drop()
        worst = max(group, key=lambda row: row.failures)
        if worst.failures > self.place.options.retries:
            often = f"{worst.failures} times in a row: {self.client.clean(fault)}"
            if self.pace.answered > worst.failing:
                raise RuntimeError(f"the server failed {often}")
            raise Away(f"the server at {self.place.url} stays away, {often}; `ponderosa resume` goes on when it is back")
        await self.pace.back_off(fault, worst.failures)

    async def _attempt(self, ticket: Ticket, group: list[Writing]) -> None:
        """One request for rows of one prefix. Whatever ends it, what was received is kept and charged."""
        wish = self._wish(group)
        counted = self.size(str(wish.prompt)) or len(str(wish.prompt)) // 4
        most = counted + wish.limit * wish.n
        await self.pace.go(most)
        ticket.started = ticket.started or time.monotonic()
        done, usage = set[int](), None
        try:
            async with closed(self.client.stream(self.traits.model, wish)) as stream:
                async for pieces, counts in stream:
                    usage = counts or usage
                    for piece in pieces:
                        if not 0 <= piece.index < len(group):
                            self.say("choices", f"gave a choice {piece.index} where {wish.n} were asked for; it is left out")
                        elif group[piece.index].finish is None and piece.index not in done:
                            group[piece.index].take(piece, wish.stops)
                            done |= {piece.index} if piece.finish is not None else set()
                    ticket.look()
                    if len(done) < len(group) and all(row.finish is not None for row in group):
                        break  # ended where the server does not know of it: the connection is closed, and it stops
        finally:
            took = self._settle(ticket, group, wish, usage, done)
            self.pace.tokens.give(most - took)
            ticket.look()
        missing = len(group) - len(done) - sum(row.finish is not None for i, row in enumerate(group) if i not in done)
        if missing and len(group) > 1:
            self.together = 1
            self.say("n", f"gave {len(group) - missing} of {len(group)} choices; from now on each is asked for alone")

    def _wish(self, group: list[Writing]) -> Wish:
        first = group[0]
        request, sampling = first.request, first.request.sampling
        question, said = first.row.text or ("", "")
        chat = self.place.options.api == "chat"
        stops = (*request.stops, *((SEPARATOR, *request.rules.marks) if request.until is Until.STEP else ()))
        return Wish(
            prompt=messages(self.words.guarded(question), "") if chat else self.words.prompt(question) + said + first.text,
            n=len(group),
            seed=first.row.seed + AGAIN * first.restarts,
            limit=first.left,
            stops=stops if self.traits.stops and len(stops) <= 4 else (),
            sampling=sampling if sampling.temperature else GREEDY,
            logprobs=(sampling.confidence or 1) if self.traits.logprobs or sampling.confidence else None,
            usage=self.traits.asks_usage,
            extras=self.place.options.extras,
        )

    def _settle(self, ticket: Ticket, group: list[Writing], wish: Wish, usage: Usage | None, done: set[int]) -> int:
        """Charges an attempt by the server's counts, as far as they can be true; the tokens that it took."""
        if not any(row.seen for row in group) and usage is None:
            return 0
        before = sum(len(row.ids) for row in group)
        said: list[int | None] = [None] * len(group)
        if usage is not None and usage.completion is not None and len(done) == len(group):
            said = shares(usage.completion, [row.length - len(row.ids) for row in group])
        for i, row in enumerate(group):
            wrong = row.settle(said[i], wish.limit, i in done)
            if wrong:
                self.say("usage", f"{wrong}; the larger number is charged, up to what was asked for")
            if row.ignored:
                self.say("ignored", "goes on beyond its stop strings or max_tokens; it is cut off there")
                row.ignored = False
        key = str(wish.prompt)
        if usage is not None and usage.prompt is not None:
            if len(self.prompts) >= KNOWN:
                self.prompts.clear()
            self.prompts[key] = usage.prompt
        elif not self.traits.usage:
            self.say("uncounted", "tells no usage: tokens are charged as they were received")
        prompt, cached = (
            self.size(key) or 0,
            min(usage.cached if usage else 0, usage.prompt or 0 if usage else 0),
        )
        ticket.prompt += prompt - cached
        ticket.cached += cached
        return prompt + sum(len(row.ids) for row in group) - before

    def _compare(self, ticket: Ticket) -> None:
        """Samples that are all the same were not sampled."""
        texts = {row.text for row in ticket.rows}
        if (
            ticket.request.sampling.temperature >= 0.5
            and len(ticket.rows) > ALIKE
            and len(texts) == 1
            and len(ticket.rows[0].text) > LONG
        ):
            self.say(
                "alike",
                f"wrote the same {len(ticket.rows[0].text)} characters for {len(ticket.rows)} seeds: it may not sample",
            )


@asynccontextmanager
async def closed(stream: AsyncGenerator[T, None]) -> AsyncIterator[AsyncGenerator[T, None]]:
    """Closes a stream, and so its connection, also where that is cancelled in its middle."""
    try:
        yield stream
    finally:
        await asyncio.shield(asyncio.ensure_future(stream.aclose()))


def shares(total: int, heard: list[int]) -> list[int | None]:
    """One count for several completions, as parts of it: what was received of each, and what is over from the first on."""
    more, parts = total - sum(heard), list[int | None](heard)
    each, rest = divmod(more, len(heard))
    return [(part or 0) + each + (i < rest) for i, part in enumerate(parts)]


__all__ = ["Asker", "shares"]
