"""What else may end a continuation, beside the end of a step or of the solution: rules that a generator follows token by token.

All are functions of the texts alone: never of the clock, of neighbours or of other searches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .types import Step


@dataclass(frozen=True, slots=True)
class Pause:
    """Stops a row before its next token, and has it say what that token may be (Step.ahead).

    It pauses where the mean entropy of its last `window` next-token distributions, the coming one among them, is at least
    `above` (`falling`: at most), once it has drawn `least` tokens beside those that it was made to begin with. Entropies are of
    the model's own distribution, nats. `above=0` pauses at once.
    """

    above: float = 0.0
    window: int = 1
    falling: bool = False
    least: int = 0
    peek: int = 0  # how many tokens it says something of
    gumbel: bool = False  # the first in the order of a sample without replacement, by the row's own noise; else the likeliest

    def __post_init__(self) -> None:
        if math.isnan(self.above):
            raise ValueError("above must be a number of nats, not nan")
        if self.window < 1 or self.least < 0 or self.peek < 0:
            raise ValueError(
                f"window must be at least 1, least and peek at least 0, not {self.window}, {self.least}, {self.peek}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """What a paused row says of its next token."""

    entropy: float  # of the model's own distribution, nats
    tokens: NDArray[np.int32]  # [peek] in the order of `keys`, largest first
    logprobs: NDArray[np.float32]  # [peek] ln p of the model's own distribution, nats
    keys: NDArray[np.float32]  # [peek] what orders them: ln p, or with Gumbel(0) noise added (arXiv 1903.06059)


@dataclass(frozen=True, slots=True)
class Unsure:
    """Ends a row once the mean confidence of its last `window` tokens is below `below` (DeepConf online, arXiv 2508.15260);
    a row with fewer tokens goes on. Confidence is Step.confidences where the sampling asks for it, else Step.certainties."""

    window: int
    below: float

    def __post_init__(self) -> None:
        if self.window < 1 or math.isnan(self.below):
            raise ValueError(f"window must be at least 1 and below a number, not {self.window} and {self.below}")


@dataclass(frozen=True, slots=True)
class Halt:
    """Stops all rows of a request once those that have ended by themselves decide it.

    `decide` gets their steps in the order of (tokens, path), each time that some have ended. `name` says all that its
    decision depends on beside them: two rules of one name are the same.
    """

    name: str
    decide: Callable[[Sequence[Step]], bool] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one request; none by default."""

    pause: Pause | None = None
    unsure: Unsure | None = None
    halt: Halt | None = None
    marks: tuple[str, ...] = ()  # strings that end a step, wherever tokens part them; they stay in its text

    def __post_init__(self) -> None:
        if "" in self.marks:
            raise ValueError(f"a mark must have at least 1 character; leave the empty one out of {list(self.marks)}")


NO_RULES = Rules()
