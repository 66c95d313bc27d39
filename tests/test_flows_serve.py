"""Schedules end to end, on the bundled models: added, served, stopped, told of."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from command import Command
from sqlalchemy import update
from typer.testing import CliRunner

from flows import launch
from flows.cli import app
from flows.parts import spec as spec_of
from flows.schedule.editing import readable
from flows.schedule.scheduler import Scheduler, Touch
from pipelines.problems.load import load_problems
from search.types import GREEDY, RunSpec
from store import schema
from store.audit import audit
from store.database import open_database
from store.errors import StoreError
from store.runs import begin_run
from store.schedules import find_schedule, moment_of, stamp

ADD = ("schedule", "add", "nightly", "--problems", "word:count=3,levels=2-2", "--strategy", "best-of-n:n=2")


def invoke(*words: str) -> tuple[int, str]:
    """In this process: what the command printed, and its exit code. Errors are raised as they are."""
    done = CliRunner().invoke(app, [*words], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_a_schedule_of_every_minute_is_served_twice_and_its_trend_told(tmp_path: Path) -> None:
    database = str(tmp_path / "runs.db")
    code, said = invoke(*ADD, "--cron", "* * * * *", "--bar", "0.1", "-d", database)
    assert code == 0
    assert "next" in said
    with open_database(database) as opened:
        moment = [moment_of(find_schedule(opened, "nightly").since)]

        def evaluate(spec: RunSpec, name: str, touch: Touch) -> None:
            launch.launch([spec], [name], database, plain=True)

        for _ in range(2):
            moment[0] += timedelta(minutes=1)
            scheduler = Scheduler(opened, evaluate, now=lambda: moment[0], say=lambda line: None)
            assert dict(scheduler.once()) == {"done": 1}
            assert not scheduler.once()
        assert audit(opened).clean
    code, said = invoke("trend", "nightly", "-d", database, "--json")
    told = json.loads(said)
    assert code == 0
    first, second = told["points"]
    assert first["run"] != second["run"]
    assert second["since_first"] == [0.0, 0.0, 0.0], "the same weights, code and seed: the same texts"
    assert first["tokens"] == second["tokens"] > 0
    with sqlite3.connect(database) as raw:
        texts = "select run_id, group_concat(text, '|') from candidate join attempt on attempt.id = attempt_id group by run_id"
        assert len({text for _, text in raw.execute(texts)}) == 1
    code, said = invoke("trend", "nightly", "-d", database, "--bar", "1")
    below = first["accuracy"] < 1
    assert (code, "BELOW it" in said) == (int(below), below)
    assert "from the first" in said
    assert invoke("schedule", "show", "nightly", "-d", database)[1].count(" done ") == 2
    assert "2 done" in invoke("schedule", "list", "-d", database)[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--cron", "* * * * * *"), "has a field for seconds"),
        (("--cron", "0 0 31 2 *"), "is never due"),
        (("--every", "1s"), "it must be at least 60 s"),
        ((), "say when"),
        (("--cron", "0 2 * * *", "--every", "1h"), "say when"),
        (("--cron", "0 2 * * *", "--zone", "Berlin"), "did you mean Europe/Berlin"),
        (("--cron", "0 2 * * *", "--catch-up", "some"), "unknown catch-up policy"),
        (("--cron", "0 2 * * *", "--bar", "60"), "bar must be an accuracy between 0 and 1"),
        (("--cron", "0 2 * * *", "--hook", "mail 'me"), "cannot be read"),
        (("--cron", "0 2 * * *", "--file", "none.yaml"), "none.yaml"),
        (("--cron", "0 2 * * *", "--like", "latest"), "say what either with --like RUN or with --problems"),
        (("--cron", "0 2 * * *", "--problems", "wordy"), "wordy"),
    ],
)
def test_a_schedule_that_could_not_run_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    database = str(tmp_path / "runs.db")
    with pytest.raises((ValueError, StoreError), match=says) as raised:
        invoke(*ADD, *words, "-d", database)
    assert getattr(raised.value, "exit_code", 2) in (2, 65)
    assert "\n" not in str(raised.value)
    if (tmp_path / "runs.db").exists():
        assert invoke("schedule", "list", "--json", "-d", database)[1] == ""


def test_a_schedule_that_cannot_be_read_hides_no_other_and_is_an_exit_code(
    tmp_path: Path,
) -> None:
    database = str(tmp_path / "runs.db")
    for name in ("broken", "nightly", "elsewhere"):
        invoke(*(name if word == "nightly" else word for word in ADD), "--every", "1h", "-d", database)
    with sqlite3.connect(database) as raw:
        raw.execute("update schedule set spec = '{' where name = 'broken'")
        raw.execute("update schedule set zone = 'Not/Here' where name = 'elsewhere'")
    assert invoke("serve", "--once", "-d", database)[0] == 65
    code, said = invoke("schedule", "list", "-d", database, "--json")
    assert (code, [json.loads(line)["name"] for line in said.splitlines()]) == (0, ["nightly"])
    with open_database(database) as opened:
        assert [each.name for each in readable(opened)[0]] == ["nightly"]

    for name in ("broken", "elsewhere"):
        for words in (("schedule", "show"), ("schedule", "now")):
            with pytest.raises(StoreError, match=f"'{name}' cannot be read"):
                invoke(*words, name, "-d", database)
        assert invoke("schedule", "pause", name, "-d", database)[0] == 0
        assert invoke("schedule", "remove", name, "-d", database)[0] == 0
    assert invoke("serve", "--once", "-d", database)[0] == 0


def test_what_is_not_a_bar_is_refused(tmp_path: Path) -> None:
    database = str(tmp_path / "runs.db")
    invoke(*ADD, "--every", "1h", "-d", database)
    with pytest.raises(ValueError, match="--bar must be an accuracy"):
        invoke("trend", "nightly", "--bar", "2", "-d", database)
    assert invoke("trend", "nightly", "-d", database) == (0, "schedule nightly has no finished run yet\n")


def test_a_schedule_is_made_like_a_run_paused_resumed_and_removed(tmp_path: Path) -> None:
    database = str(tmp_path / "runs.db")
    asked = spec_of("word:count=2", "greedy", sampling=GREEDY)
    with open_database(database) as opened:
        begin_run(opened, asked, load_problems(asked.problems), {})
    assert invoke("schedule", "add", "nightly", "--every", "6h", "--like", "latest", "-d", database)[0] == 0
    with open_database(database) as opened:
        spec = find_schedule(opened, "nightly").spec
    assert (str(spec.problems), spec.sampling.temperature, spec.weights, spec.slot) == ("word:count=2", 0.0, "", "")
    with pytest.raises(StoreError, match="there is no run 'nothing'"):
        invoke("schedule", "add", "other", "--every", "6h", "--like", "nothing", "-d", database)
    assert "is paused" in invoke("schedule", "pause", "nightly", "-d", database)[1]
    with pytest.raises(ValueError, match="is paused"):
        invoke("schedule", "now", "nightly", "-d", database)
    assert "is active; next" in invoke("schedule", "resume", "nightly", "-d", database)[1]
    assert "its 0 runs stay" in invoke("schedule", "remove", "nightly", "-d", database)[1]
    assert invoke("schedule", "list", "-d", database)[1] == "no schedules; ponderosa schedule add makes one\n"


@pytest.mark.slow
def test_the_five_minutes_of_the_readme(ponderosa: Command, tmp_path: Path) -> None:
    """Add, try, look: in processes of their own, with a hook and an alarm."""
    told = tmp_path / "told"
    hook = f"{sys.executable} -c \"import os; open('{told}', 'w').write(os.environ['PONDEROSA_EVENT'])\""
    added = ponderosa(*ADD, "--cron", "0 2 * * *", "--zone", "Europe/Berlin", "--bar", "1", "--hook", hook, cwd=tmp_path)
    assert added.code == 0, added.err
    assert ponderosa("schedule", "now", "nightly", cwd=tmp_path).code == 0
    served = ponderosa("serve", "--once", cwd=tmp_path)
    assert served.code in (0, 1), served.err
    assert "1 done" in served.err
    assert (served.code, told.exists()) in ((0, False), (1, True))
    trend = ponderosa("trend", "nightly", cwd=tmp_path)
    assert trend.code == served.code
    assert ponderosa("audit", cwd=tmp_path).code == 0


@pytest.mark.slow
def test_a_server_that_is_terminated_ends_within_ten_seconds_and_leaves_no_child_and_its_slot_goes_on_later(
    ponderosa: Command,
    tmp_path: Path,
) -> None:
    assert ponderosa(*ADD[:3], "--every", "1d", "--problems", "word:count=60", cwd=tmp_path).code == 0
    assert ponderosa("schedule", "now", "nightly", cwd=tmp_path).code == 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "flows.cli", "serve"]
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    with server:
        _until_candidates(tmp_path / ".ponderosa/ponderosa.db")
        children = psutil.Process(server.pid).children(recursive=True)
        assert children
        told = time.monotonic()
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=60)
        assert time.monotonic() - told < 10, errors
    assert server.returncode == 143, errors
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    shown = json.loads(ponderosa("schedule", "show", "nightly", "--json", cwd=tmp_path).out)
    assert [(slot["status"], slot["tries"]) for slot in shown["slots"]] == [("queued", 0)]
    again = ponderosa("serve", "--once", cwd=tmp_path)
    assert again.code == 0, again.err
    shown = json.loads(ponderosa("schedule", "show", "nightly", "--json", cwd=tmp_path).out)
    assert [slot["status"] for slot in shown["slots"]] == ["done"]
    assert ponderosa("audit", cwd=tmp_path).code == 0


def _until_candidates(path: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        time.sleep(0.2)
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as raw:
            if raw.execute("select count(*) from candidate").fetchone()[0]:
                return
    raise AssertionError("nothing was generated")


@pytest.mark.slow
def test_a_child_ends_with_a_server_that_is_killed_and_the_next_takes_its_slot_over(ponderosa: Command, tmp_path: Path) -> None:
    assert ponderosa(*ADD[:3], "--every", "1d", "--problems", "word:count=60", cwd=tmp_path).code == 0
    assert ponderosa("schedule", "now", "nightly", cwd=tmp_path).code == 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    server = subprocess.Popen([sys.executable, "-m", "flows.cli", "serve"], cwd=tmp_path, env=environment)
    _until_candidates(tmp_path / ".ponderosa/ponderosa.db")
    children = psutil.Process(server.pid).children(recursive=True)
    server.kill()
    server.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    again = ponderosa("serve", "--once", cwd=tmp_path)
    assert again.code == 0, again.err
    shown = json.loads(ponderosa("schedule", "show", "nightly", "--json", cwd=tmp_path).out)
    assert [(slot["status"], slot["tries"]) for slot in shown["slots"]] == [("done", 2)]
    assert ponderosa("audit", cwd=tmp_path).code == 0


@pytest.mark.crash  # half a minute, most of it Prefect's start
@pytest.mark.prefect
@pytest.mark.filterwarnings("default")
def test_a_deployment_runs_what_is_due_and_prefects_duplicates_find_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    from flows.schedule import deploying
    from flows.schedule.flow import slots

    database = str(tmp_path / "runs.db")
    monkeypatch.setenv("PONDEROSA_DATABASE", database)
    invoke(*ADD, "--cron", "30 2 * * *", "--zone", "Europe/Berlin", "-d", database)
    invoke("schedule", "now", "nightly", "-d", database)
    with prefect_test_harness(server_startup_timeout=240):
        for again in (False, True):
            said = invoke("deploy", "nightly", "-d", database)[1]
            assert ("(made)" in said) is not again
            assert ("(updated)" in said) is again
        with get_client(sync_client=True) as client:
            [found] = client.read_deployments()
            [automation] = client.read_automations_by_name(deploying.AUTOMATION)
        assert found.parameters == {"schedule": "nightly", "database": database}
        assert [(each.schedule.cron, each.schedule.timezone) for each in found.schedules] == [("30 2 * * *", "Europe/Berlin")]
        assert found.global_concurrency_limit is None
        assert automation.trigger.within == timedelta(seconds=120)
        states = [slots("nightly", database, return_state=True) for _ in range(2)]
    assert [state.type.value for state in states] == ["COMPLETED", "COMPLETED"]
    assert [state.message for state in states] == ["1 done", "nothing is due: a duplicate"]
    with open_database(database) as opened:
        assert audit(opened).clean
    with sqlite3.connect(database) as raw:
        assert raw.execute("select count(*) from run").fetchone() == (1,)


def test_a_deployment_without_a_server_is_refused_in_one_line(tmp_path: Path) -> None:
    database = str(tmp_path / "runs.db")
    invoke(*ADD, "--every", "1h", "-d", database)
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "flows.cli", "deploy", "nightly", "-d", database]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("ponderosa: deploy needs a Prefect server: start one")
    assert len(done.stderr.splitlines()) == 1


def test_the_prefect_file_names_flows_that_are_there_and_parameters_that_they_have() -> None:
    import yaml
    from prefect.flows import load_flow_from_entrypoint

    root = Path(__file__).parent.parent
    found = yaml.safe_load((root / "flows/prefect.yaml").read_text())["deployments"]
    flows = {each["name"]: load_flow_from_entrypoint(str(root / each["entrypoint"])) for each in found}
    assert sorted(flow.name for flow in flows.values()) == ["evaluate", "report", "rescore", "retrain", "slots", "sweep"]
    for each in found:
        form = flows[each["name"]].parameters
        assert set(each.get("parameters", {})) <= set(form.properties)
        assert "schedules" in each or form.required, "it has a form to fill in"


def test_a_slot_by_hand_hides_none_that_came_before_it(tmp_path: Path) -> None:
    database = str(tmp_path / "runs.db")
    invoke(*ADD, "--every", "1h", "--catch-up", "all", "-d", database)
    with open_database(database) as opened, opened.write() as connection:
        before = datetime.now(UTC) - timedelta(hours=5, minutes=30)
        connection.execute(update(schema.schedule).values(since=stamp(before), anchor=stamp(before)))
    invoke("schedule", "now", "nightly", "-d", database)
    slots = json.loads(invoke("schedule", "show", "nightly", "--json", "-d", database)[1])["slots"]
    assert [slot["reason"] for slot in slots].count("asked for by hand") == 1
    assert [slot["status"] for slot in slots].count("queued") == 6


def test_what_is_evaluated_is_said_as_for_run_by_flags_and_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text("problems: jsonl:file=set.jsonl\nstrategy: greedy\nstop: [The end]\n")
    Path("set.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    words = ("--every", "6h", "-d", "runs.db", "--file", "spec.yaml", "--top-p", "0.9", "--json")
    told = json.loads(invoke("schedule", "add", "nightly", *words)[1])
    assert told["spec"]["problems"]["params"]["file"] == str(tmp_path / "set.jsonl")
    assert (told["spec"]["stops"], told["spec"]["sampling"]["top_p"], len(told["next"])) == (["The end"], 0.9, 3)
    Path("spec.yaml").write_text("problems: word:count=2\nseed: [0, 1]\n")
    with pytest.raises(ValueError, match=r"a schedule evaluates one run, and 'spec.yaml' has 2"):
        invoke("schedule", "add", "weekly", "--every", "7d", "-d", "runs.db", "-f", "spec.yaml")
