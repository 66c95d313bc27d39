"""A schedule's runs in the order of their slots: is this week's better than last week's?"""

from __future__ import annotations

from collections import defaultdict

from ..compare import common, paired, side
from ..runs import Run
from ..stats import wilson
from .costs import RUN, with_names
from .question import Asked, Col, Question, Row

RESAMPLES = 2_000


def _trend(asked: Asked) -> list[Row]:
    runs = {run.id: run for run in asked.runs}
    series: defaultdict[str, list[Row]] = defaultdict(list)
    for row in asked.rows():
        series[row["schedule"]].append(row)
    out = []
    for rows in series.values():
        for before, row in zip([None, *rows], rows, strict=False):
            change = None if before is None else _change(asked, runs[before["run"]], runs[row["run"]])
            told = dict(zip(("change", "change_low", "change_high"), change or (None,) * 3, strict=True))
            out.append({**row, **told, **_accuracy(row)})
    named = {row["run"]: row["name"] for row in with_names(asked, out)}
    return [{**row, "name": named[row["run"]]} for row in out]


def _accuracy(row: Row) -> Row:
    """None where nothing was graded."""
    if not row["graded"]:
        return {}
    low, high = wilson(row["correct"], row["closed"])
    return {"accuracy": row["correct"] / row["closed"], "low": low, "high": high}


def _change(asked: Asked, before: Run, after: Run) -> tuple[float, float, float] | None:
    """Over the problems that both have finished; None where there are none."""
    sides = [side(asked.db, [run]) for run in (before, after)]
    try:
        return paired(sides[0], sides[1], common(sides, intersect=True), RESAMPLES).difference
    except ValueError:
        return None


TREND = Question(
    name="trend",
    title="Trend of a schedule",
    asks="Is each run of a schedule better than the one before?",
    says="Runs that a schedule has made, in the order of their slots. The change is paired: over the problems that both have "
    "finished. Runs that no schedule has made are not here; `ponderosa trend NAME` knows what has changed beside.",
    sql="""
SELECT slot.schedule, slot.slot_utc, attempt.run_id AS run, count(*) AS closed,
       sum(CASE WHEN attempt.verdict IS NOT NULL THEN 1 ELSE 0 END) AS graded,
       sum(CASE WHEN attempt.correct THEN 1 ELSE 0 END) AS correct, avg(attempt.generated_tokens) AS tokens, slot.alarm,
       schedule.bar
FROM slot JOIN schedule ON schedule.name = slot.schedule JOIN attempt ON attempt.run_id = slot.run_id
WHERE attempt.run_id IN ({runs}) AND attempt.status IN ('done', 'failed')
GROUP BY slot.schedule, slot.slot_utc, attempt.run_id, slot.alarm, schedule.bar
ORDER BY slot.schedule, slot.slot_utc
""",
    columns={
        "schedule": Col("its name"),
        "slot_utc": Col("when it was due"),
        **RUN,
        "closed": Col("finished problems", "count"),
        "accuracy": Col("of the run; higher is better", "share", "low", "high"),
        "low": Col("of the 95% interval (Wilson)", "share"),
        "high": Col("of the 95% interval (Wilson)", "share"),
        "change": Col("accuracy minus that of the run before", "signed", "change_low", "change_high"),
        "change_low": Col("of the 95% interval (bootstrap over problems)", "signed"),
        "change_high": Col("of the 95% interval (bootstrap over problems)", "signed"),
        "tokens": Col("generated, a problem", "number"),
        "bar": Col("accuracy below which an alarm is raised; none = no bar", "share"),
        "alarm": Col("what was told of the run; none = no alarm"),
    },
    make=_trend,
    needs="a schedule and finished problems",
    computed=f"accuracies with Wilson's interval, and a paired bootstrap over problems ({RESAMPLES:,} resamples, seed 0)",
)

__all__ = ["TREND"]
