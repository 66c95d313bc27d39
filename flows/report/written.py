"""`ponderosa report`: the page of some runs as one file, and its charts as files for papers."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows import places
from flows.asking import runs_of
from flows.report import summary
from flows.report.assemble import Assembled, assembled, page_of
from flows.report.drawn import drawn
from flows.report.render import render
from flows.report.svg import files
from store.database import Database
from store.runs import Run

MADE = b'<meta name="generator" content="Ponderosa'  # in every page of ours, near its beginning
_MARKS = {".html": MADE, ".md": summary.LEGEND.encode()}
_NEAR = 100_000  # bytes of a file that are looked at
PLOTS = (".svg", ".png")


@dataclass(frozen=True, slots=True)
class Written:
    """What a report has left."""

    file: str
    plots: tuple[str, ...]
    runs: tuple[Run, ...]
    text: str = ""  # in Markdown, where that was asked for

    def lines(self) -> list[str]:
        """For a person."""
        size = Path(self.file).stat().st_size
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        how = f"{size / 1e3:.1f} kB of Markdown" if self.text else f"{size / 1e6:.1f} MB; open it in a browser"
        told = [f"{self.file}  {runs}, {how}"]
        folder = os.path.dirname(self.plots[0]) if self.plots else ""
        return told + [f"{folder}  {len(self.plots)} files"] * bool(self.plots)


def run(
    opened: Database,
    wanted: Sequence[str],
    file: str = "",
    plots: str = "",
    force: bool = False,
    resamples: int = 10_000,
    remarks: Sequence[str] = (),
) -> Written:
    """Writes the page (or, to a file that ends in .md, the summary in Markdown) and the charts; on the page the remarks stand
    above the findings. ValueError where it cannot be, before anything is computed."""
    runs = runs_of(opened, wanted)
    place = file or _named(runs)
    kind = _kind(place)
    _check(place, kind, force)
    folder = _folder(plots) if plots else None
    if kind == ".md":
        text = _summarized(opened, runs, Path(place), resamples)
        return Written(place, () if folder is None else _draw(folder, assembled(opened, runs)), tuple(runs), text)
    command = f"ponderosa report {' '.join(each.id for each in runs)}"
    with _uncollected():
        found = assembled(opened, runs)
        _write(Path(place), render(page_of(opened, found, command, remarks=remarks)))
    return Written(place, () if folder is None else _draw(folder, found), tuple(runs))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: a page's million values are in none, and it would go through them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _named(runs: Sequence[Run]) -> str:
    more = f"-and-{len(runs) - 1}-more" if len(runs) > 1 else ""
    return f"report-{runs[0].id}{more}.html"


def _kind(file: str) -> str:
    suffix = Path(file).suffix.lower()
    if suffix not in (".html", ".htm", ".md"):
        raise ValueError(f"the report's file '{file}' must end in .html (the page) or .md (its summary)")
    return ".md" if suffix == ".md" else ".html"


def _check(file: str, kind: str, force: bool) -> None:
    """What is ours is made anew; another file is left alone."""
    path = Path(file)
    ours = os.path.isfile(path) and _ours(path, kind)
    if not (force or ours) and os.path.isfile(path):
        raise ValueError(f"'{file}' is there already and is no report; name another file, or --force writes over it")
    places.checked(path, force=True)
    if kind == ".md":  # the plot stands beside it
        places.checked(path.with_suffix(".svg"), force or ours)


def _ours(path: Path, kind: str) -> bool:
    """Whether a file is of an earlier report, or empty."""
    try:
        with path.open("rb") as file:
            beginning = file.read(_NEAR)
    except OSError:
        return False
    return not beginning or _MARKS[kind] in beginning


def _folder(plots: str) -> Path:
    folder = Path(plots)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder '{plots}' for the charts: {error.strerror}; name another") from error
    return folder


def _summarized(opened: Database, runs: Sequence[Run], file: Path, resamples: int) -> str:
    """The summary in Markdown, written with its plot beside it."""
    report, picture = summary.made(opened, [each.id for each in runs], resamples), file.with_suffix(".svg")
    text = report.markdown(picture.name if report.plot else "")
    if report.plot:
        _write(picture, report.plot)
    _write(file, text)
    return text


def _write(file: Path, text: str) -> None:
    with places.making(file) as part:
        part.write_text(text, encoding="utf-8")


def _draw(folder: Path, found: Sequence[Assembled]) -> tuple[str, ...]:
    """Every chart of every group, twice."""
    made = []
    for each in found:
        title = re.sub(r"[^\w=.-]+", "-", each.group.title).strip("-")[:60]
        for question, chart in drawn(each.answers).items():
            for suffix in PLOTS:
                path = folder / f"{title}-{question}{suffix}"
                files(chart, path)
                made.append(str(path))
    return tuple(made)


__all__ = ["MADE", "Written", "run"]
