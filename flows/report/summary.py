"""`ponderosa report`: runs in one table, accuracy against tokens as a plot, and each later run in pairs with the first.

Text, in Markdown: as a file, and as an artifact on Prefect's page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.show import escaped
from flows.tables import number, seconds
from store import queries
from store.compare import FEW, Comparison, adjusted, common, paired, side
from store.database import Database
from store.rows import Summary
from store.runs import Run, find_run, named

COLUMNS = ("run", "strategy", "accuracy", "95% interval", "problems", "tokens", "sequential", "passes", "shared", "seconds")
LEGEND = (
    "Accuracy with its 95% interval (Wilson). Tokens, sequential tokens and verifier passes are means a problem; shared is the "
    "part of the tokens that another run had generated; seconds are the run's, generating, verifying and storing, without what "
    "the shared tokens had cost."
)
PLOTTED = "accuracy against generated tokens a problem (log scale), with 95% intervals"


@dataclass(frozen=True, slots=True)
class Report:
    """A report, before it is written anywhere."""

    heading: str
    table: list[dict[str, Any]]  # a row a run, by COLUMNS
    pairs: list[str]  # Markdown lines
    plot: str  # an SVG; '' where no run has a known cost and accuracy

    def markdown(self, plot: str) -> str:
        """The whole; `plot` is the address of the picture, '' = none."""
        head = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS)
        rows = ["| " + " | ".join(_cell(row[name]) for name in COLUMNS) + " |" for row in self.table]
        parts = [f"# {_cell(self.heading)}", "\n".join([head, *rows]), LEGEND]
        parts += [f"![{PLOTTED}]({plot})"] if plot else []
        parts += ["## In pairs with the first", "\n".join(self.pairs)] if self.pairs else []
        return "\n\n".join(parts) + "\n"


def made(opened: Database, ids: Sequence[str], resamples: int = 10_000) -> Report:
    """The report of runs by their ids, the first of which the others are compared with."""
    runs = [find_run(opened, each) for each in ids]
    found = [queries.summary(opened, run.id) for run in runs]
    sets = list(dict.fromkeys(str(run.spec.problems) for run in runs))
    heading = f"{len(runs)} runs on {', '.join(sets)}" if len(runs) > 1 else f"{named(runs[0])} on {sets[0]}"
    points = [
        (named(run), each.generated_tokens, each.accuracy, each.low, each.high)
        for run, each in zip(runs, found, strict=True)
        if each.generated_tokens and each.accuracy is not None
    ]
    table = [_row(run, each) for run, each in zip(runs, found, strict=True)]
    return Report(heading, table, _pairs(opened, runs, resamples), _drawn(points) if points else "")


def _drawn(points: Sequence[tuple[str, float, float, float, float]]) -> str:
    """Accuracy against tokens as an SVG, of names, tokens, accuracies and their intervals."""
    from flows.report.chart_records import Estimate, RunPoint
    from flows.report.charts import accuracy_against_tokens
    from flows.report.svg import standalone

    runs = [RunPoint(name, tokens, Estimate(value, low, high)) for name, tokens, value, low, high in points]
    return standalone(accuracy_against_tokens(runs))


def absolute(file: str) -> str:
    return str(Path(file).resolve())


def _row(run: Run, found: Summary) -> dict[str, Any]:
    closed = found.done + found.failed
    total = (found.generated_tokens or 0.0) * closed
    values = (
        run.id,
        named(run),
        number(found.accuracy, 3),
        f"[{found.low:.3f}, {found.high:.3f}]" if found.graded else "–",
        f"{closed}" if not found.pending else f"{closed} of {found.problems}",
        number(found.generated_tokens),
        number(found.sequential_tokens),
        number(found.verifier_passes, 1),
        f"{found.shared_tokens / total:.0%}" if total else "–",
        number(seconds(found) - found.shared_seconds, 1),
    )
    return dict(zip(COLUMNS, values, strict=True))


def compared(opened: Database, runs: Sequence[Run], resamples: int) -> list[Comparison]:
    """Each later run with the first, over the problems that all have finished. ValueError where there are none."""
    sides = [side(opened, [run]) for run in runs]
    keys = common(sides, intersect=True)
    return adjusted([paired(sides[0], other, keys, resamples) for other in sides[1:]])


def _pairs(opened: Database, runs: Sequence[Run], resamples: int) -> list[str]:
    if len(runs) < 2:
        return []
    try:
        pairs = compared(opened, runs, resamples)
    except ValueError as error:  # runs on other problems: the table stands without
        return [f"No comparison: {error}."]
    count = pairs[0].problems
    few = f" (fewer than {FEW}: the intervals say little)" if count < FEW else ""
    head = f"Over the {count} problems that all have finished{few}. The first is {_cell(named(runs[0]))}.\n"
    columns = (
        "| run | difference | 95% interval | p | only first right | only this right | tokens | \n|---|---|---|---|---|---|---|"
    )
    return [head, columns, *(_pair(named(run), each) for run, each in zip(runs[1:], pairs, strict=True))]


def _pair(name: str, of: Comparison) -> str:
    value, low, high = of.difference
    tokens = of.ratios.get("tokens")
    cells = (
        _cell(name),
        f"{value:+.3f}",
        f"[{low:+.3f}, {high:+.3f}]",
        f"{of.decisive:.4f}" + (f" (Holm {of.holm:.4f})" if of.holm is not None else ""),
        "–" if of.only_first is None else str(of.only_first),
        "–" if of.only_second is None else str(of.only_second),
        "–" if tokens is None else f"x {tokens[0]:.2f}",
    )
    return "| " + " | ".join(cells) + " |"


def _cell(text: object) -> str:
    """A text that breaks no table, and is neither markup nor a link."""
    return escaped(str(text)).replace("<", "&lt;").replace("|", "\\|").replace("](", "]\\(")


__all__ = ["LEGEND", "PLOTTED", "Report", "absolute", "compared", "made"]
