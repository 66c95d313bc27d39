"""Kills workers at chosen points or at random, and compares what databases hold.

    with Nursery() as nursery:
        stage = Stage(nursery, Files(folder), setting)
        ending = stage.run(stage.fresh(), crash_at=7)   # a child works on the run, and is killed at its 7th commit point
        stage.run(where)                                # another goes on
        stage.check_end(where)                          # every row is as in a run that nobody disturbed

A worker is a forked child that runs the real `work_extent` over a database, with the small language of the fakes or with the
bundled models. It is forked by a process of its own, which has one thread and nothing open: a fork of the tests' process would
take along whatever other tests have left there. Commit points are numbered as they come: just before each transaction
commits, and just after. What a worker does it writes to a file at once, so that it is known of one that was killed.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from random import Random
from typing import Any, Protocol

from fakes import FakeGenerator, FakeVerifier, boxed, by_text, question, spelled
from postgres import Postgres
from sqlalchemy import Connection, delete, event, func, insert, select, text
from sqlalchemy.engine import Engine

from flows import extent, work
from flows.cli import entry
from search.drive import Driver
from search.strategies import STRATEGIES
from search.tree import Tree
from search.types import ROOT, Ask, Choice, Join, Part, Problem, Reply, RunSpec, Until
from store import database as store_database
from store import schema
from store.database import Database, open_database
from store.journal import StoreJournal
from store.leases import BEAT, STALE, Held, Lease, is_dead
from store.leases import claim as store_claim
from store.runs import begin_run

# what differs between two runs of one spec, whoever did them: times, and who did it
TIMES = {"created", "ended", "seconds", "queue_seconds", "generate_seconds", "verify_seconds", "embed_seconds", "store_seconds"}
HOW_IT_WENT = {"tries", "error"}  # a worker that died before it wrote anything is held against what it was at
SKIPPED = {"lease", "session"}
# depend on what the memory of the engine, and of the reward model, still held
CACHE = {"prompt_tokens", "cached_tokens", "recomputed_tokens", "verifier_tokens", "flops"}
LIMIT = 120.0  # seconds that a child may take
Row = dict[str, Any]


# ------------------------------------------------------------------------------------------------------------- the runs


@dataclass(frozen=True)
class FakeModel:
    """What `work` needs of a generator, over the small language."""

    engine: FakeGenerator

    def encode(self, text: str) -> tuple[int, ...]:
        return question(text).tokens

    def plainly(self, text: str) -> tuple[int, ...]:
        return spelled(text)


@dataclass(frozen=True)
class Failing:
    """Asks twice, and raises where it would ask a third time."""

    n: int = 2

    def search(self, tree: Tree) -> Ask[Choice]:
        first = yield from tree.extend([ROOT], n=self.n, until=Until.STEP)
        yield from tree.verify([c for c in first if c.open or c.finished])
        raise RuntimeError("the third request is one too many")


def fake_spec(strategy: str, **params: object) -> RunSpec:
    return RunSpec(Part("fake"), Part("fake"), Part("fake"), Part(strategy, params))


def fake_problems(n: int) -> list[Problem]:
    return [Problem(f"p{i}", f"question p{i}", str(question(f"question p{i}").tokens[1] % 4), "fake") for i in range(n)]


@dataclass(frozen=True)
class Setting:
    """A run that is to be disturbed."""

    spec: RunSpec
    problems: tuple[Problem, ...]
    shard: int = 64
    model: str = "fake"  # or "bundled"

    @classmethod
    def fake(cls, strategy: str, problems: int, shard: int = 64, **params: object) -> Setting:
        return cls(fake_spec(strategy, **params), tuple(fake_problems(problems)), shard)


# ------------------------------------------------------------------------------------------------------------ databases


class Place(Protocol):
    """Where a setting's database is made anew, planned and with nothing done, as often as it is wanted."""

    def plan(self, setting: Setting) -> None: ...

    def fresh(self) -> str: ...


@dataclass
class Files:
    """SQLite files in a folder: a copy of the planned one each time."""

    folder: FilePath
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def plan(self, setting: Setting) -> None:
        with open_database(self.folder / "planned.db") as database:
            begin_run(database, setting.spec, setting.problems, {}, shard=setting.shard)

    def fresh(self) -> str:
        for old in self.folder.glob("run-*"):
            old.unlink()
        made = self.folder / f"run-{next(self._numbers)}.db"
        shutil.copyfile(self.folder / "planned.db", made)
        return str(made)


@dataclass
class Server:
    """One PostgreSQL database, put back each time to what it was when it was planned: faster than a new one."""

    url: str
    _planned: dict[str, list[Row]] = field(default_factory=dict)

    def plan(self, setting: Setting) -> None:
        with open_database(self.url) as database:
            begin_run(database, setting.spec, setting.problems, {}, shard=setting.shard)
            with database.read() as connection:
                for table in schema.metadata.sorted_tables:
                    self._planned[table.name] = [dict(row) for row in connection.execute(select(table)).mappings()]

    def fresh(self) -> str:
        with open_database(self.url) as database, database.write() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                connection.execute(delete(table))
            for table in schema.metadata.sorted_tables:
                if self._planned[table.name]:
                    connection.execute(insert(table), self._planned[table.name])
        return self.url


def contents(where: str, without: Iterable[str] = ()) -> dict[str, list[Row]]:
    """Every row of every table, without times and without who wrote it."""
    out, left_out = {}, TIMES | HOW_IT_WENT | set(without)
    with open_database(where) as database, database.read() as connection:
        for name, table in schema.metadata.tables.items():
            if name in SKIPPED:
                continue
            rows = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            out[name] = [_kept(row, left_out) for row in rows]
    return out


def _kept(row: Mapping[str, Any], left_out: set[str]) -> Row:
    kept = {name: value for name, value in row.items() if name not in left_out}
    if "cost" in kept:
        # a verifier's reply has its tokens, what its memory did not hold, by that name
        memory = {"tokens"} if "verifier_tokens" in left_out and kept.get("kind") == "verify" else set()
        kept["cost"] = {name: value for name, value in json.loads(kept["cost"]).items() if name not in left_out | memory}
    return kept


def first_difference(found: Mapping[str, list[Row]], wanted: Mapping[str, list[Row]]) -> str:
    """Where two contents differ, in one line; '' where they do not."""
    for name, rows in wanted.items():
        if len(found[name]) != len(rows):
            return f"{name}: {len(found[name])} rows, not {len(rows)}"
        for here, there in zip(found[name], rows, strict=True):
            other = {key: (here[key], value) for key, value in there.items() if here[key] != value}
            if other:
                return f"{name}: of {str(here)[:200]} these differ (found, wanted): {other}"
    return ""


@dataclass(frozen=True)
class Stored:
    """What a database holds of its searches."""

    steps: dict[tuple[int, str], int]  # (attempt, path) -> tokens
    replies: Counter[int]
    closed: frozenset[int]
    faults: tuple[str, ...]  # what is not whole, or is there twice

    @property
    def tokens(self) -> int:
        return sum(self.steps.values())


def stored(where: str, integrity: bool = False) -> Stored:
    with open_database(where, create=False) as database, database.read() as connection:
        return _stored(connection, integrity and database.is_sqlite)


def _stored(connection: Connection, integrity: bool) -> Stored:
    c, r, a = schema.candidate.c, schema.reply.c, schema.attempt.c
    steps, numbers = {}, defaultdict(list)
    rows: Counter[tuple[int, int]] = Counter()
    for attempt, path, tokens, reply, number in connection.execute(select(c.attempt_id, c.path, c.tokens, c.reply, c.number)):
        steps[attempt, path] = tokens
        rows[attempt, reply] += 1
        numbers[attempt].append(number)
    for table in (schema.score, schema.embedding):
        asked = select(table.c.attempt_id, table.c.reply).where(table.c.reply.is_not(None))
        rows.update((attempt, reply) for attempt, reply in connection.execute(asked))
    replies: Counter[int] = Counter()
    faults = []
    for attempt, number, count in connection.execute(select(r.attempt_id, r.number, r.count)):
        replies[attempt] += 1
        if (there := rows.pop((attempt, number), 0)) != count:
            faults.append(f"torn: reply {number} of attempt {attempt} has {there} of its {count} rows")
    faults += [f"torn: attempt {attempt} has rows of reply {number}, which is not there" for attempt, number in rows]
    for attempt, minted in numbers.items():
        if sorted(minted) != [*range(len(minted))]:
            faults.append(f"twice or lost: attempt {attempt} minted {minted}")
    closed = frozenset(connection.scalars(select(a.id).where(a.status.in_(schema.CLOSED))))
    if integrity:
        said = connection.scalar(text("PRAGMA integrity_check"))
        faults += [] if said == "ok" else [f"integrity: {said}"]
    return Stored(steps, replies, closed, tuple(faults))


def lease_rows(where: str) -> list[Row]:
    with open_database(where, create=False) as database, database.read() as connection:
        return [dict(row) for row in connection.execute(select(schema.lease)).mappings()]


def fruitless(where: str) -> bool:
    """Whether a dead worker had written nothing since it took its shard on: that is held against what it was at."""
    return any(row["owner"] and not row["progress"] for row in lease_rows(where))


def tries(where: str) -> int:
    """The most tries of any attempt."""
    with open_database(where, create=False) as database, database.read() as connection:
        return int(connection.scalar(select(func.max(schema.attempt.c.tries))) or 0)


# -------------------------------------------------------------------------------------------------------------- a child


@dataclass(frozen=True)
class Job:
    """What a child is to do, and what is to happen to it."""

    where: str
    spec: RunSpec
    crash_at: int = 0  # the commit point where it is killed; 0 = none
    in_step: bool = False  # each commit is a transaction of its own and is waited for: the points are not left to chance
    stop_at: int = 0  # the reply of the generator at which it stops (SIGSTOP), between two transactions
    stop_in: int = 0  # the commit point at which it stops, in its transaction or just after
    poison: int = 0  # the attempt whose first reply kills the worker
    pause: float = 0.0  # seconds a turn of the searches takes
    owner: str = ""
    stale: float = STALE
    beat: float = BEAT
    idle: float = 20.0  # seconds after which a PostgreSQL server ends a transaction that does nothing
    look: float = 0.05  # seconds between two looks at shards that others have
    most_pages: int = 0  # of an SQLite file: a disk that is full
    model: str = "fake"


Say = Callable[..., None]


def put_fakes() -> None:
    """The fakes in place of models and their words. For a process that ends with its job."""
    work.generator_of = lambda part: FakeModel(FakeGenerator(width=3, order="mixed"))  # type: ignore[assignment, return-value]
    work.verifier_of = lambda part: (FakeVerifier(by_text), Join.MIN)  # type: ignore[assignment]
    work.extractor_for = lambda meta: boxed  # type: ignore[assignment]


def _prepare(job: Job, say: Say) -> None:
    """Puts the probes in. The process ends with the job, so nothing is put back."""
    entry.listen()
    if job.model == "fake":
        STRATEGIES["failing"] = Failing
        put_fakes()
    work.PAUSE, work.STALE, extent.STALE = job.look, job.stale, job.stale
    store_database._SERVER_SIDE = re.sub(r"timeout=\d+s", f"timeout={job.idle}s", store_database._SERVER_SIDE)
    _watch_commits(job, say)
    _watch_leases(job, say)
    _watch_searches(job, say)
    if job.most_pages:
        event.listen(Engine, "connect", lambda connection, _: connection.execute(f"PRAGMA max_page_count = {job.most_pages}"))


def _watch_commits(job: Job, say: Say) -> None:
    seen = itertools.count(1)
    write, commit = Database.write, StoreJournal.commit

    def point() -> None:
        number = next(seen)
        if number == job.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == job.stop_in:
            say("stopped")
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread: not a step further
        say("point", number)

    @contextlib.contextmanager
    def counting(self: Database, *how: Any) -> Iterator[Connection]:
        with write(self, *how) as connection:
            yield connection
            point()
        point()

    def in_step(self: StoreJournal) -> int:
        number = commit(self)
        self.written(number)
        return number

    Database.write = counting  # type: ignore[method-assign]
    if job.in_step:
        StoreJournal.commit = in_step  # type: ignore[method-assign]


def _watch_leases(job: Job, say: Say) -> None:
    fence, kept = Lease.fence, Lease.kept

    def claim(database: Database, run_id: str, shard: int, owner: str = "") -> Lease | Held:
        found = store_claim(database, run_id, shard, job.owner or owner, job.stale)
        if isinstance(found, Lease):
            say("lease", found.shard, found.epoch, time.monotonic())
        return found

    def fenced(self: Lease, connection: Connection, progress: int) -> None:
        fence(self, connection, progress)
        say("wrote", self.shard, self.epoch, time.monotonic())  # within the transaction: nobody else's can be between

    work.claim = extent.claim = claim  # type: ignore[assignment]
    Lease.fence = fenced  # type: ignore[method-assign]
    Lease.kept = lambda self: kept(self, job.beat)  # type: ignore[assignment, method-assign]


def _watch_searches(job: Job, say: Say) -> None:
    generated, resume, drive = Driver._generated, Driver._resume, Driver.drive
    made = itertools.count(1)

    def generating(self: Driver) -> list[Any]:
        if job.pause:
            time.sleep(job.pause)
        answered = generated(self)
        for key, request, reply in answered:
            if key == job.poison:
                os.kill(os.getpid(), signal.SIGKILL)
            say("made", key, sum(map(len, reply.steps)), *(row.path for row in request.rows))
            if next(made) == job.stop_at:
                say("stopped")
                os.kill(os.getpid(), signal.SIGSTOP)
        return answered

    def resuming(self: Driver, key: int, reply: Reply | None) -> int:
        if reply is not None:  # the strategy is about to see it: it must be there from now on, whatever happens
            say("known", key, self.journal._replies[key])  # type: ignore[attr-defined]
        return resume(self, key, reply)

    def driving(self: Driver, searches: Any) -> Iterator[Any]:
        for outcome in drive(self, searches):
            if outcome.choice is not None:
                say("ended", outcome.search.key)
            yield outcome

    Driver._generated = generating  # type: ignore[method-assign]
    Driver._resume = resuming  # type: ignore[method-assign]
    Driver.drive = driving  # type: ignore[method-assign]


def _live(job: Job, say: Say) -> int:
    """The child: works on the run until nothing is left; its exit code."""
    try:
        _prepare(job, say)
        with open_database(job.where) as database, work.closing(database, job.spec.id):
            work.through(database, job.spec.id, lambda shards: work.work_extent(database, job.spec, shards))
        say("finished")
        return 0
    except BaseException as error:
        said = "".join(traceback.format_exception(error))
        say("error", type(error).__name__, getattr(error, "exit_code", 1), json.dumps(str(error)), json.dumps(said))
        return int(getattr(error, "exit_code", 1))


def _tend(report: str, job: Job) -> int:
    """In the nursery: forks the child; its process id."""
    if job.model == "bundled":  # loaded once, before the fork; nothing is computed here, so no thread is lost in it
        work.generator_of(job.spec.generator)
        work.verifier_of(job.spec.verifier)
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        out = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        code = _live(job, lambda *words: os.write(out, (" ".join(map(str, words)) + "\n").encode()) and None)
    finally:
        os._exit(code)


def main() -> None:
    """The nursery: reads pickled commands, answers each with a line; its end is the end of its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    living: set[int] = set()
    importlib.import_module("psycopg")  # once here, and not in every child
    while True:
        try:
            command, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        if command == "start":
            answer = _tend(*arguments)
            living.add(answer)
        else:
            answer = _waited(*arguments)
            living.discard(arguments[0])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def _waited(pid: int, seconds: float) -> int:
    """How a child ended, as subprocess has it: its exit code, or minus a signal; -1000 where it was given up."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1000


# ----------------------------------------------------------------------------------------------------- the tests' side


@dataclass(frozen=True)
class Ending:
    """What a child did, by its own words, and how it ended."""

    code: int
    words: tuple[tuple[str, ...], ...]

    def said(self, kind: str) -> list[tuple[str, ...]]:
        return [words[1:] for words in self.words if words[0] == kind]

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def points(self) -> int:
        """Commit points that it passed."""
        return len(self.said("point"))

    @property
    def made(self) -> dict[tuple[int, str], int]:
        """The steps of whole replies: (attempt, path); the tokens of a reply stand with its first."""
        out = {}
        for attempt, tokens, *paths in self.said("made"):
            out |= {(int(attempt), path): 0 for path in paths} | {(int(attempt), paths[0]): int(tokens)}
        return out

    @property
    def known(self) -> dict[int, int]:
        """Replies that each search has gone on from."""
        return {int(attempt): int(replies) for attempt, replies in self.said("known")}

    @property
    def ended(self) -> set[int]:
        return {int(attempt) for (attempt,) in self.said("ended")}

    @property
    def error(self) -> tuple[str, str]:
        """Name and message of what it raised."""
        found = self.said("error")
        return (found[0][0], found[0][2]) if found else ("", "")

    @property
    def traceback(self) -> str:
        found = self.said("error")
        return str(json.loads(found[0][3])) if found else ""


@dataclass
class Child:
    """A worker that may be living."""

    nursery: Nursery
    pid: int
    report: FilePath

    def words(self) -> tuple[tuple[str, ...], ...]:
        if not self.report.exists():
            return ()
        lines = self.report.read_text().split("\n")[:-1]  # what follows the last line's end was cut off
        return tuple(_words(line) for line in lines)

    def until(self, kind: str, times: int = 1, seconds: float = 60.0, or_end: bool = False) -> None:
        """Waits until it has said a word so often; it may end before where `or_end`."""
        until = time.monotonic() + seconds
        while not self._said(kind, times):
            assert time.monotonic() < until, f"a worker did not say '{kind}' within {seconds} s: {self.words()[-3:]}"
            if self.ended and not self._said(kind, times):
                assert or_end, f"a worker ended and did not say '{kind}': {self.words()[-1:]}"
                return
            time.sleep(0.001)

    def _said(self, kind: str, times: int) -> bool:
        return sum(words[0] == kind for words in self.words()) >= times

    @property
    def ended(self) -> bool:
        return FilePath(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = LIMIT) -> Ending:
        code = self.nursery.tell("wait", self.pid, seconds)
        assert code != -1000, f"a worker was still at work after {seconds} s: {self.words()[-3:]}"
        return Ending(code, self.words())


def _words(line: str) -> tuple[str, ...]:
    if not line.startswith("error "):
        return tuple(line.split(" "))
    kind, name, code, rest = line.split(" ", 3)
    message, end = json.JSONDecoder().raw_decode(rest)
    return (kind, name, code, message, rest[end + 1 :])


class Nursery:
    """A process that forks workers. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._reports = FilePath(tempfile.mkdtemp(prefix="reports-"))
        self._numbers = itertools.count()
        here = FilePath(__file__).resolve().parent
        begin = f"import sys; sys.path[:0] = {[str(here), str(here.parent)]}; import crashes; crashes.main()"
        self._process = subprocess.Popen([sys.executable, "-c", begin], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def start(self, job: Job) -> Child:
        report = self._reports / str(next(self._numbers))
        return Child(self, self.tell("start", str(report), job), report)

    def tell(self, *command: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # by its name as a module: here it may be a script
        self._process.stdin.write(pickle.dumps(command))
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        assert said, "the nursery is gone"
        return int(said)

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(LIMIT)
        shutil.rmtree(self._reports, ignore_errors=True)

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


@dataclass
class Stage:
    """One setting on one database: how it ends where nobody disturbs it, and workers that are disturbed."""

    nursery: Nursery
    place: Place
    setting: Setting
    without: frozenset[str] = frozenset()  # columns that are not compared
    whole: dict[str, list[Row]] = field(init=False)
    points: int = field(init=False)  # commit points of the run that nobody disturbed
    seconds: float = field(init=False)  # that it took
    _last: tuple[str, Stored] = field(default=("", Stored({}, Counter(), frozenset(), ())))

    def __post_init__(self) -> None:
        self.place.plan(self.setting)
        where = self.fresh()
        began = time.monotonic()
        self.points = self.run(where, in_step=True).points
        self.seconds = time.monotonic() - began
        self.whole = contents(where, self.without)
        statuses = {row["status"] for row in self.whole["attempt"]}
        assert statuses <= set(schema.CLOSED), statuses

    def fresh(self) -> str:
        self._last = "", self._last[1]
        return self.place.fresh()

    def job(self, where: str, **how: Any) -> Job:
        return replace(Job(where, self.setting.spec, model=self.setting.model), **how)

    def start(self, where: str, **how: Any) -> Child:
        return self.nursery.start(self.job(where, **how))

    def run(self, where: str, kill_after: float | None = None, **how: Any) -> Ending:
        """A worker from its start to its end, checked; killed so many seconds after it has a lease, if at all."""
        before = self._last[1] if self._last[0] == where else stored(where)
        child = self.start(where, **how)
        if kill_after is not None:
            child.until("lease", or_end=True)
            time.sleep(kill_after)
            child.send(signal.SIGKILL)
        ending = child.wait()
        assert ending.killed or ending.code == 0, ending.traceback
        self._last = where, self.check(where, [ending], before)
        return ending

    def check(self, where: str, endings: Sequence[Ending], before: Stored) -> Stored:
        """Nothing torn, lost, written twice, or generated again. The workers worked one after another."""
        after = stored(where, integrity=True)
        assert not after.faults, after.faults
        made: Counter[tuple[int, str]] = Counter()
        for ending in endings:
            again = ending.made.keys() & before.steps.keys()
            assert not again, f"generated again though stored: {sorted(again)[:3]}"
            made.update(ending.made)
            lost = {a: n for a, n in ending.known.items() if after.replies[a] < n}
            assert not lost, f"lost though acknowledged: {lost}"
            assert ending.ended <= after.closed, f"lost though acknowledged: {ending.ended - after.closed}"
        if len(endings) == 1 and endings[0].code == 0:
            assert sum(made.values()) == after.tokens - before.tokens
        assert before.steps.items() <= after.steps.items()
        return after

    def check_end(self, where: str) -> None:
        """Every row is as in a run that nobody disturbed, and nobody who lives has a lease. (One who died when all was written,
        and had it still to give back, keeps it: nobody will want it.)"""
        difference = first_difference(contents(where, self.without), self.whole)
        assert not difference, difference
        owners = {row["owner"] for row in lease_rows(where)}
        assert all(not owner or is_dead(owner) for owner in owners), owners


def restarted_at_random(
    server: Postgres, workers: Sequence[Child], random: Random, between: tuple[float, float], down: tuple[float, float]
) -> int:
    """Stops a server in one way or another, and starts it, until the workers have ended; how often."""
    for times in itertools.count():
        until = time.monotonic() + random.uniform(*between)
        while time.monotonic() < until:
            if all(worker.ended for worker in workers):
                return times
            time.sleep(0.02)
        server.stop(random.choice(("fast", "immediate", "kill")))
        time.sleep(random.uniform(*down))
        server.start()
    raise AssertionError


def in_order(endings: Sequence[Ending]) -> None:
    """No two workers had one shard at the same time: by the time of their transactions, epochs never fall."""
    wrote = defaultdict(list)
    for ending in endings:
        for shard, epoch, at in ending.said("wrote"):
            wrote[shard].append((float(at), int(epoch)))
    for shard, written in wrote.items():
        epochs = [epoch for _, epoch in sorted(written)]
        assert epochs == sorted(epochs), f"shard {shard}: {epochs}"


__all__ = [
    "CACHE",
    "Child",
    "Ending",
    "Files",
    "Job",
    "Nursery",
    "Place",
    "Server",
    "Setting",
    "Stage",
    "contents",
    "fake_problems",
    "fake_spec",
    "first_difference",
    "fruitless",
    "in_order",
    "lease_rows",
    "restarted_at_random",
    "stored",
    "tries",
]
