"""The work of a run in plain Python: plan it, solve a shard of its problems, close it. Runs without Prefect.

What crosses these functions is ids and counts; models stay warm in the process; everything else is in the database. Any
number of processes may work on one run: each takes on shards of it while its time allows. A shard is leased to one of them at
a time, and taken over where that one dies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from flows.cancelling import heeding
from flows.extent import Extent, claimed
from flows.hurry import hurrying
from flows.parts import weights
from flows.remote import check as check_remote
from flows.solved import cheap, ensure, judge
from flows.versions import commit, versions
from flows.watching import Progress, Sayer, Watcher, nobody, nothing, turns, unsaid, used
from pipelines.encoders import check_encoder, load_named
from pipelines.models import fingerprint
from pipelines.problems import FAMILIES
from pipelines.problems.jsonl import Check
from pipelines.problems.load import load_problems
from pipelines.remote import RemoteModel, is_remote, load_remote
from search.drive import Diverged, Driver, Journal, NoJournal, Outcome, Search
from search.strategies import build
from search.tree import Tree, constraint_of
from search.types import Encoder, Join, Part, Problem, Question, RunSpec, TextGenerator, Verifier
from store import queries, queue, solved
from store.database import Database
from store.errors import StoreError, Unavailable
from store.journal import Grade, StoreJournal
from store.leases import STALE, Held, claim, readable, standing, this_process
from store.runs import (
    SHARD,
    Planned,
    begin_run,
    close_run,
    find_run,
    join_run,
    open_shards,
    planned,
    restart,
    sessions,
)
from store.schema import CLOSED, TRIES
from store.shared import Shared, sources
from verifiers.canary import canaries
from verifiers.code import ready
from verifiers.extract import extractor_for
from verifiers.grade import Graders, Verdict, grader_for
from verifiers.references import unreadable
from verifiers.registry import check_verifier, judges, load_verifier, require_sandbox

if TYPE_CHECKING:
    from pipelines.models import TextModel

CONCURRENCY = 64  # searches held at once: what bounds the memory for finished steps
SECONDS = 60.0  # after which a task takes on no further problems; it ends when those it has are done
LEAST = 16  # problems that a task begins with, however long they take: fewer would leave the batch empty
PAUSE = 2.0  # seconds between two looks at shards that others have


_LOADING = threading.RLock()  # threads that ask for one model load it once


@lru_cache(maxsize=3)
def _generator(name: str, params: tuple[tuple[str, object], ...]) -> TextModel | RemoteModel:
    if is_remote(name):
        return load_remote(name, dict(params))
    from pipelines.models import load_generator

    return load_generator(name, dict(params))


@lru_cache(maxsize=4)
def _verifier(name: str, params: tuple[tuple[str, object], ...]) -> tuple[Verifier, Join]:
    return load_verifier(Part(name, dict(params)))


def generator_of(part: Part) -> TextModel | RemoteModel:
    """The loaded generator, or the server that was asked what it can do; kept warm for the process."""
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


def problems_of(part: Part, check: Check | None = None) -> list[Problem]:
    """A set's problems; those of a family are drawn once for the process, a file may change. `check` is `load_problems`'s."""
    return list(_drawn(part.name, _sorted(part))) if part.name in FAMILIES else load_problems(part, check)


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
        ready(problems_of(spec.problems, unreadable))
    here = weights(spec.generator, spec.verifier, spec.encoder, spec.small)
    if spec.weights != here:
        raise ValueError(f"the run was made with weights '{spec.weights}', and here are '{here}'; start a new run")
    if is_remote(spec.generator.name):
        check_remote(spec, generator_of)
    elif spec.small is not None and is_remote(spec.small.name):
        raise ValueError("a smaller sibling on a server has other tokens than the generator here; give --small a local model")


def plan(database: Database, spec: RunSpec, name: str = "", shard: int = SHARD) -> list[Planned]:
    """Writes the run and its attempts, or finds them; every attempt of the run, done ones too."""
    check(spec)
    return begin_run(database, spec, problems_of(spec.problems), environment(spec), name, shard)


def submit(database: Database, spec: RunSpec, name: str = "", shard: int = SHARD) -> bool:
    """Writes the run for workers to do; whether there is anything left to do. Nothing is loaded, and the run's environment is
    that of the first worker."""
    check(spec)
    begin_run(database, spec, problems_of(spec.problems), {}, name, shard)
    return queue.enqueue(database, spec.id)


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


def search_of(
    key: int, problem: Problem, spec: RunSpec, model: TextModel | RemoteModel, verifier: tuple[Verifier, Join]
) -> Search:
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
        texts=isinstance(model, RemoteModel),
    )
    return Search(key, tree, build(spec.strategy))


def solve(
    problems: Iterable[tuple[int, Problem]],
    spec: RunSpec,
    journal: Journal | None = None,
    concurrency: int = CONCURRENCY,
    pulse: Callable[[], None] | None = None,
    over: Callable[[TextGenerator], TextGenerator] | None = None,
    under_way: dict[int, Tree] | None = None,
) -> Iterator[Outcome]:
    """Searches for keyed problems, all batched together; outcomes as they end. `pulse` is called at every turn; `over` may put
    something before the generator; `under_way` is given the tree of each search that begins."""
    model, verifier = generator_of(spec.generator), verifier_of(spec.verifier)
    engine = _engines(spec, model)
    driver = Driver(
        engine if over is None else over(engine), verifier[0], journal or NoJournal(), concurrency, encoder=encoder_of(spec)
    )
    if pulse is not None:
        driver.pulse = pulse
    searches = (search_of(key, problem, spec, model, verifier) for key, problem in problems)
    return driver.drive(searches if under_way is None else _noted(searches, under_way))


def _noted(searches: Iterator[Search], trees: dict[int, Tree]) -> Iterator[Search]:
    for search in searches:
        trees[search.key] = search.tree
        yield search


def sharing(database: Database, spec: RunSpec) -> Callable[[TextGenerator], TextGenerator]:
    """What puts the rows of other runs, where they are the ones asked for, before a generator."""
    # without a fingerprint two runs of one name may be of two models
    known = not is_remote(spec.generator.name) and bool(fingerprint(spec.generator.name, "generator"))
    runs = sources(database, spec, environment(spec), known)
    return lambda engine: Shared(engine, database, runs) if runs else engine


def _engines(spec: RunSpec, model: TextModel | RemoteModel) -> TextGenerator:
    """What answers Extend: the generator, and where the run has one its smaller sibling."""
    if spec.small is None:
        return model.engine
    from pipelines.routed import Routed

    small = generator_of(spec.small)
    if small.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise ValueError(f"generators '{spec.small}' and '{spec.generator}' have different tokenizers; --small must share it")
    return Routed({"": model.engine, "small": small.engine})


def work_extent(
    database: Database,
    spec: RunSpec,
    shards: Sequence[int],
    watch: Watcher = nobody,
    progress: Progress | None = None,
    owner: str = "",
    seconds: float = SECONDS,
    share: bool = False,
    pulse: Callable[[], None] = nothing,
    going: Callable[[], bool] = lambda: True,
) -> Progress | Held:
    """Solves, grades and stores what is still to be done of some of the shards: of as many as keep a batch full for `seconds`.
    Held where other processes have them all. With `share`, what other runs have generated is not generated again.

    What an earlier process was answered is replayed, and its searches go on from there. An attempt that fails is tried again,
    alone, at the end; after three tries it has failed. Raises Diverged, at the end, where searches are not those of their
    journals; these stay as they are. `pulse` is called at every turn; what it raises ends the work. No further shards
    are taken on where `going` says no.
    """
    lease = claimed(database, spec.id, shards, owner)
    if isinstance(lease, Held):
        return lease
    verifier, join = verifier_of(spec.verifier)  # loading is not to be broken off
    encoder_of(spec)
    with lease.kept(), heeding(database, spec.id) as uncancelled, Graders() as graders:
        over = sharing(database, spec) if share else None
        free = [s for s in shards if f"{spec.id}/{s}" != lease.shard]
        extent = Extent(database, spec, lease, free, seconds, going, CONCURRENCY, LEAST)
        progress = progress or Progress(total=0)
        trees: dict[int, Tree] = {}

        def called() -> None:
            uncancelled()
            pulse()

        turn = turns(lease.touch, called, trees, progress, watch)
        diverged: list[str] = []
        journal_of = StoreJournal(
            database,
            extent.ids,
            verifier=verifier.name,
            join=join,
            encoder=str(spec.encoder or ""),
            lease=lease,
            judge=lambda outcome: _graded(graders, extent.due[outcome.search.key].problem, outcome),
            tries=extent.before,
            most_tries=TRIES,
        )
        with journal_of as journal, hurrying():
            for batch in extent.batches():
                for outcome in solve(batch, spec, journal, pulse=turn, over=over, under_way=trees):
                    attempt = extent.due[outcome.search.key]
                    del trees[outcome.search.key]
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
                    if (part := used(outcome.search.tree)) is not None:
                        progress.spent, progress.bounded = progress.spent + part, progress.bounded + 1
                    progress.under_way = sum(tree.usage.generated_tokens for tree in trees.values())
                    watch(progress)
        with hurrying():
            solved.derive(database, spec.id, judge(graders), cheap)
    if diverged:
        raise Diverged(_parted(database, spec, diverged))
    return progress


def _parted(database: Database, spec: RunSpec, diverged: Sequence[str]) -> str:
    began = find_run(database, spec.id).environment.get("commit", "")
    return (
        f"{len(diverged)} searches of run {spec.id} are not those of their journals, and were left as they are "
        f"({diverged[0]}). The run was begun with commit {began or 'unknown'}, this is {commit() or 'unknown'}: go on with "
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
    database: Database,
    spec: RunSpec,
    name: str = "",
    watch: Watcher = nobody,
    say: Sayer = unsaid,
    shard: int = SHARD,
    share: bool = False,
) -> str:
    """A whole run in this process; its id. Running the same spec again goes on with what is missing."""
    plan(database, spec, name, shard)
    resume(database, spec, watch, say, share)
    return spec.id


def resume(database: Database, spec: RunSpec, watch: Watcher = nobody, say: Sayer = unsaid, share: bool = False) -> None:
    """Does what is left of a run that is in the database, beside any other process that does."""
    queue.begin(database, spec.id)
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
    ensure(database, [run_id], cheap)  # what a worker had no time for that died after its last search


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
        queue.refuse_cancelled(database, run_id)
        free, held = standing(database, run_id, shards, STALE)
        if free:
            solve(free)
            continue
        if not said:
            said = True
            owners = ", ".join(sorted({readable(each.owner) for each in held}))
            say(f"waiting for {len(held)} of the run's shards that other processes have ({owners})")
        time.sleep(PAUSE)


def environment(spec: RunSpec) -> dict[str, str]:
    """What a result depends on beside its spec. Loads the generator, to know what it computes in."""
    model = generator_of(spec.generator)
    engine = model.engine
    return {
        **versions(),
        "device": str(getattr(engine, "device", "unknown")),
        "dtype": str(spec.generator.params.get("dtype", "float32")) if not is_remote(spec.generator.name) else "unknown",
        "path": type(getattr(engine, "forward", engine)).__name__,
        **({"server": str(model.engine.traits)} if isinstance(model, RemoteModel) else {}),
        **({"canaries": _canaries(spec.verifier.name, _sorted(spec.verifier))} if judges(spec.verifier) else {}),
    }


@lru_cache(maxsize=4)
def _canaries(name: str, params: tuple[tuple[str, object], ...]) -> str:
    """What a generative verifier makes of null answers: a warning where it accepts too many."""
    found = canaries(*_verifier(name, params))
    return found.warning or str(found)
