"""Trains the bundled judge: the bundled generator taught to check solutions, and to say which of two is better.

    python -m pipelines.train.judge FOLDER --init GENERATOR --minutes 30 --samples 2500

Endless fresh problems of the training split; solutions are demonstrations, corrupted ones, beginnings of solutions, rubbish,
and the generator's own (--samples problems, 6 each); what is to be written about them is exact (pipelines/train/checking.py).
Loss on that alone. The tokenizer and chat template are the generator's to the byte, so the two can stand in one run.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from pipelines.models import ModelError
from pipelines.problems import FAMILIES, Instance, instances
from pipelines.train.card import commit_now, write_card
from pipelines.train.checking import CHECK, DIRECT, asked, asked_pair, better, checked, right, verdict
from pipelines.train.given import Refused, above_zero, folder_with, least, refusing, writable_folder
from pipelines.train.muon import MuonAdamW, warm_then_linear
from search.types import SEPARATOR, Extend, Extension, Row, Sampling, Until, child_of, seed_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MIX = {"word": 0.55, "countdown": 0.35, "guess": 0.1}
TASKS = {"check": 0.72, "direct": 0.04, "compare": 0.24}
SOURCES = {
    "demonstrated": 0.36,
    "corrupted": 0.16,
    "begun": 0.08,
    "rubbish": 0.05,
    "none": 0.01,
    "shuffled": 0.04,
    "drilled": 0.3,
}
DRILLED = (0.75, 0.3)  # of the solutions that are checked: in the first half of the training, and after it
POOL = 600  # sequences made, sorted by length and batched together
LONGEST = 640  # tokens of a sequence; longer ones are left out
EACH = 6  # solutions of a problem that the generator gives
SEED = 9_001  # of the generator's problems: one that its own training did not use
Written = list[list[str]]


def solved(generator: str, problems: int) -> dict[str, list[tuple[Instance, Written]]]:
    """By family: training problems with the generator's own whole solutions."""
    from pipelines.models import load_generator

    model = load_generator(generator)
    drawn: list[Instance] = []
    for name, share in MIX.items():
        source = instances(FAMILIES[name], "train", SEED)
        drawn += [next(source) for _ in range(round(problems * share))]
    for key, instance in enumerate(drawn):
        prefix = model.encode(instance.question)
        rows = tuple(Row(p, seed_of(SEED, str(key), p), prefix, 384) for p in (child_of("", i) for i in range(EACH)))
        model.engine.submit(key, Extend(rows, Until.END, Sampling()))
    found: dict[str, list[tuple[Instance, Written]]] = {name: [] for name in MIX}
    while model.engine.busy:
        for key, reply in model.engine.advance():
            assert isinstance(reply, Extension)
            model.engine.forget(key)
            texts = [[s for s in step.text.split(SEPARATOR) if s] for step in reply.steps]
            found[drawn[key].family].append((drawn[key], texts))
    return found


class Sequences:
    """Endless training sequences as token ids, with where the loss begins."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, seed: int, own: dict[str, list[tuple[Instance, Written]]] | None = None
    ) -> None:
        self.rng = random.Random(seed)
        self.tokenizer, self.own = tokenizer, own or {}
        self.drills = DRILLED[0]
        self.sources = {name: instances(FAMILIES[name], "train", seed + 501) for name in MIX}
        self.user, self.assistant = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>"])

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def one(self) -> tuple[list[int], int]:
        """(ids, index of the first token with loss)."""
        rng = self.rng
        name = rng.choices(list(MIX), list(MIX.values()))[0]
        task = rng.choices(list(TASKS), list(TASKS.values()))[0]
        own = self.own.get(name)
        if own and rng.random() < 0.5:
            instance, texts = rng.choice(own)
        else:
            instance, texts = next(self.sources[name]), []
        nonce = f"{rng.randrange(1_000_000):06d}"
        if task == "compare":
            first, second = self._two(instance, texts)
            ask, said = asked_pair(instance.question, first, second, nonce), better(rng, instance, first, second)
        else:
            steps = self._solution(instance, texts)
            ask = asked(CHECK if task == "check" else DIRECT, instance.question, steps, nonce)
            said = checked(instance, steps) if task == "check" else [verdict(instance, steps)]
        prompt = [self.user, *self.encode(ask), self.assistant]
        return [*prompt, *self.encode(SEPARATOR.join(said)), self.tokenizer.eos_token_id], len(prompt)

    def _demonstrated(self, instance: Instance, texts: Written, wanted: bool) -> list[str]:
        """A whole solution, as often right as wrong where a few tries allow it."""
        steps: list[str] = []
        for turn in range(10):
            own = texts and turn < 6
            steps = self.rng.choice(texts) if own else FAMILIES[instance.family].demonstrate(self.rng, instance)
            if steps and right(instance, steps) == wanted:
                break
        return steps

    def _two(self, instance: Instance, texts: Written) -> tuple[list[str], list[str]]:
        """Two solutions, mostly one right and one wrong."""
        wanted = self.rng.random() < 0.5
        other = not wanted if self.rng.random() < 0.9 else wanted
        found = [self._demonstrated(instance, texts, each) for each in (wanted, other)]
        if self.rng.random() < self.drills:  # the wrong one in more ways than one
            found = [text if right(instance, text) else drilled(self.rng, instance) for text in found]
        return found[0], found[1]

    def _solution(self, instance: Instance, texts: Written) -> list[str]:
        rng, family = self.rng, FAMILIES[instance.family]
        kind = "drilled" if rng.random() < self.drills else rng.choices(list(SOURCES), list(SOURCES.values()))[0]
        if kind == "drilled":
            return drilled(rng, instance)
        if kind == "corrupted":
            return family.corrupt(rng, instance)
        if kind == "none":
            return []
        if kind == "rubbish":
            other = next(self.sources[instance.family])
            return rubbish(rng, instance, family.demonstrate(rng, other))
        steps = self._demonstrated(instance, texts, rng.random() < 0.5)
        if kind == "begun":
            return steps[: rng.randint(1, max(len(steps) - 1, 1))]
        if kind == "shuffled" and len(steps) > 1:  # only the answer, or a step left out
            at = rng.randrange(len(steps))
            return steps[-1:] if rng.random() < 0.5 else steps[:at] + steps[at + 1 :]
        return steps

    def batches(self, tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One pool as (ids [rows, length] padded with the end token, targets with -100 where no loss is taken)."""
        pool = sorted((p for p in (self.one() for _ in range(POOL)) if len(p[0]) <= LONGEST), key=lambda pair: len(pair[0]))
        packed: list[list[tuple[list[int], int]]] = [[]]
        for pair in pool:
            if packed[-1] and len(pair[0]) * (len(packed[-1]) + 1) > tokens:
                packed.append([])
            packed[-1].append(pair)
        self.rng.shuffle(packed)
        for rows in packed:
            yield padded(rows, self.tokenizer.eos_token_id)


def drilled(rng: random.Random, instance: Instance) -> list[str]:
    """Lines of which every other one is wrong, each on its own account. A check that copies what is written instead of working
    it out is then wrong as often; in demonstrations it is nearly always right, and that is what is learned from them alone."""
    family, steps = FAMILIES[instance.family], list(instance.steps)
    if instance.family == "countdown":  # after a wrong move nothing can be right
        return family.corrupt(rng, instance) if rng.random() < 0.7 else steps
    spoiled = [family.corrupt(rng, instance) for _ in range(3 * len(steps))]
    if instance.family == "guess":  # its lines are right or wrong wherever they stand
        tried = [line for each in spoiled for line in each[:-1]]
        steps = [*rng.sample(tried, min(len(tried), rng.randint(0, 3))), *steps]
        return [rng.choice(spoiled)[-1] if rng.random() < 0.5 else step for step in steps]
    wrong = {len(each) - 1: each[-1] for each in spoiled}
    return [wrong[i] if i in wrong and rng.random() < 0.5 else step for i, step in enumerate(steps)]


def rubbish(rng: random.Random, instance: Instance, other: list[str]) -> list[str]:
    """A text that is no solution: words of the question, signs, letters, or another problem's solution."""
    kind = rng.randrange(4)
    if kind == 0:
        words = instance.question.split()
        return [" ".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(rng.randint(1, 3))]
    if kind == 1:
        return ["".join(rng.choices(".:,-;!?()[]<>/|*#=", k=rng.randint(1, 5)))]
    if kind == 2:
        made = ["".join(rng.choices("abcdefghijklmnoprstuvwy", k=rng.randint(1, 9))) for _ in range(rng.randint(1, 9))]
        return [" ".join(made).capitalize() + rng.choice(("", ".", ":", "!"))]
    return other


def padded(rows: Sequence[tuple[list[int], int]], end: int) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), end)
    targets = torch.full((len(rows), longest), -100)
    for i, (row, begin) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        targets[i, begin : len(row)] = ids[i, begin : len(row)]
    return ids, targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--init", type=Path, required=True, help="the generator, or an earlier judge to go on from")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--generator", default="bundled", help="whose own solutions are checked too")
    parser.add_argument("--samples", type=int, default=0, help="training problems that it solves for this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with refusing(Refused):
        above_zero(minutes=options.minutes, lr=options.lr)
        least(1, batch_tokens=options.batch_tokens)
        least(0, samples=options.samples)
        folder_with(options.init, "config.json")
        writable_folder(options.folder)
    torch.manual_seed(options.seed)
    commit = commit_now()
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(options.init)
    model = LlamaForCausalLM.from_pretrained(options.init, dtype=torch.float32).to(options.device)
    with refusing(ModelError):
        own = solved(options.generator, options.samples) if options.samples else None
    print(f"{sum(map(len, (own or {}).values()))} problems solved by the generator", flush=True)
    optimizer = MuonAdamW(model, options.lr)
    sequences = Sequences(tokenizer, options.seed, own)
    started, steps, seen, running, done = time.monotonic(), 0, 0, 0.0, 0.0
    while done < 1:
        sequences.drills = DRILLED[done > 0.5]
        for ids, targets in sequences.batches(options.batch_tokens):
            done = (time.monotonic() - started) / 60 / options.minutes
            ids, targets = ids.to(options.device), targets.to(options.device)
            hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
            kept = targets[:, 1:] != -100
            loss = F.cross_entropy(model.lm_head(hidden[kept]), targets[:, 1:][kept])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(warm_then_linear(min(done, 1.0)))
            steps, seen = steps + 1, seen + ids.numel()
            running = 0.98 * running + 0.02 * float(loss.detach()) if steps > 1 else float(loss.detach())
            if steps % 50 == 0:
                print(f"step {steps} tokens {seen / 1e6:.2f}M loss {running:.4f} done {done:.3f}", flush=True)
            if steps % 1000 == 0:
                model.save_pretrained(options.folder / "checkpoint")
                tokenizer.save_pretrained(options.folder / "checkpoint")
            if done >= 1:
                break
    model.to(torch.bfloat16).save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    minutes = (time.monotonic() - started) / 60
    training = {"steps": steps, "tokens": seen, "minutes": round(minutes, 1), "final_loss": round(running, 4)}
    write_card(options.folder, "judge", vars(options), {"mix": MIX, "tasks": TASKS, **training}, commit)


if __name__ == "__main__":
    main()
