"""Rescoring, reporting and retraining over one stored run, in plain Python and as verbs of the command line."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from flows import audit, rescore, retrain, work
from flows.cli import app
from flows.parameters import RetrainParameters
from flows.parts import part, spec
from flows.report import summary as report
from flows.report import written
from pipelines.models import BUNDLED
from pipelines.train import prm
from store import queries, schema
from store.database import Database, open_database
from store.errors import StoreError

PROBLEMS = "word:split=train,count=24,levels=2-6,seed=3"
RUN = spec(PROBLEMS, "best-of-n:n=4,select=weighted")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one run, and a smaller one beside it."""
    path = tmp_path_factory.mktemp("later") / "runs.db"
    with open_database(path) as database:
        work.evaluate(database, RUN, "first")
        work.evaluate(database, spec(PROBLEMS, "best-of-n:n=2"), "second", share=True)
    return path


@pytest.fixture
def database(made: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copyfile(made, tmp_path / "runs.db")
    with open_database(tmp_path / "runs.db") as opened:
        yield opened


def scores(database: Database, verifier: str) -> dict[tuple[int, str], float | None]:
    table = schema.score.c
    with database.read() as connection:
        rows = connection.execute(schema.score.select().where(table.verifier == verifier)).all()
    return {(row.attempt_id, row.path): row.value for row in rows}


# -------------------------------------------------------------------------------------------------------------- rescore


def test_a_later_verifiers_scores_stand_beside_the_runs_own_and_break_nothing(database: Database) -> None:
    before = scores(database, "prm")
    (made,) = rescore.run(database, RUN.id, part("equation"))
    assert (made.problems, made.added, made.before) == (24, 24 * 4, 0)
    assert scores(database, "prm") == before
    assert len(scores(database, "equation:join=min")) == 96
    assert audit.run(database, None, replays=None) == 0
    (again,) = rescore.run(database, RUN.id, part("equation"))
    assert (again.added, again.before) == (0, 96), "the same command again does what is missing"


def test_rescoring_gives_what_the_verifier_would_have_given_in_the_run(database: Database) -> None:
    """The same model under another name: its values are those of the run, to the rounding of another batch."""
    (made,) = rescore.run(database, RUN.id, part("prm:temperature=1.0"))
    own, later = scores(database, "prm"), scores(database, made.name)
    assert made.passes == 96
    assert {key: later[key] for key in own} == pytest.approx(own, abs=1e-5)


def test_what_is_rescored_can_be_selected_by(database: Database) -> None:
    rescore.run(database, RUN.id, part("equation"))
    where = ["--database", database.shown, "--json"]
    words = ["reselect", RUN.id, "--selector", "best", "--n", "4", "--verifier", "equation:join=min", *where]
    rows = json.loads(CliRunner().invoke(app, words).stdout)["rows"]
    assert "best" in [row["selector"] for row in rows]


def test_a_later_graders_verdicts_are_kept_beside_the_runs_and_compared(database: Database) -> None:
    with database.write() as connection:  # one of the run's verdicts is wrong
        mine = schema.attempt.c.run_id == RUN.id
        first = connection.scalar(
            schema.attempt.select().with_only_columns(schema.attempt.c.id).where(mine, schema.attempt.c.correct)
        )
        values = {"correct": False, "verdict": "wrong"}
        connection.execute(update(schema.attempt).where(schema.attempt.c.id == first).values(values))
    own = queries.summary(database, RUN.id).correct
    (made,) = rescore.run(database, RUN.id, grader="exact")
    assert made.accuracy == (24, own, own + 1, 1)
    assert made.added == 96, "each candidate has one, not only the chosen"
    assert queries.summary(database, RUN.id).correct == own, "the run's own stay as they are"
    assert audit.run(database, None, replays=0) == 0


def test_a_name_stands_for_one_models_scores(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    rescore.run(database, RUN.id, part("equation"))
    monkeypatch.setattr(rescore, "weights_of", lambda verifier: "deadbeef")
    with pytest.raises(StoreError, match="has scores of 'equation:join=min' by a model with weights ''"):
        rescore.run(database, RUN.id, part("equation"))


@pytest.mark.parametrize(
    ("verifier", "grader", "said"),
    [
        (None, None, "name a --verifier or a --grader"),
        ("prm", None, "it was made with that verifier"),
        ("prn", None, "unknown verifier 'prn'"),
        (None, "exat", "unknown grader 'exat'"),
    ],
)
def test_what_cannot_be_rescored_is_said_in_one_line(
    database: Database, verifier: str | None, grader: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        rescore.run(database, RUN.id, None if verifier is None else part(verifier), grader)


# --------------------------------------------------------------------------------------------------------------- report


def test_a_report_has_a_row_a_run_a_plot_and_the_pairs(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    text = written.run(database, ["first", "second"], str(file), resamples=100).text
    assert file.read_text(encoding="utf-8") == text
    found = queries.summary(database, RUN.id)
    assert f"| {RUN.id} | first | {found.accuracy:.3f} | [{found.low:.3f}, {found.high:.3f}] | 24 |" in text
    assert "| 100% |" in text, "the second run's samples were all the first's"
    assert "In pairs with the first" in text
    assert "(report.svg)" in text
    picture = ElementTree.parse(tmp_path / "report.svg").getroot()
    assert len([each for each in picture.iter() if "mark" in each.get("class", "")]) == 2


def test_a_name_is_no_markup_in_a_report(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(schema.run).values(name="<b>|x"))
    made = report.made(database, [RUN.id], 100)
    assert "<b>" not in made.markdown("")
    assert "&lt;b>\\|x" in made.markdown("")
    assert "<b>" not in made.plot


# -------------------------------------------------------------------------------------------------------------- retrain


def asked(folder: Path, **given: object) -> RetrainParameters:
    return RetrainParameters.model_validate(
        {"folder": str(folder), "runs": ["first"], "tokens": 3_000, "held_out": 0.4, **given}
    )


@pytest.mark.parametrize("labels", ["exact", pytest.param("outcome", marks=pytest.mark.slow)])
def test_a_reward_model_learns_from_stored_candidates_and_is_measured_on_others(
    database: Database, tmp_path: Path, labels: str
) -> None:
    folder = tmp_path / "model"
    made = retrain.run(database, asked(folder, labels=labels))
    assert (made.labels, made.problems) == (labels, (14, 10))
    assert made.before.auc is not None
    assert made.after.auc is not None
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() != (BUNDLED["reward"] / weights).read_bytes(), "it has learned nothing"
    assert made.before.auc > 0.6, "the bundled model tells right from wrong"
    assert (folder / "model.safetensors").is_file()
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert all((None in each["labels"]) == (labels == "outcome") for each in samples)
    (later,) = rescore.run(database, "first", part(f"prm:model={folder}"))
    assert later.added == 96, "and it can be used at once"


def test_no_problem_is_both_learned_from_and_measured_on(database: Database) -> None:
    from store.runs import find_run

    solved = retrain.collected(database, [find_run(database, "first"), find_run(database, "second")])
    train, apart = retrain.parted(solved, 0.25, 0)
    assert not {s.problem.id for s in train} & {s.problem.id for s in apart}
    assert len(train) + len(apart) == len(solved)
    assert len(solved) == len({(s.problem.id, s.path) for s in solved}), "the second run's samples are the first's"
    assert retrain.parted(solved, 0.25, 0)[1] == apart


def test_what_answers_a_prompt_of_the_strategys_own_is_no_solution_to_learn_from(database: Database) -> None:
    """A comparison of two solutions was learned from as one that is wrong."""
    from store.runs import find_run

    candidate, first = schema.candidate.c, find_run(database, "first")
    assert len(retrain.collected(database, [first])) == 96
    with database.write() as connection:
        connection.execute(update(schema.candidate).where(candidate.attempt_id == 1).values(prompt="Which is better?"))
    assert len(retrain.collected(database, [first])) == 92


def test_too_little_to_learn_from_is_refused_in_one_line_and_leaves_nothing(database: Database, tmp_path: Path) -> None:
    few = spec("word:split=train,count=4,levels=2,seed=9", "best-of-n:n=2")
    work.evaluate(database, few, "few")
    with pytest.raises(
        ValueError, match=r"not enough to learn from: \d+ right and \d+ wrong solutions of 2 problems, 2 problems held"
    ):
        retrain.run(database, asked(tmp_path / "model", runs=["few"]))
    assert not (tmp_path / "model").exists()
    with pytest.raises(ValueError, match="is there already"):
        retrain.run(database, asked(tmp_path))
    with pytest.raises(ValueError, match="/proc/models/mine cannot be written"):
        retrain.run(database, asked(Path("/proc/models/mine")))


def test_training_that_is_broken_off_leaves_no_half_made_model_and_the_same_again_goes(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(options: argparse.Namespace) -> SimpleNamespace:
        (options.folder / "model.safetensors").write_bytes(b"half")
        if broken:
            raise broken.pop()
        return SimpleNamespace(seen=3_000)

    monkeypatch.setattr(prm, "train", trained)
    monkeypatch.setattr(retrain, "measured", lambda verifier, apart: retrain.Measured(None, 0.0, 0.0))
    folder = tmp_path / "models/mine"
    broken: list[BaseException] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        retrain.run(database, asked(folder))
    assert list(folder.parent.iterdir()) == []
    retrain.run(database, asked(folder))
    assert sorted(each.name for each in folder.iterdir()) == ["model.safetensors", "samples.jsonl"]


# ------------------------------------------------------------------------------------------------------------ the verbs


def test_the_verbs_say_what_was_done(database: Database) -> None:
    where = ["--database", database.shown]
    said = CliRunner().invoke(app, ["rescore", "first", "--verifier", "equation", "--grader", "exact", *where])
    assert said.exit_code == 0
    assert "96 scores added" in said.stdout
    assert "96 verdicts added" in said.stdout
    file = str(Path(database.shown).with_name("said.md"))
    said = CliRunner().invoke(app, ["report", "first", "second", "-o", file, *where])
    assert said.stdout.startswith(f"{file}  2 runs, ")
    assert Path(file).read_text().startswith("# 2 runs on word:")
    said = CliRunner().invoke(app, ["retrain", "somewhere", "--run", "second", "--held-out", "2", *where])
    assert isinstance(said.exception, ValueError)
    assert str(said.exception) == "--held-out is '2.0': input should be less than 1"
