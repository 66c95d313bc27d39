"""The lm-evaluation-harness' samples: EleutherAI/lm-evaluation-harness at 4e7e0d4 (MIT), `lm_eval/evaluator.py` and
`lm_eval/loggers/evaluation_tracker.py`.

A file samples_TASK_DATE.jsonl a task, a line a document and filter: doc_id, doc (the data set's row), target (text),
arguments (gen_args_0.arg_0 is the prompt), resps (for each request the texts of its repeats), filtered_resps (what the
filter made of them), filter, metrics (their names) and each metric's number under its name. Of several filters the file's
first is taken: all of them have the same texts. A filter's extraction is an answer; "[invalid]" is none. Where a filter made
one answer of several texts, as a vote does, that is the choice: the first text that gives it. Documents that were scored by
log-likelihood have no texts, and are refused. No counts of tokens.
"""

from __future__ import annotations

import re
from typing import Any

from .records import Json, Record, Written, kind, present, scalar, several, text, whole

QUESTIONS = ("question", "problem", "prompt", "input", "query")
NAME = re.compile(r"samples_(?P<task>.+?)(?:_\d{4}-\d{2}-\d{2}T[\d.:-]+)?")
INVALID = "[invalid]"
WHICH = "field 'doc_id'"


def record(row: Json, notes: dict[str, str]) -> Record | None:
    """One line; None for one of another filter than the file's first."""
    named = str(row.get("filter", "none"))
    if notes.setdefault("filter", named) != named:
        return None
    resps = _responses(row)
    filtered = row.get("filtered_resps")
    answers = filtered if isinstance(filtered, list) and len(filtered) == len(resps) else [None] * len(resps)
    match = NAME.fullmatch(notes["stem"])
    task = match["task"] if match else notes["stem"]
    listed = row.get("metrics")
    metrics = [str(m) for m in listed if isinstance(row.get(str(m)), (int, float))] if isinstance(listed, list) else []
    lone = len(resps) == 1
    made = filtered[0] if not lone and isinstance(filtered, list) and len(filtered) == 1 else None
    chosen = 0 if lone else resps.index(made) if made in resps else None  # what the harness graded
    right = _verdict(row, metrics)
    return Record(
        id=f"{task}/{whole(present(row, 'doc_id'), WHICH)}",
        prompt=_question(row),
        answer=scalar(row, "target"),
        candidates=[_written(each, answers[i], right if i == chosen else None) for i, each in enumerate(resps)],
        source=f"lm-eval/{task}",
        chosen=chosen,
        elected=made if chosen is None and isinstance(made, str) and made != INVALID else None,
    )


def _responses(row: Json) -> list[str]:
    resps = several(row, "resps")
    of_first = resps[0] if len(resps) == 1 and isinstance(resps[0], list) else resps
    if not all(isinstance(each, str) for each in of_first):
        raise ValueError("field 'resps' has no texts: the task is scored by log-likelihood, and has no candidates to import")
    return list(of_first)


def _written(response: str, answer: Any, right: bool | None) -> Written:
    if not isinstance(answer, str) or answer == response:  # no filter, or one that extracts nothing
        return Written(response, right=right)
    if answer == INVALID or not answer.strip():
        return Written(response, unsaid=f"the file's filter found {answer[:40]!r}", right=right)
    return Written(response, said=answer, right=right)


def _verdict(row: Json, metrics: list[str]) -> bool | None:
    """What the harness made of it, where it has one metric of right and wrong."""
    values = {float(row[name]) for name in metrics}
    return values == {1.0} if len(values) == 1 and values <= {0.0, 1.0} else None


def _question(row: Json) -> str:
    """The document's question, else the prompt of the request."""
    doc = present(row, "doc")
    if not isinstance(doc, dict):
        raise ValueError(f"field 'doc' must be an object, not {kind(doc)}")
    for name in QUESTIONS:
        if isinstance(doc.get(name), str) and doc[name].strip():
            return text(doc, name)
    arguments = row.get("arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    if isinstance(first, dict) and isinstance(first.get("arg_0"), str):
        return text(first, "arg_0")
    raise ValueError(
        f"no field {', '.join(QUESTIONS)} in field 'doc', and no prompt in 'arguments' (fields: {', '.join(doc)[:120]})"
    )
