"""Texts and trees for a terminal. A model's text is untrusted: control characters are shown, never sent."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING

from search.tree import Tree
from search.types import Path, Score, State, order, parent_of

if TYPE_CHECKING:
    from rich.tree import Tree as Drawing

MARKS = {
    State.LIVE: "open",
    State.PRUNED: "pruned",
    State.MERGED: "merged",
    State.FINISHED: "finished",
    State.CANCELLED: "cancelled",
    State.FAILED: "cut",
    State.ASIDE: "aside",
}


def escaped(text: str, length: int | None = None) -> str:
    """The text with control characters, bidirectional marks and surrogates written out; newlines stay."""
    out = []
    for character in text:
        kind = unicodedata.category(character)
        harmless = character == "\n" or kind not in ("Cc", "Cf", "Cs", "Co")
        out.append(character if harmless else f"\\u{ord(character):04x}")
    shown = "".join(out)
    return shown if length is None or len(shown) <= length else shown[: length - 1] + "…"


def oneline(text: str, length: int) -> str:
    return escaped(" ".join(text.split()), length)


def outline(tree: Tree, chosen: Path | None) -> Drawing:
    """A live search as a tree."""
    steps = {path: c.step.text for path, c in tree.candidates.items()}
    return drawn(oneline(tree.question.text, 100), steps, tree.scores, tree.states, chosen)


def drawn(
    title: str,
    steps: Mapping[Path, str],
    scores: Mapping[Path, Score],
    states: Mapping[Path, tuple[State, str]],
    chosen: Path | None,
) -> Drawing:
    """One line a candidate: path, score, state, step; the chosen path is marked with a star."""
    from rich.text import Text
    from rich.tree import Tree as Drawing

    root = Drawing(Text(title))
    branches = {"": root}
    for path in sorted(steps, key=order):
        score = scores.get(path)
        value = f"{score.value:.3f}" if score is not None and score.value is not None else "  -  "
        state, cause = states[path]
        star = chosen is not None and (chosen == path or chosen.startswith(path + "."))
        said = f"{'*' if star else ' '} {path}  {value}  {MARKS[state]}{f' ({cause})' if cause and cause != 'end' else ''}  "
        style = "bold" if star else "dim" if state in (State.PRUNED, State.MERGED, State.CANCELLED) else ""
        branches[path] = branches[parent_of(path)].add(Text(said + oneline(steps[path], 90), style=style))
    return root
