"""The long form of the crash and chaos tests: faults in a random mix, on random settings, for some minutes.

    make soak                                    half an hour
    python tests/soak.py --minutes 120
    python tests/soak.py --seed 814 --rounds 1   the round of that seed again

A round takes a setting and a database, disturbs a run until it ends, and compares every row with a run that nobody disturbed;
after each fault what is stored is looked through, and audited. Each round prints its seed; the last line says how many faults
there were. Exit code 1 where a round failed: its seed is printed again.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from crashes import Ending, Files, Nursery, Server, Setting, Stage, fruitless, in_order, restarted_at_random, stored
from postgres import Postgres

from search.strategies import STRATEGIES
from store.database import open_database
from store.leases import BEAT, STALE

FAULTS: Counter[str] = Counter()
PARAMS = {
    "astar": lambda random: {"k": random.randint(2, 4)},
    "beam": lambda random: {"n": 4 * random.randint(1, 2), "keep": random.choice((2, 4))},
    "best-of-n": lambda random: {"n": random.randint(2, 6), "select": random.choice(("majority", "weighted"))},
    "first-finish": lambda random: {"n": random.randint(2, 6)},
    "greedy": lambda random: {},
}
ELSEWHERE = "elsewhere/0/{}/1"  # an owner of which only its heartbeat tells whether it lives


def audited(where: str) -> None:
    """By the program's own audit."""
    with open_database(where, create=False) as database:
        report = importlib.import_module("store.audit").audit(database)
        assert report.clean, report


def any_setting(random: Random) -> Setting:
    name = random.choice([*STRATEGIES])
    problems = random.randint(3, 12)
    return Setting.fake(name, problems, random.choice((2, 4, 64)), **PARAMS[name](random))


# --------------------------------------------------------------------------------------------------------------- rounds


def killed(stage: Stage, random: Random, server: Postgres) -> None:
    """Workers one after another, each killed at a point or at a moment, until one ends."""
    where, wasted = stage.fresh(), 0
    while True:
        how: dict[str, float] = {}
        if wasted < 2:  # a third death before anything was written would be held against a problem
            how = (
                {"crash_at": random.randint(1, stage.points)}
                if random.random() < 0.5
                else {"kill_after": random.uniform(0, 0.06)}
            )
        ending = stage.run(where, in_step=random.random() < 0.3, **how)  # type: ignore[arg-type]
        audited(where)
        if not ending.killed:
            break
        FAULTS["kill -9"] += 1
        wasted += fruitless(where)
    stage.check_end(where)


def crowded(stage: Stage, random: Random, server: Postgres) -> None:
    """Workers side by side, some of them killed or stopped and let go on."""
    where = stage.fresh()
    before, endings = stored(where), list[Ending]()
    workers = [stage.start(where, pause=0.01, stale=0.6, beat=0.1) for _ in range(random.randint(2, 4))]
    for worker in workers[: random.randint(1, 2)]:
        time.sleep(random.uniform(0, 0.2))
        number = random.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        if isinstance(stage.place, Server) and random.random() < 0.3:
            worker.send(signal.SIGSTOP)
            time.sleep(random.uniform(0, 1.5))
            number = signal.SIGCONT
        worker.send(number)
        FAULTS[signal.Signals(number).name] += 1
    endings += [worker.wait() for worker in workers]
    for ending in endings:
        fine = ending.killed or ending.code == 0 or ending.error[0] in ("_Stopped", "LeaseLost")
        assert fine or ending.code in (-signal.SIGTERM, -signal.SIGINT), ending.traceback
    stage.check(where, endings, before)
    endings.append(stage.run(where))
    audited(where)
    stage.check_end(where)
    in_order(endings)


def paused(stage: Stage, random: Random, server: Postgres) -> None:
    """A worker stops in the middle, another takes over, and the first one goes on."""
    where = stage.fresh()
    first = stage.start(where, in_step=True, stop_at=random.randint(1, 3))
    first.until("stopped")
    other = stage.run(where, stale=0.5)
    FAULTS["zombie"] += 1
    first.send(signal.SIGCONT)
    ending = first.wait()
    assert ending.error[0] in ("LeaseLost", ""), ending.traceback
    audited(where)
    stage.check_end(where)
    in_order([ending, other])


def full(stage: Stage, random: Random, server: Postgres) -> None:
    """The disk is full, again and again, a little later each time."""
    where, pages = stage.fresh(), 20
    while True:
        pages += random.randint(1, 6)
        before = stored(where)
        ending = stage.start(where, most_pages=pages).wait()
        assert ending.code in (0, 74), ending.traceback
        stage.check(where, [ending], before)
        audited(where)
        if not ending.code:
            break
        FAULTS["disk full"] += 1
    stage.check_end(where)


def restarted(stage: Stage, random: Random, server: Postgres) -> None:
    """The server comes and goes under four workers."""
    where = stage.fresh()
    long = random.random() < 0.2
    workers = [stage.start(where, pause=1.0 if long else 0.1) for _ in range(4)]
    for worker in workers:
        worker.until("point")
    between, down = ((5, 20), (0, 5)) if long else ((0.5, 3), (0, 1))
    FAULTS["server stopped"] += restarted_at_random(server, workers, random, between, down)
    endings = [worker.wait() for worker in workers]
    for ending in endings:
        assert ending.code == 0, ending.traceback
    audited(where)
    stage.check_end(where)
    in_order(endings)


def elsewhere(stage: Stage, random: Random, server: Postgres) -> None:
    """A worker of another host is killed; its shard is another's within 90 s."""
    where = stage.fresh()
    real = random.random() < 0.1
    stale, beat = (STALE, BEAT) if real else (1.0, 0.1)
    first = stage.start(where, owner=ELSEWHERE.format(random.randint(1, 9)), pause=0.02, beat=beat)
    first.until("known")
    first.send(signal.SIGKILL)
    died = time.monotonic()
    endings = [first.wait()]
    FAULTS["kill -9 on another host"] += 1
    endings.append(stage.start(where, stale=stale).wait(240))
    assert endings[1].code == 0, endings[1].traceback
    assert all(float(at) - died < 90 for *_, at in endings[1].said("lease")[:1])
    audited(where)
    stage.check_end(where)
    in_order(endings)


ROUNDS: dict[str, tuple[int, Callable[[Stage, Random, Postgres], None]]] = {
    "killed": (8, killed),
    "crowded": (4, crowded),
    "paused": (2, paused),
    "full": (1, full),
    "restarted": (2, restarted),
    "elsewhere": (1, elsewhere),
}


def one_round(nursery: Nursery, server: Postgres, seed: int) -> str:
    """What was done, in one line."""
    random = Random(seed)
    name = random.choices([*ROUNDS], [weight for weight, _ in ROUNDS.values()])[0]
    on_server = name == "restarted" or (name != "full" and random.random() < 0.5)
    setting = any_setting(random)
    if name == "restarted":
        setting = Setting.fake("beam", random.randint(16, 32), 4, n=4, keep=2)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        url = server.url("soak") if on_server else ""
        place = Server(url) if on_server else Files(Path(folder))
        stage = Stage(nursery, place, setting)
        ROUNDS[name][1](stage, random, server)
        if on_server:
            server.drop(url)
    return f"{name}, {setting.spec.strategy}, {'PostgreSQL' if on_server else 'SQLite'}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Disturbs runs at random, and compares what they leave.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()) % 1_000_000, help="of the first round; the next has one more"
    )
    parser.add_argument("--rounds", type=int, default=0, help="at most so many; 0 = as the minutes allow")
    asked = parser.parse_args(words)
    until, seed, failed = time.monotonic() + 60 * asked.minutes, asked.seed, list[int]()
    with Nursery() as nursery, Postgres() as server:
        while time.monotonic() < until and (not asked.rounds or seed < asked.seed + asked.rounds):
            began = time.monotonic()
            try:
                said = one_round(nursery, server, seed)
            except Exception:
                failed.append(seed)
                said = f"FAILED\n{traceback.format_exc()}"
            print(f"seed {seed}: {said}, {time.monotonic() - began:.1f} s", flush=True)  # noqa: T201
            seed += 1
    total = ", ".join(f"{count} {what}" for what, count in FAULTS.items())
    print(f"{seed - asked.seed} rounds, {sum(FAULTS.values())} faults ({total}), {len(failed)} failed {failed or ''}")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
