"""Trains the bundled generator: a small Llama on demonstrations of the synthetic families.

    python -m pipelines.train.generator FOLDER --minutes 40
    python -m pipelines.train.generator FOLDER --minutes 25 --size small --teacher GENERATOR    # its small sibling

One pass over endless fresh problems of the training split, loss on the solution only. With a teacher half of the loss is the
divergence from its next-token distributions, and the tokenizer is the teacher's. Writes a standard Hugging Face folder in
bfloat16 with a card (card.json) that says how it was made.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from pipelines.problems import FAMILIES, instances
from pipelines.problems.instance import Equation, apply
from pipelines.train.card import commit_now, write_card
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
            question, answer = "Drill.", SEPARATOR.join(f"{equation(self.rng)}." for _ in range(10))
        else:
            name = self.rng.choices(list(MIX), list(MIX.values()))[0]
            instance = next(self.sources[name])
            question, answer = instance.question, SEPARATOR.join(FAMILIES[name].demonstrate(self.rng, instance))
        prompt = [self.user, *self.encode(question), self.assistant]
        return [*prompt, *self.encode(answer), self.end], len(prompt)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--size", choices=SIZES, default="generator", help="of a model that begins from nothing")
    parser.add_argument("--init", type=Path, help="an earlier generator to go on from")
    parser.add_argument("--teacher", type=Path, help="a generator whose distributions are half of what is learned")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    commit = commit_now()
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
    optimizer = MuonAdamW(model, options.lr)
    sequences = Sequences(tokenizer, options.seed)
    started, steps, seen, running = time.monotonic(), 0, 0, 0.0
    done = 0.0
    while done < 1:
        for ids, targets in sequences.batches(options.batch_tokens, drill_share(done, options.init is not None)):
            done = (time.monotonic() - started) / 60 / options.minutes
            ids, targets = ids.to(options.device), targets.to(options.device)
            hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
            kept = targets[:, 1:] != -100
            logits = model.lm_head(hidden[kept])
            loss = F.cross_entropy(logits, targets[:, 1:][kept])
            if teacher is not None:
                known = teacher.lm_head(teacher.model(input_ids=ids[:, :-1]).last_hidden_state[kept])
                loss = 0.5 * loss + 0.5 * divergence(logits, known)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(warm_then_linear(min(done, 1.0)))
            steps, seen = steps + 1, seen + ids.numel()
            running = 0.98 * running + 0.02 * float(loss.detach()) if steps > 1 else float(loss.detach())
            if steps % 100 == 0:
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
    write_card(options.folder, "generator", vars(options), {"mix": MIX, **training}, commit)


if __name__ == "__main__":
    main()
