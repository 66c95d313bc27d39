"""The work of a run in plain Python: plan it, solve a shard of its problems, close it. Runs without Prefect.

What crosses these functions is ids and counts; models stay warm in the process; everything else is in the database. Any
number of processes may work on one run: a shard is leased to one of them at a time, and taken over where that one dies.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from flows.parts import weights
from pipelines.encoders import check_encoder, load_named
from pipelines.problems.load import load_problems
from search.drive import Diverged, Driver, Journal, NoJournal, Outcome, Search
from search.strategies import build
from search.tree import Tree, constraint_of
from search.types import Encoder, Join, Part, Problem, Question, RunSpec, TextGenerator, Verifier
from store import queries
from store.database import Database
from store.errors import StoreError, Unavailable
from store.journal import Grade, StoreJournal
from store.leases import Held, claim, readable, this_process
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
from verifiers.canary import canaries
from verifiers.code import ready
from verifiers.extract import extractor_for
from verifiers.grade import Graders, Verdict, grader_for
from verifiers.registry import check_verifier, judges, load_verifier, require_sandbox

if TYPE_CHECKING:
    from pipelines.models import TextModel

CONCURRENCY = 64  # searches held at once: what bounds the memory for finished steps
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
    under_way: int = 0  # tokens of problems that are not done
    spent: float = 0.0  # sum over those done here of the share of their budget
    bounded: int = 0  # of those done here: with a budget
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def tokens_per_second(self) -> float:
        return (self.tokens + self.under_way) / max(self.seconds, 1e-9)

    @property
    def budget(self) -> float | None:
        """What the problems done here have used of their budget, by the bound that each came nearest to; None without one."""
        return self.spent / self.bounded if self.bounded else None

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far; None before the first problem is done."""
        solved = self.done - self.before
        return self.seconds / solved * (self.total - self.done) if solved else None


_LOADING = threading.RLock()  # threads that ask for one model load it once
TURN = 0.5  # seconds between two looks at how far the problems under way are

Sayer = Callable[[str], None]
Watcher = Callable[[Progress], None]


def _nobody(progress: Progress) -> None:
    pass


def _nothing() -> None:
    pass


def _unsaid(line: str) -> None:
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
    with _LOADING:
        return _generator(part.name, tuple(sorted(part.params.items())))


def verifier_of(part: Part) -> tuple[Verifier, Join]:
    """The loaded verifier and its join, kept warm for the process."""
    with _LOADING:
        return _verifier(part.name, _sorted(part))


def _sorted(part: Part) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(part.params.items()))


@lru_cache(maxsize=1)
def _encoder(
    name: str, params: tuple[tuple[str, object], ...], generator: str, like: tuple[tuple[str, object], ...]
) -> Encoder:
    return load_named(Part(name, dict(params)), Part(generator, dict(like)))


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
        ready(load_problems(spec.problems))
    here = weights(spec.generator, spec.verifier, spec.encoder, spec.small)
    if spec.weights != here:
        raise ValueError(f"the run was made with weights '{spec.weights}', and here are '{here}'; start a new run")


def plan(database: Database, spec: RunSpec, name: str = "") -> list[Planned]:
    """Writes the run and its attempts, or finds them; every attempt of the run, done ones too."""
    check(spec)
    return begin_run(database, spec, load_problems(spec.problems), environment(spec), name)


def join(database: Database, spec: RunSpec, say: Sayer = _unsaid) -> None:
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
    if long := _too_long(database, spec):
        say(f"note: {len(long)} problems have prompts longer than the model's context and will fail, the first is '{long[0]}'")


def _too_long(database: Database, spec: RunSpec) -> list[str]:
    """The open problems whose prompts leave no room in the generator's context. No token is shorter than a byte."""
    model = generator_of(spec.generator)
    context = getattr(model.engine, "context", None)
    if context is None:
        return []
    problems = (a.problem for a in planned(database, spec.id) if not a.closed)
    return [p.id for p in problems if len(p.prompt.encode()) >= context and len(model.encode(p.prompt)) >= context]


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
    problems: Sequence[tuple[int, Problem]],
    spec: RunSpec,
    journal: Journal | None = None,
    concurrency: int = CONCURRENCY,
    pulse: Callable[[], None] | None = None,
    under_way: dict[int, Tree] | None = None,
) -> Iterator[Outcome]:
    """Searches for keyed problems, all batched together; outcomes as they end. `pulse` is called at every turn; `under_way`
    is given the tree of each search that begins."""
    model, verifier = generator_of(spec.generator), verifier_of(spec.verifier)
    driver = Driver(_engines(spec, model), verifier[0], journal or NoJournal(), concurrency, encoder=encoder_of(spec))
    if pulse is not None:
        driver.pulse = pulse
    searches = (search_of(key, problem, spec, model, verifier) for key, problem in problems)
    return driver.drive(searches if under_way is None else _noted(searches, under_way))


def _noted(searches: Iterator[Search], trees: dict[int, Tree]) -> Iterator[Search]:
    for search in searches:
        trees[search.key] = search.tree
        yield search


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
    pulse: Callable[[], None] = _nothing,
) -> Progress | Held:
    """Solves, grades and stores the attempts of one shard that are still to be done; Held where another process has it.

    What an earlier process was answered is replayed, and its searches go on from there. An attempt that fails is tried again,
    alone, at the end; after three tries it has failed. Raises Diverged, at the end, where searches are not those of their
    journals; these stay as they are. `pulse` is called at every turn; what it raises ends the work.
    """
    lease = claim(database, spec.id, shard, owner)
    if isinstance(lease, Held):
        return lease
    with lease.kept():
        due = {a.attempt_id: a for a in planned(database, spec.id, shard) if not a.closed}
        ready(a.problem for a in due.values())
        progress = progress or Progress(total=len(due))
        restart(database, [i for i in unreplayable(database, spec.id) if i in due], lease)
        verifier, join = verifier_of(spec.verifier)
        # those that failed here, or that two workers have died of, run alone, so that they take no other with them; a first
        # death may have been the machine's
        batches = deque([[a for a in due.values() if a.tries < 2], *([a] for a in due.values() if a.tries >= 2)])
        diverged: list[str] = []
        with (
            Graders() as graders,
            StoreJournal(
                database,
                {i: i for i in due},
                verifier=verifier.name,
                join=join,
                encoder=str(spec.encoder or ""),
                lease=lease,
                judge=lambda outcome: _graded(graders, due[outcome.search.key].problem, outcome),
                tries={i: a.tries for i, a in due.items()},
                most_tries=TRIES,
            ) as journal,
        ):
            tries = {i: a.tries for i, a in due.items()}
            trees: dict[int, Tree] = {}
            turn = _turn(lease.touch, pulse, trees, progress, watch)
            while batches:
                searches = [(a.attempt_id, a.problem) for a in batches.popleft()]
                for outcome in solve(searches, spec, journal, pulse=turn, under_way=trees):
                    attempt = due[outcome.search.key]
                    del trees[outcome.search.key]
                    if isinstance(outcome.exception, Diverged):
                        diverged.append(f"problem {attempt.problem.id}: {outcome.exception}")
                        continue
                    if outcome.choice is None:
                        tries[attempt.attempt_id] += 1
                        if tries[attempt.attempt_id] < TRIES:
                            batches.append([attempt])
                            continue
                    progress.done += 1
                    progress.right += journal.right(outcome.search.key)
                    progress.failed += outcome.choice is None
                    progress.tokens += outcome.search.tree.usage.generated_tokens
                    if (share := used(outcome.search.tree)) is not None:
                        progress.spent, progress.bounded = progress.spent + share, progress.bounded + 1
                    progress.under_way = sum(tree.usage.generated_tokens for tree in trees.values())
                    watch(progress)
    if diverged:
        raise Diverged(_parted(database, spec, diverged))
    return progress


def _turn(
    touch: Callable[[], None], pulse: Callable[[], None], trees: dict[int, Tree], progress: Progress, watch: Watcher
) -> Callable[[], None]:
    """What happens at every turn of the searches; now and then, whoever watches is told how far they are."""
    last = time.monotonic()

    def turn() -> None:
        nonlocal last
        touch()
        pulse()
        if (now := time.monotonic()) - last >= TURN:
            last = now
            progress.under_way = sum(tree.usage.generated_tokens for tree in trees.values())
            watch(progress)

    return turn


def used(tree: Tree) -> float | None:
    """The share of its budget that a search has used, by the bound it came nearest to; None without a budget."""
    bounds, usage = tree.budget, tree.usage
    pairs = (
        (usage.generated_tokens, bounds.tokens),
        (usage.verifier_passes, bounds.passes),
        (usage.candidates, bounds.candidates),
        (usage.flops, bounds.flops),
        (usage.seconds, bounds.seconds),
    )
    return max((spent / bound for spent, bound in pairs if bound is not None), default=None)


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


def evaluate(database: Database, spec: RunSpec, name: str = "", watch: Watcher = _nobody, say: Sayer = _unsaid) -> str:
    """A whole run in this process; its id. Running the same spec again goes on with what is missing."""
    plan(database, spec, name)
    resume(database, spec, watch, say)
    return spec.id


def resume(database: Database, spec: RunSpec, watch: Watcher = _nobody, say: Sayer = _unsaid) -> None:
    """Does what is left of a run that is in the database, beside any other process that does."""
    join(database, spec, say)
    progress = started(database, spec.id)
    with closing(database, spec.id):
        through(database, spec.id, lambda shard: work_shard(database, spec, shard, watch, progress), say)


@contextmanager
def closing(database: Database, run_id: str) -> Iterator[None]:
    """Ends the run as it stands after the block, unless the database itself failed in it."""
    try:
        yield
    except StoreError:
        raise
    except BaseException:
        with suppress(StoreError):  # what ended it is what matters
            close_run(database, run_id, patience=5.0)
        raise
    close_run(database, run_id)


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


def through(database: Database, run_id: str, solve: Callable[[int], object], say: Sayer = _unsaid) -> None:
    """Has every shard of a run solved: by this process, or by another that has it. Waits for those, and takes over from
    what dies. `solve` gives Held for a shard that another process has."""
    said = False
    while shards := open_shards(database, run_id):
        results = [solve(shard) for shard in shards]
        held = [each for each in results if isinstance(each, Held)]
        if len(held) == len(shards):
            if not said:
                said = True
                owners = ", ".join(sorted({readable(each.owner) for each in held}))
                say(f"waiting for {len(held)} of the run's shards that other processes have ({owners})")
            time.sleep(PAUSE)


def environment(spec: RunSpec) -> dict[str, str]:
    """What a result depends on beside its spec. Loads the generator, to know what it computes in."""
    names = ("torch", "transformers", "tokenizers", "numpy", "numba", "prefect", "sqlalchemy", "psycopg", "math-verify")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    engine = generator_of(spec.generator).engine
    return {
        **found,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.machine(),
        "processor": _processor(),
        "system": platform.system(),
        "device": str(getattr(engine, "device", "unknown")),
        "dtype": str(spec.generator.params.get("dtype", "float32")),
        "path": type(getattr(engine, "forward", engine)).__name__,
        "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        "commit": _commit(),
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
