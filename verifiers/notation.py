"""One way of writing what can be written in many: plain numbers, and LaTeX without what does not change its meaning.

Every function takes time that is linear in the text or nearly so: a model's text is not to hold up a search.
"""

from __future__ import annotations

import re

NUMBER = re.compile(r"([-+]?)(\d+(?:,\d{3})*|\d*)(?:\.(\d*))?", re.ASCII)
NUMBER_IN_TEXT = re.compile(r"(?<![\d.,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d.,]*\d)", re.ASCII)

WRAPPER = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
AND = re.compile(r" ?,? (?:and|or) ")  # of a text whose spaces are single
REWRITES = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac ?(\d) ?(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt ?(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"\\(?:left|right|displaystyle|[bB]igg?[lr]?)(?![A-Za-z])"), ""),
    (re.compile(r"(?<!\\)\\[!,;: ]|~|\\q?quad(?![A-Za-z])"), " "),
    (re.compile(r"\\\$|\$|(?<!\\)\\[()\[\]]"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r" +"), " "),
    (re.compile(r"(?<=\d), (?=\d{3}(?:, \d{3})*$)"), ","),
)
SPACE = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")


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
    text = re.sub(r"\s+", " ", text)  # runs of spaces would make the patterns below slow
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    for _ in range(3):
        text = WRAPPER.sub(r" \1 ", text)
    text = " ".join(AND.sub(",", " ".join(text.split())).split())
    return SPACE.sub("", text).strip().removesuffix(".").strip()


__all__ = ["NUMBER_IN_TEXT", "WRAPPER", "latex", "number"]
