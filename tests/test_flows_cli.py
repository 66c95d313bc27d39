"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import Command
from typer.testing import CliRunner

from flows.cli import app
from pipelines.models import BUNDLED
from search.types import Budget, RunSpec, Sampling

WORD = "Ben has 27 coins. Ben finds 12 more. Ben loses 9. How many coins does Ben have now?"


def test_help_answers_without_torch_within_three_tenths_of_a_second() -> None:
    code = (
        "import sys, flows.cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules or 'prefect' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=False).returncode == 0
    best = min(_seconds("--help") for _ in range(5))
    bare = min(_seconds(None) for _ in range(5))
    assert best - bare < 0.3  # seconds of CPU; 0.1 on an idle core


def _seconds(argument: str | None) -> float:
    began = time.process_time(), os.times().children_user
    command = [sys.executable, "-c", "pass"] if argument is None else [sys.executable, "-m", "flows.cli", argument]
    subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parent.parent)
    return os.times().children_user - began[1]


def test_solve_gives_the_answer_its_cost_and_why_it_won(ponderosa: Command) -> None:
    done = ponderosa("solve", WORD, "--strategy", "beam", "--budget", "600", "--tree")
    assert done.code == 0, done.err
    assert "answer    30" in done.out
    assert "because   best: score" in done.out
    assert "generated tokens" in done.out
    assert "* 0" in done.out or "* 1" in done.out  # the chosen path in the tree
    assert "The answer is \\boxed{30}" in done.out


def test_solve_speaks_json_for_machines(ponderosa: Command) -> None:
    done = ponderosa("solve", WORD, "--strategy", "best-of-n", "--set", "n=4", "--json")
    told = json.loads(done.out)
    assert told["answer"] == "30"
    assert sum(vote["count"] for vote in told["votes"]) <= 4
    assert told["usage"]["generated_tokens"] > 0


def test_a_run_can_be_shown_and_its_candidates_listed(ponderosa: Command) -> None:
    ran = ponderosa("run", "--problems", "word:count=4", "--strategy", "beam:n=4,keep=2", "--plain")
    assert ran.code == 0, ran.err
    assert "accuracy" in ran.out
    assert "4/4 problems" in ran.err
    shown = ponderosa("show")
    assert "4 done, 0 failed, 0 pending" in shown.out
    assert "oracle (any right)" in shown.out
    tree = ponderosa("show", "latest", "--problem", "word-test-0-0")
    assert "reference" in tree.out
    listed = ponderosa("candidates", "--json", "--limit", "5")
    assert len([json.loads(line) for line in listed.out.splitlines()]) == 5
    pruned = ponderosa("candidates", "--state", "merged")
    assert "same step as a sibling" in pruned.out
    assert ponderosa("runs").out.count("done") == 1


def test_a_sweep_compares_its_runs_in_one_table(ponderosa: Command) -> None:
    done = ponderosa("sweep", "--strategy", "greedy", "--strategy", "best-of-n:n=2", "--problems", "word:count=3", "--plain")
    assert done.code == 0, done.err
    assert done.out.count("[0.") >= 2


COSTS = ("--flops", "2e12", "--seconds", "1.5")


@pytest.mark.parametrize("command", [["solve", "q"], ["run"], ["sweep", "--strategy", "greedy", "--strategy", "beam"]])
def test_every_option_of_sampling_and_budget_has_a_flag(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunSpec] = []
    monkeypatch.setattr("flows.solve.run", lambda question, spec, tree, json: asked.append(spec))
    monkeypatch.setattr("flows.cli.running._evaluate", lambda specs, *_: asked.extend(specs))
    for flags, sampling in (
        ("--temperature 0.6 --top-k 20 --top-p 0.95 --min-p 0.01", Sampling(0.6, 20, 0.95, 0.01)),
        (
            "--repetition-penalty 1.1 --mirostat-tau 3 --mirostat-eta 0.2",
            Sampling(repetition_penalty=1.1, mirostat_tau=3.0, mirostat_eta=0.2),
        ),
        ("", Sampling()),
    ):
        asked.clear()
        done = CliRunner().invoke(
            app, [*command, *flags.split(), "--candidates", "9", "--budget", "1k", *COSTS, "--stop", "The end", "--stop", "##"]
        )
        assert done.exit_code == 0, done.output
        assert {spec.stops for spec in asked} == {("The end", "##")}
        assert {spec.sampling for spec in asked} == {sampling}
        assert {spec.budget for spec in asked} == {Budget(tokens=1000, candidates=9, flops=2e12, seconds=1.5)}
        assert len(asked) == max(1, command.count("--strategy"))


@pytest.mark.parametrize("verb", ["models", "strategies"])
def test_what_there_is_can_be_listed(ponderosa: Command, verb: str) -> None:
    done = ponderosa(verb)
    assert done.code == 0
    for word in {"models": ("generator", "reward"), "strategies": ("astar", "borda", "equation")}[verb]:
        assert word in done.out


BAD = [
    (
        ("solve", "q", "--strategy", "best_of_n"),
        2,
        "unknown strategy 'best_of_n'; did you mean 'best-of-n'? (adadec, adaptive-consistency, allocated, astar",
    ),
    (("solve", "q", "--strategy", "beam:select=majorty"), 2, "unknown selector 'majorty'; did you mean 'majority'? (best, "),
    (("solve", "q", "--strategy", "best-of-n:n=0"), 2, "n must be at least 1, not 0"),
    (("solve", "q", "--strategy", "best-of-n:m=3"), 2, "strategy 'best-of-n' has no parameter 'm' (it takes n, select"),
    (("solve", "q", "--budget", "0"), 2, "budget of tokens must be at least 1, not 0"),
    (("solve", "q", "--budget", "many"), 2, "'many' is not a count"),
    (("solve", "q", "--temperature", "-1"), 2, "temperature must be between 0 and 100, not -1.0"),
    (("solve", "q", "--candidates", "0"), 2, "budget of candidates must be at least 1, not 0"),
    (("solve", "q", "--stop", ""), 2, "a stop string must have at least 1 character"),
    (("solve", "q", "--top-k", "-1"), 2, "top_k must be 0 (off) or more, not -1"),
    (("run", "--plain", "--min-p", "1"), 2, "min_p must be at least 0 and below 1, not 1.0"),
    (("run", "--plain", "--repetition-penalty", "0"), 2, "repetition_penalty must be above 0, not 0.0"),
    (("sweep", "--strategy", "greedy", "--mirostat-tau", "-3"), 2, "mirostat_tau must be 0 (off) or more bits, not -3.0"),
    (("solve", "q", "--mirostat-tau", "3", "--mirostat-eta", "0"), 2, "mirostat_eta must be above 0, not 0.0"),
    (("solve", "q", "--mirostat-tau", "3", "--top-k", "5"), 2, "mirostat_tau replaces top_k, top_p and min_p"),
    (("solve", "q", "--verifier", "prn"), 2, "unknown verifier 'prn'; did you mean 'prm'?"),
    (("solve", "q", "--verifier", "prm:join=max"), 2, "unknown join 'max'"),
    (("solve", "q", "--generator", "/no/such/model"), 65, "model folder '/no/such/model' does not exist"),
    (("solve", " "), 2, "the question is empty"),
    (("run", "--problems", "word:count=0", "--plain"), 2, "count"),
    (("run", "--problems", "words", "--plain"), 2, "unknown problem set 'words'; did you mean 'word'?"),
    (("run", "--problems", "jsonl:file=none.jsonl", "--plain"), 65, "none.jsonl"),
    (("show", "latest"), 65, "there is no database at"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), BAD, ids=[" ".join(b[0][-2:]) for b in BAD])
def test_bad_input_gets_one_line_and_its_exit_code(
    arguments: tuple[str, ...], code: int, says: str, ponderosa: Command, tmp_path: Path
) -> None:
    done = ponderosa(*arguments)
    assert done.code == code, done.err
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert "Traceback" not in done.err
    assert list(tmp_path.rglob("*.db")) == []  # nothing was begun


def test_a_prompt_longer_than_the_context_is_one_line(ponderosa: Command) -> None:
    done = ponderosa("solve", "coins " * 1500)
    assert done.code == 2
    assert "and the model's context 1024" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_bad_line_of_a_data_file_is_named_by_file_line_and_reason(ponderosa: Command, tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text('{"question": "1+1?", "answer": "#### 2"}\n{"question": "2+2?"}\n')
    done = ponderosa("run", "--problems", "jsonl:file=set.jsonl", "--plain")
    assert done.code == 65
    assert "set.jsonl:2:" in done.err
    assert "answer" in done.err


def test_a_folder_without_weights_is_one_line(ponderosa: Command, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text((BUNDLED["generator"] / "config.json").read_text())
    done = ponderosa("solve", "q", "--generator", "./model")
    assert done.code == 65
    assert "has no weights" in done.err


def test_a_database_of_another_version_is_one_line_and_is_left_alone(ponderosa: Command, tmp_path: Path) -> None:
    ponderosa("run", "--problems", "word:count=1", "--strategy", "greedy", "--plain", "-d", "a.db")
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("update ponderosa_version set version_num = '9999'")
    connection.commit()
    connection.close()
    before = (tmp_path / "a.db").read_bytes()
    done = ponderosa("show", "-d", "a.db")
    assert done.code == 65
    assert "9999" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert (tmp_path / "a.db").read_bytes() == before


def test_a_traceback_is_there_for_those_who_ask(ponderosa: Command) -> None:
    with pytest.raises(ValueError, match="unknown strategy"):  # Python prints it
        ponderosa("--debug", "solve", "q", "--strategy", "none")
