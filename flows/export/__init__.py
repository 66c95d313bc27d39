"""`ponderosa export`: runs in the formats of other programs. Nothing is changed in the database, and nothing is generated.

A format is a module that writes to a place that is not there yet; that place takes its name when all of it is written, so an
export that was cut off is never taken for a whole one. Only closed attempts are written: the others are counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from flows import places, solved
from flows.asking import runs_of
from search.checks import one_of, positive
from store.database import Database
from store.solved import underived

from .attempts import Source
from .formats import FORMATS, Format
from .told import LEVELS, SPLITS, Exported, Options

CARD = "ponderosa.json"  # what says of a folder that an export has made it
DEFAULTS = Options()


def run(
    opened: Database,
    wanted: Sequence[str],
    format: str,
    output: str,
    options: Options = DEFAULTS,
    force: bool = False,
) -> Exported:
    """Writes the runs to `output`. ValueError in one line for what cannot be done, WriteError where it cannot be written."""
    one_of("format", format, FORMATS)
    _check(format, FORMATS[format], options)
    runs = tuple(runs_of(opened, wanted))
    made = Exported(format, output, [each.id for each in runs])
    place, folder = Path(output), FORMATS[format].folder(output)
    _check_place(place, folder, force)
    solved.ensure(opened, made.runs, solved.cheap)
    if left := underived(opened, made.runs):
        made.note(f"the solutions of {left:,} problems, which are judged by running programs, are not judged yet: ask first")
    with places.making(place, folder) as part, opened.read() as connection:
        source = Source(connection, runs)
        made.left_out["unfinished problems"] = source.unfinished()
        FORMATS[format].write(source, part, options, made)
        if folder:
            (part / CARD).write_text(json.dumps(made.told(), indent=2) + "\n", encoding="utf-8")
    return made


def _check(name: str, format: Format, options: Options) -> None:
    for option in options.given():
        if option not in format.takes:
            takers = ", ".join(other for other, each in FORMATS.items() if option in each.takes)
            raise ValueError(f"--{option} is for the format {takers}, not '{name}'; leave it out")
    one_of("level", options.level, LEVELS)
    one_of("split", options.split, SPLITS)
    positive(least=options.least, pairs=options.pairs)
    if options.margin is not None and not (math.isfinite(options.margin) and 0 <= options.margin <= 1):
        raise ValueError(f"--margin must be in [0, 1], as scores are, not {options.margin}")
    if options.margin is not None and options.level == "step":
        raise ValueError("--margin is for whole solutions, whose scores a run has; leave it or --level step out")
    if name == "preferences" and options.least != DEFAULTS.least and options.level != "step":
        raise ValueError("--least is for pairs of steps; add --level step, or leave it out")
    format.available()


def _check_place(place: Path, folder: bool, force: bool) -> None:
    places.checked(place, force, folder)
    if folder and place.is_dir() and any(place.iterdir()) and not (place / CARD).is_file():
        raise ValueError(f"--force replaces only folders that an export has made, and '{place}' has no {CARD}; name another")


__all__ = ["FORMATS", "Exported", "Options", "run"]
