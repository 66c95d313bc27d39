"""Multiple choice: which of the letters A to J an answer names, in the forms people write.

An answer names a letter where, in this order:

1. it is the letter: `B`, `b`, `(B)`, `[B]`, `B.`, `**B**`, `\\text{(B)}`, `option B`;
2. it begins with one that is marked as such: `(B) Cecile`, `B) Cecile`, `B. Cecile`, `B: Cecile`, `B - Cecile`;
3. it is the text of exactly one of the problem's options, whatever its case (numbers as numbers: `1,234` is `1234.0`);
4. its first clause has exactly one capital letter that stands by itself ("for sure D, it can't be A or B"), and denies
   nothing ("not B").

"A" and "I" followed by a small word are an article and a pronoun, and no letters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .notation import WRAPPER, latex, number

LETTERS = "ABCDEFGHIJ"
MARKS = "*_`\"' "
DRESS = re.compile(r"\$|\\[()\[\]]|\\(?:left|right)(?![A-Za-z])|\*\*")
WHOLE = re.compile(r"(?:(?:the )?(?:option|choice|letter|answer):? )?[(\[{]?([A-Ja-j])[)\]}]?[.:]?", re.IGNORECASE)
BEGINS = re.compile(r"[(\[]([A-J])[)\]](?! ?(?:[,;&/]|and\b|or\b))|([A-J])(?:[).:](?!\w)| ?[–—-] |(?=[^\x00-\x7f]))")
FORMED = re.compile(r"\(([A-J])\)(?: ?\S.*)?|([A-J])(?:[).:](?: .*)?)?")
SEVERAL = re.compile(r"[(\[]?[A-J][)\]]?(?: ?(?:,|;|&|/|and\b|or\b) ?(?:and |or )?[(\[]?[A-J][)\]]?)+\.?")
ALONE = re.compile(r"(?<![\w'\\.])([A-J])(?![\w'])(?!(?<=[AI]) (?!or\b|and\b)[a-z])")
CLAUSE = re.compile(r"[,;.，。；、]|\bbecause\b|\bsince\b|\n")
CLAUSE_BEGINS = re.compile(r"[,;.!?，。；、\n]|\bbut\b|\bso\b")
CHOSEN = re.compile(
    r"(?:\b(?:it'?s|is|be|choose|chose|pick|select|option|choice|letter|with)|(?<!不)(?:是|为|選|选择?))"
    r"[ :]*[(\[*]*([A-J])(?![\w'])(?!(?<=[AI])\*?\s+[a-z])"
)
DENIED = re.compile(r"\b(?:not|never|neither|nor|except|cannot|n't)\b|n['’]t\b", re.IGNORECASE)
LAST = 400  # characters at the end of a text in which a choice without a mark is looked for


def options_of(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of a problem's options, A first; () where it lists none."""
    found = meta.get("options") or ()
    return tuple(map(str, found.values() if isinstance(found, Mapping) else found))


def letter(answer: str, options: Sequence[str] = ()) -> str | None:
    """The letter that an answer names, or None. With options, it is one of theirs."""
    allowed = LETTERS[: len(options)] if options else LETTERS
    plain = _plain(answer)
    found = WHOLE.fullmatch(plain) or BEGINS.match(plain)
    if found is not None:
        named = str(found[found.lastindex or 1]).upper()
        return named if named in allowed else None
    if SEVERAL.fullmatch(plain):
        return None
    return _by_text(plain, options) or _clause(plain, allowed)


def formed(text: str) -> str | None:
    """The letter of a text that is written as one, and as nothing else: "B", "(B)", "(B) Cecile", "B. Cecile"."""
    found = FORMED.fullmatch(_plain(text))
    return (found[1] or found[2]) if found else None


def chosen(text: str, options: Sequence[str] = ()) -> str | None:
    """The letter that a text without a marked answer ends with: its last line, or what it last says that it chooses
    ("therefore I think it's B")."""
    lines = [line for line in text[-LAST:].splitlines() if line.strip()]
    if not lines:
        return None
    allowed = LETTERS[: len(options)] if options else LETTERS
    plain = _plain(lines[-1])
    found = WHOLE.fullmatch(plain) or BEGINS.match(plain)
    named = [str(found[found.lastindex or 1]).upper()] if found else _affirmed(text[-LAST:])
    if named:
        return named[-1] if named[-1] in allowed else None
    return _by_text(plain, options)


def _affirmed(text: str) -> list[str]:
    """The letters that a text says it chooses, without those of a clause that denies ("it cannot be B")."""
    return [each[1] for each in CHOSEN.finditer(text) if not DENIED.search(CLAUSE_BEGINS.split(text[: each.start(1)])[-1])]


def _plain(answer: str) -> str:
    """The answer without dollars, stars, \\text{} and runs of spaces."""
    plain = DRESS.sub("", answer)
    for _ in range(2):
        plain = WRAPPER.sub(r" \1 ", plain)
    return " ".join(plain.split()).strip(MARKS)


def _by_text(plain: str, options: Sequence[str]) -> str | None:
    """The option whose text this is, alone among them."""
    wanted = _compared(plain)
    same = [LETTERS[i] for i, option in enumerate(options[: len(LETTERS)]) if _compared(option) == wanted]
    return same[0] if len(same) == 1 and wanted else None


def _compared(text: str) -> str:
    plain = latex(text).strip(MARKS)
    return number(plain) or plain.casefold()


def _clause(plain: str, allowed: str) -> str | None:
    clause = CLAUSE.split(plain, maxsplit=1)[0]
    if DENIED.search(clause):
        return None  # what it is not names no option
    named = set(ALONE.findall(clause))
    return next(iter(named)) if len(named) == 1 and named <= set(allowed) else None


__all__ = ["LETTERS", "chosen", "formed", "letter", "options_of"]
