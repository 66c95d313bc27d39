"""Steps with labels, to train a process reward model on: TRL's type "stepwise supervision" (huggingface/trl at f2cd577,
`docs/source/dataset_formats.md` and `trl/experimental/prm/prm_trainer.py`).

{"prompt": "What is 6 times 7?", "completions": ["6 * 7 is 42", "So the answer is 42"], "labels": [true, true]}

A row is a solution, or its beginning as far as each step has `--least` whole solutions below it; equal ones are one row. Labels
are estimated from the solutions below a step, as `trie.py` says, with what pruning does to them. With --soft they are shares in
[0, 1]: TRL's own trainer cuts those to whole numbers, and wants a loss of one's own.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from . import dataset
from .attempts import Source
from .judging import judging
from .told import Exported, Options
from .trie import Branch, Steps, grown, longest

HARD = "A step's label is true where any whole solution below it is right (hard estimation, Math-Shepherd)."
SOFT = "A step's label is the share of the whole solutions below it that are right (soft estimation, Math-Shepherd)."
BIAS = (
    "The solutions are those that the runs' searches made. Where a search pruned, they are those that its verifier let live: "
    "labels of a pruned tree lean towards that verifier's opinion, mostly upwards, and a step that was pruned has none. "
    "Solutions that a budget or a stop rule cut count for nothing; those that reached their own length are wrong."
)


def write(source: Source, place: Path, options: Options, made: Exported) -> None:
    """Fills the folder `place`."""
    import pyarrow as pa

    kind = pa.float64() if options.soft else pa.bool_()
    columns = {"prompt": pa.string(), "completions": pa.list_(pa.string()), "labels": pa.list_(kind)}
    runs, counts = dataset.taken(source, options, made), Counter[str]()
    with dataset.rows(place, pa.schema(columns), made) as rows, judging() as judge:
        for attempts in dataset.problems(source, runs, options, made):
            tree = grown(attempts, judge)
            dataset.count(tree, made, counts)
            found = list(longest(tree.root, options.least))
            if options.unpruned:
                whole = [row for row in found if not any(branch.cut for branch in row[1])]
                made.left_out["rows below which something was cut"] += len(found) - len(whole)
                found = whole
            kept = balanced(found) if options.balance else found
            made.left_out["rows that had no counterpart"] += len(found) - len(kept)
            counts["problems"] += bool(kept)
            for steps, branches in kept:
                labels = [branch.share if options.soft else branch.right > 0 for branch in branches]
                rows.add({"prompt": tree.question, "completions": [made.text(step) for step in steps], "labels": labels})
                counts["steps"] += len(steps)
                counts["rows whose every step may lead to a right answer"] += all(labels)
                counts["steps that no right solution is below"] += sum(not label for label in labels)
    rule = f"{SOFT if options.soft else HARD} Each step has at least {options.least} of them. {BIAS}"
    dataset.card(place, source, runs, options, made, rule, {"rows": rows.count, **counts})
    if options.soft:
        made.note("labels are shares: TRL's PRMTrainer makes whole numbers of them, 0 below 1")


def balanced(rows: list[tuple[Steps, list[Branch]]]) -> list[tuple[Steps, list[Branch]]]:
    """As many rows whose every step has a right solution below it as rows with a step that has none, of one problem: the first
    of each, so that how hard a problem is tells nothing."""
    good = [row for row in rows if all(branch.right for branch in row[1])]
    bad = [row for row in rows if not all(branch.right for branch in row[1])]
    each = min(len(good), len(bad))
    keep = {row[0] for row in (*good[:each], *bad[:each])}
    return [row for row in rows if row[0] in keep]


__all__ = ["balanced", "write"]
