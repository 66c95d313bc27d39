"""SPARE's single pass (arXiv 2506.15498) by a language model: it is shown the problem, a reference solution and numbered
steps, and writes one line a step that ends in its label.

    Step 2: aligned with reference step 1; errors: none; label: +1

Parsed strictly: a step without such a line, or with two that differ, is wrong. The last step's label is overwritten by
whether the answer is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.models import TextModel
from search.types import Extend, Extension, Row, Sampling, Until, seed_of

Ask = Callable[[Sequence[str]], list[tuple[str, int]]]  # prompts -> (what is written, tokens of it), in order
LINE = re.compile(r"^Step (\d+):.*\blabel: ([+-]1)[ \t]*$", re.MULTILINE)
PROMPT = """Problem:
{question}

Reference solution:
{reference}

A student's steps:
{steps}

Hold each step of the student against the reference solution. A step may be right in another way than the reference's.
For each step write one line and nothing else, in the order of the steps:
Step N: aligned with reference step M, or none; errors: what is wrong, or none; label: +1 if the step is right, -1 if not"""


@dataclass(frozen=True, slots=True)
class Annotated:
    """Labels of one solution's steps, 1 or 0, and what the annotator wrote for them."""

    labels: tuple[float, ...]
    text: str
    tokens: int


def prompt(question: str, reference: Sequence[str], steps: Sequence[str]) -> str:
    parts = {"question": question, "reference": _numbered(reference), "steps": _numbered(steps)}
    return re.sub(r"\{(question|reference|steps)\}", lambda found: parts[found[1]], PROMPT)


def _numbered(steps: Sequence[str]) -> str:
    return "\n".join(f"{i}. {' '.join(step.split())}" for i, step in enumerate(steps, 1))


def parse(text: str, count: int, outcome: bool) -> tuple[float, ...]:
    """Labels of `count` steps from what an annotator wrote. Lines for steps 1, 2 and 4 of five give l1, l2, 0, l4, outcome."""
    said: dict[int, set[str]] = {}
    for number, label in LINE.findall(text):
        said.setdefault(int(number), set()).add(label)
    labels = [float(said.get(i) == {"+1"}) for i in range(1, count + 1)]
    return (*labels[:-1], float(outcome))


@dataclass(frozen=True, slots=True)
class Annotator:
    """Labels solutions by asking a language model once for each."""

    ask: Ask

    def annotate(self, asked: Sequence[tuple[str, Sequence[str], Sequence[str], bool]]) -> list[Annotated]:
        """One result for each (question, reference steps, steps, whether the answer is right), in order."""
        written = self.ask([prompt(question, reference, steps) for question, reference, steps, _ in asked])
        return [
            Annotated(parse(text, len(steps), outcome), text, tokens)
            for (_, _, steps, outcome), (text, tokens) in zip(asked, written, strict=True)
        ]


def asking(model: TextModel, limit: int = 512) -> Ask:
    """Puts prompts to a generator, greedily, at most `limit` tokens each."""

    def ask(prompts: Sequence[str]) -> list[tuple[str, int]]:
        out: list[tuple[str, int]] = [("", 0)] * len(prompts)
        for key, each in enumerate(prompts):
            row = Row("0", seed_of(0, "annotator", "0"), model.encode(each), limit)
            model.engine.submit(key, Extend((row,), Until.END, Sampling(temperature=0.0)))
        while model.engine.busy:
            for key, reply in model.engine.advance():
                if not isinstance(reply, Extension):
                    raise reply
                model.engine.forget(key)
                out[key] = reply.steps[0].text, len(reply.steps[0])
        return out

    return ask


__all__ = ["Annotated", "Annotator", "Ask", "asking", "parse", "prompt"]
