"""When a request may be sent: rates a minute, and how long a server that failed is left alone."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from pipelines.remote.errors import Away, Broken

FIRST, MOST = 0.5, 30.0  # seconds of the first back-off, and of the longest
PATIENCE = 600.0  # seconds that a server may ask to be left alone
BURST = 10.0  # seconds' worth that may be sent at once


@dataclass(slots=True)
class Bucket:
    """So much a minute. What is taken may exceed what is there: the next one waits until that is paid."""

    rate: int  # a minute; 0 = no bound
    level: float = 0.0
    seen: float = 0.0

    def __post_init__(self) -> None:
        self.level, self.seen = self.most, time.monotonic()

    @property
    def most(self) -> float:
        return max(self.rate * BURST / 60, 1.0)

    def wait(self) -> float:
        """Seconds until something may be taken."""
        now = time.monotonic()
        self.level = min(self.level + (now - self.seen) * self.rate / 60, self.most)
        self.seen = now
        return 0.0 if not self.rate or self.level >= min(1.0, self.most) else (1.0 - self.level) * 60 / self.rate

    def take(self, amount: float) -> None:
        self.level -= amount if self.rate else 0.0

    def give(self, amount: float) -> None:
        """Pays back what was taken and not used."""
        self.level += amount if self.rate else 0.0


@dataclass(slots=True)
class Pace:
    """Shared by all requests to one server."""

    requests: Bucket
    tokens: Bucket
    held: float = 0.0  # until when the server wants to be left alone
    answered: float = 0.0  # when it last answered a request well
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def go(self, tokens: int) -> None:
        """Waits until a request that may take so many tokens may be sent. First come first served."""
        async with self._turn:
            while (wait := max(self.requests.wait(), self.tokens.wait(), self.held - time.monotonic())) > 0:
                await asyncio.sleep(wait)
            self.requests.take(1)
            self.tokens.take(tokens)

    async def back_off(self, fault: Broken, failures: int) -> None:
        """Waits after a failure: as long as the server says, else twice as long each time, less a random part so that many
        that failed together do not come back together. Raises Away where the server asks for more than is bearable."""
        if fault.after is not None:
            if fault.after > PATIENCE:
                raise Away(f"{fault}, and wants to be left alone for {fault.after:.0f} s; try again then")
            self.held = max(self.held, time.monotonic() + fault.after)
            return  # `go` waits, and so does everybody else
        await asyncio.sleep(min(FIRST * 2 ** (failures - 1), MOST) * random.uniform(0.5, 1.0))


__all__ = ["FIRST", "Bucket", "Pace"]
