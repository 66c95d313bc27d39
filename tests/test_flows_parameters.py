"""What a form on Prefect's page is made of, what it refuses, and that a run's parameters are its spec."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from flows.parameters import Grid, ReportParameters, RescoreParameters, RetrainParameters, RunParameters
from flows.parts import spec
from search.select import SELECTORS
from search.strategies import STRATEGIES
from verifiers.graders import GRADERS
from verifiers.registry import VERIFIERS

SPECS = [
    spec("word:count=5", "best-of-n:n=4", budget="32k"),
    spec("word:count=5,levels=2-3", "beam:n=4,keep=2", "prm:join=prod", seed=3, stops=("Q:",)),
    spec("jsonl:file=a b.jsonl,style=gsm8k", "fetch:of=astar,distance=0.2", flops=2e12, constraint="a|b"),
    spec("word", "entropy-adaptive:tau=0.3", "equation", tokens=99, step_tokens=9),
]


def schema(model: type[Any]) -> dict[str, Any]:
    return dict(model.model_json_schema())


def names(of: dict[str, Any], field: str) -> list[str]:
    """The choices that a form offers for a piece's name."""
    ref = of["properties"][field]["$ref"].rpartition("/")[2]
    return list(of["$defs"][ref]["properties"]["name"]["enum"])


@pytest.mark.parametrize("asked", SPECS, ids=lambda each: each.strategy.name)
def test_a_spec_is_its_parameters_and_back_also_through_json(asked: Any) -> None:
    made = RunParameters.model_validate(asked.json())
    assert made.spec() == asked
    sent = json.loads(made.model_dump_json())
    assert RunParameters.model_validate(sent).spec().id == asked.id, "Prefect sends them as JSON"


def test_every_field_of_a_run_says_what_it_is() -> None:
    for model in (RunParameters, Grid, RescoreParameters, ReportParameters, RetrainParameters):
        fields = schema(model)["properties"]
        assert [name for name, field in fields.items() if not field.get("description")] == []


def test_a_form_offers_the_names_that_there_are() -> None:
    of = schema(RunParameters)
    assert names(of, "strategy") == list(STRATEGIES)
    assert names(of, "verifier") == list(VERIFIERS)
    assert names(of, "problems") == ["word", "countdown", "guess", "jsonl"]
    assert of["properties"]["selector"]["anyOf"][0]["enum"] == list(SELECTORS)
    assert schema(RescoreParameters)["properties"]["grader"]["anyOf"][0]["enum"] == list(GRADERS)


def test_a_form_says_what_is_least() -> None:
    fields = schema(RunParameters)["properties"]
    assert (fields["temperature"]["minimum"], fields["temperature"]["maximum"]) == (0, 100)
    assert fields["tokens"]["minimum"] == 1
    assert fields["budget"]["anyOf"][0]["minimum"] == 1
    assert fields["top_p"]["exclusiveMinimum"] == 0


def test_no_parameter_is_a_secret() -> None:
    for model in (RunParameters, RescoreParameters, ReportParameters, RetrainParameters):
        assert not [name for name in model.model_fields if any(word in name for word in ("password", "secret", "key", "dsn"))]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"strategy": "best_of_n"}, "unknown strategy 'best_of_n'; did you mean 'best-of-n'"),
        ({"strategy": {"name": "beam", "params": {"width": 3}}}, "strategy 'beam' has no parameter 'width'"),
        ({"strategy": "best-of-n:n=0"}, "n must be at least 1, not 0"),
        ({"verifier": "prn"}, "unknown verifier 'prn'"),
        ({"verifier": "prm:joint=min"}, "verifier 'prm' has no parameter 'joint'"),
        ({"selector": "majority", "strategy": "greedy"}, "strategy 'greedy' has no parameter 'select'"),
        ({"temprature": 1}, "unknown parameter 'temprature'; did you mean 'temperature'"),
        ({"temperature": -1}, "greater than or equal to 0"),
        ({"tokens": 0}, "greater than or equal to 1"),
        ({"mirostat_tau": 3, "top_k": 5}, "mirostat_tau replaces top_k"),
        ({"budget": "many"}, "'many' is not a count"),
    ],
)
def test_what_cannot_be_is_refused_with_our_own_words(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RunParameters.model_validate(raw)
    assert said in str(caught.value)


def test_weights_that_are_not_here_are_refused() -> None:
    with pytest.raises(ValueError, match="the run is of models with weights 'other'"):
        RunParameters.model_validate({"weights": "other"}).spec()


def test_a_grid_is_each_run_at_each_point_with_the_strategys_own_words() -> None:
    base = RunParameters.model_validate({"strategy": "best-of-n:n=2", "seed": 7})
    found = [each.spec() for each in Grid.model_validate({"n": [4, 8], "selector": ["majority", "best"]}).of([base])]
    assert [(s.strategy.params["n"], s.strategy.params["select"]) for s in found] == [
        (4, "majority"),
        (4, "best"),
        (8, "majority"),
        (8, "best"),
    ]
    assert {s.seed for s in found} == {7}
    assert Grid.model_validate({}).of([base]) == [base]
    with pytest.raises(ValueError, match="strategy 'greedy' has no parameter 'n'"):
        Grid.model_validate({"n": [4], "strategy": ["greedy"]}).of([base])


def test_a_rescore_needs_someone_to_do_it() -> None:
    with pytest.raises(ValidationError, match="name a verifier or a grader"):
        RescoreParameters.model_validate({"run": "latest"})


def test_the_flows_parameters_are_those_models_on_prefects_page() -> None:
    from flows import after, evaluate

    page = {each.name: each.parameters.model_dump() for each in (evaluate.evaluate, evaluate.sweep, after.retrain_model)}
    assert page["evaluate"]["required"] == ["spec"]
    assert page["evaluate"]["properties"]["spec"]["title"] == "spec"
    run = page["evaluate"]["definitions"]["RunParameters"]["properties"]
    assert run["temperature"]["minimum"] == 0
    assert page["evaluate"]["definitions"]["StrategyPiece"]["properties"]["name"]["enum"] == list(STRATEGIES)
    assert "form" not in page["sweep"]["properties"]["grid"]
    assert page["retrain"]["definitions"]["RetrainParameters"]["properties"]["tokens"]["minimum"] == 1
