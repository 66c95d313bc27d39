"""What the flows are called with, as pydantic models: Prefect's page makes a form of them and refuses what cannot be.

A description of RunSpec's fields under the names of the command line's flags, and nothing else: what a value may be is said
where it is used. A piece (a strategy, a verifier, a problem set, a model) is given as on the command line,
NAME:KEY=VALUE,..., or as its name and its parameters. No secret is among them: Prefect stores what a flow is called with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidatorFunctionWrapHandler, model_validator
from pydantic.json_schema import WithJsonSchema

from flows import parts
from pipelines.problems import FAMILIES
from search.checks import one_of
from search.select import SELECTORS
from search.strategies import STRATEGIES, build
from search.types import Budget, Part, RunSpec, Sampling
from verifiers.graders import GRADERS
from verifiers.registry import VERIFIERS, check_verifier

PROBLEM_SETS = (*FAMILIES, "jsonl")
SAMPLING = tuple(each.name for each in fields(Sampling))
COSTS = tuple(each.name for each in fields(Budget) if each.name != "tokens")


def _named(what: str, known: Sequence[str]) -> tuple[Any, ...]:
    """The annotations of a name that must be a known one."""

    def check(value: object) -> object:
        if isinstance(value, str):
            one_of(what, value, known)
        return value

    return BeforeValidator(check), WithJsonSchema({"type": "string", "enum": list(known)})


class Piece(BaseModel):
    """A named piece of a run with its parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="its name")
    params: dict[str, Any] = Field(default_factory=dict, description="KEY: VALUE, what differs from its defaults")

    @model_validator(mode="before")
    @classmethod
    def _from_words(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            raw = cls._read(raw)
        return {"name": raw.name, "params": dict(raw.params)} if isinstance(raw, Part) else raw

    @classmethod
    def _read(cls, text: str) -> Part:
        return parts.part(text)

    def part(self) -> Part:
        return Part(self.name, dict(self.params))


class StrategyPiece(Piece):
    """How the tokens are spent."""

    name: Annotated[str, *_named("strategy", tuple(STRATEGIES))] = Field(description="`ponderosa strategies` lists them")

    @model_validator(mode="after")
    def _sound(self) -> StrategyPiece:
        build(self.part())
        return self


class VerifierPiece(Piece):
    """What steers a search or chooses its answer; it sees no reference."""

    name: Annotated[str, *_named("verifier", tuple(VERIFIERS))] = Field(description="what judges")

    @model_validator(mode="after")
    def _sound(self) -> VerifierPiece:
        check_verifier(self.part())
        return self


class ProblemsPiece(Piece):
    """A problem set."""

    name: Annotated[str, *_named("problem set", PROBLEM_SETS)] = Field(description="a family, or a file (jsonl)")


class ModelPiece(Piece):
    """A language model: 'bundled', a folder, a hub name."""

    @classmethod
    def _read(cls, text: str) -> Part:
        return parts.model_part(text)


SelectorName = Annotated[str, *_named("selector", tuple(SELECTORS))]
GraderName = Annotated[str, *_named("grader", tuple(GRADERS))]


class RunParameters(BaseModel):
    """One run. Every field has the command line's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    problems: ProblemsPiece = Field(ProblemsPiece(name="word", params={"count": 50}), description="what is to be solved")
    strategy: StrategyPiece = Field(StrategyPiece(name="best-of-n"), description="how")
    selector: SelectorName | None = Field(None, description="who chooses the answer, for strategies with `select`; else theirs")
    verifier: VerifierPiece = Field(VerifierPiece(name="prm"), description="who judges")
    generator: ModelPiece = Field(ModelPiece(name="bundled"), description="'bundled', a Hugging Face folder or a hub name")
    encoder: Piece | None = Field(None, description="for strategies that embed: hidden or sentence-transformers")
    small: ModelPiece | None = Field(None, description="a smaller generator, for strategies that switch to one")
    budget: int | None = Field(None, ge=1, description="tokens one problem may cost")
    passes: int | None = Field(None, ge=1, description="verifier passes one problem may cost")
    candidates: int | None = Field(None, ge=1, description="candidates one problem may have")
    flops: float | None = Field(None, gt=0, description="FLOPs one problem may cost")
    seconds: float | None = Field(None, gt=0, description="seconds of the models' time one problem may cost")
    temperature: float = Field(1.0, ge=0, le=100, description="0 = greedy")
    top_k: int = Field(0, ge=0, description="draw among this many tokens; 0 = off")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus; 1 = off")
    min_p: float = Field(0.0, ge=0, lt=1, description="least probability, as a share of the best token's; 0 = off")
    repetition_penalty: float = Field(1.0, gt=0, description="makes tokens seen before less probable; 1 = off")
    mirostat_tau: float = Field(0.0, ge=0, description="surprise to aim at, bits; 0 = off")
    mirostat_eta: float = Field(0.1, gt=0, description="Mirostat's learning rate")
    confidence: int = Field(0, ge=0, description="keep each token's confidence over its k likeliest; 0 = off")
    momentum: float = Field(0.0, ge=0, description="momentum decoding's alpha; 0 = off")
    constraint: str = Field("", description="a regular expression that each step's text must hold")
    stop: tuple[str, ...] = Field((), description="strings that end a solution")
    tokens: int = Field(384, ge=1, description="tokens one solution may have")
    step_tokens: int = Field(64, ge=1, description="tokens one step may have")
    seed: int = Field(0, description="of the sampling noise")
    weights: str | None = Field(None, description="fingerprints of the models: others are refused")
    slot: str = Field("", description="SCHEDULE@UTC of a scheduled run; it makes two nights of one spec two runs")
    _exact: RunSpec | None = PrivateAttr(None)  # of a spec that was given whole

    @model_validator(mode="wrap")
    @classmethod
    def _from_spec(cls, raw: Any, handler: ValidatorFunctionWrapHandler) -> RunParameters:
        """A RunSpec, or its JSON, is one too."""
        spec = RunSpec.from_json(raw) if isinstance(raw, str) else raw if isinstance(raw, RunSpec) else None
        made: RunParameters = handler(raw if spec is None else _said(spec))
        if spec is not None:
            made._exact = spec
        return made

    @model_validator(mode="before")
    @classmethod
    def _known(cls, raw: Any) -> Any:
        """An unknown key with the nearest name; a count may be written 32k."""
        if not isinstance(raw, Mapping):
            return raw
        known = {str(key).replace("-", "_"): value for key, value in raw.items()}
        for key in known:
            one_of("parameter", key, cls.model_fields)
        if isinstance(known.get("budget"), str):
            known["budget"] = parts.count(known["budget"])
        return known

    @model_validator(mode="after")
    def _sound(self) -> RunParameters:
        self.sampling()
        self.searched()
        return self

    def sampling(self) -> Sampling:
        return Sampling(**{name: getattr(self, name) for name in SAMPLING})

    def searched(self) -> Part:
        """The strategy, with the selector where one is named. ValueError for a strategy that selects nothing."""
        part = self.strategy.part()
        if self.selector is None:
            return part
        chosen = Part(part.name, {**part.params, "select": self.selector})
        build(chosen)
        return chosen

    def spec(self) -> RunSpec:
        """The run that is meant. ValueError in one line for what cannot be."""
        if self._exact is not None:
            return self._exact
        made = parts.assembled(
            problems=self.problems.part(),
            strategy=self.searched(),
            verifier=self.verifier.part(),
            generator=self.generator.part(),
            encoder=None if self.encoder is None else self.encoder.part(),
            small=None if self.small is None else self.small.part(),
            sampling=self.sampling(),
            budget=Budget(self.budget, **{name: getattr(self, name) for name in COSTS}),
            limits=(self.tokens, self.step_tokens, self.seed),
            stops=self.stop,
            constraint=self.constraint,
        )
        if self.weights is not None and self.weights != made.weights:
            raise ValueError(f"the run is of models with weights '{self.weights}', and here they are '{made.weights}'")
        return replace(made, slot=self.slot)


def _said(spec: RunSpec) -> dict[str, Any]:
    """A spec's fields as parameters."""
    same = ("problems", "strategy", "verifier", "generator", "encoder", "small", "constraint", "tokens", "step_tokens", "seed")
    return {
        **{name: getattr(spec, name) for name in same},
        **{name: getattr(spec.sampling, name) for name in SAMPLING},
        **{name: getattr(spec.budget, name) for name in COSTS},
        "budget": spec.budget.tokens,
        "stop": spec.stops,
        "weights": spec.weights,
        "slot": spec.slot,
    }


class Grid(BaseModel):
    """Each run at each point; what is left empty stays as the run has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: tuple[StrategyPiece, ...] = Field((), description="strategies")
    selector: tuple[SelectorName, ...] = Field((), description="selectors, for strategies with `select`")
    n: tuple[Annotated[int, Field(ge=1)], ...] = Field((), description="widths, for strategies with `n`")
    verifier: tuple[VerifierPiece, ...] = Field((), description="verifiers")
    budget: tuple[Annotated[int, Field(ge=1)], ...] = Field((), description="tokens one problem may cost")
    seed: tuple[int, ...] = Field((), description="seeds")

    def of(self, runs: Sequence[RunParameters]) -> list[RunParameters]:
        """The runs of the whole grid, in order. ValueError for a selector or a width that a strategy does not take."""
        found = list(runs)
        axes: tuple[tuple[str, Sequence[Any]], ...] = (
            ("strategy", self.strategy),
            ("n", self.n),
            ("selector", self.selector),
            ("verifier", self.verifier),
            ("budget", self.budget),
            ("seed", self.seed),
        )
        for name, values in axes:
            if values:
                found = [_at(run, name, value) for run in found for value in values]
        return found


def _at(run: RunParameters, name: str, value: Any) -> RunParameters:
    raw = {key: getattr(run, key) for key in RunParameters.model_fields if key != "weights"}
    if name == "n":
        part = run.strategy.part()
        return RunParameters.model_validate({**raw, "strategy": Part(part.name, {**part.params, "n": value})})
    return RunParameters.model_validate({**raw, name: value})


class RescoreParameters(BaseModel):
    """A new verifier or grader over a run's stored candidates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str = Field("latest", min_length=1, description="id, beginning of an id, name, or 'latest'")
    verifier: VerifierPiece | None = Field(None, description="scores every whole solution")
    grader: GraderName | None = Field(None, description="judges every answer by the reference")

    @model_validator(mode="after")
    def _one(self) -> RescoreParameters:
        if self.verifier is None and self.grader is None:
            raise ValueError("name a verifier or a grader (or both) to rescore with")
        return self


class ReportParameters(BaseModel):
    """What is to be reported, and where it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: tuple[str, ...] = Field(("latest",), min_length=1, description="ids or names; later ones are compared with the first")
    file: str = Field("", description="an .html file for the page, or .md for its summary with a plot beside it. '' = none")
    resamples: int = Field(10_000, ge=1, description="of the bootstrap over problems")


class RetrainParameters(BaseModel):
    """A reward model from stored candidates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = Field(min_length=1, description="where the model is written; it must not be there")
    runs: tuple[str, ...] = Field(("latest",), min_length=1, description="whose candidates it learns from")
    tokens: int = Field(600_000, ge=1, description="to train on; minutes on a CPU for each 100,000")
    held_out: float = Field(0.25, gt=0, lt=1, description="share of the problems that it is measured on and not trained on")
    labels: Literal["auto", "exact", "outcome"] = Field(
        "auto", description="exact = of each step, by the family's checker; outcome = how a solution ended, by TD(lambda)"
    )
    init: str = Field("bundled", description="the reward model to go on from")
    seed: int = Field(0, description="of the split and the training")


__all__ = [
    "Grid",
    "ModelPiece",
    "Piece",
    "ProblemsPiece",
    "ReportParameters",
    "RescoreParameters",
    "RetrainParameters",
    "RunParameters",
    "StrategyPiece",
    "VerifierPiece",
]
