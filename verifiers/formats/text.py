"""Pieces of text as tokens: what is the format's own and what somebody wrote, and where the marks among them end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any


class Unreadable(ValueError):
    """A trace that cannot be laid out as its format demands: the reason of its reading."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text."""

    text: str
    ours: bool = False  # of the format: its special tokens count
    mark: bool = False  # ends a step, which is read there
    alone: bool = False  # tokenized alone; else as one string with its neighbours


Encoded = tuple[list[int], list[int]]  # ids, and of each mark the index of its last token


@dataclass(frozen=True, slots=True)
class Text:
    """Pieces as one string of tokens, exactly as the tokenizer makes of it, but for special tokens that are not ours."""

    tokenizer: Any
    specials: re.Pattern[str] | None
    cut: str = ""  # a mark that is an added token but not called special: the tokenizer finds it whatever we ask

    @classmethod
    def of(cls, tokenizer: Any, mark: str) -> Text:
        added = list(tokenizer.added_tokens_decoder.values())
        known = {str(token) for token in added if token.special or str(token) == mark}
        pattern = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
        common = any(str(token) == mark and not token.special for token in added)
        return cls(tokenizer, re.compile(pattern) if known else None, mark if common else "")

    def encode(self, pieces: Sequence[Piece]) -> Encoded:
        text = "".join(piece.text for piece in pieces)
        ours = sum(self._count(piece.text) for piece in pieces if piece.ours)
        if self._count(text) == ours:
            return self._run(list(pieces), plain=False)
        ids: list[int] = []
        ends: list[int] = []
        for section, plain in self._sections(pieces):
            found, at = self._run(section, plain)
            ends += [len(ids) + each for each in at]
            ids += found
        return ids, ends

    def _count(self, text: str) -> int:
        return len(self.specials.findall(text)) if self.specials else 0

    def _sections(self, pieces: Sequence[Piece]) -> Iterator[tuple[list[Piece], bool]]:
        """The special tokens that are ours, each; and the text between them, plain."""
        run: list[Piece] = []
        assert self.specials is not None
        for piece in pieces:
            at = 0
            for match in self.specials.finditer(piece.text):
                if piece.ours:
                    run.append(replace(piece, text=piece.text[at : match.start()], mark=False))
                    yield run, True
                    yield [replace(piece, text=match[0])], False
                    run, at = [], match.end()
                elif match[0] == self.cut:
                    run.append(replace(piece, text=piece.text[at : match.start() + 1]))
                    yield run, True
                    run, at = [], match.start() + 1
            rest = piece.text[at:]
            run.append(replace(piece, text=rest, mark=piece.mark and bool(rest)))
        yield run, True

    def _run(self, pieces: list[Piece], plain: bool) -> Encoded:
        """Tokens of the pieces as one string; the last token of each mark, found by its place among the characters."""
        text = "".join(piece.text for piece in pieces)
        if not text:
            return [], []
        made = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=plain, return_offsets_mapping=True, verbose=False
        )
        ends, at = [], 0
        for piece in pieces:
            at += len(piece.text)
            if piece.mark:
                ends.append(_covering(made["offset_mapping"], at - 1))
        return list(made["input_ids"]), ends


def _covering(offsets: Sequence[tuple[int, int]], character: int) -> int:
    """The last token that has a character."""
    for i in range(len(offsets) - 1, -1, -1):
        if offsets[i][0] <= character < offsets[i][1]:
            return i
    raise Unreadable("the tokenizer drops the mark after a step")
