"""Rows that another run has stored stand in for a generator's, and only where they are the ones that it would have written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from crashes import contents, first_difference
from sums import tokens_match

from flows import audit, work
from flows.parts import spec
from search.types import RunSpec
from store import queries
from store.database import Database, open_database

PROBLEMS = "word:count=6,levels=2-3,seed=3"
POOL = "best-of-n:n=6"
EXACT = ("generated_tokens", "sequential_tokens", "verifier_passes", "candidates")
NEARLY = ("prompt_tokens", "cached_tokens", "flops")  # by what the generator's memory still held


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "runs.db") as opened:
        yield opened


def ran(database: Database, asked: RunSpec, share: bool) -> tuple[str, float]:
    """A run's id, and how many of its tokens were shared."""
    run = work.evaluate(database, asked, share=share)
    return run, queries.summary(database, run).shared_tokens


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        pytest.param("best-of-n:n=3", {}, marks=pytest.mark.slow),
        ("best-of-n:n=6,select=weighted", {}),
        pytest.param("best-of-n:n=4,select=best", {"verifier": "equation"}, marks=pytest.mark.slow),
        ("best-of-n:n=9", {}),  # six rows are there, and three are generated
        ("best-of-n:n=4", {"tokens": 60}),  # a row that ended before is the same; one that was cut is not
        pytest.param("best-of-n:n=4", {"budget": "10k"}, marks=pytest.mark.slow),
        ("adaptive-consistency:n=6", {}),
    ],
)
def test_a_run_that_shares_a_pool_stores_what_it_would_have_stored_without(
    tmp_path: Path, strategy: str, options: dict[str, object]
) -> None:
    asked = spec(PROBLEMS, strategy, **options)  # type: ignore[arg-type]
    for name in ("shared", "alone"):
        with open_database(tmp_path / f"{name}.db") as database:
            work.evaluate(database, spec(PROBLEMS, POOL))
            run, tokens = ran(database, asked, share=name == "shared")
            found = queries.summary(database, run)
            assert (tokens > 0) == (name == "shared")
            assert tokens <= (found.generated_tokens or 0) * found.problems
            assert tokens_match(database, run) == []
            assert audit.run(database, None, replays=None) == 0
        # what the memories of generator and verifier still hold of the runs before decides these
        differ = {
            "shared_tokens",
            "shared_seconds",
            "verifier_tokens",
            "flops",
            "cached_tokens",
            "prompt_tokens",
            "recomputed_tokens",
        }
    alone = contents(str(tmp_path / "alone.db"), without=differ)
    assert first_difference(contents(str(tmp_path / "shared.db"), without=differ), alone) == ""


def test_what_a_strategy_would_have_cost_is_charged_and_what_was_generated_is_told_apart(tmp_path: Path) -> None:
    costs = []
    for share in (True, False):
        with open_database(tmp_path / f"{share}.db") as database:
            work.evaluate(database, spec(PROBLEMS, POOL))
            run, tokens = ran(database, spec(PROBLEMS, "best-of-n:n=3"), share)
            found = queries.summary(database, run)
            costs.append([queries.costs(database, run, names) for names in (EXACT, NEARLY)])
            assert tokens == (round((found.generated_tokens or 0) * found.problems) if share else 0)
            assert found.shared_seconds == (pytest.approx(found.generate_seconds) if share else 0)
    (shared, nearly), (alone, as_nearly) = costs
    assert shared == alone
    for ours, theirs in zip(nearly, as_nearly, strict=True):
        assert ours == pytest.approx(theirs, rel=0.15)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"temperature": 0.7},
        {"stops": ("zzz",)},
        {"generator": "bundled-small"},
        {"flops": 1e12},
        {"strategy": "first-finish:n=4,m=2"},
        {"strategy": "beam:n=4,keep=2"},
        {"problems": "word:count=6,levels=4-5,seed=3"},
    ],
)
def test_nothing_is_shared_where_the_texts_would_be_others(database: Database, other: dict[str, object]) -> None:
    from search.types import Sampling

    work.evaluate(database, spec(PROBLEMS, POOL))
    options = dict(other)
    if "temperature" in options:
        options["sampling"] = Sampling(temperature=float(options.pop("temperature")))  # type: ignore[arg-type]
    words = [options.pop("problems", PROBLEMS), options.pop("strategy", "best-of-n:n=3")]
    _, tokens = ran(database, spec(*words, **options), share=True)  # type: ignore[arg-type]
    assert tokens == 0


def test_nothing_is_shared_with_a_run_of_other_weights_or_of_another_machine(database: Database) -> None:
    from sqlalchemy import text

    pool = work.evaluate(database, spec(PROBLEMS, POOL))
    asked = spec(PROBLEMS, "best-of-n:n=3")
    assert [run.id for run in work.sources(database, asked, work.environment(asked))] == [pool]
    assert work.sources(database, replace(asked, weights="00000000"), work.environment(asked)) == []
    assert work.sources(database, asked, work.environment(asked), known=False) == []
    with database.write() as connection:
        connection.execute(text("UPDATE run SET environment = replace(environment, 'float32', 'bfloat16')"))
    assert work.sources(database, asked, work.environment(asked)) == []
