"""What rows may write after their next token, as a drafter guesses it, and where that stands in a pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.engine.draft import LENGTHS, Drafter
from pipelines.engine.rows import Rows
from pipelines.engine.tickets import Live

Slots = NDArray[np.int64]
Guesses = dict[int, list[int]]  # by slot


def guesses_for(running: Sequence[Live], rows: Rows, drafter: Drafter) -> Guesses:
    """By slot, what the rows may write after their next token: for rows that do not run in step."""
    found = {}
    spare: dict[int, int] = {}  # tokens that a bounded request's FLOPs pay for beyond its rows' next ones
    for live in running:
        if live.ticket.left is not None:
            spare[id(live.ticket)] = spare.get(id(live.ticket), live.ticket.left) - 1
    for live in running:
        left = int(rows.limits[live.slot] - rows.counts[live.slot]) - 1
        left = min(left, spare.get(id(live.ticket), left))
        if not live.ticket.lockstep and left > 0 and live.ticket.request.rules.pause is None:
            guess = drafter.guess(live.ticket.search, tail(rows, live, LENGTHS[0]), left)
            if guess:
                found[live.slot] = guess
                if live.ticket.most is not None:
                    spare[id(live.ticket)] -= len(guess)
    return found


def guessed(slots: Slots, rows: Rows, guesses: Guesses) -> list[tuple[Slots, Slots, Slots]]:
    """Each row's next token and its guess, with their positions and slots."""
    parts = []
    for slot in slots.tolist():
        ids = np.array([rows.next[slot], *guesses.get(slot, ())], dtype=np.int64)
        end = int(rows.ends[slot])
        parts.append((ids, np.arange(end, end + len(ids)), np.full(len(ids), slot)))
    return parts


def tail(rows: Rows, live: Live, most: int) -> list[int]:
    """The last tokens of a row's sequence."""
    count = int(rows.counts[live.slot])
    drawn: list[int] = rows.tokens[live.slot, max(count - most, 0) : count].tolist()
    return [*live.row.prefix[len(drawn) - most :], *drawn] if len(drawn) < most else drawn


def heads(order: Slots, guesses: Guesses) -> Slots:
    """Where each live row's next token stands among the tokens of the pass: what it guesses stands behind it."""
    sizes = np.array([1 + len(guesses.get(slot, ())) for slot in order.tolist()])
    found: Slots = np.cumsum(sizes) - sizes
    return found
