"""What each family's card says, as straight-line programs: one prefix at a time, transformers' own forward pass, marks found in
the ids as the authors find them. Slow, and meant to be: they are what the reader is held against, and share no code with it.

A card is for ordinary text. It is not used for search: a special token that a model typed would be taken for a mark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search.types import SEPARATOR
from verifiers.formats.families import DEEP, VALUE, Facts, tensors
from verifiers.formats.format import SPARE as SPARE_FORMAT
from verifiers.formats.format import Head
from verifiers.formats.heads import Weights


@dataclass(frozen=True, slots=True)
class Model:
    """A model as a card sees it."""

    tokenizer: Any
    config: Any
    logits: Callable[[Sequence[int]], Any]  # ids -> what its own forward pass gives: [length, K], or [K] for a sequence


Card = Callable[[Model, str, Sequence[str]], list[float]]  # question, steps -> a value for each, or one for the whole


def own(facts: Facts, weights: Weights, head: Head) -> Model:
    """A loaded model by its own forward pass; with a head that transformers does not know, that head written out."""
    import torch

    def ready(ids: Sequence[int]) -> Any:
        return torch.tensor([list(ids)], device=weights.model.device)

    def forward(ids: Sequence[int]) -> Any:
        with torch.inference_mode():
            return weights.model(input_ids=ready(ids)).logits[0].float()

    def two_layers(ids: Sequence[int]) -> Any:
        first, its_bias, second, last_bias = (each.float().to(weights.model.device) for each in tensors(facts, DEEP))
        with torch.inference_mode():
            hidden = weights.model(input_ids=ready(ids)).last_hidden_state[0].float()
            return torch.clamp(hidden @ first.T + its_bias, min=0) @ second.T + last_bias

    def value_head(ids: Sequence[int]) -> Any:
        weight, bias = (each.float().to(weights.model.device) for each in tensors(facts, VALUE))
        with torch.inference_mode():
            return weights.model(input_ids=ready(ids)).last_hidden_state[0].float() @ weight.T + bias

    logits = {Head.DEEP: two_layers, Head.VALUE: value_head}.get(head, forward)
    return Model(facts.tokenizer, facts.config, logits)


def softmax(logits: Any, index: int) -> float:
    return float(logits.double().softmax(-1)[index])


def plain(model: Model, text: str) -> list[int]:
    return list(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def chatted(model: Model, *said: tuple[str, str]) -> list[int]:
    """A conversation's ids, by the tokenizer's own template."""
    messages = [{"role": role, "content": content} for role, content in said]
    return list(model.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))


def label(model: Model) -> int:
    """The index of the label whose name says that it is the good one, or is not the bad one; PRMTrainer's is 1."""
    bad = ("wrong", "incorrect", "negative", "bad", "false", "no", "invalid", "error", "-")
    good = ("right", "correct", "positive", "good", "true", "yes", "valid", "+")
    for index, name in model.config.id2label.items():
        if str(name).lower() in good:
            return int(index)
        if str(name).lower() in bad:
            return 1 - int(index)
    return 1


def trl(model: Model, question: str, steps: Sequence[str], separator: str = "\n") -> list[float]:
    """PRMTrainer: bos and prompt ids, the ids of each step, the ids of the separator, each from a call of its own."""
    values = []
    for k in range(1, len(steps) + 1):
        bos = model.tokenizer.bos_token_id
        ids = ([] if bos is None else [bos]) + plain(model, question)
        for step in steps[:k]:
            ids = ids + plain(model, step) + plain(model, separator)
        values.append(softmax(model.logits(ids)[-1], label(model)))
    return values


def ponderosa(model: Model, question: str, steps: Sequence[str]) -> list[float]:
    """As TRL's with blank lines, after the question in the chat template with the assistant's turn begun."""
    if model.tokenizer.chat_template is None:
        prompt = plain(model, question + SEPARATOR)
    else:
        asked = [{"role": "user", "content": question}]
        prompt = plain(model, model.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    values = []
    for k in range(1, len(steps) + 1):
        ids = prompt + [i for step in steps[:k] for i in (*plain(model, step), *plain(model, SEPARATOR))]
        values.append(softmax(model.logits(ids)[-1], label(model)))
    return values


def qwen(model: Model, question: str, steps: Sequence[str]) -> list[float]:
    """System, user, assistant = the steps, <extra_0> after each; the second of two classes at each <extra_0>."""
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    mark = model.tokenizer.encode("<extra_0>", add_special_tokens=False)[0]
    values = []
    for k in range(1, len(steps) + 1):
        answer = "<extra_0>".join(steps[:k]) + "<extra_0>"
        ids = chatted(model, ("system", system), ("user", question), ("assistant", answer))
        at = [i for i, each in enumerate(ids) if each == mark]
        assert len(at) == k
        values.append(softmax(model.logits(ids)[at[-1]], 1))
    return values


def skywork(model: Model, question: str, steps: Sequence[str]) -> list[float]:
    """bos, problem and newline; each line's ids and the newline's last id; sigmoid of the value there. A step of several lines
    has several values, of which the last is the step's."""
    tokenizer = model.tokenizer
    newline = tokenizer.encode("\n", add_special_tokens=False)[-1]
    values = []
    for k in range(1, len(steps) + 1):
        ids = plain(model, tokenizer.bos_token + question + "\n")
        for step in steps[:k]:
            for line in step.split("\n"):
                ids = ids + plain(model, line) + [newline]
        values.append(float(model.logits(ids)[-1, 0].double().sigmoid()))
    return values


def rlhflow(model: Model, question: str, steps: Sequence[str]) -> list[float]:
    """A conversation of steps and "+"; "+" against "-" at the position that predicts the last "+"."""
    good, bad = (model.tokenizer.encode(word, add_special_tokens=False)[-1] for word in "+-")
    values, said = [], []
    for k, step in enumerate(steps):
        said += [("user", question + " " + step if k == 0 else step), ("assistant", "+")]
        ids = chatted(model, *said)
        answer = max(i for i, each in enumerate(ids) if each == good)
        logits = model.logits(ids)[answer - 1]
        values.append(softmax(logits[[good, bad]], 0))
    return values


def math_shepherd(model: Model, question: str, steps: Sequence[str]) -> list[float]:
    """bos and "question steps", a step ending with the tag, a newline between; "+" against "-" at the tag."""
    good, bad = (model.tokenizer.encode(word, add_special_tokens=False)[-1] for word in "+-")
    tag = model.tokenizer.encode("\u043a\u0438", add_special_tokens=False)[-1], model.tokenizer.encode(" \u043a\u0438")[-1]
    values = []
    for k in range(1, len(steps) + 1):
        bos = model.tokenizer.bos_token_id
        text = question + " " + "\n".join(step + " \u043a\u0438" for step in steps[:k])
        ids = ([] if bos is None else [bos]) + plain(model, text)
        at = [i for i, each in enumerate(ids) if each in tag]
        assert len(at) == k
        values.append(softmax(model.logits(ids)[at[-1]][[good, bad]], 0))
    return values


def spare(model: Model, question: str, steps: Sequence[str]) -> list[float]:
    """An instruction, the question and the tagged steps as user messages; ["-", "+"], of which the second, at each tag."""
    words = model.tokenizer.convert_tokens_to_ids(["-", "+"])
    tag = model.tokenizer.encode(" \u043a\u0438", add_special_tokens=False)[-1]
    values = []
    for k in range(1, len(steps) + 1):
        text = "".join(step + " \u043a\u0438\n" for step in steps[:k])
        ids = chatted(model, ("system", SPARE_FORMAT.system), ("user", question), ("user", text))
        at = [i for i, each in enumerate(ids) if each == tag]
        assert len(at) == k
        values.append(softmax(model.logits(ids)[at[-1]][words], 1))
    return values


def orm(model: Model, question: str, steps: Sequence[str]) -> list[float]:
    """The conversation, and what the sequence classifier's own forward pass picks of it."""
    logits = model.logits(chatted(model, ("user", question), ("assistant", SEPARATOR.join(steps))))
    return [float(logits[0].double().sigmoid()) if len(logits) == 1 else softmax(logits, label(model))]


CARDS: dict[str, Card] = {
    "ponderosa": ponderosa,
    "trl": trl,
    "qwen": qwen,
    "skywork": skywork,
    "rlhflow": rlhflow,
    "math-shepherd": math_shepherd,
    "spare": spare,
    "orm": orm,
}
