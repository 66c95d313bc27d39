"""Texts and token ids: what a question is sent as, and which ids a step that came as text is kept with.

The server is asked in text, and a step's text is what it wrote. Its ids are ours: as many as it is charged for, so that budgets
and limits count what the server counts. With a tokenizer they are the tokenizer's; without one they are a fingerprint of the
text, which tells equal steps from others and can be read back by nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pipelines.models import BUNDLED, ModelError, Writer, locate, pretrained
from search.packing import TOKEN_BITS
from search.types import SEPARATOR

UNTOLD = (1 << TOKEN_BITS) - 1  # the id of a token that was charged, and whose text stands in its neighbours


@dataclass(frozen=True)
class Words:
    """How texts become prompts and ids. `tokenizer` None: the server alone knows its tokens."""

    tokenizer: Any = None
    _ids: dict[str, int | None] = field(default_factory=dict)  # of one token's text

    def prompt(self, question: str) -> str:
        """What the server is to continue: the chat template with one user message where there is one, else the text and a
        blank line. A beginning-of-text token is left out, since servers add it."""
        question = self.guarded(question)
        if self.tokenizer is None or self.tokenizer.chat_template is None:
            return question + SEPARATOR
        messages = [{"role": "user", "content": question}]
        text = str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        begins = self.tokenizer.bos_token
        adds = begins is not None and self.tokenizer("", add_special_tokens=True)["input_ids"][:1] == [
            self.tokenizer.bos_token_id
        ]
        return text.removeprefix(begins) if adds else text

    def guarded(self, question: str) -> str:
        """The question with a blank in each spelling of a control token, which it would end the turn with, or begin another: a
        server reads those in any text, and cannot be told not to. Without a tokenizer none are known."""
        for word in self._control:
            question = question.replace(word, f"{word[:1]} {word[1:]}")
        return question

    @cached_property
    def _control(self) -> list[str]:
        """Spellings of the control tokens, the longest first."""
        added = {} if self.tokenizer is None else self.tokenizer.added_tokens_decoder
        return sorted({each.content for each in added.values() if each.special}, key=len, reverse=True)

    def encode(self, question: str) -> tuple[int, ...]:
        """A prompt's ids; without a tokenizer, its bytes."""
        if self.tokenizer is None:
            return tuple(self.prompt(question).encode())
        return Writer(self.tokenizer).encode(self.guarded(question))

    def plainly(self, text: str) -> tuple[int, ...]:
        """A text's own ids: no template, no special ones; without a tokenizer, its bytes."""
        return tuple(text.encode()) if self.tokenizer is None else Writer(self.tokenizer).plainly(text)

    def count(self, text: str) -> int | None:
        """How many tokens the tokenizer makes of a text; None without one."""
        return None if self.tokenizer is None else len(self.plainly(text))

    def ids(self, text: str, charged: int, told: Sequence[str] | None, ended: bool) -> list[int]:
        """As many ids as were charged. `told`: the server's own tokens, from the first on; `ended`: by the end token."""
        if self.tokenizer is None:
            noise = np.frombuffer(hashlib.shake_128(text.encode("utf-8", "replace")).digest(4 * charged), dtype="<u4")
            return [int(each) for each in noise >> (32 - TOKEN_BITS)]
        ids = self._as_told(text, told) if told else None
        ids = list(self.plainly(text)) if ids is None else ids
        if ended and self.tokenizer.eos_token_id is not None and len(ids) < charged:
            ids.append(int(self.tokenizer.eos_token_id))
        return ids[:charged] + [UNTOLD] * (charged - len(ids))

    def _as_told(self, text: str, told: Sequence[str]) -> list[int] | None:
        """The ids of the server's own tokens, which need not be how the tokenizer would part the text; None where one of them
        is no single token here, or they are not the text."""
        told = told[:-1] if told[-1] == self.tokenizer.eos_token else told
        joined = "".join(told)
        if not text.startswith(joined):
            return None
        ids = [self._single(each) for each in told]
        return None if None in ids else [*(i for i in ids if i is not None), *self.plainly(text[len(joined) :])]

    def _single(self, piece: str) -> int | None:
        if piece not in self._ids:
            found = self.plainly(piece)
            self._ids[piece] = found[0] if len(found) == 1 and self.tokenizer.decode(found) == piece else None
        return self._ids[piece]


def words(name: str) -> Words:
    """With the tokenizer of that name ('' = none). Raises ModelError where there is none."""
    if not name:
        return Words()
    from transformers import AutoTokenizer

    source = BUNDLED["generator"] if name == "bundled" else name
    try:
        found = pretrained(AutoTokenizer, source if name == "bundled" else _folder(name))
    except (TypeError, AttributeError, KeyError) as error:  # what transformers raises for a folder with something else in it
        raise ModelError(f"tokenizer '{name}' cannot be loaded: {error}") from None
    return Words(found)


def _folder(name: str) -> Any:
    """A folder that need hold no weights, or what `locate` makes of the name."""
    from pathlib import Path

    folder = Path(name)
    return (
        folder
        if (folder / "tokenizer_config.json").is_file() or (folder / "tokenizer.json").is_file()
        else locate(name, "generator")
    )


__all__ = ["UNTOLD", "Words", "words"]
