"""Trains the bundled generator: a small Llama on demonstrations of the synthetic families.

    python -m pipelines.train.generator FOLDER --minutes 40
    python -m pipelines.train.generator FOLDER --minutes 25 --size small --teacher GENERATOR    # its small sibling
    python -m pipelines.train.generator FOLDER --init GENERATOR --tokens 600000 --dco 64        # for pass@64

One pass over endless fresh problems of the training split, loss on the solution only. With a teacher half of the loss is the
divergence from its next-token distributions, and the tokenizer is the teacher's. Writes a standard Hugging Face folder in
bfloat16 with a card (card.json) that says how it was made.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from pipelines.problems import FAMILIES, instances
from pipelines.problems.instance import Equation, apply
from pipelines.train.card import commit_now, write_card
from pipelines.train.dco import dco_loss, sequence_logprobs
from pipelines.train.given import Refused, above_zero, folder_with, least, refusing, writable_folder
from pipelines.train.muon import MuonAdamW, warm_then_linear
from pipelines.train.tokenizer import CONTEXT, build
from search.types import SEPARATOR

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MIX = {"word": 0.55, "countdown": 0.30, "guess": 0.15}
SIZES = {"generator": {}, "small": {"hidden": 96, "layers": 3, "intermediate": 192}}  # what `shape` is given
POOL = 2000  # sequences made, sorted by length and batched together


def shape(vocabulary: int, hidden: int = 128, layers: int = 6, intermediate: int = 384) -> dict[str, int | float | bool]:
    """The configuration of the bundled models."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": hidden // 64,
        "intermediate_size": intermediate,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "rope_theta": 10000.0,
    }


class Sequences:
    """Endless training sequences as token ids, with where the loss begins."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sources = {name: instances(FAMILIES[name], "train", seed) for name in MIX}
        self.encode: Callable[[str], list[int]] = lambda text: tokenizer.encode(text, add_special_tokens=False)
        self.end = tokenizer.eos_token_id
        self.user, self.assistant = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>"])

    def one(self, drills: float) -> tuple[list[int], int]:
        """(ids, index of the first token with loss); with probability `drills` a page of bare equations."""
        if self.rng.random() < drills:
            return self.laid("Drill.", [f"{equation(self.rng)}." for _ in range(10)])
        name = self.rng.choices(list(MIX), list(MIX.values()))[0]
        instance = next(self.sources[name])
        return self.laid(instance.question, FAMILIES[name].demonstrate(self.rng, instance))

    def laid(self, question: str, steps: Sequence[str]) -> tuple[list[int], int]:
        """(ids, index of the first token with loss) of a solution."""
        prompt = [self.user, *self.encode(question), self.assistant]
        return [*prompt, *self.encode(SEPARATOR.join(steps)), self.end], len(prompt)

    def batches(self, tokens: int, drills: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One pool as (ids [rows, length] padded with the end token, targets with -100 where no loss is taken)."""
        pool = sorted((self.one(drills) for _ in range(POOL)), key=lambda pair: len(pair[0]))
        packed: list[list[tuple[list[int], int]]] = []
        held: list[tuple[list[int], int]] = []
        for pair in pool:
            if held and len(pair[0]) * (len(held) + 1) > tokens:
                packed.append(held)
                held = []
            held.append(pair)
        packed.append(held)
        self.rng.shuffle(packed)
        for rows in packed:
            longest = max(len(ids) for ids, _ in rows)
            ids = torch.full((len(rows), longest), self.end)
            targets = torch.full((len(rows), longest), -100)
            for i, (row, begin) in enumerate(rows):
                ids[i, : len(row)] = torch.tensor(row)
                targets[i, begin : len(row)] = ids[i, begin : len(row)]
            yield ids, targets


def equation(rng: random.Random) -> Equation:
    """A random true equation between 1 and 99."""
    while True:
        op = rng.choices("+-*/", (0.4, 0.3, 0.15, 0.15))[0]
        left = rng.randint(1, 33 if op == "*" else 99)
        right = rng.randint(1, 99 if op in "+-" else 33)
        result = apply(left, op, right)
        if result is not None and 1 <= result <= 99:
            return Equation(left, op, right, result)


def divergence(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The mean over positions of KL(known || ours), both given as logits [positions, vocabulary]."""
    return F.kl_div(logits.log_softmax(-1), known.log_softmax(-1), log_target=True, reduction="batchmean")


def drill_share(done: float, begun: bool) -> float:
    """Bare equations first, then few: they trigger the skill of calculating."""
    if begun:
        return 0.05
    return 0.5 if done < 0.12 else 0.2 if done < 0.5 else 0.05


class Loop:
    """One training: the model, its optimizer and what has been seen."""

    def __init__(self, model: Any, sequences: Sequences, options: argparse.Namespace, teacher: Any = None) -> None:
        self.model, self.sequences, self.options, self.teacher = model, sequences, options, teacher
        self.optimizer = MuonAdamW(model, options.lr)
        self.started, self.steps, self.seen, self.done, self.running = time.monotonic(), 0, 0, 0.0, 0.0

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches until the tokens or the minutes are used up."""
        while self.done < 1:
            drills = drill_share(self.done, self.options.init is not None)
            for batch in self.sequences.batches(self.options.batch_tokens, drills):
                yield batch
                if self.done >= 1:
                    return

    def step(self, ids: torch.Tensor, targets: torch.Tensor) -> float:
        """One update; the loss before it."""
        minutes = (time.monotonic() - self.started) / 60
        self.done = self.seen / self.options.tokens if self.options.tokens else minutes / self.options.minutes
        ids, targets = ids.to(self.options.device), targets.to(self.options.device)
        loss = self.loss(ids, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(warm_then_linear(min(self.done, 1.0)))
        self.steps, self.seen = self.steps + 1, self.seen + ids.numel()
        now = float(loss.detach())
        self.running = 0.98 * self.running + 0.02 * now if self.steps > 1 else now
        return now

    def loss(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy a token, with a teacher half of it its divergence; or the pass@N-aligned loss, of whole solutions but
        also per token, so that N = 1 is cross-entropy to the digit."""
        hidden = self.model.model(input_ids=ids[:, :-1]).last_hidden_state
        kept = targets[:, 1:] != -100
        logits, wanted = self.model.lm_head(hidden[kept]), targets[:, 1:][kept]
        if self.options.dco:
            logprobs = sequence_logprobs(logits, wanted, kept.nonzero()[:, 0], len(ids))
            return dco_loss(logprobs, self.options.dco).sum() / len(wanted)
        loss = F.cross_entropy(logits, wanted)
        if self.teacher is None:
            return loss
        known = self.teacher.lm_head(self.teacher.model(input_ids=ids[:, :-1]).last_hidden_state[kept])
        return 0.5 * loss + 0.5 * divergence(logits, known)


def parser() -> argparse.ArgumentParser:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("folder", type=Path)
    given.add_argument("--minutes", type=float, default=40)
    given.add_argument("--tokens", type=int, help="padded tokens to train on, in place of minutes")
    given.add_argument("--size", choices=SIZES, default="generator", help="of a model that begins from nothing")
    given.add_argument("--init", type=Path, help="an earlier generator to go on from")
    given.add_argument("--teacher", type=Path, help="a generator whose distributions are half of what is learned")
    given.add_argument("--dco", type=int, help="N of the pass@N-aligned loss; 1 is cross-entropy. Not with --teacher")
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--batch-tokens", type=int, default=3072)
    given.add_argument("--lr", type=float, default=4e-3)
    given.add_argument("--device", default="cpu")
    return given


def begun(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """(model, tokenizer, teacher or None) that the training starts from."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = options.init or options.teacher
    tokenizer = AutoTokenizer.from_pretrained(source) if source else build()
    end = tokenizer.eos_token_id
    sizes = shape(len(tokenizer), **SIZES[options.size])
    config = LlamaConfig(**sizes, bos_token_id=None, eos_token_id=end, pad_token_id=tokenizer.pad_token_id)
    model = LlamaForCausalLM.from_pretrained(options.init, dtype=torch.float32) if options.init else LlamaForCausalLM(config)
    model.to(options.device)
    teacher = LlamaForCausalLM.from_pretrained(options.teacher, dtype=torch.float32) if options.teacher else None
    if teacher is not None:
        teacher.to(options.device).eval().requires_grad_(False)
    return model, tokenizer, teacher


def train(options: argparse.Namespace) -> Loop:
    """Trains, prints a line every hundred updates, and writes the folder with its card."""
    torch.manual_seed(options.seed)
    commit = commit_now()
    model, tokenizer, teacher = begun(options)
    loop = Loop(model, Sequences(tokenizer, options.seed), options, teacher)
    # with --dco the gradients of sure sequences are so small that a CPU computes them three times as slowly as zeros
    torch.set_flush_denormal(True)
    for ids, targets in loop.batches():
        loop.step(ids, targets)
        if loop.steps % 100 == 0:
            seen = f"tokens {loop.seen / 1e6:.2f}M loss {loop.running:.4f} done {loop.done:.3f}"
            print(f"step {loop.steps} {seen}", flush=True)
        if loop.steps % 1000 == 0:
            model.save_pretrained(options.folder / "checkpoint")
            tokenizer.save_pretrained(options.folder / "checkpoint")
    torch.set_flush_denormal(False)
    model.to(torch.bfloat16).save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    minutes = (time.monotonic() - loop.started) / 60
    training = {"steps": loop.steps, "tokens": loop.seen, "minutes": round(minutes, 1), "final_loss": round(loop.running, 4)}
    write_card(options.folder, "generator", vars(options), {"mix": MIX, **training}, commit)
    return loop


def main() -> None:
    given = parser()
    options = given.parse_args()
    if options.dco is not None and (options.dco < 1 or options.teacher is not None):
        given.error(f"--dco {options.dco} needs a number of samples of at least 1, and no --teacher")
    with refusing(Refused):
        above_zero(minutes=options.minutes, lr=options.lr)
        least(1, tokens=options.tokens, batch_tokens=options.batch_tokens)
        for model in filter(None, (options.init, options.teacher)):
            folder_with(model, "config.json")
        writable_folder(options.folder)
    train(options)


if __name__ == "__main__":
    main()
