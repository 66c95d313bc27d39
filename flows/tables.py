"""Tables for the terminal: runs compared, one run, candidates, models, strategies."""

from __future__ import annotations

import errno
import json as jsonlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from flows import records, verdicts
from flows.show import drawn, escaped, oneline
from search.checks import one_of
from search.select import SELECTORS, Entry, Selector
from search.types import Part, Score, State
from store import queries
from store.errors import StoreError
from store.imported import is_imported
from store.rows import Summary
from store.runs import Run, find_run, list_runs, planned, run_status, sessions

if TYPE_CHECKING:
    from store.database import Database


LEAST_WIDTH = 132
PIPE_WIDTH = 10_000  # for a program only texts are cut
LEGEND = (
    "tokens, sequential tokens and verifier passes are means a problem; "
    "seconds are the whole run's, generating, verifying and storing"
)


class _Output(Console):
    """Tells the caller that nobody reads any more, where Console would end the program as if it had failed."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console() -> Console:
    """Standard output. Where it is no terminal, or a narrow one, tables keep the width they need."""
    width = max(shutil.get_terminal_size().columns, LEAST_WIDTH) if sys.stdout.isatty() else PIPE_WIDTH
    return _Output(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def table(*columns: str, title: str = "") -> Table:
    """A plain table; columns beginning with ">" are right-aligned."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return made


def seconds(found: Summary) -> float:
    """What a run has worked: generating, verifying and storing. Pauses between interrupted parts do not count."""
    return found.generate_seconds + found.verify_seconds + found.embed_seconds + found.store_seconds


def number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def comparison(opened: Database, ids: Sequence[str], title: str = "") -> Table:
    """One line a run: accuracy with its 95% interval (Wilson), and costs a problem."""
    made = table("strategy", ">accuracy", ">95% interval", ">tokens", ">sequential", ">passes", ">seconds", title=title)
    for run_id in ids:
        run, found = find_run(opened, run_id), queries.summary(opened, run_id)
        made.add_row(
            run.name or str(run.spec.strategy),
            number(found.accuracy, 3),
            f"[{found.low:.3f}, {found.high:.3f}]" if found.graded else "–",
            number(found.generated_tokens),
            number(found.sequential_tokens),
            number(found.verifier_passes, 1),
            number(None if is_imported(run.spec) else seconds(found), 1),
        )
    return made


def compare(database: str, ids: Sequence[str], json: bool = False) -> int:
    """What a run or a sweep prints at its end; how many problems failed."""
    from store.database import open_database, public

    out = console()
    with open_database(database) as opened:
        if json:
            return records.of_runs(opened, ids)
        file = records.file_of([find_run(opened, each) for each in ids])
        first = find_run(opened, ids[0])
        found = queries.summary(opened, ids[0])
        out.print(comparison(opened, ids, f"{first.spec.problems}: {found.problems} problems"))
        failed = [(i, s.failed) for i in ids if (s := queries.summary(opened, i)).failed]
        for run_id in ids:
            verdicts.warn(opened, run_id)
    out.print(LEGEND)
    for run_id, count in failed:
        out.print(f"run {run_id}: {count} problems failed and count as wrong; ponderosa show {run_id}")
    out.print(f"\nruns      {' '.join(ids)}\ndatabase  {public(database)}")
    hints(ids[-1], database)
    if file:
        out.print(
            f"\n# as FILE.yaml, `ponderosa run -f FILE.yaml` repeats {'this' if len(ids) == 1 else 'these'}\n{file}", end=""
        )
    return sum(count for _, count in failed)


def of_database(database: str) -> str:
    """What a command that is shown needs to find the database; "" for the default one."""
    from flows.cli import DATABASE
    from store.database import public

    return "" if database == DATABASE else f" --database {public(database)}"


def hints(run_id: str, database: str) -> None:
    out, where = console(), of_database(database)
    out.print("try       " + f"ponderosa show {run_id}{where}")
    out.print("          " + f"ponderosa candidates {run_id} --limit 20{where}")
    out.print("          " + 'ponderosa solve "Use 3, 5, 7, 2 to make 24." --strategy beam --tree')


def show_file(opened: Database, wanted: str, json: bool = False) -> None:
    """The spec file that repeats a run."""
    run = find_run(opened, wanted)
    file = records.file_of([run])
    if file is None:
        raise ValueError(f"no spec file repeats run '{run.id}': it was imported, or made by an older version")
    if json:
        records.tell({"run": run.id, "file": file})
    else:
        sys.stdout.write(file)


def show_run(opened: Database, wanted: str, problem: str | None, json: bool = False) -> None:
    run = find_run(opened, wanted)
    if json:
        records.tell(records.of_run(opened, run) if problem is None else _problem(opened, run, problem))
        return
    if problem is not None:
        _show_problem(opened, run, problem)
        return
    out, found = console(), queries.summary(opened, run.id)
    out.print(f"run         {run.id} {run.name}")
    out.print(f"status      {run_status(opened, run)}: {found.done} done, {found.failed} failed, {found.pending} pending")
    if found.pending:
        out.print(f"            the figures are of the {found.done + found.failed} problems that are finished; ", end="")
        resting = run_status(opened, run) in ("interrupted", "abandoned")
        out.print(f"`ponderosa resume {run.id}` does the rest" if resting else "the rest is under way")
    parts = ("problems", "generator", "verifier", "strategy")
    if is_imported(run.spec) and run_status(opened, run) != "done":
        out.print("            the import was cut off; the same command goes on with it")
    for key, value in jsonlib.loads(run.spec.json()).items():
        if is_imported(run.spec) and key not in parts:
            continue  # how they were generated is not known
        shown = str(getattr(run.spec, key)) if key in parts else value
        if isinstance(shown, dict):
            shown = ", ".join(f"{name} {each}" for name, each in shown.items() if each is not None) or "none"
        out.print(f"{key:<12}{shown}")
    out.print(f"commit      {run.environment.get('commit', '')}")
    if "canaries" in run.environment:
        out.print(f"canaries    {run.environment['canaries']}")
    worked = sessions(opened, run.id)
    commits = dict.fromkeys(environment.get("commit", "") for _, _, environment in worked)
    if len(worked) > 1:
        out.print(f"worked on   by {len(worked)} processes, commits {', '.join(commits)}")
    if found.wasted_tokens:
        out.print(f"wasted      {found.wasted_tokens:,.0f} tokens of searches that were begun again")
    out.print()
    out.print(comparison(opened, [run.id]))
    if counted := verdicts.line(opened, run.id):
        out.print(f"\nverdicts    {counted}")
    _show_known_costs(found) if is_imported(run.spec) else _show_costs(found)
    _show_selectors(opened, run)
    _show_failures(opened, run)


def _show_costs(found: Summary) -> None:
    """The cost ledger, as means a problem; what is in brackets is part of what is before it."""
    rejected = None if found.drafted_tokens is None else found.drafted_tokens - (found.accepted_tokens or 0)
    out = console()
    out.print(
        f"\ngenerated   {number(found.generated_tokens)} tokens a problem ({number(found.pruned_tokens)} pruned, "
        f"{number(found.cancelled_tokens)} cancelled), {number(found.sequential_tokens)} one after another; "
        f"{number(found.candidates, 1)} candidates; {number(rejected)} guessed in vain"
    )
    out.print(
        f"prompts     {number(found.prompt_tokens)} tokens computed ({number(found.recomputed_tokens)} again), "
        f"{number(found.cached_tokens)} reused"
    )
    out.print(
        f"verified    {number(found.verifier_passes, 1)} passes over {number(found.verifier_tokens)} tokens; "
        f"embedded {number(found.embedding_tokens)} tokens"
    )
    flops = "–" if found.flops is None else f"{found.flops:.3g}"
    out.print(f"FLOPs       {flops} a problem (2 x parameters x tokens)")
    out.print(
        f"seconds     generating {found.generate_seconds:.1f}, verifying {found.verify_seconds:.1f}, "
        f"embedding {found.embed_seconds:.1f}, storing {found.store_seconds:.1f}, in all"
    )
    if found.invalid_scores:
        out.print(f"invalid     {found.invalid_scores:,.0f} scores were no number in [0, 1]: they chose and ordered nothing")


def _show_known_costs(found: Summary) -> None:
    """What is known of the costs of candidates that were written elsewhere."""
    console().print(
        f"\ngenerated   {number(found.generated_tokens)} tokens a problem; {number(found.candidates, 1)} candidates; "
        "what else it cost is not known: the candidates are imported"
    )
    if found.invalid_scores:
        console().print(f"invalid     {found.invalid_scores:,.0f} scores are no number in [0, 1]: they choose nothing")


# what some selectors go by: imported candidates may be without it, and what came out would be the order of the file
_BASIS: dict[str, Callable[[Entry], bool]] = {
    "self-certainty": lambda entry: entry.certainty > 0,
    "borda": lambda entry: entry.certainty > 0,
    "logprob": lambda entry: entry.logprob > float("-inf") and entry.tokens > 0,
    "shortest": lambda entry: entry.tokens > 0,
}


def _show_selectors(opened: Database, run: Run) -> None:
    """What each selector would have chosen from the candidates as they are stored: no generation."""
    from verifiers.grade import Graders, Verdict

    problems = {a.attempt_id: a.problem for a in planned(opened, run.id)}
    judges = queries.verifiers(opened, run.id, closed=True)
    lacking: set[str] = set()
    hits, ceiling, scored, most, closed = Counter[str](), 0, False, 0, 0
    with Graders() as graders:
        for attempt, pool in queries.pools(opened, run.id, judges[0] if judges else None):
            most, closed = max(most, len(pool)), closed + 1
            scored = scored or any(entry.value is not None for entry in pool)
            if is_imported(run.spec):
                lacking |= {name for name, knows in _BASIS.items() if not all(map(knows, pool))}
            right = {
                answer: graders.grade(problems[attempt], answer) is Verdict.CORRECT
                for answer in {entry.answer for entry in pool if entry.answer}
            }
            for name in SELECTORS:
                hits[name] += right.get(Selector(name)(pool).answer or "", False)
            ceiling += any(right.values())
    if most < 2:
        return
    made = table(
        "selector", ">accuracy", title="\nselectors, with their defaults, replayed over all stored solutions, pruned ones too"
    )
    found = queries.summary(opened, run.id)
    made.add_row("as the run chose", number(found.accuracy, 3))
    for name, rule in SELECTORS.items():
        if (scored or not rule.needs_verifier) and not rule.reads and name not in lacking:  # `reselect` has the others
            made.add_row(name, f"{hits[name] / closed:.3f}")
    made.add_row("oracle (any right)", f"{ceiling / closed:.3f}")
    console().print(made)
    if len(judges) > 1:
        console().print(f"by the scores of {judges[0]}; others are {', '.join(judges[1:])}")


def _show_failures(opened: Database, run: Run) -> None:
    for row in queries.attempts(opened, run.id):
        if row.status == "failed":
            console().print(f"failed     {row.problem}: {escaped(row.error or '', 160)} ({row.tries} tries)")


def attempt_at(opened: Database, run: Run, problem: str) -> queries.AttemptRow:
    """The run's attempt at a problem; StoreError with the nearest where it has no such problem."""
    attempts = {row.problem: row for row in queries.attempts(opened, run.id)}
    if problem not in attempts:
        near = get_close_matches(problem, attempts, n=3, cutoff=0.3)
        known = f"the nearest are {', '.join(near)}" if near else f"its first are {', '.join([*attempts][:3])}"
        raise StoreError(f"run '{run.id}' has no problem '{problem}' among its {len(attempts)}; {known}")
    return attempts[problem]


def _problem(opened: Database, run: Run, problem: str) -> dict[str, Any]:
    """One problem's search for machines: the attempt, and its candidates as `candidates --json` has them."""
    attempt = attempt_at(opened, run, problem)
    asked = next(a.problem for a in planned(opened, run.id) if a.attempt_id == attempt.id)
    told = {"run": run.id, "question": asked.prompt, "reference": asked.answer, **asdict(attempt)}
    return {**told, "tree": [_record(row) for row in queries.tree(opened, attempt.id)]}


def _show_problem(opened: Database, run: Run, problem: str) -> None:
    attempt = attempt_at(opened, run, problem)
    prompt = next(a.problem for a in planned(opened, run.id) if a.attempt_id == attempt.id)
    rows = queries.tree(opened, attempt.id)
    out = console()
    out.print(f"question   {escaped(prompt.prompt)}\nreference  {escaped(prompt.answer)}")
    out.print(
        f"answer     {escaped(attempt.answer or 'none')} ({attempt.verdict or 'not graded'})\nbecause    {attempt.reason}\n"
    )
    scores: dict[str, Score] = {row.path: row.scores[0] for row in rows if row.scores}
    states = {row.path: (State(row.state), row.cause) for row in rows}
    out.print(drawn(problem, {row.path: row.text for row in rows}, scores, states, attempt.path))


def list_all(opened: Database, json: bool = False) -> None:
    if json:
        records.tell(*({**records.about(opened, run), "spec": jsonlib.loads(run.spec.json())} for run in list_runs(opened)))
        return
    made = table("run", "name", "status", "problems", "verifier", "created")
    for run in list_runs(opened):
        made.add_row(
            run.id,
            oneline(run.name, 40 if sys.stdout.isatty() else PIPE_WIDTH),
            run_status(opened, run),
            f"imported:{run.spec.problems.params['format']}" if is_imported(run.spec) else str(run.spec.problems),
            str(run.spec.verifier),
            run.created[:19],
        )
    console().print(made)


def list_candidates(opened: Database, wanted: str, problem: str | None, state: str | None, limit: int, json: bool) -> None:
    if state is not None:
        one_of("state", state, list(State))
    run = find_run(opened, wanted)
    if problem is not None:
        attempt_at(opened, run, problem)
    rows = queries.candidates(opened, run.id, problem=problem, limit=limit, state=state)
    out = console()
    if json:
        for row in rows:
            sys.stdout.write(jsonlib.dumps(_record(row)) + "\n")
        return
    made = table("problem", "path", ">tokens", ">ln p", ">certainty", ">score", "state", "answer", "text")
    for row in rows:
        value = row.scores[0].value if row.scores else None
        made.add_row(
            row.problem,
            row.path,
            number(_tokens(row)),
            number(row.logprob, 2),
            number(row.certainty, 2),
            number(value, 3),
            row.state + (f" ({row.cause})" if row.cause not in ("", "end") else ""),
            oneline(row.answer or "", 16),
            oneline(row.text, 48),
        )
    out.print(made)
    if len(rows) == limit:
        out.print(f"the first {limit}; --limit shows more")


def _record(row: queries.CandidateRow) -> dict[str, Any]:
    kept = {f.name: getattr(row, f.name) for f in fields(row) if f.name != "scores"}
    scores = {s.verifier: {"value": s.value, "parts": s.parts, "reason": s.reason} for s in row.scores}
    return {**kept, "tokens": _tokens(row), "scores": scores}


def _tokens(row: queries.CandidateRow) -> int | None:
    """A text has tokens: where none are counted, it was imported without their number."""
    return None if not row.tokens and row.text else row.tokens


def list_models(json: bool = False) -> None:
    if json:
        records.tell(records.models())
        return
    from pipelines.models import BUNDLED, NAMES, card

    out = console()
    for role, folder in BUNDLED.items():
        known = card(folder)
        weights = sum(p.stat().st_size for p in folder.glob("*.safetensors"))
        out.print(f"{role:<10} {NAMES[role]}, {weights / 1e6:.1f} MB")
        out.print(f"           made by {known.get('command', 'an unknown command')}, commit {known.get('commit', '-')}")
        for line in _figures(known.get("figures", {})):
            out.print(f"           {line}")
    out.print("\nother models: --generator FOLDER or HUB/NAME; --verifier prm:model=FOLDER")


def _figures(figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for group, values in figures.items():
        said = values if not isinstance(values, Mapping) else ", ".join(f"{k} {v}" for k, v in values.items())
        lines.append(f"{group}: {said}")
    return lines


def list_strategies(json: bool = False) -> None:
    if json:
        records.tell(records.strategies())
        return
    from search.strategies import STRATEGIES, resolved
    from verifiers.registry import VERIFIERS

    out = console()
    out.print("strategies, as NAME or NAME:KEY=VALUE,...\n")
    for name, cls in STRATEGIES.items():
        defaults = ",".join(f"{key}={value}" for key, value in resolved(Part(name)).params.items())
        out.print(f"  {name:<14} {(cls.__doc__ or '').strip().splitlines()[0]}")
        out.print(f"  {'':<14} {name}{':' + defaults if defaults else ''}\n")
    out.print("selectors, as select=NAME; those that read scores take join=last|min|prod|mean\n")
    for name, rule in SELECTORS.items():
        out.print(f"  {name:<14} {rule.about}{' (needs a verifier)' if rule.needs_verifier else ''}")
    out.print("\nverifiers, as NAME or NAME:join=...,...\n")
    for name, known in VERIFIERS.items():
        takes = ", ".join(f"{key}=" for key in ("join", *known.takes))
        out.print(f"  {name:<14} {known.about}; join={known.join} ({takes})")
