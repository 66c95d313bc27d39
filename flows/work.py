"""The work of a run in plain Python: plan it, solve a shard of its problems, close it. Runs without Prefect.

What crosses these functions is ids and counts; models stay warm in the process; everything else is in the database. Any
number of processes may work on one run: each takes on shards of it while its time allows. A shard is leased to one of them at
a time, and taken over where that one dies.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from flows.parts import weights
from pipelines.encoders import check_encoder, load_named
from pipelines.models import fingerprint
from pipelines.problems import FAMILIES
from pipelines.problems.load import load_problems
from search.drive import Diverged, Driver, Journal, NoJournal, Outcome, Search
from search.strategies import build
from search.tree import Tree, constraint_of
from search.types import Encoder, Join, Part, Problem, Question, RunSpec, TextGenerator, Verifier
from store import queries
from store.database import Database
from store.errors import StoreError, Unavailable
from store.extents import share_of
from store.journal import Grade, StoreJournal
from store.leases import STALE, Held, Lease, claim, readable, standing, this_process
from store.runs import (
    Planned,
    begin_run,
    close_run,
    find_run,
    join_run,
    open_shards,
    planned,
    restart,
    sessions,
    unreplayable,
)
from store.schema import CLOSED, TRIES
from store.shared import Shared, sources
from verifiers.canary import canaries
from verifiers.code import ready
from verifiers.extract import extractor_for
from verifiers.grade import Graders, Verdict, grader_for
from verifiers.registry import check_verifier, judges, load_verifier, require_sandbox

if TYPE_CHECKING:
    from pipelines.models import TextModel

CONCURRENCY = 64  # searches held at once: what bounds the memory for finished steps
SECONDS = 60.0  # after which a task takes on no further problems; it ends when those it has are done
LEAST = 16  # problems that a task begins with, however long they take: fewer would leave the batch empty
PAUSE = 2.0  # seconds between two looks at shards that others have


@dataclass(slots=True)
class Progress:
    """How far a run is. `tokens` are generated tokens."""

    total: int
    done: int = 0
    before: int = 0  # of those done: by an earlier shard or process
    right: int = 0
    failed: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far; None before the first problem is done."""
        solved = self.done - self.before
        return self.seconds / solved * (self.total - self.done) if solved else None


Sayer = Callable[[str], None]
Watcher = Callable[[Progress], None]


def _nobody(progress: Progress) -> None:
    pass


def unsaid(line: str) -> None:
    pass


@lru_cache(maxsize=3)
def _generator(name: str, params: tuple[tuple[str, object], ...]) -> TextModel:
    from pipelines.models import load_generator

    return load_generator(name, dict(params))


@lru_cache(maxsize=4)
def _verifier(name: str, params: tuple[tuple[str, object], ...]) -> tuple[Verifier, Join]:
    return load_verifier(Part(name, dict(params)))


def generator_of(part: Part) -> TextModel:
    """The loaded generator, kept warm for the process."""
    return _generator(part.name, tuple(sorted(part.params.items())))


def verifier_of(part: Part) -> tuple[Verifier, Join]:
    """The loaded verifier and its join, kept warm for the process."""
    return _verifier(part.name, _sorted(part))


def _sorted(part: Part) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(part.params.items()))


@lru_cache(maxsize=1)
def _encoder(
    name: str, params: tuple[tuple[str, object], ...], generator: str, like: tuple[tuple[str, object], ...]
) -> Encoder:
    return load_named(Part(name, dict(params)), Part(generator, dict(like)))


def problems_of(part: Part) -> list[Problem]:
    """A set's problems; those of a family are drawn once for the process, a file may change."""
    return list(_drawn(part.name, _sorted(part))) if part.name in FAMILIES else load_problems(part)


@lru_cache(maxsize=8)
def _drawn(name: str, params: tuple[tuple[str, object], ...]) -> tuple[Problem, ...]:
    return tuple(load_problems(Part(name, dict(params))))


def encoder_of(spec: RunSpec) -> Encoder | None:
    """The loaded encoder, kept warm for the process; None for a run that embeds nothing."""
    if spec.encoder is None:
        return None
    own, like = (tuple(sorted(part.params.items())) for part in (spec.encoder, spec.generator))
    return _encoder(spec.encoder.name, own, spec.generator.name, like)


def check(spec: RunSpec, problems: bool = True) -> None:
    """Raises ValueError for a spec that could not run, before anything is loaded or written. A run that is resumed has its
    problems in the database."""
    build(spec.strategy)
    check_verifier(spec.verifier)
    require_sandbox(spec.verifier)
    if spec.encoder is not None:
        check_encoder(spec.encoder)
    if problems and spec.problems.name != "question":
        ready(problems_of(spec.problems))
    here = weights(spec.generator, spec.verifier, spec.encoder, spec.small)
    if spec.weights != here:
        raise ValueError(f"the run was made with weights '{spec.weights}', and here are '{here}'; start a new run")


def plan(database: Database, spec: RunSpec, name: str = "") -> list[Planned]:
    """Writes the run and its attempts, or finds them; every attempt of the run, done ones too."""
    check(spec)
    return begin_run(database, spec, problems_of(spec.problems), environment(spec), name)


def join(database: Database, spec: RunSpec, say: Sayer = unsaid) -> None:
    """Records that this process works on the run, and says where its code or versions are others than the run's first."""
    here = environment(spec)
    known = sessions(database, spec.id)
    first = known[0][2] if known else find_run(database, spec.id).environment
    join_run(database, spec.id, this_process(), here)
    other = [f"{key} {first[key] or '-'} -> {here[key] or '-'}" for key in here if key in first and first[key] != here[key]]
    if other:
        say(f"note: this is not what the run was begun with: {', '.join(other)}; what it has is checked against its journal")
    if (told := here.get("canaries", "")).startswith("warning"):
        say(told)


def search_of(key: int, problem: Problem, spec: RunSpec, model: TextModel, verifier: tuple[Verifier, Join]) -> Search:
    """One attempt at one problem. What the search gets of the problem is its question."""
    tree = Tree(
        question=Question(problem.id, problem.prompt, model.encode(problem.prompt)),
        extract=extractor_for(problem.meta),
        seed=spec.seed,
        sampling=spec.sampling,
        budget=spec.budget,
        step_tokens=spec.step_tokens,
        tokens_limit=spec.tokens,
        verifier=verifier[0].name,
        join=verifier[1],
        stops=spec.stops,
        constraint=constraint_of(spec),
        encode=model.plainly,
        render=model.encode,
    )
    return Search(key, tree, build(spec.strategy))


def solve(
    problems: Iterable[tuple[int, Problem]],
    spec: RunSpec,
    journal: Journal | None = None,
    concurrency: int = CONCURRENCY,
    pulse: Callable[[], None] | None = None,
    over: Callable[[TextGenerator], TextGenerator] | None = None,
) -> Iterator[Outcome]:
    """Searches for keyed problems, all batched together; outcomes as they end. `pulse` is called at every turn; `over` may put
    something before the generator."""
    model, verifier = generator_of(spec.generator), verifier_of(spec.verifier)
    engine = _engines(spec, model)
    driver = Driver(
        engine if over is None else over(engine), verifier[0], journal or NoJournal(), concurrency, encoder=encoder_of(spec)
    )
    if pulse is not None:
        driver.pulse = pulse
    return driver.drive(search_of(key, problem, spec, model, verifier) for key, problem in problems)


def sharing(database: Database, spec: RunSpec) -> Callable[[TextGenerator], TextGenerator]:
    """What puts the rows of other runs, where they are the ones asked for, before a generator."""
    known = bool(fingerprint(spec.generator.name, "generator"))  # else two runs of one name may be of two models
    runs = sources(database, spec, environment(spec), known)
    return lambda engine: Shared(engine, database, runs) if runs else engine


def _engines(spec: RunSpec, model: TextModel) -> TextGenerator:
    """What answers Extend: the generator, and where the run has one its smaller sibling."""
    if spec.small is None:
        return model.engine
    from pipelines.routed import Routed

    small = generator_of(spec.small)
    if small.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise ValueError(f"generators '{spec.small}' and '{spec.generator}' have different tokenizers; --small must share it")
    return Routed({"": model.engine, "small": small.engine})


def work_shard(
    database: Database,
    spec: RunSpec,
    shard: int,
    watch: Watcher = _nobody,
    progress: Progress | None = None,
    owner: str = "",
) -> Progress | Held:
    """`work_extent` of one shard alone; Held where another process has it."""
    return work_extent(database, spec, [shard], watch, progress, owner)


def work_extent(
    database: Database,
    spec: RunSpec,
    shards: Sequence[int],
    watch: Watcher = _nobody,
    progress: Progress | None = None,
    owner: str = "",
    seconds: float = SECONDS,
    share: bool = False,
) -> Progress | Held:
    """Solves, grades and stores what is still to be done of some of the shards: of as many as keep a batch full for `seconds`.
    Held where other processes have them all. With `share`, what other runs have generated is not generated again.

    What an earlier process was answered is replayed, and its searches go on from there. An attempt that fails is tried again,
    alone, at the end; after three tries it has failed. Raises Diverged, at the end, where searches are not those of their
    journals; these stay as they are.
    """
    lease = _claimed(database, spec.id, shards, owner)
    if isinstance(lease, Held):
        return lease
    with lease.kept(), Graders() as graders:
        over = sharing(database, spec) if share else None
        extent = _Extent(database, spec, lease, [s for s in shards if f"{spec.id}/{s}" != lease.shard], seconds)
        progress = progress or Progress(total=0)
        verifier, join = verifier_of(spec.verifier)
        diverged: list[str] = []
        with StoreJournal(
            database,
            extent.ids,
            verifier=verifier.name,
            join=join,
            encoder=str(spec.encoder or ""),
            lease=lease,
            judge=lambda outcome: _graded(graders, extent.due[outcome.search.key].problem, outcome),
            tries=extent.before,
            most_tries=TRIES,
        ) as journal:
            for batch in extent.batches():
                for outcome in solve(batch, spec, journal, pulse=lease.touch, over=over):
                    attempt = extent.due[outcome.search.key]
                    progress.total = max(progress.total, len(extent.due))
                    if isinstance(outcome.exception, Diverged):
                        diverged.append(f"problem {attempt.problem.id}: {outcome.exception}")
                        continue
                    if outcome.choice is None and extent.again(attempt):
                        continue
                    progress.done += 1
                    progress.right += journal.right(outcome.search.key)
                    progress.failed += outcome.choice is None
                    progress.tokens += outcome.search.tree.usage.generated_tokens
                    watch(progress)
    if diverged:
        raise Diverged(_parted(database, spec, diverged))
    return progress


def _claimed(database: Database, run_id: str, shards: Sequence[int], owner: str) -> Lease | Held:
    """The first of the shards that is to be had."""
    found: Lease | Held | None = None
    for shard in shards:
        found = claim(database, run_id, shard, owner)
        if isinstance(found, Lease):
            break
    assert found is not None
    return found


@dataclass
class _Extent:
    """What one task has taken on of a run, and takes on while it works. Those of its attempts that failed here, or that two
    workers have died of, run alone at its end, so that they take no other with them; a first death may be the machine's."""

    database: Database
    spec: RunSpec
    lease: Lease
    free: list[int]  # shards that may be to be had
    seconds: float
    due: dict[int, Planned] = field(default_factory=dict)  # by attempt
    ids: dict[int, int] = field(default_factory=dict)
    before: dict[int, int] = field(default_factory=dict)  # tries
    tries: dict[int, int] = field(default_factory=dict)
    alone: deque[Planned] = field(default_factory=deque)
    _waiting: deque[Planned] = field(default_factory=deque)
    _old: frozenset[int] = frozenset()  # whose journal cannot be replayed
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._old = frozenset(unreplayable(self.database, self.spec.id))
        self._take([int(self.lease.shard.rpartition("/")[2])])
        if self.free:
            share = share_of(self.database, self.spec, self.seconds, CONCURRENCY, LEAST)
            size = max(len(self.due), 1)  # of a shard, as it was planned
            self._more(-(-share.problems // size) - 1)

    def batches(self) -> Iterator[Iterable[tuple[int, Problem]]]:
        """Those that are searched side by side, then each of those that run alone."""
        yield self._feed()
        while self.alone:
            attempt = self.alone.popleft()
            yield [(attempt.attempt_id, attempt.problem)]

    def again(self, attempt: Planned) -> bool:
        """Whether an attempt that failed is to be tried again."""
        self.tries[attempt.attempt_id] += 1
        if self.tries[attempt.attempt_id] >= TRIES:
            return False
        self.alone.append(attempt)
        return True

    def _feed(self) -> Iterator[tuple[int, Problem]]:
        """Attempts as there is room for them; from further shards while there is time."""
        while True:
            while self._waiting:
                attempt = self._waiting.popleft()
                yield attempt.attempt_id, attempt.problem
            if time.monotonic() - self._began >= self.seconds or not self._more(1):
                return

    def _more(self, shards: int) -> bool:
        """Takes on that many more shards, or fewer where there are no more; whether it got any."""
        if shards < 1 or not self.free:
            return False
        self.free, _ = standing(self.database, self.spec.id, self.free, STALE)
        got = self.lease.extend(self.free, shards, STALE)
        last = self.free.index(got[-1]) + 1 if got else len(self.free)
        self.free = self.free[last:]
        self._take(got)
        return bool(got)

    def _take(self, shards: Iterable[int]) -> None:
        for shard in shards:
            fresh = {a.attempt_id: a for a in planned(self.database, self.spec.id, shard) if not a.closed}
            ready(a.problem for a in fresh.values())
            restart(self.database, [i for i in fresh if i in self._old], self.lease)
            self.due |= fresh
            self.ids |= {i: i for i in fresh}
            self.before |= {i: a.tries for i, a in fresh.items()}
            self.tries |= {i: a.tries for i, a in fresh.items()}
            self._waiting += [a for a in fresh.values() if a.tries < 2]
            self.alone += [a for a in fresh.values() if a.tries >= 2]


def _parted(database: Database, spec: RunSpec, diverged: Sequence[str]) -> str:
    began = find_run(database, spec.id).environment.get("commit", "")
    return (
        f"{len(diverged)} searches of run {spec.id} are not those of their journals, and were left as they are "
        f"({diverged[0]}). The run was begun with commit {began or 'unknown'}, this is {_commit() or 'unknown'}: go on with "
        f"that one, or give up what is stored of them with `ponderosa resume {spec.id} --restart`"
    )


def _graded(graders: Graders, problem: Problem, outcome: Outcome) -> Grade:
    """The verdict on the chosen answer. The reference is seen here for the first time."""
    grader = grader_for(problem)
    if outcome.choice is None or outcome.choice.path is None:
        return Grade(Verdict.NONE.value, False, grader)
    verdict = graders.grade(problem, outcome.choice.answer, outcome.search.tree.text(outcome.choice.path))
    return Grade(verdict.value, verdict is Verdict.CORRECT, grader)


def evaluate(
    database: Database, spec: RunSpec, name: str = "", watch: Watcher = _nobody, say: Sayer = unsaid, share: bool = False
) -> str:
    """A whole run in this process; its id. Running the same spec again goes on with what is missing."""
    plan(database, spec, name)
    resume(database, spec, watch, say, share)
    return spec.id


def resume(database: Database, spec: RunSpec, watch: Watcher = _nobody, say: Sayer = unsaid, share: bool = False) -> None:
    """Does what is left of a run that is in the database, beside any other process that does."""
    join(database, spec, say)
    progress = started(database, spec.id)
    with closing(database, spec.id):
        through(database, spec.id, lambda shards: work_extent(database, spec, shards, watch, progress, share=share), say)


@contextmanager
def closing(database: Database, run_id: str) -> Iterator[None]:
    """Ends the run as it stands after the block, unless the database itself failed in it."""
    with broken_off(database, run_id):
        yield
    close_run(database, run_id)


@contextmanager
def broken_off(database: Database, run_id: str) -> Iterator[None]:
    """Ends the run as it stands where the block raises, unless it is the database that failed."""
    try:
        yield
    except StoreError:
        raise
    except BaseException:
        with suppress(StoreError):  # what ended it is what matters
            close_run(database, run_id, patience=5.0)
        raise


def started(database: Database, run_id: str) -> Progress:
    """How far a run is that this process begins to work on."""
    attempts = queries.attempts(database, run_id)
    before = sum(a.status in CLOSED for a in attempts)
    right, failed = sum(bool(a.correct) for a in attempts), sum(a.status == "failed" for a in attempts)
    return Progress(total=len(attempts), done=before, before=before, right=right, failed=failed)


def begin_again(database: Database, run_id: str) -> None:
    """Gives up what the run's unfinished searches have; what that had cost is kept as wasted. Raises Unavailable where another
    process is at one of them."""
    for shard in open_shards(database, run_id):
        lease = claim(database, run_id, shard)
        if isinstance(lease, Held):
            raise Unavailable(f"shard {lease.shard} is at work in {readable(lease.owner)}; stop that one first")
        try:
            restart(database, [a.attempt_id for a in planned(database, run_id, shard) if not a.closed], lease)
        finally:
            lease.release()


def through(database: Database, run_id: str, solve: Callable[[list[int]], object], say: Sayer = unsaid) -> None:
    """Has every shard of a run solved: by this process, or by another that has it. Waits for those, and takes over from
    what dies. `solve` is given the shards that are to be had, and solves some of them."""
    said = False
    while shards := open_shards(database, run_id):
        free, held = standing(database, run_id, shards, STALE)
        if free:
            solve(free)
            continue
        if not said:
            said = True
            owners = ", ".join(sorted({readable(each.owner) for each in held}))
            say(f"waiting for {len(held)} of the run's shards that other processes have ({owners})")
        time.sleep(PAUSE)


def versions() -> dict[str, str]:
    """What any result depends on: versions, the machine, the commit."""
    names = ("torch", "transformers", "tokenizers", "numpy", "numba", "prefect", "sqlalchemy", "psycopg", "math-verify")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {
        **found,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.machine(),
        "processor": _processor(),
        "system": platform.system(),
        "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        "commit": _commit(),
    }


def environment(spec: RunSpec) -> dict[str, str]:
    """What a result depends on beside its spec. Loads the generator, to know what it computes in."""
    engine = generator_of(spec.generator).engine
    return {
        **versions(),
        "device": str(getattr(engine, "device", "unknown")),
        "dtype": str(spec.generator.params.get("dtype", "float32")),
        "path": type(getattr(engine, "forward", engine)).__name__,
        **({"canaries": _canaries(spec.verifier.name, _sorted(spec.verifier))} if judges(spec.verifier) else {}),
    }


@lru_cache(maxsize=4)
def _canaries(name: str, params: tuple[tuple[str, object], ...]) -> str:
    """What a generative verifier makes of null answers: a warning where it accepts too many."""
    found = canaries(*_verifier(name, params))
    return found.warning or str(found)


def _processor() -> str:
    """The CPU's name, or what the platform says of it."""
    try:
        lines = FilePath("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


@lru_cache(maxsize=1)
def _commit() -> str:
    """The commit the code was taken from, with "+" where files differ from it; empty outside a checkout."""
    here = FilePath(__file__).resolve().parent
    ask = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=10"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
