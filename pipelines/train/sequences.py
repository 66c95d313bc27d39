"""What a reward model is trained on: labelled token sequences, made up or from labelled samples.

A sequence is laid out as TRL's PRMTrainer does it: the prompt, then each step followed by two newlines, its label at the last
token of that separator. Labels may be soft. What may be hard is cut after the first wrong step (the rule of PRM800K, arXiv
2305.20050), so that a solution's score is the minimum over its steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipelines.problems import FAMILIES, Instance, instances
from pipelines.problems.countdown import listed, misjudged, moves, outlook, reachable
from pipelines.problems.instance import slip
from pipelines.train.generator import equation
from pipelines.train.labelled import Sample
from search.types import SEPARATOR

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MIX: Mapping[str, float] = {"word": 0.45, "countdown": 0.43, "guess": 0.12}
POOL = 2000
NONE = -100  # no label, nothing to predict


@dataclass(frozen=True, slots=True)
class Labelled:
    """One training sequence: ids, and at each position the label and the token to predict there (NONE = none)."""

    ids: list[int]
    labels: list[float]  # in [0, 1], the chance that the step which ends here is right
    follows: list[int]
    kind: str  # what the progress line counts it under
    outcome: bool | None = None  # of a solution whose labels are not to be read: the values are to predict this


@dataclass(frozen=True, slots=True)
class Shares:
    """What a batch is made of."""

    drills: float  # of all sequences
    pages: float  # of the drills: pages of Countdown states; the rest are bare equations
    own: float  # of all sequences: labelled samples, where there are any; what is left is made up


class Sequences:
    """Endless labelled sequences. With `td` the samples' labels are not read, only how each solution ended."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        seed: int,
        samples: Sequence[Sample] = (),
        mix: Mapping[str, float] = MIX,
        td: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.mix = mix
        self.sources = {name: instances(FAMILIES[name], "train", seed + 1) for name in mix}
        self.encode: Callable[[str], list[int]] = lambda text: tokenizer.encode(text, add_special_tokens=False)
        self.separator = self.encode(SEPARATOR)
        self.pad = tokenizer.pad_token_id
        self.user, self.assistant = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>"])
        self.samples, self.td = list(samples), td
        self.queue: list[Sample] = []

    def solution(self, sample: Sample, kind: str) -> Labelled:
        """A hard-labelled solution up to its first wrong step, what follows cut off; any other whole.

        Steps held right are to be imitated; where the right step in place of the wrong one is known (`gold`), so is its
        token at the place where the wrong one departs from it.
        """
        ids = [self.user, *self.encode(sample.question), self.assistant]
        labels, follows = [float(NONE)] * len(ids), [NONE] * (len(ids) - 1)
        for step, label in zip(sample.steps, sample.labels, strict=True):
            tokens = self.encode(step) + self.separator
            right = sample.outcome if label is None or self.td else label >= 0.5
            wanted = tokens if right else self.encode(sample.gold) + self.separator if sample.gold else []
            same = next((i for i, (a, b) in enumerate(zip(tokens, wanted, strict=False)) if a != b), len(wanted) - 1)
            taught = wanted[: same + 1][: len(tokens)]
            ids += tokens
            labels += [NONE] * (len(tokens) - 1) + [0.0 if self.td else NONE if label is None else label]
            follows += taught + [NONE] * (len(tokens) - len(taught))
            if label == 0 and not sample.soft and not self.td:
                break
        return Labelled(ids, labels, [*follows, NONE], kind, sample.outcome if self.td else None)

    def drill(self) -> Labelled:
        """Equations, half of them wrong. The right result is to be predicted even where a wrong one follows: the trunk
        learns to calculate from both kinds."""
        ids = [self.user, *self.encode("Drill."), self.assistant]
        labels, follows = [float(NONE)] * len(ids), [NONE] * len(ids)
        for _ in range(12):
            true = equation(self.rng)
            wrong = self.rng.random() < 0.5
            written = self.encode(str(slip(self.rng, true.result) if wrong else true.result))
            before = self.encode(f"{true.left}{true.op}{true.right}=")
            tokens = [*before, *written, *self.encode("."), *self.separator]
            label = float(not wrong)
            ids += tokens
            labels += [NONE] * (len(before) + len(written) - 1) + [label, NONE, label]
            rest = len(tokens) - len(before)
            follows += [NONE] * (len(before) - 1) + self.encode(str(true.result)) + [NONE] * rest
        return Labelled(ids, labels, follows, "drill")

    def page(self) -> Labelled:
        """Countdown states, half of them dead ends: the skill of looking ahead. After its label each state is solved, or
        said to have no solution, and the trunk is taught to predict that: it learns what to look for."""
        ids = [self.user, *self.encode("Drill."), self.assistant]
        labels, follows = [float(NONE)] * len(ids), [NONE] * len(ids)
        for _ in range(7):
            numbers, target, alive = state(self.rng)
            made = outlook(numbers)
            if made and self.rng.random() < 0.2:
                made, alive = misjudged(self.rng, numbers, target), False
            asked = self.encode(listed(numbers, made, target)) + self.separator
            solved = [e for e, rest in moves(numbers) if reachable(tuple(sorted(rest)), target)]
            said = self.encode(f"{self.rng.choice(solved)}." if solved else "No value.") + self.separator
            ids += asked + said
            labels += [NONE] * (len(asked) - 1) + [float(alive)] + [NONE] * len(said)
            follows += [NONE] * (len(asked) - 1) + said + [NONE]
        return Labelled(ids, labels, follows, "page")

    def made_up(self) -> Labelled:
        """A corruption or, less often, a demonstration of a family, labelled exactly."""
        name = self.rng.choices(list(self.mix), list(self.mix.values()))[0]
        family, instance = FAMILIES[name], next(self.sources[name])
        make = family.corrupt if self.rng.random() < 0.7 else family.demonstrate
        steps = make(self.rng, instance)
        labels = family.label(instance, steps)
        known = tuple(map(float, labels))
        return self.solution(
            Sample(name, instance.question, tuple(steps), known, all(labels), replaced(instance, labels)), name
        )

    def one(self, shares: Shares) -> Labelled:
        pick = self.rng.random()
        if pick < shares.drills:
            return self.page() if self.rng.random() < shares.pages else self.drill()
        if self.samples and pick < shares.drills + shares.own:
            if not self.queue:
                self.queue = self.rng.sample(self.samples, len(self.samples))
            sample = self.queue.pop()
            return self.solution(sample, f"own {sample.family}")
        return self.made_up()

    def batches(self, tokens: int, shares: Shares) -> Iterator[list[Labelled]]:
        """One pool, sequences of like length together, at most `tokens` padded tokens a batch."""
        pool = sorted((self.one(shares) for _ in range(POOL)), key=lambda s: len(s.ids))
        packed: list[list[Labelled]] = [[]]
        for sequence in pool:
            if packed[-1] and len(sequence.ids) * (len(packed[-1]) + 1) > tokens:
                packed.append([])
            packed[-1].append(sequence)
        self.rng.shuffle(packed)
        yield from packed


def replaced(instance: Instance, labels: Sequence[bool]) -> str:
    """The right step in place of the first wrong one, where a family has one plan only; "" elsewhere."""
    at = labels.index(False) if False in labels else len(labels)
    return instance.steps[at] if instance.plan and at < len(instance.steps) else ""


def state(rng: random.Random) -> tuple[tuple[int, ...], int, bool]:
    """Numbers, a target, and whether it can be reached; reachable half of the time, unreachable ones near a reachable one."""
    while True:
        numbers = tuple(rng.randint(1, 30 if rng.random() < 0.7 else 99) for _ in range(rng.choices((2, 3), (0.7, 0.3))[0]))
        left: tuple[int, ...] = numbers
        while len(left) > 1:
            left = rng.choice([rest for _, rest in moves(left)])
        target = left[0]
        if rng.random() < 0.5:
            target = slip(rng, target) if rng.random() < 0.5 else rng.randint(10, 60)
        if 10 <= target <= 60:
            alive = reachable(tuple(sorted(numbers)), target)
            if alive == (target == left[0]):
                return numbers, target, alive


def padded(rows: Sequence[Labelled], pad: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, labels, tokens to predict), each [rows, length]; labels float32."""
    longest = max(len(row.ids) for row in rows)
    shape = (len(rows), longest)
    ids, labels, follows = torch.full(shape, pad), torch.full(shape, float(NONE)), torch.full(shape, NONE)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        labels[i, : len(row.labels)] = torch.tensor(row.labels)
        follows[i, : len(row.follows)] = torch.tensor(row.follows)
    return ids.to(device), labels.to(device), follows.to(device)


__all__ = ["MIX", "NONE", "Labelled", "Sequences", "Shares", "padded", "replaced", "state"]
