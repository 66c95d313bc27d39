"""A problem a line with all its whole solutions, in the format that `ponderosa import --format ponderosa` reads.

{"id": "six", "problem": "What is 6 times 7?", "answer": "42", "style": "math", "chosen": 0, "candidates": [{"text": "...",
 "answer": "42", "token_ids": [...], "logprob": -1.5, "certainty": 3.1, "finished": true, "scores": {"prm": [0.9, 0.8]}}],
 "run": "...", "paths": ["0"], "correct": [true], "joins": {"prm": "min"}, "steps": [...]}

What stands behind the candidates is for other readers; an import passes over it. `steps` is there with --steps: every
candidate, pruned ones too, its own step only. Of several runs the ids begin with the run's, since an import wants each once. A
field is left out where it is not known for all the candidates of a problem, as an import wants it. All texts are exact: JSON
can write what UTF-8 cannot hold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from search.types import Finish, Join
from search.types import Path as Place
from verifiers.extract import style_of

from .attempts import Attempt, Source
from .judging import Judge, judging
from .told import Exported, Options


def write(source: Source, place: Path, options: Options, made: Exported) -> None:
    """Writes the file `place`."""
    rows = 0
    joins: set[str] = set()
    with place.open("x", encoding="ascii", newline="\n") as file, judging() as judge:
        for run in source.runs:
            for attempt in source.attempts(run):
                if not attempt.wholes:
                    made.left_out["problems without a whole solution"] += 1
                    continue
                line = _line(attempt, judge, options.steps, source.several)
                joins |= set(line["joins"].values())
                file.write(json.dumps(line, allow_nan=False) + "\n")
                rows += 1
    made.files[made.output] = rows
    for join in sorted(joins - {Join.MIN.value}):
        made.note(f"scores of steps became one by '{join}': import them with --join {join}")


def _line(attempt: Attempt, judge: Judge, steps: bool, several: bool) -> dict[str, Any]:
    problem, wholes, right = attempt.problem, attempt.wholes, judge(attempt)
    candidates = [_candidate(attempt, path) for path in wholes]
    for name in ("token_ids", "tokens", "logprob", "certainty"):
        if any(each.get(name) is None for each in candidates):
            for each in candidates:
                each.pop(name, None)
    line: dict[str, Any] = {
        "id": f"{attempt.run.id}/{problem.id}" if several else problem.id,
        "problem": problem.prompt,
        "answer": problem.answer,
        "source": problem.source,
        "style": style_of(problem.meta),
    }
    if attempt.chosen in wholes:
        line["chosen"] = wholes.index(attempt.chosen)
    line |= {
        "candidates": candidates,
        "run": attempt.run.id,
        "paths": wholes,
        "correct": [right.get(path) for path in wholes],
        "joins": {row.verifier: row.join_rule for path in wholes for row in attempt.scores.get(path, ())},
    }
    return line | {"steps": [_step(attempt, path) for path in attempt.nodes]} if steps else line


def _candidate(attempt: Attempt, path: Place) -> dict[str, Any]:
    node = attempt.nodes[path]
    found: dict[str, Any] = {
        "text": attempt.text(path),
        "finished": node.finish is Finish.END,
        "token_ids": attempt.ids(path),
        "tokens": attempt.tokens(path),
        "logprob": attempt.logprob(path),
        "certainty": attempt.certainty(path),
    }
    if node.answer is not None:
        found["answer"] = node.answer
    scores = {row.verifier: json.loads(row.parts) for row in attempt.scores.get(path, ())}
    if known := {name: parts for name, parts in scores.items() if parts}:
        found["scores"] = known
    return found


def _step(attempt: Attempt, path: Place) -> dict[str, Any]:
    node = attempt.nodes[path]
    return {
        "path": path,
        "text": node.text,
        "tokens": node.tokens,
        "token_ids": node.ids,
        "prompt": node.prompt,
        "finish": node.finish.value,
        "state": node.state,
        "cause": node.cause,
        "answer": node.answer,
        "answer_reason": node.answer_reason,
        "logprob": node.logprob,
        "certainty": node.certainty,
        "scores": {row.verifier: row.value for row in attempt.scores.get(path, ())},
    }


__all__ = ["write"]
