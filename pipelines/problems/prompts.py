"""Named prompt templates: how a question is put to a model. A model's chat template goes around this, elsewhere."""

from __future__ import annotations

from search.checks import one_of

PROMPTS = {
    "plain": "{question}",
    "boxed": ("{question}\n\nReason step by step, with a blank line between steps, and put the final answer within \\boxed{}."),
    "program": (
        "{question}\n\nReason step by step, with a blank line between steps. Write a Python program that computes the answer "
        "and prints it, in one block marked python, and put the answer that you expect of it within \\boxed{}."
    ),
    "code": "{question}\n\nAnswer with one block marked python that holds the whole program.",
}


def ask(question: str, prompt: str = "plain") -> str:
    """The question in a named template; ValueError for an unknown name."""
    one_of("prompt", prompt, PROMPTS)
    return PROMPTS[prompt].replace("{question}", question, 1)


__all__ = ["PROMPTS", "ask"]
