"""The charts of a report's sheets, from the answers of the named questions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from asked import Step, Tried, samples, scheduled, spec, write

from flows.report.drawn import CURVES, DRAWN, drawn
from flows.report.svg import inline
from store.database import Database, open_database
from store.questions import QUESTIONS
from store.runs import Run

Answers = dict[str, list[dict[str, Any]]]
RIGHT, WRONG = "right", "wrong"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "a.db") as opened:
        yield opened


def best_of(seed: int, chosen: int) -> dict[str, Tried]:
    cost = {"generate_seconds": 2.0, "verify_seconds": 1.0}
    return {
        "p1": samples((RIGHT, 0.9), (WRONG, 0.4), (WRONG, 0.3), (RIGHT, 0.8), chosen=chosen, **cost),
        "p2": samples((WRONG, 0.7), (WRONG, 0.2), (RIGHT, 0.1), (None, 0.0), chosen=0, **cost),
        "p3": samples((WRONG, 0.7), (WRONG, 0.2), (WRONG, 0.1), (WRONG, 0.6), chosen=0, **cost),
    }


def beam() -> dict[str, Tried]:
    lost = [
        Step("0", "one "),
        Step("1", "two ", state="pruned"),
        Step("1.0", "end", RIGHT, value=0.2, state="pruned"),
        Step("0.0", "end", WRONG, value=0.8),
    ]
    stray = [Step("0", "another "), Step("0.0", "end", WRONG, value=0.8)]
    return {"p1": Tried(lost, "0.0"), "p2": Tried(stray, "0.0"), "p3": Tried(stray, "0.0")}


def answers(db: Database, *runs: Run) -> Answers:
    return {name: QUESTIONS[name].ask(db, runs) for name in DRAWN}


def tips(chart: Any) -> list[str]:
    titles = [each.text or "" for each in ElementTree.fromstring(inline(chart)).iter() if each.tag.endswith("title")]
    return titles[1:]


def curve(run: str, values: list[float], name: str = "") -> list[dict[str, Any]]:
    """Rows of pass@k."""
    row = {"run": run, "name": name or run, "problems": 9}
    return [{**row, "k": 2**i, "share": value, "low": 0.0, "high": 1.0} for i, value in enumerate(values)]


def test_every_question_with_a_chart_has_one(db: Database) -> None:
    runs = [write(db, spec(seed=i, n=4), best_of(i, chosen), f"run {i}") for i, chosen in enumerate((0, 1))]
    runs.append(write(db, spec("beam", n=2), beam(), "beam"))
    scheduled(db, {f"2026-11-0{i + 1}T02:00:00Z": run for i, run in enumerate(runs[:2])})
    found = answers(db, *runs)
    made = drawn(found)
    assert set(made) == set(DRAWN), {name: rows[:1] for name, rows in found.items() if name not in made}
    for row in found["accuracy"]:
        assert (
            sum(
                f"{row['name']}: {row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in tip
                for tip in tips(made["accuracy"])
            )
            == 1
        )
    assert len(tips(made["pass-at-k"])) <= len(found["pass-at-k"])
    assert len([tip for tip in tips(made["seeds"]) if "seed" in tip]) == 2


def test_one_run_alone_has_its_charts(db: Database) -> None:
    made = drawn(answers(db, write(db, spec(n=4), best_of(0, 0), "alone")))
    assert {"accuracy", "pass-at-k", "selectors", "calibration", "length", "cost", "tokens"} <= set(made)
    assert "seeds" not in made
    for chart in made.values():
        ElementTree.fromstring(inline(chart))


def test_rows_of_nothing_but_none_have_no_chart() -> None:
    rows = {name: [dict.fromkeys(QUESTIONS[name].columns)] * 2 for name in DRAWN}
    assert drawn(rows) == {}
    assert drawn({name: [] for name in DRAWN}) == {}
    assert drawn({}) == {}


def test_a_none_beside_what_is_known_is_left_out(db: Database) -> None:
    found = answers(db, write(db, spec(n=4), best_of(0, 0), "a"), write(db, spec("beam", n=2), beam(), "b"))
    counts = {name: len(tips(chart)) for name, chart in drawn(found).items()}
    for name, rows in found.items():
        run = dict.fromkeys(QUESTIONS[name].columns) | {"run": "x", "name": "x"}
        found[name] = [*rows, run]
    assert {name: len(tips(chart)) for name, chart in drawn(found).items()} == counts


def test_the_selectors_are_those_of_the_run_with_the_most_solutions() -> None:
    """A greedy run, often the first, has one solution: all selectors are one point there."""

    def rows(run: str, sizes: list[int]) -> list[dict[str, Any]]:
        of = {"run": run, "name": run, "accuracy": 0.5, "low": 0.4, "high": 0.6}
        return [{**of, "selector": name, "k": k} for name in ("random", "oracle") for k in sizes]

    found = drawn({"selectors": [*rows("greedy", [1]), *rows("few", [1, 2]), *rows("many", [1, 2, 4])]})
    assert found["selectors"].heading == "many"
    assert len(tips(found["selectors"])) == 6
    assert drawn({"selectors": rows("greedy", [1])}) == {}, "no curve, and nothing that tells selectors apart"


def test_curves_that_hide_each_other_are_one_and_it_says_so() -> None:
    rows = [*curve("majority", [0.2, 0.4]), *curve("weighted", [0.2, 0.4]), *curve("beam", [0.2, 0.5])]
    chart = drawn({"pass-at-k": rows})["pass-at-k"]
    assert "majority and 1 alike" in chart.says
    assert len(tips(chart)) == 4


def test_two_runs_of_one_name_have_two_curves() -> None:
    """By their name they would be one line that goes to and fro."""
    chart = drawn({"pass-at-k": [*curve("x", [0.2, 0.4], "same"), *curve("y", [0.1, 0.3], "same")]})["pass-at-k"]
    assert len([each for each in inline(chart).splitlines() if 'class="line s1"' in each]) > 0
    bars = drawn({"cost": [{"run": r, "name": "same", "phase": "generate", "seconds": s} for r, s in (("x", 1.0), ("y", 2.0))]})
    assert len(tips(bars["cost"])) == 2


def test_of_too_many_curves_the_shortest_are_left_out_and_counted() -> None:
    rows = [*curve("short", [0.9])]
    for i in range(CURVES):
        rows += curve(f"run {i}", [0.1 * i, 0.1 * i + 0.05])
    chart = drawn({"pass-at-k": rows})["pass-at-k"]
    assert "short" not in chart.says
    assert chart.says.endswith("Not drawn: 1 runs with fewer solutions.")
    assert all(f"run {i}" in chart.says for i in range(CURVES))


def test_two_configurations_of_one_name_are_not_one_series_of_seeds() -> None:
    of = {"name": "same", "seeds": 2, "low": 0.0, "high": 1.0, "spread": 0.1, "p": 0.5}
    rows = [{**of, "run": f"{i}", "seed": i % 2, "accuracy": (0.2, 0.8)[i // 2], "configuration": i // 2} for i in range(4)]
    assert "same: mean 0.200 over 2 seeds; same (2): mean 0.800 over 2 seeds." in drawn({"seeds": rows})["seeds"].says
