"""A search tree as compact JSON: columns rather than objects, and packed for a data block of the page.

The columns, all as long as there are branches: `parent` (index, -1 = the root), `tail` (the last number of the path, or "=" and
the whole path where it is not its parent's with one more), `text`, `tokens`; `state`, `cause`, `finish`, `answer`, `why` (an
index into `words`, -1 = none); `correct` (1, 0, null); `score`, `logprob`, `certainty` (six significant digits); `lengths` of
tokens; `chances` (their probabilities in hundredths). A column in which nothing is known is left out. `votes` has a row an
answer: the answer, how many solutions gave it, its weight (null = not weighed), whether it is right (1, 0, null).
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from flows.report.document import Branch, TreeOf

LEVEL = 6  # of zlib: 9 takes twice as long for 1% less


def columns(tree: TreeOf) -> dict[str, Any]:
    """What the browser gets of a tree. ValueError where a parent does not come before its children."""
    place: dict[str, int] = {"": -1}
    words: dict[str, int] = {}
    parents: list[int] = []
    for index, branch in enumerate(tree.branches):
        if branch.parent not in place:
            raise ValueError(f"branch '{branch.path}' of attempt {tree.attempt} comes before its parent '{branch.parent}'")
        parents.append(place[branch.parent])
        place[branch.path] = index
    made: dict[str, Any] = {
        "chosen": tree.chosen,
        "lost": tree.lost,
        "in_all": tree.in_all,
        "reason": tree.reason,
        "votes": [[each.answer, each.count, _short(each.weight), _bit(each.correct)] for each in tree.votes],
        "parent": parents,
        "tail": [_tail(branch) for branch in tree.branches],
        "text": [branch.text for branch in tree.branches],
        "tokens": [branch.tokens for branch in tree.branches],
    }
    for name in ("state", "cause", "finish", "answer", "why"):
        made[name] = _known([_word(words, getattr(branch, name)) for branch in tree.branches], -1)
    made["correct"] = _known([_bit(branch.correct) for branch in tree.branches], None)
    for name in ("score", "logprob", "certainty"):
        made[name] = _known([_short(getattr(branch, name)) for branch in tree.branches], None)
    made["lengths"] = _told([_fits(branch) and branch.lengths for branch in tree.branches])
    made["chances"] = _told([_fits(branch) and [round(100 * value) for value in branch.chances] for branch in tree.branches])
    made["words"] = [*words]
    return {name: value for name, value in made.items() if value is not None}


def compact(tree: TreeOf) -> str:
    """The JSON text of a tree, ASCII: a lone surrogate of a byte-wise tokenizer survives."""
    return json.dumps(columns(tree), separators=(",", ":"), allow_nan=False)


def packed(tree: TreeOf) -> str:
    """The same, deflated (zlib) and in base64."""
    return base64.b64encode(zlib.compress(compact(tree).encode("ascii"), LEVEL)).decode("ascii")


def _tail(branch: Branch) -> str:
    head = branch.parent + "." if branch.parent else ""
    tail = branch.path[len(head) :]
    return tail if branch.path.startswith(head) and tail.isdigit() else "=" + branch.path


def _word(words: dict[str, int], word: str | None) -> int:
    return -1 if word is None else words.setdefault(word, len(words))


def _known(column: list[Any], unknown: Any) -> list[Any] | None:
    return None if all(value == unknown for value in column) else column


def _bit(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _fits(branch: Branch) -> bool:
    return len(branch.lengths) == len(branch.chances)


def _told(column: list[Any]) -> list[Any] | None:
    return [each or () for each in column] if any(column) else None


__all__ = ["columns", "compact", "packed"]
