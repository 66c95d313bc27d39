"""Workers killed at every commit point, at random, stopped and taken over from: what is in the database in the end is, row for
row, what a run leaves that nobody disturbed. The long form is `make soak`.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from crashes import (
    CACHE,
    Files,
    Nursery,
    Place,
    Server,
    Setting,
    Stage,
    contents,
    fruitless,
    in_order,
    lease_rows,
    stored,
    tries,
)
from postgres import Postgres

from flows.parts import spec as spec_of
from pipelines.problems.load import load_problems
from search.strategies import STRATEGIES
from store.leases import BEAT, STALE
from store.schema import TRIES

pytestmark = pytest.mark.crash

# one of each shape of search: every other strategy asks in one of these ways, and the laws hold for all
SETTINGS = {
    "astar": Setting.fake("astar", 3, k=2),
    "beam": Setting.fake("beam", 3, n=4, keep=2),
    "best-of-n": Setting.fake("best-of-n", 8, n=3, select="weighted"),
    "first-finish": Setting.fake("first-finish", 8, n=3),
    "greedy": Setting.fake("greedy", 8),
    "particles": Setting.fake("particles", 3, n=3),
    "stochastic-beam": Setting.fake("stochastic-beam", 2, n=2),
}
# commit points where each is killed, on each database: may grow, not shrink
POINTS = {"astar": 48, "beam": 46, "best-of-n": 36, "first-finish": 36, "greedy": 40, "particles": 30, "stochastic-beam": 30}
RANDOM_KILLS = 100  # on each database
ELSEWHERE = "elsewhere/0/1/1"  # an owner of which only its heartbeat tells whether it lives
COUNTED: Counter[str] = Counter()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


@pytest.fixture(scope="module")
def loaded() -> Iterator[Nursery]:
    """One for the bundled models, which it loads once and never computes with."""
    with Nursery() as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def printed(request: pytest.FixtureRequest) -> Iterator[None]:
    """How many kills there were, at the end."""
    yield
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    if not COUNTED:
        return
    with capture.global_and_fixture_disabled():
        said = ", ".join(f"{count} {what}" for what, count in COUNTED.items())
        print(f"\n{sum(COUNTED.values())} kills: {said}")  # noqa: T201


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield Files(tmp_path)
        return
    server = request.getfixturevalue("postgres")
    url = server.url("crashes")
    yield Server(url)
    server.drop(url)


def killed_at_every_point(stage: Stage, of: str) -> int:
    """Kills a worker at each commit point in turn, the next one at another point, and lets the third end; how many points."""
    for at in itertools.count(1):
        where = stage.fresh()
        if not stage.run(where, crash_at=at, in_step=True).killed:
            stage.check_end(where)
            return at - 1
        COUNTED[f"at the commit points of {of}"] += 1
        second = Random(f"{of} {at}").randint(1, max(stage.points - at, 1) + 4)
        if tries(where) == TRIES - 1:
            second = 0  # one that failed twice by itself would be closed with its worker's death, and not by its third try
        if stage.run(where, crash_at=second, in_step=at % 2 == 0).killed:
            COUNTED["in recoveries"] += 1
            stage.run(where)
        stage.check_end(where)
    raise AssertionError


def test_every_strategy_is_killed_and_the_kills_do_not_shrink() -> None:
    assert set(SETTINGS) == set(POINTS) <= set(STRATEGIES)
    assert sum(POINTS.values()) >= 200


@pytest.mark.parametrize("name", SETTINGS)
def test_killed_at_every_commit_point_and_again_in_the_recovery_a_run_ends_as_if_it_had_not_been(
    nursery: Nursery, place: Place, name: str
) -> None:
    assert killed_at_every_point(Stage(nursery, place, SETTINGS[name]), name) >= POINTS[name]


def test_a_strategy_that_raises_fails_after_three_tries_wherever_its_worker_is_killed(nursery: Nursery, place: Place) -> None:
    stage = Stage(nursery, place, Setting.fake("failing", 1))
    assert {row["status"] for row in stage.whole["attempt"]} == {"failed"}
    assert killed_at_every_point(stage, "a failing strategy") >= 16


def test_two_workers_that_are_killed_while_they_share_the_shards_of_a_run(nursery: Nursery, place: Place) -> None:
    stage = Stage(nursery, place, Setting.fake("beam", 6, shard=2, n=4, keep=2))
    random = Random(1)
    for at in range(1, stage.points, 9):
        where = stage.fresh()
        before = stored(where)
        pair = [stage.start(where, crash_at=point) for point in (at, random.randint(1, stage.points))]
        endings = [child.wait() for child in pair]
        for ending in endings:
            assert ending.killed or ending.code == 0, ending.traceback
        COUNTED["of workers side by side"] += sum(ending.killed for ending in endings)
        stage.check(where, endings, before)
        endings.append(stage.run(where))
        stage.check_end(where)
        in_order(endings)


def test_killed_at_random_moments_nothing_is_torn_lost_or_twice(nursery: Nursery, place: Place) -> None:
    stage = Stage(nursery, place, Setting.fake("astar", 6, k=3))
    random, kills, where, wasted, runs = Random(0), 0, "", 0, 0
    while kills < RANDOM_KILLS or where:
        runs += 1
        assert runs < 20 * RANDOM_KILLS, f"{kills} kills in {runs} runs: they end before they are killed"
        where = where or stage.fresh()
        # a problem that its worker dies of three times has failed: no run is killed a third time before it wrote anything
        again = kills < RANDOM_KILLS and wasted < 2
        if stage.run(where, kill_after=random.uniform(0, 0.06) if again else None).killed:
            kills += 1
            wasted += fruitless(where)
        else:
            stage.check_end(where)
            where, wasted = "", 0
    COUNTED["at random moments"] += kills


@pytest.mark.parametrize("strategy", ["beam:n=4,keep=2", "best-of-n:n=3,select=weighted"])
def test_the_bundled_models_write_the_same_after_kills(loaded: Nursery, tmp_path: Path, strategy: str) -> None:
    spec = spec_of("word:count=4,levels=2-4,seed=3", strategy)
    setting = Setting(spec, tuple(load_problems(spec.problems)), model="bundled")
    stage = Stage(loaded, Files(tmp_path), setting, without=frozenset(CACHE))
    for at in (5, stage.points // 2, stage.points - 3):
        where = stage.fresh()
        assert stage.run(where, crash_at=at, in_step=True).killed
        COUNTED["on the bundled models"] += 1
        stage.run(where)
        stage.check_end(where)


def test_a_problem_that_kills_its_worker_fails_and_takes_no_other_with_it(nursery: Nursery, place: Place) -> None:
    stage = Stage(nursery, place, SETTINGS["beam"])
    where, poison = stage.fresh(), stage.whole["attempt"][1]["id"]
    deaths = 0
    while stage.run(where, poison=poison, in_step=True).killed:
        deaths += 1
        assert deaths < 20
    COUNTED["by a problem"] += deaths
    found = contents(where)
    failed = [row["id"] for row in found["attempt"] if row["status"] == "failed"]
    assert failed == [poison]
    for table in ("candidate", "score", "reply"):
        assert found[table] == [row for row in stage.whole[table] if row["attempt_id"] != poison]


# ------------------------------------------------------------------------------------------------- takeovers and zombies


def test_a_worker_that_was_paused_while_another_took_over_writes_nothing(nursery: Nursery, place: Place) -> None:
    stage = Stage(nursery, place, Setting.fake("beam", 4, n=4, keep=2))
    where = stage.fresh()
    before = stored(where)
    paused = stage.start(where, in_step=True, stop_at=5)
    paused.until("stopped")
    other = stage.run(where, stale=0.5)
    assert other.said("lease")[0][1] == "2"
    stage.check_end(where)
    left = contents(where), lease_rows(where)
    paused.send(signal.SIGCONT)
    ending = paused.wait()
    assert (ending.error[0], ending.code) == ("LeaseLost", 75), ending.traceback
    assert "\n" not in ending.error[1]
    assert (contents(where), lease_rows(where)) == left
    stage.check(where, [ending], before)
    in_order([ending, other])


@pytest.mark.parametrize("at", [1, 2, 12, *(pytest.param(at, marks=pytest.mark.slow) for at in (11, 17))])
def test_a_worker_that_was_paused_in_a_transaction_holds_up_no_other(nursery: Nursery, postgres: Postgres, at: int) -> None:
    """It holds its lease's row locked; the server ends the transaction. (In a SQLite file it holds up all who write.)"""
    stage = Stage(nursery, Server(postgres.url("paused")), SETTINGS["beam"])
    where = stage.fresh()
    paused = stage.start(where, in_step=True, stop_in=at, idle=1.0)
    paused.until("stopped")
    other = stage.run(where, stale=0.5)
    stage.check_end(where)
    left = contents(where)
    paused.send(signal.SIGCONT)
    ending = paused.wait()
    assert ending.error[0] == ("LeaseLost" if at > 2 else ""), (
        ending.traceback
    )  # before: it had no lease yet, and finds no work
    assert contents(where) == left
    in_order([ending, other])
    postgres.drop(where)


def test_a_killed_worker_of_this_host_is_taken_over_from_at_once(nursery: Nursery, place: Place) -> None:
    stage = Stage(nursery, place, SETTINGS["beam"])
    where = stage.fresh()
    first = stage.start(where, pause=0.05)
    first.until("known", 3)
    second = stage.start(where)
    time.sleep(0.3)  # it looks, and finds that the shard is another's
    first.send(signal.SIGKILL)
    killed = time.monotonic()
    first.wait()
    ending = second.wait()
    stage.check_end(where)
    assert float(ending.said("lease")[0][2]) - killed < 2


def takeover(stage: Stage, stale: float, beat: float) -> float:
    """Seconds from the kill of a worker of another host to its shard's being another's."""
    where = stage.fresh()
    first = stage.start(where, owner=ELSEWHERE, pause=0.02, beat=beat)
    first.until("known", 3)
    second = stage.start(where, stale=stale)
    first.until("known", 6)
    first.send(signal.SIGKILL)
    killed = time.monotonic()
    dead = first.wait()
    ending = second.wait()
    assert ending.code == 0, ending.traceback
    stage.check_end(where)
    in_order([dead, ending])
    return float(ending.said("lease")[0][2]) - killed


def test_a_killed_worker_of_another_host_is_taken_over_from_when_its_heart_stands_still(nursery: Nursery, place: Place) -> None:
    stage = Stage(nursery, place, SETTINGS["astar"])
    assert 0.7 < takeover(stage, stale=1.0, beat=0.1) < 3


@pytest.mark.slow
def test_a_killed_worker_of_another_host_is_taken_over_from_within_90_seconds(nursery: Nursery, place: Place) -> None:
    assert 45 < takeover(Stage(nursery, place, SETTINGS["astar"]), STALE, BEAT) < 90
