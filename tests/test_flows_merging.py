"""State merging on the bundled model, through the work of a run: stored, charged, and the same when it is replayed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows import audit, work
from flows.figures.curves import Point
from flows.figures.merging import Pair, better, bootstrap, saved
from flows.parts import spec
from store import queries
from store.database import open_database

PROBLEMS = "countdown:split=test,count=2,seed=1"


@pytest.mark.parametrize("how", ["how=embedding,distance=0.02", "how=equation"])
def test_a_merged_run_is_stored_charged_and_replayed(how: str, tmp_path: Path) -> None:
    asked = spec(PROBLEMS, f"fetch:of=beam,{how},score=one,n=6,keep=3", step_tokens=40, tokens=160)
    with open_database(str(tmp_path / "runs.db")) as database:
        run_id = work.evaluate(database, asked)
        attempts = queries.attempts(database, run_id)
        assert [a.status for a in attempts] == ["done", "done"]
        merged = [c for c in queries.candidates(database, run_id, limit=None) if c.cause.startswith("says what ")]
        assert merged
        assert {c.state for c in merged} <= {"merged", "live", "finished", "pruned"}
        assert ((queries.summary(database, run_id).embedding_tokens or 0) > 0) == ("embedding" in how)
        assert audit.run(database, run_id, None, json=True) == 0


def test_the_figure_pairs_the_problems_it_compares() -> None:
    """Drawn apart, the two would differ by the luck of the problems; and a saving has its direction."""
    right = np.array([1.0, 0.0, 1.0, 1.0])
    plain = Point("beam", right, np.array([10.0, 20, 30, 40]), np.array([4.0, 4, 4, 4]))
    merged = Point("fetch", right, np.array([5.0, 10, 15, 20]), np.array([2.0, 2, 2, 2]))
    pair = Pair(plain, merged, 0.0, 0.0)
    assert bootstrap(saved(pair, "tokens"), 4) == (2.0, 2.0, 2.0)
    assert bootstrap(saved(pair, "passes"), 4) == (2.0, 2.0, 2.0)
    assert bootstrap(better(pair), 4) == (0.0, 0.0, 0.0)
    free = Pair(plain, Point("fetch", right, plain.tokens, np.zeros(4)), 0.0, 0.0)
    assert np.isnan(saved(free, "passes")(np.arange(4)))
