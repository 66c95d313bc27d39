"""What runs on the core, and for whom: a request's ticket, its rows, the units in which they are admitted, and what is on its
way into memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.engine.pages import Segment
from search.rules import Ahead
from search.types import Extend, Path, Row, Step, parent_of

OWN = "?"  # begins the name of a prompt that is no candidate's text

Key = tuple[int, Path]


@dataclass(slots=True, eq=False)
class Ticket:
    """A request on its way."""

    search: int
    request: Extend
    submitted: float
    steps: list[Step | None]
    live: int  # rows that have not ended
    most: int | None = None  # tokens of any kind that may be computed for it: what its FLOPs pay for
    bounded: bool = False  # whether its allowance, FLOPs or seconds may stop it inside a step
    lockstep: bool = False  # whether its rows run in step
    partable: bool = False  # whether they do so only to share scarce FLOPs fairly
    ended: int = 0  # rows that ended by themselves
    ends: list[Step] = field(default_factory=list)  # their steps in that order, where a rule looks at them
    used: int = 0  # tokens generated
    prompt_tokens: int = 0
    cached_tokens: int = 0
    recomputed_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    admitted: float = 0.0
    seconds: float = 0.0

    @property
    def computed(self) -> int:
        """The tokens that it is charged for so far."""
        return self.prompt_tokens + self.used + self.drafted_tokens - self.accepted_tokens

    @property
    def left(self) -> int | None:
        """The tokens that its FLOPs still pay for; None = no bound."""
        return None if self.most is None else max(self.most - self.computed, 0)

    @property
    def late(self) -> bool:
        return self.request.seconds is not None and self.seconds >= self.request.seconds


@dataclass(slots=True, eq=False)
class Live:
    """A row that is waiting or running."""

    ticket: Ticket
    index: int  # in the request
    row: Row
    slot: int
    unit: Unit
    base: Path  # under which the memory of its prefix is kept: its parent, or the name of a prompt of its own
    segment: Segment | None = None  # its own positions, while it has memory
    ahead: Ahead | None = None  # where it paused


@dataclass(slots=True, eq=False)
class Unit:
    """Rows that are admitted together and run in step: a whole request, or one row."""

    rows: list[Live] = field(default_factory=list)
    missing: int = 0  # rows whose memory is not complete
    packed: bool = False  # whether its prefixes stand in one piece each, since memory was too short for their steps' pieces


@dataclass(slots=True, eq=False)
class Fill:
    """Positions on their way into memory: a prefix for the rows that wait for it, or what one row lost."""

    ticket: Ticket  # who pays
    key: Key | None  # under which the prefix is kept; None: a row's own
    segment: Segment
    tokens: NDArray[np.int64]  # of the whole sequence
    slot: int
    waiting: list[Live] = field(default_factory=list)


def base_of(request: Extend, row: Row) -> Path:
    return parent_of(row.path) if request.prompt is None else f"{OWN}{hash(row.prefix)}"
