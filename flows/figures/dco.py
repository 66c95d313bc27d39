"""What the pass@N-aligned loss does to pass@1 and pass@64: a generator trained further with it and with cross-entropy.

    python -m flows.figures.dco --train FOLDER    # trains FOLDER/1 and FOLDER/64 from the bundled generator, then measures
    python -m flows.figures.dco FOLDER            # measures what FOLDER holds

Both see the same sequences in the same order, and differ in the loss only. Held-out problems, the same number of samples of
each; differences are paired over problems, with 95% intervals of the bootstrap.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.figures.stepwise import FAMILY
from pipelines.models import load_generator, locate
from pipelines.problems import FAMILIES, Instance, instances
from pipelines.train import generator
from pipelines.train.dco import factor, sequence_logprobs
from pipelines.train.rollouts import Rollouts
from pipelines.train.samples import SEED
from search.estimate import pass_at_k
from store.stats import interval, resampled_means

Floats = NDArray[np.float64]
NS = (1, 64)  # of the loss


def train(folder: Path, tokens: int, lr: float) -> None:
    """The bundled generator trained further with each N into FOLDER/N; what is there is kept."""
    for n in NS:
        if (folder / str(n) / "card.json").exists():
            continue
        given = ["--init", locate("bundled", "generator"), "--tokens", tokens, "--lr", lr, "--dco", n, "--seed", 11]
        generator.train(generator.parser().parse_args([str(folder / str(n)), *map(str, given)]))


def passes(name: str, asked: Sequence[Instance], samples: int, ks: Sequence[int]) -> Floats:
    """[problems, ks] the chance that one of k samples is right, estimated from `samples` of each."""
    drawn = Rollouts(load_generator(name), samples, SEED).draw([(instance, ()) for instance in asked])
    return np.array([[pass_at_k(samples, sum(each.right), k) for k in ks] for each in drawn])


def left(family: str, n: int, count: int = 200) -> Floats:
    """[count] the share of cross-entropy's gradient that N leaves of demonstrations of a family, to the bundled generator."""
    import torch

    folder = str(locate("bundled", "generator"))
    model, tokenizer, _ = generator.begun(generator.parser().parse_args([folder, "--init", folder]))
    sequences, source = generator.Sequences(tokenizer, SEED), instances(FAMILIES[family], "validation", SEED)
    factors = []
    for _ in range(count):
        instance = next(source)
        ids, begin = sequences.laid(instance.question, FAMILIES[family].demonstrate(sequences.rng, instance))
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, begin - 1 : -1]
        rows = torch.zeros(len(logits), dtype=torch.long)
        logprob = sequence_logprobs(logits, torch.tensor(ids[begin:]), rows, 1).clone()
        factors.append(float(factor(logprob, n)))
    return np.array(factors)


def compared(ours: Floats, theirs: Floats) -> list[str]:
    """ours less theirs, [problems, ks], each with its interval."""
    drawn = resampled_means(ours - theirs, 5000)
    spans = [interval(drawn[:, i]) for i in range(drawn.shape[1])]
    means = (ours - theirs).mean(axis=0)
    return [f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for mean, (low, high) in zip(means, spans, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", action="store_true", help="make first what FOLDER lacks")
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--problems", type=int, default=60, help="held-out, of each family")
    parser.add_argument("--samples", type=int, default=64)
    options = parser.parse_args()
    if options.train:
        train(options.folder, options.tokens, options.lr)
    for family in FAMILY:
        factors = left(family, NS[1])
        said = f"mean {factors.mean():.2f}, below a half in {(factors < 0.5).mean():.2f}"
        sys.stdout.write(f"F at N = {NS[1]} of demonstrations of {family}: {said}\n")
    ks = (1, 8, options.samples)
    heads = [f"pass@{k}" for k in ks]
    sys.stdout.write(f"| family | generator | {' | '.join(heads)} |\n")
    for family in FAMILY:
        source = instances(FAMILIES[family], "test", SEED + 5)
        asked = [next(source) for _ in range(options.problems)]
        named = {"as bundled": "bundled"} | {f"N = {n}": str(options.folder / str(n)) for n in NS}
        found = {name: passes(model, asked, options.samples, ks) for name, model in named.items()}
        rows = {name: [f"{mean:.3f}" for mean in each.mean(axis=0)] for name, each in found.items()}
        rows[f"N = {NS[1]} less N = {NS[0]}"] = compared(found[f"N = {NS[1]}"], found[f"N = {NS[0]}"])
        for name, row in rows.items():
            sys.stdout.write(f"| {family} | {name} | {' | '.join(row)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
