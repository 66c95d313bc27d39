"""Trains a reward model: a small Llama token classifier, two labels, read at the separator that ends each step.

    python -m pipelines.train.prm FOLDER --grow GENERATOR --minutes 60
    python -m pipelines.train.prm FOLDER --init EARLIER --samples SAMPLES.jsonl --minutes 25
    python -m pipelines.train.prm FOLDER --init EARLIER --samples SAMPLES.jsonl --tokens 600000 --drills 0.1 --pages 0 --own 0.9

The folder is what TRL's PRMTrainer writes: prompt, then each step followed by two newlines; class 1 = right. Four things
teach it, each measured in pipelines/train/README.md:

- drills: bare equations, half of them wrong, labelled one by one: the skill of checking arithmetic;
- corruptions: right beginnings with one wrong step of every kind the families know;
- labelled samples of a generator (pipelines.train.samples, pipelines.train.labels), hard or soft;
- a language-model loss below the top layers, so that the trunk calculates and the layers above compare.

With --td LAMBDA the samples' labels are not read, and the values of their steps predict how each ended (pipelines.train.td).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from pipelines.train.card import commit_now, write_card
from pipelines.train.generator import shape
from pipelines.train.given import Refused, above_zero, folder_with, least, readable_file, refusing, writable_folder
from pipelines.train.given import shares as in_range
from pipelines.train.labelled import read
from pipelines.train.measures import auc
from pipelines.train.muon import MuonAdamW, warm_then_linear
from pipelines.train.sequences import MIX, NONE, Labelled, Sequences, Shares, padded
from pipelines.train.td import RAMP, td_loss

PAGES = 0.8  # of the drills are pages of Countdown states, once equations are learned
TOP = 2  # layers above the one that the language-model loss reads


class Loop:
    """One training: the model, its optimizer and what has been seen."""

    def __init__(self, model: Any, sequences: Sequences, options: argparse.Namespace) -> None:
        self.model, self.sequences, self.options = model, sequences, options
        self.optimizer = MuonAdamW(model, options.lr)
        self.trunk = model.config.num_hidden_layers - TOP
        self.started, self.steps, self.seen, self.done = time.monotonic(), 0, 0, 0.0
        self.mixed = multiplies_bfloat16(options.device)
        self.losses: list[float] = []
        self.recent: list[tuple[str, float, float]] = []  # kind, logit, label

    def batches(self) -> Iterator[list[Labelled]]:
        """Batches until the tokens or the minutes are used up."""
        while self.done < 1:
            for rows in self.sequences.batches(self.options.batch_tokens, shares(self.options, self.done)):
                yield rows
                if self.done >= 1:
                    return

    def step(self, rows: list[Labelled]) -> float:
        """One update; the loss before it."""
        self.done = self._share()
        ids, labels, follows = padded(rows, self.sequences.pad, self.options.device)
        marked = labels != NONE
        with torch.autocast(self.options.device, dtype=torch.bfloat16, enabled=self.mixed):
            out = self.model.model(input_ids=ids, output_hidden_states=True)
            logits = self.model.score(out.last_hidden_state[marked]).float()
            scores = logits[:, 1] - logits[:, 0]
            loss = judged(rows, scores, labels[marked], min(self.steps / self.options.ramp, 1.0), self.options.td)
            taught = follows != NONE
            if self.options.lm and taught.any():
                hidden = self.model.model.norm(out.hidden_states[self.trunk][taught])
                predicted = F.linear(hidden, self.model.model.embed_tokens.weight).float()
                loss = loss + self.options.lm * F.cross_entropy(predicted, follows[taught])
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(warm_then_linear(min(self.done, 1.0)))
        self.steps, self.seen = self.steps + 1, self.seen + ids.numel()
        kinds = [row.kind for row in rows for label in row.labels if label != NONE]
        self.recent += zip(kinds, scores.detach().tolist(), labels[marked].tolist(), strict=True)
        self.losses.append(float(loss.detach()))
        return self.losses[-1]

    def _share(self) -> float:
        """Of the training that is done, by tokens where they are given, else by time."""
        if self.options.tokens:
            return self.seen / float(self.options.tokens)
        return (time.monotonic() - self.started) / 60 / float(self.options.minutes)

    def line(self) -> str:
        """Where the training stands, since the last such line."""
        shown = {}
        for kind in sorted({k for k, _, _ in self.recent}):
            pairs = [(s, int(y >= 0.5)) for k, s, y in self.recent if k == kind]
            shown[kind] = round(auc([s for s, _ in pairs], [y for _, y in pairs]), 3)
        loss = sum(self.losses[-100:]) / len(self.losses[-100:])
        self.recent = []
        return f"step {self.steps} tokens {self.seen / 1e6:.2f}M done {min(self.done, 1.0):.3f} loss {loss:.4f} auc {shown}"


def multiplies_bfloat16(device: str) -> bool:
    """Whether a device multiplies bfloat16 faster than float32; a CPU without instructions for it takes four times as long."""
    return device != "cpu" or bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def judged(
    rows: Sequence[Labelled], scores: torch.Tensor, labels: torch.Tensor, weight: float, lam: float | None
) -> torch.Tensor:
    """The mean loss over the labelled steps. `scores`, `labels`: [steps] of all rows in their order; a score is ln of the odds
    of right. Cross-entropy with the label, which may be soft; for solutions given with an outcome, the TD(lambda) loss."""
    each = F.binary_cross_entropy_with_logits(scores, labels.clamp(0, 1), reduction="none")
    if lam is None:
        return each.mean()
    counts = [sum(label != NONE for label in row.labels) for row in rows]
    parts = []
    for row, entropy, part in zip(rows, torch.split(each, counts), torch.split(scores, counts), strict=True):
        outcome = 1.0 if row.outcome else -1.0
        parts.append(entropy if row.outcome is None else td_loss(torch.tanh(part / 2), outcome, weight, lam))
    return torch.cat(parts).mean()


def shares(options: argparse.Namespace, done: float) -> Shares:
    """Drills alone until checking arithmetic is learned; few of them after, or when a trained model goes on."""
    begun = options.init is not None
    drills = 0.1 if begun or done >= 0.3 else 0.7 if done < 0.1 else 0.4
    pages = PAGES if begun or done > 0.12 else 0.0
    return Shares(
        drills if options.drills is None else options.drills, pages if options.pages is None else options.pages, options.own
    )


def parser() -> argparse.ArgumentParser:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("folder", type=Path)
    given.add_argument("--tokenizer", type=Path)
    given.add_argument("--grow", type=Path, help="a generator whose layers become the trunk, new layers above")
    given.add_argument("--init", type=Path, help="an earlier reward model to go on from")
    given.add_argument(
        "--fresh", action="store_true", help="with --init: a new head, so that what a label means is learned anew"
    )
    given.add_argument("--samples", type=Path)
    given.add_argument("--minutes", type=float, default=60)
    given.add_argument("--tokens", type=int, help="padded tokens to train on, in place of minutes")
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--batch-tokens", type=int, default=3072)
    given.add_argument("--lr", type=float, default=4e-3)
    given.add_argument("--hidden", type=int, default=128)
    given.add_argument("--layers", type=int, default=8)
    given.add_argument("--own", type=float, default=0.6, help="share of the generator's own samples, where given")
    given.add_argument("--drills", type=float, help="share of drills; default: many at first, a tenth when a model goes on")
    given.add_argument("--pages", type=float, help="share of the drills that are pages of Countdown states")
    given.add_argument("--families", nargs="+", choices=list(MIX), default=list(MIX), help="of what is made up")
    given.add_argument("--lm", type=float, default=1.0, help="weight of the language-model loss")
    given.add_argument("--td", type=float, help="lambda: learn from how the samples end, not from their labels")
    given.add_argument("--ramp", type=int, default=RAMP, help="with --td: updates until lambda-returns have all the weight")
    given.add_argument("--device", default="cpu")
    return given


def check(options: argparse.Namespace) -> None:
    """Raises Refused where what is given will not do, before anything is loaded or a hub is asked."""
    above_zero(minutes=options.minutes, lr=options.lr)
    least(1, tokens=options.tokens, batch_tokens=options.batch_tokens, ramp=options.ramp)
    least(TOP, layers=options.layers)
    least(64, hidden=options.hidden)
    in_range(own=options.own, drills=options.drills, pages=options.pages, td=options.td)
    source = options.init or options.grow or options.tokenizer
    if source is None:
        raise Refused("none of --init, --grow and --tokenizer is given; name the folder that the tokenizer is read from")
    for model in filter(None, (options.init, options.grow)):
        folder_with(model, "config.json")
    folder_with(source, "tokenizer_config.json")
    if options.samples:
        readable_file(options.samples)
        try:
            read(options.samples)
        except ValueError as error:
            raise Refused(error) from None
    writable_folder(options.folder)


def begun(options: argparse.Namespace) -> tuple[Any, Any]:
    """(model, tokenizer) that the training starts from."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer, LlamaConfig, LlamaForTokenClassification

    tokenizer = AutoTokenizer.from_pretrained(options.init or options.grow or options.tokenizer)
    if options.init:
        model = AutoModelForTokenClassification.from_pretrained(options.init, dtype=torch.float32)
        if options.fresh:
            torch.nn.init.normal_(model.score.weight, std=0.02)
        return model, tokenizer
    config = LlamaConfig(
        **shape(len(tokenizer), options.hidden, options.layers, 3 * options.hidden),
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
        grow(model, options.grow)
    return model, tokenizer


def grow(model: Any, generator: Path) -> None:
    """The generator's layers below, new ones above that at first change nothing."""
    from transformers import AutoModelForCausalLM

    known = AutoModelForCausalLM.from_pretrained(generator, dtype=torch.float32).model.state_dict()
    missing, unexpected = model.model.load_state_dict(known, strict=False)
    if unexpected:
        raise ValueError(f"{generator} does not fit: {unexpected[0]}")
    for name, weight in model.model.named_parameters():
        if name in missing and name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.zeros_(weight)


def train(options: argparse.Namespace) -> Loop:
    """Trains, prints a line every hundred updates and at the end, and writes the folder with its card."""
    torch.manual_seed(options.seed)
    commit = commit_now()
    model, tokenizer = begun(options)
    model.to(options.device)
    samples = read(options.samples) if options.samples else []
    mix = {name: MIX[name] for name in options.families}
    loop = Loop(model, Sequences(tokenizer, options.seed, samples, mix, options.td is not None), options)
    for rows in loop.batches():
        loop.step(rows)
        if loop.steps % 100 == 0:
            print(loop.line(), flush=True)
        if loop.steps % 500 == 0:
            model.save_pretrained(options.folder / "checkpoint")
            tokenizer.save_pretrained(options.folder / "checkpoint")
    if loop.recent:
        print(loop.line(), flush=True)
    model.to(torch.bfloat16).save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    minutes = (time.monotonic() - loop.started) / 60
    training = {"steps": loop.steps, "tokens": loop.seen, "minutes": round(minutes, 1), "mix": mix}
    write_card(options.folder, "prm", vars(options), training, commit)
    return loop


def main() -> None:
    options = parser().parse_args()
    with refusing(Refused):
        check(options)
    train(options)


if __name__ == "__main__":
    main()

__all__ = ["Loop", "auc", "begun", "check", "grow", "judged", "parser", "shares", "train"]
