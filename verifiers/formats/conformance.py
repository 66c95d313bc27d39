"""The checks that hold the reader of reward models against a family's card, and against itself.

The card (`cards.py`) is read on the very model and tokenizer; the rest must hold for any family: batches, prefixes, empty
steps, length, special tokens typed in a step. A finding is ok, fail, or info (a figure to judge by).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pipelines.engine.scarce import OutOfMemory
from pipelines.scoring import Laid, Output
from search.types import SEPARATOR, Finish, Question, Reading, Step, Trace
from verifiers.formats.format import DIGITS, Read, Squash
from verifiers.formats.layout import Layout
from verifiers.formats.text import Unreadable
from verifiers.prm import RewardModel

ROUNDED = 0.6 * 10**-DIGITS
TOLERANCE = {"float32": ROUNDED + 2e-4}  # of values from batches of other shapes, and from the card's own passes
COARSE = 0.03  # with 16-bit weights
QUESTION = "Ben has 27 coins. Ben finds 12 more. Ben loses 9. How many coins does Ben have now?"
TRACES = (
    ("Finds 12 more: 27+12=39.", "Loses 9: 39-9=30.", "The answer is \\boxed{30}"),
    ("First, 27 + 12 = 39.\nThat is what Ben has then.", "Then 39 - 9 = 31.", "So it is 31.", "The answer is 31."),
    ("The answer is 30.",),
)

Values = Callable[[str, Sequence[str]], list[float]]  # question, steps -> what the card reads
Told = tuple[list[float] | None, ...]  # of each of TRACES what the card reads; None where it does not find its marks


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    status: str  # ok, fail or info
    what: str


def told(card: Values) -> Told:
    """What a card reads of the traces."""
    found: list[list[float] | None] = []
    for texts in TRACES:
        try:
            found.append(card(QUESTION, texts))
        except AssertionError:
            found.append(None)
    return tuple(found)


def conformance(reader: RewardModel, card: Told, tolerance: float = TOLERANCE["float32"]) -> list[Finding]:
    """The checks of a loaded reader against its family's card. Values are compared to within `tolerance`."""
    return [
        counts(reader),
        as_the_card(reader, card, tolerance),
        batches(reader, tolerance),
        prefixes(reader, tolerance),
        one_go(reader),
        empty_steps(reader),
        underflow(reader),
        too_long(reader),
        typed(reader),
        marks(reader),
        joins(reader),
        classes(reader),
    ]


# ----------------------------------------------------------------------------------------------------------------- checks


def counts(reader: RewardModel) -> Finding:
    """A value for each step, or one for the whole."""
    found = [(_expected(reader, texts), reading) for texts, reading in zip(TRACES, _read(reader, *TRACES), strict=True)]
    wrong = [f"{len(reading.parts)} for {steps}" + _because(reading) for steps, reading in found if len(reading.parts) != steps]
    return _found("counts", wrong, f"a value for each of {sum(steps for steps, _ in found)} steps")


def as_the_card(reader: RewardModel, card: Told, tolerance: float) -> Finding:
    """The same values as the card's own program, which reads one prefix at a time."""
    wrong, most = [], 0.0
    for values, reading in zip(card, _read(reader, *TRACES), strict=True):
        if values is None:
            return Finding(
                "card", "fail", "the card's own program does not find its marks: the tokenizer joins them with the text"
            )
        off = _apart(values, reading.parts)
        most = max(most, off)
        if off > tolerance:
            wrong.append(f"{_shown(reading.parts)} where the card reads {_shown(values)}")
    return _found("card", wrong, f"as the card's own program, to within {most:.0e}")


def batches(reader: RewardModel, tolerance: float) -> Finding:
    together = _read(reader, *TRACES * 3)[: len(TRACES)]
    alone = [_read(reader, texts)[0] for texts in TRACES]
    wrong = [_shown(a.parts) for a, b in zip(together, alone, strict=True) if _apart(a.parts, b.parts) > tolerance]
    return _found("batch", wrong, "a batch reads what one by one reads")


def prefixes(reader: RewardModel, tolerance: float) -> Finding:
    """What comes later changes no value, so one pass reads all."""
    if reader.format.read is Read.LAST:
        return Finding("prefix", "info", "the whole has one value: a prefix has another")
    steps = TRACES[1]
    whole, *parts = _read(reader, steps, *(steps[:k] for k in range(1, len(steps))))
    wrong = [_shown(each.parts) for each in parts if _apart(each.parts, whole.parts[: len(each.parts)]) > tolerance]
    return _found("prefix", wrong, "a longer trace leaves the values of its prefixes as they were")


def one_go(reader: RewardModel) -> Finding:
    stepwise, whole = _read(reader, TRACES[0], (SEPARATOR.join(TRACES[0]),))
    return _found(
        "one go", [] if stepwise.parts == whole.parts else [_shown(whole.parts)], "written at once or by steps: the same"
    )


def empty_steps(reader: RewardModel) -> Finding:
    """Left out, wherever they stand."""
    first, *rest = TRACES[0]
    plain, middle, last = _read(reader, TRACES[0], (first, "", "\n\n", *rest), (*TRACES[0], ""))
    wrong = [
        f"{place}: {_shown(each.parts)}" for place, each in (("middle", middle), ("last", last)) if each.parts != plain.parts
    ]
    return _found("empty steps", wrong, "left out, in the middle and at the end")


def underflow(reader: RewardModel) -> Finding:
    """A probability that is 0 in floating point is a value like any other."""
    form = reader.format
    low, high = np.float32(-1e4), np.float32(1e4)
    if form.squash is Squash.SIGMOID:
        raw = np.array([low if form.right else high])
    else:
        raw = np.where(np.arange(len(form.classes)) == form.right, low, high)
    fixed = copy(reader)
    fixed.scorer = _Fixed(raw)
    parts = fixed.score([_trace(TRACES[0])])[0].parts
    wrong = [] if parts == (0.0,) * _expected(reader, TRACES[0]) else [_shown(parts)]
    return _found("underflow", wrong, "a probability of 0 in floating point is the value 0")


def too_long(reader: RewardModel) -> Finding:
    context = reader.scorer.context
    (reading,) = _read(reader, (*TRACES[0], " ".join(map(str, range(context)))))
    wrong = [_shown(reading.parts)] if reading.parts or not reading.reason else []
    return _found("too long", wrong, f"no value over {context} tokens: {reading.reason}")


def typed(reader: RewardModel) -> Finding:
    """A special token or a mark that is typed in a step is plain text."""
    tokenizer, layout = reader.layout.tokenizer, reader.layout
    special = {str(each): i for i, each in tokenizer.added_tokens_decoder.items() if each.special}
    first, *rest = TRACES[0]
    steps = (first + " " + " ".join([*special, reader.format.mark.strip() or "+", "+ -"]), *rest)
    laid, plain = _laid(layout, steps), _laid(layout, TRACES[0])
    if isinstance(laid, str) or isinstance(plain, str):
        return Finding("typed marks", "fail", str(laid))
    wrong = [] if len(laid.marks) == len(plain.marks) else [f"{len(laid.marks)} positions are read, not {len(plain.marks)}"]
    wrong += [f"{each!r} is a token" for each, i in special.items() if laid.ids.count(i) != plain.ids.count(i)]
    return _found("typed marks", wrong, f"{len(special)} special tokens typed in a step stay text")


def marks(reader: RewardModel) -> Finding:
    form, tokenizer = reader.format, reader.layout.tokenizer
    if form.read is Read.LAST:
        return Finding("marks", "info", "none: read at the last token")
    ways = (tokenizer.encode(text, add_special_tokens=False) for text in (form.mark, form.mark.strip()) if text)
    ids = min(ways, key=len)  # some tokenizers put a space before a text of its own
    status = "ok" if form.apart or len(ids) == 1 else "fail"
    return Finding("marks", status, f"{form.mark!r} is {len(ids)} token(s): {', '.join(map(str, ids))}")


def joins(reader: RewardModel) -> Finding:
    """Whether it matters here how the pieces are joined."""
    other = Layout(replace(reader.format, apart=not reader.format.apart), reader.layout.tokenizer, reader.layout.pad)
    differ = sum(_tokens(other, texts) != _tokens(reader.layout, texts) for texts in TRACES)
    how = ("apart", "as one string") if reader.format.apart else ("as one string", "apart")
    return Finding("joins", "info", f"tokenized {how[0]}; {how[1]} would give other tokens in {differ} of {len(TRACES)} traces")


def classes(reader: RewardModel) -> Finding:
    """Right arithmetic beside wrong: a figure, for a model may be weak, and yet read as it should be."""
    pairs = [(_sum(a, b, a + b), _sum(a, b, a + b - 1 - a % 3)) for a, b in pairwise(range(13, 13 + 17 * 2, 2))]
    texts = [(question, step) for pair in pairs for question, step in pair]
    read = [r.parts[0] if r.parts else 0.5 for r in reader.score([_trace((step,), question) for question, step in texts])]
    above = sum(right > wrong for right, wrong in zip(read[::2], read[1::2], strict=True))
    said = f"right steps score above wrong ones in {above} of {len(pairs)} pairs"
    return Finding("classes", "info", said + ("; classes look reversed" if above < len(pairs) / 2 else ""))


# -------------------------------------------------------------------------------------------------------------- internals


@dataclass(slots=True)
class _Fixed:
    """A scorer that reads the same numbers everywhere."""

    raw: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    context: int = 1 << 30

    def outputs(self, laid: Sequence[Laid]) -> list[Output | OutOfMemory]:
        return [Output(np.tile(self.raw, (len(each.marks), 1)), len(each.ids), 0.0) for each in laid]


def _sum(a: int, b: int, said: int) -> tuple[str, str]:
    return f"Ben has {a} coins. Ben finds {b} more. How many coins does Ben have now?", f"Finds {b} more: {a}+{b}={said}."


def _trace(texts: Sequence[str], question: str = QUESTION) -> Trace:
    none = np.zeros(0, dtype=np.float32)
    steps = (Step(np.zeros(0, np.int32), text + SEPARATOR, none, none, none, Finish.STEP) for text in texts)
    return Trace(Question("check", question, ()), tuple(steps))


def _read(reader: RewardModel, *traces: Sequence[str]) -> list[Reading]:
    return reader.score([_trace(texts) for texts in traces])


def _laid(layout: Layout, texts: Sequence[str]) -> Laid | str:
    try:
        return layout.lay(QUESTION, texts)
    except Unreadable as error:
        return str(error)


def _tokens(layout: Layout, texts: Sequence[str]) -> tuple[int, ...] | str:
    laid = _laid(layout, texts)
    return laid if isinstance(laid, str) else laid.ids


def _expected(reader: RewardModel, texts: Sequence[str]) -> int:
    return 1 if reader.format.read is Read.LAST else len(texts)


def _apart(values: Sequence[float], others: Sequence[float]) -> float:
    """The largest difference; infinite for other numbers of values."""
    if len(values) != len(others):
        return float("inf")
    return max((abs(a - b) for a, b in zip(values, others, strict=True)), default=0.0)


def _because(reading: Reading) -> str:
    return f" ({reading.reason})" if reading.reason else ""


def _shown(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.4f}" for value in values) + "]"


def _found(name: str, wrong: Sequence[str], well: str) -> Finding:
    return Finding(name, "fail" if wrong else "ok", "; ".join(wrong) if wrong else well)
