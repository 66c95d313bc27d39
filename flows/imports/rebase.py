"""REBASE's answers: thu-wyz/inference_scaling at 0fe7da9 (no licence: nothing of it is copied), `rebase.py`.

A file answer_q*.json a problem: id, question, ground_truth_answer, total_tokens (of the whole tree, abandoned steps too)
and model_answer, one entry a leaf: text (the whole, the question in front) and step_scores, one a step from the root. The
program's output_path has a list of such objects. It makes a list of all nodes as well (id, text up to there, score,
parent_id, depth, leaf), and writes it nowhere; a file that has it as `nodes` is imported as the tree it is, with a step a
node. `math_evaluate.py` takes last, min, prod or mean of the step scores, with no default. Steps end in Math-Shepherd's tag.
"""

from __future__ import annotations

from typing import Any

from search.types import Path, child_of, lineage

from .records import Json, Record, Written, kind, number, scalar, several, text, values, whole

VERIFIER = "prm"
TAG = "ки"  # ends a step of Math-Shepherd


def untagged(solution: str) -> str:
    """The text without step tags, which an answer would be read with."""
    return solution.replace(TAG, "") if TAG in solution else solution


def record(row: Json, notes: dict[str, str]) -> Record:
    """One problem. Where the file has the tree, it is the tree, and else its leaves as whole solutions."""
    question = text(row, "question")
    nodes = several(row, "nodes") if "nodes" in row else []
    return Record(
        id=scalar(row, "id") if "id" in row else "",
        prompt=question,
        answer=scalar(row, "ground_truth_answer"),
        candidates=_tree(nodes) if nodes else [_leaf(question, i, leaf) for i, leaf in enumerate(several(row, "model_answer"))],
        generated=whole(row["total_tokens"], "field 'total_tokens'") if row.get("total_tokens") is not None else None,
    )


def _leaf(question: str, index: int, leaf: Any) -> Written:
    what = f"entry {index} of field 'model_answer'"
    if not isinstance(leaf, dict):
        raise ValueError(f"{what} must be an object, not {kind(leaf)}")
    solution = text(leaf, "text", blank=True).removeprefix(question)
    scores = values(several(leaf, "step_scores"), f"step_scores of {what}")
    return Written(solution, spoken=untagged(solution), scores={VERIFIER: scores})


def _tree(nodes: list[Any]) -> list[Written]:
    """The nodes in their order, which puts parents first; the root is the question and no candidate."""
    paths: dict[int, Path] = {}
    known: dict[Path, tuple[str, float]] = {}  # the text up to a node, and its own score
    children: dict[Path, int] = {}
    out: list[Written] = []
    for place, node in enumerate(nodes):
        if not isinstance(node, dict):
            raise ValueError(f"entry {place} of field 'nodes' must be an object, not {kind(node)}")
        name, said = whole(node.get("id"), f"the id of node {place}"), text(node, "text", blank=True)
        score = number(node.get("score"), f"the score of node {name}")
        parent = node.get("parent_id")
        if name in paths:
            raise ValueError(f"node {name} is there twice")
        if parent is None:
            if paths:
                raise ValueError(f"node {name} has no parent_id, and is not the first: a tree has one root")
            paths[name], known[""] = "", (said, score)
            continue
        if whole(parent, f"the parent_id of node {name}") not in paths:
            raise ValueError(f"node {name} is before its parent {parent}, or that is not there")
        above = paths[parent]
        before, _ = known[above]
        if not said.startswith(before):
            raise ValueError(f"the text of node {name} does not begin with that of its parent {parent}")
        path = paths[name] = child_of(above, children.get(above, 0))
        children[above] = children.get(above, 0) + 1
        known[path] = said, score
        parts = tuple(known[each][1] for each in lineage(path))
        leaf, spoken = bool(node.get("leaf")), untagged(said.removeprefix(known[""][0]))
        out.append(Written(said.removeprefix(before), path, whole=leaf, spoken=spoken, scores={VERIFIER: parts}))
    return out
