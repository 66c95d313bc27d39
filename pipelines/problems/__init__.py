"""Problems: three synthetic families with exact checkers, and a loader for real sets."""

from .countdown import Countdown
from .guess import Guess
from .instance import SPLITS, Family, Instance, Split, instances
from .word import Word

FAMILIES: dict[str, Family] = {family.name: family for family in (Word(), Countdown(), Guess())}

__all__ = ["FAMILIES", "SPLITS", "Family", "Instance", "Split", "instances"]
