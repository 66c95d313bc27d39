"""The page of a report in a browser, from disk: trees, filters, sorting, hostile texts, narrow windows, many rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsers import Seen, chromium, seen
from documents import document, sheet, tree
from hostile import TEXTS, carried, hostile

from flows.report.document import Branch, Column, Document, TreeOf
from flows.report.render import render


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


@pytest.fixture
def window(browser: Any) -> Iterator[Seen]:
    with seen(browser) as made:
        yield made


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of six runs over twelve problems."""
    return written(document(), tmp_path_factory.mktemp("page"))


def written(made: Document, folder: Path) -> Path:
    file = folder / "report.html"
    file.write_text(render(made), encoding="utf-8")
    return file


def opened(page: Any) -> Any:
    """The open tree's list."""
    page.wait_for_selector("#panel[open] .row.at")
    return page.locator("#panel .tree")


def at(page: Any) -> str:
    """The path of the branch that is picked."""
    return str(page.inner_text("#panel .detail .path"))


def test_a_page_opens_from_disk_without_an_error_or_a_request(window: Seen, file: Path) -> None:
    page = window.open(file)
    assert page.locator("h1").inner_text() == "8 strategies on word problems"
    assert page.locator("section.problems tbody tr").count() == 12
    heads = page.evaluate("[...document.querySelectorAll('main h2, main h3, h1')].map((each) => each.tagName)")
    assert heads[:3] == ["H1", "H2", "H3"]
    assert window.clean(file)


def test_a_page_says_all_but_the_trees_without_javascript(browser: Any, file: Path) -> None:
    with seen(browser, java_script_enabled=False) as window:
        page = window.open(file)
        assert page.locator("section.problems tbody tr").count() == 12
        assert page.get_by_text("need JavaScript").is_visible()
        assert not page.locator(".filters").is_visible()


def test_a_findings_problem_is_shown_with_its_marks(window: Seen, file: Path) -> None:
    page = window.open(file)
    page.locator(".findings a[href='#g0-p1']").click()
    page.wait_for_selector("tr.target.open")
    assert page.locator("tr.target .ref").is_visible()
    place = page.locator("tr.target").bounding_box()
    assert 100 < place["y"] < 700
    assert page.locator("table.grid thead").bounding_box()["y"] < place["y"]
    page.locator("tr.target td a").first.click()
    assert opened(page).locator(".row").count() > 0
    page.go_back()
    page.wait_for_selector("#panel:not([open])", state="attached")
    assert page.locator("tr.target").count() == 1
    assert window.clean(file)


def test_a_tree_opens_by_mouse_expands_by_its_arrow_and_back_closes_it(window: Seen, file: Path) -> None:
    page = window.open(file)
    page.locator("td[data-attempt='2'] a").click()
    listed = opened(page)
    page.keyboard.press("Home")
    shut = listed.locator(".row[aria-expanded='false']").first
    before = listed.locator(".row").count()
    shut.locator(".twist").click()
    assert listed.locator(".row").count() > before
    assert "#tree=2" in page.url
    page.go_back()
    page.wait_for_selector("#panel:not([open])", state="attached")
    assert "#tree" not in page.url
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#tree=2"
    page.go_forward()
    opened(page)
    page.keyboard.press("Escape")
    page.wait_for_selector("#panel:not([open])", state="attached")
    assert window.clean(file)


def test_a_tree_is_walked_by_keyboard_alone(window: Seen, file: Path) -> None:
    page = window.open(file)
    page.locator("section.problems td a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    listed = opened(page)
    assert "#tree=8" in page.url  # the second run of the second problem, of six
    page.keyboard.press("*")
    assert listed.locator(".row[aria-expanded='false']").count() == 0
    page.keyboard.press("Home")
    first = at(page)
    page.keyboard.press("ArrowDown")
    assert at(page) != first
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert listed.locator(".row.at").get_attribute("aria-expanded") == "false"
    page.keyboard.press("ArrowRight")
    assert listed.locator(".row.at").get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowRight")
    assert at(page) == first + ".0"
    active = listed.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    page.keyboard.press("n")
    assert page.locator("#panel .row.at .tag:is(.right, .lost)").count() > 0
    page.keyboard.press("Escape")
    page.wait_for_selector("#panel:not([open])", state="attached")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#tree=8"
    assert window.clean(file)


def test_a_lost_right_answer_is_where_its_tree_opens_with_a_way_of_its_own(window: Seen, file: Path) -> None:
    """It opened at what was chosen, and of two right ways none was told from the other."""
    held = document().trees[1]
    assert held.lost not in (None, held.chosen)
    page = window.open(file)
    page.locator("td[data-attempt='1'] a").click()
    listed = opened(page)
    assert at(page) == held.lost
    assert listed.locator(".row.at .tag.lost").count() == 1
    page.keyboard.press("*")
    lengths = len(str(held.lost).split("."))
    assert listed.locator(".row.on-lost").count() == lengths
    assert "gradient" in listed.locator(".row.at").evaluate("(each) => getComputedStyle(each).backgroundImage")
    assert page.locator("#panel .way").all_inner_texts() == ["chosen", "right", "lost"]
    page.goto(file.as_uri() + f"#tree=1&at={held.chosen}")
    page.wait_for_function("(path) => document.querySelector('#panel .path').textContent === path", arg=held.chosen)
    assert window.clean(file)


def test_a_trees_keys_work_wherever_the_focus_is(window: Seen, file: Path) -> None:
    """After a click on the votes they did nothing."""
    page = window.open(file, "#tree=1")
    listed = opened(page)
    shut = listed.locator(".row[aria-expanded='false']").count()
    assert shut
    page.locator("#panel .votes summary").click()
    page.keyboard.press("*")
    assert listed.locator(".row[aria-expanded='false']").count() == 0
    page.locator("#panel-title").click()  # which takes no focus
    page.keyboard.press("Home")
    assert at(page) == "0"
    page.locator("#panel .detail").focus()  # which the arrows move
    page.keyboard.press("ArrowDown")
    assert at(page) == "0"
    page.locator("#panel .others select").focus()
    page.keyboard.press("n")
    assert at(page) == "0"
    page.locator("#panel .votes summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#panel .votes[open]").count() == 0
    page.keyboard.press("ArrowDown")
    assert at(page) != "0"
    assert window.clean(file)


def test_a_branch_of_a_search_that_is_over_went_on_and_a_verdict_is_said_once(window: Seen, file: Path) -> None:
    page = window.open(file, "#tree=1")
    listed = opened(page)
    page.keyboard.press("*")
    held = document().trees[1]
    parents = {branch.parent for branch in held.branches}
    live = [branch.path in parents for branch in held.branches if branch.state == "live"]
    assert listed.locator(".row[data-state='live'] .word").all_inner_texts() == ["went on" if each else "open" for each in live]
    assert set(listed.locator(".row[data-state='live'] .word").evaluate_all("(all) => all.map((e) => e.title)")) == {"live"}
    words = page.locator("#panel .about").inner_text().split()
    assert words.count(document().groups[0].problems[0].cells[0].verdict) == 1


def test_the_chip_of_a_deep_row_with_two_tags_is_whole_on_a_phone(browser: Any, tmp_path: Path) -> None:
    paths = [".".join("0" * deep) for deep in range(1, 14)]
    way = [Branch(path, path.rpartition(".")[0], "We add 2 and 3", 9, "live", "", "step", score=0.217) for path in paths]
    ends = [replace(way[-1], path=f"{paths[-1]}.{i}", parent=paths[-1], state="finished", correct=i == 0) for i in range(2)]
    held = TreeOf(1, ends[1].path, ends[0].path, (*way, *ends), len(way) + 2)
    file = written(replace(document(problems=1, branches=1), trees={1: held}), tmp_path)
    with seen(browser, viewport={"width": 390, "height": 780}, has_touch=True) as window:
        listed = opened(window.open(file, "#tree=1"))
        assert listed.locator(".row:has(.tag + .tag)").count() == 2
        ends_of = "(all) => all.map((each) => each.getBoundingClientRect().right)"
        assert max(listed.locator(".chip").evaluate_all(ends_of)) <= 390


def test_only_unlikely_tokens_are_shaded_and_alike_in_every_tree(window: Seen, tmp_path: Path) -> None:
    """Between the least and the surest of its tokens, a tree of nothing but likely ones was as orange as any other."""
    sure = Branch(
        "0", "", "12+30", 4, "finished", "", "end", logprob=-0.1, lengths=(2, 1, 1, 1), chances=(1.0, 0.999, 0.95, 0.91)
    )
    torn = replace(sure, chances=(0.5, 0.004, 0.9, 1.0))
    made = document(problems=2, branches=1)
    trees = {1: TreeOf(1, "0", None, (sure,), 1), 2: TreeOf(2, "0", None, (torn,), 1)}
    file = written(replace(made, trees=trees), tmp_path)
    page = window.open(file, "#tree=1")
    opened(page)
    shades = "(all) => all.map((each) => each.className)"
    assert page.locator("#panel .shaded span").evaluate_all(shades) == ["k0"] * 4
    page.evaluate("location.hash = 'tree=2'")
    page.wait_for_selector("#panel .shaded .k9")
    spans = page.locator("#panel .shaded span")
    assert spans.evaluate_all(shades) == ["k5", "k9", "k1", "k0"]
    assert spans.first.get_attribute("title") == "probability 0.50"
    assert window.clean(file)


def test_the_votes_of_a_choice_are_a_table_that_leads_to_the_solutions(window: Seen, file: Path) -> None:
    page = window.open(file, "#tree=1")
    opened(page)
    held = document().trees[1]
    votes = page.locator("#panel details.votes")
    assert votes.locator("summary").inner_text() == f"Votes: {len(held.votes)} answers; {held.reason}"
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.matches('.votes summary')"):
            break
    page.keyboard.press("Enter")
    rows = [row.split("\t") for row in votes.locator("tbody tr").all_inner_texts()]
    assert [row[0] for row in rows] == [each.answer for each in held.votes]
    assert [int(row[2]) for row in rows] == [each.count for each in held.votes]
    assert [float(row[3]) for row in rows] == [pytest.approx(each.weight, rel=1e-3) for each in held.votes]
    assert [row[1].split()[1] for row in rows] == ["right" if each.correct else "wrong" for each in held.votes]
    chosen = next(branch.answer for branch in held.branches if branch.path == held.chosen)
    assert [row[0] for row in rows if "chosen" in row[1]] == [chosen]
    other = next(i for i, each in enumerate(held.votes) if each.answer != chosen)
    votes.get_by_role("button").nth(other).focus()
    page.keyboard.press("Enter")
    assert next(branch.answer for branch in held.branches if branch.path == at(page)) == held.votes[other].answer
    page.get_by_role("button", name="the next problem").click()
    page.wait_for_selector("#panel details.votes[open]")
    assert window.clean(file)


def test_an_address_opens_a_tree_at_a_branch_and_an_unknown_one_says_so(window: Seen, file: Path) -> None:
    page = window.open(file, "#tree=3&at=0")
    opened(page)
    assert at(page) == "0"
    page.goto(file.as_uri() + "#%E0%A4%A")
    page.wait_for_selector("#panel:not([open])", state="attached")
    page.goto(file.as_uri() + "#tree=999999")
    page.get_by_text("not in this page").wait_for()
    page.get_by_role("button", name="Close").click()
    page.wait_for_selector("#panel:not([open])", state="attached")
    assert window.clean(file)


def test_filters_narrow_the_problems_and_say_how_many(window: Seen, file: Path) -> None:
    page = window.open(file)
    said = page.locator(".shown")
    rows = page.locator("section.problems tbody tr")
    page.get_by_label("Search").fill("6 boxes")
    assert rows.count() == 1
    assert said.inner_text() == "1 of 12 problems shown"
    assert said.get_attribute("aria-live") == "polite"
    page.get_by_label("Search").fill("")
    page.locator("[data-key='g0/filter/run']").select_option("r0-1")
    page.get_by_label("Outcome").select_option("lost")
    assert 0 < rows.count() < 12
    assert rows.count() == page.locator("section.problems tbody tr td:nth-of-type(3)[data-lost]").count()
    page.get_by_label("Outcome").select_option("")
    page.get_by_label("runs disagree").check()
    assert all(0 < int(each.split("/")[0]) < 6 for each in page.locator("tbody td[data-column='right']").all_inner_texts())
    assert window.clean(file)


def test_a_run_that_has_not_come_to_a_problem_is_found_as_undecided_and_disagrees_with_nobody(
    window: Seen, tmp_path: Path
) -> None:
    made = document(runs=2, problems=3, branches=2)
    marks = ((True, None), (True, False), (None, None))
    lines = tuple(
        replace(line, cells=tuple(replace(cell, correct=each, answer=None) for cell, each in zip(line.cells, of, strict=True)))
        for line, of in zip(made.groups[0].problems, marks, strict=True)
    )
    page = window.open(written(replace(made, groups=(replace(made.groups[0], problems=lines),)), tmp_path))
    names = page.locator("section.problems tbody b.t")
    page.get_by_label("Outcome").select_option("undecided")
    assert names.all_inner_texts() == ["p0", "p2"]
    page.get_by_label("Outcome").select_option("")
    page.get_by_label("runs disagree").check()
    assert names.all_inner_texts() == ["p1"]


def test_links_of_rows_that_are_not_seen_are_no_stops_of_the_keyboard(window: Seen, tmp_path: Path) -> None:
    """Two tables of a report had a thousand of them before the problems."""
    made = document(problems=40, branches=2)
    group = made.groups[0]
    rows = tuple({"problem": f"p{index}"} for index in range(40))
    long = replace(group.sheets[0], columns=(Column("problem", "problem"),), rows=rows, svg="")
    page = window.open(written(replace(made, groups=(replace(group, sheets=(long,)),)), tmp_path))
    stops = "(rows) => rows.map((row) => row.querySelector('a').tabIndex === 0)"
    listed = page.locator("#g0-accuracy tbody tr")
    assert listed.evaluate_all(stops) == [True] * 10 + [False] * 30
    page.locator("#g0-accuracy thead button").click()
    page.locator("#g0-accuracy thead button").click()
    assert listed.first.inner_text() == "p39"
    assert listed.evaluate_all(stops) == [True] * 10 + [False] * 30
    page.get_by_role("button", name="Show the 40 rows").click()
    assert listed.evaluate_all(stops) == [True] * 40


def test_a_tree_without_chances_and_without_a_choice_has_no_tools_for_them(window: Seen, tmp_path: Path) -> None:
    """An imported one's had the word null among them."""
    made = document(problems=1)
    held = replace(tree(1, 12, certain=False), chosen=None, lost=None)
    held = replace(held, branches=tuple(replace(each, correct=None) for each in held.branches))
    page = window.open(written(replace(made, trees={1: held}), tmp_path), "#tree=1")
    opened(page)
    tools = page.locator("#panel .tools")
    assert "null" not in tools.inner_text()
    assert tools.get_by_label("plain text").count() == 0
    assert tools.locator("button:disabled").all_inner_texts() == ["Chosen", "Next right or lost"]


def test_a_step_on_a_known_way_is_astray_and_no_right_answer_that_was_lost(window: Seen, tmp_path: Path) -> None:
    made = document(problems=1)
    held = made.trees[1]
    step = next(each.path for each in held.branches if each.state == "pruned")
    page = window.open(written(replace(made, trees={**made.trees, 1: replace(held, lost=step)}), tmp_path))
    page.locator("td[data-attempt='1'] a").click()
    assert opened(page).locator(".row.at .tag.lost").inner_text() == "astray here"
    assert page.locator("#panel .way").all_inner_texts()[-1] == "astray"


def test_sorting_puts_numbers_in_order_and_unknown_ones_last(window: Seen, file: Path) -> None:
    page = window.open(file)
    head = page.locator("#g0-accuracy th[data-column='difference']")
    cells = page.locator("#g0-accuracy td[data-column='difference']")

    def values() -> list[str | None]:
        got: list[str | None] = cells.evaluate_all("all => all.map((each) => each.dataset.value ?? null)")
        return got

    plain = values()
    assert plain[0] is None
    head.get_by_role("button").click()
    known = sorted((float(each) for each in plain if each), reverse=True)
    assert [float(each) for each in values()[:-1] if each] == known
    assert values()[-1] is None
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").click()
    assert [float(each) for each in values()[:-1] if each] == known[::-1]
    assert values()[-1] is None
    head.get_by_role("button").click()
    assert values() == plain


@pytest.mark.parametrize("width", [1280, 390])
def test_what_can_be_moved_sideways_fades_out_until_its_end_is_reached(browser: Any, width: int, tmp_path: Path) -> None:
    """Cut at the right without a sign, tables looked whole, and so did charts on a phone."""
    made = document(problems=3, branches=4)
    group = made.groups[0]
    wide = sheet("wide", group.runs)
    more = tuple(Column(f"more_{i}", f"more of it {i}", "text") for i in range(9))
    rows = tuple({**row, **{each.name: "countdown-test-1-20" for each in more}} for row in wide.rows)
    sheets = (sheet("accuracy", group.runs), replace(wide, columns=wide.columns + more, rows=rows))
    file = written(replace(made, groups=(replace(group, sheets=sheets),)), tmp_path)
    with seen(browser, viewport={"width": width, "height": 900}) as window:
        page = window.open(file)
        box = page.locator("#g0-wide .scroll")
        box.scroll_into_view_if_needed()
        page.wait_for_selector("#g0-wide .scroll.more-right")
        assert "gradient" in box.evaluate("(each) => getComputedStyle(each).maskImage")
        assert page.locator("#g0-accuracy .chart.more-right").count() == (width == 390)
        box.evaluate("(each) => { each.scrollLeft = each.scrollWidth; }")
        page.wait_for_selector("#g0-wide .scroll:not(.more-right)")
        assert box.evaluate("(each) => getComputedStyle(each).maskImage") == "none"
        assert window.clean(file)


def test_an_address_that_is_typed_into_an_open_page_shows_its_row_below_the_heads(window: Seen, tmp_path: Path) -> None:
    made = document(problems=60, trees=0)
    group = made.groups[0]
    runs = tuple(replace(run, label=f"{run.label}, of a very long name indeed {i}") for i, run in enumerate(group.runs))
    page = window.open(written(replace(made, groups=(replace(group, runs=runs),)), tmp_path))
    for row in (21, 50, 2):
        page.evaluate("(row) => { location.hash = `g0-p${row}`; }", row)
        page.wait_for_selector(f"#g0-p{row}.target")
        page.wait_for_timeout(100)  # the browser goes to the address by itself, too
        head, place = page.locator("table.grid thead .who").bounding_box(), page.locator(f"#g0-p{row}").bounding_box()
        assert head["y"] + head["height"] <= place["y"] < 850


def test_the_contents_say_which_section_is_read(window: Seen, file: Path) -> None:
    page = window.open(file)
    for name in ("g0-problems", "g0-accuracy"):
        page.evaluate("(name) => document.getElementById(name).scrollIntoView()", name)
        page.wait_for_selector(f"nav.jump a[href='#{name}'][aria-current]")
        assert page.locator("nav.jump a[aria-current]").count() == 1


def test_problems_are_sorted_by_a_press_anywhere_on_a_head(window: Seen, file: Path) -> None:
    """Only its words were the button: above a short name nothing happened."""
    page = window.open(file)
    for head in ("th[data-column='right']", "th.run"):
        place = page.locator(f"table.grid {head}").first
        place.scroll_into_view_if_needed()
        place.click(position={"x": 6, "y": 6})
        assert place.get_attribute("aria-sort") == "descending"
    marks = page.locator("table.grid tbody td:nth-of-type(2)").evaluate_all("(all) => all.map((each) => each.className)")
    assert marks == sorted(marks, key="yuno".index)
    page.get_by_label("show tokens").check()  # then by these
    tokens = page.locator("table.grid tbody td:nth-of-type(2)").evaluate_all(
        "(all) => all.map((e) => Number(e.dataset.tokens))"
    )
    assert tokens == sorted(tokens, reverse=True)


def test_a_long_table_shows_its_first_rows_until_it_is_opened(window: Seen, tmp_path: Path) -> None:
    made = document(problems=3, branches=4)
    group = made.groups[0]
    runs = tuple(replace(group.runs[0], id=f"x{index}", label=f"run {index}") for index in range(400))
    file = written(replace(made, groups=(replace(group, sheets=(sheet("accuracy", runs),)),)), tmp_path)
    page = window.open(file)
    box = page.locator("#g0-accuracy .scroll")
    assert box.locator("tbody tr").count() == 400
    assert box.bounding_box()["height"] < 500
    page.get_by_role("button", name="Show the 400 rows").click()
    assert box.bounding_box()["height"] > 600
    page.get_by_role("button", name="Fewer rows").click()
    assert box.bounding_box()["height"] < 500
    box.locator("tbody tr").nth(300).scroll_into_view_if_needed()  # as find-in-page does
    page.wait_for_selector("#g0-accuracy .whole")
    assert window.clean(file)


CUT = """() => [...document.querySelectorAll(".scroll, table, svg, pre")].filter((each) => {
  const box = each.getBoundingClientRect();
  const hides = getComputedStyle(each).overflow !== "visible" && each.scrollHeight > each.clientHeight + 2;
  return hides || box.right > innerWidth + 1;
}).map((each) => `${each.tagName} ${each.dataset.sheet} ${each.scrollHeight}`)"""


def test_on_paper_tables_are_whole_as_wide_as_it_and_by_day(browser: Any, tmp_path: Path) -> None:
    """Long tables were cut at their fold, wide ones at the margin, and all SQL was printed."""
    made = document(problems=3, runs=8, branches=4)
    group = made.groups[0]
    runs = tuple(replace(group.runs[0], id=f"x{index}", label=f"run {index}") for index in range(60))
    wide = sheet("wide", runs)
    more = tuple(Column(f"more_{i}", f"more of it {i}", "text") for i in range(6))
    rows = tuple({**row, **{each.name: "countdown-test-1-20" for each in more}} for row in wide.rows)
    sheets = (sheet("accuracy", runs), replace(wide, columns=wide.columns + more, rows=rows))
    file = written(replace(made, groups=(replace(group, sheets=sheets),)), tmp_path)
    with seen(browser, viewport={"width": 703, "height": 1000}, color_scheme="dark") as window:
        page = window.open(file, "#tree=1")
        opened(page)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert page.evaluate(CUT) == []
        assert page.evaluate("document.documentElement.scrollWidth") == 703
        assert page.locator("details.facts table").is_visible()
        assert not page.get_by_text("Where it is from").first.is_visible()
        assert not page.locator("#panel").is_visible()
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        page.emulate_media(media="screen")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details.facts[open]").count() == 0
        assert window.clean(file)


def whole(text: str) -> str:
    """Lone surrogates do not come from a browser to us."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


TREE = """() => {
  const text = (selector) => document.querySelector(`#panel ${selector}`).textContent;
  const mark = document.querySelector("#panel .row.at .state");
  return {title: text("h2 .t"), row: text(".row.at .line"), state: mark.className + mark.textContent,
          step: text(".step.here .t"),
          votes: [...document.querySelectorAll("#panel .votes .t")].map((each) => each.textContent),
          facts: [...document.querySelectorAll("#panel .facts .t")].map((each) => each.textContent)};
}"""
WRITTEN = """(expected) => {
  const section = document.getElementById(expected.id);
  const all = [...section.querySelectorAll(".t, code")].map((each) => each.textContent);
  return {same: all.filter((each) => each === expected.text).length,
          odd: all.filter((each) => each !== expected.text && each.length > 12 && !each.startsWith("r") ).slice(0, 3)};
}"""


def test_hostile_texts_in_the_page_are_shown_as_texts(window: Seen, tmp_path: Path) -> None:
    file = written(hostile(), tmp_path)
    page = window.open(file)
    for index, text in enumerate(TEXTS):
        told = page.evaluate(WRITTEN, {"id": f"g{index}", "text": carried(text)})
        assert told["same"] > 30, text[:60]
        assert [each for each in told["odd"] if carried(text) not in each] == [], text[:60]
    notes = page.evaluate("[...document.querySelectorAll('.notes li')].map((each) => each.textContent)")
    assert notes == [carried(text) for text in TEXTS]
    alien = "img, iframe, object, embed, form, base, link, template, math, plaintext, body svg, meta[http-equiv=refresh]"
    assert page.locator(alien).count() == 0
    assert page.evaluate("[...document.querySelectorAll('a')].every((each) => each.getAttribute('href').startsWith('#'))")
    assert page.evaluate("document.querySelectorAll('section.group').length") == len(TEXTS)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert window.clean(file)


def test_hostile_texts_in_trees_are_shown_as_texts(window: Seen, tmp_path: Path) -> None:
    made = hostile()
    file = written(made, tmp_path)
    page = window.open(file)
    for group, text in zip(made.groups, TEXTS, strict=True):
        attempt = group.problems[0].cells[0].attempt
        page.evaluate("(attempt) => { location.hash = `tree=${attempt}&at=0`; }", attempt)
        page.wait_for_function("(attempt) => document.querySelector('#panel').dataset.attempt === String(attempt)", arg=attempt)
        told = page.evaluate(TREE)
        assert whole(told["title"]) == carried(text)
        assert whole(told["row"]) == whole(text.strip()[:300])
        assert whole(told["step"]) == whole(text)
        assert told["state"] == "state·"
        assert [whole(each) for each in told["facts"]] == ["0", *[whole(text)] * 5]
        assert [whole(each) for each in told["votes"]] == [whole(text)] * 2
    assert window.clean(file)


@pytest.mark.parametrize("width", [390, 360])
def test_a_narrow_window_never_scrolls_sideways(browser: Any, width: int, file: Path, tmp_path: Path) -> None:
    with seen(browser, viewport={"width": width, "height": 780}, has_touch=True) as window:
        for each in (file, written(hostile(), tmp_path))[: 2 if width == 360 else 1]:
            page = window.open(each)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.evaluate("location.hash = 'tree=1'")
            opened(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("document.querySelector('#panel').scrollWidth") <= width
        assert window.errors == []


def test_names_of_problems_and_of_runs_are_whole_on_a_phone(browser: Any, tmp_path: Path) -> None:
    """Cut, all problems of a family had one name, and so had the seeds of a strategy."""
    made = document(problems=3, branches=4)
    group = made.groups[0]
    problems = tuple(replace(each, id=f"countdown-test-5-{index}-of-200") for index, each in enumerate(group.problems))
    runs = tuple(replace(run, label=f"astar:k=1,reopen=0.1,root=0.9, seed {i}") for i, run in enumerate(group.runs))
    file = written(replace(made, groups=(replace(group, problems=problems, runs=runs),)), tmp_path)
    with seen(browser, viewport={"width": 390, "height": 780}, has_touch=True) as window:
        page = window.open(file)
        for names in ("button.id", "th.run .t"):
            sizes = "(all) => all.map((e) => [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight])"
            found = page.locator(names).evaluate_all(sizes)
            assert len(found) >= 3
            assert max(map(max, found)) <= 1


def test_a_runs_name_breaks_between_its_parts_and_not_in_a_word_on_a_phone(browser: Any, tmp_path: Path) -> None:
    made = document(problems=3)
    group = made.groups[0]
    runs = tuple(
        replace(run, label=f"particles:n=8,resampling=systematic,ess=0.{i}, seed 2") for i, run in enumerate(group.runs)
    )
    sheets = (sheet("accuracy", runs), *group.sheets[1:])
    file = written(replace(made, groups=(replace(group, runs=runs, sheets=sheets),)), tmp_path)
    pieces = """(all) => all.flatMap((name) => [...name.childNodes].filter((each) => each.data).map((each) => {
      const range = document.createRange();
      range.selectNodeContents(each);
      return [each.data, range.getClientRects().length];
    }))"""
    with seen(browser, viewport={"width": 390, "height": 780}, has_touch=True) as window:
        page = window.open(file)
        names = page.locator("table[data-sheet=accuracy] tbody th .t")
        found = names.evaluate_all(pieces)
        # particles: n=8, resampling=systematic,
        assert [lines for word, lines in found if " " not in word] == [1] * 3 * len(runs)
        assert min(names.evaluate_all("(all) => all.map((e) => e.getClientRects()[0].height)")) > 30, "it fits on one line"
        assert names.first.inner_text().replace("\n", "") == runs[0].label


def test_a_tree_has_room_on_a_phone_that_lies_on_its_side(browser: Any, file: Path) -> None:
    with seen(browser, viewport={"width": 844, "height": 390}, has_touch=True) as window:
        page = window.open(file, "#tree=1")
        listed = opened(page)
        assert listed.bounding_box()["height"] > 300
        page.locator("#panel .detail").scroll_into_view_if_needed()
        side = page.locator("#panel .detail").bounding_box()
        assert side["x"] > listed.bounding_box()["x"] + 300
        assert side["height"] > 300


def test_the_title_has_the_whole_width_of_a_phone(browser: Any, tmp_path: Path) -> None:
    """Beside the button for colours and the word of a live page a number was cut in two."""
    file = written(replace(document(problems=1), title="mcts:k=4,simulations=200 on countdown, generator bundled"), tmp_path)
    with seen(browser, viewport={"width": 390, "height": 780}, has_touch=True) as window:
        page = window.open(file)
        title, theme = page.locator("h1").bounding_box(), page.locator("#theme").bounding_box()
        assert title["width"] > 340
        assert theme["y"] + theme["height"] <= title["y"]


CONTRAST = """(selectors) => {
  const part = (value) => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
  const light = (colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
  const behind = (each) => { for (; each; each = each.parentElement) {
    const colour = getComputedStyle(each).backgroundColor;
    if (!colour.startsWith("rgba(0, 0, 0, 0")) return colour; } };
  return selectors.map((selector) => { const each = document.querySelector(selector);
    const [one, other] = [light(getComputedStyle(each).color), light(behind(each))].sort((a, b) => b - a);
    return [selector, (one + 0.05) / (other + 0.05)]; });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast_by_day_and_by_night(browser: Any, scheme: str, file: Path) -> None:
    with seen(browser, color_scheme=scheme) as window:
        page = window.open(file)
        page.evaluate("location.hash = 'tree=1'")
        opened(page)
        places = ["h1", ".made", ".sub", ".says", ".findings dd", ".findings a", ".badge", ".data th", ".ci", ".notes"]
        places += [".grid .y a", ".grid .n a", ".prompt", ".legend", "#panel .row .line", "#panel .row .word"]
        places += ["#panel .tokens", "#panel .tag", "#panel .nth", "#panel .votes summary"]
        for shade in range(10):  # the surest and the least sure of tokens, and all between
            page.evaluate(
                "(shade) => { document.querySelectorAll('#panel .shaded span')[shade].className = `k${shade}`; }", shade
            )
        places += [f"#panel .shaded .k{shade}" for shade in range(10)]
        low = [each for each in page.evaluate(CONTRAST, places) if each[1] < 4.5]
        assert low == []
        dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 23, 27)"
        assert dark is (scheme == "dark")


STOP = """() => {
  const at = document.activeElement;
  const text = at.labels?.[0]?.textContent || (at.matches("pre, a, button, summary") && at.textContent);
  return [at.getAttribute("aria-label") || text, getComputedStyle(at).outlineStyle];
}"""


def test_tables_and_what_is_reached_by_keyboard_have_names(window: Seen, file: Path) -> None:
    page = window.open(file)
    named = "(each) => [each.getAttribute('aria-label'), each.rows[1].cells[0].tagName, each.rows[1].cells[0].scope]"
    tables = page.locator("main table").evaluate_all(f"(all) => all.map({named})")
    assert [each[1:] for each in tables] == [["TH", "row"]] * len(tables)
    assert all(each[0] for each in tables)
    page.evaluate("document.querySelectorAll('main details').forEach((each) => (each.open = true))")
    stops: set[str] = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        name, looks = page.evaluate(STOP)
        if page.evaluate("document.activeElement === document.body"):
            break
        assert name, page.evaluate("document.activeElement.outerHTML")[:80]
        assert looks != "none", name
        stops.add(name)
    assert {"Table: Accuracy", "Table: problems", "Copy", "Search"} <= stops


def test_the_button_for_colours_goes_from_auto_to_light_to_dark(window: Seen, file: Path) -> None:
    page = window.open(file)
    button = page.locator("#theme")
    button.click()
    button.click()
    assert button.inner_text() == "Dark"
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 23, 27)"


def test_ten_thousand_branches_open_at_once_and_few_are_in_the_document(window: Seen, tmp_path: Path) -> None:
    made = document(problems=2, branches=4)
    file = written(replace(made, trees={1: tree(1, 10_000)}), tmp_path)
    page = window.open(file)
    took = []
    for _ in range(3):  # the best of three: the machine has other work
        page.evaluate("delete document.querySelector('#panel').dataset.ms")
        page.locator("td[data-attempt='1'] a").click()
        listed = opened(page)
        page.wait_for_function("document.querySelector('#panel').dataset.ms")
        took.append(float(page.evaluate("document.querySelector('#panel').dataset.ms")))
        page.keyboard.press("Escape")
        page.wait_for_selector("#panel:not([open])", state="attached")
    assert min(took) < 500
    page.locator("td[data-attempt='1'] a").click()
    listed = opened(page)
    page.keyboard.press("*")
    assert page.evaluate("document.querySelector('#panel .rows').offsetHeight") == 280_000
    for top in (0, 100_000, 279_000):
        listed.evaluate("(each, top) => { each.scrollTop = top; }", top)
        page.wait_for_function("(top) => Math.abs(document.querySelector('#panel .tree').scrollTop - top) < 1000", arg=top)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert 10 < listed.locator(".row").count() < 80
    page.keyboard.press("End")
    assert listed.locator(".row.at").is_visible()
    assert window.clean(file)


def test_a_tree_of_a_thousand_steps_can_be_read_to_its_end(window: Seen, tmp_path: Path) -> None:
    paths = [".".join("0" * deep) for deep in range(1, 1001)]
    steps = [Branch(path, path.rpartition(".")[0], f"step {path.count('.')}", 1, "live", "", "step") for path in paths]
    made = document(problems=1, branches=1)
    file = written(replace(made, trees={1: TreeOf(1, paths[-1], None, tuple(steps), 1000)}), tmp_path)
    page = window.open(file, "#tree=1")
    opened(page)
    assert page.locator("#panel .step.here .t").inner_text() == "step 999"
    assert page.locator("#panel .row.at").get_attribute("aria-level") == "1000"
    assert window.clean(file)


def test_two_thousand_problems_are_a_page_at_a_time(window: Seen, tmp_path: Path) -> None:
    file = written(document(runs=4, problems=2000, trees=0), tmp_path)
    page = window.open(file)
    rows = page.locator("section.problems tbody tr")
    assert rows.count() == 100
    took = []
    for _ in range(3):  # the best of three: the machine has other work
        page.get_by_label("Search").fill("")
        assert rows.count() == 100
        took.append(
            page.evaluate(
                """() => {
                  const box = document.querySelector(".filters input[type=search]");
                  const from = performance.now();
                  box.value = "p1999";
                  box.dispatchEvent(new Event("input"));
                  return document.body.offsetHeight && performance.now() - from;
                }"""
            )
        )
        assert rows.count() == 1
    assert min(took) < 300
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="Next").click()
    assert page.locator(".pages span").inner_text() == "101–200 of 2,000"
    page.goto(file.as_uri() + "#g0-p1501")
    page.wait_for_selector("tr.target")
    assert re.match("p1500\\b", page.locator("tr.target .who b").inner_text())
    assert window.clean(file)
