"""The file of a run: what the flags say, in YAML, TOML or JSON, and back: the file that repeats a run exactly.

Keys are the flags' names. A piece with parameters is written as on the command line, `beam:n=8,keep=4`, or as a mapping with
`name` and `params`. A file of several runs is a list of mappings, or a mapping with `runs` (what stands beside it is every
run's), and a key whose value is a list stands for one run of each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from flows import parts
from search.checks import one_of
from search.strategies import build
from search.types import Budget, Part, RunSpec, Sampling
from verifiers.registry import check_verifier

Scalar = str | int | float | bool | None
SAMPLING = tuple(Sampling.__dataclass_fields__)
COSTS = ("passes", "candidates", "flops", "seconds")  # beside `budget`, which is in tokens
KEPT = ("problems", "strategy", "verifier", "generator", "seed", "temperature", "tokens", "step_tokens", "weights")


class Named(BaseModel):
    """A piece of a run with its parameters, where they cannot be written as NAME:KEY=VALUE,..."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    name: str
    params: dict[str, Any] = Field(default_factory=dict)

    def part(self) -> Part:
        return Part(self.name, dict(self.params))


def _no_switch(value: object) -> object:
    """YAML reads `no` as false, and pydantic false as 0: neither was meant."""
    if isinstance(value, bool):
        raise ValueError(f"must not be {str(value).lower()}; write it in quotes, or as a number")
    return value


Words = Annotated[str | Named, BeforeValidator(_no_switch)]
Count = Annotated[int, BeforeValidator(_no_switch)]
Number = Annotated[float, BeforeValidator(_no_switch)]
Text = Annotated[str, BeforeValidator(_no_switch)]


class RunFile(BaseModel):
    """One run as a person writes it; every key has a default. The same words as the flags of `ponderosa run`."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    problems: Words = Field("word:count=50", description="word, countdown, guess or jsonl, with :KEY=VALUE,...")
    strategy: Words = Field("best-of-n", description="NAME or NAME:KEY=VALUE,...")
    verifier: Words = Field("prm", description="NAME or NAME:KEY=VALUE,...")
    generator: Words = Field("bundled", description="'bundled', a Hugging Face folder or a hub name")
    encoder: Words | None = Field(None, description="for strategies that embed")
    small: Words | None = Field(None, description="a smaller generator, for strategies that switch to one")
    budget: Text | None = Field(None, description="tokens one problem may cost: 2048, 32k")
    passes: Count | None = Field(None, description="verifier passes one problem may cost")
    candidates: Count | None = Field(None, description="candidates one problem may have")
    flops: Number | None = Field(None, description="FLOPs one problem may cost")
    seconds: Number | None = Field(None, description="seconds of the models' time one problem may cost")
    temperature: Number = 1.0
    top_k: Count = 0
    top_p: Number = 1.0
    min_p: Number = 0.0
    repetition_penalty: Number = 1.0
    mirostat_tau: Number = 0.0
    mirostat_eta: Number = 0.1
    confidence: Count = 0
    momentum: Number = 0.0
    constraint: Text = Field("", description="a regular expression that each step's text must hold")
    stop: tuple[Text, ...] = Field((), description="strings that end a solution")
    tokens: Count = Field(384, description="tokens one solution may have")
    step_tokens: Count = Field(64, description="tokens one step may have")
    seed: Count = 0
    weights: Text | None = Field(None, description="fingerprints of the models: others are refused")
    name: Text = Field("", description="a name to find the run by")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, raw: Any) -> Any:
        """Keys as the flags write them too (top-k); an unknown one with the nearest name."""
        if not isinstance(raw, Mapping):
            return raw
        known = {str(key).replace("-", "_"): value for key, value in raw.items()}
        for key in known:
            one_of("key", key, cls.model_fields)
        return known

    @field_validator("stop", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _sound(self) -> RunFile:
        """What can be said of a run before its models are looked at."""
        self.sampling()
        self.bounds()
        parts.part(_word(self.problems))
        build(parts.part(_word(self.strategy)))
        check_verifier(parts.part(_word(self.verifier)))
        return self

    def sampling(self) -> Sampling:
        return Sampling(**{name: getattr(self, name) for name in SAMPLING})

    def bounds(self) -> Budget:
        tokens = None if self.budget is None else parts.count(self.budget)
        return Budget(tokens, *(getattr(self, name) for name in COSTS))

    def spec(self, settings: Sequence[str] = ()) -> RunSpec:
        """The run that is meant; `settings` are KEY=VALUE for its strategy. ValueError in one line for what cannot be."""
        made = parts.spec(
            _word(self.problems),
            _word(self.strategy),
            _word(self.verifier),
            _word(self.generator),
            settings,
            self.budget,
            sampling=self.sampling(),
            seed=self.seed,
            tokens=self.tokens,
            step_tokens=self.step_tokens,
            stops=self.stop,
            encoder=_word_or_none(self.encoder),
            small=_word_or_none(self.small),
            constraint=self.constraint,
            **{name: getattr(self, name) for name in COSTS},
        )
        if self.weights is not None and self.weights != made.weights:
            here = made.weights or "of a hub's name, which have no fingerprint"
            raise ValueError(f"the file is of a run with weights '{self.weights}', and here they are '{here}'; leave them out")
        return made


def of(spec: RunSpec, name: str = "") -> RunFile:
    """The file of a run. `of(spec).spec() == spec` where the models are the same."""
    costs = {key: getattr(spec.budget, key) for key in COSTS}
    return RunFile(
        problems=_written(spec.problems),
        strategy=_written(spec.strategy),
        verifier=_written(spec.verifier),
        generator=_written(spec.generator, of_model=True),
        encoder=None if spec.encoder is None else _written(spec.encoder),
        small=None if spec.small is None else _written(spec.small, of_model=True),
        budget=None if spec.budget.tokens is None else str(spec.budget.tokens),
        **costs,
        **{key: getattr(spec.sampling, key) for key in SAMPLING},
        constraint=spec.constraint,
        stop=spec.stops,
        tokens=spec.tokens,
        step_tokens=spec.step_tokens,
        seed=spec.seed,
        weights=spec.weights,
        name=name,
    )


def plain(run: RunFile) -> dict[str, Any]:
    """What stands in the file: keys that are off are left out, for they are off in every version."""
    raw = run.model_dump(mode="json")
    raw["budget"] = None if run.budget is None else parts.count(run.budget)
    fields = RunFile.model_fields
    return {key: raw[key] for key in fields if key in KEPT or raw[key] not in (None, "", [], fields[key].default)}


def text(runs: Sequence[RunFile]) -> str:
    """The YAML of one run or of several: what all have in common first."""
    import yaml

    each = [plain(run) for run in runs]
    shared: dict[str, Any] = each[0]
    if len(each) > 1:
        shared = {key: value for key, value in each[0].items() if all(key in one and one[key] == value for one in each)}
        shared = {**shared, "runs": [{key: value for key, value in one.items() if key not in shared} for one in each]}
    written: str = yaml.safe_dump(shared, sort_keys=False, allow_unicode=True, width=10_000)
    return written


def checked(raw: Mapping[str, Any]) -> RunFile:
    """One run of a file; ValueError in one line."""
    try:
        return RunFile.model_validate(dict(raw))
    except ValidationError as error:
        raise ValueError(said(error)) from None


def said(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    found = error.errors(include_url=False)
    # of the branches of a union that which was followed furthest is the one that was meant
    first = max((each for each in found if each["loc"][:1] == found[0]["loc"][:1]), key=lambda each: len(each["loc"]))
    where = ".".join(str(each) for each in first["loc"] if each not in ("str", "Named") and "[" not in str(each))
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{where}: {what}" if where else what
    return f"{where.replace('_', '-')} is {first['input']!r:.80}: {what[0].lower()}{what[1:]}"


def _word(of: str | Named) -> str | Part:
    return of.part() if isinstance(of, Named) else of


def _word_or_none(of: str | Named | None) -> str | Part | None:
    return None if of is None else _word(of)


def _written(part: Part, of_model: bool = False) -> str | Named:
    """NAME:KEY=VALUE,... where that is read back as the same part, to the type of each value."""
    read = parts.model_part if of_model else parts.part
    try:
        back = read(str(part))
    except ValueError:
        back = None
    return (
        str(part) if back is not None and _exactly(back) == _exactly(part) else Named(name=part.name, params=dict(part.params))
    )


def _exactly(part: Part) -> str:
    return json.dumps([part.name, dict(part.params)], sort_keys=False)


__all__ = ["Named", "RunFile", "checked", "of", "plain", "said", "text"]
