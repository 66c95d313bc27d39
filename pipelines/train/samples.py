"""Samples solutions of training problems from a generator and labels every step exactly, for the reward model.

    python -m pipelines.train.samples GENERATOR OUT.jsonl --problems 3000 --each 6

One JSON object a line (pipelines.train.labelled). Solutions that are the same up to their first wrong step are kept once.
Problems are of the training split and of a seed that generator training never used. Other ways to label, which need no exact
checker: pipelines.train.labels.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.models import ModelError, TextModel, load_generator
from pipelines.problems import FAMILIES, Instance, instances
from pipelines.problems.instance import Split
from pipelines.train.given import Refused, least, refusing, writable_file
from pipelines.train.labelled import Sample, write
from pipelines.train.rollouts import LIMIT, Steps, pieces, right
from pipelines.train.sequences import replaced
from search.types import Extend, Row, Sampling, Until, child_of, seed_of

SHARES = {"word": 0.45, "countdown": 0.45, "guess": 0.10}
SEED = 7_001


@dataclass(frozen=True, slots=True)
class Solution:
    """One sampled solution."""

    instance: Instance
    steps: Steps
    tokens: int

    @property
    def right(self) -> bool:
        """Whether it ends with the reference answer."""
        return right(self.instance, self.steps)


def problems(shares: Mapping[str, float], count: int, seed: int, split: Split = "train") -> list[Instance]:
    """About `count` problems, families by their shares, shuffled."""
    out: list[Instance] = []
    for name, share in shares.items():
        source = instances(FAMILIES[name], split, seed)
        out += [next(source) for _ in range(round(count * share / sum(shares.values())))]
    random.Random(seed).shuffle(out)
    return out


def sampled(model: TextModel, asked: Sequence[Instance], each: int, seed: int) -> list[Solution]:
    """`each` solutions of every problem, in order, batched on the engine; empty ones are left out."""
    engine = model.engine
    found: dict[int, list[Solution]] = {}
    for key, instance in enumerate(asked):
        prefix = model.encode(instance.question)
        rows = tuple(Row(p, seed_of(seed, str(key), p), prefix, LIMIT) for p in (child_of("", i) for i in range(each)))
        engine.submit(key, Extend(rows, Until.END, Sampling()))
    while engine.busy:
        for key, reply in engine.advance():
            if isinstance(reply, Exception):
                raise reply
            engine.forget(key)
            found[key] = [Solution(asked[key], pieces(step.text), len(step)) for step in reply.steps]
    return [solution for key in sorted(found) for solution in found[key] if solution.steps]


def exactly(solutions: Sequence[Solution]) -> Iterator[Sample]:
    """Exact labels, each solution cut after its first wrong step; what is then the same is kept once."""
    seen: set[tuple[str, ...]] = set()
    for solution in solutions:
        instance, steps = solution.instance, solution.steps
        labels = FAMILIES[instance.family].label(instance, steps)
        cut = labels.index(False) + 1 if False in labels else len(labels)
        known = (instance.question, *steps[:cut])
        if known not in seen:
            seen.add(known)
            marks = tuple(map(float, labels[:cut]))
            yield Sample(instance.family, instance.question, steps[:cut], marks, solution.right, replaced(instance, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator")
    parser.add_argument("out", type=Path)
    parser.add_argument("--problems", type=int, default=3000)
    parser.add_argument("--each", type=int, default=6)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    with refusing(Refused):
        least(1, problems=options.problems, each=options.each)
        writable_file(options.out)
    with refusing(ModelError):
        model = load_generator(options.generator)
    asked = problems(SHARES, options.problems, options.seed)
    write(exactly(sampled(model, asked, options.each, options.seed)), options.out)


if __name__ == "__main__":
    main()
