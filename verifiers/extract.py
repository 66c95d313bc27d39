"""From a text to the answer it gives: a canonical key to vote with, or the reason why there is none.

Cheap (no algebra) and total (never raises), since `Tree.answer` calls it on every finished candidate. It looks, in this
order, and stops at the first that is there:

1. the last `\\boxed{...}`: where it is empty or its braces do not balance there is no answer, and no looking further.
   In mathematics, boxes joined by nothing but commas and "and" are one answer: `\\boxed{1} and \\boxed{2}`;
2. the last line `#### ANSWER` (GSM8K);
3. the last "answer is ANSWER" or "answer: ANSWER" (or that in French, Spanish, Portuguese, Italian, German, Russian, Chinese,
   Japanese, Korean or Arabic), up to the end of its sentence. Of a whole sentence ("the answer is: the area is 12"), what
   stands after its last "is", or its number where it has exactly one, or where exactly one of them is an amount of money;
4. for code, instead of all that: the last block marked python (see `fences.program_of`), which is the key as it stands;
5. in multiple choice only, and only where no box is there: the letter that the text ends with (see `choice.chosen`).

The key is then written in one way, so that a vote counts `1,234` and `$1234.0` as one answer (see `canonical`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.problems import countdown
from search.checks import one_of
from search.types import Answer

from . import choice, numeric
from .fences import program_of
from .notation import NUMBER_IN_TEXT, latex, number

LONGEST = 2000  # characters an answer may have
INTEGER_STYLES = ("word", "guess", "gsm8k", "aime")  # their answers are plain numbers
GRADED = ("choice", "numeric")  # graders that say how an answer is read
STYLES = (*INTEGER_STYLES, "countdown", "math", "generic", "code", *GRADED)

BOX = re.compile(r"\\boxed\s*\{")
BETWEEN_BOXES = re.compile(r"(?:[\s,;.$]|\\[()\[\],;]|\\quad|\\qquad|\band\b|\\text\s*\{\s*,?\s*and\s*\})*")
HASHES = re.compile(r"####[ \t]*([^\n]*)")
SAID = re.compile(
    r"(?:\b(?:answer|réponse|respuesta|resposta|risposta|antwort|ответ)"
    r"(?:[ \t]{1,9}(?:is|est|es|é|è|ist)\b|[ \t]{0,9}\*{0,2}[:：])"
    r"|答案[ \t]{0,9}(?:\*{0,2}[:：]|是|为|為)|答えは|정답은|(?:الجواب|الإجابة)[ \t]{0,9}(?:هو|هي|:))"
    r"[ \t]{0,9}[:：]?[ \t]{0,9}",
    re.IGNORECASE,
)
MARKED = re.compile(r"^(?:final )?answer\b[ :]*(?=\\[(\[]|\$)", re.IGNORECASE)  # before an answer in mathematics
PRICE = re.compile(r"[$€£¥]\s?(\d[\d,]*(?:\.\d+)?)|(?<![\d.,])(\d[\d,]*(?:\.\d+)?)\s?[$€£¥](?!\s?\d)", re.ASCII)
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
SENTENCE_END = re.compile(r"\.(?=\s|$)|\n|。")

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
        between = " ".join(text[at : start.start()].split())  # runs of spaces would make the pattern slow
        if BETWEEN_BOXES.fullmatch(between) is None:
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
    if "\\" in sentence:
        return sentence
    numbers = NUMBER_IN_TEXT.findall(sentence)
    if len(numbers) > 1:
        numbers = [before or after for before, after in PRICE.findall(sentence)]
    return str(numbers[0]) if len(numbers) == 1 else sentence


def expression(text: str) -> str | None:
    """The canonical form of a Countdown expression, or None; what follows an equals sign is dropped."""
    plain = latex(text).translate(OPERATORS)
    plain = LATEX_OPERATORS.sub(lambda match: "/" if match[1] == "div" else "*", plain)
    try:
        return countdown.canonical(plain.partition("=")[0].strip())
    except RecursionError:
        return None


def canonical(answer: str, style: str = "math", options: Sequence[str] = ()) -> Answer:
    """The key of an answer as it was written.

    Countdown: sums and products in one order, brackets in full. Numeric sets: the number, whatever stands around it
    ("$1,234.0 in all" -> "1234"), where there is exactly one. Multiple choice: the letter (`choice.letter`). Quantities:
    the number and its percent sign (`numeric.key`). Else a plain number or the LaTeX in one form.
    """
    if len(answer) > LONGEST:
        return Answer(None, f"the answer has {len(answer)} characters, more than {LONGEST}")
    key, what = _keyed(answer, style, options)
    return Answer(key) if key is not None else Answer(None, f"not {what}: {answer[:40]!r}")


def _keyed(answer: str, style: str, options: Sequence[str]) -> tuple[str | None, str]:
    """The key, and what it would be."""
    match style:
        case "countdown":
            return expression(answer), "an expression"
        case "choice":
            return choice.letter(answer, options), f"one of {len(options)} options" if options else "a letter from A to J"
        case "numeric":
            return numeric.key(answer), "one number"
        case _ if style in INTEGER_STYLES:
            text = latex(answer)
            inside = NUMBER_IN_TEXT.findall(text)
            only = number(inside[0]) if len(inside) == 1 and not set(text) & set("\\/^*=") else None
            return number(text) or only, "a number"
        case _:
            text = latex(MARKED.sub("", answer.strip()))
            return number(text) or text or None, "an answer"


def style_of(meta: Mapping[str, Any] | str) -> str:
    """The style of a problem's answers: its family, else its grader's where that says how an answer is read, else the style
    it was loaded with, else "math"."""
    if isinstance(meta, str):
        style = meta
    else:
        graded = str(meta.get("grader")) if meta.get("grader") in GRADED else ""
        style = str(meta.get("family") or graded or meta.get("style") or "math")
    one_of("answer style", style, STYLES)
    return style


def extractor_for(meta: Mapping[str, Any] | str) -> Callable[[str], Answer]:
    """The extractor of a problem, from its `meta` (family, grader, options, style) or from the name of a family or style.

    Raises ValueError for an unknown name; the extractor itself never raises.
    """
    style = style_of(meta)
    if style == "code":
        return program_of
    options = () if isinstance(meta, str) else choice.options_of(meta)
    box = boxes if style in ("math", "generic") else boxed

    def extract(text: str) -> Answer:
        found = written(text, box)
        if found.key is not None:
            return canonical(found.key, style, options)
        unmarked = choice.chosen(text, options) if style == "choice" and not BOX.search(text) else None
        return Answer(unmarked) if unmarked else found

    return extract


__all__ = ["STYLES", "boxed", "boxes", "canonical", "extractor_for", "latex", "number", "style_of", "written"]
