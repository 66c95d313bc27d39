"""Samples solutions of training problems from a generator and labels every step exactly, for the reward model.

    python -m pipelines.train.samples GENERATOR OUT.jsonl --problems 3000 --each 6

One JSON object a line: family, question, steps, labels, gold. Solutions that are the same up to their first wrong step are kept
once. Problems are of the training split and of a seed that generator training never used.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from pipelines.models import TextModel, load_generator
from pipelines.problems import FAMILIES, Instance, instances
from pipelines.train.prm import replaced
from search.types import SEPARATOR, Extend, Extension, Row, Sampling, Until, child_of, seed_of

SHARES = {"word": 0.45, "countdown": 0.45, "guess": 0.10}
SEED = 7_001


def sampled(model: TextModel, problems: list[Instance], each: int, seed: int) -> Iterator[tuple[Instance, list[str]]]:
    """(problem, steps of one solution), `each` a problem, batched on the engine."""
    engine = model.engine
    for key, instance in enumerate(problems):
        prefix = model.encode(instance.question)
        rows = tuple(Row(p, seed_of(seed, str(key), p), prefix, 384) for p in (child_of("", i) for i in range(each)))
        engine.submit(key, Extend(rows, Until.END, Sampling()))
    while engine.busy:
        for key, reply in engine.advance():
            assert isinstance(reply, Extension)
            engine.forget(key)
            for step in reply.steps:
                yield problems[key], [s for s in step.text.split(SEPARATOR) if s]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator")
    parser.add_argument("out", type=Path)
    parser.add_argument("--problems", type=int, default=3000)
    parser.add_argument("--each", type=int, default=6)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    model = load_generator(options.generator)
    problems: list[Instance] = []
    for name, share in SHARES.items():
        source = instances(FAMILIES[name], "train", options.seed)
        problems += [next(source) for _ in range(round(options.problems * share))]
    random.Random(options.seed).shuffle(problems)
    seen: set[tuple[str, ...]] = set()
    with options.out.open("w") as out:
        for instance, steps in sampled(model, problems, options.each, options.seed):
            labels = FAMILIES[instance.family].label(instance, steps)
            cut = labels.index(False) + 1 if False in labels else len(labels)
            known = (instance.question, *steps[:cut])
            if steps and known not in seen:
                seen.add(known)
                row = {
                    "family": instance.family,
                    "question": instance.question,
                    "steps": steps[:cut],
                    "labels": labels[:cut],
                    "gold": replaced(instance, labels),
                }
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
