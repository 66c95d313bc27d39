"""Which rows their newest token ends, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.engine.rows import Rows
from pipelines.engine.ruling import unsure
from pipelines.engine.tickets import Live
from pipelines.engine.vocabulary import Vocabulary
from search.types import Finish, Until


@dataclass(frozen=True, slots=True)
class Ends:
    """The model's end tokens, step separators, limits, and what a request's rules add to them."""

    vocabulary: Vocabulary
    rows: Rows

    def of(self, drawing: list[Live], slots: NDArray[np.int64], tokens: NDArray[np.int64]) -> list[tuple[Live, Finish]]:
        """The rows that their newest token ends, and why. Only tokens that may end something are looked at one by one."""
        rows, vocabulary = self.rows, self.vocabulary
        special = vocabulary.special[tokens]
        edges = rows.edge[slots]
        inked = rows.inked[slots]
        rows.edge[slots] = False
        rows.inked[slots] |= ~vocabulary.blank[tokens]
        looked = special | (rows.counts[slots] >= rows.limits[slots])
        if any(live.ticket.request.stops or live.ticket.request.rules.marks for live in drawing):
            looked |= True
        ended = []
        for i in np.flatnonzero(looked):
            live = drawing[i]
            finish = self._finish(live, int(tokens[i]), bool(edges[i]), bool(inked[i]))
            if finish is None and rows.counts[live.slot] >= rows.limits[live.slot]:
                finish = Finish.LENGTH
            if finish is not None:
                ended.append((live, finish))
        if any(live.ticket.request.rules.unsure for live in drawing):
            over = {id(live) for live, _ in ended}
            ended += [(live, Finish.UNSURE) for live in drawing if id(live) not in over and self._unsure(live)]
        return ended

    def _unsure(self, live: Live) -> bool:
        rule = live.ticket.request.rules.unsure
        return rule is not None and unsure(rule, self.rows, live.slot)

    def _finish(self, live: Live, token: int, edge: bool, inked: bool) -> Finish | None:
        vocabulary, request = self.vocabulary, live.ticket.request
        if token in vocabulary.ends or (request.stops and self._stopped(live, token, request.stops)):
            return Finish.END
        marks = request.rules.marks
        if marks and request.until is Until.STEP and self._stopped(live, token, marks):
            return Finish.STEP
        kind = vocabulary.newlines.get(token) if request.until is Until.STEP else None
        if kind is None:
            return None
        self.rows.edge[live.slot] = kind.last
        self.rows.inked[live.slot] = inked or kind.inked
        separated = kind.inside or (edge and kind.first)
        return Finish.STEP if separated and (inked or kind.inked_before) else None

    def _stopped(self, live: Live, token: int, stops: Sequence[str]) -> bool:
        """Whether the newest token completes one of these strings, which may have begun some tokens before."""
        if not self.vocabulary.may_complete(token, stops):
            return False
        count = int(self.rows.counts[live.slot])
        window = max(len(stop.encode()) for stop in stops) + 1  # a token holds a byte or more
        text = self.vocabulary.text((), self.rows.tokens[live.slot, max(count - window, 0) : count].tolist())
        return any(stop in text for stop in stops)
