"""Pairwise knock-out: a tournament in which a model says which of two solutions is better (arXiv 2411.19477)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from search.checks import one_of, positive
from search.select import Entry, Selector, entries
from search.tree import Tree
from search.types import GREEDY, ROOT, Ask, Choice, Sampling, Until, order

from .asking import filled, tail

PAIR = """{problem}

<A {nonce}>

{first}

</A {nonce}>

<B {nonce}>

{second}

</B {nonce}>

Which solution is better? End with a line "Better: A." or "Better: B." """.rstrip()
VERDICT = re.compile(r"Better: ([AB])\.?")  # the whole of a last line; nothing else is a verdict


def compared(problem: str, first: str, second: str, nonce: str) -> str:
    """The prompt of a comparison. The solutions stand between marks that neither can know: their nonce is of their texts."""
    return filled(PAIR, problem=problem, first=first, second=second, nonce=nonce)


def nonce_of(*texts: str) -> str:
    """6 digits that none of the texts holds, and that only they decide."""
    turn = 0
    while True:
        digest = hashlib.blake2b(repr((turn, texts)).encode(errors="surrogatepass"), digest_size=8).digest()
        nonce = f"{int.from_bytes(digest, 'little') % 1_000_000:06d}"
        if not any(nonce in text for text in texts):
            return nonce
        turn += 1


def verdict_of(text: str) -> str | None:
    """ "A" or "B" where the last line is a verdict and the only one; else None."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [match[1] for line in lines if (match := VERDICT.fullmatch(line))]
    return found[0] if len(found) == 1 and VERDICT.fullmatch(lines[-1]) else None


@dataclass(frozen=True)
class Knockout:
    """n solutions as best-of-n's, then rounds in which neighbours meet: each pair is put to the judge in both orders, k times
    each, and who has more verdicts goes on. Of a tie the one goes on whose answer more solutions gave, then the earlier path.
    Two with one answer are not compared; of an odd number the last goes on by itself. Who has no answer does not take part.

    by: "" asks the generator itself, "small" the run's other model (--small).
    room: tokens that the two solutions may have in a prompt, half each: of a longer one its end is shown.
    Cost: n solutions and at most 2 k (n - 1) comparisons.
    """

    n: int = 8
    k: int = 1
    by: str = ""
    temperature: float = 0.7  # of the comparisons; at 0, each order is asked once, whatever k
    room: int = 512

    models: ClassVar[tuple[str, ...]] = ("", "small")

    def __post_init__(self) -> None:
        positive(n=self.n, k=self.k, room=self.room)
        one_of("model in by", self.by, self.models)
        Sampling(temperature=self.temperature)  # refuses what is no temperature

    @property
    def needs_small(self) -> bool:
        """Whether the run must have a second model."""
        return self.by == "small"

    @property
    def _sampling(self) -> Sampling:
        return Sampling(temperature=self.temperature) if self.temperature else GREEDY

    def search(self, tree: Tree) -> Ask[Choice]:
        made = yield from tree.extend([ROOT], n=self.n, until=Until.END)
        pool = entries(tree, made)
        choice = Selector("majority")(pool)
        shares = {vote.answer: vote.count for vote in choice.votes}
        left = sorted((e for e in pool if e.answer is not None), key=lambda e: order(e.path))
        said = asked = 0
        while len(left) > 1:
            winners = []
            for first, second in zip(left[::2], left[1::2], strict=False):
                votes = yield from self._compared(tree, first, second)
                asked, said = asked + votes[2], said + votes[0] + votes[1]
                winners.append(_winner(first, second, votes, shares))
            left = [*winners, *left[2 * len(winners) :]]
        if not left:
            return choice
        ours = tuple(sorted(choice.votes, key=lambda vote: vote.answer != left[0].answer))
        told = f"knockout: {left[0].answer} of {len(shares)} answers, by {said} verdicts in {asked} comparisons"
        return replace(choice, path=left[0].path, answer=left[0].answer, reason=told, votes=ours)

    def _compared(self, tree: Tree, first: Entry, second: Entry) -> Ask[tuple[int, int, int]]:
        """(verdicts for the first, for the second, comparisons asked for). Both orders, since judges prefer a place."""
        if first.answer == second.answer:
            return 0, 0, 0
        votes = [0, 0]
        asked = 0
        shown = [tail(tree, tree.text(entry.path), self.room // 2) for entry in (first, second)]
        for swapped in (False, True):
            pair = shown[::-1] if swapped else shown
            prompt = compared(tree.question.text, pair[0], pair[1], nonce_of(tree.question.text, *pair))
            n = self.k if self.temperature else 1
            made = yield from tree.extend(
                [ROOT], n=n, until=Until.END, sampling=self._sampling, prompt=prompt, model=self.by, aside="comparison"
            )
            asked += len(made)
            for candidate in made:
                verdict = verdict_of(candidate.step.text) if candidate.finished else None
                if verdict is not None:
                    votes[(verdict == "B") != swapped] += 1
        return votes[0], votes[1], asked


def _winner(first: Entry, second: Entry, votes: Sequence[int], shares: dict[str, int]) -> Entry:
    if votes[0] != votes[1]:
        return first if votes[0] > votes[1] else second
    return second if shares[second.answer or ""] > shares[first.answer or ""] else first


__all__ = ["PAIR", "Knockout", "compared", "nonce_of", "verdict_of"]
