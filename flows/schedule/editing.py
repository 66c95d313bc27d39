"""`ponderosa schedule add`, `remove`, `pause`, `resume` and `now`."""

from __future__ import annotations

import json as jsonlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import typer

from flows import records
from flows.cli.options import Asked
from flows.schedule import specs
from flows.schedule.alarm import checked_hook
from flows.schedule.scheduler import utc_now
from flows.schedule.times import cron_of, due, every_of, midnight, upcoming, zone_of
from search.types import RunSpec
from store import schedules
from store.database import Database, open_database
from store.errors import StoreError, Unreadable
from store.schedules import Schedule, moment_of, stamp
from store.slots import add_slot, record_due


@dataclass(frozen=True, slots=True)
class Rule:
    """When, in words; one of cron and every."""

    cron: str
    every: str
    zone: str


@dataclass(frozen=True, slots=True)
class Source:
    """What: by a stored run, or by the flags or the file of a run."""

    like: str
    asked: Asked


@dataclass(frozen=True, slots=True)
class Policies:
    seeds: str
    catch_up: str
    overlap: str
    bar: float | None
    bar_by: str
    hook: str


@contextmanager
def stored(database: str, create: bool = False) -> Iterator[Database]:
    """The database; its folder is made where that is the default one."""
    from flows.cli.options import DATABASE

    if create and database == DATABASE:
        os.makedirs(os.path.dirname(DATABASE), exist_ok=True)
    with open_database(database, create=create) as opened:
        yield opened


def readable(opened: Database) -> tuple[list[Schedule], list[Unreadable]]:
    """All schedules that can be served here, by name, and what is wrong with the others."""
    known, faults = schedules.list_schedules(opened)
    found: list[Schedule] = []
    for schedule in known:
        try:
            upcoming(schedule, utc_now(), 1)
            found.append(schedule)
        except Unreadable as fault:
            faults.append(fault)
    return found, faults


def add(database: str, name: str, rule: Rule, source: Source, policies: Policies, json: bool = False) -> None:
    """Checks all of it, stores it, and says when it is due."""
    if bool(rule.cron) == bool(rule.every):
        raise ValueError("say when: either --cron '0 2 * * *' or --every 6h")
    if source.like and (given := _given(source.asked)):
        raise ValueError(f"say what either with --like RUN or with {given}, not with both")
    now, zone = utc_now(), zone_of(rule.zone)
    with stored(database, create=True) as opened:
        spec = specs.anywhere(specs.like(opened, source.like) if source.like else _spec(source))
        schedule = _schedule(name, spec, rule, policies, now)
        specs.checked(spec)
        schedules.add_schedule(opened, schedule)
    if json:
        records.tell(told(schedule))
        return
    typer.echo(f"schedule  {name}: {schedule.rule}")
    typer.echo(f"evaluates {spec.strategy} on {spec.problems}")
    for i, moment in enumerate(upcoming(schedule, now, 3)):
        typer.echo(("next      " if i == 0 else "          ") + local(moment, zone))
    where = "" if database == _default() else f" --database {schedules_public(database)}"
    typer.echo(f"try       ponderosa schedule now {name}{where}; ponderosa serve --once{where}")
    typer.echo(f"          ponderosa serve{where}")


def _schedule(name: str, spec: RunSpec, rule: Rule, policies: Policies, now: datetime) -> Schedule:
    """ValueError for one that cannot be: it was asked for so."""
    zone, made = zone_of(rule.zone), stamp(now)
    try:
        return Schedule(
            name=name,
            spec=spec,
            cron=cron_of(rule.cron) if rule.cron else None,
            every=every_of(rule.every) if rule.every else None,
            anchor=midnight(zone, now),
            zone=zone,
            seeds=policies.seeds,
            catch_up=policies.catch_up,
            overlap=policies.overlap,
            bar=policies.bar,
            bar_by=policies.bar_by,
            hook=checked_hook(policies.hook),
            created=made,
            since=made,
        )
    except StoreError as error:
        raise ValueError(str(error)) from None


def _given(asked: Asked) -> str:
    """The flags of a run that were given, in words."""
    flags = [*(["file"] if asked.file else []), *asked, *(["set"] if asked.settings else [])]
    return ", ".join("--" + flag.replace("_", "-") for flag in flags)


def _spec(source: Source) -> RunSpec:
    from flows import grid

    asked = source.asked
    found, _ = grid.asked(asked.file, asked, asked.settings)
    if len(found) > 1:
        raise ValueError(f"a schedule evaluates one run, and '{asked.file}' has {len(found)}; add a schedule for each")
    return found[0]


def _default() -> str:
    from flows.cli.options import DATABASE

    return DATABASE


def schedules_public(database: str) -> str:
    from store.database import public

    return public(database)


def local(moment: object, zone: str) -> str:
    """A moment in UTC, and in the schedule's zone where that is another."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    assert isinstance(moment, datetime)
    there = "" if zone == "UTC" else f" ({moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M %Z})"
    return stamp(moment) + there


def told(schedule: Schedule) -> dict[str, Any]:
    """A schedule, to machines."""
    names = [name for name in Schedule.__dataclass_fields__ if name != "spec"]
    due = [stamp(moment) for moment in upcoming(schedule, utc_now(), 3)] if schedule.status == "active" else []
    return {**{name: getattr(schedule, name) for name in names}, "spec": jsonlib.loads(schedule.spec.json()), "next": due}


def remove(database: str, name: str, json: bool = False) -> None:
    with stored(database) as opened:
        runs = schedules.remove_schedule(opened, name)
    if json:
        records.tell({"name": name, "status": "removed", "runs": runs})
        return
    typer.echo(f"schedule {name} is removed; its {runs} runs stay")


def set_status(database: str, name: str, status: str, json: bool = False) -> None:
    with stored(database) as opened:
        schedules.set_status(opened, name, status, stamp(utc_now()))
        schedule = schedules.find_schedule(opened, name) if json or status == "active" else None
    if json and schedule is not None:
        records.tell(told(schedule))
        return
    due = "" if schedule is None else f"; next {local(upcoming(schedule, utc_now(), 1)[0], schedule.zone)}"
    typer.echo(f"schedule {name} is {status}{due}")


def now(database: str, name: str, json: bool = False) -> None:
    """Queues a slot of this second."""
    with stored(database) as opened:
        schedule, moment = schedules.find_schedule(opened, name), stamp(utc_now())
        if schedule.status != "active":
            raise ValueError(f"schedule '{name}' is paused; ponderosa schedule resume {name}")
        # what is due before this slot is recorded first: it is looked for behind the last that is recorded
        record_due(opened, name, lambda known, after: due(known, after, moment_of(moment)), moment)
        if not add_slot(opened, name, moment, moment, "asked for by hand"):
            raise ValueError(f"the slot of {moment} is recorded already; try again in a second")
    if json:
        records.tell({"name": name, "slot": f"{name}@{moment}", "status": "queued"})
        return
    where = "" if database == _default() else f" --database {schedules_public(database)}"
    typer.echo(f"slot      {name}@{moment} is queued; ponderosa serve --once{where} runs it, where nobody serves now")


__all__ = ["Policies", "Rule", "Source", "add", "local", "now", "readable", "remove", "set_status", "stored", "told"]
