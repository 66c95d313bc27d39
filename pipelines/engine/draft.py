"""Guesses of a row's next tokens from what its search has written before: the prompt and the sibling samples.

Samples of one problem repeat each other for long stretches (STAND, arXiv 2506.04708; Token Recycling, arXiv 2408.08696), so
the token that followed the same few tokens last time is a fair guess. A guess costs a place in the pass and never changes a
text: the engine draws each token as it would have anyway, and a guess only says what to compute ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

LENGTHS = (4, 3, 2)  # tokens that are looked up, longest first


class Drafter:
    """Tables of what followed which tokens, one for each search."""

    def __init__(self, most: int) -> None:
        self.most = most  # tokens of one guess; 0 = none
        self._tables: dict[int, dict[tuple[int, ...], int]] = {}

    def learn(self, search: int, tokens: Sequence[int], new: int) -> None:
        """Notes what the last `new` of these tokens followed; the latest occurrence counts."""
        table = self._tables.setdefault(search, {})
        for at in range(max(len(tokens) - new, 1), len(tokens)):
            for length in LENGTHS:
                if at >= length:
                    table[tuple(tokens[at - length : at])] = tokens[at]

    def guess(self, search: int, tokens: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens after these, as far as something is known."""
        table = self._tables.get(search)
        if not table:
            return []
        tail, found = list(tokens[-LENGTHS[0] :]), []
        for _ in range(min(most, self.most)):
            follower = next((f for length in LENGTHS if (f := table.get(tuple(tail[-length:]))) is not None), None)
            if follower is None:
                break
            found.append(follower)
            tail.append(follower)
        return found

    def forget(self, search: int) -> None:
        self._tables.pop(search, None)
