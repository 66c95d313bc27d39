"""From a text to the answer it gives: a canonical key to vote with, or the reason why there is none.

Cheap (no algebra) and total (never raises), since `Tree.answer` calls it on every finished candidate. It looks, in this
order, and stops at the first that is there:

1. the last `\\boxed{...}`: where it is empty or its braces do not balance there is no answer, and no looking further.
   In mathematics, boxes joined by nothing but commas and "and" are one answer: `\\boxed{1} and \\boxed{2}`;
2. the last line `#### ANSWER` (GSM8K);
3. the last "answer is ANSWER" or "answer: ANSWER", up to the end of its sentence. Of a whole sentence ("the answer is:
   the area is 12"), what stands after its last "is", or its number where it has exactly one.

The key is then written in one way, so that a vote counts `1,234` and `$1234.0` as one answer (see `canonical`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.problems import countdown
from search.checks import one_of
from search.types import Answer

LONGEST = 2000  # characters an answer may have
INTEGER_STYLES = ("word", "guess", "gsm8k", "aime")  # their answers are plain numbers
STYLES = (*INTEGER_STYLES, "countdown", "math", "generic")

BOX = re.compile(r"\\boxed\s*\{")
BETWEEN_BOXES = re.compile(r"(?:[\s,;.$]|\\[()\[\],;]|\\quad|\\qquad|\band\b|\\text\s*\{\s*,?\s*and\s*\})*")
HASHES = re.compile(r"####[ \t]*([^\n]*)")
SAID = re.compile(r"\banswer(?:[ \t]+is|[ \t]*\*{0,2}:)[ \t]*:?[ \t]*", re.IGNORECASE)
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
SENTENCE_END = re.compile(r"\.(?=\s|$)|\n")
NUMBER = re.compile(r"([-+]?)(\d+(?:,\d{3})*|\d*)(?:\.(\d*))?", re.ASCII)
NUMBER_IN_TEXT = re.compile(r"(?<![\d.,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d.,]*\d)", re.ASCII)

WRAPPER = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
AND = re.compile(r"\s*,?\s+(?:and|or)\s+")
REWRITES = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"\\(?:left|right|displaystyle|[bB]igg?[lr]?)(?![A-Za-z])"), ""),
    (re.compile(r"(?<!\\)\\[!,;: ]|~|\\q?quad(?![A-Za-z])"), " "),
    (re.compile(r"\\\$|\$|(?<!\\)\\[()\[\]]"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d),\s+(?=\d{3}(?:,\s+\d{3})*$)"), ","),
)
SPACE = re.compile(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])")

OPERATORS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")"})
LATEX_OPERATORS = re.compile(r"\\(times|cdot|div)(?![A-Za-z])")


def boxed(text: str) -> Answer:
    """What the last \\boxed{...} of a text holds, as written."""
    starts = list(BOX.finditer(text))
    if not starts:
        return Answer(None, "no \\boxed{} in the text")
    end = _closing(text, starts[-1].end())
    return _filled(text[starts[-1].end() : end]) if end is not None else Answer(None, "unbalanced \\boxed{")


def boxes(text: str) -> Answer:
    """What the last run of boxes holds: several that nothing but commas and "and" parts are joined with commas."""
    found: list[str] = []
    at = 0
    for start in BOX.finditer(text):
        if start.start() < at:
            continue  # inside the box before
        end = _closing(text, start.end())
        if end is None:
            return boxed(text)
        if BETWEEN_BOXES.fullmatch(text, at, start.start()) is None:
            found = []
        found.append(text[start.end() : end].strip())
        at = end + 1
    last = boxed(text)
    distinct = [content for content in dict.fromkeys(found) if content]
    return Answer(",".join(distinct)) if last.key is not None and len(distinct) > 1 else last


def _closing(text: str, start: int) -> int | None:
    """Where the brace that was opened just before `start` is closed; escaped braces do not count."""
    depth, at = 1, start
    while at < len(text):
        match text[at]:
            case "\\":
                at += 1
            case "{":
                depth += 1
            case "}":
                depth -= 1
                if depth == 0:
                    return at
        at += 1
    return None


def _filled(content: str) -> Answer:
    content = content.strip()
    return Answer(content) if content else Answer(None, "empty \\boxed{}")


def written(text: str, box: Callable[[str], Answer] = boxed) -> Answer:
    """The answer as the text writes it: box, then ####, then "answer is"."""
    if BOX.search(text):
        return box(text)
    hashes = HASHES.findall(text)
    if hashes:
        return Answer(hashes[-1].strip()) if hashes[-1].strip() else Answer(None, "nothing after ####")
    said = list(SAID.finditer(text))
    if not said:
        return Answer(None, "no \\boxed{}, #### or 'answer is' in the text")
    rest = text[said[-1].end() : said[-1].end() + LONGEST].lstrip("* \n")
    end = SENTENCE_END.search(rest)
    rest = (rest[: end.start()] if end else rest).strip("* \"'")
    return Answer(_gist(rest)) if rest else Answer(None, "nothing after 'answer is'")


def _gist(sentence: str) -> str:
    """The answer inside a sentence; what is not prose stays as it is."""
    for _ in range(2):
        if len(WORD.findall(sentence)) < 3:
            return sentence
        _, found, tail = sentence.rpartition(" is ")
        sentence = tail if found and tail.strip() else sentence
    numbers = NUMBER_IN_TEXT.findall(sentence)
    return str(numbers[0]) if len(numbers) == 1 and "\\" not in sentence else sentence


def number(text: str) -> str | None:
    """The canonical form of a plain decimal number ("1,234.50" -> "1234.5", "+07" -> "7"), or None."""
    match = NUMBER.fullmatch(text.strip().lstrip("€£").strip())
    if match is None or not (match[2] or match[3]):
        return None
    whole = match[2].replace(",", "").lstrip("0") or "0"
    decimals = (match[3] or "").rstrip("0")
    plain = f"{whole}.{decimals}" if decimals else whole
    return f"-{plain}" if match[1] == "-" and plain != "0" else plain


def latex(text: str) -> str:
    """The text without what does not change its meaning: dollars, \\left, \\dfrac, \\text{}, spaces, a last period."""
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    for _ in range(3):
        text = WRAPPER.sub(r" \1 ", text)
    text = " ".join(AND.sub(",", text.strip()).split())
    return SPACE.sub("", text).strip().removesuffix(".").strip()


def expression(text: str) -> str | None:
    """The canonical form of a Countdown expression, or None; what follows an equals sign is dropped."""
    plain = latex(text).translate(OPERATORS)
    plain = LATEX_OPERATORS.sub(lambda match: "/" if match[1] == "div" else "*", plain)
    try:
        return countdown.canonical(plain.partition("=")[0].strip())
    except RecursionError:
        return None


def canonical(answer: str, style: str = "math") -> Answer:
    """The key of an answer as it was written.

    Countdown: sums and products in one order, brackets in full. Numeric sets: the number, whatever stands around it
    ("$1,234.0 in all" -> "1234"), where there is exactly one. Else a plain number or the LaTeX in one form.
    """
    if len(answer) > LONGEST:
        return Answer(None, f"the answer has {len(answer)} characters, more than {LONGEST}")
    if style == "countdown":
        key, what = expression(answer), "an expression"
    else:
        text = latex(answer)
        key, what = number(text), "a number"
        if key is None and style in INTEGER_STYLES:
            inside = NUMBER_IN_TEXT.findall(text)
            key = number(inside[0]) if len(inside) == 1 and not set(text) & set("\\/^*=") else None
        elif key is None:
            key, what = text or None, "an answer"
    return Answer(key) if key is not None else Answer(None, f"not {what}: {answer[:40]!r}")


def style_of(meta: Mapping[str, Any] | str) -> str:
    """The style of a problem's answers: its family, else the style it was loaded with, else "math"."""
    style = meta if isinstance(meta, str) else str(meta.get("family") or meta.get("style") or "math")
    one_of("answer style", style, STYLES)
    return style


def extractor_for(meta: Mapping[str, Any] | str) -> Callable[[str], Answer]:
    """The extractor of a problem, from its `meta` (family, style) or from the name of a family or style.

    Raises ValueError for an unknown name; the extractor itself never raises.
    """
    style = style_of(meta)
    box = boxes if style in ("math", "generic") else boxed

    def extract(text: str) -> Answer:
        found = written(text, box)
        return found if found.key is None else canonical(found.key, style)

    return extract


__all__ = ["STYLES", "boxed", "boxes", "canonical", "extractor_for", "number", "style_of", "written"]
