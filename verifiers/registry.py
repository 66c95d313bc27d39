"""The verifiers by name, and how one is loaded from a run's words.

A verifier is named by a Part: NAME:KEY=VALUE,... with `join` saying how the values of a solution's steps become one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from search.checks import one_of
from search.types import Join, Part, Verifier


@dataclass(frozen=True, slots=True)
class Known:
    """A verifier that can be named: loader, default join, one line, parameters."""

    load: Callable[[dict[str, Any]], Verifier]
    join: Join
    about: str
    takes: tuple[str, ...] = ()


def _prm(params: dict[str, Any]) -> Verifier:
    from verifiers.prm import load_prm

    return load_prm(str(params.pop("model", "bundled")), params)


def _logprob(_: dict[str, Any]) -> Verifier:
    from verifiers.confidence import LogProb

    return LogProb()


def _self_certainty(_: dict[str, Any]) -> Verifier:
    from verifiers.confidence import SelfCertainty

    return SelfCertainty()


def _equation(_: dict[str, Any]) -> Verifier:
    from verifiers.equation import EquationVerifier

    return EquationVerifier()


def _ensemble(params: dict[str, Any]) -> Verifier:
    from verifiers.ensemble import Ensemble

    loaded: dict[str, Verifier] = {}  # two members alike are one in memory
    parts = _members(params)
    for part in parts:
        if str(part) not in loaded:
            loaded[str(part)] = load_verifier(part)[0]
    return Ensemble(tuple(loaded[str(part)] for part in parts))


def _members(params: Mapping[str, Any]) -> tuple[Part, ...]:
    from verifiers.ensemble import members

    return members(str(params.get("of", "")))


VERIFIERS: dict[str, Known] = {
    "prm": Known(_prm, Join.MIN, "process reward model: a two-label token classifier", ("model", "device", "dtype")),
    "logprob": Known(_logprob, Join.PROD, "the generator's own probability of each step; no second model"),
    "self-certainty": Known(_self_certainty, Join.MEAN, "the generator's self-certainty over each step"),
    "equation": Known(_equation, Join.MIN, "recomputes every equation a step states; no model, no reference"),
    "ensemble": Known(_ensemble, Join.MIN, "mean of several verifiers' values of each step, as of=prm+equation", ("of",)),
}


def check_verifier(part: Part) -> tuple[Known, Join]:
    """What a Part names and its join, without loading it. Raises ValueError in one line for what is not known."""
    one_of("verifier", part.name, VERIFIERS)
    known = VERIFIERS[part.name]
    unknown = set(part.params) - {"join", *known.takes}
    if unknown:
        takes = ", ".join(("join", *known.takes))
        raise ValueError(f"verifier '{part.name}' has no parameter '{min(unknown)}' (it takes {takes})")
    join = str(part.params.get("join", known.join))
    one_of("join", join, list(Join))
    if part.name == "ensemble":
        for member in _members(part.params):
            check_verifier(member)
    return known, Join(join)


def load_verifier(part: Part) -> tuple[Verifier, Join]:
    """The verifier a Part names, loaded, and its join."""
    known, join = check_verifier(part)
    return known.load({key: value for key, value in part.params.items() if key != "join"}), join


def reward_models(part: Part) -> list[str]:
    """The reward models that a verifier reads, by the names they are loaded by: what a run's result depends on."""
    if part.name == "ensemble":
        return [model for member in _members(part.params) for model in reward_models(member)]
    return [str(part.params.get("model", "bundled"))] if part.name == "prm" else []
