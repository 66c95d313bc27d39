"""Questions of a strategy's own: templates filled with what was found, and what was found cut to the room there is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from search.tree import Tree
from search.types import Ask, Candidate, Path, Until

ANSWER = "Give the final answer in \\boxed{}."
_BULLET = re.compile(r"^(?:[-*•]|\(?\d+[.):])\s+")


def filled(template: str, **parts: str) -> str:
    """The template with each {name} replaced, in one pass: braces in a problem's or a model's text are left alone."""
    return re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], found[0]), template)


def asked(tree: Tree, parent: Path, prompt: str, aside: str = "") -> Ask[Candidate | None]:
    """One answer to a question of the strategy's own, a child by name of `parent`; None where the budget forbids. `aside`
    names what is no solution."""
    made = yield from tree.extend([parent], until=Until.END, prompt=prompt, aside=aside)
    return made[0] if made else None


def lines_of(candidate: Candidate) -> list[str]:
    """What a candidate listed, without bullets and numbers: the lines that have one, or every line where none has. The last
    line of one that was cut is half a line, and left out."""
    lines = [line.strip() for line in candidate.step.text.splitlines()]
    if not candidate.finished:
        lines = lines[:-1]
    listed = [line for line in lines if _BULLET.match(line)] or lines
    bare = [_BULLET.sub("", line).strip() for line in listed]
    return [line for line in dict.fromkeys(bare) if line and not line.endswith(":")]


def tail(tree: Tree, text: str, room: int) -> str:
    """The end of a text, of at most `room` tokens: where a solution is cut, its answer is what has to stay."""
    whole, kept = text.strip(), text.strip()
    while (tokens := len(tree.encode(kept))) > room:
        kept = kept[len(kept) - len(kept) * room // tokens :]
    return kept if kept == whole else f"...{kept}"


def numbered(tree: Tree, paths: Sequence[Path], room: int) -> str:
    """Solutions for a prompt, one after another under numbers, each with an equal share of `room` tokens."""
    share = room // max(len(paths), 1)
    return "\n\n".join(f"({i}) {tail(tree, tree.text(path), share)}" for i, path in enumerate(paths, start=1))
