"""The program that a solution gives: the last block between fences that is marked as Python.

A fence is a line of three or more backticks (or tildes); the opening one is followed by `python`, `python3` or `py`, in any
case, and the block ends at the next line of at least as many of the same. A block that is marked as another language, or as
none, is no program; nor is one that is not closed, for it may have been cut.
"""

from __future__ import annotations

import re

from search.types import Answer

LONGEST = 20_000  # characters
FENCE = re.compile(r"[ \t]{0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[^\s`{]*)[^`\n]*")
PYTHON = ("python", "python3", "py")


def program_of(text: str) -> Answer:
    """The program as its key, without blank lines around it, or the reason why there is none."""
    found, unclosed = None, False
    for language, block in blocks(text):
        if language.lower() in PYTHON:
            found, unclosed = found if block is None else block, block is None
    if unclosed:
        return Answer(None, "the last python block is not closed")
    if found is None or not found.strip():
        return Answer(None, "no block marked python" if found is None else "the python block is empty")
    if len(found) > LONGEST:
        return Answer(None, f"the program has {len(found)} characters, more than {LONGEST}")
    return Answer(found.strip("\n").rstrip())


def blocks(text: str) -> list[tuple[str, str | None]]:
    """(language, content) of each block between fences; None = it is not closed."""
    found: list[tuple[str, str | None]] = []
    fence, language, lines = "", "", list[str]()
    for line in text.split("\n"):
        match = FENCE.fullmatch(line.rstrip("\r"))
        if not fence and match:
            fence, language, lines = match["fence"], match["language"], []
        elif fence and match and not match["language"] and match["fence"].startswith(fence):
            found.append((language, "\n".join(lines)))
            fence = ""
        elif fence:
            lines.append(line)
    return [*found, (language, None)] if fence else found


def prose(text: str) -> str:
    """The text without its blocks: what a program says is not what the solution says."""
    kept, fence = [], ""
    for line in text.split("\n"):
        match = FENCE.fullmatch(line.rstrip("\r"))
        if match and not fence:
            fence = match["fence"]
        elif fence:
            if match and not match["language"] and match["fence"].startswith(fence):
                fence = ""
        else:
            kept.append(line)
    return "\n".join(kept)


__all__ = ["blocks", "program_of", "prose"]
