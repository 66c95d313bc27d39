"""What one forward pass is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.engine.memory import Ints, Places

MOST_ROWS = 128  # of one matrix product: larger ones may take another way, which rounds otherwise, and are hardly faster


@dataclass(frozen=True, slots=True)
class Batch:
    """One pass: new tokens with their places, all of a row's side by side and in order."""

    ids: Ints  # [tokens]
    places: Places
    wanted: Ints  # indices of the tokens whose logits are wanted, ascending

    def part(self, begin: int, end: int) -> Batch:
        """The tokens from begin to end. Parts are computed one after the other, or they share no row."""
        at = self.places
        places = Places(at.positions[begin:end], at.rows[begin:end], at.blocks[begin:end], at.tables, at.starts)
        wanted = self.wanted[(self.wanted >= begin) & (self.wanted < end)] - begin
        return Batch(self.ids[begin:end], places, wanted)

    def pieces(self) -> list[Batch]:
        """Parts of at most MOST_ROWS tokens, in order."""
        count = len(self.ids)
        return [self.part(i, min(i + MOST_ROWS, count)) for i in range(0, count, MOST_ROWS)] if count > MOST_ROWS else [self]
