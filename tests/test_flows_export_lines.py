"""`export --format jsonl` and `lm-eval`: what our own import, and others, read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exports import HOSTILE, exported, graded, searched, written

from flows import imports
from search.types import Finish, Part
from store import queries, schema
from store.audit import audit
from store.database import Database, open_database
from store.pools import entries
from store.runs import find_run

SAMPLE = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash", "exact_match"),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with open_database(searched(tmp_path_factory.mktemp("lines") / "runs.db")) as opened:
        yield opened


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def brought(folder: Path, format: str, *files: Path, **options: Any) -> tuple[Database, str]:
    run, _ = imports.run(str(folder / "again.db"), [str(file) for file in files], format, **options)
    return open_database(folder / "again.db"), run


# ---------------------------------------------------------------------------------------------------------------- jsonl


@pytest.mark.parametrize("name", ["flat", "tree"])
def test_a_run_that_is_exported_and_imported_has_the_same_pools(database: Database, tmp_path: Path, name: str) -> None:
    exported(database, name, "jsonl", tmp_path / "out.jsonl")
    again, run = brought(tmp_path, "ponderosa", tmp_path / "out.jsonl")
    with again:
        assert audit(again).clean
        assert queries.summary(again, run).correct == queries.summary(database, find_run(database, name).id).correct
        before, after = (entries(db, id_) for db, id_ in ((database, find_run(database, name).id), (again, run)))
        assert len(before) == len(after) == 5
        for old, new in zip(before.values(), after.values(), strict=True):
            whole = [(e.answer, e.tokens, e.logprob, e.value, e.parts) for e in old]
            assert [(e.answer, e.tokens, pytest.approx(e.logprob), e.value, e.parts) for e in new] == whole
            assert [e.certainty for e in new] == pytest.approx([e.certainty for e in old])


def test_the_same_problems_have_the_same_keys_again(database: Database, tmp_path: Path) -> None:
    """Without them an imported run could not be compared with the one it came from."""
    exported(database, "flat", "jsonl", tmp_path / "out.jsonl")
    again, run = brought(tmp_path, "ponderosa", tmp_path / "out.jsonl")
    with again, again.read() as new, database.read() as old:
        keys = "select problem_key from attempt where run_id = '{}' order by position"
        found = [c.exec_driver_sql(keys.format(id_)).all() for c, id_ in ((new, run), (old, find_run(database, "flat").id))]
    assert found[0] == found[1]


def test_several_runs_over_the_same_problems_are_one_file_that_can_be_imported(database: Database, tmp_path: Path) -> None:
    exported(database, ["flat", "tree"], "jsonl", tmp_path / "out.jsonl")
    again, run = brought(tmp_path, "ponderosa", tmp_path / "out.jsonl")
    with again:
        assert queries.summary(again, run).problems == 10


def test_the_tree_has_every_candidate_and_pruned_ones_too(database: Database, tmp_path: Path) -> None:
    exported(database, "tree", "jsonl", tmp_path / "out.jsonl", steps=True)
    exported(database, "tree", "jsonl", tmp_path / "bare.jsonl")
    rows = queries.candidates(database, find_run(database, "tree").id, limit=None)
    steps = [step for line in lines(tmp_path / "out.jsonl") for step in line["steps"]]
    assert sorted((s["path"], s["state"], s["text"]) for s in steps) == sorted((r.path, r.state, r.text) for r in rows)
    assert any(step["state"] == "pruned" for step in steps)
    assert all("steps" not in line for line in lines(tmp_path / "bare.jsonl"))
    imported, _ = brought(tmp_path, "ponderosa", tmp_path / "out.jsonl")
    imported.close()


def test_a_hostile_text_comes_back_to_the_last_character(tmp_path: Path) -> None:
    with open_database(tmp_path / "runs.db") as db:
        run = written(db, [{"0": HOSTILE, "1": "cut \\boxed{9}"}], ends={"1": Finish.LENGTH})
        made = exported(db, run, "jsonl", tmp_path / "out.jsonl")
    assert made.replaced == 0
    (line,) = lines(tmp_path / "out.jsonl")
    assert [each["text"] for each in line["candidates"]] == [HOSTILE, "cut \\boxed{9}"]
    assert [each["finished"] for each in line["candidates"]] == [True, False]
    assert not {"tokens", "token_ids", "logprob"} & set(line["candidates"][0]), "0 would say that the text has none"
    again, run = brought(tmp_path, "ponderosa", tmp_path / "out.jsonl")
    with again:
        exported(again, run, "jsonl", tmp_path / "twice.jsonl")
    (twice,) = lines(tmp_path / "twice.jsonl")
    assert twice["candidates"] == line["candidates"]
    assert twice["correct"] == line["correct"] == [True, False]


# --------------------------------------------------------------------------------------------------------------- lm-eval


def test_samples_have_the_fields_and_hashes_of_the_harness(database: Database, tmp_path: Path) -> None:
    exported(database, "flat", "lm-eval", tmp_path / "out")
    (file,) = (tmp_path / "out").glob("samples_word_*.jsonl")
    samples = lines(file)
    assert [sample["doc_id"] for sample in samples] == list(range(5))
    for sample in samples:
        assert set(sample) == SAMPLE
        text = json.dumps(sample["doc"], indent=2, ensure_ascii=False)
        assert sample["doc_hash"] == hashlib.sha256(text.encode()).hexdigest()
        prompt = sample["arguments"]["gen_args_0"]["arg_0"]
        assert sample["prompt_hash"] == hashlib.sha256(prompt.encode()).hexdigest()
        assert sample["target_hash"] == hashlib.sha256(sample["target"].encode()).hexdigest()
        assert (len(sample["resps"]), len(sample["resps"][0]), len(sample["filtered_resps"])) == (1, 3, 1)
        assert isinstance(sample["exact_match"], float)


def test_results_are_the_runs_accuracy_under_the_names_of_the_harness(database: Database, tmp_path: Path) -> None:
    exported(database, "flat", "lm-eval", tmp_path / "out")
    (file,) = (tmp_path / "out").glob("results_*.json")
    (samples,) = (tmp_path / "out").glob("samples_*.jsonl")
    assert samples.stem.rpartition("_")[2] == file.stem.partition("_")[2], "their time is what pairs them"
    results = json.loads(file.read_text())
    accuracy = queries.summary(database, find_run(database, "flat").id).accuracy
    assert accuracy is not None
    assert 0 < accuracy < 1
    assert results["results"]["word"]["exact_match,chosen"] == pytest.approx(accuracy)
    assert results["results"]["word"]["exact_match_stderr,chosen"] == pytest.approx((accuracy * (1 - accuracy) / 4) ** 0.5)
    assert results["n-samples"] == {"word": {"original": 5, "effective": 5}}
    needed = {
        "results",
        "group_subtasks",
        "configs",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
        "config",
        "git_hash",
    }
    assert needed | {"date", "task_hashes", "model_source", "model_name", "model_name_sanitized"} <= set(results)
    hashes = "".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in lines(samples))
    assert results["task_hashes"]["word"] == hashlib.sha256(hashes.encode()).hexdigest()


def test_samples_of_several_runs_are_imported_again(database: Database, tmp_path: Path) -> None:
    """Two runs of one set would have been one task, and each document twice."""
    made = exported(database, ["flat", "tree"], "lm-eval", tmp_path / "out")
    assert len(made.files) == 4
    again, run = brought(tmp_path, "lm-eval", tmp_path / "out", style="word")
    with again:
        assert audit(again).clean
        new = [[e.answer for e in pool] for pool in entries(again, run).values()]
    old = [
        [e.answer for e in pool]
        for name in ("flat", "tree")
        for pool in entries(database, find_run(database, name).id).values()
    ]
    assert sorted(map(str, new)) == sorted(map(str, old))


def test_a_problem_without_a_solution_and_one_that_is_not_done_count_as_they_do_in_the_run(tmp_path: Path) -> None:
    """Without the first the accuracy was that of the problems that the search could do."""
    with open_database(tmp_path / "runs.db") as db:
        run = written(db, [{"0": "So \\boxed{7}"}, {"0": "and\n\n"}, {"0": "So \\boxed{7}"}])
        attempt = schema.attempt.c
        with db.write() as connection:
            connection.execute(schema.attempt.update().where(attempt.position == 0).values(correct=True, verdict="correct"))
            connection.execute(schema.attempt.update().where(attempt.position == 2).values(status="running"))
        assert queries.summary(db, run).accuracy == 0.5
        exported(db, run, "lm-eval", tmp_path / "out")
    second = lines(next((tmp_path / "out").glob("samples_*")))[1]
    assert (second["resps"], second["filtered_resps"], second["exact_match"]) == ([[""]], ["[invalid]"], 0.0)
    results = json.loads(next((tmp_path / "out").glob("results_*")).read_text())
    assert results["results"]["made"]["exact_match,chosen"] == 0.5
    assert results["n-samples"]["made"] == {"original": 3, "effective": 2}
    again, _ = brought(tmp_path, "lm-eval", tmp_path / "out", style="math")
    again.close()


def test_of_a_run_without_verdicts_no_accuracy_and_of_an_imported_one_no_sampling_is_made_up(tmp_path: Path) -> None:
    with open_database(tmp_path / "runs.db") as db:
        run, _ = imports.run(db.shown, [str(_one(tmp_path))], "ponderosa")
        made = exported(db, run, "lm-eval", tmp_path / "out")
    (sample,) = lines(next((tmp_path / "out").glob("samples_*")))
    assert (sample["filtered_resps"], sample["exact_match"]) == (["[invalid]"], None)
    assert sample["arguments"]["gen_args_0"]["arg_1"] == {}
    results = json.loads(next((tmp_path / "out").glob("results_*")).read_text())
    (score,) = results["results"].values()
    assert (score["exact_match,chosen"], score["exact_match_stderr,chosen"]) == ("N/A", "N/A")
    assert (results["config"]["gen_kwargs"], results["config"]["random_seed"]) == ({}, None)
    assert made.notes == [f"run {run} has no verdicts: its exact_match is null"]


def _one(folder: Path) -> Path:
    """A problem with a right and a wrong candidate, of which nobody has chosen one."""
    file = folder / "one.jsonl"
    candidates = [{"text": f"It is {n}.", "answer": str(n)} for n in (7, 8)]
    file.write_text(json.dumps({"id": "p", "problem": "?", "answer": "7", "candidates": candidates}) + "\n")
    return file


def test_a_problem_that_nothing_was_chosen_of_is_invalid_and_wrong(tmp_path: Path) -> None:
    with open_database(tmp_path / "runs.db") as db:
        run = written(db, [{"0": HOSTILE}], ends={"0": Finish.LENGTH}, set_=Part("made", {}))
        graded(db, run, "none")
        made = exported(db, run, "lm-eval", tmp_path / "out")
    (sample,) = lines(next((tmp_path / "out").glob("samples_*")))
    assert (sample["filtered_resps"], sample["exact_match"]) == (["[invalid]"], 0.0)
    assert (sample["resps"], made.replaced) == ([[HOSTILE.replace("\ud800", "\ufffd")]], 1)
