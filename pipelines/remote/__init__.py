"""A generator behind HTTP: any server that speaks the OpenAI completions protocol. README.md says what is promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.remote.address import PREFIX, api_key, is_remote, place_of, split

if TYPE_CHECKING:
    from pipelines.remote.engine import RemoteEngine
    from pipelines.remote.words import Words


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A server's model: its engine, and how texts become tokens here."""

    name: str
    engine: RemoteEngine
    words: Words

    @property
    def tokenizer(self) -> Any:
        return self.words.tokenizer

    def encode(self, question: str) -> tuple[int, ...]:
        return self.words.encode(question)

    def plainly(self, text: str) -> tuple[int, ...]:
        return self.words.plainly(text)


def load_remote(name: str, params: Mapping[str, Any] | None = None) -> RemoteModel:
    """Asks the server what it is. Raises ModelError for what cannot be, Away (exit code 75) where it cannot be reached."""
    from pipelines.remote import probe
    from pipelines.remote.asking import Asker
    from pipelines.remote.client import Client
    from pipelines.remote.engine import RemoteEngine
    from pipelines.remote.loop import shared
    from pipelines.remote.words import words

    place = place_of(name, params or {})
    own = words(place.options.tokenizer)

    async def met() -> RemoteEngine:
        client = Client(place)
        try:
            traits = await probe.probed(client, await probe.identified(client))
        except BaseException:
            await client.http.aclose()
            raise
        engine = RemoteEngine(Asker(place, own, client, traits))
        shared().closes(engine, client.http)
        return engine

    return RemoteModel(name, shared().wait(met()), own)


def identity(name: str, params: Mapping[str, Any] | None = None) -> str:
    """What tells a server's model from another: its name and a hash of what else the server says of it, without a blank."""
    from pipelines.remote import probe
    from pipelines.remote.client import Client
    from pipelines.remote.loop import shared

    async def met() -> str:
        client = Client(place_of(name, params or {}))
        try:
            return (await probe.identified(client)).weights
        finally:
            await client.http.aclose()

    return shared().wait(met())


__all__ = ["PREFIX", "RemoteModel", "api_key", "identity", "is_remote", "load_remote", "place_of", "split"]
