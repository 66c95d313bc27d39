"""The audit of a database: what must hold of its rows, and searches replayed from their journals to the same choice.

The rows are all looked at (`store.audit`). Replaying takes a search's strategy but no model: the journal has every reply, and
the prompt's tokens are stored. Exit code 0 where nothing is wrong, 1 where something is.
"""

from __future__ import annotations

import json as jsonlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import Connection, Row, select

from pipelines.models import Writer, load_writer
from pipelines.remote import is_remote
from pipelines.remote.words import Words
from pipelines.remote.words import words as load_words
from search.ledger import Usage
from search.strategies import build
from search.tree import Tree, constraint_of, state_of
from search.types import Choice, Question, RunSpec, State
from store import schema
from store.audit import CHECKS, Fault, Report, audit
from store.costs import UNSUMMED
from store.database import Database
from store.recorded import recorded
from store.runs import Run, find_run, list_runs
from store.values import clean, clean_or_none, dumps, finite, unpack_ids
from verifiers.extract import extractor_for
from verifiers.registry import check_verifier

REPLAYED = 200  # attempts of each run that are replayed where no number is given


@dataclass(slots=True)
class Replays:
    """How many searches were replayed, of how many, and what was wrong."""

    done: int = 0
    closed: int = 0
    faults: list[Fault] = field(default_factory=list)


def run(database: Database, wanted: str | None, replays: int | None = REPLAYED, json: bool = False) -> int:
    """Audits one run, or all there are (None), and prints what was found. `replays`: attempts of each run, None = all."""
    began = time.monotonic()
    runs = list_runs(database) if wanted is None else [find_run(database, wanted)]
    report = audit(database, None if wanted is None else runs[0].id)
    replayed = Replays()
    for each in runs:
        replay(database, each, replays, replayed)
    clean_ = report.clean and not replayed.faults
    if json:
        _print_json(report, replayed, clean_)
    else:
        _print(report, replayed, len(runs), time.monotonic() - began)
    return 0 if clean_ else 1


def replay(database: Database, run: Run, most: int | None, into: Replays) -> None:
    """Runs searches again from their journals; `most` of them, spread evenly over the run."""
    attempt = schema.attempt.c
    # a search that failed may have failed by what is in no journal; one of an older version has no prompt
    asked = select(attempt.id).where(attempt.run_id == run.id, attempt.status == "done", attempt.prompt_ids.is_not(None))
    with database.read() as connection:
        ids = connection.scalars(asked.order_by(attempt.id)).all()
        into.closed += len(ids)
        chosen = ids if most is None or len(ids) <= most else [ids[i * len(ids) // most] for i in range(most)]
        for attempt_id in chosen:
            into.done += 1
            try:
                into.faults += replayed(connection, run.spec, attempt_id)
            except Exception as error:  # whatever a changed strategy raises is a finding, not the end of the audit
                into.faults.append(Fault("replay", f"attempt {attempt_id}", f"{type(error).__name__}: {error}"))


def replayed(connection: Connection, spec: RunSpec, attempt_id: int) -> list[Fault]:
    """One search, fed from its journal: whether it comes to the choice, the states and the costs that are stored."""
    row = _attempt(connection, attempt_id)
    _, join = check_verifier(spec.verifier)
    tree = Tree(
        question=Question(row.problem, row.prompt, unpack_ids(row.prompt_ids)),
        extract=extractor_for(jsonlib.loads(row.meta)),
        seed=row.seed,
        sampling=spec.sampling,
        budget=spec.budget,
        step_tokens=spec.step_tokens,
        tokens_limit=spec.tokens,
        verifier=spec.verifier.name,
        join=join,
        stops=spec.stops,
        constraint=constraint_of(spec),
        # loaded for the strategies alone that give the generator text of their own
        encode=lambda text: _writer(spec).plainly(text),
        render=lambda text: _writer(spec).encode(text),
    )
    choice = _searched(connection, spec, attempt_id, tree)
    where = f"attempt {attempt_id}"
    if choice is None:
        return [Fault("replay", where, "its search asks for more than its journal has")]
    tree.settle()
    return [Fault("replay", where, what) for what in (*_other_choice(row, choice), *_other_tree(connection, row, tree))]


def _writer(spec: RunSpec) -> Writer | Words:
    """How texts became the generator's tokens; for a server no server is asked."""
    if not is_remote(spec.generator.name):
        return load_writer(spec.generator.name)
    return load_words(str(spec.generator.params.get("tokenizer", "")))


def _attempt(connection: Connection, attempt_id: int) -> Row[Any]:
    problem = schema.problem.c
    columns = (schema.attempt, problem.id.label("problem"), problem.prompt.label("prompt"), problem.meta.label("meta"))
    asked = select(*columns).join_from(schema.attempt, schema.problem).where(schema.attempt.c.id == attempt_id)
    return connection.execute(asked).one()


def _searched(connection: Connection, spec: RunSpec, attempt_id: int, tree: Tree) -> Choice | None:
    """What the search chooses; None where its journal ends first."""
    journal = recorded(connection, attempt_id)
    steps = build(spec.strategy).search(tree)
    try:
        request = next(steps)
        while True:
            reply = journal.reply(request)
            if reply is None:
                return None
            request = steps.send(reply)
    except StopIteration as stop:
        chosen: Choice = stop.value
        return chosen


def _other_choice(row: Row[Any], choice: Choice) -> list[str]:
    votes = dumps([[clean(v.answer), v.count, finite(v.weight)] for v in choice.votes])
    now = {"path": choice.path, "answer": clean_or_none(choice.answer), "reason": clean(choice.reason), "votes": votes}
    stored = {name: getattr(row, name) for name in now}
    return [f"its {name} is {stored[name]!r}, and {now[name]!r} when replayed" for name in now if stored[name] != now[name]]


def _other_tree(connection: Connection, row: Row[Any], tree: Tree) -> list[str]:
    candidate = schema.candidate.c
    stored = connection.execute(select(candidate.path, candidate.state, candidate.cause).where(candidate.attempt_id == row.id))
    states = {path: (state, cause) for path, state, cause in stored}
    now = {path: (state.value, clean(cause)) for path, (state, cause) in tree.states.items() if path}
    for path in [path for path, (state, _) in tree.states.items() if state is State.ASIDE]:
        state, cause = state_of(tree.candidates[path].step)
        if states.get(path) == (state.value, cause):
            now[path] = (state.value, cause)  # a run from before a state said that a candidate is aside
    other = [path for path in states | now if states.get(path) != now.get(path)]
    out = [f"candidate {path} is {states.get(path)}, and {now.get(path)} when replayed" for path in other]
    for name in (f.name for f in fields(Usage) if f.name not in UNSUMMED):
        said, summed = getattr(row, name), getattr(tree.usage, name)
        if said != summed:
            out.append(f"its {name} is {said}, and {summed} when replayed")
    return out[:5]


# ------------------------------------------------------------------------------------------------------------- printing


def _print(report: Report, replays: Replays, runs: int, seconds: float) -> None:
    from flows.tables import console

    out = console()
    looked = ", ".join(f"{n:,} {table}" for table, n in sorted(report.looked.items()))
    out.print(f"looked at {runs} runs: {looked or 'no rows'}; {seconds:.1f} s")
    for name, about in CHECKS.items():
        found = report.found[name]
        out.print(f"{'ok  ' if not found else 'FAIL'}  {name:<8}  {about}{f': {found:,} times not' if found else ''}")
        _list(out, [fault for fault in report.faults if fault.check == name], found)
    said = f"a search fed from its journal comes to what is stored ({replays.done:,} of {replays.closed:,} replayed)"
    out.print(f"{'ok  ' if not replays.faults else 'FAIL'}  {'replay':<8}  {said}")
    _list(out, replays.faults[:20], len(replays.faults))


def _list(out: Any, faults: Sequence[Fault], found: int) -> None:
    from flows.show import escaped

    for fault in faults:
        out.print(f"        {fault.where}: {escaped(fault.what, 200)}")
    if found > len(faults):
        out.print(f"        and {found - len(faults):,} more")


def _print_json(report: Report, replays: Replays, clean: bool) -> None:
    said = {
        "clean": clean,
        "looked": dict(report.looked),
        "found": dict(report.found),
        "replayed": replays.done,
        "closed": replays.closed,
        "faults": [fault._asdict() for fault in (*report.faults, *replays.faults)],
    }
    sys.stdout.write(jsonlib.dumps(said) + "\n")


__all__ = ["Replays", "Report", "audit", "replay", "replayed", "run"]
