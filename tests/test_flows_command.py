"""The command line's manners: its environment, what it prints for machines, its exit codes, closed pipes, narrow terminals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from command import Command
from typer.testing import CliRunner

from flows.cli import app, completing, environment
from flows.cli.app import PREFIX, variable
from flows.parts import spec
from flows.schedule.alarm import failed
from pipelines.problems.load import load_problems
from search.types import RunSpec
from store.database import open_database
from store.runs import begin_run
from store.schedules import Schedule
from store.slots import Slot
from verifiers.sandbox.available import tried

SPEC = spec("word:count=2", "greedy")
ROOT = Path(__file__).parent.parent
RUN = ("run", "--problems", "word:count=2", "--strategy", "greedy", "--plain")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:
    """What `run` and `sweep` would run."""
    found: list[RunSpec] = []
    monkeypatch.setattr("flows.cli.running._evaluate", lambda specs, *_: found.extend(specs))
    return found


# --------------------------------------------------------------------------------------------------------- what is imported

HEAVY = {"torch", "transformers", "prefect", "numpy", "scipy", "sqlalchemy", "numba", "sympy", "rich", "yaml", "dotenv"}
MAY = {
    "--help": set[str](),
    "run --help": set[str](),
    "runs": {"numpy", "sqlalchemy", "rich"},
    "show": {"numpy", "sqlalchemy", "rich"},
}


@pytest.mark.parametrize("words", MAY)
def test_a_verb_imports_no_more_than_it_needs(words: str, tmp_path: Path) -> None:
    """A bar of 0.3 s is soon lost by one import; seconds on a shared machine would not tell which."""
    with open_database(tmp_path / ".ponderosa.db") as database:
        begin_run(database, SPEC, load_problems(SPEC.problems), {})
    code = "import sys, atexit; from flows.cli import main; atexit.register(lambda: print(*sys.modules)); main()"
    environment = {**_environment(), "PONDEROSA_DATABASE": ".ponderosa.db"}
    command = [sys.executable, "-c", code, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()} & HEAVY
    assert loaded <= MAY[words], done.stderr


def _environment() -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("PONDEROSA_")}
    return {**plain, "PYTHONPATH": str(ROOT)}


# ------------------------------------------------------------------------------------------------------------- environment


def test_every_flag_of_every_verb_has_its_variable() -> None:
    root = typer.main.get_command(app)
    groups = [root, root.commands["verifier"], root.commands["schedule"]]  # type: ignore[attr-defined]
    flags = 0
    for verb in (verb for group in groups for verb in group.commands.values() if verb not in groups):
        for each in verb.params:
            if each.param_type_name == "option" and each.name != "help":
                longest = max((flag for flag in each.opts if flag.startswith("--")), key=len)
                assert each.envvar == variable(longest), (verb.name, each.name)
                flags += 1
    assert flags > 150


def test_flags_win_over_the_environment_that_over_dotenv_that_over_the_file_that_over_defaults(
    command: Command, asked: list[RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.yaml").write_text("seed: 1\ntop-k: 1\ntokens: 101\nstrategy: greedy\n")
    assert command("run", "-f", "a.yaml").code == 0
    Path(".env").write_text("PONDEROSA_SEED=2\nexport PONDEROSA_TOP_K='2'\n")
    assert command("run", "-f", "a.yaml").code == 0
    monkeypatch.setenv("PONDEROSA_SEED", "3")
    assert command("run", "-f", "a.yaml").code == 0
    assert command("run", "-f", "a.yaml", "--seed", "4").code == 0
    found = [(each.seed, each.sampling.top_k, each.tokens, each.step_tokens) for each in asked]
    assert found == [(1, 1, 101, 64), (2, 2, 101, 64), (3, 2, 101, 64), (4, 2, 101, 64)]


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("PONDEROSA_STRATEGY", "beam:n=4", lambda spec: spec.strategy.params["n"] == 4),
        ("PONDEROSA_SET", "n=3", lambda spec: spec.strategy.params["n"] == 3),
        ("PONDEROSA_STOP", "## END", lambda spec: spec.stops == ("##", "END")),
        ("PONDEROSA_BUDGET", "2k", lambda spec: spec.budget.tokens == 2000),
        ("PONDEROSA_MIN_P", "0.1", lambda spec: spec.sampling.min_p == 0.1),
        ("PONDEROSA_SEED", "", lambda spec: spec.seed == 0),
        ("PONDEROSA_STRATEGY", "", lambda spec: spec.strategy.name == "best-of-n"),
    ],
)
def test_a_variable_says_what_its_flag_says_and_an_empty_one_nothing(
    command: Command,
    asked: list[RunSpec],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    read: Callable[[RunSpec], bool],
) -> None:
    monkeypatch.setenv(name, value)
    assert command("run").code == 0
    assert read(asked[0])


def test_a_variable_that_will_not_do_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDEROSA_TEMPERATURE", "abc")
    done = command("run", "--plain")
    assert done.code == 2
    assert "'--temperature'" in done.err
    assert "(from the variable PONDEROSA_TEMPERATURE)" in done.err
    assert "variable" not in command("run", "--plain", "--temperature", "abc").err


def test_a_variable_that_is_no_flags_is_told_of_with_the_nearest(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PONDEROSA_TEMPRATURE=0.5\nPONDEROSA_SEED=1\n")
    monkeypatch.setenv("PONDEROSA_EMPTY", "")
    done = command("models")
    said = "warning: no flag has the variable PONDEROSA_TEMPRATURE, and it changes nothing; did you mean PONDEROSA_TEMPERATURE?"
    assert (done.code, done.err) == (0, said + "\n")
    assert command("models", "--quiet").err == ""
    Path(".env").write_text("PONDEROSA_XYZZY=1\n")
    assert "PONDEROSA_XYZZY, and it changes nothing; a flag's variable is" in command("models").err


def test_what_a_hook_is_told_are_known_variables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = Schedule("nightly", SPEC, every=60, anchor="2026-03-01T00:00:00Z", bar=0.5)
    for name in failed(schedule, Slot("nightly", "2026-03-01T00:01:00Z", "running"), "it failed").facts:
        monkeypatch.setenv(PREFIX + name, "1")
    environment.warn()
    assert capsys.readouterr().err == ""


def test_a_dotenv_is_taken_as_it_stands_and_only_what_is_ours(command: Command, asked: list[RunSpec]) -> None:
    Path(".env").write_text('PATH=/nowhere\nPONDEROSA_CONSTRAINT="a${HOME}\\$"\n# PONDEROSA_SEED=9\n')
    before = os.environ["PATH"]
    assert command("run").code == 0
    assert asked[0].constraint == "a${HOME}\\$"
    assert os.environ["PATH"] == before


def test_a_bad_line_of_a_dotenv_is_one_line_that_does_not_show_it(command: Command) -> None:
    Path(".env").write_text("A=1\n\nPONDEROSA_API_KEY sk-geheim\n")
    done = command("runs")
    assert (done.code, done.out, done.err) == (65, "", "ponderosa: line 3 of '.env' is not NAME=VALUE\n")
    Path(".env").write_bytes(b"PONDEROSA_SEED=\xff\xfe\n")
    assert command("runs").err == "ponderosa: cannot read '.env': it is no UTF-8 text\n"


# --------------------------------------------------------------------------------------------------- machines, and silence


def test_every_verb_speaks_json_and_nothing_else(command: Command) -> None:
    root = typer.main.get_command(app)
    verbs = dict(root.commands)  # type: ignore[attr-defined]
    for group in ("ask", "verifier", "schedule"):
        verbs |= {f"{group} {name}": each for name, each in verbs.pop(group).commands.items()}
    silent = {name for name, verb in verbs.items() if "--json" not in {o for p in verb.params for o in p.opts}}
    assert silent == set()
    quiet = [name for name, verb in verbs.items() if "--quiet" not in {o for p in verb.params for o in p.opts}]
    assert quiet == []
    ran = json.loads(command(*RUN, "--json").out)
    assert (ran["problems"], ran["done"], ran["status"]) == (2, 2, "done")
    for words in (
        ("show",),
        ("show", "--problem", "word-test-0-0"),
        ("runs",),
        ("candidates", "--limit", "2"),
        ("resume", "--plain"),
        ("audit",),
        ("models",),
        ("strategies",),
        ("reselect",),
        ("report", "latest"),
        ("schedule", "add", "daily", "--every", "1d", "--like", "latest"),
        ("schedule", "list"),
        ("schedule", "show", "daily"),
        ("schedule", "pause", "daily"),
        ("schedule", "resume", "daily"),
        ("schedule", "now", "daily"),
        ("serve", "--once"),
        ("trend", "daily"),
        ("schedule", "remove", "daily"),
        (*RUN, "--seed", "7", "--detach"),
        ("worker", "--until-done"),
        (*RUN, "--seed", "8", "--detach"),
        ("cancel", "latest"),
    ):
        done = command(*words, "--json")
        assert done.code == 0, done.err
        told = [json.loads(line) for line in done.out.splitlines()]
        assert told, words
    assert json.loads(command("show", ran["run"], "--json").out)["run"] == ran["run"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "--spec", "--problem", "word-test-0-0"), "--spec is of the whole run"),
        (("query", "-o", "rows.csv"), "there is no SQL"),
        (("query", "--param", "a=1"), "there is no SQL"),
        (("candidates", "--limit", "9" * 20), "--limit"),
        (("trend", "nightly", "--last", "9" * 20), "--last"),
        (("reselect", "--seed", "-1"), "--seed"),
        (("compare", "one", "two", "--seed", "-1"), "--seed"),
        (("schedule", "show", "nightly", "--limit", "9" * 20), "--limit"),
        ((*RUN, "--seed", "9" * 20), "seed must be a whole number of 64 bits"),
    ],
)
def test_flags_that_will_not_do_are_refused(command: Command, words: tuple[str, ...], says: str) -> None:
    done = command(*words)
    assert (done.code, done.out, says in done.err) == (2, "", True)


def test_a_run_that_was_called_off_is_left_to_workers_again(command: Command) -> None:
    assert command(*RUN, "--detach").code == 0
    assert command("cancel", "latest").code == 0
    done = command("resume", "latest", "--detach", "--json")
    told = json.loads(done.out)
    assert (done.code, told["status"]) == (0, "queued")
    assert f"run {told['run']} waits for a worker" in done.err
    assert json.loads(command("runs", "--json").out)["status"] == "queued"
    assert command("worker", "--until-done").code == 0
    assert json.loads(command("resume", "latest", "--detach", "--json").out)["status"] == "done"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "--plain"), "; the same command again, or `ponderosa resume`, goes on from here"),
        (("--debug", "rescore", "--grader", "exact"), "; the same command again goes on from here"),
        (("models",), ""),
    ],
)
def test_what_is_interrupted_says_what_goes_on(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    for module in ("flows.launch.launch", "flows.later.rescore", "flows.tables.list_models"):
        monkeypatch.setattr(module, lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    open_database(".ponderosa.db").close()
    monkeypatch.setenv("PONDEROSA_DATABASE", ".ponderosa.db")
    done = command(*words)
    assert (done.code, done.err) == (130, f"ponderosa: interrupted{says}\n")


def test_quiet_is_silent_on_standard_error_but_for_errors(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command(*RUN, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert "accuracy" in done.out
    assert command("show", "nothing", "-q").err.startswith("ponderosa: there is no run 'nothing'")
    monkeypatch.setenv("PONDEROSA_QUIET", "0")
    assert command(*RUN, "--strategy", "best-of-n:n=2").err != ""  # and the next one speaks again
    monkeypatch.setenv("PONDEROSA_QUIET", "1")
    assert command(*RUN, "--strategy", "best-of-n:n=3").err == ""


# ------------------------------------------------------------------------------------------------------------- exit codes


def test_the_exit_codes_are_those_of_the_table(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted (130) and terminated (143) are in test_flows_resume.py, a full disk (74) in test_flows_chaos.py."""
    assert command(*RUN).code == 0
    assert command("run", "--strategy", "beem").code == 2
    assert command("run", "--no-such-flag").code == 2
    assert command("no-such-verb").code == 2
    assert command("show", "nothing").code == 65
    assert command("run", "-f", "none.yaml").code == 65
    assert command("runs", "-d", "postgresql://nobody@127.0.0.1:1/nothing").code == 75
    tried.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    assert command("run", "--verifier", "program", "--plain").code == 69
    tried.cache_clear()


def test_failed_problems_end_a_run_with_1(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, tree: object) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr("search.strategies.greedy.Greedy.search", broken)
    done = command(*RUN)
    assert done.code == 1
    assert "2 problems failed and count as wrong" in done.out


def test_a_prompt_that_is_too_long_is_said_before_the_run_and_fails_alone(command: Command) -> None:
    rows = [{"question": "coins " * 1500, "answer": "1"}, {"question": "Use 2, 3 to make 6.", "answer": "6"}]
    Path("set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = command("run", "--problems", "jsonl:file=set.jsonl", "--strategy", "greedy", "--plain")
    assert done.code == 1
    assert "1 problems have prompts longer than the model's context and will fail, the first is 'set-0'" in done.err
    assert "1 done, 1 failed" in command("show").out


# ---------------------------------------------------------------------------------------------------------- names nearby


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "mime"), "there is no run 'mime'; the nearest are"),
        (
            ("candidates", "--problem", "word-test-0-7"),
            "has no problem 'word-test-0-7' among its 2; the nearest are word-test-0-",
        ),
        (("show", "--problem", "x"), "has no problem 'x' among its 2; its first are word-test-0-0"),
        (("candidates", "--state", "prunned"), "unknown state 'prunned'; did you mean 'pruned'?"),
        (("reselect", "--selector", "majorty"), "did you mean 'majority'?"),
        (("runs", "--jsn"), "No such option: --jsn"),
        (("rnus",), "No such command 'rnus'. Did you mean 'runs'"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(command: Command, words: tuple[str, ...], says: str) -> None:
    command(*RUN, "--name", "mine")
    done = command(*words)
    assert says in " ".join(done.err.split())
    assert done.out == ""
    assert done.code in (2, 65)


# ------------------------------------------------------------------------------------------------------ pipes and terminals


@pytest.mark.parametrize("words", ["strategies", "candidates --json", "candidates", "--help", "runs --json"])
def test_a_reader_that_leaves_is_no_error(command: Command, words: str) -> None:
    command(*RUN)
    writing = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *words.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
    )
    assert writing.stdout is not None
    writing.stdout.close()
    _, err = writing.communicate()
    assert (writing.returncode in (0, 141), err.decode()) == (True, "")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["show"], ["strategies"]])
def test_twenty_columns_are_enough_and_nothing_is_coloured(
    command: Command, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("NO_COLOR", "1")
    command(*RUN)
    done = command(*words)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out + done.err
    if words == ["show"]:  # a table keeps its columns: it is cut by the terminal, not by us
        assert "95% interval" in done.out


def test_a_program_gets_every_cell_whole(command: Command) -> None:
    name = "a name of many words " * 12
    command(*RUN, "--name", name)
    assert name.strip() in command("runs").out
    header, *lines = command("candidates", "latest").out.splitlines()
    assert header.split() == ["problem", "path", "tokens", "ln", "p", "certainty", "score", "state", "answer", "text"]
    assert all(line.startswith("word-test-") for line in lines)


# ------------------------------------------------------------------------------------------------------------- completion


def offers(*words: str) -> list[str]:
    environment = {"_PONDEROSA_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": " ".join(("ponderosa", *words))}
    told = CliRunner().invoke(app, env=environment, prog_name="ponderosa").stdout
    return [line.split('"')[1] for line in told.splitlines() if line.count('"') >= 2]


def test_the_shell_is_offered_what_there_is(command: Command) -> None:
    run = json.loads(command(*RUN, "--name", "mine", "--json").out)["run"]
    assert offers("show", "") == ["latest", run, "mine"]
    assert offers("show", run[:4]) == [run]
    assert offers("run", "--strategy", "best-") == ["best-first", "best-of-n"]
    assert offers("run", "--verifier", "pr") == ["prm", "program"]
    assert offers("run", "--problems", "w") == ["word"]
    assert offers("show", "x") == []


def test_completion_of_runs_opens_nothing_that_may_be_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context = typer.Context(typer.main.get_command(app))
    monkeypatch.setenv("PONDEROSA_DATABASE", "postgresql://nobody@127.0.0.1:1/nothing")
    assert completing.runs(context, "") == []
    (tmp_path / "torn.db").write_text("no database")
    monkeypatch.setenv("PONDEROSA_DATABASE", str(tmp_path / "torn.db"))
    assert completing.runs(context, "") == []
