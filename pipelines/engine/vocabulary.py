"""What the engine must know of a tokenizer: end tokens, which tokens hold newlines, and how tokens become text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.types import SEPARATOR


@dataclass(frozen=True, slots=True)
class Newlines:
    """How a token takes part in a step separator, which may straddle tokens."""

    inside: bool  # holds a whole separator
    first: bool  # begins with a newline
    last: bool  # ends with one
    inked: bool  # holds anything but white space
    inked_before: bool  # ... before its separator


class Vocabulary:
    """A Hugging Face tokenizer as the engine needs it."""

    def __init__(self, tokenizer: Any, ends: Sequence[int], size: int) -> None:
        self.tokenizer = tokenizer
        self.ends = frozenset(ends)
        # rows of the embedding beyond the tokenizer are padding: they must not be drawn nor counted in the certainty
        self.size = min(size, len(tokenizer))
        self.newlines: dict[int, Newlines] = {}
        self.pieces: list[str] = []
        self.blank: NDArray[np.bool_] = np.zeros(self.size, dtype=np.bool_)  # tokens that write nothing but white space
        self.blank[[t for t in tokenizer.all_special_ids if t < self.size]] = True
        for token in range(self.size):
            text = tokenizer.decode([token])
            self.pieces.append(text)
            if not text.strip():
                self.blank[token] = True
            if "\n" in text:
                before, found, _ = text.partition(SEPARATOR)
                self.newlines[token] = Newlines(
                    inside=bool(found),
                    first=text.startswith("\n"),
                    last=text.endswith("\n"),
                    inked=bool(text.strip()),
                    inked_before=bool(before.strip()) if found else False,
                )
        # tokens that may end a step or a solution: the only ones the engine looks at one by one
        self.special: NDArray[np.bool_] = np.zeros(self.size, dtype=np.bool_)
        self.special[[t for t in (*self.newlines, *self.ends) if t < self.size]] = True

    def may_complete(self, token: int, stops: Sequence[str]) -> bool:
        """Whether a token may be the last of one of these strings: a quick no for nearly all."""
        piece = self.pieces[token]
        return "\ufffd" in piece or any(stop[-1] in piece for stop in stops)

    def text(self, prefix: Sequence[int], tokens: Sequence[int]) -> str:
        """The text that tokens add after a prefix. End and other special tokens leave none. The last token of the prefix
        is decoded along and cut off, since some tokenizers drop a leading space at the beginning of a text."""
        anchor = list(prefix[-1:])
        before = self._decode(anchor)
        return self._decode([*anchor, *tokens])[len(before) :]

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
