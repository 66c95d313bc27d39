"""Trains the bundled reward model: a small Llama token classifier, two labels, read at the separator that ends each step.

    python -m pipelines.train.prm FOLDER --grow GENERATOR --minutes 60
    python -m pipelines.train.prm FOLDER --init EARLIER --samples SAMPLES.jsonl --minutes 25

The folder is what TRL's PRMTrainer writes: prompt, then each step followed by two newlines; class 1 = right; a label only
up to and including the first wrong step (the rule of PRM800K, arXiv 2305.20050), so that a solution's score is the minimum
over its steps. Four things teach it, each measured in pipelines/train/README.md:

- drills: bare equations, half of them wrong, labelled one by one: the skill of checking arithmetic;
- corruptions: right beginnings with one wrong step of every kind the families know;
- the generator's own samples, exactly labelled, once it can be sampled (--samples);
- a language-model loss below the top layers, so that the trunk calculates and the layers above compare.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from pipelines.problems import FAMILIES, Instance, instances
from pipelines.problems.countdown import listed, misjudged, moves, outlook, reachable
from pipelines.problems.instance import slip
from pipelines.train.card import commit_now, write_card
from pipelines.train.generator import equation, shape
from pipelines.train.muon import MuonAdamW, warm_then_linear
from search.types import SEPARATOR

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MIX = {"word": 0.45, "countdown": 0.43, "guess": 0.12}
POOL = 2000
PAGES = 0.8  # of the drills are pages of Countdown states, once equations are learned
TOP = 2  # layers above the one that the language-model loss reads


@dataclass(frozen=True, slots=True)
class Labelled:
    """One training sequence: ids, and at each position the class and the token to predict there (-100 = none)."""

    ids: list[int]
    labels: list[int]
    follows: list[int]
    kind: str  # what the progress line counts it under


class Sequences:
    """Endless labelled sequences, made up and (given samples) the generator's own."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, samples: Path | None = None) -> None:
        self.rng = random.Random(seed)
        self.sources = {name: instances(FAMILIES[name], "train", seed + 1) for name in MIX}
        self.encode: Callable[[str], list[int]] = lambda text: tokenizer.encode(text, add_special_tokens=False)
        self.separator = self.encode(SEPARATOR)
        self.pad = tokenizer.pad_token_id
        self.user, self.assistant = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>"])
        self.samples: list[dict[str, Any]] = []
        if samples is not None:
            rows = [json.loads(line) for line in samples.read_text().splitlines()]
            self.samples = [{"kind": "own " + row.pop("family"), **row} for row in rows]
        self.queue: list[dict[str, Any]] = []

    def solution(self, kind: str, question: str, steps: list[str], labels: list[bool], gold: str = "") -> Labelled:
        """Labels up to the first wrong step; what follows it is cut off. Right steps are to be imitated; where the right step
        in place of the wrong one is known (`gold`), so is its token at the place where the wrong one departs from it."""
        ids = [self.user, *self.encode(question), self.assistant]
        classes, follows = [-100] * len(ids), [-100] * (len(ids) - 1)
        for step, label in zip(steps, labels, strict=True):
            tokens = self.encode(step) + self.separator
            wanted = tokens if label else self.encode(gold) + self.separator if gold else []
            same = next((i for i, (a, b) in enumerate(zip(tokens, wanted, strict=False)) if a != b), len(wanted) - 1)
            taught = wanted[: same + 1][: len(tokens)]
            ids += tokens
            classes += [-100] * (len(tokens) - 1) + [int(label)]
            follows += taught + [-100] * (len(tokens) - len(taught))
            if not label:
                break
        return Labelled(ids, classes, [*follows, -100], kind)

    def drill(self) -> Labelled:
        """Equations, half of them wrong. The right result is to be predicted even where a wrong one follows: the trunk
        learns to calculate from both kinds."""
        ids = [self.user, *self.encode("Drill."), self.assistant]
        classes, follows = [-100] * len(ids), [-100] * len(ids)
        for _ in range(12):
            true = equation(self.rng)
            wrong = self.rng.random() < 0.5
            written = self.encode(str(slip(self.rng, true.result) if wrong else true.result))
            before = self.encode(f"{true.left}{true.op}{true.right}=")
            tokens = [*before, *written, *self.encode("."), *self.separator]
            label = int(not wrong)
            ids += tokens
            classes += [-100] * (len(before) + len(written) - 1) + [label, -100, label]
            rest = len(tokens) - len(before)
            follows += [-100] * (len(before) - 1) + self.encode(str(true.result)) + [-100] * rest
        return Labelled(ids, classes, follows, "drill")

    def page(self) -> Labelled:
        """Countdown states, half of them dead ends: the skill of looking ahead. After its label each state is solved, or
        said to have no solution, and the trunk is taught to predict that: it learns what to look for."""
        ids = [self.user, *self.encode("Drill."), self.assistant]
        classes, follows = [-100] * len(ids), [-100] * len(ids)
        for _ in range(7):
            numbers, target, alive = state(self.rng)
            made = outlook(numbers)
            if made and self.rng.random() < 0.2:
                made, alive = misjudged(self.rng, numbers, target), False
            asked = self.encode(listed(numbers, made, target)) + self.separator
            solved = [e for e, rest in moves(numbers) if reachable(tuple(sorted(rest)), target)]
            said = self.encode(f"{self.rng.choice(solved)}." if solved else "No value.") + self.separator
            ids += asked + said
            classes += [-100] * (len(asked) - 1) + [int(alive)] + [-100] * len(said)
            follows += [-100] * (len(asked) - 1) + said + [-100]
        return Labelled(ids, classes, follows, "page")

    def one(self, drills: float, pages: float, own: float) -> Labelled:
        pick = self.rng.random()
        if pick < drills:
            return self.page() if self.rng.random() < pages else self.drill()
        if self.samples and pick < drills + own:
            if not self.queue:
                self.queue = self.rng.sample(self.samples, len(self.samples))
            sample = self.queue.pop()
            return self.solution(**sample)
        name = self.rng.choices(list(MIX), list(MIX.values()))[0]
        family, instance = FAMILIES[name], next(self.sources[name])
        make = family.corrupt if self.rng.random() < 0.7 else family.demonstrate
        steps = make(self.rng, instance)
        labels = family.label(instance, steps)
        return self.solution(name, instance.question, steps, labels, replaced(instance, labels))

    def batches(self, tokens: int, drills: float, pages: float, own: float) -> Iterator[list[Labelled]]:
        pool = sorted((self.one(drills, pages, own) for _ in range(POOL)), key=lambda s: len(s.ids))
        packed: list[list[Labelled]] = [[]]
        for sequence in pool:
            if packed[-1] and len(sequence.ids) * (len(packed[-1]) + 1) > tokens:
                packed.append([])
            packed[-1].append(sequence)
        self.rng.shuffle(packed)
        yield from packed


def replaced(instance: Instance, labels: list[bool]) -> str:
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


def drill_share(done: float, begun: bool) -> float:
    """Drills alone until checking arithmetic is learned; few of them after, or when a trained model goes on."""
    if begun:
        return 0.1
    return 0.7 if done < 0.1 else 0.4 if done < 0.3 else 0.1


def auc(scores: list[float], labels: list[int]) -> float:
    """Area under the ROC curve: the chance that a right one scores above a wrong one, ties counted half."""
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    positive = sum(labels)
    negative = len(labels) - positive
    if not positive or not negative:
        return float("nan")
    total = sum(rank for rank, label in zip(ranks, labels, strict=True) if label)
    return float((total - positive * (positive + 1) / 2) / (positive * negative))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--grow", type=Path, help="a generator whose layers become the trunk, new layers above")
    parser.add_argument("--init", type=Path, help="an earlier reward model to go on from")
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--own", type=float, default=0.6, help="share of the generator's own samples, where given")
    parser.add_argument("--lm", type=float, default=1.0, help="weight of the language-model loss")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    commit = commit_now()
    from transformers import AutoModelForTokenClassification, AutoTokenizer, LlamaConfig, LlamaForTokenClassification

    tokenizer = AutoTokenizer.from_pretrained(options.init or options.grow or options.tokenizer)
    if options.init:
        model = AutoModelForTokenClassification.from_pretrained(options.init, dtype=torch.float32)
    else:
        size = shape(len(tokenizer), options.hidden, options.layers, 3 * options.hidden)
        config = LlamaConfig(
            **size,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            num_labels=2,
            id2label={0: "wrong", 1: "right"},
            label2id={"wrong": 0, "right": 1},
            classifier_dropout=0.0,
        )
        model = LlamaForTokenClassification(config)
        if options.grow:
            _grow(model, options.grow)
    model.to(options.device)
    optimizer = MuonAdamW(model, options.lr)
    sequences = Sequences(tokenizer, options.seed, options.samples)
    trunk = model.config.num_hidden_layers - TOP
    started, steps, seen, done = time.monotonic(), 0, 0, 0.0
    recent: list[tuple[str, float, int]] = []
    while done < 1:
        begun = options.init is not None
        pages = PAGES if begun or done > 0.12 else 0.0
        for rows in sequences.batches(options.batch_tokens, drill_share(done, begun), pages, options.own):
            done = (time.monotonic() - started) / 60 / options.minutes
            ids, labels, follows = _padded(rows, sequences.pad, options.device)
            with torch.autocast(options.device, dtype=torch.bfloat16):
                out = model.model(input_ids=ids, output_hidden_states=True)
                marked = labels != -100
                logits = model.score(out.last_hidden_state[marked]).float()
                loss = F.cross_entropy(logits, labels[marked])
                if options.lm:
                    taught = follows != -100
                    hidden = model.model.norm(out.hidden_states[trunk][taught])
                    predicted = F.linear(hidden, model.model.embed_tokens.weight).float()
                    loss = loss + options.lm * F.cross_entropy(predicted, follows[taught])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(warm_then_linear(min(done, 1.0)))
            steps, seen = steps + 1, seen + ids.numel()
            scores = (logits[:, 1] - logits[:, 0]).detach().tolist()
            kinds = [_kind(row) for row in rows for label in row.labels if label != -100]
            recent += list(zip(kinds, scores, labels[marked].tolist(), strict=True))
            if steps % 100 == 0:
                shown = {
                    kind: round(auc([s for k, s, _ in recent if k == kind], [y for k, _, y in recent if k == kind]), 3)
                    for kind in sorted({k for k, _, _ in recent})
                }
                print(f"step {steps} tokens {seen / 1e6:.2f}M done {done:.3f} auc {shown}", flush=True)
                recent = []
            if steps % 500 == 0:
                model.save_pretrained(options.folder / "checkpoint")
                tokenizer.save_pretrained(options.folder / "checkpoint")
            if done >= 1:
                break
    model.to(torch.bfloat16).save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    minutes = (time.monotonic() - started) / 60
    training = {"steps": steps, "tokens": seen, "minutes": round(minutes, 1), "mix": MIX}
    write_card(options.folder, "prm", vars(options), training, commit)


def _grow(model: Any, generator: Path) -> None:
    """The generator's layers below, new ones above that at first change nothing."""
    from transformers import AutoModelForCausalLM

    known = AutoModelForCausalLM.from_pretrained(generator, dtype=torch.float32).model.state_dict()
    missing, unexpected = model.model.load_state_dict(known, strict=False)
    if unexpected:
        raise ValueError(f"{generator} does not fit: {unexpected[0]}")
    for name, weight in model.model.named_parameters():
        if name in missing and name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.zeros_(weight)


def _padded(rows: list[Labelled], pad: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, classes, tokens to predict), each [rows, length]."""
    longest = max(len(row.ids) for row in rows)
    out = [torch.full((len(rows), longest), fill) for fill in (pad, -100, -100)]
    for i, row in enumerate(rows):
        for tensor, values in zip(out, (row.ids, row.labels, row.follows), strict=True):
            tensor[i, : len(values)] = torch.tensor(values)
    return out[0].to(device), out[1].to(device), out[2].to(device)


def _kind(row: Labelled) -> str:
    return row.kind


if __name__ == "__main__":
    main()
