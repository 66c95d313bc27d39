"""The record of one search, and its only door to text and scores."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from .ledger import Usage
from .packing import rounded
from .rules import NO_RULES, Rules
from .types import (
    ROOT,
    Answer,
    Ask,
    Budget,
    Candidate,
    Embed,
    Embeddings,
    Extend,
    Extension,
    Finish,
    Join,
    Path,
    Question,
    Readings,
    Row,
    RunSpec,
    Sampling,
    Score,
    State,
    Step,
    Trace,
    Until,
    Verify,
    child_of,
    lineage,
    parent_of,
    pieces_of,
    seed_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPENT = "the budget"  # how the reason of a score begins that a bound refused
Extractor = Callable[[str], Answer]
Encode = Callable[[str], tuple[int, ...]]
N = TypeVar("N", int, float)


def _no_tokenizer(text: str) -> tuple[int, ...]:
    raise ValueError("the strategy gives the generator text of its own, and this generator has no tokenizer for it")


@dataclass(slots=True)
class Tree:
    """Candidates, scores, states and cost of one search.

    A strategy asks with `yield from tree.extend(...)`, `tree.verify(...)` and `tree.embed(...)`; these mint candidates,
    scores and vectors, charge the ledger and hold the budget, so no strategy can forget to. What they mint is rounded to
    what the store keeps: a search fed from a journal computes with the same numbers.
    """

    question: Question
    extract: Extractor
    seed: int = 0
    sampling: Sampling = Sampling()
    budget: Budget = Budget()
    step_tokens: int = 64
    tokens_limit: int = 384
    verifier: str = ""
    join: Join = Join.MIN
    stops: tuple[str, ...] = ()
    constraint: Callable[[str], bool] | None = None  # whether a step's text is allowed
    encode: Encode = _no_tokenizer  # a text as the generator's tokens
    render: Encode = _no_tokenizer  # a question of one's own as a prompt's tokens
    texts: bool = False  # whether rows carry their text beside its tokens: for a generator that is asked in text
    usage: Usage = field(default_factory=Usage)
    candidates: dict[Path, Candidate] = field(default_factory=dict)
    scores: dict[Path, Score] = field(default_factory=dict)
    vectors: dict[Path, NDArray[np.float32]] = field(default_factory=dict)  # by an encoder, rounded to float16
    values: dict[Path, float] = field(default_factory=dict)  # what a strategy makes of scores, where it is not the score
    states: dict[Path, tuple[State, str]] = field(default_factory=dict)
    prompts: dict[Path, str] = field(default_factory=dict)  # of candidates that do not continue their parent: their question
    _children: dict[Path, int] = field(default_factory=dict)
    _steps: dict[Path, tuple[Step, ...]] = field(default_factory=dict)
    _answers: dict[Path, Answer] = field(default_factory=dict)
    _dropped: dict[Path, None] = field(default_factory=dict)  # since the last Extend, in the order of marking

    # ------------------------------------------------------------------------------------------------------- reading

    def steps(self, path: Path) -> tuple[Step, ...]:
        """The steps down to a path's own: from the first, or from the last that answered a prompt of its own."""
        if not path:
            return ()
        known = self._steps.get(path)
        if known is None:
            before = () if path in self.prompts else self.steps(parent_of(path))
            known = self._steps[path] = (*before, self.candidates[path].step)
        return known

    def tokens(self, path: Path) -> tuple[int, ...]:
        """The prompt's tokens and all the steps' down to a path: what a child continues."""
        asked = next((self.prompts[p] for p in reversed(lineage(path)) if p in self.prompts), None) if self.prompts else None
        prefix = list(self.question.tokens if asked is None else self.render(asked))
        for step in self.steps(path):
            prefix.extend(step.tokens.tolist())
        return tuple(prefix)

    def text(self, path: Path) -> str:
        return "".join(step.text for step in self.steps(path))

    def length(self, path: Path) -> int:
        """Tokens from the end of the prompt to the end of a path's step."""
        return sum(len(step) for step in self.steps(path))

    def value(self, path: Path) -> float | None:
        """What a candidate is worth to the search, in [0, 1], higher = better: its score, unless the strategy has made
        something else of it. None where it has none."""
        made = self.values.get(path)
        if made is not None:
            return made
        score = self.scores.get(path)
        return None if score is None else score.value

    def answer(self, path: Path) -> Answer:
        """The answer of a finished candidate; one that was cut off has none, nor has what was asked aside."""
        told = self.states.get(path)
        if told is not None and told[0] is State.ASIDE:
            return Answer(None, f"no solution: {told[1]}")
        if not self.candidates[path].finished:
            return Answer(None, f"not finished ({self.candidates[path].step.finish})")
        if path not in self._answers:  # asked for by the selector and again by the journal
            self._answers[path] = self.extract(self.text(path))
        return self._answers[path]

    def take(self, path: Path, key: str) -> None:
        """Makes an answer the candidate's that its text does not give: one that a program in it computed."""
        self._answers[path] = Answer(key)

    @property
    def spent(self) -> bool:
        """Whether the budget allows no further token or candidate."""
        used = self.usage
        return self._exhausted or (
            self._left(self.budget.tokens, used.generated_tokens) == 0
            or self._left(self.budget.candidates, used.candidates) == 0
        )

    @property
    def unjudged(self) -> bool:
        """Whether the budget allows no further verification: a new candidate would stay without a score."""
        return self._exhausted or self._left(self.budget.passes, self.usage.verifier_passes) == 0

    @property
    def _exhausted(self) -> bool:
        """Whether the FLOPs or the seconds are used up: nothing more can be asked for."""
        return self._left(self.budget.flops, self.usage.flops) == 0 or self._left(self.budget.seconds, self.usage.seconds) == 0

    @staticmethod
    def _left(bound: N | None, used: N) -> N | None:
        return None if bound is None else max(bound - used, type(bound)(0))

    @property
    def _remainder(self) -> tuple[float | None, float | None]:
        """FLOPs and seconds left."""
        return self._left(self.budget.flops, self.usage.flops), self._left(self.budget.seconds, self.usage.seconds)

    # -------------------------------------------------------------------------------------------------------- asking

    def extend(
        self,
        parents: Iterable[Candidate | Path],
        n: int | Sequence[int] = 1,
        until: Until = Until.STEP,
        first: int | None = None,
        sampling: Sampling | None = None,
        rules: Rules = NO_RULES,
        *,
        tokens: int | None = None,
        begins: Sequence[tuple[int, ...]] = (),
        prompt: str | None = None,
        model: str = "",
        aside: str = "",
    ) -> Ask[tuple[Candidate, ...]]:
        """Asks for n continuations of each parent (or n[i] of the i-th); the new candidates, in order of the parents.

        With `first`, all rows stop once that many have ended by themselves; `rules` may stop them for other reasons, and
        `tokens` is the most that each may have. With `begins` (one a row) they begin with these tokens. With `prompt` they
        are children by name only: they answer that question, and nothing before it is read. `aside` says what they are where
        they are no solutions: "plan", say. They have no answer then, and no part in a pool. Where the budget runs short
        there are fewer candidates, cut ones, or none: an empty tuple means that the search must end.
        """
        paths = [p if isinstance(p, str) else p.path for p in parents]
        counts = [n] * len(paths) if isinstance(n, int) else list(n)
        if begins and len(begins) != sum(counts):
            raise ValueError(f"{len(begins)} beginnings were given for {sum(counts)} rows")
        asked = None if prompt is None else self.render(prompt)
        rows = [] if self._exhausted else self._rows(paths, counts, until, tokens, begins, asked)
        rows = [replace(row, text=self._spoken(parent_of(row.path), prompt)) for row in rows] if self.texts else rows
        if not rows:
            return ()
        allowance = self._left(self.budget.tokens, self.usage.generated_tokens)
        dropped, self._dropped = tuple(self._dropped), {}
        drawing, (flops, seconds) = sampling or self.sampling, self._remainder
        bounds = (allowance, flops, seconds)
        reply = yield Extend(
            tuple(rows), until, drawing, first, *bounds, self.stops, dropped, rules, model, prompt, bool(self.prompts)
        )
        if not isinstance(reply, Extension):
            raise TypeError(f"an Extend was answered with {type(reply).__name__}")
        if len(reply.steps) != len(rows):
            raise ValueError(f"the generator gave {len(reply.steps)} steps for {len(rows)} rows")
        self.usage.generated(reply)
        minted = [Candidate(row.path, self._allowed(step)) for row, step in zip(rows, rounded(reply.steps), strict=True)]
        for candidate in minted:
            self.candidates[candidate.path] = candidate
            self.states[candidate.path] = state_of(candidate.step)
            if candidate.step.finish is Finish.BARRED:
                self._dropped[candidate.path] = None
            if prompt is not None:
                self.prompts[candidate.path] = prompt
        if aside:
            self.mark(minted, State.ASIDE, aside)
        return tuple(minted)

    def _spoken(self, parent: Path, prompt: str | None) -> tuple[str, str]:
        """The question that a child of this candidate answers, and what was said to it so far."""
        if prompt is not None:
            return prompt, ""
        own = next((self.prompts[p] for p in reversed(lineage(parent)) if p in self.prompts), self.question.text)
        return own, self.text(parent)

    def _allowed(self, step: Step) -> Step:
        """A step that ended by itself against the constraint counts as not ended: nothing goes on from it, and it has no
        answer."""
        if self.constraint is None or step.finish not in (Finish.STEP, Finish.END):
            return step
        allowed = all(self.constraint(piece) for piece in pieces_of(step.text))
        return step if allowed else replace(step, finish=Finish.BARRED)

    def _rows(
        self,
        paths: Sequence[Path],
        counts: Sequence[int],
        until: Until,
        most_tokens: int | None,
        begins: Sequence[tuple[int, ...]],
        prompt: tuple[int, ...] | None,
    ) -> list[Row]:
        """The rows to ask for, as many as the budget has a token and a place for."""
        tokens = self._left(self.budget.tokens, self.usage.generated_tokens)
        places = self._left(self.budget.candidates, self.usage.candidates)
        most = min((left for left in (tokens, places) if left is not None), default=None)
        rows: list[Row] = []
        given = iter(begins)
        for parent, count in zip(paths, counts, strict=True):
            if not count:
                continue
            prefix = self.tokens(parent) if prompt is None else prompt
            room = self.tokens_limit - (self.length(parent) if prompt is None else 0)
            limit = min(room, self.step_tokens) if until is Until.STEP else room
            limit = limit if most_tokens is None else min(limit, most_tokens)
            mine = [next(given, ()) for _ in range(count)]
            if limit < 1:
                self.states[parent] = (State.FAILED, "token limit")
                continue
            for begin in mine if most is None else mine[: max(most - len(rows), 0)]:
                index = self._children.get(parent, 0)
                self._children[parent] = index + 1
                path = child_of(parent, index)
                rows.append(Row(path, seed_of(self.seed, self.question.id, path), prefix, limit, begin[:limit]))
        return rows

    def verify(self, candidates: Iterable[Candidate]) -> Ask[tuple[Score, ...]]:
        """Asks the verifier for the candidates not scored yet; a score for each candidate, in order.

        A value that is missing, not finite or outside [0, 1] becomes None with the reason, and so never selects.
        """
        asked = list(candidates)
        fresh = [path for path in dict.fromkeys(c.path for c in asked) if path not in self.scores]
        left = self._left(self.budget.passes, self.usage.verifier_passes)
        allowed = fresh if left is None else fresh[:left]
        spent = "the budget of verifier passes is spent"
        if self._exhausted:
            allowed, spent = [], "the budget is spent"
        if allowed:
            reply = yield Verify(tuple(allowed), self._traces(allowed), *self._remainder)
            if not isinstance(reply, Readings):
                raise TypeError(f"a Verify was answered with {type(reply).__name__}")
            self.usage.verified(reply)
            for path, reading in zip(allowed, reply.readings, strict=True):
                score = scored(path, self.verifier, reading.parts, reading.reason, self.join)
                self.scores[path] = score
                self.usage.invalid_scores += score.value is None and not score.reason.startswith(SPENT)
        for path in fresh[len(allowed) :]:
            self.scores[path] = Score(path, self.verifier, None, reason=spent)
        return tuple(self.scores[c.path] for c in asked)

    def embed(self, candidates: Iterable[Candidate]) -> Ask[tuple[NDArray[np.float32], ...]]:
        """Asks the encoder for the candidates without a vector; a vector [dimensions] for each candidate, in order.

        Where the FLOPs or seconds are spent, the tuple is empty.
        """
        asked = list(candidates)
        fresh = [path for path in dict.fromkeys(c.path for c in asked) if path not in self.vectors]
        # an encoder knows no bound: where there is one, it is looked at after each vector
        bounded = self.budget.flops is not None or self.budget.seconds is not None
        for some in [[path] for path in fresh] if bounded else [fresh] if fresh else []:
            if self._exhausted:
                return ()
            reply = yield Embed(tuple(some), self._traces(some))
            if not isinstance(reply, Embeddings):
                raise TypeError(f"an Embed was answered with {type(reply).__name__}")
            self.usage.embedded(reply)
            for path, embedding in zip(some, reply.embeddings, strict=True):
                self.vectors[path] = embedding.vector.astype("float16").astype("float32")
        return tuple(self.vectors[c.path] for c in asked)

    def _traces(self, paths: Iterable[Path]) -> tuple[Trace, ...]:
        return tuple(Trace(self.question, self.steps(path)) for path in paths)

    def settle(self) -> None:
        """The search is over: charges what is known only now."""
        given_up = (State.PRUNED, State.MERGED)
        self.usage.pruned_tokens = sum(len(c.step) for c in self.candidates.values() if self.states[c.path][0] in given_up)

    def merged(self, candidates: Iterable[Candidate]) -> Ask[list[Candidate]]:
        """The candidates that a strategy is to go on with, one for each thing that was said: here, one of each text. A tree
        that merges more (FETCH) asks for what it needs to tell."""
        yield from ()
        return self.distinct(candidates)

    def head(self, path: Path) -> Path:
        """The candidate that stands for this one: itself, or the one that it was merged into with its say kept."""
        return path

    def members(self, path: Path) -> tuple[Path, ...]:
        """The candidates that this one stands for in a vote: itself, and what was merged into it with its say kept."""
        return (path,)

    def distinct(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """One of each text: a candidate that wrote the same step as an earlier sibling is merged into it, so that it costs
        no verifier pass and no place."""
        seen: set[tuple[Path, bytes]] = set()
        kept = []
        for candidate in candidates:
            key = (candidate.parent, candidate.step.tokens.tobytes())
            if key in seen:
                self.mark([candidate], State.MERGED, "same step as a sibling")
            else:
                seen.add(key)
                kept.append(candidate)
        return kept

    def mark(self, candidates: Iterable[Candidate], state: State, cause: str) -> None:
        """Records why the strategy dropped (or merged) candidates. The next Extend tells the generator, which may free what
        it keeps of them; one that is continued all the same is computed again."""
        for candidate in candidates:
            self.states[candidate.path] = (state, cause)
            if state in (State.PRUNED, State.MERGED):
                self._dropped[candidate.path] = None


def state_of(step: Step) -> tuple[State, str]:
    """The state a candidate is born in."""
    match step.finish:
        case Finish.END:
            return State.FINISHED, "end"
        case Finish.STEP | Finish.PAUSE:
            return State.LIVE, ""
        case Finish.UNSURE:
            return State.CANCELLED, "too unsure"
        case Finish.BARRED:
            return State.PRUNED, "breaks the constraint"
        case Finish.CANCELLED:
            return State.CANCELLED, "others finished first"
        case Finish.BUDGET:
            return State.CANCELLED, "budget"
        case Finish.LENGTH:
            return State.FAILED, "token limit"


def constraint_of(spec: RunSpec) -> Callable[[str], bool] | None:
    """The rule that a run's regular expression is: it must be found in the text of each step."""
    if not spec.constraint:
        return None
    pattern = re.compile(spec.constraint)
    return lambda text: pattern.search(text) is not None


def scored(path: Path, verifier: str, parts: Sequence[float], reason: str, join: Join) -> Score:
    """A Score from a reading's parts, refusing what is not a number in [0, 1]."""
    if not parts:
        return Score(path, verifier, None, reason=reason or "the verifier gave no value")
    bad = next((p for p in parts if not math.isfinite(p) or not 0 <= p <= 1), None)
    if bad is not None:
        return Score(path, verifier, None, reason=f"invalid value {bad}")
    return Score(path, verifier, join(parts), tuple(parts), reason)


__all__ = ["ROOT", "SPENT", "Extractor", "Tree", "constraint_of", "scored", "state_of"]
