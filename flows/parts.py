"""Words of the command line and of flow parameters turned into a RunSpec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.encoders import encoder_weights
from pipelines.models import NAMES, fingerprint
from pipelines.remote import identity, is_remote, split
from search.checks import scalar
from search.strategies import build, resolved
from search.types import Budget, Part, RunSpec, Sampling
from verifiers.registry import check_verifier, judges, prompts, reward_models


def part(text: str | Part) -> Part:
    """NAME or NAME:KEY=VALUE,KEY=VALUE; whole numbers and decimals become numbers, true and false booleans.

    A value may hold further colons and equals signs, but no comma. What is a Part already stays as it is.
    """
    if isinstance(text, Part):
        return text
    name, _, rest = text.strip().partition(":")
    if not name:
        raise ValueError(f"'{text}' names nothing; write NAME or NAME:KEY=VALUE,...")
    params: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"'{pair}' in '{text}' is not KEY=VALUE")
        if key.strip() in params:
            raise ValueError(f"'{key.strip()}' is given twice in '{text}'")
        params[key.strip()] = scalar(value.strip())
    return Part(name.strip(), params)


def count(text: str) -> int:
    """A count that may end in k or m: 2048, 32k."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    digits = text[:-1] if scale > 1 else text
    if not digits.lstrip("-").isdigit():
        raise ValueError(f"'{text}' is not a count; write a whole number such as 2048 or 32k")
    return int(digits) * scale


def model_part(text: str | Part, params: Mapping[str, Any] | None = None) -> Part:
    """A model's Part. A path may hold a colon on its own, so options go only after the last one, as KEY=VALUE. A server's has a
    grammar of its own (pipelines.remote)."""
    if isinstance(text, Part):
        return Part(text.name, {**text.params, **(params or {})})
    if is_remote(text.strip()):
        server, options = split(text)
        return Part(server, {**options, **(params or {})})
    name, _, rest = text.rpartition(":")
    if name and "=" in rest:
        return Part(name, {**part(f"x:{rest}").params, **(params or {})})
    return Part(text, dict(params or {}))


def spec(
    problems: str | Part,
    strategy: str | Part,
    verifier: str | Part = "prm",
    generator: str | Part = "bundled",
    settings: Sequence[str] = (),
    budget: str | None = None,
    passes: int | None = None,
    candidates: int | None = None,
    flops: float | None = None,
    seconds: float | None = None,
    sampling: Sampling = Sampling(),
    seed: int = 0,
    tokens: int = 384,
    step_tokens: int = 64,
    stops: Sequence[str] = (),
    encoder: str | Part | None = None,
    small: str | Part | None = None,
    constraint: str = "",
) -> RunSpec:
    """One run from its words; ValueError in one line for any that cannot be."""
    chosen = part(strategy)
    extra = part("x:" + ",".join(settings)).params if settings else {}
    return assembled(
        part(problems),
        Part(chosen.name, {**chosen.params, **extra}),
        part(verifier),
        model_part(generator),
        None if encoder is None else part(encoder),
        None if small is None else model_part(small),
        sampling,
        Budget(None if budget is None else count(budget), passes, candidates, flops, seconds),
        (tokens, step_tokens, seed),
        stops,
        constraint,
    )


def assembled(
    problems: Part,
    strategy: Part,
    verifier: Part,
    generator: Part,
    encoder: Part | None,
    small: Part | None,
    sampling: Sampling,
    budget: Budget,
    limits: tuple[int, int, int],
    stops: Sequence[str],
    constraint: str,
) -> RunSpec:
    """As `spec`, from its pieces: what was left to defaults is written out. `limits`: tokens of a solution, of a step; seed."""
    searched, judge = resolved(strategy), joined(verifier)
    if judge.name == "confidence" and judge.params.get("of", "top-k") == "top-k" and not sampling.confidence:
        raise ValueError(
            "verifier 'confidence' needs the tokens' confidences: keep them with --confidence 20, or take of=self-certainty"
        )
    embeds, sibling = encoder_of(searched, encoder), small_of(searched, small)
    tokens, step_tokens, seed = limits
    return RunSpec(
        problems=problems,
        generator=generator,
        verifier=judge,
        strategy=searched,
        sampling=sampling,
        budget=budget,
        seed=seed,
        tokens=tokens,
        step_tokens=step_tokens,
        stops=tuple(stops),
        weights=weights(generator, judge, embeds, sibling),
        encoder=embeds,
        small=sibling,
        constraint=constraint,
    )


def joined(verifier: Part) -> Part:
    """A verifier with its join written out: a run's spec says how the values of steps become one, whatever a default is later.
    ValueError for one that is not known."""
    _, join = check_verifier(verifier)
    return Part(verifier.name, {**verifier.params, "join": join.value})


def embeds(strategy: str | Part) -> bool:
    """Whether a strategy, as it is set, asks for vectors."""
    return bool(getattr(build(part(strategy)), "needs_encoder", False))


def encoder_of(strategy: Part, wanted: str | Part | None) -> Part | None:
    """The encoder of a run: what is wanted, or the generator's own hidden states, where the strategy embeds. ValueError for
    one that it would not use."""
    if embeds(strategy):
        return part(wanted or "hidden")
    if wanted is not None:
        raise ValueError(f"strategy '{strategy.name}' as it is set embeds nothing; leave --encoder {wanted} out")
    return None


def switches(strategy: str | Part) -> bool:
    """Whether a strategy, as it is set, asks for a smaller generator beside the run's own."""
    return bool(getattr(build(part(strategy)), "needs_small", False))


def small_of(strategy: Part, wanted: str | Part | None) -> Part | None:
    """The smaller generator of a run: what is wanted, or the bundled one, where the strategy switches. ValueError for one that
    it would not use."""
    if switches(strategy):
        return model_part(wanted or NAMES["small"])
    if wanted is not None:
        raise ValueError(f"strategy '{strategy.name}' switches to no smaller generator; leave --small {wanted} out")
    return None


def weights(generator: Part, verifier: Part, encoder: Part | None = None, small: Part | None = None) -> str:
    """The fingerprints of a run's models. Raises ModelError for a folder without one."""
    found = [_own(each) for each in (generator, small) if each is not None]
    found += [fingerprint(model, "reward") for model in reward_models(verifier)]
    found += [fingerprint(model, "generator") for model in judges(verifier)]
    if asked := prompts(verifier):
        found.append(hashlib.blake2b(asked.encode(), digest_size=4).hexdigest())
    return " ".join([*found, encoder_weights(encoder)]).strip()


def _own(generator: Part) -> str:
    """What tells a generator's weights from others: of its files, or what a server says of its model."""
    return identity(generator.name, generator.params) if is_remote(generator.name) else fingerprint(generator.name, "generator")
