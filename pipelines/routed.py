"""Several generators as one: each request goes to the one it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from search.types import Extend, Extension, TextGenerator


@dataclass(frozen=True, slots=True)
class Routed:
    """Answers Extend by `request.model`: "" is the run's generator, any other name a sibling, whose tokens are told apart in
    the ledger. All must have one tokenizer: tokens of one go on as the prefix of another."""

    generators: Mapping[str, TextGenerator]

    def submit(self, search: int, request: Extend) -> None:
        """Raises ValueError for a generator that the run does not have."""
        if request.model not in self.generators:
            raise ValueError(f"the strategy asks for a '{request.model}' generator and the run has none; name it with --small")
        self.generators[request.model].submit(search, request)

    def advance(self) -> Sequence[tuple[int, Extension | Exception]]:
        done: list[tuple[int, Extension | Exception]] = []
        for name, generator in self.generators.items():
            if generator.busy:
                done += [(search, _told(reply) if name else reply) for search, reply in generator.advance()]
        return done

    def forget(self, search: int) -> None:
        for generator in self.generators.values():
            generator.forget(search)

    @property
    def busy(self) -> bool:
        return any(generator.busy for generator in self.generators.values())


def _told(reply: Extension | Exception) -> Extension | Exception:
    return reply if isinstance(reply, Exception) else replace(reply, small_tokens=sum(map(len, reply.steps)))
