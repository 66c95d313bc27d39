"""The verifiers by name, and how one is loaded from a run's words.

A verifier is named by a Part: NAME:KEY=VALUE,... with `join` saying how the values of a solution's steps become one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from search.checks import number, one_of
from search.types import Join, Part, Verifier
from verifiers.formats.format import FORMATS
from verifiers.generative import BUNDLED, KINDS, TAKES, settings


@dataclass(frozen=True, slots=True)
class Known:
    """A verifier that can be named: loader, default join, one line, parameters."""

    load: Callable[[dict[str, Any]], Verifier]
    join: Join
    about: str
    takes: tuple[str, ...] = ()
    signal: bool = False  # it reads the statistics of tokens, which are stored, and no text


def _prm(params: dict[str, Any]) -> Verifier:
    from verifiers.prm import load_prm

    return load_prm(str(params.pop("model", "bundled")), params)


def _orm(params: dict[str, Any]) -> Verifier:
    from verifiers.prm import load_orm

    if "model" not in params:
        raise ValueError("verifier 'orm' needs a model: orm:model=FOLDER, or a hub name")
    return load_orm(str(params.pop("model")), params)


def _signal(name: str) -> Callable[[dict[str, Any]], Verifier]:
    def load(params: dict[str, Any]) -> Verifier:
        from verifiers.confidence import load_signal

        return load_signal(name, params)

    return load


def _equation(_: dict[str, Any]) -> Verifier:
    from verifiers.equation import EquationVerifier

    return EquationVerifier()


def _program(params: dict[str, Any]) -> Verifier:
    from verifiers.program import ProgramVerifier

    return ProgramVerifier(str(params.get("style", "math")), number(params.get("seconds", 5.0), "seconds"))


def _command(params: dict[str, Any]) -> Verifier:
    from verifiers.command import CommandVerifier, asked

    return CommandVerifier(asked(params))


def _ensemble(params: dict[str, Any]) -> Verifier:
    from verifiers.ensemble import Ensemble

    loaded: dict[str, Verifier] = {}  # two members alike are one in memory
    parts = _members(params)
    for part in parts:
        if str(part) not in loaded:
            loaded[str(part)] = load_verifier(part)[0]
    return Ensemble(tuple(loaded[str(part)] for part in parts))


def _generative(kind: str) -> Callable[[dict[str, Any]], Verifier]:
    def load(params: dict[str, Any]) -> Verifier:
        from verifiers.generative import load_generative

        return load_generative(kind, params)

    return load


def _members(params: Mapping[str, Any]) -> tuple[Part, ...]:
    from verifiers.ensemble import members

    return members(str(params.get("of", "")))


_MODEL = ("model", "device", "dtype")
_SCORED = (*_MODEL, "code", "path", "cache_mb", "temperature")

VERIFIERS: dict[str, Known] = {
    "prm": Known(_prm, Join.MIN, "process reward model of any known format", (*_SCORED, "format", "separator")),
    "orm": Known(_orm, Join.LAST, "outcome reward model: one value for the whole", _SCORED),
    "logprob": Known(_signal("logprob"), Join.PROD, "the generator's own probability of each step", signal=True),
    "perplexity": Known(_signal("perplexity"), Join.MEAN, "one over the perplexity of each step", signal=True),
    "entropy": Known(_signal("entropy"), Join.MEAN, "how peaked the generator's distributions are over each step", signal=True),
    "self-certainty": Known(_signal("self-certainty"), Join.MEAN, "the generator's self-certainty over each step", signal=True),
    "g-nll": Known(_signal("g-nll"), Join.LAST, "minus ln p of the whole, squashed; G-NLL of a greedy solution", signal=True),
    "confidence": Known(
        _signal("confidence"), Join.LAST, "DeepConf's confidence of a group of tokens", ("group", "window", "share", "of"), True
    ),
    "equation": Known(_equation, Join.MIN, "recomputes every equation a step states; no model, no reference"),
    "program": Known(_program, Join.LAST, "runs the solution's program; whether it agrees with the text", ("style", "seconds")),
    "command": Known(
        _command,
        Join.LAST,
        "an external program's verdict, in the sandbox",
        ("run", "mounts", "block", "seconds", "memory", "verdict"),
    ),
    "genrm": Known(_generative("genrm"), Join.LAST, "a language model writes checks; the mean of their verdicts", TAKES),
    "thinkprm": Known(_generative("thinkprm"), Join.MIN, "the same, with a verdict on each step", TAKES),
    "judge": Known(_generative("judge"), Join.LAST, "a language model's verdict or grade, without a check", TAKES),
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
    join = str(part.params.get("join", _default_join(part, known)))
    one_of("join", join, list(Join))
    if part.name == "ensemble":
        for member in _members(part.params):
            check_verifier(member)
    if known.signal:  # costs nothing, and says what is wrong with its parameters
        known.load({key: value for key, value in part.params.items() if key != "join"})
    if part.name in KINDS:
        settings(part.name, part.params)
    if part.name == "command":
        from verifiers.command import asked

        asked(part.params)
    if part.name == "program":
        _program(dict(part.params))
    return known, Join(join)


def require_sandbox(part: Part) -> None:
    """Raises sandbox.Unavailable where a verifier needs the sandbox and there is none: a run that needs it must not begin, but
    one that is stored can be read and replayed without."""
    from verifiers.sandbox import require

    if part.name == "command":
        from verifiers.command import asked

        asked(part.params).words()
    if part.name in ("program", "command"):
        require()
    if part.name == "ensemble":
        for member in _members(part.params):
            require_sandbox(member)


def _default_join(part: Part, known: Known) -> Join:
    """The authors' own, where a format is asked for by name and they state one; else the verifier's."""
    if part.name != "prm" or "format" not in part.params:
        return known.join
    wanted = str(part.params["format"])
    one_of("format", wanted, FORMATS)
    return FORMATS[wanted].join or known.join


def signals() -> list[str]:
    """The verifiers that can be computed over a stored run, whatever it was scored by."""
    return [name for name, known in VERIFIERS.items() if known.signal]


def load_verifier(part: Part) -> tuple[Verifier, Join]:
    """The verifier a Part names, loaded, and its join."""
    known, join = check_verifier(part)
    require_sandbox(part)
    return known.load({key: value for key, value in part.params.items() if key != "join"}), join


def reward_models(part: Part) -> list[str]:
    """The reward models that a verifier reads, by the names they are loaded by: what a run's result depends on."""
    if part.name == "ensemble":
        return [model for member in _members(part.params) for model in reward_models(member)]
    return [str(part.params.get("model", "bundled"))] if part.name in ("prm", "orm") else []


def judges(part: Part) -> list[str]:
    """The language models that a verifier asks, by the names they are loaded by: likewise."""
    if part.name == "ensemble":
        return [model for member in _members(part.params) for model in judges(member)]
    return [str(part.params.get("model", BUNDLED))] if part.name in KINDS else []


def prompts(part: Part) -> str:
    """What a generative verifier asks, all its prompts' texts: a file may hold another tomorrow. "" for any other verifier."""
    if part.name == "ensemble":
        return "".join(prompts(member) for member in _members(part.params))
    return settings(part.name, part.params)["form"].template if part.name in KINDS and "prompt" in part.params else ""
