"""When a schedule is due: its slots between two moments, in UTC.

A cron string is read in the schedule's time zone, an interval counts elapsed time. Where clocks are set forward, a cron string
with a fixed hour and minute that falls into the hour that is left out is due right after it; where they are set back, it is due
the first time only. One that repeats within the hour (`*/15 * * * *`, `30 * * * *`) is due in every hour that passes, so in
both of the two. These are the rules of Debian's cron, as the package cronsim has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from store.schedules import Schedule, moment_of, stamp, unreadable

LEAST = 60  # seconds between two slots
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_NOW = datetime(2024, 1, 1, tzinfo=UTC)  # any moment: whether a string is ever due does not depend on it


def cron_of(text: str) -> str:
    """A cron string that is due now and then; ValueError in one line for any other."""
    fields = ALIASES.get(text.strip().lower(), text).split()
    said = f"cron string '{text[:80]}'"
    if len(fields) == 6:
        raise ValueError(f"{said} has a field for seconds; the five fields are minute, hour, day, month, weekday")
    if len(fields) != 5:
        raise ValueError(f"{said} has {len(fields)} fields; the five fields are minute, hour, day, month, weekday")
    cron = " ".join(fields)
    try:
        CronSim(" ".join([*fields[:3], "*", "*"]), _NOW)
        CronSim(" ".join(["0", "0", "*", *fields[3:]]), _NOW)
    except CronSimError as error:
        raise ValueError(f"{said} cannot be read: {str(error).lower()}; an example is '0 2 * * 1-5'") from None
    try:
        next(CronSim(cron, _NOW))
    except (CronSimError, StopIteration):
        raise ValueError(f"{said} is never due: no month of it has that day") from None
    return cron


def every_of(text: str) -> int:
    """The seconds of an interval such as 90m, 6h, 1d or 1h30m; ValueError for one below a minute."""
    compact = text.replace(" ", "").lower()
    pieces = re.findall(r"(\d+)([smhdw])", compact)
    if not pieces or "".join(map("".join, pieces)) != compact:
        raise ValueError(f"interval '{text[:80]}' cannot be read; write it as 30m, 6h or 1d")
    seconds = sum(int(count) * _UNITS[unit] for count, unit in pieces)
    if not LEAST <= seconds <= 366 * 86400:
        raise ValueError(f"interval '{text[:80]}' is {seconds} s; it must be at least {LEAST} s and at most a year")
    return seconds


def zone_of(name: str) -> str:
    """A time zone's IANA name; ValueError with the nearest for one that is not known."""
    try:
        return ZoneInfo(name).key
    except (ValueError, OSError, LookupError):  # what is no name, what is a folder, what is not there
        known = available_timezones()
        near = sorted(zone for zone in known if name and zone.lower().endswith("/" + name.lower()))
        near = near or get_close_matches(name, sorted(known), 3, 0.6)
        said = f"; did you mean {' or '.join(near)}?" if near else "; an example is Europe/Berlin"
        raise ValueError(f"unknown time zone '{name[:80]}'{said}") from None


def moments(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The slots after a moment, UTC, each later than the one before. Raises Unreadable for a schedule whose rule or zone this
    machine cannot read."""
    try:
        zone_of(schedule.zone)
        if schedule.cron is not None:
            cron_of(schedule.cron)
            return _of_cron(schedule, after)
        anchor, every = moment_of(schedule.anchor), timedelta(seconds=schedule.every or LEAST)
    except (ValueError, OverflowError) as error:
        raise unreadable(schedule.name, error) from None
    return _of_interval(anchor, every, after)


def due(schedule: Schedule, after: str, now: datetime) -> list[str]:
    """The slots after `after` and not after `now`, as they are recorded. Raises Unreadable as `moments` does."""
    found: list[str] = []
    try:
        start = moment_of(after)
    except ValueError as error:
        raise unreadable(schedule.name, error) from None
    for moment in moments(schedule, start):
        if moment > now:
            break
        found.append(stamp(moment))
    return found


def upcoming(schedule: Schedule, after: datetime, n: int) -> list[datetime]:
    """The next n slots."""
    return list(islice(moments(schedule, after), n))


def _of_cron(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    zone = ZoneInfo(schedule.zone)
    # from two hours before: the string's own idea of where it stands is off by the hour that is repeated
    start = (after - timedelta(hours=2)).astimezone(UTC if schedule.zone == "UTC" else zone)
    last = after
    for local in CronSim(schedule.cron or "", start):
        moment = local.astimezone(UTC)
        if moment > last:  # two local times that are left out by a change of clocks come to the same moment
            last = moment
            yield moment


def _of_interval(anchor: datetime, every: timedelta, after: datetime) -> Iterator[datetime]:
    moment = anchor + ((after - anchor) // every + 1) * every
    while True:
        yield moment
        moment += every


def over_change(schedule: Schedule, now: datetime) -> float:
    """The seconds to the next slot where the zone's clocks are changed before it and it is at most an hour away; else 0.

    Prefect reads a cron string otherwise there: it starts a flow up to an hour early, or leaves a repeated hour out.
    """
    slot = upcoming(schedule, now, 1)[0]
    zone = ZoneInfo(schedule.zone)
    same = now.astimezone(zone).utcoffset() == slot.astimezone(zone).utcoffset()
    seconds = (slot - now).total_seconds()
    return 0.0 if same or schedule.cron is None or seconds > 3600 else seconds


def midnight(zone: str, now: datetime) -> str:
    """The beginning of the day in a zone: what an interval is counted from."""
    local = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    return stamp(local)


__all__ = ["LEAST", "cron_of", "due", "every_of", "midnight", "moments", "over_change", "upcoming", "zone_of"]
