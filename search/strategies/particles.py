"""Particle filtering, also called sequential Monte Carlo, under a verifier (arXiv 2502.01618), and particle Gibbs.

n particles, each a partial solution, take a step each; a step is weighted by the odds r / (1 - r) of its verifier's value,
to the power 1 / temperature; where the weights are uneven (effective sample size below `ess` n) who goes on is drawn by
them. Unlike a beam it explores: a particle goes on with a chance that is its weight.

    incremental  w *= odds(r_t) / odds(r_(t-1)), 1 before the first step: textbook SMC. The target is p(text) odds(r) of the
                 text as it now is, whenever it is resampled.
    current      w = odds(r_t), since the last resampling whatever it was: as published. Resampled at every step the target
                 is p(text) times the product of odds(r_t) over the steps.

The evidence, the target's sum over all texts, is estimated without bias by the product over resamplings of the mean
weight, in `incremental` with any scheme and threshold and no entropic annealing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from search.checks import one_of, positive
from search.select import SELECTORS, Selector, entries
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Path, State, Until, lineage, seed_of

from .beam import taken_back
from .weights import SCHEMES, Scheme, Weights, ancestors, effective, log_sum, normalised

Weighting = Literal["incremental", "current"]
Anneal = Literal["none", "linear", "entropic"]
CLIP = 1e-7  # r is kept this far from 0 and 1, where the odds end


def log_odds(r: float) -> float:
    r = min(max(r, CLIP), 1 - CLIP)
    return math.log(r) - math.log1p(-r)


@dataclass(slots=True, eq=False)
class Swarm:
    """The particles of one sweep. Several may be at one path: their next steps are its children, each with a seed of its
    own, so nothing is copied."""

    n: int
    paths: list[Path] = field(init=False)
    log_odds: Weights = field(init=False)  # [n] of the value at its path
    counted: Weights = field(init=False)  # [n] what of it, over the temperature, the weight has
    log_weights: Weights = field(init=False)  # [n] since the last resampling, not normalised; -inf: lost
    log_evidence: float = 0.0  # of what was weighed before the last resampling
    resamplings: int = 0
    cut: bool = False  # by the budget

    def __post_init__(self) -> None:
        self.paths = [ROOT] * self.n
        self.log_odds, self.counted, self.log_weights = np.zeros((3, self.n))

    @property
    def alive(self) -> list[int]:
        return [i for i in range(self.n) if np.isfinite(self.log_weights[i])]

    @property
    def evidence(self) -> float:
        """ln of the estimate, of what was weighed so far."""
        return self.log_evidence + log_sum(self.log_weights) - math.log(self.n)

    def weighed(self, temperature: float, weights: Weighting) -> Weights:
        """The log-weights as they are with the present values. What is lost stays lost."""
        target = self.log_odds / temperature
        if weights == "incremental":
            return self.log_weights + target - self.counted
        return np.where(np.isfinite(self.log_weights), target, -np.inf)

    def weigh(self, temperature: float, weights: Weighting) -> None:
        self.log_weights = self.weighed(temperature, weights)
        self.counted = self.log_odds / temperature

    def resample(self, chosen: Sequence[int]) -> None:
        self.log_evidence, self.resamplings = self.evidence, self.resamplings + 1
        self.paths = [self.paths[i] for i in chosen]
        self.log_odds, self.counted = self.log_odds[chosen], self.counted[chosen]
        self.log_weights = np.zeros(self.n)


@dataclass(frozen=True)
class Particles:
    """n particles, resampled by the odds of the verifier's value. weights=current,resampling=multinomial,ess=1: as published.

    Cost: about n solutions a sweep; one verifier pass a step of each particle.
    """

    n: int = 8
    weights: Weighting = "incremental"
    temperature: float = 1.0  # of the log-odds; higher = more even weights
    resampling: Scheme = "systematic"
    ess: float = 0.5  # resampled below this part of n; 1: at every step; 0: never
    anneal: Anneal = "none"
    sweeps: int = 1  # of particle Gibbs; 1: particle filtering
    depth: int = 40
    select: Selector = Selector("best")

    def __post_init__(self) -> None:
        positive(n=self.n, sweeps=self.sweeps, depth=self.depth)
        one_of("weights", self.weights, ("incremental", "current"))
        one_of("resampling", self.resampling, SCHEMES)
        one_of("anneal", self.anneal, ("none", "linear", "entropic"))
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be a finite number above 0, not {self.temperature}")
        if not 0 <= self.ess <= 1:
            raise ValueError(f"ess must be between 0 and 1, a part of n, not {self.ess}")
        if self.sweeps > 1 and self.n == 1:
            raise ValueError("n must be at least 2 where sweeps are more than 1: one particle is the reference")

    def search(self, tree: Tree) -> Ask[Choice]:
        pool: list[Candidate] = []
        swarms: list[Swarm] = []
        reference = ROOT
        for number in range(self.sweeps):
            rng = np.random.default_rng(seed_of(tree.seed, tree.question.id, f"sweep {number}"))
            swarm = yield from self.sweep(tree, reference, rng)
            swarms.append(swarm)
            if not swarm.alive:
                break
            pool += [tree.candidates[swarm.paths[i]] for i in self._voting(tree, swarm, rng)]
            reference = drawn(swarm, rng)
            if swarm.cut:
                break
        if all(tree.answer(c.path).key is None for c in pool):
            lost = [c for c in tree.candidates.values() if c.finished and tree.states[c.path][1] == "not resampled"]
            pool += taken_back(tree, lost)
        of = {entry.path: entry for entry in entries(tree, pool)}
        choice = self.select([of[candidate.path] for candidate in pool])
        return replace(choice, reason=f"{choice.reason}; {said(swarms)}")

    def sweep(self, tree: Tree, reference: Path, rng: np.random.Generator) -> Ask[Swarm]:
        """One sweep. With a reference, the first particle follows it to its end and is never resampled (conditional SMC)."""
        swarm, kept = Swarm(self.n), lineage(reference)
        for step in range(1, self.depth + 1):
            yield from _moved(tree, swarm, kept[:step])
            if not swarm.alive:
                break
            swarm.weigh(self._tempered(swarm, step / self.depth), self.weights)
            still_open = any(tree.candidates[swarm.paths[i]].open for i in swarm.alive)
            if not still_open or tree.spent or tree.unjudged or step == self.depth:
                break
            if self.ess == 1 or effective(swarm.log_weights) < self.ess * self.n:
                self._resample(tree, swarm, rng, bool(kept))
        if swarm.alive:
            swarm.weigh(self.temperature, self.weights)  # annealing ends here
        swarm.cut = tree.spent or tree.unjudged
        return swarm

    def _tempered(self, swarm: Swarm, progress: float) -> float:
        """The temperature at this part of the way, in (0, 1]. Linear: from twice down to once. Entropic: higher the fewer
        particles carry the weight, in the first half and while those are fewer than half (the ITS hub's rule, 2026)."""
        factor = 1.0
        if self.anneal == "linear":
            factor = 2 - progress
        elif self.anneal == "entropic":
            part = effective(swarm.weighed(self.temperature, self.weights)) / self.n
            if part < 0.5 and progress < 0.5:
                factor = max(1.0, (1 - progress) / part)
        return self.temperature * factor

    def _resample(self, tree: Tree, swarm: Swarm, rng: np.random.Generator, conditional: bool) -> None:
        """Who goes on. Beside a reference the others are drawn one by one, for which it is exact to keep it."""
        weights = normalised(swarm.log_weights)
        if conditional:
            chosen = [0, *ancestors("multinomial", weights, self.n - 1, rng).tolist()]
        else:
            chosen = ancestors(self.resampling, weights, self.n, rng).tolist()
        going = {swarm.paths[i] for i in chosen}
        dropped = dict.fromkeys(swarm.paths[i] for i in swarm.alive if swarm.paths[i] not in going)
        tree.mark((tree.candidates[path] for path in dropped), State.PRUNED, "not resampled")
        swarm.resample(chosen)

    def _voting(self, tree: Tree, swarm: Swarm, rng: np.random.Generator) -> list[int]:
        """The finished particles, each as often as it is there. A selector that adds up votes knows nothing of weights: for
        it they are made even by one more resampling."""
        finished = [i for i in swarm.alive if tree.candidates[swarm.paths[i]].finished]
        if not finished or not SELECTORS[self.select.name].summed:
            return finished
        weights = normalised(swarm.log_weights[finished])
        return [finished[i] for i in ancestors(self.resampling, weights, len(finished), rng)]


def drawn(swarm: Swarm, rng: np.random.Generator) -> Path:
    """The path of one particle, by the weights."""
    return swarm.paths[int(ancestors("multinomial", normalised(swarm.log_weights), 1, rng)[0])]


def _moved(tree: Tree, swarm: Swarm, kept: Sequence[Path]) -> Ask[None]:
    """One step for each open particle; `kept` is the way of the first, where it follows a reference. Steps of one text are
    not merged, and each is judged: how many there are is what their weight means. A particle is lost where its step is cut,
    has no value, or could not be had."""
    waiting: dict[Path, deque[int]] = {}
    for i in swarm.alive:
        path = swarm.paths[i]
        if (i or not kept) and (path == ROOT or tree.candidates[path].open):
            waiting.setdefault(path, deque()).append(i)
    children = yield from tree.extend(waiting, n=[len(those) for those in waiting.values()], until=Until.STEP)
    yield from tree.verify(c for c in children if c.open or c.finished)
    for child in children:
        i = waiting[child.parent].popleft()
        swarm.paths[i] = child.path
        value = tree.value(child.path)
        if value is not None:
            swarm.log_odds[i] = log_odds(value)
            continue
        swarm.log_weights[i] = -np.inf
        if child.path in tree.scores:
            tree.mark([child], State.PRUNED, tree.scores[child.path].reason)
    swarm.log_weights[[i for those in waiting.values() for i in those]] = -np.inf
    if kept:
        swarm.paths[0] = kept[-1]
        swarm.log_odds[0] = log_odds(tree.value(kept[-1]) or 0.0)


def said(swarms: Sequence[Swarm]) -> str:
    """What a choice's reason says of the weights. The evidence is the first sweep's: later ones follow a reference."""
    first, last = swarms[0], swarms[-1]
    if first.cut:
        evidence = "cut short by the budget"
    elif not first.alive:
        evidence = "every particle was lost"
    else:
        evidence = f"log evidence {first.evidence:.4g}"
    times = sum(swarm.resamplings for swarm in swarms)
    return f"{evidence}, ESS {effective(last.log_weights):.1f} of {last.n}, {times} resampling{'s' * (times != 1)}"
