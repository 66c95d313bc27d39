"""Starts evaluations: as a Prefect flow, or in plain Python with the same result."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Sequence

from flows import work
from flows.cli import FOLDER
from flows.progress import said, shown
from flows.stretch import biggest_first
from search.types import RunSpec
from store.database import open_database, public
from store.imported import is_imported
from store.runs import find_run, retry


def launch(
    specs: Sequence[RunSpec], names: Sequence[str], database: str, plain: bool = False, share: bool = False
) -> list[str]:
    """Runs the specs one after another; their ids. All are checked before the first one starts. With `share`, what one of them,
    or another stored run, has generated is not generated again."""
    for spec in specs:
        work.check(spec)
    if os.path.dirname(database) == FOLDER:
        os.makedirs(FOLDER, exist_ok=True)
    open_database(database).close()  # a bad database is said before anything is loaded
    if plain:
        named = {spec.id: name for spec, name in reversed([*zip(specs, names, strict=True)])}
        for spec in biggest_first(specs, share):
            _plain(spec, named[spec.id], database, share)
        return [spec.id for spec in specs]
    # the models load while Prefect is imported: both take seconds, on different cores
    warm = threading.Thread(target=_warm, args=(specs[0],), daemon=True)
    warm.start()
    from flows import evaluate as flows
    from flows.parameters import RunParameters

    _quiet()
    warm.join()
    parameters = [RunParameters.model_validate(spec) for spec in specs]
    where = _without_password(database)
    if len(specs) == 1:
        return [flows.evaluate(parameters[0], where, names[0], show=True, share=share)]
    return flows.sweep(parameters, where, list(names), show=True, share=share)


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
            with shown(run.name or run.id) as watch:
                work.resume(opened, run.spec, watch, said)
            return run.id
    from flows import evaluate as flows
    from flows.parameters import RunParameters

    _quiet()
    asked = RunParameters.model_validate(run.spec)
    flows.evaluate(asked, _without_password(database), run.name or run.id, show=True, planned_before=True)
    return run.id


def _without_password(database: str) -> str:
    """What Prefect may show of the place; the flows find the whole in the environment."""
    os.environ["PONDEROSA_DATABASE"] = database
    return public(database)


def _plain(spec: RunSpec, name: str, database: str, share: bool) -> str:
    with open_database(database) as opened, shown(name) as watch:
        return work.evaluate(opened, spec, name, watch, said, share)


def _warm(spec: RunSpec) -> None:
    try:
        work.generator_of(spec.generator)
        work.verifier_of(spec.verifier)
    except Exception:  # the flow will meet the same error and say it where it belongs
        logging.getLogger(__name__).debug("models not warmed", exc_info=True)


def _quiet() -> None:
    """Prefect's own start-up messages are not the user's concern."""
    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        # what ends a flow is raised, and said once, by the command
        logging.getLogger(name).addFilter(lambda record: "Crash" not in record.getMessage())
    warnings.filterwarnings("ignore", module="prefect")
