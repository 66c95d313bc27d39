"""The report: every number on the page is what its SQL gives, on a real run of the bundled models."""

from __future__ import annotations

import html
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from math import comb
from pathlib import Path
from typing import Any

import asked as asked_of
import numpy as np
import pytest
from asked import Step, Tried, samples
from asked import spec as hand
from asked import write as written
from command import Command

from flows import work
from flows.parts import spec
from flows.report import findings
from flows.report.assemble import assembled, page_of, tree_of
from flows.report.document import Document, Votes
from flows.report.drawn import drawn
from flows.report.render import render
from flows.report.trees import _votes
from flows.report.written import run as write_report
from search.types import Part
from store import queries, schema
from store.database import Database, open_database
from store.questions.budget import listed
from store.readonly import selecting
from store.runs import Run, find_run
from store.stats import wilson

PROBLEMS = "word:split=train,count=16,levels=4-8,seed=3"
RUNS = {
    "samples": spec(PROBLEMS, "best-of-n:n=4,select=majority"),
    "beam": spec(PROBLEMS, "beam:n=4,keep=2,select=weighted"),
    "again": spec(PROBLEMS, "best-of-n:n=4,select=weighted", seed=1),
}
Row = dict[str, Any]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the runs."""
    file = tmp_path_factory.mktemp("report") / "runs.db"
    with open_database(file) as db:
        for name, each in RUNS.items():
            work.evaluate(db, each, name)
    return file


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    with open_database(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(path: Path) -> tuple[Document, str]:
    with open_database(path) as db:
        document = page_of(db, assembled(db, [find_run(db, name) for name in RUNS]), "ponderosa report")
    return document, render(document)


class Cells(HTMLParser):
    """The numbers of each table of the page: by sheet, a row by column."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[Row]] = defaultdict(list)
        self.sheet = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "table":
            self.sheet = found.get("data-sheet") or ""
        elif tag == "tr" and self.sheet:
            self.tables[self.sheet].append({})
        elif "data-value" in found and self.sheet:
            self.tables[self.sheet][-1][found["data-column"]] = float(found["data-value"] or "nan")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.sheet = ""


def numbers(text: str) -> dict[str, list[Row]]:
    parser = Cells()
    parser.feed(text)
    return {name: [row for row in rows if row] for name, rows in parser.tables.items()}


def asked(path: Path, sql: str) -> list[Row]:
    with selecting(path, sql) as found:
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def ratio(above: float | None, below: float | None) -> float | None:
    return above / below if below and above is not None else None


def expected(name: str, rows: list[Row]) -> list[Row]:
    """What the page must say, worked out here from the SQL's rows."""
    match name:
        case "accuracy":
            return [{**r, "accuracy": r["correct"] / r["closed"], **ends(wilson(r["correct"], r["closed"]))} for r in rows]
        case "pass-at-k":
            return pass_at_k(rows)
        case "oracle-gap":
            return [gap(r) for r in rows]
        case "calibration":
            return [{"solutions": r["n"], "score": r["total"] / r["n"], "right": r["c"] / r["n"]} for r in rows]
        case "verifier":
            return [verifier(run) for run in by_run(rows).values()]
        case "length":
            return [{"bin": r["bin"] + 1, "solutions": r["n"], "right": r["c"] / r["n"]} for r in rows]
        case "diversity":
            return [{"solutions": r["n"] / r["problems"], "duplicates": 1 - r["texts"] / r["n"]} for r in rows]
        case "cost":
            return [part for r in rows for part in parts(r, ("queue", "generate", "verify", "embed", "store"), "seconds")]
        case "tokens":
            return [part for r in rows for part in fates(r)]
        case "losses":
            return losses(rows)
        case "slow":
            return sorted(rows, key=lambda r: -r["seconds"])[:20]
        case "lost":
            return rows
    return []


def ends(of: tuple[float, float]) -> Row:
    return {"low": of[0], "high": of[1]}


def by_run(rows: list[Row]) -> dict[str, list[Row]]:
    out: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        out[row["run"]].append(row)
    return out


def pass_at_k(rows: list[Row]) -> list[Row]:
    out = []
    for kinds in by_run(rows).values():
        most = max(r["n"] for r in kinds)
        total = sum(r["problems"] for r in kinds)
        for k in sorted({1 << i for i in range(most.bit_length())} | {most}):
            found = [(r["problems"], r["n"], r["c"], min(k, r["n"])) for r in kinds if r["n"]]
            share = sum(m * (1 - comb(n - c, size) / comb(n, size)) for m, n, c, size in found) / total
            out.append({"k": k, "share": share, "problems": total})
    return out


def gap(r: Row) -> Row:
    n = r["problems"]
    shares = {"chosen": r["was_right"] / n, "oracle": r["solved"] / n, "lost": r["missed"] / n, "random": r["at_random"] / n}
    return {**shares, "never": 1 - r["solved"] / n}


def verifier(grains: list[Row]) -> Row:
    n, c, total = (sum(r[name] for r in grains) for name in ("n", "c", "total"))
    brier = (sum(r["squares"] for r in grains) - 2 * sum(r["right_total"] for r in grains) + c) / n
    return {"solutions": n, "score": total / n, "right": c / n, "confidence": (total - c) / n, "brier": brier}


def parts(r: Row, names: tuple[str, ...], value: str) -> list[Row]:
    total = sum(r[name] for name in names if name != "queue")
    counted = {"problems": r["problems"]}
    return [{value: r[name], **counted, **({} if name == "queue" else {"share": r[name] / total})} for name in names]


def fates(r: Row) -> list[Row]:
    told = (r["pruned"], r["cancelled"], r["aside"])
    counts = (r["chosen"], r["total"] - r["chosen"] - sum(told), *told)
    return [{"tokens": count, "share": count / r["total"], "problems": r["problems"]} for count in counts]


def losses(rows: list[Row]) -> list[Row]:
    ways = {
        "pruned": ("pruned",),
        "merged": ("merged",),
        "cancelled": ("cancelled", "failed"),
        "outvoted": ("finished", "live"),
    }
    out = []
    for run in by_run(rows).values():
        counts = {row["state"]: row["lost"] for row in run if row["state"]}
        for states in ways.values():
            lost = sum(counts.get(state, 0) for state in states)
            out.append({"lost": lost, "share": lost / run[0]["problems"]})
    return out


CHECKED = ("accuracy", "pass-at-k", "oracle-gap", "calibration", "verifier", "length", "diversity", "cost", "tokens", "losses")


@pytest.mark.parametrize("name", [*CHECKED, "lost", "slow"])
def test_every_number_of_a_table_is_what_its_sql_gives(page: tuple[Document, str], path: Path, name: str) -> None:
    document, text = page
    [sheet] = [each for each in document.groups[0].sheets if each.id == name]
    assert html.escape(sheet.sql, quote=False) in html.unescape(text).replace("&", "&amp;").replace("<", "&lt;").replace(
        ">", "&gt;"
    )
    shown, wanted = numbers(text)[name], expected(name, asked(path, sheet.sql))
    assert len(shown) == len(wanted) == len(sheet.rows) > 0
    keys = [key for key in {key for row in wanted for key in row} if any(key in row for row in shown)]
    assert keys, "nothing to compare"
    for key in keys:
        # the page has the runs in the order in which they were named, the SQL by their ids
        have = sorted(row[key] for row in shown if key in row)
        want = sorted(float(row[key]) for row in wanted if row.get(key) is not None)
        assert have == pytest.approx(want), key


def test_pairs_and_selectors_are_those_of_the_commands(page: tuple[Document, str], path: Path, db: Database) -> None:
    """What is computed from single results: against `compare`'s own arithmetic, and a brute-force one."""
    document, text = page
    shown = numbers(text)
    pairs = {row["run"]: row for sheet in document.groups[0].sheets if sheet.id == "pairs" for row in sheet.rows}
    rows = asked(path, next(s.sql for s in document.groups[0].sheets if s.id == "pairs"))
    right = {run: np.array([row["correct"] for row in found]) for run, found in by_run(rows).items()}
    first = find_run(db, "samples").id
    for run, row in pairs.items():
        assert row["difference"] == pytest.approx(right[run].mean() - right[first].mean())
        assert (row["only_baseline"], row["only_run"]) == (
            int((right[first] > right[run]).sum()),
            int((right[run] > right[first]).sum()),
        )
    assert len(shown["pairs"]) == 2
    best = {row["k"]: row for row in shown["selectors"]}
    assert set(best) == {1.0, 2.0, 4.0}


def test_findings_say_numbers_that_are_in_their_tables(page: tuple[Document, str]) -> None:
    document, _ = page
    group = document.groups[0]
    for finding in group.findings:
        if not finding.sheet:
            assert finding.command
            continue
        [sheet] = [each for each in group.sheets if each.id == finding.sheet]
        values = [value for row in sheet.rows for value in row.values() if isinstance(value, (int, float))]
        for said in re.findall(r"(?<![\w.=-])[+−]?\d\.\d{3}(?!\d)", finding.answer):
            assert any(abs(float(said.replace("−", "-")) - value) < 0.00051 for value in values), (finding.asks, said)


def test_the_five_questions_of_a_newcomer_have_findings(page: tuple[Document, str]) -> None:
    asks = {finding.asks for finding in page[0].groups[0].findings}
    assert {
        "Which strategy is best at 1,000 tokens a problem?",
        "Which problem lost its right answer latest?",
        "Is the verifier over-confident?",
        "Did the seed matter?",
    } <= asks


def said(db: Database, *runs: Run) -> dict[str, str]:
    [made] = assembled(db, runs)
    return {finding.asks: finding.answer for finding in made.group.findings}


def test_configurations_whose_seeds_came_out_alike_are_counted_one_by_one(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        tried = {"p0": samples(("right", 0.5), chosen=0), "p1": samples(("b", 0.5), chosen=0)}
        runs = [written(db, hand(strategy, seed), tried) for strategy in ("beam", "greedy") for seed in (0, 1)]
        assert said(db, *runs)["Did the seed matter?"].startswith("Not beyond chance, in any of the 2 configurations")


def test_of_a_run_that_has_finished_nothing_nothing_is_found(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        begun = Tried([], None, status="pending", usage={"generated_tokens": None}, verdict=None)
        assert said(db, written(db, hand("greedy"), {"p0": begun})) == {}


@pytest.mark.parametrize(
    ("others", "tied", "said"),
    [
        (0, 0, "no other run is within the budget"),
        (5, 0, "better than every other run within the budget (5)"),
        (10, 10, "but none of the other runs within the budget (10) can be told apart from it: b, c, d and 7 more"),
        (10, 3, "better than 7 of the 10 others within the budget; not told apart from it: b, c and d"),
    ],
)
def test_the_best_run_is_said_to_be_better_than_those_that_it_is_better_than(others: int, tied: int, said: str) -> None:
    row = {"budget": 1000, "name": "a", "accuracy": 0.8, "low": 0.7, "high": 0.9, "tokens": 168.2, "problems": 60, "of": 60}
    row |= {"within": others + 1, "tied": tied, "alike": listed(list("bcdefghijk")[:tied])}
    told = findings._best({"best": [row]})
    assert told is not None
    assert told.answer == f"a: 0.800 [0.700, 0.900] for 168 tokens; {said}."
    told = findings._best({"best": [{**row, "of": 90}]})
    assert told is not None
    assert told.answer == f"a: 0.800 [0.700, 0.900] for 168 tokens, by the 60 of its 90 problems that it has finished; {said}."


def test_a_margin_is_said_in_words() -> None:
    assert findings.row_margin({"margin": -0.0081}) == ", scored 0.008 below what was chosen"
    assert findings.row_margin({"margin": 0.0}) == ", scored as what was chosen"
    said = ", scored 0.100 above the lowest that was kept beside it"
    assert findings.row_margin({"margin": None, "kept_margin": 0.1}) == said
    assert findings.row_margin({"how": "outvoted"}) == ""


@pytest.mark.parametrize("searched", ["astar", "beam"])
def test_what_a_search_saved_is_said_of_a_star_and_else_of_the_cheapest_that_is_as_accurate(
    tmp_path: Path, searched: str
) -> None:
    def tried(*answers: str) -> dict[str, asked_of.Tried]:
        scored = [(each, 0.5) for each in answers]
        return {f"p{i}": asked_of.samples(*scored, chosen=0, sequential_tokens=10) for i in range(4)}

    with open_database(tmp_path / "saved.db") as db:
        runs = [
            asked_of.write(db, asked_of.spec(n=4), tried("right", "b", "c", "d"), "four"),
            asked_of.write(db, asked_of.spec("first-finish"), tried("right", "b", "c"), "three"),
            asked_of.write(db, asked_of.spec(n=2), tried("wrong", "b"), "two"),
            asked_of.write(db, asked_of.spec("dvts"), tried("wrong"), "worse"),
            asked_of.write(db, asked_of.spec("rebase"), tried("right", "b", "c"), "dearer"),
            asked_of.write(db, asked_of.spec(searched), tried("right", "b"), "search"),
        ]
        found = [each for each in assembled(db, runs)[0].group.findings if each.asks.startswith("What did")]
    [saved] = found
    assert saved.asks == f"What did {'A*' if searched == 'astar' else searched} save?"
    # "four" and "three" are as accurate: the cheaper one is the rival
    assert saved.answer.startswith(
        "search against three, the most accurate of the runs that sample whole solutions: 36% fewer tokens [36%, 36%]"
    )
    assert "accuracy cannot be told apart: 0.000 [0.000, 0.000], p 1.000." in saved.answer
    assert saved.answer.endswith(" Of the other searches dearer is the most accurate: 1.000 for 33 tokens.")
    assert (saved.sheet, saved.command) == ("", f"ponderosa compare {runs[1].id} {runs[-1].id}")


@pytest.fixture
def compared(tmp_path: Path) -> Iterator[tuple[Database, list[Run]]]:
    """Greedy and A* over 30 problems, of which A* solves more, and the last of which one run lacks."""
    with open_database(tmp_path / "a.db") as db:
        rng = np.random.default_rng(1)  # another number of resamples gives another interval
        answers = [["right" if right else "b" for right in rng.random(30) < share] for share in (0.4, 0.8, 0.7)]
        runs = []
        for strategy, given in zip(("greedy", "astar", "best-of-n"), answers, strict=True):
            tried = {f"p{i}": samples((each, 0.5), chosen=0, sequential_tokens=10 + i) for i, each in enumerate(given)}
            tried |= {"p29": Tried([], None, status="pending", verdict=None)} if strategy == "best-of-n" else {}
            runs.append(written(db, hand(strategy), tried, strategy))
        yield db, runs


def test_a_comparison_has_one_interval_in_findings_and_in_pairs(compared: tuple[Database, list[Run]]) -> None:
    db, runs = compared
    [pair] = [row for row in asked_of.ask(db, "pairs", *runs) if row["name"] == "astar"]
    [saved] = [each for each in assembled(db, runs)[0].group.findings if each.asks == "What did A* save?"]
    shown = f"{findings.share(pair['difference'], 'signed')} {findings.within(pair['low'], pair['high'], 'signed')}"
    assert shown in saved.answer.split("Against greedy: ")[1]


def test_what_a_finding_says_without_a_table_its_commands_print(
    compared: tuple[Database, list[Run]], ponderosa: Command
) -> None:
    db, runs = compared
    [saved] = [each for each in assembled(db, runs)[0].group.findings if each.asks == "What did A* save?"]
    assert saved.sheet == ""
    commands = saved.command.split("; ")
    assert [each.endswith("--intersect") for each in commands] == [True, False]
    told = saved.answer.split("Against greedy: ")
    for command, part in zip(commands, told, strict=True):
        done = ponderosa(*command.split()[1:], "-d", db.shown)
        assert done.code == 0, done.err
        for said in re.findall(r"[+−]0\.\d{3}", part):
            assert said.replace("−", "-") in done.out


def test_a_run_that_has_not_done_all_its_problems_is_said_above_its_figures(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        begun = Tried([], None, status="pending", usage={"generated_tokens": None}, verdict=None)
        done = samples(("right", 0.5), chosen=0)
        runs = [
            written(db, hand("greedy"), {"p0": done, "p1": begun}, "s"),
            written(db, hand("beam"), {"p0": done, "p1": done}),
        ]
        notes = page_of(db, assembled(db, runs), "").notes
        assert notes[0].startswith("Not all problems are done: s (")
        assert notes[0].endswith(") 1 of 2. Figures are of those that are.")
        assert not any("Not all" in note for note in page_of(db, assembled(db, runs[1:]), "").notes)


def test_an_attempt_without_a_verdict_is_said_to_be_not_graded(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        begun = Tried([], None, status="running", verdict=None)
        ungraded = replace(samples(("right", 0.5), chosen=0), verdict=None)
        [made] = assembled(db, [written(db, hand("greedy"), {"p0": ungraded, "p1": begun})])
        assert [line.cells[0].verdict for line in made.group.problems] == ["not graded", "running"]


def halves(db: Database, *runs: Run) -> str:
    return said(db, *runs)["What would half the budget have bought?"]


def test_half_the_budget_is_of_the_first_seed_and_of_the_runs_own_selector(tmp_path: Path) -> None:
    """The second seed has more right, and 'best' would have chosen better: neither is what the run was."""
    with open_database(tmp_path / "a.db") as db:
        first = {"p0": samples(("b", 0.5), ("b", 0.4), ("right", 0.9), ("c", 0.1), chosen=0)}
        luckier = {"p0": samples(*[("right", 0.5)] * 4, chosen=0)}
        runs = [written(db, hand(seed=i, n=4, select="majority"), each, f"s{i}") for i, each in enumerate((first, luckier))]
        told = halves(db, *runs)
        assert told.startswith("s0, by 'majority', its own selector: ")
        assert re.search(r" with 2 solutions \(23 tokens\), 0\.000 \[.*\] with 4 solutions \(46 tokens\)\.$", told)


def test_half_the_budget_says_of_how_many_problems_it_is_and_that_an_imported_run_has_no_selector(
    tmp_path: Path,
) -> None:
    """It said 0.747 of 200 problems where the table had 0.745: it was of 150."""
    with open_database(tmp_path / "a.db") as db:
        tried = {f"p{i}": samples(("right", 0.5), ("b", 0.4), chosen=0) for i in range(3)}
        run = written(db, hand("imported"), tried, "s")
        [made] = assembled(db, [run])
        rows = [{**row, "of": 200} for row in made.answers["selectors"]]
        told = findings._half([run], {"selectors": rows})
        assert told is not None
        assert told.answer.startswith("s, by 'majority', as it has none of its own: ")
        assert " with 1 solution (" in told.answer
        assert told.answer.endswith(", over a sample of 3 of its 200 problems.")


@pytest.mark.parametrize(
    "params", [{"select": "deepconf"}, {"select": "best", "join": "mean"}, {"select": "borda", "power": 2.0}]
)
def test_a_selector_that_cannot_be_replayed_is_said_to_be_another(tmp_path: Path, params: dict[str, object]) -> None:
    with open_database(tmp_path / "a.db") as db:
        run = written(db, hand(n=2, **params), {"p0": samples(("b", 0.5), ("right", 0.4), chosen=0)}, "s")
        assert halves(db, run).startswith("s, by 'majority', as its own selector cannot be replayed: ")


def test_the_verifier_is_judged_by_samples_and_of_searched_runs_the_worst_is_named(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        fair = {f"p{i}": samples(("right", 0.5), ("b", 0.5), chosen=0) for i in range(4)}
        high = {f"p{i}": samples(("b", 0.9), chosen=0) for i in range(4)}
        good = {f"p{i}": samples(("right", 0.9), chosen=0) for i in range(4)}
        runs = [written(db, hand(n=2), fair, "fair"), written(db, hand("beam"), high, "high")]
        runs.append(written(db, hand("rebase"), good, "good"))
        told = said(db, *runs)["Is the verifier over-confident?"]
        assert told.startswith("Not as far as this tells, of independent samples: ")
        kept = " Of solutions that a search kept for these very scores it is over-confident in 1 of 2 runs, most in high: "
        assert kept + "+0.900 [" in told
        assert "of independent samples" not in said(db, runs[1])["Is the verifier over-confident?"]


def test_the_latest_loss_is_of_a_right_solution_and_says_how_many_are_as_late(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        lost = {f"p{i}": samples(("right", 0.5), ("b", 0.6), chosen=1) for i in range(3)}
        told = said(db, written(db, hand(n=2), lost, "s"))["Which problem lost its right answer latest?"]
        assert "outvoted, one of 3 at step 1, which is its whole solution, written in one go, scored 0.100 below" in told


def test_what_left_a_known_way_is_a_finding_beside_what_was_lost(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        right = Tried([Step("0", "a\n\n"), Step("0.0", "b", answer="right")], "0.0")
        wrong = Tried([Step("0", "a\n\n", state="pruned"), Step("1", "c", answer="b")], "1")
        runs = [written(db, hand("beam"), {"p0": right}), written(db, hand("dvts"), {"p0": wrong})]
        found = {each.asks: each for each in assembled(db, runs)[0].group.findings}
        assert "How were right answers lost?" not in found
        assert drawn({"astray": asked_of.ask(db, "astray", *runs)})["astray"].heading == "Where known ways were left"
        assert found["Which problem lost its right answer latest?"].answer.startswith("None")
        astray = found["How many attempts went astray?"]
        assert astray.sheet == "astray"
        assert astray.answer.startswith("In 1 of the attempts without a right solution the search dropped a step")


def test_the_title_says_whose_runs_they_are(page: tuple[Document, str], db: Database) -> None:
    assert page[0].title == "3 runs on word, generator bundled, verifier prm:join=min"
    made = assembled(db, [find_run(db, "beam")])
    assert page_of(db, made, "").title == "beam on word, generator bundled, verifier prm:join=min"


def test_the_title_names_no_generator_that_is_not_of_all(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        tried = {"p0": samples(("right", 0.5), chosen=0)}
        other = replace(hand("greedy", problems="made"), generator=Part("other"))
        made = assembled(db, [written(db, hand(n=1), tried), written(db, other, tried)])
        assert page_of(db, made, "").title == "2 runs on fake and made, verifier fake"


def test_remarks_stand_on_the_page(path: Path, db: Database, tmp_path: Path) -> None:
    made = write_report(db, ["samples"], str(tmp_path / "page.html"), remarks=["Others were left out."])
    assert "Others were left out." in Path(made.file).read_text().split('class="findings"')[0]


def test_fewer_than_30_problems_are_said_everywhere(page: tuple[Document, str]) -> None:
    document, _ = page
    assert any("Fewer than 30 problems" in note for note in document.notes)
    counted = [sheet for sheet in document.groups[0].sheets if any("problems" in row for row in sheet.rows)]
    assert counted
    assert all(sheet.few for sheet in counted)


# ---------------------------------------------------------------------------------------------------------------- trees


def test_the_trees_are_the_candidates_with_their_tokens(page: tuple[Document, str], db: Database) -> None:
    document, _ = page
    assert len(document.trees) == 3 * 16
    for name in RUNS:
        run = find_run(db, name)
        for attempt in queries.attempts(db, run.id):
            tree, rows = document.trees[attempt.id], queries.tree(db, attempt.id)
            assert [branch.path for branch in tree.branches] == [row.path for row in rows]
            assert [branch.text for branch in tree.branches] == [row.text for row in rows]
            assert tree.chosen == attempt.path
            for branch, row in zip(tree.branches, rows, strict=True):
                assert (branch.state, branch.cause, branch.tokens) == (row.state, row.cause, row.tokens)
                assert branch.score == (row.scores[0].value if row.scores else None)
                if branch.lengths:
                    assert sum(branch.lengths) == len(branch.text)
                    assert len(branch.chances) == len(branch.lengths) == branch.tokens
                    assert np.log(branch.chances).sum() == pytest.approx(row.logprob, abs=0.02)
    shaded = [branch for tree in document.trees.values() for branch in tree.branches if branch.text]
    assert sum(bool(branch.lengths) for branch in shaded) > 0.95 * len(shaded)


def test_a_trees_votes_are_those_of_its_choice_and_say_which_were_right(page: tuple[Document, str], db: Database) -> None:
    run = find_run(db, "samples")
    for attempt in queries.attempts(db, run.id):
        tree = page[0].trees[attempt.id]
        gave = Counter(branch.answer for branch in tree.branches if branch.answer is not None)
        assert {each.answer: each.count for each in tree.votes} == gave
        assert tree.reason == attempt.reason
        right = {branch.answer: branch.correct for branch in tree.branches}
        assert [each.correct for each in tree.votes] == [right[each.answer] for each in tree.votes]
        if tree.votes:
            assert tree.votes[0].answer == attempt.answer
            assert tree.votes[0].weight == max(each.weight or 0.0 for each in tree.votes)


def test_answers_that_were_not_weighed_are_counted(db: Database) -> None:
    assert _votes("[]", [("a", True), ("b", False), ("b", False)]) == (Votes("b", 2, None, False), Votes("a", 1, None, True))
    assert _votes(None, []) == ()


def test_one_tree_by_itself_is_that_of_the_page(page: tuple[Document, str], db: Database) -> None:
    document, _ = page
    attempt = next(iter(document.trees))
    assert tree_of(db, attempt) == document.trees[attempt]
    assert tree_of(db, 10**9) is None


def test_a_large_tree_is_cut_and_keeps_what_matters(path: Path, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.report.trees.LARGEST", 5)
    run = find_run(db, "beam")
    whole = max(queries.attempts(db, run.id), key=lambda row: row.candidates or 0)
    tree = tree_of(db, whole.id)
    assert tree is not None
    assert len(tree.branches) < tree.in_all == whole.candidates
    paths = {branch.path for branch in tree.branches}
    assert tree.chosen in paths
    assert all(branch.parent in paths or not branch.parent for branch in tree.branches), "a branch without its parent"


def test_of_too_many_trees_those_that_lost_come_first(path: Path, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.report.assemble.BRANCHES", 30)
    document = page_of(db, assembled(db, [find_run(db, "samples")]), "")
    assert 0 < len(document.trees) < 16
    assert any("30 candidates" in note for note in document.notes)
    wrong = {cell.attempt for line in document.groups[0].problems for cell in line.cells if not cell.correct}
    listed = list(document.trees)
    assert [attempt in wrong for attempt in listed] == sorted((attempt in wrong for attempt in listed), reverse=True)


def test_of_too_many_problems_a_sample_is_listed(path: Path, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.report.problems.MOST", 5)
    [group] = page_of(db, assembled(db, [find_run(db, "samples")]), "").groups
    assert (len(group.problems), group.problems_in_all) == (5, 16)
    named = {finding.problem for finding in group.findings} - {""}
    assert named <= {line.id for line in group.problems}


# ----------------------------------------------------------------------------------------------------------------- verb


def test_report_writes_the_page_and_its_charts(path: Path, ponderosa: Command) -> None:
    done = ponderosa("report", "all", "-d", str(path), "-o", "page.html", "--plots", "plots", "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert told["file"] == "page.html"
    assert len(told["runs"]) == 3
    assert len(told["pairs"]) == 2
    text = Path("page.html").read_text()
    assert text.startswith("<!doctype html>")
    assert not re.search(r"https?://(?!www\.w3\.org/)", text.split("<body")[0]), "nothing from elsewhere"
    assert {Path(each).suffix for each in told["plots"]} == {".svg", ".png"}
    assert all(Path(each).stat().st_size > 1_000 for each in told["plots"])


def test_a_report_is_made_anew_and_writes_over_nothing_else(path: Path, ponderosa: Command) -> None:
    words = ("report", "samples", "-d", str(path), "-o", "page.html")
    assert ponderosa(*words).code == ponderosa(*words).code == 0
    for mine in ("mine.html", "mine.md"):
        Path(mine).write_text("precious")
        done = ponderosa(*words[:-1], mine)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "is no report" in done.err
        assert Path(mine).read_text() == "precious"
        assert ponderosa(*words[:-1], mine, "--force").code == 0


def test_a_summary_is_made_anew_and_its_plot_is_no_drawing_of_somebodys(path: Path, ponderosa: Command) -> None:
    words = ("report", "samples", "-d", str(path), "-o", "page.md")
    Path("page.svg").write_text("precious")
    done = ponderosa(*words)
    assert (done.code, "'page.svg' is there already" in done.err) == (2, True)
    Path("page.svg").unlink()
    assert ponderosa(*words).code == ponderosa(*words).code == 0
    assert "(page.svg)" in Path("page.md").read_text()


@pytest.mark.parametrize(
    ("file", "said"),
    [("page.pdf", "must end in .html"), ("nowhere/page.html", "there is no folder 'nowhere'"), (".", "must end in")],
)
def test_a_report_that_cannot_be_written_is_said_first(path: Path, ponderosa: Command, file: str, said: str) -> None:
    done = ponderosa("report", "samples", "-d", str(path), "-o", file)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err


def test_without_a_name_the_page_is_named_after_its_runs(path: Path, db: Database, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    made = write_report(db, ["samples", "beam", "samples"])
    assert made.file == f"report-{find_run(db, 'samples').id}-and-1-more.html"


def test_solutions_are_derived_when_the_run_ends(db: Database) -> None:
    with db.read() as connection:
        missing = connection.exec_driver_sql("SELECT count(*) FROM attempt WHERE solutions IS NULL").scalar()
        derived = connection.exec_driver_sql("SELECT count(*) FROM solution").scalar()
    assert missing == 0
    assert derived == sum(len(pool) for name in RUNS for pool in queries.entries(db, find_run(db, name).id).values())
    assert schema.solution.name == "solution"


def test_what_is_derived_is_what_the_pools_and_the_grader_say(db: Database) -> None:
    from verifiers.grade import Graders, Verdict

    run = find_run(db, "beam")
    problems = {row.id: row for row in queries.attempts(db, run.id)}
    with db.read() as connection:
        rows = {(row.attempt_id, row.path): row for row in connection.execute(schema.solution.select())}
    with Graders() as graders:
        from store.runs import planned

        known = {each.attempt_id: each.problem for each in planned(db, run.id)}
        for attempt, pool in queries.entries(db, run.id).items():
            for entry in pool:
                row = rows[attempt, entry.path]
                right = entry.answer is not None and graders.grade(known[attempt], entry.answer) is Verdict.CORRECT
                assert (row.tokens, row.answer, row.value, row.correct) == (entry.tokens, entry.answer, entry.value, right)
                assert row.certainty == pytest.approx(entry.certainty)
                assert row.logprob == pytest.approx(entry.logprob)
                assert row.chosen == (problems[attempt].path == entry.path)
