"""The one reader of layouts: a Format, a question and its steps become token ids and the positions that are read.

A layout is made of *pieces*. The format's own (the chat template, the marks) may hold special tokens; what a person or a model
wrote is encoded as plain text, so that a special token typed in a step is none. Where a mark stands is known from where its
piece was put: no sequence is searched for an id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from pipelines.scoring import Laid
from verifiers.formats.format import Format, Frame, Read
from verifiers.formats.text import Encoded, Piece, Text, Unreadable

HOLDER = "\ue000{}\ue001"  # stands for a message while the template is rendered: of the private use area, so in no template
KEPT = 100_000  # encodings: steps come again with every longer trace


Message = tuple[str, tuple[Piece, ...]]  # role, content


@dataclass(slots=True)
class Layout:
    """Lays out traces by a format with a model's tokenizer. `pad`: the model's padding token, passed by where LAST is read."""

    format: Format
    tokenizer: Any
    pad: int | None = None
    _encodings: dict[tuple[Piece, ...], Encoded] = field(default_factory=dict)
    _prompts: dict[str, list[Piece]] = field(default_factory=dict)
    _text: Text = field(init=False)

    def __post_init__(self) -> None:
        self._text = Text.of(self.tokenizer, self.format.mark)

    def lay(self, question: str, texts: Sequence[str]) -> Laid:
        """The ids up to the last position that is read, and the positions. Empty steps are left out. Raises Unreadable."""
        pieces = self._pieces(question, [text for text in map(str.strip, texts) if text])
        ids: list[int] = []
        ends: list[int] = []
        for group in _grouped(pieces):
            found, at = self._encoded(group)
            ends += [len(ids) + each for each in at]
            ids += found
        if self.format.read is Read.LAST:
            marks = [max((i for i, each in enumerate(ids) if each != self.pad), default=0)]
        else:
            marks = [end - (self.format.read is Read.BEFORE) for end in ends]
        return Laid(tuple(ids[: marks[-1] + 1] if marks else ids), tuple(marks), self._shared(pieces))

    def _shared(self, pieces: Sequence[Piece]) -> int:
        """How many tokens stand before the first step. Where they are one string with it, the last of them may be joined with
        what follows, and is not counted; too few cost time, and no value depends on it."""
        first = next((i for i, piece in enumerate(pieces) if piece.mark), 1) - 1
        count = sum(len(self._encoded(group)[0]) for group in _grouped(pieces[:first]))
        return max(count - (not pieces[first].alone), 0)

    # ----------------------------------------------------------------------------------------------------------- pieces

    def _pieces(self, question: str, texts: list[str]) -> list[Piece]:
        form = self.format
        before, _, after = form.opening.partition("{question}")
        opening = tuple(Piece(text) for text in (before, question, after) if text)
        if form.frame is Frame.PROMPT and self.tokenizer.chat_template is not None:
            return [*self._prompt(question), *self._steps(texts)]
        if form.frame in (Frame.PLAIN, Frame.PROMPT):
            return [*self._bos(), *opening, *self._steps(texts)]
        said: list[Message] = [("system", (Piece(form.system),))] if form.system else []
        if form.frame is Frame.CHAT:
            return self.conversation([*said, ("user", opening), (form.role, tuple(self._steps(texts)))])
        for text in texts:
            said.append(("user", (*opening, Piece(text, alone=form.apart))))
            said.append(("assistant", (Piece(form.mark, ours=True, mark=True, alone=form.apart),)))
            opening = ()
        return self.conversation(said)

    def _bos(self) -> list[Piece]:
        bos = self.tokenizer.bos_token if self.format.bos else None
        return [Piece(bos, ours=True, alone=True)] if bos else []

    def _steps(self, texts: Sequence[str]) -> Iterator[Piece]:
        form = self.format
        whole = form.read is Read.LAST  # nothing is read at a step: the mark only parts it from the next
        for i, text in enumerate(texts):
            lines = [line for line in text.split("\n") if line.strip()] if form.lines else [text]
            for j, line in enumerate(lines):
                yield Piece(line, alone=form.apart)
                if not whole or i < len(texts) - 1:
                    read = not whole and j == len(lines) - 1
                    yield Piece(form.mark, ours=True, mark=read, alone=form.apart)
            if form.after:
                yield Piece(form.after, alone=form.apart)

    def _prompt(self, question: str) -> list[Piece]:
        found = self._prompts.get(question)
        if found is None:
            if len(self._prompts) > KEPT:
                self._prompts.clear()
            found = self._prompts[question] = self.conversation([("user", (Piece(question),))], answering=True)
        return found

    def conversation(self, said: Sequence[Message], answering: bool = False) -> list[Piece]:
        """The messages in the chat template, which may trim them and must change nothing else. Raises Unreadable."""
        literals = self._skeleton([role for role, _ in said], answering)
        texts = ["".join(piece.text for piece in pieces) for _, pieces in said]
        rendered = self._rendered([role for role, _ in said], texts, answering)
        for contents in ([pieces for _, pieces in said], [_trimmed(pieces) for _, pieces in said]):
            whole = [Piece(literals[0], ours=True)]
            for content, literal in zip(contents, literals[1:], strict=True):
                whole += [*content, Piece(literal, ours=True)]
            if "".join(piece.text for piece in whole) == rendered:
                return [piece for piece in whole if piece.text]
        raise Unreadable("the model's chat template changes the text of a message, so where its steps end is not known")

    def _skeleton(self, roles: list[str], answering: bool) -> list[str]:
        """What the template writes before, between and after the messages."""
        holders = [HOLDER.format(i) for i in range(len(roles))]
        parts = re.split("\ue000(\\d+)\ue001", self._rendered(roles, holders, answering))
        if parts[1::2] != [str(i) for i in range(len(roles))]:
            raise Unreadable("the model's chat template does not show every message once and in order")
        return parts[::2]

    def _rendered(self, roles: Sequence[str], texts: Sequence[str], answering: bool) -> str:
        from jinja2.exceptions import TemplateError

        said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        try:
            return str(self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=answering))
        except (TemplateError, ValueError) as error:
            raise Unreadable(f"the model's chat template refuses the conversation: {' '.join(str(error).split())}") from None

    # -------------------------------------------------------------------------------------------------------------- ids

    def _encoded(self, pieces: tuple[Piece, ...]) -> Encoded:
        found = self._encodings.get(pieces)
        if found is None:
            found = self._text.encode(pieces)
            if not pieces[0].alone:
                self._own(found)
            if len(pieces) > 1 and found[1]:
                return found  # a whole conversation does not come again
            if len(self._encodings) > KEPT:
                self._encodings.clear()
            self._encodings[pieces] = found
        return found

    def _own(self, encoded: Encoded) -> None:
        """Raises Unreadable where a mark within a string is no token of its own."""
        mark = self.format.mark
        wanted = {self.tokenizer.encode(text, add_special_tokens=False)[-1] for text in (mark, mark.strip()) if text}
        if any(encoded[0][end] not in wanted for end in encoded[1]):
            raise Unreadable(f"the tokenizer joins the mark {mark!r} with what stands beside it")


def _grouped(pieces: Sequence[Piece]) -> Iterator[tuple[Piece, ...]]:
    """Those that are tokenized alone, each; the others as one string from one such to the next."""
    for alone, group in groupby(pieces, lambda piece: piece.alone):
        if alone:
            yield from ((piece,) for piece in group)
        else:
            yield tuple(group)


def _trimmed(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    kept = list(pieces)
    while kept and not kept[-1].text.strip():
        kept.pop()
    while kept and not kept[0].text.strip():
        kept.pop(0)
    if kept:
        kept[0] = replace(kept[0], text=kept[0].text.lstrip())
        kept[-1] = replace(kept[-1], text=kept[-1].text.rstrip())
    return tuple(kept)
