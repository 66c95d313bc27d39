"""Entropy-adaptive decoding: a small model writes what is easy, the large one what is not (arXiv 2502.06833).

The rolling mean, over `window` tokens, of the next-token entropy of the model that is writing decides: above `tau` the large
one takes over, at most `tau` the small one, and neither before it has written `least` tokens. The small one begins, unless its
very first token is above `tau` already. The paper's window, tau and least are not known: these defaults are ours. A model that
takes over first reads what the other wrote; that is charged as prompt tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from search.checks import positive
from search.rules import Pause, Rules
from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Until


@dataclass(frozen=True)
class Switching:
    """One solution by two models, drawn with the run's sampling. Cost: its tokens, `small_tokens` of them by the small one,
    and each token once more, as a prompt's, for the model that did not write it but went on."""

    tau: float = 0.5  # bits
    window: int = 4
    least: int = 4

    needs_small: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(window=self.window, least=self.least)
        if math.isnan(self.tau) or self.tau < 0:
            raise ValueError(f"tau must be at least 0 bits, not {self.tau}")

    def search(self, tree: Tree) -> Ask[Choice]:
        parent, model, least = ROOT, "small", 0
        above = self.tau * math.log(2)
        written: tuple[Candidate, ...] = ()
        while True:
            small = model == "small"
            # strictly above for the small one: a mean of exactly tau is the small one's
            edge = math.nextafter(above, math.inf) if small else above if above else -1.0  # tau = 0 is the large one alone
            pause = Pause(above=edge, window=self.window, falling=not small, least=least)
            written = yield from tree.extend([parent], until=Until.END, rules=Rules(pause=pause), model=model)
            if not written or written[0].step.ahead is None:
                break
            parent, model, least = written[0].path, "" if small else "small", self.least
        return Selector("majority")(entries(tree, written))
