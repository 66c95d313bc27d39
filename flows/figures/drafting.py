"""Whether guessing ahead pays: CPU time with drafts of 2, 4 and 8 tokens beside none, on the bundled model and on a wide one.

    python -m flows.figures.drafting

The wide model has the cost of 25 million parameters and the texts of the bundled one: its weights are the bundled model's, in
matrices that are filled up with zeros. Texts are the same with and without drafts, which is checked on the way.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from pipelines.models import BUNDLED, TextModel, load_generator
from pipelines.problems.load import load_problems
from search.types import Extend, Extension, Part, Row, Sampling, Until, seed_of

LENGTHS = (0, 2, 4, 8)


def widened(folder: Path) -> None:
    """Writes a Llama of 25 million parameters that gives the bundled model's logits."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    small = LlamaForCausalLM.from_pretrained(BUNDLED["generator"], dtype=torch.float32)
    old, factor = small.config, 512 // small.config.hidden_size
    sizes = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 512 // old.head_dim, "num_key_value_heads": 256 // old.head_dim}
    # the mean square over more numbers, all but the old ones 0, is smaller by the factor
    config = LlamaConfig(**{**old.to_dict(), **sizes, **heads, "rms_norm_eps": old.rms_norm_eps / factor})
    wide = LlamaForCausalLM(config)
    weights: dict[str, Any] = small.state_dict()
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            parameter.zero_()
            if name in weights:
                value = weights[name] / (factor**0.5 if "norm" in name else 1)
                parameter[tuple(slice(0, size) for size in value.shape)] = value
    wide.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED["generator"]).save_pretrained(folder)


def main(problems: int, rounds: int) -> None:
    import torch

    torch.set_num_threads(1)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")

    say("| model | samples | temperature | " + " | ".join(f"draft {n}" for n in LENGTHS[1:]) + " |")
    say("|---|---|---|" + "---|" * len(LENGTHS[1:]))
    with tempfile.TemporaryDirectory() as folder:
        widened(Path(folder))
        for title, name in (("bundled", "bundled"), ("wide, 25M", folder)):
            models = {n: load_generator(name, {"draft": n, "threads": 1}) for n in LENGTHS}
            for samples in (1, 4, 16):
                for temperature in (0.0, 1.0):
                    cells = compared(models, problems, rounds, samples, temperature)
                    say(f"| {title} | {samples} | {temperature:g} | " + " | ".join(cells) + " |")


def compared(models: dict[int, TextModel], problems: int, rounds: int, samples: int, temperature: float) -> list[str]:
    """For each length but 0: time without over time with drafts, and the share of guesses that were right."""
    seconds: dict[int, list[float]] = {n: [] for n in models}
    shares: dict[int, float] = {}
    texts: dict[int, list[str]] = {}
    for _ in range(rounds):
        for n, model in models.items():
            began = time.process_time()
            texts[n], drafted, accepted = sampled(model, problems, samples, temperature)
            seconds[n].append(time.process_time() - began)
            shares[n] = accepted / max(drafted, 1)
    if any(texts[n] != texts[0] for n in texts):
        raise AssertionError("drafts changed a text")
    ratios = {n: median(a / b for a, b in zip(seconds[0], seconds[n], strict=True)) for n in models}
    return [f"{ratios[n]:.2f}x, {shares[n]:.0%} right" for n in LENGTHS[1:]]


def sampled(model: TextModel, problems: int, samples: int, temperature: float) -> tuple[list[str], int, int]:
    """The texts, one problem after the other, and the tokens drafted and accepted."""
    texts, drafted, accepted = [], 0, 0
    for problem in load_problems(Part("word", {"count": problems})):
        prompt = model.encode(problem.prompt)
        rows = tuple(Row(str(i), seed_of(0, problem.id, str(i)), prompt, 256) for i in range(samples))
        model.engine.submit(0, Extend(rows, Until.END, Sampling(temperature=temperature)))
        while model.engine.busy:
            for _, reply in model.engine.advance():
                assert isinstance(reply, Extension)
                texts += [step.text for step in reply.steps]
                drafted, accepted = drafted + reply.drafted_tokens, accepted + reply.accepted_tokens
        model.engine.forget(0)
    return texts, drafted, accepted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.problems, given.rounds)
