"""The charts of a group's sheets, drawn from the same rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from flows.report.chart_records import Bin, Curve, CurvePoint, Estimate, Losses, Moment, RunPoint, SeedPoint, Stack
from flows.show import oneline
from store.questions.question import Row

if TYPE_CHECKING:
    from flows.report.chart_style import Chart

Answers = Mapping[str, Sequence[Row]]
CURVES = 6  # runs in a picture of curves: more cannot be told apart
SHORT = 22  # letters of a name with something after it


def drawn(answers: Answers) -> dict[str, Chart]:
    """By the question's name; of those that there is something to draw of."""
    made = {name: draw(answers[name]) for name, draw in DRAWN.items() if answers.get(name)}
    return {name: chart for name, chart in made.items() if chart is not None}


def estimate(row: Row, name: str, low: str = "low", high: str = "high") -> Estimate:
    return Estimate(row[name], row[low], row[high])


def _by_run(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each run: runs may share a name."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["run"]].append(row)
    return list(found.values())


# -------------------------------------------------------------------------------------------------------------- accuracy


def _accuracy(rows: Sequence[Row]) -> Chart | None:
    from flows.report import charts

    points = [RunPoint(row["name"], row["tokens"], estimate(row, "accuracy")) for row in rows]
    known = any(each.tokens and each.accuracy.value is not None for each in points)
    return charts.accuracy_against_tokens(points) if known else None


def _seeds(rows: Sequence[Row]) -> Chart | None:
    """Of the configurations with several seeds: names of one may tell its seeds, and two may have one name."""
    from flows.report import charts

    points: list[SeedPoint] = []
    names: Counter[str] = Counter()
    told: dict[int, str] = {}
    for row in rows:
        if (row["seeds"] or 0) < 2:
            continue
        if row["configuration"] not in told:
            name = row["name"]
            names[name] += 1
            told[row["configuration"]] = name if names[name] == 1 else f"{oneline(name, SHORT)} ({names[name]})"
        points.append(SeedPoint(row["seed"], estimate(row, "accuracy"), told[row["configuration"]]))
    return charts.accuracy_by_seed(points) if any(each.accuracy.value is not None for each in points) else None


# ---------------------------------------------------------------------------------------------------------------- curves


def _pass_at_k(rows: Sequence[Row]) -> Chart | None:
    from flows.report import charts

    found = [Curve(mine[0]["name"], _points(mine, "share")) for mine in _by_run(rows)]
    different = _different([each for each in found if each.points])
    if not different:
        return None
    kept = _longest(different)
    chart = charts.curves(kept)
    if len(kept) < len(different):
        chart.says += f" Not drawn: {len(different) - len(kept)} runs with fewer solutions."
    return chart


def _points(rows: Sequence[Row], value: str) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(row["k"], estimate(row, value)) for row in rows if row["k"] and row[value] is not None)


def _different(curves: Sequence[Curve]) -> list[Curve]:
    """One for those that would hide each other, such as best-of-n by two selectors, whose pool is the same."""
    alike: defaultdict[tuple[CurvePoint, ...], list[str]] = defaultdict(list)
    for each in curves:
        alike[each.points].append(each.name)
    found = []
    for points, names in alike.items():
        others = f" and {len(names) - 1} alike" if len(names) > 1 else ""
        found.append(Curve(oneline(names[0], SHORT) + others if others else names[0], points))
    return found


def _longest(curves: Sequence[Curve]) -> list[Curve]:
    """Those with the most points, in their order."""
    kept = sorted(range(len(curves)), key=lambda each: -len(curves[each].points))[:CURVES]
    return [curves[i] for i in sorted(kept)]


def _selectors(rows: Sequence[Row]) -> Chart | None:
    """Of the run with the most sizes, and of these with the most solutions; of one size there is no curve."""
    from flows.report import charts

    known = [row for row in rows if row["k"] and row["accuracy"] is not None]
    if not known:
        return None
    mine = max(_by_run(known), key=lambda each: (len({row["k"] for row in each}), max(row["k"] for row in each)))
    if len({row["k"] for row in mine}) < 2:
        return None
    curves: defaultdict[str, list[Row]] = defaultdict(list)
    for row in mine:
        curves[row["selector"]].append(row)
    found = [Curve(name, _points(each, "accuracy")) for name, each in curves.items()]
    return charts.curves(found, heading=mine[0]["name"])


# ------------------------------------------------------------------------------------------------------- scores and length


def _calibration(rows: Sequence[Row]) -> Chart | None:
    """Of the run with the most solutions that have scores."""
    from flows.report import charts

    name, mine = _largest([row for row in rows if row["from"] is not None and row["to"] is not None])
    bins = [Bin(row["from"], row["to"], row["solutions"] or 0, Estimate(row["score"]), estimate(row, "right")) for row in mine]
    known = any(each.score.value is not None and each.right.value is not None for each in bins)
    return charts.calibration(bins, heading=name) if known else None


def _length(rows: Sequence[Row]) -> Chart | None:
    from flows.report import charts

    name, mine = _largest([row for row in rows if row["shortest"] is not None and row["longest"] is not None])
    bins = [
        Bin(row["shortest"], row["longest"], row["solutions"] or 0, Estimate(row["score"]), estimate(row, "right"))
        for row in mine
    ]
    known = any(each.score.value is not None or each.right.value is not None for each in bins)
    return charts.length_bias(bins, heading=name) if known else None


def _largest(rows: Sequence[Row]) -> tuple[str, list[Row]]:
    if not rows:
        return "", []
    mine = max(_by_run(rows), key=lambda each: sum(row["solutions"] or 0 for row in each))
    return mine[0]["name"], mine


# ------------------------------------------------------------------------------------------------------ parts and losses


def _stacks(rows: Sequence[Row], part: str, value: str) -> list[Stack]:
    """Waiting in the queue is beside the other phases, not a part of the time."""
    found = []
    for mine in _by_run(rows):
        parts = {row[part]: row[value] for row in mine if row[part] not in (None, "queue")}
        found.append(Stack(mine[0]["name"], {each: None if of is None else max(of, 0) for each, of in parts.items()}))
    spent = {part for each in found for part, of in each.parts.items() if of}
    return [Stack(each.name, {part: of for part, of in each.parts.items() if part in spent or of is None}) for each in found]


def _cost(rows: Sequence[Row]) -> Chart | None:
    from flows.report import charts

    found = _stacks(rows, "phase", "seconds")
    return charts.costs(found, "seconds") if any(any(each.parts.values()) for each in found) else None


def _tokens(rows: Sequence[Row]) -> Chart | None:
    from flows.report import charts

    found = _stacks(rows, "fate", "tokens")
    return charts.costs(found, "tokens", as_shares=True) if any(any(each.parts.values()) for each in found) else None


def _astray(rows: Sequence[Row]) -> Chart | None:
    return _lost(rows, "Where known ways were left", "attempts astray")


def _lost(rows: Sequence[Row], *says: str) -> Chart | None:
    steps: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row["step"] is not None and row["how"] is not None:
            steps[row["step"]][row["how"]] += 1
    if not steps:
        return None
    from flows.report import charts

    return charts.losses([Losses(step, dict(causes)) for step, causes in sorted(steps.items())], *says)


def _trend(rows: Sequence[Row]) -> Chart | None:
    """Of the schedule with the most runs."""
    from flows.report import charts

    of = Counter(row["schedule"] for row in rows).most_common(1)[0][0]
    mine = [row for row in rows if row["schedule"] == of and row["accuracy"] is not None]
    moments = [Moment(datetime.fromisoformat(row["slot_utc"]), estimate(row, "accuracy"), row["alarm"] or "") for row in mine]
    return charts.trend(moments, mine[0]["bar"], heading=of) if moments else None


DRAWN: Mapping[str, Callable[[Sequence[Row]], Chart | None]] = {
    "accuracy": _accuracy,
    "pass-at-k": _pass_at_k,
    "selectors": _selectors,
    "calibration": _calibration,
    "length": _length,
    "cost": _cost,
    "tokens": _tokens,
    "lost": _lost,
    "astray": _astray,
    "seeds": _seeds,
    "trend": _trend,
}

__all__ = ["drawn", "estimate"]
