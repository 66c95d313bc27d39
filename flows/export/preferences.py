"""Pairs of a better and a worse text: TRL's type "preference" with an explicit prompt (huggingface/trl at f2cd577,
`docs/source/dataset_formats.md`).

{"prompt": "What is 6 times 7?", "chosen": "6 * 7 is \\\\boxed{42}", "rejected": "\\\\boxed{43}"}

Of a solution: a right and a wrong one of the same problem, both ended by the model itself. Of a step (--level step): two that
follow the same beginning, one with only right solutions below it and the other with only wrong ones, at least `--least` each;
the prompt is the question and the steps before, each followed by a blank line. What pruning does to such steps is in `trie.py`.
Equal texts are one, with the scores of all the runs that have it. The pairs go round: each solution is used once before any is
used again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from search.types import SEPARATOR, Finish

from . import dataset
from .attempts import Source
from .judging import judging
from .told import Exported, Options
from .trie import Grown, grown, nodes

SOLUTIONS = "chosen is a right and rejected a wrong whole solution of the same problem."
STEPS = (
    "chosen and rejected are steps after the same beginning: all whole solutions below the one are right, all below the other "
    "wrong. Where a search pruned, these solutions are those that its verifier let live."
)
LOOKED_AT = 64  # pairs of a problem for each that is taken


@dataclass(frozen=True, slots=True)
class Text:
    """One side of a pair."""

    text: str
    values: Mapping[str, float] = field(default_factory=dict, compare=False)  # by each run's own verifier


@dataclass(frozen=True, slots=True)
class Pair:
    prompt: str
    chosen: Text
    rejected: Text

    @property
    def longer(self) -> int:
        """1 where the chosen text is longer, -1 where it is shorter, 0 where they are alike; in characters."""
        a, b = len(self.chosen.text), len(self.rejected.text)
        return (a > b) - (a < b)


@dataclass(slots=True)
class Balance:
    """Keeps the pairs whose chosen text is longer as many as those where it is shorter, but for one."""

    lead: int = 0  # of the longer ones

    def some(self, pairs: Iterable[Pair], most: int) -> list[Pair]:
        """Of one problem's pairs, the first that keep the balance."""
        waiting: dict[int, deque[Pair]] = {-1: deque(), 0: deque(), 1: deque()}
        for pair in pairs:
            waiting[pair.longer].append(pair)
        out: list[Pair] = []
        while len(out) < most:
            wanted = next((sign for sign in self._order() if waiting[sign]), None)
            if wanted is None:
                break
            self.lead += wanted
            out.append(waiting[wanted].popleft())
        return out

    def _order(self) -> Sequence[int]:
        return (-1, 0) if self.lead > 0 else (1, 0) if self.lead < 0 else (1, -1, 0)


def write(source: Source, place: Path, options: Options, made: Exported) -> None:
    """Fills the folder `place`."""
    import pyarrow as pa

    schema = pa.schema(dict.fromkeys(("prompt", "chosen", "rejected"), pa.string()))
    runs, counts, balance = dataset.taken(source, options, made), Counter[str](), Balance()
    with dataset.rows(place, schema, made) as rows, judging() as judge:
        for attempts in dataset.problems(source, runs, options, made):
            tree = grown(attempts, judge)
            dataset.count(tree, made, counts)
            found = of_steps(tree, options.least) if options.level == "step" else of_solutions(tree)
            first = next(found, None)
            pairs = found if first is None else chain([first], found)
            fitting = (pair for pair in pairs if options.margin is None or _agrees(pair, options.margin))
            some = list(islice(fitting, LOOKED_AT * options.pairs if options.balance else options.pairs))
            if first is not None and not some:
                made.left_out["problems whose pairs the verifier does not part by the margin"] += 1
            kept = balance.some(some, options.pairs) if options.balance else some
            counts["problems"] += bool(kept)
            for pair in kept:
                texts = {"prompt": pair.prompt, "chosen": pair.chosen.text, "rejected": pair.rejected.text}
                rows.add({name: made.text(text) for name, text in texts.items()})
                counts[f"chosen is {('as long', 'longer', 'shorter')[pair.longer]}"] += 1
    rule = STEPS if options.level == "step" else SOLUTIONS
    if options.margin is not None:
        rule += f" Each verifier that a run has scored both with scores chosen higher by at least {options.margin:g}."
    dataset.card(place, source, runs, options, made, rule, {"rows": rows.count, **counts})


def of_solutions(tree: Grown) -> Iterator[Pair]:
    """The pairs of right and wrong solutions of one problem."""
    sides: dict[bool, dict[str, dict[str, float]]] = {True: {}, False: {}}
    for whole in tree.wholes:
        if whole.attempt.nodes[whole.path].finish is Finish.END:
            text = whole.attempt.text(whole.path)
            values = sides[whole.right].setdefault(text, {})
            for attempt in (whole.attempt, *whole.shared):
                value = attempt.value(whole.path)
                if value is not None:
                    values.setdefault(str(attempt.run.spec.verifier), value)
    # one text that was judged both ways (by runs with other references) says nothing
    both = sides[True].keys() & sides[False].keys()
    right, wrong = ([Text(text, each) for text, each in sides[side].items() if text not in both] for side in (True, False))
    yield from (Pair(tree.question, a, b) for a, b in around(right, wrong))


def of_steps(tree: Grown, least: int) -> Iterator[Pair]:
    """The pairs of steps of one problem."""
    for node in nodes(tree.root):
        below = [(step, each) for step, each in node.branch.below.items() if each.solutions >= least]
        right = [Text(step) for step, each in below if not each.wrong]
        wrong = [Text(step) for step, each in below if not each.right]
        if not right or not wrong:
            continue
        prompt = "".join(part + SEPARATOR for part in (tree.question, *(each.step for each in node.line())))
        yield from (Pair(prompt, a, b) for a, b in around(right, wrong))


def around(right: Sequence[Text], wrong: Sequence[Text]) -> Iterator[tuple[Text, Text]]:
    """All pairs, in an order that uses all before it uses one twice."""
    if not right or not wrong:
        return
    most = max(len(right), len(wrong))
    for shift in range(min(len(right), len(wrong))):
        for i in range(most):
            yield (
                (right[i], wrong[(i + shift) % len(wrong)])
                if len(right) == most
                else (right[(i + shift) % len(right)], wrong[i])
            )


def _agrees(pair: Pair, margin: float) -> bool:
    a, b = pair.chosen.values, pair.rejected.values
    both = a.keys() & b.keys()  # the scores of one verifier say nothing beside another's
    return bool(both) and all(a[name] - b[name] >= margin for name in both)


__all__ = ["Balance", "Pair", "Text", "around", "of_solutions", "of_steps", "write"]
