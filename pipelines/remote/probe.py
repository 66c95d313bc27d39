"""What a server is found to do, by asking it: which model it has, and which parts of the protocol it honours.

Some servers take a parameter and do nothing with it. So nothing counts as offered that was not seen to work: one short request
before a run, and a plainer one where that is refused. What it costs is charged to no search.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from pipelines.remote.address import Place
from pipelines.remote.client import Client
from pipelines.remote.errors import Away, BadSetup, Broken, Rejected, WrongKey
from pipelines.remote.pace import FIRST
from pipelines.remote.wire import Piece, Usage, Wish, messages
from search.types import GREEDY

COUNTING = "Count: 1, 2, 3, 4, 5, 6, 7, 8,"  # so common a text that blanks and digits follow
STOPS = (" ", "e", "0", "\n")  # the protocol allows four
ROOM = 12  # tokens
TRIES = 3  # before a run begins somebody waits: fewer than in mid-run
KEPT = ("id", "root", "parent", "owned_by", "max_model_len")  # what /models says of a model and does not change with the hour
META = ("n_params", "n_vocab", "n_embd", "n_ctx_train", "size")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Traits:
    """What a server was seen to do."""

    model: str
    weights: str  # what tells this model from another: its name, and a hash of what else the server says of it
    parameters: float = 0.0  # where the server tells
    streams: bool = False
    usage: bool = False  # it tells its counts
    asks_usage: bool = False  # it takes the request for them
    stops: bool = False  # it tells which string stopped it
    together: bool = False  # it gives as many completions as asked for
    logprobs: bool = False  # it tells ln p of every token

    def __str__(self) -> str:
        said = {
            "streams": self.streams,
            "usage": self.usage,
            "stop reasons": self.stops,
            "n": self.together,
            "logprobs": self.logprobs,
        }
        return ", ".join(f"{'' if there else 'no '}{what}" for what, there in said.items())


async def identified(client: Client) -> Traits:
    """The model's name, and what identifies it. Raises BadSetup where the server has several and none is named, or another."""
    place, wanted = client.place, client.place.options.model
    try:
        listed = await patiently(client.models, place)
    except WrongKey:
        raise
    except (BadSetup, Rejected, Broken) as error:
        if not wanted:
            raise BadSetup(f"{error}; the server does not say what it serves: name it with model=") from None
        listed = []
    ids = [each["id"] for each in listed]
    if not wanted and len(ids) != 1:
        raise BadSetup(
            f"the server at {place.url} has {len(ids)} models; name one with model= ({', '.join(ids[:8]) or 'none'})"
        )
    # some servers list nothing, or other models than they serve; what is not there at all is found out by the first request
    return _named(next((each for each in listed if not wanted or each["id"] == wanted), {"id": wanted}))


def _named(found: dict[str, Any]) -> Traits:
    told = found.get("meta")
    meta: dict[str, Any] = told if isinstance(told, dict) else {}
    kept = {key: found[key] for key in KEPT if key in found} | {key: meta[key] for key in META if key in meta}
    digest = hashlib.blake2b(json.dumps(kept, sort_keys=True, default=str).encode(), digest_size=4).hexdigest()
    parameters = meta.get("n_params")
    return Traits(
        found["id"],
        f"openai/{'_'.join(found['id'].split())}@{digest}",
        float(parameters) if isinstance(parameters, int | float) else 0.0,
    )


async def probed(client: Client, told: Traits) -> Traits:
    """What the server honours. Raises BadSetup where it takes no request at all, Away where it does not recover."""
    options = client.place.options
    prompt: Any = messages(COUNTING, "") if options.api == "chat" else COUNTING
    full = Wish(prompt, max(options.n, 1), 1, ROOM, STOPS, GREEDY, 1, True, options.extras)
    refused = ""
    for wish in (
        full,
        replace(full, logprobs=None),
        replace(full, logprobs=None, usage=False),
        replace(full, logprobs=None, usage=False, n=1, stops=()),
    ):
        try:
            pieces, usage, events = await patiently(partial(_answer, client, told.model, wish), client.place)
        except (Rejected, Broken) as error:
            refused = refused or client.clean(error)
            continue
        return _seen(told, wish, pieces, usage, events)
    raise BadSetup(f"the server at {client.place.url} answers no request: {refused}")


async def _answer(client: Client, model: str, wish: Wish) -> tuple[list[Piece], Usage | None, int]:
    pieces, usage, events = list[Piece](), None, 0
    async with aclosing(client.stream(model, wish)) as stream:
        async for some, counts in stream:
            pieces, usage, events = pieces + some, counts or usage, events + 1
    return pieces, usage, events


def _seen(told: Traits, wish: Wish, pieces: list[Piece], usage: Usage | None, events: int) -> Traits:
    of = [[piece for piece in pieces if piece.index == index] for index in range(wish.n)]
    tokens = [None if piece.tokens is None else len(piece.tokens) for piece in pieces if piece.text or piece.tokens]
    counted = usage.completion if usage is not None else None
    known = all(p == p for piece in pieces for p in piece.logprobs)
    return replace(
        told,
        streams=events > 1,
        usage=counted is not None,
        asks_usage=wish.usage,
        stops=bool(wish.stops) and any(piece.stop in wish.stops for piece in pieces),
        together=wish.n > 1 and all(any(piece.finish for piece in own) for own in of),
        logprobs=wish.logprobs is not None
        and bool(tokens)
        and None not in tokens
        and known
        and counted in (None, sum(n or 0 for n in tokens)),
    )


async def tops(client: Client, told: Traits, k: int) -> bool:
    """Whether the server tells the k likeliest tokens of each."""
    prompt: Any = messages(COUNTING, "") if client.place.options.api == "chat" else COUNTING
    wish = Wish(prompt, 1, 1, ROOM, (), GREEDY, k, told.asks_usage)
    try:
        pieces, _, _ = await patiently(partial(_answer, client, told.model, wish), client.place)
    except (Rejected, Broken):
        return False
    each = [top for piece in pieces for top in piece.tops]
    return bool(each) and all(len(top) >= k for top in each)


async def patiently(ask: Callable[[], Awaitable[T]], place: Place) -> T:
    """What is asked, again where that may help. Raises Away where the server cannot be reached, else the last failure."""
    for failures in range(1, TRIES + 1):
        try:
            return await ask()
        except Broken as fault:
            last = fault
            if failures < TRIES and place.options.retries:
                await asyncio.sleep(min(fault.after if fault.after is not None else FIRST * 2**failures, 30.0))
    if last.away:
        raise Away(f"the server at {place.url} stays away: {last}; start it, or try again later") from None
    raise last


__all__ = ["Traits", "identified", "patiently", "probed", "tops"]
