"""What a completion is charged: the server's own count, where it can be true.

A count is held against what was received. What was received is a lower bound that cannot be argued with (tokens that were told
one by one, or else events with text in them); the upper bounds are what was asked for, and what the text can hold. Where the
server's count is outside, the larger of the two numbers is charged, though never more than was asked for, and it is said.
"""

from __future__ import annotations

from dataclasses import dataclass

SLACK = 8  # tokens that may be there and not be seen: the end's, and those of a string that stopped it


@dataclass(frozen=True, slots=True)
class Heard:
    """What of one completion was received."""

    told: int | None  # tokens told one by one
    events: int  # with something in them
    counted: int | None  # tokens that our tokenizer makes of the text
    bytes: int  # of the text
    hidden: bool  # whether there were thoughts beside the text
    whole: bool  # whether it ran to its end
    asked: int  # tokens it might have at most

    @property
    def least(self) -> int:
        """How many it has for certain."""
        return self.told if self.told is not None else self.events

    @property
    def likely(self) -> int:
        """How many it has, for all that is known here."""
        return self.told if self.told is not None else max(self.events, self.counted or 0)

    @property
    def most(self) -> int:
        """How many it can have."""
        if self.hidden:
            return self.asked
        if self.told is not None:
            return min(self.told + SLACK, self.asked)
        # a token that writes something writes a byte at least; a text may be parted more finely than a tokenizer does it
        text = self.bytes if self.counted is None else min(2 * self.counted, self.bytes)
        return min(text + SLACK, self.asked)


def charged(heard: Heard, said: int | None) -> tuple[int, str]:
    """Tokens to charge, and what is wrong with the server's count ('' where nothing is). `said`: its count, or None."""
    if said is None:
        return min(heard.likely, heard.asked), ""
    fewest = heard.least
    if heard.told is None and heard.counted is not None and not heard.hidden:
        fewest = max(fewest, int(0.8 * heard.counted) - 2)  # no text is parted much more coarsely than a tokenizer does it
    if said < fewest:
        return min(
            max(heard.likely, said), heard.asked
        ), f"counts {said} tokens where {max(heard.likely, fewest)} were received"
    if heard.whole and said > heard.most:
        why = f"where {heard.asked} were asked for at most" if said > heard.asked else f"where {heard.likely} were received"
        return min(said, heard.asked), f"counts {said} tokens {why}"
    return min(said, heard.asked), ""


__all__ = ["Heard", "charged"]
