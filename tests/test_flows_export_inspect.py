"""`export --format inspect`: logs that inspect_ai's own reader opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from exports import HOSTILE, derived, exported, graded, searched, written

from flows import imports
from search.types import Finish
from store import queries
from store.database import Database, open_database
from store.runs import find_run

log = pytest.importorskip("inspect_ai.log")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with open_database(searched(tmp_path_factory.mktemp("inspect") / "runs.db")) as opened:
        yield opened


@pytest.mark.parametrize("end", [".eval", ".json"])
def test_inspect_reads_every_solution_as_an_epoch(database: Database, tmp_path: Path, end: str) -> None:
    exported(database, "flat", "inspect", tmp_path / f"out{end}")
    found = log.read_eval_log(str(tmp_path / f"out{end}"))
    run = find_run(database, "flat")
    rows = queries.candidates(database, run.id, limit=None)
    assert (found.status, found.eval.task, found.eval.model, found.eval.config.epochs) == (
        "success",
        "flat",
        "ponderosa/bundled",
        3,
    )
    assert sorted((s.id, s.metadata["path"], s.output.completion) for s in found.samples) == sorted(
        (row.problem, row.path, row.text) for row in rows
    )
    by_path = {(row.problem, row.path): row for row in rows}
    for sample in found.samples:
        row = by_path[sample.id, sample.metadata["path"]]
        assert sample.output.usage.output_tokens == row.tokens
        assert sample.metadata["verifier_score"] == row.scores[0].value
        score = sample.scores["ponderosa"]
        assert (score.value, score.answer) == ("C" if row.answer == sample.target else "I", row.answer)
        assert sample.metadata["cost"]["generated_tokens"] > 0
    assert found.eval.metadata["spec"]["strategy"]["name"] == "best-of-n"


def test_accuracy_is_a_solutions_and_with_chosen_the_runs(database: Database, tmp_path: Path) -> None:
    exported(database, "flat", "inspect", tmp_path / "all.eval")
    exported(database, "flat", "inspect", tmp_path / "chosen.eval", chosen=True)
    run = find_run(database, "flat")
    rows = queries.candidates(database, run.id, limit=None)
    references = {row.problem: row for row in rows}
    found = {name: log.read_eval_log(str(tmp_path / f"{name}.eval")) for name in ("all", "chosen")}
    targets = {sample.id: sample.target for sample in found["all"].samples}
    metrics = {name: each.results.scores[0].metrics for name, each in found.items()}
    assert metrics["all"]["accuracy"].value == pytest.approx(
        sum(row.answer == targets[row.problem] for row in rows) / len(rows)
    )
    accuracy = queries.summary(database, run.id).accuracy
    assert accuracy is not None
    assert 0 < accuracy < 1
    assert metrics["chosen"]["accuracy"].value == pytest.approx(accuracy)
    assert metrics["chosen"]["stderr"].value == pytest.approx((accuracy * (1 - accuracy) / 4) ** 0.5)
    assert len(found["chosen"].samples) == len(references) == 5


def test_a_problem_without_a_choice_is_wrong_as_in_the_run(tmp_path: Path) -> None:
    """Without it the accuracy was that of the problems that the search could do."""
    with open_database(tmp_path / "runs.db") as db:
        run = written(db, [{"0": "So \\boxed{7}"}, {"0": "and\n\n"}])
        derived(db, run, {(0, "0"): True})
        made = exported(db, run, "inspect", tmp_path / "unknown.json", chosen=True)
        graded(db, run)
        exported(db, run, "inspect", tmp_path / "chosen.eval", chosen=True)
        exported(db, run, "inspect", tmp_path / "all.eval")
    found = log.read_eval_log(str(tmp_path / "chosen.eval"))
    assert [(s.output.completion, s.scores["ponderosa"].value) for s in found.samples] == [("So \\boxed{7}", "C"), ("", "I")]
    assert found.results.scores[0].metrics["accuracy"].value == 0.5
    assert len(log.read_eval_log(str(tmp_path / "all.eval")).samples) == 1, "of no solution there is no epoch"
    unknown = log.read_eval_log(str(tmp_path / "unknown.json"))
    assert [sample.scores and sample.scores["ponderosa"].value for sample in unknown.samples] == ["C", None]
    assert made.notes == [f"run {run} has no verdicts: samples without a choice have no score, and no accuracy counts them"]


def test_how_an_imported_text_was_drawn_is_not_made_up(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"id": "p", "problem": "?", "answer": "7", "candidates": [{"text": "It is 7.", "answer": "7"}]}\n')
    with open_database(tmp_path / "runs.db") as db:
        run, _ = imports.run(db.shown, [str(file)], "ponderosa")
        exported(db, run, "inspect", tmp_path / "log.json")
    how = log.read_eval_log(str(tmp_path / "log.json")).eval.model_generate_config
    assert (how.temperature, how.max_tokens, how.seed) == (None, None, None)


# inspect's own call of pandas, whose newest version warns of it
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop_duplicates is deprecated")
def test_several_runs_are_a_folder_that_inspects_data_frames_read(database: Database, tmp_path: Path) -> None:
    analysis = pytest.importorskip("inspect_ai.analysis")
    exported(database, ["flat", "tree"], "inspect", tmp_path / "logs")
    evals = analysis.evals_df(str(tmp_path / "logs"), quiet=True)
    assert sorted(evals.task_name) == ["flat", "tree"]
    samples = analysis.samples_df(str(tmp_path / "logs"), quiet=True)
    assert len(samples) == sum(len(log.read_eval_log(str(file)).samples) for file in (tmp_path / "logs").glob("*.eval"))
    with pytest.raises(ValueError, match="is one log, and 2 runs have one each; name a folder"):
        exported(database, ["flat", "tree"], "inspect", tmp_path / "one.eval")
    assert not (tmp_path / "one.eval").exists()


@pytest.mark.parametrize("end", [".eval", ".json"])
def test_hostile_texts_and_what_is_not_known_are_in_a_log(tmp_path: Path, end: str) -> None:
    with open_database(tmp_path / "runs.db") as db:
        run = written(db, [{"0": HOSTILE, "1": "cut \\boxed{9}", "2": "So \\boxed{7.0}"}], ends={"1": Finish.LENGTH})
        derived(db, run, {(0, "0"): True, (0, "2"): None})
        made = exported(db, run, "inspect", tmp_path / f"out{end}")
    found = log.read_eval_log(str(tmp_path / f"out{end}"))
    assert (found.eval.revision.commit, found.eval.revision.dirty) == ("0123456789", True)
    samples = found.samples
    assert (samples[0].output.completion, made.replaced) == (HOSTILE.replace("\ud800", "\ufffd"), 1)
    assert [s.output.stop_reason for s in samples] == ["stop", "max_tokens", "stop"]
    assert [s.scores["ponderosa"].value if s.scores else None for s in samples] == ["C", "I", None], "undecided is not wrong"
    assert samples[0].output.usage is None, "a count of 0 would be a count"
