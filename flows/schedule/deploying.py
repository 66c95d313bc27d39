"""`ponderosa deploy`: a schedule as a deployment on a process work pool of a Prefect server.

The same again changes what is there. Parameters hold no password: a worker finds the database's whole URL in its own
PONDEROSA_DATABASE. There is no concurrency limit, since a flow run whose machine died would go on to count: that a slot is run
once is what our own database sees to.
"""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import flows
from flows import records
from flows.schedule.editing import stored
from store.database import public
from store.schedules import Schedule, find_schedule, moment_of

if TYPE_CHECKING:
    from prefect.automations import AutomationCore

AUTOMATION = "ponderosa: a flow run without a heartbeat is crashed"
BEAT = 30  # seconds, the least that Prefect allows
ENTRYPOINT = "flows/schedule/flow.py:slots"
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


def run(database: str, name: str, pool: str, window: int, json: bool = False) -> None:
    """Registers, and says what a worker needs."""
    with stored(database) as opened:
        schedule = find_schedule(opened, name)
    from flows import evaluate  # noqa: F401  sets Prefect's environment before it is imported

    server()
    made = made_pool(pool)
    where = public(database if "://" in database else os.path.abspath(database))
    deployed(schedule, where, pool)
    automation = automated(window)
    if json:
        about = {"deployment": f"slots/{name}", "pool": pool, "made": made, "automation": automation}
        records.tell({**about, "worker": f"prefect worker start --pool {pool}", "database": where})
        return
    typer.echo(f"deployment slots/{name}: {schedule.rule}, on work pool '{pool}'{' (made)' if made else ''}")
    typer.echo(f"automation {automation}")
    typer.echo(f"worker     prefect worker start --pool {pool}")
    if where != database and "://" in database:
        typer.echo("           with the whole URL in PONDEROSA_DATABASE: its password is not given to Prefect")


def server() -> str:
    """The server's URL; ValueError where there is none, or it does not answer."""
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        raise ValueError(
            "deploy needs a Prefect server: start one with `prefect server start`, and set PREFECT_API_URL to what it prints; "
            "`ponderosa serve` needs none"
        )
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error is not None:
        raise ValueError(f"the Prefect server {public(str(url))} does not answer ({type(error).__name__}); start it")
    return str(url)


def made_pool(name: str) -> bool:
    """Whether the pool had to be made. ValueError for one of another type."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            found = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
            return True
    if found.type != "process":
        raise ValueError(f"work pool '{name}' is of type '{found.type}'; name one of type process")
    return False


def deployed(schedule: Schedule, where: str, pool: str) -> None:
    from prefect import flow
    from prefect.schedules import Cron, Interval

    if schedule.cron is not None:
        due: Any = Cron(schedule.cron, timezone=schedule.zone)
    else:
        due = Interval(timedelta(seconds=schedule.every or 0), anchor_date=moment_of(schedule.anchor), timezone="UTC")
    source = str(Path(flows.__file__).resolve().parent.parent)
    found = flow.from_source(source, entrypoint=ENTRYPOINT)
    with redirect_stdout(io.StringIO()):  # its own table says less than we do
        found.deploy(  # type: ignore[union-attr]
            name=schedule.name,
            work_pool_name=pool,
            schedules=[due],
            paused=schedule.status != "active",
            parameters={"schedule": schedule.name, "database": where},
            job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(BEAT)}},
            description=f"{schedule.spec.strategy} on {schedule.spec.problems}",
            tags=["ponderosa"],
            print_next_steps=False,
            ignore_warnings=True,
        )


def automated(window: int) -> str:
    """Makes or updates the automation that marks a flow run as crashed whose heartbeat has stopped; what became of it."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    wanted = automation(window)
    try:
        with get_client(sync_client=True) as client:
            known = client.read_automations_by_name(AUTOMATION)
            if known:
                client.update_automation(known[0].id, wanted)
            else:
                client.create_automation(wanted)
    except PrefectHTTPStatusError as error:  # a server without automations
        return f"none: the server answers {error.response.status_code}; a flow run whose machine died stays Running on its page"
    return f"'{AUTOMATION}' after {window} s{' (updated)' if known else ''}"


def automation(window: int) -> AutomationCore:
    """A flow run that has sent a heartbeat, and then neither another nor an end within the window, is marked as crashed. Our
    own leases do not wait for that: it is for Prefect's page."""
    from prefect.automations import AutomationCore, EventTrigger, Posture
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    beat = "prefect.flow-run.heartbeat"
    trigger = EventTrigger(
        posture=Posture.Proactive,
        after={beat},
        expect={beat, *(f"prefect.flow-run.{end}" for end in ENDS)},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        within=timedelta(seconds=window),
    )
    message = f"no heartbeat for {window} s; `ponderosa trend` and `schedule show` tell what became of its slot"
    crash = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message, force=False)
    return AutomationCore(name=AUTOMATION, trigger=trigger, actions=[crash])


__all__ = ["automated", "automation", "deployed", "made_pool", "run", "server"]
