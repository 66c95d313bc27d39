"""Spec files: what the flags say in a file, what comes of several runs in one, and the file that repeats a run exactly."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from command import Command
from test_flows_work import SETTINGS

from flows import grid
from flows.cli.options import spec_flags
from flows.parts import spec
from flows.spec_file import RunFile, checked, of, text
from search.types import Part, RunSpec, Sampling


def again(made: RunSpec) -> RunSpec:
    """The run that the printed file asks for."""
    (raw,) = grid.of_content(yaml.safe_load(text([of(made)])))
    return checked(raw).spec()


# ------------------------------------------------------------------------------------------------------ a run, and back


@pytest.mark.parametrize("strategy", SETTINGS.values())
def test_the_printed_file_of_any_strategy_asks_for_the_same_run(strategy: str) -> None:
    made = spec("countdown:count=7,seed=3", strategy, "logprob", seed=5)
    assert again(made) == made
    assert again(made).id == made.id


@pytest.mark.parametrize(
    "flags",
    [
        {"sampling": Sampling(0.7, 20, 0.95, 0.01, repetition_penalty=1.1), "budget": "2k", "flops": 2e12, "seconds": 1.5},
        {"sampling": Sampling(1.0, mirostat_tau=3.0, mirostat_eta=0.2), "passes": 7, "candidates": 9},
        {"stops": ("The end", "##", "\n\n", "no", "- x: y"), "tokens": 99, "step_tokens": 9, "seed": 2**40},
        {"constraint": r"^[^#:]*\d{2}: 'a' \\ \" $", "verifier": "prm:join=last"},
        {"generator": "bundled:dtype=float32", "problems": "jsonl:file=a:b.jsonl,limit=3"},
    ],
)
def test_whatever_a_flag_may_say_comes_back_from_the_file(flags: dict[str, object]) -> None:
    made = spec(**{"problems": "word", "strategy": "best-of-n", **flags})  # type: ignore[arg-type]
    assert again(made).json() == made.json()


def test_a_parameter_that_words_cannot_hold_is_written_as_a_mapping() -> None:
    """The plan of `allocated` has commas, and a number in quotes would come back as a number."""
    plan = json.dumps({"4": ["a", "b"], "8": ["c"]})
    made = spec("word:count=3", "allocated")
    made = replace(made, strategy=Part("allocated", {**made.strategy.params, "plan": plan}))
    assert again(made).strategy.params["plan"] == plan
    assert again(made).id == made.id
    quoted = replace(made, problems=Part("jsonl", {"file": "007", "limit": 3}), strategy=spec("word", "greedy").strategy)
    assert again(quoted).json() == quoted.json()


def test_other_weights_than_the_files_are_refused() -> None:
    made = of(spec("word", "greedy")).model_copy(update={"weights": "00000000"})
    with pytest.raises(ValueError, match="weights '00000000', and here they are '"):
        made.spec()


def test_the_keys_are_the_flags_with_their_defaults() -> None:
    flags = dict(inspect.signature(spec_flags, eval_str=True).parameters)
    for only_flags in ("file", "settings"):
        del flags[only_flags]
    fields = RunFile.model_fields
    assert set(fields) - {"weights", "name"} == set(flags)
    for name, flag in flags.items():
        default = fields[name].default
        assert flag.default == (list(default) if isinstance(default, tuple) else default), name


# ------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("strateyg: beam", "unknown key 'strateyg'; did you mean 'strategy'?"),
        ("sampling: {temperature: 1}", "unknown key 'sampling'"),
        ("strategy: beem", "unknown strategy 'beem'; did you mean 'beam'?"),
        ("strategy: beam:m=3", "strategy 'beam' has no parameter 'm'"),
        ("strategy: {name: beam, parms: {n: 3}}", "strategy.parms"),
        ("verifier: prn", "unknown verifier 'prn'; did you mean 'prm'?"),
        ("temperature: hot", "temperature is 'hot': input should be a valid number"),
        ("temperature: -1", "temperature must be between 0 and 100, not -1.0"),
        ("top-p: 0", "top_p must be above 0 and at most 1, not 0.0"),
        ("seed: 1.5", "seed is 1.5: input should be a valid integer"),
        ("seed: yes", "seed: must not be true; write it in quotes, or as a number"),
        ("budget: many", "'many' is not a count"),
        ("budget: 0", "budget of tokens must be at least 1, not 0"),
        ("constraint: no", "constraint: must not be false; write it in quotes"),
        ("stop: [1, ['a']]", "stop.1"),
        ("seed: 1\nseed: 2", "line 2: 'seed' is given twice"),
        ("runs: []", "runs must be KEY: VALUE lines, or a list of runs"),
        ("runs: [{seed: 1}, 3]", "runs must be KEY: VALUE lines, or a list of runs"),
        ("seed: []", "seed has no values"),
        ("seed: [1\n", "no YAML"),
        ("just words", "it must be KEY: VALUE lines, or a list of runs"),
        ("", "it must be KEY: VALUE lines, or a list of runs"),
        ("seed: !!python/object/apply:os.getpid []", "no YAML"),
    ],
)
def test_what_a_file_may_not_say_is_one_line_with_its_name(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"a\.yaml") as raised:
        grid.asked(str(tmp_path / "a.yaml"), {})
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 65  # type: ignore[attr-defined]


def test_a_grid_that_nobody_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="a grid of more than 10,000 runs"):
        grid.spread({"seed": list(range(200)), "budget": list(range(200))})


# ------------------------------------------------------------------------------------------------------------ several runs


def test_runs_of_a_file_take_what_stands_beside_them_and_lists_are_a_grid(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        'problems = "word:count=2"\nbudget = [300, "1k"]\n[[runs]]\nstrategy = "greedy"\n'
        '[[runs]]\nstrategy = {name = "beam", params = {n = 4}}\nbudget = 500\n'
    )
    specs, names = grid.asked(str(tmp_path / "a.toml"), {})
    assert names == ["greedy budget 300", "greedy budget 1k", "beam:n=4 budget 500"]
    assert [each.budget.tokens for each in specs] == [300, 1000, 500]
    assert {str(each.problems) for each in specs} == {"word:count=2"}


def test_flags_win_over_the_file_and_give_up_its_fingerprints_with_its_models(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("strategy: beam\nseed: 3\nweights: 437592d6 00000000\n")
    with pytest.raises(ValueError, match="here they are"):
        grid.asked(str(file), {"seed": 4})
    ((made,), (name,)) = grid.asked(str(file), {"seed": 4, "verifier": "logprob"}, ["n=8"])
    assert (made.seed, made.verifier.name, made.strategy.params["n"], name) == (4, "logprob", 8, "beam,n=8")


def test_of_several_runs_those_that_embed_have_the_encoder() -> None:
    specs, _ = grid.asked(None, {"strategy": ["greedy", "fetch:of=beam,how=embedding"], "encoder": "hidden"})
    assert [each.encoder and each.encoder.name for each in specs] == [None, "hidden"]
    with pytest.raises(ValueError, match="none of these strategies embeds; leave --encoder hidden out"):
        grid.asked(None, {"strategy": ["greedy", "beam"], "encoder": "hidden"})


def test_the_file_of_a_sweep_says_what_is_shared_once(command: Command) -> None:
    words = ("--strategy", "greedy", "--strategy", "best-of-n:n=2", "--problems", "word:count=1", "--seed", "1", "--seed", "2")
    done = command("sweep", *words, "--plain", "--json")
    ids = [json.loads(line)["run"] for line in done.out.splitlines()]
    files = [json.loads(line)["file"] for line in done.out.splitlines()]
    assert len(set(ids)) == 4
    printed = command("sweep", *words, "--plain").out.partition("# as FILE.yaml")[2].partition("\n")[2]
    assert printed.count("problems:") == 1
    assert yaml.safe_load(printed).keys() >= {"problems", "verifier", "runs"}
    Path("all.yaml").write_text(printed)
    assert [json.loads(line)["run"] for line in command("run", "-f", "all.yaml", "--plain", "--json").out.splitlines()] == ids
    Path("one.yaml").write_text(files[2])
    assert json.loads(command("run", "-f", "one.yaml", "--plain", "--json").out)["run"] == ids[2]


def test_a_run_its_printed_file_and_the_run_of_that_file_are_one(command: Command) -> None:
    flags = ("--stop", "The end", "--top-p", "0.9", "--budget", "1k", "--set", "n=2", "--name", "mine")
    first = command("run", "--problems", "word:count=2", *flags, "--plain")
    assert first.code == 0, first.err
    Path("spec.yaml").write_text(command("show", "mine", "--spec").out)
    assert Path("spec.yaml").read_text() in first.out
    again = json.loads(command("run", "--file", "spec.yaml", "--plain", "--json").out)
    assert (again["name"], again["status"]) == ("mine", "done")
    assert f"runs      {again['run']}\n" in first.out
    assert len(command("runs", "--json").out.splitlines()) == 1
