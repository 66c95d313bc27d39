"""The generator of dice: each row a function of its prefix and its seed, whatever it is asked with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from search.rules import Rules
from search.types import Extend, Extension, Finish, Sampling, Step, order

from .world import ANSWER, END, HEAD, WORLD, Dice, place_of, right_answer, tempered, written

Floats = NDArray[np.float32]


# ------------------------------------------------------------------------------------------------------------ generator


class Refused(ValueError):
    """A request for something that dice have not."""


@dataclass
class DiceGenerator:
    """Answers every request within one advance. No prompt is computed, so only generated tokens are charged.

    Rows are drawn by temperature alone, and end as `first`, `rules.halt` and the allowance have it; all else is Refused.
    """

    dice: Dice = WORLD
    small: Dice | None = None  # the smaller sibling
    _waiting: dict[int, Extension] = field(default_factory=dict)

    def submit(self, search: int, request: Extend) -> None:
        if search in self._waiting:
            raise ValueError(f"search {search} has a request already")
        sampling, rules = request.sampling, request.rules
        if sampling != Sampling(temperature=sampling.temperature) or rules != Rules(halt=rules.halt) or request.stops:
            raise Refused(f"dice know temperature, `first` and `halt`, not {sampling}, {rules}, stops={request.stops}")
        if request.model and (request.model != "small" or self.small is None):
            raise Refused(f"there are no dice '{request.model}'")
        self._waiting[search] = self._answer(request)

    def advance(self) -> list[tuple[int, Extension]]:
        done, self._waiting = list(self._waiting.items()), {}
        return done

    def forget(self, search: int) -> None:
        self._waiting.pop(search, None)

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def _answer(self, request: Extend) -> Extension:
        dice = self.small if request.model and self.small else self.dice
        temperature = request.sampling.temperature
        odds = tempered(dice.p, temperature), tempered(dice.recover, temperature)
        whole: list[list[int]] = []
        for row in request.rows:
            place = place_of(row.prefix + row.begin if row.begin else row.prefix)
            whole.append([*row.begin, *dice.write(place, row.seed if temperature else 0, request.until, odds)])

        def decided(ended: list[int]) -> bool:
            """Whether the rows that have ended by themselves stop the others."""
            if request.first is not None and len(ended) >= request.first:
                return True
            halt = request.rules.halt
            if halt is None or not ended:
                return False
            chosen = sorted(ended, key=lambda i: (len(whole[i]), order(request.rows[i].path)))
            rows = tuple(request.rows[i] for i in chosen)
            said = [whole[i] for i in chosen]
            return halt.decide(steps_of(dice, replace(request, rows=rows), said, [_own(tokens) for tokens in said]))

        lengths, finishes = cut(request, whole, decided)
        said = [tokens[:length] for tokens, length in zip(whole, lengths, strict=True)]
        small = sum(lengths) if request.model else 0
        return Extension(tuple(steps_of(dice, request, said, finishes)), small_tokens=small)


# ---------------------------------------------------------------------------------------------------------- stop rules


def _own(tokens: Sequence[int]) -> Finish:
    """Why a row ends that nothing cuts."""
    return Finish.END if tokens[-1] == END else Finish.STEP


def cut(
    request: Extend, whole: Sequence[Sequence[int]], decided: Callable[[list[int]], bool]
) -> tuple[list[int], list[Finish]]:
    """How many of its tokens each row gets, and why it ends, as if all rows were written side by side."""
    lengths = [min(len(tokens), row.limit) for tokens, row in zip(whole, request.rows, strict=True)]
    uncut = [length == len(tokens) for tokens, length in zip(whole, lengths, strict=True)]
    finishes = [_own(tokens) if ends else Finish.LENGTH for tokens, ends in zip(whole, uncut, strict=True)]
    if request.first is not None or request.rules.halt is not None:
        ends = sorted((length, i) for i, length in enumerate(lengths) if uncut[i])
        for last in dict.fromkeys(length for length, _ in ends):
            if decided([i for length, i in ends if length <= last]):
                finishes = [Finish.CANCELLED if n > last else finish for n, finish in zip(lengths, finishes, strict=True)]
                lengths = [min(length, last) for length in lengths]
                break
    if request.allowance is not None and sum(lengths) > request.allowance:
        _ration(request.allowance, lengths, finishes)
        # those that would have stopped the others may not have got that far
        if not decided([i for i, finish in enumerate(finishes) if finish in (Finish.END, Finish.STEP)]):
            finishes = [Finish.BUDGET if finish is Finish.CANCELLED else finish for finish in finishes]
    return lengths, finishes


def _ration(left: int, lengths: list[int], finishes: list[Finish]) -> None:
    """Cuts rows where the allowance ends: a token each in turn, until a round that has too few; its first rows get theirs."""
    given, live = 0, list(range(len(lengths)))
    while len(live) <= left:
        left -= len(live)
        given += 1
        live = [i for i in live if lengths[i] > given]
    for place, i in enumerate(live):
        length = given + (place < left)
        if length < lengths[i]:
            lengths[i], finishes[i] = length, Finish.BUDGET


# ---------------------------------------------------------------------------------------------------------- statistics


def steps_of(dice: Dice, request: Extend, said: Sequence[Sequence[int]], finishes: Sequence[Finish]) -> list[Step]:
    """The steps of rows, their statistics looked up all at once."""
    temperature = request.sampling.temperature
    tokens = np.array([token for row in said for token in row], dtype=np.int32)
    of = statistics(dice, temperature)[:, (tokens >= HEAD) * (1 + (tokens & 1))]
    steps, begin = [], 0
    for row, asked, finish in zip(said, request.rows, finishes, strict=True):
        own = slice(begin, begin + len(row))
        begin += len(row)
        if dice.recover:
            _answered(dice, temperature, asked.prefix, row, of[:, own])
        likely, sure, entropy, drawn = of[:, own]
        steps.append(Step(tokens[own], "".join(map(written, row)), likely, sure, entropy, finish, drawn))
    return steps


def _answered(dice: Dice, temperature: float, prefix: tuple[int, ...], row: Sequence[int], of: Floats) -> None:
    """Puts in the statistics of an answer that was drawn: one after a mistake."""
    at = next((i for i, token in enumerate(row) if ANSWER <= token < HEAD), None)
    if at is not None and place_of((*prefix, *row[:at])).mistake:
        right = row[at] - ANSWER == right_answer(prefix[2])
        of[:, at] = drawing(dice.recover, temperature, 1)[:, 0 if right else 1]


def drawing(p: float, temperature: float, variety: int) -> Floats:
    """ln p, certainty, entropy and ln of the probability of being drawn, nats [4, 2], of one of `variety` tokens that share p,
    and of one of as many that share the rest. Over the tokens that may come: certainty over all would be infinite."""
    q, share = tempered(p, temperature), math.log(variety)
    sure = -0.5 * (_ln(2 * p) + _ln(2 * (1 - p)))
    entropy = share - p * _ln(p) - (1 - p) * _ln(1 - p)
    drawn = (_ln(q) - share, _ln(1 - q) - share) if temperature else (0.0, 0.0)
    return np.array([(_ln(p) - share, _ln(1 - p) - share), (sure, sure), (entropy, entropy), drawn], dtype=np.float32)


@lru_cache(maxsize=1 << 6)
def statistics(dice: Dice, temperature: float) -> Floats:
    """As `drawing` [4, 3]: of a token that alone may come, of a right head, of a wrong one."""
    return np.hstack([np.zeros((4, 1), dtype=np.float32), drawing(dice.p, temperature, dice.variety)])


def _ln(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


__all__ = ["DiceGenerator", "Refused"]
