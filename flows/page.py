"""What Prefect's page shows of a flow: names, tags, how far it is, the table, the plot.

For display only: what the page's server does not take is said in the log, and the work goes on.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any
from uuid import UUID

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run, task_run

from flows.parameters import Grid, RunParameters
from flows.report import summary as report
from flows.stretch import overall
from flows.watching import Progress, Watcher
from search.types import RunSpec
from store.database import Database
from store.runs import Run, named, named_by

EVERY = 5.0  # seconds between two updates of a progress artifact: each is a request
LONGEST = 200  # characters of a name

_log = logging.getLogger("ponderosa")


# ---------------------------------------------------------------------------------------------------------------- names


def title(run: Run) -> str:
    return named(run)[:LONGEST]


def full_name(spec: RunSpec, name: str = "") -> str:
    """What ran: strategy, problems, model, seed."""
    return f"{name or named_by(spec)}, {spec.problems}, {spec.generator}, seed {spec.seed}"[:LONGEST]


def name_of_run() -> str:
    """The name of an `evaluate` flow run."""
    given = flow_run.parameters
    return full_name(_read(given["spec"]).spec(), str(given.get("name") or ""))


def name_of_sweep() -> str:
    """The name of a `sweep` flow run."""
    given = flow_run.parameters
    runs = Grid.model_validate(given.get("grid") or {}).of([_read(each) for each in given["runs"]])
    first = runs[0].spec()
    return f"{len(runs)} runs, {first.problems}, {first.generator}"[:LONGEST]


def _read(given: Any) -> RunParameters:
    return given if isinstance(given, RunParameters) else RunParameters.model_validate(given)


def about(specs: Sequence[RunSpec]) -> str:
    return full_name(specs[0]) if len(specs) == 1 else f"{len(specs)} runs on {specs[0].problems}"


def tags_of(specs: Sequence[RunSpec]) -> list[str]:
    """Strategies, generators and problem sets."""
    found = [value for spec in specs for value in (spec.strategy.name, spec.generator.name, spec.problems.name)]
    return list(dict.fromkeys(found))


# ------------------------------------------------------------------------------------------------------- what is asked of it


def _tried(what: str, ask: Callable[[], object]) -> None:
    try:
        ask()
    except Exception as error:
        _log.warning("Prefect's server did not take %s: %s", what, error)


def tag_flow(specs: Sequence[RunSpec]) -> None:
    """Tags the flow run that this is called in."""
    run_id = flow_run.id
    if run_id is not None:
        kept = list(dict.fromkeys([*flow_run.tags, *tags_of(specs)]))

        def ask() -> None:
            with get_client(sync_client=True) as client:
                client.update_flow_run(UUID(run_id), tags=kept)

        _tried("the tags", ask)


def rename_task(name: str) -> None:
    """Renames the task run that this is called in."""
    run_id = task_run.id
    if run_id is not None:

        def ask() -> None:
            with get_client(sync_client=True) as client:
                client.set_task_run_name(UUID(str(run_id)), name[:LONGEST])

        _tried("the name", ask)


def publish(opened: Database, ids: Sequence[str], progress: str) -> None:
    """The table, the plot and the paired comparison of what came out."""
    made = report.made(opened, ids)
    key = f"run-{ids[0]}" if len(ids) == 1 else f"sweep-{ids[0]}"
    if progress:
        _tried("the progress", lambda: update_progress_artifact(UUID(progress), progress=100.0))
    _tried("the table", lambda: create_table_artifact(table=made.table, key=key, description=made.heading))
    _tried("the report", lambda: create_markdown_artifact(markdown=made.markdown(""), key=f"{key}-report"))
    if made.plot:
        url = "data:image/svg+xml;base64," + base64.b64encode(made.plot.encode()).decode()
        _tried("the plot", lambda: create_image_artifact(image_url=url, key=f"{key}-plot", description=report.PLOTTED))


# ------------------------------------------------------------------------------------------------------------- progress


class Reporter:
    """Keeps a progress artifact up to date from a thread of its own, at most every few seconds: the work waits for nothing."""

    def __init__(self, opened: Database, ids: Sequence[str], artifact: str, every: float = EVERY) -> None:
        self._all, self._artifact, self._every = overall(opened, ids), artifact, every
        self._before = 0  # done of the run that is at work, when it was gone on with
        self._latest = self._sent = self._all.done
        self._stop = threading.Event()
        # the client's settings are in the context of the flow
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="progress artifact", daemon=True)

    def begin(self) -> None:
        """Another run is begun with."""
        self._all.done, self._before = self._latest, -1

    def __call__(self, progress: Progress) -> None:
        if self._before < 0:
            self._before = progress.done - 1
        self._latest = self._all.done + progress.done - self._before

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._send()

    def _send(self) -> None:
        if self._latest != self._sent and self._all.total:
            self._sent = self._latest
            share = min(100.0 * self._latest / self._all.total, 100.0)
            _tried("the progress", lambda: update_progress_artifact(UUID(self._artifact), progress=share))

    def __enter__(self) -> Reporter:
        if self._artifact:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._artifact:
            self._thread.join(timeout=1.0)


class Both:
    """A watcher that shows and reports, as a context manager."""

    def __init__(self, showing: contextlib.AbstractContextManager[Watcher], reporter: Reporter) -> None:
        self._showing, self._reporter = showing, reporter

    def __enter__(self) -> Watcher:
        watch = self._showing.__enter__()
        self._reporter.begin()

        def both(progress: Progress) -> None:
            watch(progress)
            self._reporter(progress)

        return both

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._showing.__exit__(kind, error, trace)


__all__ = ["Both", "Reporter", "about", "full_name", "name_of_run", "name_of_sweep", "publish", "tag_flow", "tags_of", "title"]
