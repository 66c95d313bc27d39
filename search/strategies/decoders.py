"""One solution by another way of drawing tokens: the generator does all of it, within the pass that computes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from search.select import Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Choice, Sampling, Until


def one(tree: Tree, sampling: Sampling) -> Ask[Choice]:
    """One whole solution and what it answers."""
    written = yield from tree.extend([ROOT], until=Until.END, sampling=sampling)
    return Selector("majority")(entries(tree, written))


@dataclass(frozen=True)
class Mirostat:
    """Sampling that holds the text's surprise near `tau` bits a token (Mirostat 2.0, arXiv 2007.14966): a token is drawn among
    those whose surprise is below mu, and mu moves by -eta * (surprise - tau); it begins at 2 tau. Cost: one solution."""

    tau: float = 3.0
    eta: float = 0.1

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise ValueError(f"tau must be above 0 bits, not {self.tau}")
        Sampling(mirostat_tau=self.tau, mirostat_eta=self.eta)

    def search(self, tree: Tree) -> Ask[Choice]:
        given = replace(tree.sampling, top_k=0, top_p=1.0, min_p=0.0, momentum=0.0)
        return (yield from one(tree, replace(given, mirostat_tau=self.tau, mirostat_eta=self.eta)))


@dataclass(frozen=True)
class Momentum:
    """Greedy decoding that avoids loops (momentum decoding, arXiv 2212.02175): of the 5 likeliest tokens the one with the
    highest p - alpha f(l), l the length of the repetition that it would go on with, f(l) = l up to 5 and infinite beyond.
    Cost: one solution."""

    alpha: float = 0.2

    def __post_init__(self) -> None:
        Sampling(temperature=0.0, momentum=self.alpha)

    def search(self, tree: Tree) -> Ask[Choice]:
        return (yield from one(tree, Sampling(temperature=0.0, momentum=self.alpha)))
