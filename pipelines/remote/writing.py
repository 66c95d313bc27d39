"""One row on its way: what the server has written of it, what ends it, and the step that it becomes.

What ends a row is looked for here, in the text as it comes, whether or not the server was asked to stop there: some servers do
not say why they stopped, and some do not stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from pipelines.remote.counts import Heard, charged
from pipelines.remote.wire import Piece, mean_of
from pipelines.remote.words import UNTOLD, Words
from search.types import SEPARATOR, Extend, Finish, Row, Step, Until


@dataclass(slots=True)
class Writing:
    """A row and what was written of it so far. An attempt is one request for it; most rows need no second one."""

    request: Extend
    row: Row
    words: Words
    limit: int  # tokens it may have: the row's, or its share of what is left of a budget
    text: str = ""
    finish: Finish | None = None
    ids: list[int] = field(default_factory=list)  # of the attempts that are over, as are these:
    logprobs: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    seen: bool = False  # whether this attempt has brought anything
    failures: int = 0  # in a row
    failing: float = 0.0  # since when, seconds on the monotonic clock
    ignored: bool = False  # whether the server went beyond what it was asked
    restarts: int = 0  # attempts before this one that brought something
    _begin: int = 0  # where in the text this attempt begins
    _cut: str = ""  # what was received of this attempt behind the row's end
    _events: int = 0
    _hidden: bool = False
    _tokens: list[str] = field(default_factory=list)
    _told: bool = True  # whether every event brought its tokens
    _logprobs: list[float] = field(default_factory=list)
    _confidences: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens so far, for all that is known."""
        return len(self.ids) + (len(self._tokens) if self._told and self._tokens else self._events)

    @property
    def left(self) -> int:
        return self.limit - self.length

    @property
    def closed(self) -> bool:
        """Whether it has an end, and what it is charged is known."""
        return self.finish is not None and not self.seen

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self.finish in (Finish.END, Finish.STEP)

    # ---------------------------------------------------------------------------------------------------------- hearing

    def take(self, piece: Piece, stops: tuple[str, ...]) -> None:
        """Adds what came, and ends the row where something in it does. `stops`: what the server was asked to stop at."""
        self.seen = True
        if piece.text and self.length >= self.limit:
            self.ignored, self.finish = True, Finish.LENGTH
            return
        if piece.text or piece.tokens or piece.hidden:
            before = len(self.text)
            self._hear(piece)
            self._look(stops, before)
            self._doubt()
        if self.finish is None and piece.finish is not None:
            self._close(piece, stops)

    def _hear(self, piece: Piece) -> None:
        self.text += piece.text
        self._events += 1
        self._hidden |= piece.hidden
        if piece.tokens is None:
            self._told = False
        elif self._told:
            self._tokens += piece.tokens
            self._logprobs += piece.logprobs
            if k := self.request.sampling.confidence:
                self._confidences += [mean_of(top, k) for top in piece.tops] or [math.nan] * len(piece.tokens)

    def _look(self, stops: tuple[str, ...], before: int) -> None:
        """Ends the row at the first string that ends a solution or a step and that came, or was completed, behind the first
        `before` characters; cuts off what is behind it."""

        def found(string: str, least: int = 0) -> int:
            return self.text.find(string, max(least, before - len(string) + 1, 0))

        ends = [(found(stop), stop, Finish.END) for stop in self.request.stops]
        if self.request.until is Until.STEP:
            inked = len(self.text) - len(self.text.lstrip())  # a step says something before its separator counts
            ends += [(found(SEPARATOR, inked), SEPARATOR, Finish.STEP)]
            ends += [(found(mark), mark, Finish.STEP) for mark in self.request.rules.marks]
        if there := [each for each in ends if each[0] >= 0]:
            at, string, self.finish = min(there, key=lambda each: each[0] + len(each[1]))
            self.ignored |= string in stops
            self.text, self._cut = self.text[: at + len(string)], self.text[at + len(string) :]

    def _doubt(self) -> None:
        """Ends the row where its confidence is below what a rule allows."""
        rule, trace = self.request.rules.unsure, self.confidences + self._confidences
        if rule is not None and len(trace) >= rule.window and self.finish is None:
            mean = math.fsum(trace[-rule.window :]) / rule.window
            self.finish = Finish.UNSURE if mean < rule.below else None

    def _close(self, piece: Piece, stops: tuple[str, ...]) -> None:
        """The server is done: why. It leaves the string out that stopped it, and it is put back."""
        if piece.finish in ("length", "content_filter"):  # it is not whole
            self.finish = Finish.LENGTH
        elif isinstance(piece.stop, str) and piece.stop in stops:
            self.text += piece.stop
            if piece.stop in self.request.stops:
                self.finish = Finish.END
            elif piece.stop != SEPARATOR or self.text.strip():
                self.finish = Finish.STEP
            else:  # nothing was said yet, and the row goes on
                self._events, self._told = max(self._events, 1), False
        else:
            self.finish = Finish.END

    # ---------------------------------------------------------------------------------------------------------- charging

    def settle(self, said: int | None, asked: int, whole: bool) -> str:
        """The attempt is over: charges it, and says what is wrong with the server's count of it ('' where nothing is).
        `asked`: how many tokens it might have; `whole`: whether the server itself ended it."""
        text = self.text[self._begin :]
        told = len(self._tokens) if self._told and self._tokens else None
        whole_text = text + self._cut
        size = len(whole_text.encode("utf-8", "replace"))
        heard = Heard(told, self._events, self.words.count(whole_text), size, self._hidden, whole, asked)
        many, wrong = charged(heard, said)
        tokens = self._tokens[:many] if told is not None else []
        self.ids += self.words.ids(text, many, tokens, self.finish is Finish.END)
        for kept, new in ((self.logprobs, self._logprobs), (self.confidences, self._confidences)):
            kept += new[:many] if told is not None else []
            kept += [math.nan] * (len(self.ids) - len(kept))
        self._cut = ""
        self._begin, self._events, self._hidden, self._told = len(self.text), 0, False, True
        self._tokens, self._logprobs, self._confidences = [], [], []
        self.seen, self.restarts = False, self.restarts + (many > 0)
        return wrong

    def drop(self) -> None:
        """The text cannot be gone on from: it begins again, and what was charged stays charged."""
        self.text, self._begin, self.restarts = "", 0, 0
        self.ids = [UNTOLD] * len(self.ids)
        self.logprobs, self.confidences = [math.nan] * len(self.ids), [math.nan] * len(self.ids)

    def step(self) -> Step:
        """What is kept. Statistics that the server does not tell, or can not, are NaN: the certainty and the entropy of a whole
        distribution always."""
        many = len(self.ids)
        absent = np.full(many, np.nan, dtype=np.float32)
        return Step(
            tokens=np.array(self.ids, dtype=np.int32),
            text=self.text,
            logprobs=np.array(self.logprobs, dtype=np.float32),
            certainties=absent,
            entropies=absent,
            finish=self.finish or Finish.CANCELLED,
            drawn=np.zeros(many, dtype=np.float32) if self.request.sampling.temperature == 0 else None,
            confidences=np.array(self.confidences, dtype=np.float32) if self.request.sampling.confidence else None,
        )


__all__ = ["Writing"]
