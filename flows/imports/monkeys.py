"""Large Language Monkeys' samples: ScalingIntelligence/large_language_monkeys, `llmonk/generate/gsm8k.py`, `MATH.py` and
`llmonk/evaluate/math_datasets.py`; the same fields in nishadsinghi/sc-genrm-scaling at 1d310ee (Apache),
`llmonk/generate/generate_solutions.py`.

A YAML file a problem, named by its number: question, prompt (the few examples in front of it), samples, gt_answer (the
data set's whole solution, with #### or \\boxed{}; for AIME the answer), and is_corrects once it was evaluated. No counts of
tokens, no scores: GenRM's verifications are in folders of their own, and are not read. is_corrects is a grader's verdict:
it is compared with ours and kept from the selectors.
"""

from __future__ import annotations

from .records import Json, Record, Written, kind, scalar, several, text, texts


def record(row: Json, notes: dict[str, str]) -> Record:
    """One file; its name is the problem's id."""
    samples = texts(row, "samples")
    verdicts = several(row, "is_corrects", len(samples)) if row.get("is_corrects") is not None else [None] * len(samples)
    bad = next((i for i, each in enumerate(verdicts) if each is not None and not isinstance(each, bool)), None)
    if bad is not None:
        raise ValueError(f"entry {bad} of field 'is_corrects' must be true or false, not {kind(verdicts[bad])}")
    return Record(
        id=notes["stem"],
        prompt=text(row, "question"),
        answer=scalar(row, "gt_answer"),
        candidates=[Written(sample, right=right) for sample, right in zip(samples, verdicts, strict=True)],
    )
