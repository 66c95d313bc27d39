"""search-and-learn's completions: huggingface/search-and-learn at 6f81cac (Apache).

`scripts/test_time_compute.py` keeps the data set's own fields (problem, answer, unique_id); `src/sal/search/best_of_n.py`
adds completions, scores (a list of a step's scores for each completion), pred (the completion with the highest
aggregate) and completion_tokens; `src/sal/utils/score.py` adds agg_scores, always the last step's, whatever aggregation
the search went by, and pred_*@n, which are votes over the first n and can be replayed. completion_tokens are counts in
best-of-n, 0 throughout in beam search and -1 in DVTS (`beam_search.py`, `diverse_verifier_tree_search.py`): not known.
Beam search fills up with copies where fewer than n ended; they are imported as the candidates they are in the file.
"""

from __future__ import annotations

from .records import Json, Record, Written, counts, number, present, scalar, several, text, texts, values

VERIFIER = "prm"


def record(row: Json, notes: dict[str, str]) -> Record:
    """One line. `problem` and `answer` are the data set's; without unique_id or id, the place is the id."""
    completions = texts(row, "completions")
    scores = several(row, "scores", len(completions)) if row.get("scores") is not None else [None] * len(completions)
    joined = several(row, "agg_scores", len(completions)) if row.get("agg_scores") is not None else []
    tokens = counts(row.get("completion_tokens"), completions)
    pred = row.get("pred")
    if pred is not None and pred not in completions:
        raise ValueError("field 'pred' is none of the completions; take it out where the file was changed")
    return Record(
        id=next((scalar(row, name) for name in ("unique_id", "id") if row.get(name) not in (None, "")), ""),
        prompt=text(row, "problem"),
        answer=_reference(row),
        candidates=[
            Written(
                text=completion,
                tokens=tokens[i],
                scores={} if scores[i] is None else {VERIFIER: values(scores[i], f"entry {i} of field 'scores'")},
                joined={VERIFIER: number(joined[i], f"entry {i} of field 'agg_scores'")} if joined else {},
            )
            for i, completion in enumerate(completions)
        ],
        chosen=None if pred is None else completions.index(pred),
    )


def _reference(row: Json) -> str:
    if "answer" not in row and "solution" in row:  # MATH as it was published
        return text(row, "solution")
    present(row, "answer")
    return scalar(row, "answer")
