"""What one run may take, and what it left."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may take. Sizes in bytes. Memory is each process's: all of them together may have `processes` times it."""

    seconds: float = 10.0  # of wall time, the whole run
    cpu: int = 5  # seconds of each process
    memory: int = 512 * MB
    processes: int = 16  # threads and the sandbox's own two counted
    file: int = 16 * MB
    scratch: int = 0  # of a /tmp to write to, which is memory; 0: nothing can be written at all
    output: int = MB
    descriptors: int = 64

    def inside(self) -> dict[str, int]:
        """As setrlimit's names, set by what runs first inside: bubblewrap itself must not be held by them."""
        return {
            "RLIMIT_AS": self.memory,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_FSIZE": self.file,
            "RLIMIT_NOFILE": self.descriptors,
            "RLIMIT_CORE": 0,
        }


class Ended(StrEnum):
    """How a run ended."""

    ITSELF = "itself"
    TIMEOUT = "timeout"
    FLOOD = "flood"  # more output than the cap
    REFUSED = "refused"  # no sandbox was made


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left: how it ended, its exit status (128 + a signal's number), its output up to the cap, its errors."""

    ended: Ended
    status: int
    output: bytes
    errors: str
    seconds: float


__all__ = ["Ended", "Limits", "Outcome"]
