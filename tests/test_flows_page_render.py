"""The page of a report as text: what it is allowed to do, what it escapes, what its cells and its trees hold."""

from __future__ import annotations

import base64
import json
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from documents import document, tree
from hostile import TEXTS, carried, hostile

from flows.report import sheets
from flows.report.chart_style import COLOURS
from flows.report.document import Column, Document, TreeOf
from flows.report.pack import columns, compact, packed
from flows.report.render import mark, policy, render
from flows.report.shown import moment, shown
from store.questions import QUESTIONS


class Read(HTMLParser):
    """The tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (given for name, given in self.tags if name == tag)


def test_the_policy_lets_nothing_in_and_each_page_has_a_nonce_of_its_own() -> None:
    page, other = render(document(problems=2)), render(document(problems=2))
    (given,) = (each["content"] for each in Read(page).of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert given is not None
    nonce = re.findall("'nonce-([^']+)'", given)[0]
    assert given == policy(nonce)
    assert given.startswith("default-src 'none'; ")
    assert "unsafe" not in given
    assert "connect-src" not in given
    assert nonce not in other
    assert page.index("http-equiv") < page.index("<style") < page.index("<script")


def test_every_script_and_style_has_the_nonce_or_is_a_data_block_and_nothing_is_fetched() -> None:
    read = Read(render(document(), nonce="abc"))
    assert all(each.get("nonce") == "abc" for each in read.of("style"))
    scripts = list(read.of("script"))
    assert all(each.get("nonce") == "abc" or each.get("type") == "application/octet-stream" for each in scripts)
    for _, given in read.tags:
        assert "style" not in given
        assert not {name for name in given if name.startswith("on")}
        assert "src" not in given
        assert (given.get("href") or "#").startswith("#")


def test_hostile_texts_in_every_field_leave_the_tags_as_they_are() -> None:
    tame = hostile(tuple(f"tame{'' if len(text) < 2 else 2}" for text in TEXTS))
    page, plain = Read(render(hostile())), Read(render(tame))
    shape, tamed = [
        [(tag, [*given]) for tag, given in each.tags if (tag, given) != ("wbr", {})]  # those are ours: behind a comma
        for each in (page, plain)
    ]
    assert shape == tamed


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_hostile_text_is_in_the_page_letter_for_letter(text: str) -> None:
    page = Read(render(hostile((text,))))
    body = "".join(page.text)
    assert body.count(carried(text)) > 30
    titles = [each.get("title") for _, each in page.tags if "title" in each]
    assert titles.count(carried(text)) > 5


def test_every_cell_with_a_number_has_it_digit_for_digit_with_its_column() -> None:
    made = document(runs=7)
    read = Read(render(made))
    seen = {(each["data-column"], each["data-value"]) for _, each in read.tags if "data-value" in each}
    for sheet in made.groups[0].sheets:
        for row in sheet.rows:
            for name, value in row.items():
                if isinstance(value, (int, float)):
                    assert (name, repr(value)) in seen


def test_a_number_is_shown_by_its_kind_and_what_is_not_known_as_a_dash() -> None:
    assert [shown(1234567, "count"), shown(0.7666, "share"), shown(1.0, "share")] == ["1,234,567", "0.767", "1.000"]
    assert [shown(-0.0332, "signed"), shown(0.0332, "signed"), shown(-0.0001, "signed")] == ["−0.033", "+0.033", "0.000"]
    assert [shown(1234.56, "number"), shown(345735808.0, "number"), shown(None, "share")] == ["1,234.6", "345,735,808", "–"]
    assert [shown(True), shown(""), shown(float("-inf"), "number")] == ["yes", "–", "−∞"]


def test_a_time_is_shown_to_the_minute_and_any_other_text_as_it_is() -> None:
    assert moment("2026-11-22T07:16:47+00:00") == moment("2026-11-22T07:16:47.123Z") == "2026-11-22 07:16 UTC"
    assert moment("2026-11-22T07:16:47+02:00") == "2026-11-22T07:16:47+02:00"


def test_an_interval_stands_with_its_value_and_has_no_column_of_its_own() -> None:
    read = Read(render(document(problems=1)))
    heads = [each.get("data-column") for each in read.of("th")]
    assert "accuracy" in heads
    assert "low" not in heads
    assert any(each.get("data-column") == "low" for each in read.of("span"))


def test_a_series_has_the_charts_own_colour_by_day_and_another_by_night() -> None:
    page = render(document(problems=1, trees=0))
    for index, day in enumerate(COLOURS):
        assert f".s{index} {{ --series: light-dark({day}, #" in page


def test_long_tables_are_folded_and_short_ones_are_not() -> None:
    assert 'class="scroll long"' not in render(document(runs=6))
    assert 'class="scroll long"' in render(document(runs=40))


def test_a_finding_leads_to_the_row_of_its_problem_wherever_that_is() -> None:
    made = document(problems=150, trees=0)
    group = made.groups[0]
    findings = (replace(group.findings[1], problem="p120"),)
    page = render(replace(made, groups=(replace(group, findings=findings),)))
    assert '<a href="#g0-p121">problem' in page
    assert '<tr id="g0-p121"><th scope="row" class="who"><b class="t" dir="auto">p120</b>' in page


def unpacked(block: str) -> dict[str, object]:
    held: dict[str, object] = json.loads(zlib.decompress(base64.b64decode(block)))
    return held


@pytest.mark.parametrize("made", [tree(1, 60), tree(2, 300, certain=False), tree(3, 0), *[*hostile(TEXTS[-8:]).trees.values()]])
def test_a_packed_tree_holds_what_the_tree_held(made: TreeOf) -> None:
    held = unpacked(packed(made))
    assert held == json.loads(compact(made)) == json.loads(json.dumps(columns(made)))
    assert held["text"] == [branch.text for branch in made.branches]
    words = held["words"]
    parents, tails = held["parent"], held["tail"]
    assert isinstance(words, list)
    assert isinstance(parents, list)
    assert isinstance(tails, list)
    paths: list[str] = []
    for parent, tail in zip(parents, tails, strict=True):
        paths.append(tail[1:] if tail[0] == "=" else tail if parent < 0 else f"{paths[parent]}.{tail}")
    assert paths == [branch.path for branch in made.branches]
    assert held["reason"] == made.reason
    assert held["votes"] == [
        [each.answer, each.count, pytest.approx(each.weight, rel=1e-5), each.correct] for each in made.votes
    ]
    for name in ("state", "cause", "finish", "answer", "why"):
        places = held.get(name, [-1] * len(paths))
        assert isinstance(places, list)
        assert [None if at < 0 else words[at] for at in places] == [getattr(each, name) for each in made.branches]


def test_a_tree_whose_parent_comes_later_is_refused_by_name() -> None:
    made = tree(7, 30)
    turned = replace(made, branches=made.branches[::-1])
    with pytest.raises(ValueError, match="attempt 7 comes before its parent"):
        packed(turned)


def test_a_page_of_many_trees_is_small_and_quick() -> None:
    made = document(runs=10, problems=20, branches=60)
    begun = time.perf_counter()
    page = render(made)
    assert len(page) / len(made.trees) < 6000
    assert time.perf_counter() - begun < 5


def test_a_live_page_holds_no_tree_and_may_ask_its_own_server_only() -> None:
    page = render(document(status="running"), live=True, version="v1")
    assert "application/octet-stream" not in page
    assert "connect-src &#39;self&#39;" in page
    assert '<html lang="en" data-live data-version="v1" data-working>' in page
    assert "data-working>" not in render(document(), live=True)


def test_an_empty_report_says_so() -> None:
    empty = Document("nothing", "now", "0", "ponderosa report", ())
    assert "There are no runs in this report." in render(empty)


def test_a_cell_leads_to_its_problem_and_to_its_tree_at_the_branch_where_these_are_in_the_page() -> None:
    made = document(problems=2, trees=3)
    group = made.groups[0]
    columns = (Column("problem", "problem"), Column("attempt", "attempt", "count"), Column("path", "path"))
    rows = ({"problem": "p1", "attempt": 2, "path": "0.1"}, {"problem": "else", "attempt": 4, "path": None})
    page = render(replace(made, groups=(replace(group, sheets=(replace(group.sheets[0], columns=columns, rows=rows),)),)))
    table = [each.get("href") for each in Read(page[: page.index("Where it is from")]).of("a")]
    assert table[-2:] == ["#g0-p2", "#tree=2&at=0.1"]


def test_a_head_stands_over_its_numbers_whatever_their_kind() -> None:
    """A seed is a name that is a number."""
    made = document(problems=1)
    group = made.groups[0]
    seeds = replace(group.sheets[0], rows=({"seed": 7, "a": "b"},), columns=(Column("seed", "seed"), Column("a", "A")))
    page = render(replace(made, groups=(replace(group, sheets=(seeds,)),)))
    heads = [each for tag, each in Read(page).tags if tag == "th" and each.get("scope") == "col" and "data-column" in each]
    assert [each.get("class") for each in heads if each["data-column"] in ("seed", "a")] == ["num", None]


def test_a_table_without_rows_says_so() -> None:
    made = document(problems=1)
    group = made.groups[0]
    bare = replace(group.sheets[0], rows=(), columns=(Column("a", "A"),))
    assert "No rows." in render(replace(made, groups=(replace(group, sheets=(bare,)),)))


def test_a_search_that_is_not_over_has_not_come_to_no_answer() -> None:
    """All problems of a run that had just begun were said to have no answer."""
    cell = document(problems=1).groups[0].problems[0].cells[0]
    assert mark(replace(cell, correct=None, answer=None, verdict="pending")) == "u"
    assert mark(replace(cell, correct=None, answer="7")) == "u"
    assert [mark(replace(cell, correct=False, answer=each)) for each in (None, "7")] == ["o", "n"]
    assert mark(replace(cell, correct=True)) == "y"


def test_a_sheet_names_others_by_their_headings_and_says_where_only_some_rows_rest_on_few_problems() -> None:
    made = document(problems=1)
    losses = QUESTIONS["losses"]
    rows = [{**dict.fromkeys(losses.columns), "problems": count} for count in (200, 3)]
    for kept, said in ((rows, "some rows: fewer than 30 problems"), (rows[1:], ">fewer than 30 problems"), (rows[:1], "")):
        sheet = sheets.of(losses, [], kept)
        page = render(replace(made, groups=(replace(made.groups[0], sheets=(sheet,)),)))
        assert said in page
        assert ("fewer than 30 problems" in page) == bool(said)
        assert 'The answers of "Where the right answer was lost", counted' in sheet.says


def test_the_name_of_a_problem_set_wraps_between_its_parts_in_the_contents_and_in_its_heading() -> None:
    made = document(problems=1)
    page = render(replace(made, groups=(replace(made.groups[0], title="countdown:count=60,seed=1"),)))
    assert page.count(">countdown:<wbr>count=60,<wbr>seed=1</") == 2


def test_of_very_many_rows_a_sheet_says_how_many_it_has_and_what_gives_the_others() -> None:
    """A button promised to show all 20, of 260."""
    slow = QUESTIONS["slow"]
    rows = [dict.fromkeys(slow.columns) | {"run": "a", "seconds": float(i)} for i in range(260)]
    assert "The first 20 of 260 rows; the command below gives all." in sheets.of(slow, [], rows).says
    assert "rows" not in sheets.of(slow, [], rows[:20]).says.removeprefix(slow.says)
