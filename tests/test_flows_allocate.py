"""A plan from a stored pilot: what it reads, what it costs, and that the run that follows it is the pilot's and more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows import allocate, work
from flows.allocate import Wish, followed, plan, read
from flows.parts import spec
from search.strategies.allocated import planned
from store import queries
from store.database import Database, open_database
from store.errors import StoreError
from store.runs import Run, find_run, list_runs

PILOT = "best-of-n:n=2"


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Run]]:
    database = str(tmp_path_factory.mktemp("allocate") / "runs.db")
    with open_database(database) as opened:
        run_id = work.evaluate(opened, spec("guess:count=6", PILOT, "self-certainty", tokens=120), "pilot")
        yield database, find_run(opened, run_id)


def opened_at(pilot: tuple[str, Run]) -> Database:
    return open_database(pilot[0], create=False)


def test_the_run_that_follows_begins_with_the_pilots_samples_and_has_the_mean_asked_for(pilot: tuple[str, Run]) -> None:
    with opened_at(pilot) as opened:
        pools = read(opened, pilot[1])
        groups = plan(pools, Wish(samples=3, bins=3, most=8))
        asked = followed(pilot[1].spec, pools, groups, "majority")
        run_id = work.evaluate(opened, asked, "planned")
        before = {row.problem: row for row in queries.attempts(opened, pilot[1].id)}
        after = {row.problem: row for row in queries.attempts(opened, run_id)}
        assert set(before) == set(after) == set(pools)
        sizes = planned(str(asked.strategy.params["plan"]))
        assert {problem: row.candidates for problem, row in after.items()} == dict(sizes)
        mean = sum(sizes.values()) / len(sizes)
        assert 2 < mean <= 3
        texts = {id: [(c.path, c.text) for c in queries.candidates(opened, id, limit=None)] for id in (pilot[1].id, run_id)}
        assert set(texts[pilot[1].id]) <= set(texts[run_id])


def test_a_plan_is_the_same_whatever_the_verdicts_were(pilot: tuple[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate must not come from the reference: attempts with every verdict turned round give the same plan."""
    wish = Wish(samples=4, bins=3)
    with opened_at(pilot) as opened:
        once = plan(read(opened, pilot[1]), wish)
        turned = [replace(row, correct=not row.correct, verdict="turned") for row in queries.attempts(opened, pilot[1].id)]
        monkeypatch.setattr(queries, "attempts", lambda *_: turned)
        assert plan(read(opened, pilot[1]), wish) == once


@pytest.mark.parametrize("by", ["agreement", "entropy", "verifier", "certainty"])
def test_every_estimate_plans_within_the_budget(pilot: tuple[str, Run], by: str) -> None:
    with opened_at(pilot) as opened:
        pools = read(opened, pilot[1])
    tokens = sum(entry.tokens for pool in pools.values() for entry in pool) / len(pools)
    groups = plan(pools, Wish(tokens=3 * tokens, by=by, bins=2))
    more = sum(group.more * group.cost * len(group.problems) for group in groups)
    assert 0 < more <= 2 * tokens * len(pools) + 1e-6
    smallest = min(group.cost * len(group.problems) for group in groups if group.more < 62)
    assert more > 2 * tokens * len(pools) - smallest


def test_what_cannot_be_planned_is_said(pilot: tuple[str, Run]) -> None:
    with opened_at(pilot) as opened:
        pools = read(opened, pilot[1])
        run_id = work.evaluate(opened, spec("guess:count=2", "first-finish:n=2", "self-certainty", tokens=120), "other")
        with pytest.raises(ValueError, match="a pilot is a run of best-of-n or allocated, not of first-finish"):
            read(opened, find_run(opened, run_id))
    with pytest.raises(ValueError, match=r"the pilot has 2\.0 samples a problem already"):
        plan(pools, Wish(samples=1))
    with pytest.raises(ValueError, match="give the mean of one of samples"):
        Wish()
    with pytest.raises(ValueError, match="give the mean of one of samples"):
        Wish(samples=3, tokens=100)
    with pytest.raises(ValueError, match="the mean must be a number above 0"):
        Wish(samples=0)
    with pytest.raises(StoreError, match="no problem that is done"):
        plan({}, Wish(samples=3))


def test_a_dry_run_shows_the_plan_and_starts_nothing(pilot: tuple[str, Run], capsys: pytest.CaptureFixture[str]) -> None:
    def count() -> int:
        with opened_at(pilot) as opened:
            return len(list_runs(opened))

    before = count()
    assert allocate.run(pilot[0], "pilot", Wish(samples=3, bins=2), "majority", "", plain=True, dry=True) == []
    shown = capsys.readouterr().out
    assert "samples a problem, by agreement in the pilot (no reference is read)" in shown
    assert "samples a problem, the pilot's among them" in shown
    assert count() == before


def test_a_plan_travels_in_the_spec_and_makes_its_id(pilot: tuple[str, Run]) -> None:
    with opened_at(pilot) as opened:
        pools = read(opened, pilot[1])
    specs = [followed(pilot[1].spec, pools, plan(pools, Wish(samples=n, bins=3)), "majority") for n in (3, 3, 5)]
    assert specs[0].id == specs[1].id != specs[2].id
    assert type(specs[0]).from_json(specs[0].json()).id == specs[0].id
    assert set(json.loads(str(specs[0].strategy.params["plan"]))) <= {str(n) for n in range(2, 65)}
