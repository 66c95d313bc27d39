"""Process reward models read as token classifiers: the format that TRL's PRMTrainer writes.

The prompt, then each step followed by two newlines; two labels; the value of a step is the probability of the label "right"
at the last token of its separator. One forward pass reads all the steps of a trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.engine.scarce import OutOfMemory, halved
from pipelines.models import ModelError, locate, options_of, placed, pretrained
from search.types import SEPARATOR, Question, Reading, Trace

DIGITS = 4  # values are rounded: a batch's shape moves the bundled model's by up to 5e-8, which tips few of them over an edge


@dataclass(slots=True)
class TokenPRM:
    """A two-label token classifier as a verifier. Values in [0, 1], higher = more likely right."""

    name: str
    model: Any
    tokenizer: Any
    right: int  # index of the label that means "right"
    batch_tokens: int = 8192  # padded tokens of one forward pass
    _ids: dict[str, list[int]] = field(default_factory=dict)

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        """One reading a trace, in order; a value for each of its texts. A trace longer than the model's context gets none, nor
        does one that alone needs more memory than there is: a batch that does is halved until it fits."""
        laid = [self._layout(trace) for trace in traces]
        readings: list[Reading | None] = [None] * len(traces)
        context = self.model.config.max_position_embeddings
        for i, (ids, _) in enumerate(laid):
            if len(ids) > context:
                readings[i] = Reading((), f"{len(ids)} tokens are over the reward model's context of {context}")
        open_ = [i for i in range(len(laid)) if readings[i] is None]
        parameters = sum(p.numel() for p in self.model.parameters())
        for batch in self._batches(open_, [len(ids) for ids, _ in laid]):
            for i, parts in zip(batch, halved([laid[i] for i in batch], self._forward), strict=True):
                tokens = len(laid[i][0])
                if isinstance(parts, OutOfMemory):
                    readings[i] = Reading((), f"out of memory for a trace of {tokens} tokens: {parts}")
                else:
                    readings[i] = Reading(parts, passes=1, tokens=tokens, flops=2.0 * parameters * tokens)
        return [r for r in readings if r is not None]

    def _layout(self, trace: Trace) -> tuple[list[int], list[int]]:
        """The ids of a trace and the positions where its steps are read."""
        ids = list(self._prompt(trace.question))
        marks = []
        separator = self._encode(SEPARATOR)
        for text in trace.texts:
            ids += self._encode(text) + separator
            marks.append(len(ids) - 1)
        return ids, marks

    def _prompt(self, question: Question) -> list[int]:
        if self.tokenizer.chat_template is None:
            return self._encode(question.text + SEPARATOR)
        messages = [{"role": "user", "content": question.text}]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self._encode(text)

    def _encode(self, text: str) -> list[int]:
        """Tokens of a text; steps come again with every longer trace, so they are kept."""
        ids = self._ids.get(text)
        if ids is None:
            if len(self._ids) > 100_000:
                self._ids.clear()
            ids = self._ids[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _batches(self, wanted: list[int], lengths: list[int]) -> Iterator[list[int]]:
        """Traces of like length together."""
        held: list[int] = []
        for i in sorted(wanted, key=lambda i: lengths[i]):
            if held and lengths[i] * (len(held) + 1) > self.batch_tokens:
                yield held
                held = []
            held.append(i)
        if held:
            yield held

    def _forward(self, laid: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, ...]]:
        import torch

        longest = max(len(ids) for ids, _ in laid)
        batch = torch.zeros(len(laid), longest, dtype=torch.long)
        for i, (ids, _) in enumerate(laid):
            batch[i, : len(ids)] = torch.tensor(ids)
        rows = torch.tensor([i for i, (_, marks) in enumerate(laid) for _ in marks])
        columns = torch.tensor([mark for _, marks in laid for mark in marks])
        with torch.inference_mode():
            # right-padded and causal: what follows a trace cannot reach it, so no attention mask is needed
            hidden = self.model.base_model(input_ids=batch.to(self.model.device), use_cache=False).last_hidden_state
            logits = self.model.score(hidden[rows, columns]).float()
            values = torch.softmax(logits.double(), dim=-1)[:, self.right].cpu().tolist()
        out, at = [], 0
        for _, marks in laid:
            out.append(tuple(round(v, DIGITS) for v in values[at : at + len(marks)]))
            at += len(marks)
        return out


def load_prm(name: str = "bundled", params: Mapping[str, Any] | None = None) -> TokenPRM:
    """Loads a two-label token classifier from the bundle, a folder or the hub. Options: device, dtype."""
    from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

    options = options_of(params or {}, device="cpu", dtype="float32")
    dtype = placed(str(options["device"]), str(options["dtype"]))
    source = locate(name, "reward")
    config = pretrained(AutoConfig, source)
    architectures = config.architectures or []
    if not any(a.endswith("ForTokenClassification") for a in architectures) or config.num_labels != 2:
        raise ModelError(
            f"model '{name}' is {', '.join(architectures) or 'of unknown architecture'} with {config.num_labels} labels; "
            "a reward model must be a token classifier with 2 labels, as TRL's PRMTrainer writes"
        )
    model = pretrained(AutoModelForTokenClassification, source, dtype=dtype, use_safetensors=True)
    model.to(options["device"]).eval().requires_grad_(False)
    return TokenPRM("prm", model, pretrained(AutoTokenizer, source), _right_label(config))


def _right_label(config: Any) -> int:
    """The label that means "right": by name where the names say so, else 1, as PRMTrainer numbers them."""
    for index, label in config.id2label.items():
        if str(label).lower() in ("right", "correct", "positive", "good", "+"):
            return int(index)
    return 1
