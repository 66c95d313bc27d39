"""Budget forcing: one solution that is made to think longer, or to stop thinking (s1, arXiv 2501.19393).

Where the model would end its thinking too soon, that end is suppressed and "Wait" is written in its place; where it has thought
for `cap` tokens, the end of thinking is written for it and it answers. Thinking goes step by step. The step that ends it is
written again without its end, in tokens given and not drawn (they are charged once more); all before it is continued as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from search.rules import NO_RULES, Pause, Rules
from search.select import Selector, entries
from search.tree import Tree
from search.types import GREEDY, ROOT, SEPARATOR, Ask, Candidate, Choice, Finish, Path, Sampling, State, Until

Tokens = tuple[int, ...]
AT_ONCE = Rules(pause=Pause())  # what is given is written, and nothing more


@dataclass(frozen=True)
class BudgetForcing:
    """One solution, greedy unless `greedy` is false, which takes the run's sampling.

    waits: how often an end of thinking is suppressed, and `text` written in its place.
    end: what the model writes at the end of its thinking, as "</think>"; where it has no such thing, the end of the solution.
    cap: tokens of thinking after which `end`, an empty line and `closing` are written; 0 is none. The waits share it.
    Where a forced continuation comes to no end, the last answer before it stands. Thinking is cut, as any step, where it has no
    step separator for --step-tokens. Cost: what is written, and the last step once more for each wait; all in sequence.
    """

    waits: int = 2
    text: str = "Wait"
    cap: int = 0
    end: str = ""
    closing: str = "Final Answer:"
    greedy: bool = True

    def __post_init__(self) -> None:
        if self.waits < 0 or self.cap < 0:
            raise ValueError(f"waits and cap must be at least 0, not {self.waits} and {self.cap}")
        if not self.text or not self.closing:
            raise ValueError("text and closing must have at least 1 character")

    def search(self, tree: Tree) -> Ask[Choice]:
        sampling = GREEDY if self.greedy else tree.sampling
        if not self.waits and not self.cap:
            plain = yield from tree.extend([ROOT], until=Until.END, sampling=sampling)
            return Selector("majority")(entries(tree, plain))
        answered: list[Candidate] = []
        at: Path | None = ROOT
        given, waits = Tokens(), self.waits
        while at is not None:
            last = yield from self.think(tree, at, given, sampling)
            if last is None:
                break
            spent = self.cap > 0 and tree.length(last.path) >= self.cap
            over = last.finished or (bool(self.end) and self.end in last.step.text)
            answered = [last] if last.finished else answered
            if over and waits and not spent:
                at, given, waits = (yield from self.suppress(tree, last, sampling)), tree.encode(self.text), waits - 1
            elif last.open and not over and not spent:
                at, given = last.path, ()
            else:
                answered = (yield from self.answer(tree, last, over, sampling)) or answered
                break
        return Selector("majority")(entries(tree, answered))

    def think(self, tree: Tree, at: Path, given: Tokens, sampling: Sampling) -> Ask[Candidate | None]:
        """One step on, which begins with what is given; None where there is no room for it."""
        left = self.cap - tree.length(at) if self.cap else None
        marks = Rules(marks=(self.end,)) if self.end else NO_RULES
        begins = [given] if given else []
        steps = yield from tree.extend([at], sampling=sampling, rules=marks, tokens=left, begins=begins)
        return steps[0] if steps else None

    def suppress(self, tree: Tree, last: Candidate, sampling: Sampling) -> Ask[Path | None]:
        """The last step again without what ended it: a path to go on from; None where the budget does not allow it."""
        if not last.finished:
            tree.mark([last], State.PRUNED, "its end of thinking is suppressed")
        kept = self.unended(tree, last)
        if not kept:
            return last.parent
        again = yield from tree.extend([last.parent], until=Until.END, sampling=sampling, rules=AT_ONCE, begins=[kept])
        return again[0].path if again and again[0].open else None

    def unended(self, tree: Tree, last: Candidate) -> Tokens:
        """A step's tokens without the string that ended it, or without its end token."""
        tokens, text = tuple(last.step.tokens.tolist()), last.step.text
        ends = [end for end in (self.end, *tree.stops) if end and end in text]
        if not ends:
            return tokens[:-1]
        kept = text[: min(text.index(end) for end in ends)]
        tail = tree.encode(text[len(kept) :])
        # a string that the model wrote in other tokens than the tokenizer does: the same text, in the tokenizer's
        return tokens[: -len(tail)] if tokens[-len(tail) :] == tail else tree.encode(kept) if kept else ()

    def answer(self, tree: Tree, last: Candidate, over: bool, sampling: Sampling) -> Ask[list[Candidate]]:
        """What is answered when thinking is over, by itself or by the cap; nothing where it has been answered already."""
        if last.finished or last.step.finish is Finish.BUDGET or not (over or self.cap):
            return []
        closing = () if over else tree.encode(f"{self.end}{SEPARATOR}{self.closing}")
        at = last.path
        if not last.open:  # it was cut, and is written again up to there
            at, closing = last.parent, (*last.step.tokens.tolist(), *closing)
        if tree.tokens_limit - tree.length(at) <= len(closing):
            return []
        begins = [closing] if closing else []
        answers = yield from tree.extend([at], until=Until.END, sampling=sampling, begins=begins)
        return [c for c in answers if c.finished]
