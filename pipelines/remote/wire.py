"""The OpenAI protocol on the wire: a request's body, and the pieces of text that come back.

Nothing a server says is trusted: whatever is not what the protocol says is Broken, which is tried again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.remote.errors import Broken
from search.types import Sampling

SEEDS = (1 << 31) - 1  # servers keep seeds in 32 bits, some with a sign
UNSAID = object()  # a stop reason that the server does not tell of


@dataclass(frozen=True, slots=True)
class Wish:
    """One request: what is to be continued, how often, how far."""

    prompt: str | list[dict[str, str]]  # a text, or the messages of a chat
    n: int
    seed: int
    limit: int
    stops: tuple[str, ...]
    sampling: Sampling
    logprobs: int | None  # of how many likeliest tokens; None: of none
    usage: bool  # whether to ask for the counts at the end of the stream
    extras: bool = False  # whether to send what is not of the protocol


@dataclass(frozen=True, slots=True)
class Usage:
    """The server's own counts of one request."""

    prompt: int | None
    completion: int | None
    cached: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event adds to one completion."""

    index: int
    text: str
    hidden: bool = False  # thoughts that the server keeps apart from the text
    tokens: tuple[str, ...] | None = None  # the server's own; None where it tells of none
    logprobs: tuple[float, ...] = ()  # ln p of each; NaN where it is not told
    tops: tuple[tuple[float, ...], ...] = ()  # of each, ln p of the likeliest, largest first
    finish: str | None = None
    stop: object = UNSAID  # the string that stopped it; None: the end token


def body(model: str, api: str, wish: Wish) -> dict[str, Any]:
    """The JSON of a request. What is off is sent too, since some servers have defaults of their own; but what is not of the
    protocol only where the server is said to have it: strict servers refuse what they do not know."""
    asked: dict[str, Any] = {"model": model, "max_tokens": wish.limit, "stream": True}
    asked |= {"messages" if api == "chat" else "prompt": wish.prompt}
    asked |= {"temperature": wish.sampling.temperature, "top_p": wish.sampling.top_p, "seed": wish.seed & SEEDS}
    asked |= {"n": wish.n} if wish.n > 1 else {}
    asked |= {"stream_options": {"include_usage": True}} if wish.usage else {}
    asked |= {"stop": list(wish.stops)} if wish.stops else {}
    if wish.extras:
        asked |= {name: getattr(wish.sampling, name) for name in ("top_k", "min_p", "repetition_penalty")}
    if wish.logprobs is not None:
        many = max(wish.logprobs, 1)
        asked |= {"logprobs": True, "top_logprobs": many} if api == "chat" else {"logprobs": many}
    return asked


def read(line: bytes) -> tuple[list[Piece], Usage | None]:
    """What one event says. Raises Broken for what is no event of the protocol."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise Broken(f"malformed JSON ({shown(line.decode(errors='replace'))})") from None
    if not isinstance(said, dict):
        raise Broken(f"malformed JSON (no object: {shown(said)})")
    if said.get("error"):
        raise Broken(f"an error in mid-stream ({shown(message(said))})")
    choices = said.get("choices")
    if not isinstance(choices, list):
        raise Broken(f"malformed JSON (no choices: {shown(said)})")
    return [_piece(choice) for choice in choices], _usage(said.get("usage"))


def _piece(choice: Any) -> Piece:
    if not isinstance(choice, dict):
        raise Broken(f"malformed JSON (a choice is {shown(choice)})")
    index, finish = choice.get("index", 0), choice.get("finish_reason")
    told = choice.get("delta") if "delta" in choice else choice.get("message", choice)
    told = told if isinstance(told, dict) else {}
    text = told.get("content") if told is not choice else told.get("text")
    hidden = told.get("reasoning_content") or told.get("reasoning")
    if finish in ("error", "abort"):
        raise Broken(f"a completion that ended with '{finish}'")
    if not isinstance(index, int) or not isinstance(text, str | None) or not isinstance(finish, str | None):
        raise Broken(f"malformed JSON (a choice is {shown(choice)})")
    tokens, logprobs, tops = _logprobs(choice.get("logprobs"))
    return Piece(index, text or "", bool(hidden), tokens, logprobs, tops, finish, choice.get("stop_reason", UNSAID))


Logprobs = tuple[tuple[str, ...] | None, tuple[float, ...], tuple[tuple[float, ...], ...]]


def _logprobs(said: Any) -> Logprobs:
    """Tokens, their ln p and those of the likeliest, in either API's shape; None for the tokens where there are none."""
    if not isinstance(said, dict):
        return None, (), ()
    try:
        if isinstance(said.get("content"), list):
            rows = [
                (each["token"], each.get("logprob"), [t.get("logprob") for t in each.get("top_logprobs") or ()])
                for each in said["content"]
            ]
        elif isinstance(said.get("tokens"), list):
            tops = said.get("top_logprobs") or [{}] * len(said["tokens"])
            rows = [
                (t, p, [*(top or {}).values()]) for t, p, top in zip(said["tokens"], said["token_logprobs"], tops, strict=True)
            ]
        else:
            return None, (), ()
        tokens = tuple(str(token) for token, _, _ in rows)
        return (
            tokens,
            tuple(_ln(p) for _, p, _ in rows),
            tuple(tuple(sorted(map(_ln, top), reverse=True)) for _, _, top in rows),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise Broken(f"malformed logprobs ({shown(said)})") from None


def _ln(value: Any) -> float:
    """A log-probability as a number of at most 0; NaN where it is not told."""
    if not isinstance(value, int | float) or math.isnan(value):
        return math.nan
    return min(float(value), 0.0)


def _usage(said: Any) -> Usage | None:
    if not isinstance(said, dict):
        return None
    details = said.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(_count(said.get("prompt_tokens")), _count(said.get("completion_tokens")), _count(cached) or 0)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def message(said: Any) -> str:
    """What a server's error says, in whichever of the usual shapes."""
    found = said.get("error", said.get("detail", said.get("message", said))) if isinstance(said, dict) else said
    if isinstance(found, dict):
        found = found.get("message", found)
    return str(found)


def shown(value: Any, most: int = 160) -> str:
    """Something of a server's, cut to what fits a line."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else text[:most] + "..."


def events(buffer: bytearray) -> Iterator[bytes]:
    """Takes the whole `data:` lines out of what was received. Only a newline ends one: JSON may hold other separators."""
    while (end := buffer.find(b"\n")) >= 0:
        line = bytes(buffer[:end]).strip(b"\r ")
        del buffer[: end + 1]
        if line.startswith(b"data:"):
            yield line[5:].strip()


def messages(question: str, said: str) -> list[dict[str, str]]:
    """A chat's messages; what was said already is the assistant's."""
    return [{"role": "user", "content": question}, *([{"role": "assistant", "content": said}] if said else [])]


def mean_of(tops: Sequence[float], k: int) -> float:
    """DeepConf's confidence of one token: mean -ln p of the k likeliest; NaN where fewer are told."""
    return -math.fsum(tops[:k]) / k if len(tops) >= k else math.nan


__all__ = ["UNSAID", "Piece", "Usage", "Wish", "body", "events", "mean_of", "message", "messages", "read", "shown"]
