"""What keeping every candidate costs, and what a large database answers in.

    python -m flows.figures.durable persist     # candidates/s into a database, by candidates a commit
    python -m flows.figures.durable share       # a run of the bundled models with and without its database, side by side
    python -m flows.figures.durable million     # 1,000,000 candidates: size, queries, audit, memory
    python -m flows.figures.durable resume      # 100,000 stored candidates of open searches: seconds to the first new token

`--database` takes a path (default: a new file in a temporary folder) or a PostgreSQL URL. Steps are those of the bundled
generator in length: 12 tokens, 40 characters.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flows.tables import console, number, table
from search.drive import Outcome, Search
from search.packing import rounded
from search.strategies import build
from search.tree import Tree
from search.types import (
    Answer,
    Ask,
    Choice,
    Extend,
    Extension,
    Finish,
    Join,
    Part,
    Problem,
    Question,
    Reading,
    Readings,
    Request,
    Row,
    RunSpec,
    Sampling,
    Step,
    Until,
    Verify,
)
from store import queries
from store.audit import audit
from store.database import Database, open_database
from store.journal import Grade, StoreJournal
from store.runs import Planned, begin_run, close_run

TOKENS, WIDTH = 12, 16  # tokens a step; candidates an attempt
STRATEGY = Part("best-of-n", {"n": WIDTH, "select": "weighted", "join": "min"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["persist", "share", "million", "resume", "first-token"])
    parser.add_argument("--database", default="")
    parser.add_argument("--candidates", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = options.database or str(Path(folder) / "figures.db")
        match options.what:
            case "persist":
                persist(where, options.candidates or 8_000, options.rounds)
            case "share":
                share(where, options.rounds)
            case "million":
                million(where, options.candidates or 1_000_000)
            case "resume":
                resume(where, options.candidates or 100_000)
            case "first-token":
                first_token(where)


# ------------------------------------------------------------------------------------------------------------ made rows


def made_spec(seed: int) -> RunSpec:
    parts = (
        Part("made"),
        Part("bundled"),
        Part("equation"),
        Part("best-of-n", {"n": WIDTH, "select": "weighted", "join": "min"}),
    )
    return RunSpec(*parts, seed=seed)


def made_problems(count: int) -> list[Problem]:
    return [Problem(f"p{i}", f"What is {i} modulo 4?", str(i % 4), "made") for i in range(count)]


def _step(rng: np.random.Generator, finish: Finish, answer: int = 0) -> Step:
    logprobs = -rng.exponential(0.3, TOKENS).astype(np.float32)
    text = f"Then there are {answer % 97} and {answer % 89} left: {answer}" if finish is Finish.STEP else f"Answer: {answer}"
    return Step(
        rng.integers(3, 500, TOKENS, dtype=np.int32),
        text,
        logprobs,
        rng.exponential(5, TOKENS).astype(np.float32),
        rng.exponential(1, TOKENS).astype(np.float32),
        finish,
        logprobs,
    )


def _extension(rng: np.random.Generator, paths: Sequence[str], until: Until = Until.END) -> tuple[Extend, Extension]:
    finish = Finish.END if until is Until.END else Finish.STEP
    rows = tuple(Row(path, 1, (1, 2, 3), 100) for path in paths)
    steps = tuple(_step(rng, finish, int(rng.integers(0, 4))) for _ in paths)
    return Extend(rows, until, Sampling()), Extension(steps, 30, 400, flops=1e9, queue_seconds=1e-3, seconds=0.1)


def _journal(database: Database, attempts: Sequence[Planned]) -> StoreJournal:
    ids = {a.attempt_id: a.attempt_id for a in attempts}
    answers = {a.attempt_id: a.problem.answer for a in attempts}

    def judge(outcome: Outcome) -> Grade:
        right = outcome.choice is not None and outcome.choice.answer == answers[outcome.search.key]
        return Grade("correct" if right else "wrong", right, "exact")

    return StoreJournal(database, ids, "equation", Join.MIN, judge=judge)


# -------------------------------------------------------------------------------------------------------------- persist


def persist(where: str, candidates: int, rounds: int) -> None:
    """Rows are made beforehand; what is timed is rounding, packing, and commits one after another."""
    made = table("candidates a commit", ">candidates/s", ">least", ">most", title=f"\nthrough the journal into {_kind(where)}")
    with open_database(where) as database:
        for seed, batch in enumerate((1, 16, 64, 1024)):
            rates = []
            count = min(candidates, 200 * batch)
            attempts = begin_run(database, made_spec(seed), made_problems(rounds), {})
            for attempt in attempts:
                rng = np.random.default_rng(seed)
                replies = [_extension(rng, [str(i) for i in range(at, at + batch)]) for at in range(0, count, batch)]
                with _journal(database, attempts) as journal:
                    journal.started(attempt.attempt_id)
                    journal.written(journal.commit())
                    began = time.perf_counter()
                    for request, reply in replies:
                        steps = tuple(rounded(reply.steps))  # as the driver does for all replies of a turn
                        journal.answered(attempt.attempt_id, request, replace(reply, steps=steps))
                        journal.written(journal.commit())
                    rates.append(count / (time.perf_counter() - began))
            made.add_row(f"{batch}", *(number(rate(rates)) for rate in (statistics.median, min, max)))
    console().print(made)


def _kind(where: str) -> str:
    return "PostgreSQL" if "://" in where else "SQLite, synchronous=FULL"


# ---------------------------------------------------------------------------------------------------------------- share


def share(where: str, rounds: int) -> None:
    """The same run in turn with its database and with a journal that keeps nothing."""
    from flows import work
    from flows.parts import spec
    from pipelines.problems.load import load_problems
    from search.drive import NoJournal

    asked = [spec("word:split=test,count=64,seed=1", one) for one in ("beam:n=8,keep=4", "best-of-n:n=8", "astar:k=4")]
    made = table("strategy", ">with", ">without", ">ratio", ">candidates/s", title=f"\nseconds of a run, into {_kind(where)}")
    for one in asked:
        problems = list(enumerate(load_problems(one.problems)))
        list(work.solve(problems[:8], one))  # warm
        times: dict[str, list[float]] = {"with": [], "without": []}
        stored = 0.0
        for turn in range(rounds):
            with open_database(where) as database:
                fresh = _renamed(one, turn)
                attempts = begin_run(database, fresh, [p for _, p in problems], {})
                pairs = [(a.attempt_id, a.problem) for a in attempts]
                with StoreJournal(database, {k: k for k, _ in pairs}, "prm", Join.MIN) as journal:
                    times["with"].append(_timed(lambda: list(work.solve(pairs, one, journal))))  # noqa: B023
                stored = queries.summary(database, fresh.id).candidates or 0.0
            times["without"].append(_timed(lambda: list(work.solve(problems, one, NoJournal()))))  # noqa: B023
        ratio = statistics.median(a / b for a, b in zip(times["with"], times["without"], strict=True))
        middle = {name: statistics.median(values) for name, values in times.items()}
        rate = stored * len(problems) / middle["with"]
        cells = number(middle["with"], 2), number(middle["without"], 2), number(ratio, 3), number(rate)
        made.add_row(str(one.strategy), *cells)
    console().print(made)


def _renamed(spec: RunSpec, turn: int) -> RunSpec:
    """A spec of another run, for the store alone: the search keeps the seed it has."""
    return replace(spec, seed=1000 + turn)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# -------------------------------------------------------------------------------------------------------------- million


def million(where: str, candidates: int) -> None:
    """Fills a database through the journal, and asks it."""
    out = console()
    began = time.perf_counter()
    with open_database(where) as database:
        spec = made_spec(0)
        attempts = begin_run(database, spec, made_problems(candidates // WIDTH), {})
        fill(database, attempts)
        close_run(database, spec.id)
        filled = time.perf_counter() - began
        made = table("what", ">seconds", ">MB of memory", title=f"\n{candidates:,} candidates in {_kind(where)}")
        made.add_row("filling it, through the journal", number(filled, 1), "")
        summary = statistics.median(_timed(lambda: queries.summary(database, spec.id)) for _ in range(5))
        made.add_row("accuracy and cost of the run", number(summary, 3), "")
        some = [attempts[i * len(attempts) // 50].attempt_id for i in range(50)]
        tree = statistics.median(_timed(lambda: queries.tree(database, i)) for i in some)  # noqa: B023
        made.add_row("one tree (median of 50)", number(tree, 4), "")
        page = statistics.median(_timed(lambda: queries.candidates(database, spec.id, limit=50)) for _ in range(5))
        made.add_row("the first 50 candidates", number(page, 4), "")
        made.add_row("audit of the rows, in this process", number(_timed(lambda: audit(database)), 1), "")
    for words in (["runs"], ["candidates", "latest", "--limit", "20"], ["show"], ["audit"]):
        seconds, megabytes = command([*words, "--database", where])
        made.add_row("ponderosa " + " ".join(words), number(seconds, 1), number(megabytes))
    out.print(made)
    if "://" not in where:
        size = sum(p.stat().st_size for p in Path(where).parent.glob(Path(where).name + "*"))
        out.print(
            f"{size / 1e6:,.0f} MB, {size / candidates:,.0f} bytes a candidate of {TOKENS} tokens, with score and journal"
        )


def fill(database: Database, attempts: Sequence[Planned]) -> None:
    rng = np.random.default_rng(0)
    paths = [str(i) for i in range(WIDTH)]
    replies = [_extension(rng, paths) for _ in range(200)]
    with _journal(database, attempts) as journal:
        for i, attempt in enumerate(attempts):
            _, reply = replies[i % len(replies)]
            search = Search(attempt.attempt_id, _tree(attempt.problem), build(STRATEGY))
            choice = _searched(journal, search, reply)
            journal.closed(Outcome(search, choice))
            if i % 8 == 7:
                number_ = journal.commit()
                if i % 64 == 63:
                    journal.written(number_)
        journal.written(journal.commit())


def _tree(problem: Problem) -> Tree:
    def extract(text: str) -> Answer:
        return Answer(text.rpartition(": ")[2])

    return Tree(Question(problem.id, problem.prompt, (1, 2, 3)), extract, verifier="equation")


def _searched(journal: StoreJournal, search: Search, reply: Extension) -> Choice:
    """Runs a strategy by hand on made replies, journaling each."""
    steps: Ask[Choice] = search.strategy.search(search.tree)
    journal.started(search.key)
    try:
        request: Request = next(steps)
        while True:
            answer: Any = reply
            if isinstance(request, Verify):
                values = [0.5 + 0.4 * ((hash(path) * 2654435761 % 97) / 97 - 0.5) for path in request.paths]
                answer = Readings(tuple(Reading((value,), passes=1, tokens=60, flops=1e8) for value in values))
            journal.answered(search.key, request, answer)
            request = steps.send(answer)
    except StopIteration as stop:
        chosen: Choice = stop.value
        search.tree.settle()
        return chosen


def command(words: Sequence[str]) -> tuple[float, float]:
    """Seconds and the largest resident memory, in MB, of a command in a process of its own."""
    code = (
        "import resource, subprocess, sys; "
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, sys.executable, "-m", "flows.cli", *words]
    began = time.perf_counter()
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return time.perf_counter() - began, int(said.strip().splitlines()[-1]) / 1024


# --------------------------------------------------------------------------------------------------------------- resume


def resume(where: str, candidates: int) -> None:
    """A run of 64 open beam searches with that many candidates in their journals, gone on with by a new process."""
    from flows import work

    spec = _long()
    with open_database(where) as database:
        attempts = work.plan(database, spec)
        stored = _interrupted(database, spec, attempts, candidates)
    command = [sys.executable, "-m", "flows.figures.durable", "first-token", "--database", where]
    times = []
    for _ in range(3):
        began = time.time()
        said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "BEGAN": str(began)})
        times.append(float(said.stdout.split()[-1]))
    out = console()
    out.print(f"{stored:,} stored candidates of {len(attempts)} open searches, in {_kind(where)}")
    out.print(f"from the process's start to the first new token: {statistics.median(times):.1f} s (median of {len(times)})")


def _long() -> RunSpec:
    from flows.parts import spec

    return spec("word:split=test,count=64,seed=1", "beam:n=64,keep=8", tokens=4096)


def _interrupted(database: Database, spec: RunSpec, attempts: Sequence[Planned], candidates: int) -> int:
    """Journals as searches leave them that are cut off: the strategy is real, its replies are made, and never finish."""
    from flows import work

    model, verifier = work.generator_of(spec.generator), work.verifier_of(spec.verifier)
    rng, stored = np.random.default_rng(0), 0
    each = -(-candidates // len(attempts))
    with StoreJournal(database, {a.attempt_id: a.attempt_id for a in attempts}, verifier[0].name, verifier[1]) as journal:
        for i, attempt in enumerate(attempts):
            search = work.search_of(attempt.attempt_id, attempt.problem, spec, model, verifier)
            for rows in _made_replies(journal, search, rng):
                stored += rows
                # every other search waits for its verifier, the others for their next steps
                if len(search.tree.candidates) >= each and bool(rows) == bool(i % 2):
                    break
            journal.written(journal.commit())
    return stored


def _made_replies(journal: StoreJournal, search: Search, rng: np.random.Generator) -> Iterator[int]:
    journal.started(search.key)
    steps = search.strategy.search(search.tree)
    request: Request = next(steps)
    while True:
        if isinstance(request, Extend):
            made = tuple(_step(rng, Finish.STEP, int(rng.integers(0, 1000))) for _ in request.rows)
            answer: Any = Extension(made, 30, 400, flops=1e9, seconds=0.1)
            rows = len(made)
        else:
            answer = Readings(tuple(Reading((float(v),), passes=1, tokens=60) for v in rng.random(len(request.paths))))
            rows = 0
        journal.answered(search.key, request, answer)
        request = steps.send(answer)
        yield rows  # 0 after a verification


def first_token(where: str) -> None:
    """In a process of its own: goes on with the run, and stops at its first new token."""
    from flows import work
    from pipelines.models import TextModel

    spec = _long()
    model = work.generator_of(spec.generator)
    assert isinstance(model, TextModel)
    engine = model.engine
    advance = engine.advance

    def first() -> Any:
        out = advance()
        if engine.live:
            sys.stdout.write(f"{time.time() - float(os.environ['BEGAN'])}\n")
            sys.stdout.flush()
            os._exit(0)  # as a crash would: what is stored stays
        return out

    engine.advance = first  # type: ignore[method-assign]
    with open_database(where) as database:
        work.resume(database, spec)


if __name__ == "__main__":
    main()
