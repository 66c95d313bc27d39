"""Candidates that were written elsewhere: what each format becomes, what is refused, and that what is there is not changed.

The samples in golden/imports were written by hand from the field names that the projects document.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from flows import imports, launch, solved
from flows.audit import Replays, replay
from flows.cli import app
from flows.imports.formats import FORMATS
from pipelines.problems.jsonl import DataError
from search.select import Selector
from search.strategies import build
from search.types import Join, Part
from store import queries, schema
from store.audit import audit
from store.database import Database, open_database
from store.questions import QUESTIONS
from store.runs import find_run, planned
from store.values import exact_text
from verifiers.grade import Graders

GOLDEN = Path(__file__).parent / "golden" / "imports"
SAMPLES = {
    "ponderosa": "ponderosa.jsonl",
    "search-and-learn": "search-and-learn.jsonl",
    "rebase": "rebase",
    "openr": "record.jsonl",
    "monkeys": "monkeys",
    "lm-eval": "samples_gsm8k_2025-01-02T03-04-05.123456.jsonl",
}


@pytest.fixture(scope="module", autouse=True)
def graders() -> Iterator[None]:
    """One pool for all: its processes take a second each to start."""
    with Graders() as shared, pytest.MonkeyPatch.context() as patch:
        for module in (imports, solved):
            patch.setattr(module, "Graders", lambda: nullcontext(shared))
        yield


def bring(where: str, format: str, *files: Path, **options: Any) -> str:
    run_id, _ = imports.run(where, [str(file) for file in files or (GOLDEN / SAMPLES[format],)], format, **options)
    return run_id


def written(folder: Path, *rows: object, name: str = "own.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def problem(id: str = "a", **fields: Any) -> dict[str, Any]:
    return {"id": id, "problem": "What?", "answer": "1", "candidates": [{"text": "\\boxed{1}"}], **fields}


def shape(db: Database, run_id: str) -> list[tuple[str, str, int, str | None, str]]:
    rows = queries.candidates(db, run_id, limit=None)
    return [(row.problem, row.path, row.tokens, row.answer, row.finish) for row in rows]


def every_row(db: Database) -> dict[str, list[tuple[Any, ...]]]:
    with db.read() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in schema.metadata.sorted_tables
        }


# -------------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("format", FORMATS)
def test_an_imported_run_passes_the_audit_and_is_done(where: str, format: str) -> None:
    run_id = bring(where, format)
    with open_database(where) as db:
        report = audit(db)
        assert report.clean, report.faults
        assert report.looked["candidate"] >= 2
        assert find_run(db, run_id).status == "done"
        replays = Replays()
        replay(db, find_run(db, run_id), None, replays)
        assert (replays.done, replays.faults) == (0, [])  # no search wrote them, so there is none to replay


@pytest.mark.parametrize("format", FORMATS)
def test_every_question_is_answered_about_an_imported_run(tmp_path: Path, format: str) -> None:
    """It has no ledger but for its tokens, and not all of them have a choice."""
    with open_database(tmp_path / "a.db") as db:
        run = find_run(db, bring(db.shown, format))
        solved.ensure(db, [run.id])
        for question in QUESTIONS.values():
            question.frame(db, [run])
        fates = {row["fate"]: row["tokens"] for row in QUESTIONS["tokens"].ask(db, [run])}
        assert (fates.get("pruned"), fates.get("others")) == (None, None)


def test_our_own_format_keeps_counts_ids_statistics_and_scores(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "ponderosa")
        rows = queries.candidates(db, run_id, limit=None)
        assert shape(db, run_id) == [
            ("six", "0", 9, "42", "end"),
            ("six", "1", 4, "43", "end"),
            ("six", "2", 7, "42", "end"),
            ("six", "3", 20, None, "length"),
            ("ids", "0", 3, "3", "end"),
            ("ids", "1", 2, "2", "end"),
        ]
        assert (rows[0].logprob, rows[0].certainty, rows[4].logprob, rows[4].certainty) == (-4.5, 3.0, None, None)
        assert [row.scores[0].value if row.scores else None for row in rows] == [0.5, 0.9, 0.1, None, None, None]
        assert rows[2].scores[0].parts == (0.5, 0.1)
        first, second = queries.attempts(db, run_id)
        assert (first.path, first.verdict, first.correct) == (None, "none", False)  # nobody chose, and of the other one did
        assert (second.path, second.answer, second.verdict, second.correct) == ("1", "2", "correct", True)
        assert (first.generated_tokens, first.verifier_passes, second.generated_tokens) == (40, None, 5)
        with db.read() as connection:
            packed = connection.scalars(select(schema.candidate.c.packed).order_by(schema.candidate.c.attempt_id)).all()
        assert [len(blob) for blob in packed] == [0, 0, 0, 0, 18, 12]


def test_whether_nothing_was_chosen_is_known_only_where_something_was_elsewhere_in_the_run(tmp_path: Path) -> None:
    """Half of the questions divided by all problems, and half by those with a choice."""
    texts = [{"text": f"It is {n}.", "answer": str(n)} for n in (7, 8)]
    files = {}
    for name, chosen in (("some", {"chosen": 0}), ("none", {})):
        lines = [{"id": f"p{i}", "problem": "?", "answer": "7", "candidates": texts, **(chosen if i else {})} for i in range(4)]
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    with open_database(tmp_path / "a.db") as db:
        some, said = imports.run(db.shown, [str(files["some"])], "ponderosa")
        none, silent = imports.run(db.shown, [str(files["none"])], "ponderosa")
        assert said[-1] == "1 of the 4 problems name no choice: they count as wrong, since others do"
        assert len(silent) == 1
        assert queries.summary(db, some).accuracy == 0.75
        (gap,) = QUESTIONS["oracle-gap"].ask(db, [some])
        assert (gap["random"], gap["chosen"], gap["oracle"], gap["recovered"], gap["lost"]) == (0.5, 0.75, 1.0, 0.5, 0.25)
        assert queries.summary(db, none).accuracy is None
        (gap,) = QUESTIONS["oracle-gap"].ask(db, [none])
        assert (gap["chosen"], gap["lost"], gap["oracle"]) == (None, None, 1.0)
        with db.read() as connection:
            assert connection.scalar(select(func.count()).select_from(schema.solution)) == 16, "they are there at once"


def test_token_ids_come_back_as_they_were(tmp_path: Path) -> None:
    from search.packing import unpack_all
    from search.types import Finish, Packed

    with open_database(tmp_path / "a.db") as db:
        bring(db.shown, "ponderosa")
        with db.read() as connection:
            row = connection.execute(select(schema.candidate).where(schema.candidate.c.tokens == 3)).one()
    (step,) = unpack_all([Packed(row.packed, row.extra)], ["three"], [Finish.END])
    assert step.tokens.tolist() == [7, 8, 9]
    assert all(value != value for value in step.logprobs)  # NaN: not known


def test_search_and_learn_keeps_what_was_chosen_and_counts_only_where_it_counted(tmp_path: Path) -> None:
    """Its beam search writes 0 tokens for every completion and its DVTS -1; as numbers, both would be wrong."""
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "search-and-learn")
        attempts = queries.attempts(db, run_id)
        assert [a.problem for a in attempts] == [
            "test/precalculus/807.json",
            "test/prealgebra/1.json",
            "test/prealgebra/2.json",
        ]
        assert [(a.path, a.verdict, a.generated_tokens) for a in attempts] == [
            ("0", "correct", 20),
            ("1", "wrong", None),
            ("0", "correct", None),
        ]
        scores = [row.scores[0] for row in queries.candidates(db, run_id, limit=None)]
        assert [score.value for score in scores[:2]] == [0.5, 0.25]  # the last step's, as its reports have it
        assert scores[1].parts == (0.75, 0.25)


def test_the_aggregate_in_a_file_says_how_the_scores_were_joined(tmp_path: Path) -> None:
    row = {"problem": "q", "answer": "1", "completions": ["\\boxed{1}", "x"], "scores": [[0.5, 0.4], [0.9, 0.2]]}
    with open_database(tmp_path / "a.db") as db:
        bring(db.shown, "search-and-learn", written(tmp_path, {**row, "agg_scores": [0.2, 0.18]}))
        with db.read() as connection:
            rules = connection.execute(select(schema.score.c.join_rule, schema.score.c.value)).all()
        assert [(rule, round(value, 6)) for rule, value in rules] == [("prod", 0.2), ("prod", 0.18)]
        assert audit(db).clean
    with pytest.raises(DataError, match=r"own.jsonl:1: candidate 1 has the aggregate 0.77, which is no last, min, prod, mean"):
        bring(str(tmp_path / "b.db"), "search-and-learn", written(tmp_path, {**row, "agg_scores": [0.2, 0.77]}))


def test_rebase_leaves_lose_the_question_and_answers_lose_the_step_tag(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "rebase", GOLDEN / "rebase" / "answer_q2.json", join="prod")
        rows = queries.candidates(db, run_id)
        assert [(row.answer, row.text[:7]) for row in rows] == [("9", "Step 1:"), ("12", "Step 1:")]
        assert rows[0].scores[0].value == pytest.approx(0.72)
        assert queries.attempts(db, run_id)[0].generated_tokens == 120  # the file's total: abandoned steps are in it


def test_a_rebase_file_with_its_nodes_is_a_tree(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "rebase")
        rows = [row for row in queries.candidates(db, run_id, limit=None) if row.problem == "10"]
        assert [(row.path, row.text.strip(), row.answer, row.finish) for row in rows] == [
            ("0", "Step 1: a ки", None, "step"),
            ("0.0", "Step 2: The answer is: 9 ки", "9", "end"),
            ("0.1", "Step 2: The answer is: 8 ки", "8", "end"),
            ("1", "Step 1: b ки", None, "step"),
        ]
        assert rows[1].scores[0].parts == (0.9, 0.7)
        assert [a.problem for a in queries.attempts(db, run_id)] == ["2", "10"]  # 2 before 10
        assert len(queries.entries(db, run_id)[2]) == 2  # steps are no solutions


def test_openr_counts_tokens_of_a_solution_only_without_a_tree(tmp_path: Path) -> None:
    """In beam search all tokens stand with the last solution; taken as its length, it would be the longest of all."""
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "openr")
        assert [row[2:4] for row in shape(db, run_id)] == [(18, "5"), (12, "6"), (0, "6"), (0, "7"), (5, None)]
        assert [a.generated_tokens for a in queries.attempts(db, run_id)] == [30, 90, 5]
        assert [a.problem.answer for a in planned(db, run_id)] == ["5", "6", "8"]
        rows = queries.candidates(db, run_id, limit=None)
        assert rows[0].scores[0].value == 0.8
        assert rows[4].scores == ()  # the 0 beside a lone solution is no model's


def test_monkeys_have_their_reference_from_the_worked_solution_and_verdicts_that_are_compared(tmp_path: Path) -> None:
    run_id, lines = imports.run(str(tmp_path / "a.db"), [str(GOLDEN / "monkeys")], "monkeys")
    assert "ours are the same on 2 of 3; others are 0 2" in lines[-1]
    with open_database(tmp_path / "a.db") as db:
        first, second = (a.problem for a in planned(db, run_id))
        assert (first.id, first.answer, second.id, second.answer) == ("0", "18", "11", r"\frac{1}{2}")
        assert first.meta["solution"].startswith("She sells")
        assert queries.verifiers(db, run_id) == []  # a verdict of a grader is nothing that a selector may see
    _, silent = imports.run(str(tmp_path / "b.db"), [str(GOLDEN / "monkeys")], "monkeys", grade=False)
    assert not any("verdicts" in line for line in silent)


def test_the_harness_gives_the_answers_of_its_first_filter_once(tmp_path: Path) -> None:
    run_id, lines = imports.run(str(tmp_path / "a.db"), [str(GOLDEN / SAMPLES["lm-eval"])], "lm-eval")
    assert any(line.startswith("2 lines of other filters") for line in lines)
    with open_database(tmp_path / "a.db") as db:
        assert [row[:2] + row[3:] for row in shape(db, run_id)] == [("gsm8k/0", "0", "4", "end"), ("gsm8k/1", "0", None, "end")]
        assert queries.candidates(db, run_id)[1].answer_reason == "the file's filter found '[invalid]'"
        assert [(a.verdict, a.correct) for a in queries.attempts(db, run_id)] == [("correct", True), ("correct", True)]
    # ours reads a choice without an answer as prose, in every run; where the file's grader does not, that is said
    assert lines[-1].endswith("ours are the same on 1 of 2; others are gsm8k/1 0")


@pytest.mark.parametrize(
    ("made", "chosen", "verdict"),
    [
        ("4", "1", "correct"),  # a vote's answer: the first text that gives it
        ("4.0", "1", "correct"),
        ("So \\boxed{5}.", "0", "wrong"),  # one of the texts itself, as take_first leaves it
        ("7", None, "none"),
        ("[invalid]", None, "none"),
    ],
)
def test_what_the_harness_made_of_several_texts_is_the_choice(
    tmp_path: Path, made: str, chosen: str | None, verdict: str
) -> None:
    texts = ["So \\boxed{5}.", "So \\boxed{4}.", "\\boxed{4}"]
    several = {**HARNESS, "target": "4", "resps": [texts], "filtered_resps": [made]}
    rows = [several, {**HARNESS, "doc_id": 1}]  # the second has one text, and so a choice
    (tmp_path / "samples_x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_id, _ = imports.run(str(tmp_path / "a.db"), [str(tmp_path / "samples_x.jsonl")], "lm-eval")
    with open_database(tmp_path / "a.db") as db:
        first = queries.attempts(db, run_id)[0]
    assert (first.path, first.verdict) == (chosen, verdict)


# ------------------------------------------------------------------------------------------------------------ selectors


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        (Selector("majority"), ("2", "42")),  # two of four; of equal votes, the shorter one
        (Selector("best"), ("1", "43")),  # 0.9, min of its steps
        (Selector("best", join=Join.MEAN), ("1", "43")),
        (Selector("weighted"), ("1", "43")),  # 0.9 against 0.5 + 0.1
        (Selector("weighted", join=Join.LAST), ("1", "43")),
        (Selector("self-certainty"), ("1", "43")),
        (Selector("borda", power=0.3), ("0", "42")),  # 2 ** 0.3 + 1 against 3 ** 0.3
        (Selector("logprob"), ("1", "43")),  # -0.25 a token against -0.5 and -1
        (Selector("shortest"), ("1", "43")),
    ],
)
def test_a_selector_over_imported_candidates_chooses_what_the_numbers_say(
    tmp_path: Path, selector: Selector, chosen: tuple[str, str]
) -> None:
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "ponderosa")
        choice = selector(next(iter(queries.pools(db, run_id)))[1])
    assert (choice.path, choice.answer) == chosen


def test_a_certainty_without_a_count_of_tokens_is_not_lost(tmp_path: Path) -> None:
    """Weighted by tokens that are not known, it would be 0 for every candidate."""
    sure = [{"text": "\\boxed{1}", "certainty": 2.0}, {"text": "\\boxed{2}", "certainty": 3.0}]
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "ponderosa", written(tmp_path, problem(candidates=sure)))
        ((_, pool),) = queries.pools(db, run_id)
    assert [entry.certainty for entry in pool] == [2.0, 3.0]
    assert Selector("self-certainty")(pool).answer == "2"


def test_a_named_tokenizer_counts_for_the_selectors_and_not_for_the_ledger(tmp_path: Path) -> None:
    long = [{"text": "Let us think about it: \\boxed{1}"}, {"text": "\\boxed{2}"}]
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "ponderosa", written(tmp_path, problem(candidates=long)), tokenizer="bundled")
        ((_, pool),) = queries.pools(db, run_id)
        assert pool[0].tokens > pool[1].tokens > 0
        assert queries.attempts(db, run_id)[0].generated_tokens is None
        assert find_run(db, run_id).spec.generator == Part("imported", {"tokenizer": "bundled"})
        assert run_id != bring(db.shown, "ponderosa", tmp_path / "own.jsonl")
        assert audit(db).clean


# ---------------------------------------------------------------------------------------------------------- idempotence


# all are read alike, and written by one function: the others are for the night
OFTEN = [format if format in ("ponderosa", "openr") else pytest.param(format, marks=pytest.mark.slow) for format in FORMATS]


@pytest.mark.parametrize("format", OFTEN)
def test_importing_the_same_again_changes_nothing_and_says_so(where: str, format: str) -> None:
    run_id = bring(where, format)
    with open_database(where) as db:
        before = every_row(db)
    again, lines = imports.run(where, [str(GOLDEN / SAMPLES[format])], format, name="another name")
    assert again == run_id
    assert any("nothing was changed" in line for line in lines)
    with open_database(where) as db:
        assert every_row(db) == before


def test_a_copy_under_another_name_is_the_same_import(tmp_path: Path) -> None:
    copy = Path(shutil.copy(GOLDEN / "record.jsonl", tmp_path / "renamed.jsonl"))
    assert bring(str(tmp_path / "a.db"), "openr") == bring(str(tmp_path / "a.db"), "openr", copy)


def test_an_import_that_was_cut_off_is_gone_on_with(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "PROBLEMS", 2)
    file = written(tmp_path, *(problem(f"p{i}") for i in range(7)))
    real, calls = imports.write, []

    def dies(db: Database, run_id: str, attempts: Any) -> None:
        calls.append(len(attempts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(db, run_id, attempts)

    monkeypatch.setattr(imports, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        bring(where, "ponderosa", file)
    with open_database(where) as db:
        (run,) = [find_run(db, "latest")]
        assert (run.status, len(queries.attempts(db, run.id))) == ("interrupted", 4)
        assert audit(db).clean
    monkeypatch.setattr(imports, "write", real)
    run_id, lines = imports.run(where, [str(file)], "ponderosa")
    assert "gone on with: 4 problems were there" in lines
    with open_database(where) as db:
        assert [a.problem for a in queries.attempts(db, run_id)] == [f"p{i}" for i in range(7)]
        assert find_run(db, run_id).status == "done"
        assert audit(db).clean


def test_a_large_file_is_written_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held as a whole, a file of a million problems would not fit into memory."""
    monkeypatch.setattr(imports, "CANDIDATES", 6)
    real, sizes = imports.write, []

    def counted(db: Database, run_id: str, attempts: Any) -> None:
        sizes.append(sum(len(each.candidates) for each in attempts))
        real(db, run_id, attempts)

    monkeypatch.setattr(imports, "write", counted)
    file = written(tmp_path, *(problem(f"p{i}", candidates=[{"text": "x"}] * 3) for i in range(9)))
    bring(str(tmp_path / "a.db"), "ponderosa", file)
    assert sizes == [6, 6, 6, 6, 3]


# -------------------------------------------------------------------------------------------------------------- bad data

NODE = {"id": 1, "text": "q a", "score": 0.5, "parent_id": 0, "leaf": True}
TREE = {"question": "q", "ground_truth_answer": "1", "nodes": [{**NODE, "id": 0, "text": "q", "parent_id": None}, NODE]}
HARNESS = {"doc_id": 0, "doc": {"question": "q"}, "target": "1", "resps": [["x"]], "filtered_resps": ["x"], "filter": "none"}
COMPLETED = {"problem": "q", "answer": "1", "completions": ["a", "b"]}


@pytest.mark.parametrize(
    ("format", "row", "says"),
    [
        ("ponderosa", [1], "not an object"),
        ("ponderosa", {"id": "a"}, "field 'candidates' is missing"),
        ("ponderosa", problem(answer=None), "field 'answer' must be text, not null"),
        ("ponderosa", problem(candidates=[]), "the problem has no candidates"),
        ("ponderosa", problem(style="maths"), "unknown style 'maths'"),
        ("ponderosa", problem(chosen=1), "'chosen' is 1, and the candidates are numbered from 0 to 0"),
        ("ponderosa", problem(candidates=[{"text": "x", "logprobs": 1}]), "candidate 0: unknown field 'logprobs'"),
        ("ponderosa", problem(candidates=[{"text": "x", "logprob": 1.5}]), "'logprob' must be a finite number, at most 0"),
        ("ponderosa", problem(candidates=[{"text": "x", "certainty": float("nan")}]), "'certainty' must be a finite number"),
        ("ponderosa", problem(candidates=[{"text": "x", "tokens": -1}]), "'tokens' must be a whole number of at least 0"),
        ("ponderosa", problem(candidates=[{"text": "x", "tokens": 2, "token_ids": [1]}]), "'tokens' is 2, and there are 1"),
        ("ponderosa", problem(candidates=[{"text": "x", "token_ids": [2**20]}]), "more than 20 bits"),
        ("ponderosa", problem(candidates=[{"text": "x", "tokens": 2}, {"text": "y"}]), "candidate 1 has no token count"),
        ("ponderosa", problem(candidates=[{"text": "x", "scores": {"prm": "good"}}]), "score of 'prm' must be a number"),
        ("search-and-learn", {**COMPLETED, "completions": "a"}, "field 'completions' must be a list"),
        ("search-and-learn", {**COMPLETED, "completions": ["a", 2]}, "entry 1 of field 'completions' must be text"),
        ("search-and-learn", {**COMPLETED, "scores": [[1.0]]}, "field 'scores' has 1 entries for 2 candidates"),
        ("search-and-learn", {**COMPLETED, "pred": "c"}, "field 'pred' is none of the completions"),
        ("rebase", {**TREE, "nodes": [*TREE["nodes"], NODE]}, "node 1 is there twice"),
        ("rebase", {**TREE, "nodes": [TREE["nodes"][0], {**NODE, "parent_id": 7}]}, "before its parent 7"),
        ("rebase", {**TREE, "nodes": [TREE["nodes"][0], {**NODE, "text": "z"}]}, "does not begin with"),
        ("rebase", {"question": "q", "ground_truth_answer": "1"}, "field 'model_answer' is missing"),
        ("openr", {"question": "q", "groundtruth": "1", "output": [{"value": [1]}]}, "field 'text' is missing"),
        ("openr", {"question": "q", "groundtruth": "1", "output": [3]}, "entry 0 of field 'output' must be an object"),
        ("monkeys", {"question": "q", "gt_answer": 1, "samples": ["a"], "is_corrects": [1]}, "must be true or false"),
        ("lm-eval", {**HARNESS, "resps": [[["-1.5", "False"]]]}, "scored by log-likelihood"),
        ("lm-eval", {**HARNESS, "doc": {"x": 1}}, "no field question, problem"),
    ],
)
def test_a_bad_row_is_one_line_with_its_place_and_nothing_is_stored(
    tmp_path: Path, format: str, row: object, says: str
) -> None:
    name = {"rebase": "answer_q1.json", "monkeys": "1.yaml"}.get(format, "samples_t.jsonl")
    file = written(tmp_path, row, name=name)
    with pytest.raises(DataError) as caught:
        bring(str(tmp_path / "a.db"), format, file)
    assert str(caught.value).startswith(f"{file}:1: ")
    assert says in str(caught.value)
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"id": 1}\n{"id": ', ":1: field"),
        (json.dumps(problem()).encode() + b'\n{"id": ', ":2: not JSON, column 8: Expecting value; the last line looks cut off"),
        (json.dumps(problem()).encode() + b"\n\xff\xfe\n", ":2: not UTF-8 at byte 1"),
        (b"\n\n", ": there are 0 problems in it"),
        (b"\x1f\x8bxx", ":1: is compressed with gzip"),
        (b"[" * 100_000, ":1: nested too deeply"),
    ],
)
def test_a_damaged_file_says_where(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        bring(str(tmp_path / "a.db"), "ponderosa", file)
    assert f"{file}{says}" in str(caught.value)


def test_yaml_that_is_none_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "1.yaml"
    for content in ("question: a\nsamples: [1\n", "question: !!python/object:os.system x\n"):
        file.write_text(content)
        with pytest.raises(DataError, match=r"1\.yaml:\d: not YAML"):
            bring(str(tmp_path / "a.db"), "monkeys", file)


def test_a_fault_in_the_last_line_stores_nothing_of_the_others(tmp_path: Path) -> None:
    file = written(tmp_path, *(problem(f"p{i}") for i in range(300)), {"id": "bad"})
    with open_database(tmp_path / "a.db") as db:
        before = every_row(db)
        with pytest.raises(DataError, match=r"own\.jsonl:301: "):
            bring(db.shown, "ponderosa", file)
        assert every_row(db) == before


def test_an_id_twice_names_both_places(tmp_path: Path) -> None:
    file = written(tmp_path, problem("a"), problem("b"), problem("a"))
    with pytest.raises(DataError, match=r":3: duplicate id 'a', first at .*own\.jsonl:1;"):
        bring(str(tmp_path / "a.db"), "ponderosa", file)


def test_folders_and_files_that_will_not_do_are_named(tmp_path: Path) -> None:
    where = str(tmp_path / "a.db")
    for files, says in (
        (["nowhere.jsonl"], "nowhere.jsonl: no such file"),
        ([str(tmp_path)], "no file in this folder is named answer_q"),
        (["https://example.org/a.jsonl"], "is a URL; download"),
        ([str(GOLDEN / "rebase"), str(GOLDEN / "rebase" / "answer_q2.json")], "is named twice"),
    ):
        with pytest.raises(DataError, match=says):
            imports.run(where, files, "rebase")


def test_texts_that_no_column_holds_come_back_exactly(where: str, tmp_path: Path) -> None:
    texts = ["a\x00b \\boxed{1}", "\ud800 \\boxed{\ud800}", "x" * 2_000_000, ""]
    row = problem("i\x00d", problem="q\ud800", answer="1\x00", candidates=[{"text": each} for each in texts])
    run_id = bring(where, "ponderosa", written(tmp_path, row))
    with open_database(where) as db:
        with db.read() as connection:
            found = connection.execute(select(schema.candidate).order_by(schema.candidate.c.path)).all()
        assert [exact_text(each.text, each.text_zlib) for each in found] == texts
        assert [each.text_lossy for each in found] == [True, True, False, False]
        assert [a.problem.id for a in planned(db, run_id)] == ["i\ufffdd"]
        assert audit(db).clean


def test_scores_out_of_bounds_are_kept_and_choose_nothing(tmp_path: Path) -> None:
    raw = [{"text": "\\boxed{1}", "scores": {"pqm": [-2.5, 3.0]}}, {"text": "\\boxed{2}", "scores": {"pqm": [0.5]}}]
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "ponderosa", written(tmp_path, problem(candidates=raw)))
        first, second = queries.candidates(db, run_id)
        assert (first.scores[0].value, first.scores[0].parts) == (None, (-2.5, 3.0))
        assert first.scores[0].reason == "invalid value -2.5"
        ((_, pool),) = queries.pools(db, run_id)
        assert Selector("best")(pool).answer == "2"
        assert second.scores[0].value == 0.5
        assert queries.summary(db, run_id).invalid_scores == 1
        assert audit(db).clean


def test_a_lost_candidate_of_an_import_is_found_by_the_audit(tmp_path: Path) -> None:
    with open_database(tmp_path / "a.db") as db:
        bring(db.shown, "openr")
        lost = schema.candidate.delete().where(schema.candidate.c.answer.is_(None))
        db.transact(lambda connection: connection.execute(schema.solution.delete()))
        db.transact(lambda connection: connection.execute(lost))
        report = audit(db)
    assert {fault.check for fault in report.faults} == {"replies", "ledger", "solutions"}


# --------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Any]:
    where = str(tmp_path / "cli.db")
    return lambda *words: CliRunner().invoke(app, [*words, "--database", where])


def test_the_commands_show_an_imported_run_with_dashes_for_what_is_not_known(ask: Callable[..., Any]) -> None:
    done = ask("import", str(GOLDEN / "record.jsonl"), "--format", "openr", "--name", "theirs")
    assert (done.exit_code, done.output.splitlines()[0]) == (0, "3 problems with 5 candidates from openr")
    shown = ask("show", "theirs").output
    assert "what else it cost is not known" in shown
    assert "temperature" not in shown
    line = next(line.split() for line in shown.splitlines() if line.startswith("theirs"))
    assert line == ["theirs", "–", "–", "42", "–", "–", "–"]
    assert next(line.split() for line in shown.splitlines() if line.startswith("best")) == ["best", "0.667"]
    # they would go by what the file does not say
    assert not any(line.startswith(("shortest", "self-certainty", "borda", "logprob")) for line in shown.splitlines())
    listed = ask("candidates", "theirs", "--json").output.splitlines()
    assert [json.loads(line)["tokens"] for line in listed] == [18, 12, None, None, 5]
    assert "imported:openr" in ask("runs").output
    assert "not graded" in ask("show", "theirs", "--problem", "0").output
    assert ask("audit").exit_code == 0


def test_show_of_two_verifiers_says_by_which_it_selects(ask: Callable[..., Any], tmp_path: Path) -> None:
    two = [{"text": "\\boxed{1}", "scores": {"a": 0.9, "b": [0.1]}}, {"text": "\\boxed{2}", "scores": {"a": 0.1, "b": [0.9]}}]
    assert ask("import", str(written(tmp_path, problem(candidates=two))), "--format", "ponderosa").exit_code == 0
    shown = ask("show").output
    assert "by the scores of a; others are b" in shown
    assert next(line.split() for line in shown.splitlines() if line.startswith("best")) == ["best", "1.000"]


def test_an_imported_run_has_nothing_to_resume(ask: Callable[..., Any], tmp_path: Path) -> None:
    ask("import", str(GOLDEN / "record.jsonl"), "--format", "openr")
    assert isinstance(ask("resume").exception, ValueError)
    with pytest.raises(ValueError, match="was imported, and has nothing to resume: all of it is there"):
        launch.resume("latest", str(tmp_path / "cli.db"))


def test_no_strategy_is_called_imported() -> None:
    with pytest.raises(ValueError, match="unknown strategy 'imported'"):
        build(Part("imported"))


def test_an_unknown_format_suggests_the_nearest_and_makes_no_database(ask: Callable[..., Any], tmp_path: Path) -> None:
    failed = ask("import", "x", "--format", "open-r")
    assert isinstance(failed.exception, ValueError)
    assert "unknown format 'open-r'; did you mean 'openr'?" in str(failed.exception)
    assert not (tmp_path / "cli.db").exists()


def test_the_help_and_the_readme_name_every_format(ask: Callable[..., Any]) -> None:
    readme = (Path(__file__).parents[1] / "store" / "README.md").read_text()
    said = " ".join(CliRunner().invoke(app, ["import", "--help"], env={"COLUMNS": "200"}).output.split())
    for format in FORMATS:
        assert f"| `{format}` |" in readme
        assert format in said


def test_the_example_in_the_readme_can_be_imported(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "store" / "README.md").read_text()
    line = next(line for line in readme.splitlines() if line.startswith('{"id"'))
    file = tmp_path / "example.jsonl"
    file.write_text(line + "\n")
    with open_database(tmp_path / "a.db") as db:
        run_id = bring(db.shown, "ponderosa", file)
        assert [row.answer for row in queries.candidates(db, run_id)] == ["42", "43"]
        with db.read() as connection:
            assert connection.scalar(select(func.count()).select_from(schema.score)) == 2
