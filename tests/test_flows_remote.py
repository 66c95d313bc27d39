"""Runs whose generator is behind a server: the same strategies, journal, store and ledger as with the core in the process.

The server has the core itself behind it, so what comes of a search can be compared with the search in one process.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeGenerator
from laws import World
from openai_server import Fault, Manner, OnCore, OpenAIServer, Scripted
from test_flows_work import SETTINGS, rows
from test_pipelines_remote import story

from flows import audit, work
from flows.parts import model_part, spec
from flows.remote import DECODERS, STEPWISE, TOKENWISE
from pipelines.models import ModelError
from pipelines.remote.errors import Away
from search.strategies import STRATEGIES, build
from search.types import GREEDY, Extend, Part, RunSpec, Sampling, Until
from store.database import Database, open_database
from store.runs import find_run

PROBLEMS = "word:count=2,levels=2-4,seed=3"
SHAPES = ("astar", "beam", "best-of-n", "fetch", "first-finish", "greedy", "self-agreement")
REFUSED = (*TOKENWISE, *DECODERS)
KEY, PASSWORD = "sk-planted-0123456789abcdef", "planted-password"


@pytest.fixture(scope="module")
def core() -> Iterator[OpenAIServer]:
    from pipelines.models import load_generator

    with OpenAIServer(OnCore(load_generator())) as server:
        yield server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(tmp_path / "runs.db") as opened:
        yield opened


def remote(server: OpenAIServer, strategy: str, options: str = "", **more: Any) -> RunSpec:
    return spec(PROBLEMS, strategy, generator=f"openai:{server.url}{options}", tokens=120, step_tokens=48, **more)


def clean(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing lost, nothing counted twice, and every search replays to what is stored."""
    found = audit.run(database, None, None)
    assert found == 0, capsys.readouterr().out


SEARCHED = """
    select a.run_id, problem_key, c.path, text, c.state, tokens, c.logprob, hex(substr(packed, 1, 4))
    from candidate c join attempt a on a.id = attempt_id"""
CHOSEN = (
    "select run_id, problem_key, path, answer, generated_tokens, sequential_tokens, candidates, verifier_passes from attempt"
)


@pytest.mark.parametrize(
    "strategy", ["greedy", "beam:n=4,keep=2", "best-of-n:n=3,select=weighted", "first-finish:n=3,m=2", "astar:k=2"]
)
def test_at_temperature_0_a_search_over_http_is_the_search_in_the_process(
    core: OpenAIServer, database: Database, strategy: str
) -> None:
    """To the token and its log-probability: the chat template, separators and end tokens go over the wire and come back."""
    local = spec(PROBLEMS, strategy, tokens=120, step_tokens=48, sampling=GREEDY)
    far = remote(core, strategy, ":tokenizer=bundled", sampling=GREEDY)
    for each in (local, far):
        work.evaluate(database, each)
    for asked in (SEARCHED, CHOSEN):
        found: dict[Any, list[Any]] = {}
        for run, *row in sorted(rows(database, asked), key=repr):
            found.setdefault(run, []).append(row)
        assert found[local.id] == found[far.id]
        assert len(found[far.id]) >= 2


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in SHAPES else pytest.mark.slow) for name in STRATEGIES])
def test_each_strategy_runs_through_or_is_refused_in_one_line(
    core: OpenAIServer, database: Database, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    setting = SETTINGS[name].replace("how=embedding", "how=text")
    if name in REFUSED:
        with pytest.raises(ValueError, match="server"):
            work.evaluate(database, remote(core, setting))
        return
    asked = remote(core, setting)
    work.evaluate(database, asked)
    assert rows(database, "select distinct status from attempt") == [("done",)]
    assert rows(database, "select count(*) from candidate where logprob is null or certainty is not null") == [(0,)]
    assert find_run(database, asked.id).environment["server"].startswith("streams, usage")
    clean(database, capsys)


def test_a_run_goes_on_where_its_server_went_away(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 75, and what was answered is not asked for again."""
    broken = [False]

    def fault(number: int, body: dict[str, Any]) -> Fault | None:
        broken[0] = broken[0] or number == 9
        return Fault(503) if broken[0] else None

    with OpenAIServer(Scripted(_counted), fault=fault) as server:
        asked = remote(server, "beam:n=3,keep=1", ":retries=0,concurrency=1", verifier="equation")
        with pytest.raises(Away) as raised:
            work.evaluate(database, asked)
        assert raised.value.exit_code == 75
        before = rows(database, "select attempt_id, path, text from candidate")
        server.fault = lambda number, body: None
        work.resume(database, asked)
        assert {*before} <= {*rows(database, "select attempt_id, path, text from candidate")}
        seeds = [each.body["seed"] for each in server.asked]
        answered = [seed for number, seed in enumerate(seeds, 1) if number < 9]
        assert not {*answered[:3]} & {*seeds[9:]}  # the first beam's rows were journaled
    clean(database, capsys)


def _counted(prompt: str, seed: int) -> list[str]:
    steps = prompt.count("\n\n") - 1
    return [f"{seed % 7}+1={seed % 7 + 1}.", "\n", "\n"] if steps < 2 else ["\\boxed{", str(seed % 3), "}"]


def test_a_server_that_has_another_model_now_is_refused(core: OpenAIServer, database: Database) -> None:
    asked = remote(core, "greedy")
    assert asked.weights.startswith("openai/bundled@")
    with pytest.raises(ValueError, match=r"made with weights 'openai/other@.*start a new run"):
        work.check(replace(asked, weights="openai/other@12345678 " + asked.weights.split(" ", 1)[1]))


# ------------------------------------------------------------------------------------------------------------ refusals


def test_the_strategies_that_decide_between_tokens_are_known() -> None:
    """A strategy that is added, or asks for more, must be put in its place: a server could not answer it in mid-run."""
    tokenwise, stepwise = set(), set()
    for name in STRATEGIES:
        seen: list[Extend] = []

        class Watched(FakeGenerator):
            def submit(self, search: int, request: Extend) -> None:
                seen.append(request)  # noqa: B023
                super().submit(search, request)

        World(generator=Watched, names=("p0",)).run(build(Part(name)))
        if any(each.rules.pause or any(row.begin for row in each.rows) for each in seen):
            tokenwise.add(name)
        elif any(each.until is Until.STEP for each in seen):
            stepwise.add(name)
    assert tokenwise == {*TOKENWISE}
    assert stepwise == {*STEPWISE}


@pytest.mark.parametrize(
    ("strategy", "more", "says"),
    [
        ("adadec", {}, "decides between two tokens"),
        ("mirostat", {}, "local core"),
        ("best-of-n:select=self-certainty", {}, "reads self-certainty, which it does not tell"),
        ("best-of-n:select=borda", {}, "reads self-certainty"),
        ("best-of-n:select=deepconf", {}, "--confidence 5"),
        ("best-of-n", {"verifier": "entropy"}, "reads whole distributions"),
        ("best-of-n", {"verifier": "confidence"}, "keep them with --confidence"),
        ("best-of-n", {"verifier": "ensemble:of=equation+self-certainty"}, "reads whole distributions"),
        ("best-of-n", {"sampling": Sampling(top_k=5)}, "extras=true"),
        ("fetch", {}, "hidden states"),
        ("deepconf:k=0", {}, "set k=5"),
        ("knockout:by=small", {}, "smaller sibling"),
        ("best-of-n", {"flops": 1e9}, "parameters="),
    ],
)
def test_what_a_server_cannot_do_is_refused_before_the_run_starts(
    core: OpenAIServer, strategy: str, more: dict[str, Any], says: str
) -> None:
    before = len(core.asked)
    with pytest.raises(ValueError, match=says) as raised:
        work.check(remote(core, strategy, **more))
    assert "\n" not in str(raised.value)
    assert len(core.asked) == before


@pytest.mark.parametrize(
    ("strategy", "verifier"), [("best-of-n", "logprob"), ("best-of-n:select=logprob", "prm"), ("mcts", "prm"), ("pg-td", "prm")]
)
def test_what_reads_log_probabilities_is_refused_where_the_server_tells_none(strategy: str, verifier: str) -> None:
    with OpenAIServer(Scripted(story), Manner(logprobs=0)) as server:
        with pytest.raises(ValueError, match="which the server does not tell"):
            work.check(remote(server, strategy, verifier=verifier))
        work.check(remote(server, "mcts:prior=uniform"))


def test_confidences_are_refused_where_the_server_tells_fewer() -> None:
    with OpenAIServer(Scripted(story), Manner(logprobs=5)) as server:
        work.check(remote(server, "deepconf:k=5"))
        with pytest.raises(ValueError, match="20 likeliest tokens"):
            work.check(remote(server, "deepconf:k=20"))


def test_a_chat_is_refused_strategies_that_go_on_from_steps() -> None:
    with OpenAIServer(Scripted(story)) as server, pytest.raises(ValueError, match="a chat cannot be gone on from"):
        work.check(remote(server, "beam", ":api=chat"))


# ------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("typed", "name", "params"),
    [
        ("openai:http://h:8000/v1", "openai:http://h:8000/v1", {}),
        ("openai:http://h:8000", "openai:http://h:8000/v1", {}),
        ("openai:https://h/api/v3/:model=llama3:8b,n=4", "openai:https://h/api/v3", {"model": "llama3:8b", "n": 4}),
        (
            "openai:http://[::1]:8000/v1:timeout=2.5,extras=true",
            "openai:http://[::1]:8000/v1",
            {"timeout": 2.5, "extras": True},
        ),
        ("openai:http://h/v1:model=/models/a@b", "openai:http://h/v1", {"model": "/models/a@b"}),
    ],
)
def test_a_server_is_named_by_its_url_and_options(typed: str, name: str, params: dict[str, Any]) -> None:
    found = model_part(typed)
    assert (found.name, found.params) == (name, params)
    assert model_part(str(found)) == found


@pytest.mark.parametrize(
    "typed",
    [
        f"openai:http://user:{KEY}@h:8000/v1",
        f"openai:http://{KEY}@h:8000/v1",
        f"openai:http://user:a={KEY}@h/v1",
        f"openai:http://h:8000/v1?key={KEY}",
        f"openai:http://h:8000/v1?key={KEY}:model=x",
        f"openai:http://h:8000/v1#{KEY}",
        f"openai:http://h:8000/v1:api_key={KEY}",
        f"openai:http://h:8000/v1:model=x,key={KEY}",
        f"openai:http://h:8000/v1:model=x,{KEY}",
        f"openai:{KEY}",
        f"openai:ftp://h/{KEY}",
    ],
)
def test_a_key_is_taken_from_no_argument_and_shown_in_no_message(typed: str) -> None:
    with pytest.raises(ModelError) as raised:
        model_part(typed)
    assert KEY not in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "typed", ["concurrency=0", "n=0", "rpm=-1", "timeout=0", "api=assistants", "concurrency=many", "modle=x"]
)
def test_an_option_that_cannot_be_is_said(typed: str) -> None:
    from pipelines.remote import place_of

    def meant() -> None:
        found = model_part(f"openai:http://h/v1:{typed}")
        place_of(found.name, found.params)

    with pytest.raises(ModelError, match=typed.partition("=")[0]) as raised:
        meant()
    assert raised.value.exit_code == 2, "as of every flag"


def _texts(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def _ponderosa(folder: Path, *arguments: str, **environment: str) -> str:
    """All that a command says, and all that is in its folder then."""
    here = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "PREFECT_HOME": str(folder / "prefect"),
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments], capture_output=True, text=True, cwd=folder, env=here, timeout=300
    )
    return f"exit {done.returncode}\n{done.stdout}{done.stderr}{_texts(folder)}"


@pytest.mark.crash
def test_planted_secrets_are_in_no_output_no_file_and_no_database(tmp_path: Path) -> None:
    """The key is one that the server refuses and repeats in its error; the database's password is of one that is away."""
    with OpenAIServer(Scripted(_counted), key=KEY) as server:
        run = (
            "run",
            "--problems",
            PROBLEMS,
            "--strategy",
            "beam:n=2,keep=1",
            "--verifier",
            "equation",
            "--plain",
            "--generator",
            f"openai:{server.url}",
        )
        well = _ponderosa(tmp_path, *run, PONDEROSA_API_KEY=KEY, PONDEROSA_DEBUG="1")
        server.key = "another"
        refused = _ponderosa(tmp_path, *run, PONDEROSA_API_KEY=KEY)
        shown = _ponderosa(tmp_path, *run, PONDEROSA_API_KEY=KEY, PONDEROSA_DEBUG="1")
        server.key = KEY
        url = f"postgresql://someone:{PASSWORD}@127.0.0.1:9/runs"
        away = _ponderosa(tmp_path, *run, "--database", url, PONDEROSA_API_KEY=KEY, PONDEROSA_DEBUG="1")
    assert well.startswith("exit 0")
    assert server.url in well  # in the spec, which is in the database: the search did look there
    assert refused.startswith("exit 65")
    assert "refuses the key, HTTP 401 (wrong key Bearer ***)" in refused
    assert "Traceback" in shown
    assert "Traceback" in away
    for each in (well, refused, shown, away):
        assert KEY not in each
        assert PASSWORD not in each


def test_a_planted_key_is_in_no_log_and_no_exception(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The libraries' own logs, at their most talkative."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIServer(Scripted(_counted), key=KEY) as server:
        asked = remote(server, "greedy", verifier="equation")
        model = work.generator_of(asked.generator)
        assert server.seen[-1].headers["authorization"] == f"Bearer {KEY}"
        server.key = "another"
        with pytest.raises(ModelError) as raised:
            work.check(asked)
    assert "http11" in caplog.text or "httpcore" in caplog.text
    for each in (caplog.text, repr(model), repr(raised.value), asked.json(), str(asked)):
        assert KEY not in each


def test_a_key_that_no_header_can_carry_is_said_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDEROSA_API_KEY", "schl\u00fcssel-geheim")
    with pytest.raises(ModelError, match="PONDEROSA_API_KEY holds characters") as raised:
        spec(PROBLEMS, "greedy", generator="openai:http://127.0.0.1:9/v1")
    assert "geheim" not in str(raised.value)


@pytest.mark.crash  # half a minute, most of it Prefect's start
@pytest.mark.prefect
def test_a_planted_key_is_in_no_parameter_and_no_page_of_prefect(tmp_path: Path) -> None:
    with OpenAIServer(Scripted(_counted), key=KEY) as server:
        run = (
            "run",
            "--problems",
            PROBLEMS,
            "--strategy",
            "beam:n=2,keep=1",
            "--verifier",
            "equation",
            "--generator",
            f"openai:{server.url}",
        )
        said = _ponderosa(tmp_path, *run, PONDEROSA_API_KEY=KEY)
    assert said.startswith("exit 0")
    assert (tmp_path / "prefect" / "prefect.db").is_file()
    assert server.url in _texts(tmp_path / "prefect")  # the flow's parameters are there
    assert KEY not in said
