"""Starts evaluations: as a Prefect flow, or in plain Python with the same result."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from flows import server, work
from flows.ahead import Ahead
from flows.cli import FOLDER
from flows.progress import board, said, shown
from search.types import RunSpec
from store.database import open_database, public
from store.errors import Unavailable
from store.imported import is_imported
from store.runs import find_run, retry


def launch(specs: Sequence[RunSpec], names: Sequence[str], database: str, plain: bool = False) -> list[str]:
    """Runs the specs one after another; their ids. All are checked before the first one starts."""
    for spec in specs:
        work.check(spec)
    if os.path.dirname(database) == FOLDER:
        os.makedirs(FOLDER, exist_ok=True)
    open_database(database).close()  # a bad database is said before anything is loaded
    with board(len(specs)):
        if plain:
            return [_plain(spec, name, database) for spec, name in zip(specs, names, strict=True)]
        with _prefect(Ahead(specs[0], names[0], database)) as flows:
            jsons, where = [spec.json() for spec in specs], _without_password(database)
            if len(specs) == 1:
                return [flows.evaluate(jsons[0], where, names[0], show=True)]
            ids: list[str] = flows.sweep(jsons, where, list(names), show=True)
            return ids


def resume(wanted: str, database: str, restart: bool = False, retry_failed: bool = False, plain: bool = False) -> str:
    """Goes on with a run that is in the database; its problem set need not be there any more. The run's id."""
    with open_database(database, create=False) as opened:
        run = find_run(opened, wanted)
        if is_imported(run.spec):
            left = "an import that was cut off goes on by its own command" if run.status != "done" else "all of it is there"
            raise ValueError(f"run '{run.id}' was imported, and has nothing to resume: {left}")
        work.check(run.spec, problems=False)
        if retry_failed:
            said(f"{retry(opened, run.id) or 'no'} failed problems are opened again")
        if restart:
            work.begin_again(opened, run.id)
        if plain:
            with shown(run.name or run.id, key=run.id) as watch:
                work.resume(opened, run.spec, watch, said)
            return run.id
    name = run.name or run.id
    with board(), _prefect(Ahead(run.spec, name, database, planned_before=True)) as flows:
        flows.evaluate(run.spec.json(), _without_password(database), name, show=True, planned_before=True)
    return run.id


@contextmanager
def _prefect(ahead: Ahead) -> Iterator[ModuleType]:
    """Our flows, imported while the work has begun. Where Prefect does not come up, what was answered is stored, and that is
    said in one line."""
    ahead.start()
    try:
        ahead.await_token()
        from flows import evaluate

        _quiet()
        server.apart()
        yield evaluate
    except Exception as error:
        if (said := _away(error)) is None:
            raise
        raise Unavailable(said) from error
    except BaseException:  # a signal
        ahead.stop()
        ahead.close()
        raise
    finally:
        ahead.stop()


def _away(error: Exception) -> str | None:
    """What to say where it is Prefect's server that failed; None for any other error."""
    text = str(error)
    if "ephemeral Prefect API server" not in text and "Failed to reach API" not in text and type(error).__module__ != "httpx":
        return None
    server = os.environ.get("PREFECT_API_URL")
    what = f"the server at PREFECT_API_URL={public(server)}" if server else "Prefect's temporary server"
    return f"{what} did not answer; what was done is stored: the same command goes on, with --plain without Prefect"


def _without_password(database: str) -> str:
    """What Prefect may show of the place; the flows find the whole in the environment."""
    os.environ["PONDEROSA_DATABASE"] = database
    return public(database)


def _plain(spec: RunSpec, name: str, database: str) -> str:
    with open_database(database) as opened, shown(name, key=spec.id) as watch:
        return work.evaluate(opened, spec, name, watch, said)


def _quiet() -> None:
    """Prefect's own start-up messages are not the user's concern."""
    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        # what ends a flow is raised, and said once, by the command
        logging.getLogger(name).addFilter(_unsaid)
    warnings.filterwarnings("ignore", module="prefect")


def _unsaid(record: logging.LogRecord) -> bool:
    told = ("Crash", "Encountered an exception during execution", "Finished in state Failed")
    return bool(os.environ.get("PONDEROSA_DEBUG")) or not any(each in record.getMessage() for each in told)
