"""A report from the database: the runs by what they were asked, every named question about them, problems and search trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import select

from flows import solved
from flows.report import problems, sheets, trees
from flows.report.document import Document, Group, RunLine, TreeOf, Value
from flows.report.drawn import drawn
from flows.report.findings import Answers, dropped, findings
from flows.report.svg import inline
from flows.versions import commit
from search.types import Path
from store import schema
from store.database import Database
from store.questions import QUESTIONS
from store.questions.budget import listed
from store.questions.paired import sets_of
from store.questions.question import FEW, Row
from store.runs import Run, get_run, named, run_status
from store.solutions import INDEPENDENT

BRANCHES = 100_000  # of all trees of a page
TREES = (
    "The page has the trees of as many attempts as {:,} candidates make: of each run in turn, first the problems that "
    "lost a right answer, then the other wrong ones, then the right ones, in the order of the table."
)
ASKED = (
    *("accuracy", "best", "pairs", "seeds", "pass-at-k", "selectors", "oracle-gap", "losses", "lost", "astray"),
    *("verifier", "calibration", "length", "diversity", "disagreement", "cost", "tokens", "slow", "failed", "trend"),
)
ALONE = ("pairs",)  # says nothing of one run
REPLAYED = ("selectors", "disagreement")  # selectors are replayed over solutions, which takes its time
REPLAYS = 3  # runs of a group that they are replayed over


def document(db: Database, runs: Sequence[Run], command: str, trees: bool = True) -> Document:
    """The whole report. Solutions that have not been derived yet are. Without `trees` it has none of them, and says where they
    are (a live page asks for each)."""
    return page_of(db, assembled(db, runs), command, trees)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A group with the answers that it was made from."""

    group: Group
    runs: Sequence[Run]
    answers: Answers
    wanted: Wanted  # the attempts whose trees may be in the page


def assembled(db: Database, runs: Sequence[Run]) -> list[Assembled]:
    """The runs by what they were asked, without trees and charts."""
    solved.ensure(db, [run.id for run in runs])
    return [_group(db, f"g{i}", set_, own) for i, (set_, own) in enumerate(sets_of(runs).items())]


def page_of(db: Database, made: Sequence[Assembled], command: str, trees: bool = True, remarks: Sequence[str] = ()) -> Document:
    """The document of the groups, with charts. `remarks`: what is to be said above its findings beside what it says itself."""
    most = BRANCHES // max(len(made), 1)
    found = {tree.attempt: tree for each in made for tree in _trees(db, each.wanted, most)} if trees else {}
    groups = tuple(_finished(each) for each in made)
    notes = [*remarks, *_unfinished(made)]
    notes += [problems.RULE] if any(group.problems_in_all > len(group.problems) for group in groups) else []
    notes += [TREES.format(BRANCHES)] if trees and len(found) < sum(len(each.wanted) for each in made) else []
    few = [group.title for group in groups if 0 < group.problems_in_all < FEW]
    notes += [f"Fewer than {FEW} problems: {', '.join(few)}. Their intervals say little."] if few else []
    return Document(
        title=_title([run for each in made for run in each.runs]),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        version=f"Ponderosa {commit() or ''}".strip(),
        command=command,
        groups=groups,
        trees=found,
        notes=tuple(notes),
    )


def _unfinished(made: Sequence[Assembled]) -> list[str]:
    """That figures are of a part of a run, which a reader would take for the whole."""
    found = []
    for each in made:
        statuses = {line.id: line.status for line in each.group.runs}
        for row in each.answers["accuracy"]:
            if row["closed"] < row["problems"]:
                found.append(f"{row['name']} ({statuses[row['run']]}) {row['closed']:,} of {row['problems']:,}")
    return [f"Not all problems are done: {listed(found)}. Figures are of those that are."] if found else []


def tree_of(db: Database, attempt: int) -> TreeOf | None:
    """One attempt's tree; None where there is no such attempt."""
    asked = select(schema.attempt.c.run_id).where(schema.attempt.c.id == attempt)
    with db.read() as connection:
        run_id = connection.scalar(asked)
    run = None if run_id is None else get_run(db, run_id)
    if run is None:
        return None
    lost = [row for name in ("lost", "astray") for row in QUESTIONS[name].ask(db, [run]) if row["attempt"] == attempt]
    paths = [row["path"] for row in lost if row["path"]]
    return next(trees.trees(db, run, [attempt], {attempt: paths[0]} if paths else {}), None)


Wanted = dict[int, tuple[Run, Path | None]]  # by attempt: its run, and the path of what it lost; in order of interest


def _group(db: Database, id_: str, set_: str, runs: Sequence[Run]) -> Assembled:
    asked = [name for name in ASKED if len(runs) > 1 or name not in ALONE]
    answers: dict[str, list[Row]] = {name: QUESTIONS[name].ask(db, runs) for name in asked if name not in REPLAYED}
    most = _most_solutions(runs, answers)
    answers |= {name: QUESTIONS[name].ask(db, most) if most else [] for name in REPLAYED}
    about = {name: most if name in REPLAYED else runs for name in asked}
    told = findings(db, runs, {"pairs": [], **answers})
    lost = dropped(answers)
    keys, in_all = problems.sampled(db, runs, {each.problem for each in told if each.problem})
    listed = problems.lines(db, runs, keys, {attempt: row["step"] for attempt, row in lost.items()})
    group = Group(
        id=id_,
        title=set_,
        runs=tuple(RunLine(run.id, named(run), _facts(run), run_status(db, run)) for run in runs),
        findings=tuple(told),
        sheets=tuple(sheets.of(QUESTIONS[name], about[name], answers[name], len(runs)) for name in asked if answers[name]),
        problems=tuple(listed),
        problems_in_all=in_all,
    )
    by_id = {run.id: run for run in runs}
    cells = [cell for line in listed for cell in line.cells if cell.candidates]
    ranked = sorted(cells, key=lambda cell: (cell.attempt not in lost, bool(cell.correct)))
    wanted = {c.attempt: (by_id[c.run], lost[c.attempt]["path"] if c.attempt in lost else None) for c in ranked}
    return Assembled(group, runs, answers, wanted)


def _title(runs: Sequence[Run]) -> str:
    """Whose page it is, over which families; generator and verifier where all runs share them."""
    told = named(runs[0]) if len(runs) == 1 else f"{len(runs)} runs"
    told += f" on {' and '.join(dict.fromkeys(run.spec.problems.name for run in runs))}"
    parts = {"generator": {str(run.spec.generator) for run in runs}, "verifier": {str(run.spec.verifier) for run in runs}}
    return ", ".join([told, *(f"{what} {value}" for what, values in parts.items() if len(values) == 1 for value in values)])


def _most_solutions(runs: Sequence[Run], answers: Answers) -> list[Run]:
    """The runs with the most solutions, those first that draw them regardless of each other; of the same solutions one run."""
    judged, scored = ({row["run"] for row in answers[name]} for name in ("oracle-gap", "verifier"))
    known = {row["run"]: row["candidates"] or 0 for row in answers["accuracy"]}
    ranked = sorted(
        (run for run in runs if run.id in judged),
        key=lambda run: (run.spec.strategy.name not in INDEPENDENT, run.id not in scored, -known[run.id]),
    )
    first: dict[object, Run] = {}
    for run in ranked:
        strategy = run.spec.strategy
        same = (strategy.name, strategy.params.get("n"), run.spec.seed) if strategy.name in INDEPENDENT else run.id
        first.setdefault(same, run)
    return list(first.values())[:REPLAYS]


def _facts(run: Run) -> Mapping[str, Value]:
    spec, where = run.spec, run.environment
    facts: dict[str, Value] = {
        "id": run.id,
        "strategy": str(spec.strategy),
        "generator": str(spec.generator),
        "verifier": str(spec.verifier),
        "problems": str(spec.problems),
        "seed": spec.seed,
        "temperature": spec.sampling.temperature,
        "status": run.status,
        "begun": run.created,
    }
    return facts | {name: where[name] for name in ("commit", "device", "processor", "torch") if where.get(name)}


def _trees(db: Database, wanted: Wanted, left: int) -> Iterator[TreeOf]:
    """Of no more branches than are left, a run at a time in turn."""
    by_run: dict[str, list[int]] = {}
    for attempt, (run, _) in wanted.items():
        by_run.setdefault(run.id, []).append(attempt)
    queues = [
        trees.trees(db, wanted[ids[0]][0], ids, {i: path for i in ids if (path := wanted[i][1]) is not None})
        for ids in by_run.values()
    ]
    while queues:
        for queue in list(queues):
            tree = next(queue, None)
            if tree is None:
                queues.remove(queue)
                continue
            left -= len(tree.branches)
            if left < 0:
                return
            yield tree


def _finished(made: Assembled) -> Group:
    """The group with its charts."""
    charts = {name: inline(chart) for name, chart in drawn(made.answers).items()}
    return replace(made.group, sheets=tuple(replace(each, svg=charts.get(each.id, "")) for each in made.group.sheets))


__all__ = ["BRANCHES", "TREES", "Assembled", "assembled", "document", "page_of", "tree_of"]
