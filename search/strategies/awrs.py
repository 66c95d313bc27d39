"""Solutions that keep to a pattern, drawn from the model's own distribution restricted to it: adaptive weighted rejection
sampling with sequential Monte Carlo (arXiv 2504.05410).

Masking token by token keeps to a pattern too, but writes what the model would hardly have begun had it known where the pattern
leads. Here each particle's token comes with an estimate of the mass that was allowed (`rejection`), the product of which is its
weight, and by the weights it is drawn who goes on. The weighted solutions are a sample of p(text | pattern); the mean weight
estimates the evidence p(pattern), that one sample is within it and ends before the limit, without bias.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import regex

from search.checks import positive
from search.rules import Pause, Rules
from search.select import Selector, entries, tally
from search.tree import Tree
from search.types import GREEDY, ROOT, Ask, Candidate, Choice, Path, State, Until, order, seed_of

from .rejection import Draw, Drawn, drawn
from .token_by_token import written
from .weights import Weights, ancestors, effective, log_sum, normalised


@dataclass(slots=True, eq=False)
class Particle:
    """A partial solution and what it is about to write. No two are at one open candidate: each has noise of its own."""

    at: Candidate
    log_weight: float = 0.0  # since the last resampling; -inf: lost
    token: int | None = None  # drawn, and allowed
    ends: bool = False  # whether that token ends the solution
    looked: dict[int, tuple[Candidate, bool]] = field(default_factory=dict)  # written to be checked, and whether allowed

    @property
    def held(self) -> list[Candidate]:
        """Where it is, and what of its next token is written already."""
        return [self.at, *(candidate for candidate, _ in self.looked.values())]

    @property
    def going(self) -> bool:
        return self.log_weight > -math.inf and self.at.step.ahead is not None


@dataclass(slots=True, eq=False)
class Run:
    """One search as it stands."""

    tree: Tree
    rng: np.random.Generator
    particles: list[Particle] = field(default_factory=list)
    known: dict[tuple[int, int], tuple[str, bool]] = field(
        default_factory=dict
    )  # (token before, token): its text, is it an end
    grown: set[Path] = field(default_factory=set)  # candidates that more was asked for below
    log_evidence: float = 0.0  # of what was weighed before the last resampling
    resamplings: int = 0
    cut: bool = False  # by the budget

    @property
    def log_weights(self) -> Weights:
        return np.array([particle.log_weight for particle in self.particles])

    @property
    def evidence(self) -> float:
        """ln of the estimate; -inf where every particle is lost."""
        return self.log_evidence + log_sum(self.log_weights) - math.log(len(self.particles))

    def going(self) -> list[Particle]:
        return [particle for particle in self.particles if particle.going]

    def drop(self, candidates: Iterable[Candidate], cause: str) -> None:
        """Gives up those that nothing was asked for below."""
        paths = dict.fromkeys(c.path for c in candidates if c.path not in self.grown)
        live = [self.tree.candidates[path] for path in paths if self.tree.states[path][0] in (State.LIVE, State.FINISHED)]
        self.tree.mark(live, State.PRUNED, cause)


@dataclass(frozen=True)
class AWRS:
    """n particles, token by token, and a vote by their weights. A solution keeps to `pattern` where all of it matches.

    Of the model's own distribution (temperature 1). The choice's reason gives ln of the evidence, nats. Cost: n solutions and a
    token for each further one that was proposed in a context not met before; every token is a candidate of its own.
    """

    n: int = 4
    pattern: str = ""  # a regular expression that the whole solution matches ("." is no newline); "": any text
    ess: float = 0.5  # resampled below this part of n; 1: at every token; 0: never
    peek: int = 32  # tokens that are proposed at most; where all of them are barred the particle is lost

    def __post_init__(self) -> None:
        positive(n=self.n, peek=self.peek)
        if not 0 <= self.ess <= 1:
            raise ValueError(f"ess must be between 0 and 1, a part of n, not {self.ess}")
        try:
            regex.compile(self.pattern)
        except regex.error as error:
            raise ValueError(f"pattern '{self.pattern}' is no regular expression: {error}") from None

    def allows(self, text: str, whole: bool) -> bool:
        """Whether a solution may begin with a text, or (`whole`) be it. A subclass may say it in Python; it has to allow every
        beginning of what it allows as a whole."""
        return not self.pattern or regex.fullmatch(self.pattern, text, partial=not whole) is not None

    def search(self, tree: Tree) -> Ask[Choice]:
        run = Run(tree, np.random.default_rng(seed_of(tree.seed, tree.question.id, "awrs")))
        rules = Rules(pause=Pause(peek=self.peek, gumbel=True))
        made = yield from tree.extend([ROOT], n=self.n, until=Until.END, sampling=GREEDY, rules=rules)
        run.particles = [Particle(candidate) for candidate in made]
        run.cut = len(made) < self.n
        while run.going() and not run.cut:
            yield from self._draw(run)
            self._resample(run)
            yield from self._write(run, rules)
            run.cut = tree.spent and not all(particle.at.finished for particle in run.particles)
        run.drop((particle.at for particle in run.going()), "the budget is spent")
        return self._voted(run)

    def _draw(self, run: Run) -> Ask[None]:
        """The next token of each particle, and its weight. What has to be checked is written for all of them at once."""
        draws = [(particle, drawn(particle.at.step.ahead, run.rng)) for particle in run.going() if particle.at.step.ahead]
        asked = [(particle, draw, next(draw)) for particle, draw in draws]
        while asked:
            yield from self._look(run, [(particle, token) for particle, _, token in asked])
            further: list[tuple[Particle, Draw, int]] = []
            for particle, draw, token in asked:
                found = run.known.get((_last(run.tree, particle.at), token))
                if found is None:  # the budget or the token limit did not allow to look
                    particle.log_weight = -math.inf
                    continue
                allowed = self.allows(run.tree.text(particle.at.path) + found[0], found[1])
                if token in particle.looked:
                    particle.looked[token] = particle.looked[token][0], allowed
                try:
                    further.append((particle, draw, draw.send(allowed)))
                except StopIteration as end:
                    self._decide(run, particle, end.value)
            asked = further

    def _look(self, run: Run, tokens: list[tuple[Particle, int]]) -> Ask[None]:
        """Writes the tokens whose text in their context is not known yet."""
        new = {(p.at.path, token): p for p, token in tokens if (_last(run.tree, p.at), token) not in run.known}
        run.grown.update(path for path, _ in new)
        made = yield from written(run.tree, [(p.at, token) for (_, token), p in new.items()], self.peek, gumbel=True)
        for child in made:
            token = int(child.step.tokens[0])
            particle = new[child.parent, token]
            run.known[_last(run.tree, particle.at), token] = child.step.text, child.finished
            particle.looked[token] = child, False

    def _decide(self, run: Run, particle: Particle, result: Drawn | None) -> None:
        """Takes what a draw has come to, and gives up what was written on the way."""
        kept = None if result is None else result[0]
        for token, (candidate, allowed) in particle.looked.items():
            if token != kept:
                run.drop([candidate], "a second draw, for the weight" if allowed else "breaks the pattern")
        particle.looked = {token: of for token, of in particle.looked.items() if token == kept}
        if result is None:
            run.drop([particle.at], "all that was proposed breaks the pattern")
            particle.log_weight = -math.inf
            return
        particle.token, particle.log_weight = kept, particle.log_weight + result[1]
        particle.ends = run.known[_last(run.tree, particle.at), result[0]][1]

    def _resample(self, run: Run) -> None:
        """Who goes on, where the weights are uneven and somebody will still be going after this token."""
        weights, n = run.log_weights, len(run.particles)
        if not any(particle.going and not particle.ends for particle in run.particles):
            return
        if self.ess < 1 and effective(weights) >= self.ess * n:
            return
        chosen = ancestors("systematic", normalised(weights), n, run.rng).tolist()
        held = {candidate.path for i in chosen for candidate in run.particles[i].held}
        run.drop((c for p in run.particles for c in p.held if c.path not in held), "not resampled")
        run.log_evidence, run.resamplings = run.evidence, run.resamplings + 1
        first = {i: chosen.index(i) for i in chosen}  # the copies write again what only one of them can have written
        run.particles = [
            replace(run.particles[i], log_weight=0.0, looked=run.particles[i].looked if at == first[i] else {})
            for at, i in enumerate(chosen)
        ]

    def _write(self, run: Run, rules: Rules) -> Ask[None]:
        """Each particle's token at its end, as a candidate of its own."""
        waiting: dict[Path, deque[Particle]] = {}
        for particle in run.going():
            if particle.looked:
                ((particle.at, _),) = particle.looked.values()
            else:
                waiting.setdefault(particle.at.path, deque()).append(particle)
        begins = [(p.token,) for those in waiting.values() for p in those if p.token is not None]
        counts = [len(those) for those in waiting.values()]
        run.grown.update(waiting)
        made = yield from run.tree.extend(waiting, counts, until=Until.END, sampling=GREEDY, rules=rules, begins=begins)
        for child in made:
            waiting[child.parent].popleft().at = child
        for particle in (p for those in waiting.values() for p in those):
            particle.log_weight = -math.inf
        for particle in run.particles:
            particle.token, particle.looked = None, {}
            if particle.at.step.ahead is None and not particle.at.finished:  # cut by a limit
                particle.log_weight = -math.inf

    def _voted(self, run: Run) -> Choice:
        ended = [p for p in run.particles if p.at.finished and p.log_weight > -math.inf]
        pool = {e.path: e for e in entries(run.tree, [p.at for p in ended])}
        weights = normalised(np.array([p.log_weight for p in ended])).tolist() if ended else []
        pairs = zip((pool[p.at.path] for p in ended), weights, strict=True)
        counted = [(entry, weight) for entry, weight in pairs if entry.answer is not None]
        if not counted:
            choice = Selector("majority")([*pool.values()])
            return replace(choice, reason=f"{choice.reason}; {said(run)}")
        votes = tally(counted, summed=True)
        best = min((e for e, _ in counted if e.answer == votes[0].answer), key=lambda e: (-e.logprob, order(e.path)))
        reason = f"weighted: {votes[0].weight:.4g} from {votes[0].count} of {len(run.particles)} particles; {said(run)}"
        return Choice(best.path, votes[0].answer, reason, tuple(votes))


def said(run: Run) -> str:
    """What a choice's reason says of the weights."""
    times = f"{run.resamplings} resampling{'s' * (run.resamplings != 1)}"
    if run.cut:
        return f"cut short by the budget, {times}"
    if not np.isfinite(run.log_weights).any():
        return f"every particle was lost, {times}"
    return f"log evidence {run.evidence:.6g}, ESS {effective(run.log_weights):.1f} of {len(run.particles)}, {times}"


def _last(tree: Tree, candidate: Candidate) -> int:
    """The token before a candidate's next one: what its text may depend on, in some tokenizers."""
    return int(candidate.step.tokens[-1]) if len(candidate.step) else tree.question.tokens[-1]
