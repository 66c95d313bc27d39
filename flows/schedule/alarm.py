"""Alarms: a run whose accuracy is below its schedule's bar, or a slot that has failed; and the command that is told of it.

The command gets the facts in environment variables, PONDEROSA_EVENT (below, failed), _SCHEDULE, _SLOT, _RUN, _ACCURACY, _LOW,
_HIGH, _BAR, _PROBLEMS and _REASON; what is not known is empty. It is started without a shell, and has a minute. It may be
called twice for a slot whose process dies at that moment, and is never left out.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from store.rows import Summary
from store.schedules import Schedule
from store.slots import Slot

SECONDS = 60.0  # that a hook may take


@dataclass(frozen=True, slots=True)
class Alarm:
    """What there is to be told of a slot."""

    event: str  # below, failed
    said: str  # in one line
    facts: Mapping[str, str]


def below(schedule: Schedule, slot: Slot, found: Summary, run_id: str) -> Alarm | None:
    """The alarm of a finished run; None where there is no bar, or it is held."""
    if schedule.bar is None or found.accuracy is None or not is_below(schedule.bar, schedule.bar_by, found):
        return None
    measured = f"accuracy {found.accuracy:.3f} [{found.low:.3f}, {found.high:.3f}]"
    which = "its interval's upper end is " if schedule.bar_by == "upper" else ""
    facts = {
        "RUN": run_id,
        "ACCURACY": f"{found.accuracy:.6f}",
        "LOW": f"{found.low:.6f}",
        "HIGH": f"{found.high:.6f}",
        "PROBLEMS": str(found.done + found.failed),
    }
    said = f"{measured}: {which}below the bar of {schedule.bar:g}"
    return Alarm("below", said, {**_facts(schedule, slot, "below"), **facts, "REASON": said})


def is_below(bar: float, bar_by: str, found: Summary) -> bool:
    """Whether a run's accuracy (or its interval's upper end) is below a bar; one that is equal to it is not,
    nor is one of which nothing was graded."""
    if not found.graded:  # that is no accuracy of 0
        return False
    measured = found.high if bar_by == "upper" else found.accuracy
    return measured is not None and measured < bar


def failed(schedule: Schedule, slot: Slot, reason: str) -> Alarm:
    """The alarm of a slot that could not be run."""
    return Alarm("failed", reason, {**_facts(schedule, slot, "failed"), "RUN": slot.run_id or "", "REASON": reason})


def raised(alarm: Alarm, hook: str) -> str:
    """Runs the hook, if there is one; what is kept of the alarm, in one line."""
    return f"{alarm.event}: {alarm.said}" + (f"; {_told(hook, alarm.facts)}" if hook else "")


def checked_hook(hook: str) -> str:
    """The command line as it is kept; ValueError for one that cannot be split into words."""
    try:
        words = shlex.split(hook)
    except ValueError as error:
        raise ValueError(f"hook '{hook[:80]}' cannot be read: {str(error).lower()}") from None
    if hook and not words:
        raise ValueError("the hook is blank; leave it out, or name a command")
    return hook


def _facts(schedule: Schedule, slot: Slot, event: str) -> dict[str, str]:
    unknown = dict.fromkeys(("RUN", "ACCURACY", "LOW", "HIGH", "PROBLEMS"), "")
    bar = "" if schedule.bar is None else f"{schedule.bar:g}"
    return {"EVENT": event, "SCHEDULE": schedule.name, "SLOT": slot.slot_utc, "BAR": bar, **unknown}


def _told(hook: str, facts: Mapping[str, str]) -> str:
    environment = {**os.environ, **{f"PONDEROSA_{name}": value for name, value in facts.items()}}
    try:
        process = subprocess.Popen(
            shlex.split(hook),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"its hook could not be started: {getattr(error, 'strerror', None) or error}"
    try:
        _, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"its hook was ended after {SECONDS:.0f} s"
    except BaseException:  # this process is told to stop: the slot is begun again, and with it the hook
        _end(process)
        raise
    said = errors.decode(errors="replace").strip().splitlines()
    return f"its hook ended with {process.returncode}" + (f" ({said[-1][:200]})" if said and process.returncode else "")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


__all__ = ["Alarm", "below", "checked_hook", "failed", "is_below", "raised"]
