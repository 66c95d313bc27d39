"""Where a server is and how it is asked: `openai:URL` or `openai:URL:KEY=VALUE,...`.

A key for the server is taken from the environment and from nowhere else: a URL with a user, a password or a query is refused,
and the message shows none of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from pipelines.models import BadOption, ModelError

PREFIX = "openai:"
KEYS = ("PONDEROSA_API_KEY", "OPENAI_API_KEY")  # the first that is set
APIS = ("completions", "chat")
SECRETS = re.compile(r"(^|_)(api_?key|key|token|password|secret|user)$", re.IGNORECASE)
LOCAL = ("localhost", "127.0.0.1", "::1")
WRITTEN = re.compile(
    r"(?P<server>https?://(?:\[[0-9a-fA-F:]+\]|[\w.-]+)(?::\d+)?)(?P<path>/[\w.~/%+-]*)?(?::(?P<options>[A-Za-z_]+=.*))?"
)


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is asked. What is 0 or empty is off, or found out."""

    model: str = ""  # as the server names it; needed where it serves several
    tokenizer: str = ""  # 'bundled', a folder or a hub name: chat template, token ids, a check of the server's counts
    api: str = "completions"
    concurrency: int = 32  # requests in flight
    n: int = 1  # completions of one prefix asked for in one request, where the server proves to give as many
    rpm: int = 0  # requests a minute
    tpm: int = 0  # tokens a minute, of prompts and completions
    timeout: float = 120.0  # seconds of silence
    retries: int = 5  # failures in a row that one request survives
    parameters: float = 0.0  # of the model: what FLOPs are computed from
    extras: bool = False  # whether the server takes top_k, min_p and repetition_penalty, which the protocol has not


@dataclass(frozen=True, slots=True)
class Place:
    """A server and how it is asked."""

    url: str
    options: Options

    @property
    def local(self) -> bool:
        return urlsplit(self.url).hostname in LOCAL


def is_remote(name: str) -> bool:
    """Whether a generator's name is of a server."""
    return name == PREFIX[:-1] or name.startswith(PREFIX)


def split(text: str) -> tuple[str, dict[str, Any]]:
    """The name `openai:URL` and the options of what was typed. Raises BadOption, which shows nothing that may be a secret."""
    body = text.strip().removeprefix(PREFIX[:-1]).removeprefix(":")
    found = WRITTEN.fullmatch(body)
    if found is None and re.search(r"[@?#]", body):
        raise _secret("its URL may hold no user, no password and no query")
    if found is None:
        raise BadOption("an openai generator is openai:URL or openai:URL:KEY=VALUE,...; write openai:http://localhost:8000/v1")
    params = _given(found["options"] or "")
    return f"{PREFIX}{found['server']}{(found['path'] or '').rstrip('/') or '/v1'}", params


def _given(options: str) -> dict[str, Any]:
    known = {field.name: field.default for field in fields(Options)}
    params: dict[str, Any] = {}
    for pair in filter(None, options.split(",")):
        key, equals, value = (each.strip() for each in pair.partition("="))
        if SECRETS.search(key) or (key not in known and "@" in options):
            raise _secret("its URL may hold no user and no password, and its options no key")
        if not equals or key not in known:
            shown = f" '{key}'" if equals else ""
            raise BadOption(f"unknown option{shown} of an openai generator ({', '.join(known)})")
        if key in params:
            raise BadOption(f"option '{key}' of an openai generator is given twice")
        params[key] = _cast(key, value, known[key])
    return params


def _cast(key: str, value: Any, like: Any) -> Any:
    """The value as the type of the option's default."""
    kind = type(like)
    try:
        if kind is bool:
            if str(value).lower() not in ("true", "false"):
                raise ValueError
            return str(value).lower() == "true"
        return kind(value)
    except ValueError:
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise BadOption(f"option {key} of an openai generator must be {wanted}, not '{value}'") from None


def _secret(why: str) -> BadOption:
    return BadOption(f"an openai generator takes its key from the environment ({' or '.join(KEYS)}) only: {why}")


def place_of(name: str, params: Mapping[str, Any]) -> Place:
    """What a run's generator means. Raises BadOption for one that cannot be, also where it was not typed but stored."""
    name, typed = split(f"{name}:{','.join(f'{key}={value}' for key, value in params.items())}" if params else name)
    options = Options(**typed)
    if options.api not in APIS:
        raise BadOption(f"unknown api '{options.api}' ({', '.join(APIS)})")
    for key in ("concurrency", "n", "rpm", "tpm", "retries"):
        least = 1 if key in ("concurrency", "n") else 0
        if getattr(options, key) < least:
            raise BadOption(f"option {key} of an openai generator must be at least {least}, not {getattr(options, key)}")
    if not 0 < options.timeout < 1e6 or not 0 <= options.parameters < 1e18:
        raise BadOption("option timeout must be above 0 seconds and parameters 0 (not known) or more")
    return Place(name.removeprefix(PREFIX), options)


def api_key() -> str | None:
    """The key, or None. Raises ModelError for one that no header can carry, without showing it."""
    name = next((each for each in KEYS if os.environ.get(each, "").strip()), None)
    if name is None:
        return None
    key = os.environ[name].strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ModelError(f"the key in {name} holds characters that no header can carry (blanks, or other than ASCII)")
    return key


__all__ = ["KEYS", "PREFIX", "Options", "Place", "api_key", "is_remote", "place_of", "split"]
