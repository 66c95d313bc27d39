"""The Prefect flow of a deployment: runs what is due of a schedule, each slot as an `evaluate` flow of its own.

Prefect is the clock that starts it. Which slots there are, and who runs them, is in our database: a flow run that Prefect has
started twice, or late, finds nothing left to do. Where Prefect reads a cron string otherwise, at a change of clocks, the flow
waits for the slot that follows.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flows import evaluate as evaluation  # sets Prefect's environment before it is imported

# isort: split
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed, Failed

from flows.cli.options import DATABASE
from flows.parameters import RunParameters
from flows.schedule.scheduler import Scheduler, Touch, utc_now
from flows.schedule.times import over_change
from search.types import RunSpec
from store.database import open_database, public
from store.errors import LeaseLost
from store.schedules import find_schedule


@contextmanager
def touched(touch: Touch, every: float = 60.0) -> Iterator[None]:
    """Says that the block goes on, from a thread: it has no lines of its own that would."""
    over = threading.Event()

    def say() -> None:
        with suppress(LeaseLost):  # its end will say so
            while not over.wait(every):
                touch()

    threading.Thread(target=say, name="touch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


@flow(name="slots", flow_run_name="{schedule}")
def slots(schedule: str = "", database: str = "") -> State[str]:
    """Runs the slots of one schedule that are due, or of all ('')."""
    # what Prefect stores has no password: the worker's environment has the whole
    where = evaluation.located(database) if database else os.environ.get("PONDEROSA_DATABASE", DATABASE)
    say = get_run_logger().info

    def evaluate(spec: RunSpec, name: str, touch: Touch) -> None:
        with touched(touch):
            evaluation.evaluate(RunParameters.model_validate(spec), public(where), name, show=True)

    os.environ["PONDEROSA_DATABASE"] = where
    with open_database(where) as opened:
        scheduler = Scheduler(opened, evaluate, schedule, say=say)
        ended = scheduler.once()
        if schedule and (seconds := over_change(find_schedule(opened, schedule), utc_now())):
            say(f"the clocks are changed before the next slot; waiting {seconds:.0f} s for it")
            time.sleep(seconds)
            ended += scheduler.once()
    for told in scheduler.alarms:
        resource = {"prefect.resource.id": f"ponderosa.schedule.{told.facts['SCHEDULE']}"}
        emit_event(f"ponderosa.{told.event}", resource=resource, payload=dict(told.facts))
    message = ", ".join(f"{count} {status}" for status, count in sorted(ended.items())) or "nothing is due: a duplicate"
    alarmed = [told.said for told in scheduler.alarms]
    state = Failed if ended["failed"] or ended["left"] or ended["queued"] or scheduler.unread else Completed
    return state(message="; ".join([message, *alarmed]))
