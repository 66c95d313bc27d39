"""OpenR's records: openreasoner/openr at 54ae004 (MIT), `reason/evaluation/evaluate.py` and `evaluator.py`.

A line a problem: question, groundtruth (the data set's answer field), result (verdicts of five votes, which can be
replayed, and total_completion_tokens) and output: path_idx, text, value, completion_tokens, and tree_completion_tokens
where a tree was searched. value is the reward model's list of a step's scores; for a lone solution it is [0], which no
model gave. completion_tokens are a solution's own only without a tree: in beam search all stand with the last one, in
MCTS they are what was spent between two solutions. The tree itself is not in the file; its leaves are. The compute-optimal-tts
fork writes the same fields.
"""

from __future__ import annotations

from typing import Any

from .rebase import untagged
from .records import Json, Record, Written, counts, kind, scalar, several, text, values, whole

VERIFIER = "prm"


def record(row: Json, notes: dict[str, str]) -> Record:
    """One line."""
    output = several(row, "output")
    for i, each in enumerate(output):
        if not isinstance(each, dict):
            raise ValueError(f"entry {i} of field 'output' must be an object, not {kind(each)}")
    solutions = [text(each, "text", blank=True) for each in output]
    tree = any("tree_completion_tokens" in each for each in output)
    tokens = counts(None if tree else [each.get("completion_tokens") for each in output], solutions)
    return Record(
        id="",
        prompt=text(row, "question"),
        answer=scalar(row, "groundtruth"),
        candidates=[
            Written(solution, spoken=untagged(solution), tokens=tokens[i], scores=_scores(output, i))
            for i, solution in enumerate(solutions)
        ],
        generated=_total(row.get("result")),
    )


def _scores(output: list[Any], index: int) -> dict[str, tuple[float, ...]]:
    value = output[index].get("value")
    if value is None or (len(output) == 1 and value in (0, [0])):
        return {}
    return {VERIFIER: values(value, f"the value of entry {index} of field 'output'")}


def _total(result: object) -> int | None:
    total = result.get("total_completion_tokens") if isinstance(result, dict) else None
    return None if total is None else whole(total, "field 'total_completion_tokens'")
