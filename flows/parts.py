"""Words of the command line and of flow parameters turned into a RunSpec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.encoders import encoder_weights
from pipelines.models import NAMES, fingerprint
from pipelines.remote import identity, is_remote, split
from search.strategies import build, resolved
from search.types import Budget, Part, RunSpec, Sampling
from verifiers.registry import check_verifier, judges, prompts, reward_models


def part(text: str) -> Part:
    """NAME or NAME:KEY=VALUE,KEY=VALUE; whole numbers and decimals become numbers, true and false booleans.

    A value may hold further colons and equals signs, but no comma.
    """
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


def scalar(text: str) -> int | float | bool | str:
    """The value a text stands for."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        # what would be written otherwise may be a name or a pattern: 007, 1.50. Who wants a number of it reads it as one
        return number if str(number) == text else text
    return text


def count(text: str) -> int:
    """A count that may end in k or m: 2048, 32k."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    digits = text[:-1] if scale > 1 else text
    if not digits.lstrip("-").isdigit():
        raise ValueError(f"'{text}' is not a count; write a whole number such as 2048 or 32k")
    return int(digits) * scale


def model_part(text: str, params: Mapping[str, Any] | None = None) -> Part:
    """A model's Part. A path may hold a colon on its own, so options go only after the last one, as KEY=VALUE. A server's has a
    grammar of its own (pipelines.remote)."""
    if is_remote(text.strip()):
        server, options = split(text)
        return Part(server, {**options, **(params or {})})
    name, _, rest = text.rpartition(":")
    if name and "=" in rest:
        return Part(name, {**part(f"x:{rest}").params, **(params or {})})
    return Part(text, dict(params or {}))


def spec(
    problems: str,
    strategy: str,
    verifier: str = "prm",
    generator: str = "bundled",
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
    encoder: str | None = None,
    small: str | None = None,
    constraint: str = "",
) -> RunSpec:
    """One run from its words; ValueError in one line for any that cannot be."""
    chosen, judge, writer = part(strategy), joined(part(verifier)), model_part(generator)
    extra = part("x:" + ",".join(settings)).params if settings else {}
    searched = resolved(Part(chosen.name, {**chosen.params, **extra}))
    embeds, sibling = encoder_of(searched, encoder), small_of(searched, small)
    return RunSpec(
        problems=part(problems),
        generator=writer,
        verifier=judge,
        strategy=searched,
        sampling=sampling,
        budget=Budget(None if budget is None else count(budget), passes, candidates, flops, seconds),
        seed=seed,
        tokens=tokens,
        step_tokens=step_tokens,
        stops=tuple(stops),
        weights=weights(writer, judge, embeds, sibling),
        encoder=embeds,
        small=sibling,
        constraint=constraint,
    )


def joined(verifier: Part) -> Part:
    """A verifier with its join written out: a run's spec says how the values of steps become one, whatever a default is later.
    ValueError for one that is not known."""
    _, join = check_verifier(verifier)
    return Part(verifier.name, {**verifier.params, "join": join.value})


def embeds(strategy: str) -> bool:
    """Whether a strategy, as it is set, asks for vectors."""
    return bool(getattr(build(part(strategy)), "needs_encoder", False))


def encoder_of(strategy: Part, wanted: str | None) -> Part | None:
    """The encoder of a run: what is wanted, or the generator's own hidden states, where the strategy embeds. ValueError for
    one that it would not use."""
    if embeds(str(strategy)):
        return part(wanted or "hidden")
    if wanted is not None:
        raise ValueError(f"strategy '{strategy.name}' as it is set embeds nothing; leave --encoder {wanted} out")
    return None


def switches(strategy: str) -> bool:
    """Whether a strategy, as it is set, asks for a smaller generator beside the run's own."""
    return bool(getattr(build(part(strategy)), "needs_small", False))


def small_of(strategy: Part, wanted: str | None) -> Part | None:
    """The smaller generator of a run: what is wanted, or the bundled one, where the strategy switches. ValueError for one that
    it would not use."""
    if switches(str(strategy)):
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
