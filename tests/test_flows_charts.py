"""Charts: the numbers in the picture are those given, whatever the names are, and many pictures stand on one strict page."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import pytest

from flows.report import charts
from flows.report.chart_labels import Box, placed
from flows.report.chart_records import Bin, Curve, CurvePoint, Estimate, Losses, Moment, RunPoint, SeedPoint, Stack
from flows.report.chart_style import COLOURS, Chart
from flows.report.chart_text import width
from flows.report.svg import files, inline, standalone
from store.errors import WriteError

ROOT = Path(__file__).parents[1]
NS = "{http://www.w3.org/2000/svg}"
HALF = Estimate(0.5, 0.4, 0.6)
DAY = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = (
    "</text><script>alert(1)</script>",
    'a" onload="alert(1)',
    "$x^2$ $\\frac{1}{",
    "\x00\x07\x1b[31m\nnext",
    "\U0001f600 \u05e9\u05dc\u05d5\u05dd \u4e2d\u6587",
    "\u202eevil",
    "\ud800",
    "&amp;",
    "",
)


def runs(count: int = 3) -> list[RunPoint]:
    return [RunPoint(f"run {i}", 100.0 * (i + 1), Estimate(0.3 + 0.02 * i, 0.2, 0.95)) for i in range(count)]


def curve(name: str = "a", *values: float | None) -> Curve:
    return Curve(name, tuple(CurvePoint(2.0**i, Estimate(value, 0.1, 0.9)) for i, value in enumerate(values or (0.2, 0.4))))


def bins() -> list[Bin]:
    return [
        Bin(0.0, 0.5, 30, Estimate(0.3), Estimate(0.25, 0.1, 0.4)),
        Bin(0.5, 1.0, 1, Estimate(0.8), Estimate(0.75, 0.5, 0.9)),
    ]


EVERY: dict[str, Callable[[], Chart]] = {
    "accuracy": lambda: charts.accuracy_against_tokens(runs()),
    "many": lambda: charts.accuracy_against_tokens(runs(30)),
    "curves": lambda: charts.curves([curve("a"), curve("b", 0.1, 0.7)]),
    "along tokens": lambda: charts.curves([curve("a"), curve("b", 0.1, 0.7)], "tokens"),
    "seeds": lambda: charts.accuracy_by_seed([SeedPoint(i, Estimate(0.5 + i / 10, 0.3, 0.9), "a") for i in range(3)]),
    "trend": lambda: charts.trend([Moment(DAY + timedelta(days=i), HALF, "fell" * (i == 2)) for i in range(4)], bar=0.45),
    "calibration": lambda: charts.calibration(bins()),
    "length": lambda: charts.length_bias(bins()),
    "costs": lambda: charts.costs([Stack("a", {"generate": 3.0, "verify": 1.0}), Stack("b", {"verify": 2.0})], "seconds"),
    "fates": lambda: charts.costs([Stack("a", {"chosen": 300, "pruned": 100})], "tokens", as_shares=True),
    "losses": lambda: charts.losses([Losses(1, {"pruned": 3}), Losses(3, {"pruned": 1, "outvoted": 2})]),
}


def read(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def tips(chart: Chart) -> list[str]:
    """What a pointer is shown; the first title is the chart's own."""
    return [each.text or "" for each in read(inline(chart)).iter(f"{NS}title")][1:]


def texts(chart: Chart) -> list[str]:
    return [each.text or "" for each in read(inline(chart)).iter(f"{NS}text")]


# ------------------------------------------------------------------------------------------------------------- numbers


def test_the_numbers_that_a_pointer_is_shown_are_those_given() -> None:
    assert tips(charts.accuracy_against_tokens([RunPoint("a", 1234.0, Estimate(0.512, 0.401, 0.623))])) == [
        "a: 0.512 [0.401, 0.623], 1,234 tokens a problem"
    ]
    assert tips(charts.curves([curve("b", 0.25, 0.75)])) == [
        "b: 0.250 [0.100, 0.900] at 1 samples",
        "b: 0.750 [0.100, 0.900] at 2 samples",
    ]
    assert tips(EVERY["seeds"]())[0] == "a, seed 0: 0.500 [0.300, 0.900]"
    assert tips(EVERY["trend"]())[2] == "2026-01-03 00:00 UTC: 0.500 [0.400, 0.600]: fell"
    assert tips(EVERY["calibration"]())[0] == "scores 0.000 to 0.500: mean 0.300, right 0.250 [0.100, 0.400], 30 solutions"
    assert "0.5 to 1 tokens: mean score 0.800, 1 solution" in tips(EVERY["length"]())
    assert tips(EVERY["costs"]())[:2] == ["a, generate: 3 seconds (75.0%)", "a, verify: 1 seconds (25.0%)"]
    assert "step 3, outvoted: 2 of 3" in tips(EVERY["losses"]())


def test_a_higher_accuracy_is_drawn_higher_and_more_tokens_further_right() -> None:
    points = [RunPoint("a", 100, Estimate(0.2)), RunPoint("b", 10_000, Estimate(0.8)), RunPoint("c", 1_000, Estimate(0.5))]
    circles = {}
    for each in read(inline(charts.accuracy_against_tokens(points))).iter():
        tip = each.find(f"{NS}title")
        if each.attrib.get("class", "").startswith("mark") and tip is not None:
            spot = [float(n) for n in re.findall(r"[\d.]+", each.attrib.get("d", ""))[:2]]
            circles[(tip.text or "")[0]] = [float(each.attrib["cx"]), float(each.attrib["cy"])] if "cx" in each.attrib else spot
    a, b, c = circles["a"], circles["b"], circles["c"]
    assert a[0] < c[0] < b[0]
    assert a[1] > c[1] > b[1]
    assert c[0] == pytest.approx((a[0] + b[0]) / 2, abs=10), "the scale is logarithmic"


def test_bars_are_as_long_as_their_parts() -> None:
    long = []
    for each in read(inline(EVERY["costs"]())).iter(f"{NS}path"):
        if each.attrib["class"].startswith("bar") and each.find(f"{NS}title") is not None:
            xs = [float(x) for x in re.findall(r"[ML]([\d.]+) ", each.attrib["d"])]
            long.append(max(xs) - min(xs))
    assert [each / long[1] for each in long] == pytest.approx([3, 1, 2], rel=0.01)


# --------------------------------------------------------------------------------------------------------------- markup


@pytest.mark.parametrize("name", EVERY)
def test_a_chart_stands_on_a_strict_page_beside_others(name: str) -> None:
    """A policy without unsafe-inline drops style attributes; two ids of one name would paint one chart with the other's."""
    svg = inline(EVERY[name]())
    for each in read(svg).iter():
        assert each.tag.removeprefix(NS) in {"svg", "title", "desc", "path", "text", "circle"}
        assert not {key for key in each.attrib if key in ("style", "id", "href") or key.startswith("on")}
    assert "url(" not in svg
    assert "<?xml" not in svg


@pytest.mark.parametrize("name", EVERY)
def test_a_chart_is_the_same_to_the_byte(name: str) -> None:
    assert standalone(EVERY[name]()) == standalone(EVERY[name]())


@pytest.mark.parametrize("name", EVERY)
def test_a_chart_has_words_and_nothing_outside_its_frame(name: str) -> None:
    chart = EVERY[name]()
    assert chart.heading
    assert chart.says.endswith(".")
    for each in read(inline(chart)).iter(f"{NS}text"):
        assert 0 <= float(each.attrib["x"]) <= 640
        assert 8 <= float(each.attrib["y"]) <= chart.height


def test_a_readers_settings_of_matplotlib_change_nothing() -> None:
    before = standalone(EVERY["accuracy"]())
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "text.parse_math": True, "axes.facecolor": "red"}):
        assert standalone(EVERY["accuracy"]()) == before


def test_every_class_is_on_the_page_and_by_day_of_the_colour_in_the_file() -> None:
    css = (ROOT / "flows" / "report" / "charts.css").read_text()
    used = {
        tuple(each.attrib["class"].split())
        for make in EVERY.values()
        for each in read(inline(make())).iter()
        if "class" in each.attrib
    }
    assert {("ink",), ("paper",), ("grid",), ("front",), ("faint",)} <= used
    for classes in used:
        assert re.search(rf"\.chart \.{classes[0]}[ ,:{{]", css), classes
        assert all(re.search(rf"^\.{each} {{ --series: ", css, re.MULTILINE) for each in classes[1:]), classes
    for series, colour in enumerate(COLOURS):
        rule = re.search(rf"^\.s{series} {{ --series: light-dark\((#\w+),", css, re.MULTILINE)
        assert rule is not None, series
        assert rule[1] == colour
    for kind, what in (("line", "stroke"), ("mark", "fill"), ("band", "fill"), ("bar", "fill")):
        assert re.search(rf"\.chart \.{kind}[ ,][^}}]*{what}: var\(--series\)", css), kind


# --------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 10_000])
def test_a_name_is_text_whatever_it_holds(name: str) -> None:
    made = [
        charts.accuracy_against_tokens([RunPoint(name, 10, HALF), RunPoint("b", 20, HALF)]),
        charts.curves([curve(name), curve("b")]),
        charts.accuracy_by_seed([SeedPoint(0, HALF, name), SeedPoint(1, HALF, "b")]),
        charts.trend([Moment(DAY, HALF, name)]),
        charts.costs([Stack(name, {name: 1.0})], name),
        charts.losses([Losses(1, {name: 1})]),
        charts.calibration(bins(), heading=name),
        charts.length_bias(bins(), unit="tokens", heading=name),
    ]
    for chart in made:
        tree = read(inline(chart))
        assert {each.tag.removeprefix(NS) for each in tree.iter()} <= {"svg", "title", "desc", "path", "text", "circle"}
        for each in tree.iter():
            assert not [key for key in each.attrib if key.startswith("on")]
        assert all(len(each) < 80 for each in texts(chart))


def test_a_name_is_written_as_it_is() -> None:
    for name in ("<b>&amp;", "$x^2$", "\u4e2d\u6587 \u05e9\u05dc"):
        assert name in texts(charts.accuracy_against_tokens([RunPoint(name, 10, HALF)]))


def test_points_at_one_place_have_labels_of_their_own() -> None:
    svg = inline(charts.accuracy_against_tokens([RunPoint(each, 100, HALF) for each in "abc"]))
    places = [(each.attrib["x"], each.attrib["y"]) for each in read(svg).iter(f"{NS}text") if each.text in tuple("abc")]
    assert len(set(places)) == 3


def test_labels_of_a_crowd_stand_near_and_on_nothing() -> None:
    points = [(300.0 + 2 * i, 200.0 + 3 * i) for i in range(5)]
    boxes = placed([Box(x - 5, y - 5, x + 5, y + 5) for x, y in points], [(120.0, 12.0)] * 5, Box(0, 0, 640, 400))
    for i, box in enumerate(boxes):
        assert Box(0, 0, 640, 400).holds(box)
        assert not any(box.meets(other) for other in boxes[:i])
        x, y = points[i]
        assert max(box.left - x, x - box.right, 0) < 40
        assert max(box.top - y, y - box.bottom, 0) < 40


def marks(chart: Chart) -> list[tuple[float, float]]:
    """The middles of the points, in the order of the runs."""
    found = []
    for each in read(inline(chart)).iter():
        tip = each.find(f"{NS}title")
        if each.attrib.get("class", "").startswith("mark") and tip is not None:
            corners = re.findall(r"([\d.]+) ([\d.]+)", each.attrib.get("d", ""))
            xs, ys = zip(*(map(float, corner) for corner in corners), strict=True) if corners else ((), ())
            at = (float(each.attrib["cx"]), float(each.attrib["cy"])) if "cx" in each.attrib else None
            found.append(at or ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2))
    return found


def test_points_that_hide_each_other_have_one_label_of_their_numbers_and_stand_at_their_tokens() -> None:
    """Runs that sample as much cost the same: moved apart, the demo's at 698 tokens were drawn at 665 to 726. And "4 3" was
    read as 43."""
    shares = (0.767, 0.767, 0.650, 0.700, 0.750, 0.750, 0.750, 0.733)
    at_once = [
        RunPoint(f"strategy-{i}:n=8,select=weighted", 690.0 + 2 * i, Estimate(value, 0.6, 0.85))
        for i, value in enumerate(shares)
    ]
    chart = charts.accuracy_against_tokens([RunPoint("greedy", 87, Estimate(0.8, 0.68, 0.88)), *at_once])
    (greedy, _), *others = marks(chart)
    wide = (others[-1][0] - greedy) / math.log(704 / 87)
    assert [x for x, _ in others] == pytest.approx([greedy + wide * math.log((690 + 2 * i) / 87) for i in range(8)], abs=0.3)
    assert {"1", "2, 3", "4", "5", "6, 7, 8", "9", "9  strategy-7:n=8,select=weighted"} <= set(texts(chart))


def test_a_chart_of_one_run_of_several_says_which() -> None:
    for chart in (
        charts.calibration(bins(), heading="run 7"),
        charts.length_bias(bins(), heading="run 7"),
        charts.curves([curve("majority")], heading="run 7"),
        charts.trend([Moment(DAY, HALF)], heading="run 7"),
    ):
        assert any(each.startswith("run 7: ") for each in texts(chart))


def test_lengths_stand_under_their_bars_and_scores_that_nobody_gave_are_not_named() -> None:
    """The axis had the shortest of each bin between the bars, as if a bin went on to the next."""
    found = [Bin(52, 52, 9, Estimate(None), HALF), Bin(56, 73, 8, Estimate(None), HALF), Bin(75, 1200, 9, Estimate(None), HALF)]
    written = texts(charts.length_bias(found))
    assert {"52", "56 to 73", "75 to 1,200"} <= set(written)
    assert any(each.startswith("share right") for each in written)
    assert not any("score" in each for each in written)
    assert "mean score" in texts(charts.length_bias(bins()))


def test_the_more_bands_lie_on_each_other_the_lighter_they_are() -> None:
    def opacity(many: int) -> float:
        found = re.findall(
            'class="band [^>]*fill-opacity="([^"]+)"', inline(charts.curves([curve(f"{i}") for i in range(many)]))
        )
        assert len(found) == many
        return max(map(float, found))

    assert opacity(1) == opacity(2) > opacity(5) > opacity(9)


def test_a_demos_longest_name_is_whole_in_a_legend_and_beside_its_bar() -> None:
    """Cut off, the two seeds of one strategy had one name."""
    names = [
        f"{each}, seed {seed}"
        for each in ("best-of-n:n=8,select=weighted", "astar:k=1,reopen=0.1,root=0.9")
        for seed in range(7)
    ]
    chart = charts.accuracy_against_tokens([RunPoint(name, 100.0 + i, HALF) for i, name in enumerate(names)])
    assert {f"{i}  {name}" for i, name in enumerate(names, 1)} <= set(texts(chart))
    assert chart.height < 400 + 18 * len(names), "in two columns"
    assert set(names) <= set(texts(charts.costs([Stack(name, {"generate": 3.0}) for name in names], "seconds")))


def test_names_stand_beside_their_points_until_one_finds_no_room() -> None:
    apart = [RunPoint(f"strategy-{i}:n=8,select=weighted", 100.0 * 2**i, HALF) for i in range(4)]
    assert "strategy-0:n=8,select=weighted" in texts(charts.accuracy_against_tokens(apart))
    near = [RunPoint(f"strategy-{i}:n=8,select=weighted", 500.0 + i, Estimate(0.5 + i / 500, 0.4, 0.6)) for i in range(12)]
    assert "1  strategy-0:n=8,select=weighted" in texts(charts.accuracy_against_tokens(near))


# ---------------------------------------------------------------------------------------------------------- few and many


def test_nothing_known_is_refused_in_one_line() -> None:
    unknown = Estimate(None)
    for make in (
        lambda: charts.accuracy_against_tokens([]),
        lambda: charts.accuracy_against_tokens([RunPoint("a", None, HALF), RunPoint("b", 10, unknown), RunPoint("c", 0, HALF)]),
        lambda: charts.curves([]),
        lambda: charts.curves([curve("a", None, None), Curve("b", ())]),
        lambda: charts.accuracy_by_seed([SeedPoint(0, unknown)]),
        lambda: charts.trend([Moment(DAY, Estimate(float("nan")))]),
        lambda: charts.calibration([Bin(0, 1, 3, unknown, HALF)]),
        lambda: charts.length_bias([]),
        lambda: charts.costs([Stack("a", {"x": None})], "seconds"),
        lambda: charts.losses([Losses(1, {})]),
        lambda: charts.losses([]),
    ):
        with pytest.raises(ValueError, match=r"^nothing to draw: "):
            make()


def test_what_is_not_known_is_left_out_and_counted() -> None:
    chart = charts.accuracy_against_tokens([*runs(2), RunPoint("c", 10, Estimate(None)), RunPoint("d", None, HALF)])
    assert len(tips(chart)) == 2
    assert chart.says.endswith("not known and not drawn: 2.")
    assert tips(charts.curves([curve("a", 0.2, None, 0.4)])) == [
        "a: 0.200 [0.100, 0.900] at 1 samples",
        "a: 0.400 [0.100, 0.900] at 4 samples",
    ]


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_one_point_and_equal_values_have_an_axis(value: float) -> None:
    same = Estimate(value, value, value)
    for chart in (
        charts.accuracy_against_tokens([RunPoint("a", 10, same)]),
        charts.accuracy_against_tokens([RunPoint("a", 10, same), RunPoint("b", 10, same)]),
        charts.curves([Curve("a", (CurvePoint(1, same),))]),
        charts.accuracy_by_seed([SeedPoint(0, same)]),
        charts.trend([Moment(DAY, same)]),
        charts.length_bias([Bin(5, 5, 1, same, same)]),
    ):
        assert len(tips(chart)) >= 1
        assert "nan" not in inline(chart)


@pytest.mark.parametrize("hours", [0.01, 1, 5, 30, 77, 500, 3_000, 20_000, 200_000])
def test_a_trend_of_minutes_or_of_years_has_a_few_dates(hours: float) -> None:
    """matplotlib warns where its own limits on the number of ticks leave none."""
    moments = [Moment(DAY + timedelta(hours=hours * i / 10), HALF) for i in range(11)]
    ticks = [
        each for each in texts(charts.trend(moments)) if each not in ("accuracy",) and not re.fullmatch(r"[01]\.\d+", each)
    ]
    assert 3 <= len(ticks) <= 11, ticks


def test_of_thirty_runs_each_has_a_number_and_a_name() -> None:
    said = texts(EVERY["many"]())
    assert len(tips(EVERY["many"]())) == 30
    assert {str(i + 1) for i in range(30)} <= {number for each in said for number in each.split(", ")}
    assert {f"{i + 1}  run {i}" for i in range(30)} <= set(said)
    # as long as they are, the names in a line of the legend do not run into each other
    places: dict[float, list[tuple[float, float]]] = {}
    for each in read(inline(EVERY["many"]())).iter(f"{NS}text"):
        if "  run " in (each.text or ""):
            x = float(each.attrib["x"])
            places.setdefault(float(each.attrib["y"]), []).append((x, x + width(each.text or "")))
    for row in places.values():
        assert all(end + 12 < begin for (_, end), (begin, _) in pairwise(sorted(row)))
        assert max(end for _, end in row) < 640


def test_a_negative_part_of_a_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="a part of a cost is 0 or more, not -1"):
        charts.costs([Stack("a", {"x": 2.0, "y": -1.0})], "seconds")


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", EVERY)
def test_a_png_has_200_dots_an_inch_and_is_neither_blank_nor_cut_off(name: str, tmp_path: Path) -> None:
    chart = EVERY[name]()
    files(chart, tmp_path / "a.png")
    pixels = matplotlib.image.imread(tmp_path / "a.png")
    assert pixels.shape[1] == 640 * 200 // 72
    assert pixels[:, :, :3].std() > 0.02
    edge = pixels[:, -2:, :3]
    assert edge.min() == 1.0, "cut off at the right"


def test_a_file_is_svg_or_png_in_a_folder_that_is_there(tmp_path: Path) -> None:
    chart = EVERY["losses"]()
    files(chart, tmp_path / "a.svg")
    root = read((tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert (root.attrib["width"], root.attrib["viewBox"]) == ("640", f"0 0 640 {root.attrib['height']}")
    with pytest.raises(ValueError, match=r"a chart is written as .svg or .png, not as '.*a.gif'"):
        files(chart, tmp_path / "a.gif")
    with pytest.raises(WriteError, match=r"cannot write '.*a.svg': No such file or directory"):
        files(chart, tmp_path / "none" / "a.svg")


def test_only_a_chart_that_is_drawn_imports_matplotlib() -> None:
    """It takes a second, which `ponderosa --help` and every run would pay."""
    code = (
        "import sys, flows.cli, flows.report.summary, flows.report.drawn, flows.report.svg, flows.page\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0
