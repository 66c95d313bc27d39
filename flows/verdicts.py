"""What came of a run's answers: how many of each verdict, and a warning where the graders failed."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from flows.show import oneline
from store import queries
from store.schema import VERDICTS

if TYPE_CHECKING:
    from store.database import Database


def line(opened: Database, run_id: str) -> str:
    """The counts, as "correct 12, wrong 30, unparsed 3"; "" where all answers are correct or wrong, or none is graded."""
    counts = Counter(row.verdict for row in queries.attempts(opened, run_id) if row.verdict is not None)
    if counts.keys() <= {"correct", "wrong"}:
        return ""
    return ", ".join(f"{name} {counts[name]}" for name in VERDICTS if counts[name] or name in ("correct", "wrong"))


def warn(opened: Database, run_id: str) -> None:
    """A line on stderr where answers have the verdict `error`: they count as wrong, and are not the model's fault. Why is not
    stored, so the first problem is named."""
    rows = [row for row in queries.attempts(opened, run_id) if row.verdict == "error"]
    if rows:
        first = rows[0]
        sys.stderr.write(
            f"warning: run {run_id}: {len(rows)} answers could not be graded and count as wrong (verdict error); the first is "
            f"of problem {oneline(first.problem, 60)}, by grader '{first.grader}': look at its reference\n"
        )


__all__ = ["line", "warn"]
