"""The strategies by name, and how one is built from a run's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

from search.checks import one_of
from search.select import SELECTORS, Selector
from search.tree import Tree
from search.types import Ask, Choice, Join, Part

from .astar import AStar
from .beam import Beam
from .best_of_n import BestOfN
from .first_finish import FirstFinish
from .greedy import Greedy


class Strategy(Protocol):
    """A frozen dataclass of its own parameters with one generator method, deterministic given its replies."""

    def search(self, tree: Tree) -> Ask[Choice]: ...


STRATEGIES: dict[str, type[Strategy]] = {
    "astar": AStar,
    "beam": Beam,
    "best-of-n": BestOfN,
    "first-finish": FirstFinish,
    "greedy": Greedy,
}


def build(part: Part) -> Strategy:
    """The strategy a Part names. `select` takes a selector's name; `join` and `power` go to the selector.

    Raises ValueError in one line for an unknown name or parameter, or a value of the wrong type or out of range.
    """
    one_of("strategy", part.name, STRATEGIES)
    cls = STRATEGIES[part.name]
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    given: dict[str, Any] = dict(part.params)
    takes_selector = [key for key in ("join", "power") if key in given and "select" in known]
    for_selector: dict[str, Any] = {key: given.pop(key) for key in takes_selector}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            takes = ", ".join([*known, *(("join", "power") if "select" in known else ())]) or "no parameters"
            raise ValueError(f"strategy '{part.name}' has no parameter '{key}' (it takes {takes})")
        values[key] = value if key == "select" else _cast(part.name, key, value, known[key].default)
    if "select" in values or for_selector:
        name = values.get("select", known["select"].default.name)
        values["select"] = _selector(str(name), for_selector)
    return cls(**values)


def resolved(part: Part) -> Part:
    """The same strategy with every parameter written out, so that one strategy has one name in a RunSpec, whatever was left
    to defaults, and a default that changes later changes no stored run."""
    built = build(part)
    params: dict[str, Any] = {f.name: getattr(built, f.name) for f in fields(built)}  # type: ignore[arg-type]
    selector = params.pop("select", None)
    if selector is not None:
        params["select"] = selector.name
        if selector.join is not None:
            params["join"] = str(selector.join)
        if SELECTORS[selector.name].takes_power:
            params["power"] = selector.power
    return Part(part.name, params)


def _selector(name: str, given: Mapping[str, Any]) -> Selector:
    one_of("selector", name, SELECTORS)
    values: dict[str, Any] = {"name": name}
    if "join" in given and not SELECTORS[name].needs_verifier:
        raise ValueError(f"selector '{name}' takes no join: it reads no scores")
    if "power" in given and not SELECTORS[name].takes_power:
        raise ValueError(f"selector '{name}' takes no power; borda does")
    if "join" in given:
        one_of("join", str(given["join"]), list(Join))
        values["join"] = Join(given["join"])
    if "power" in given:
        values["power"] = _cast(name, "power", given["power"], 0.3)
    return Selector(**values)


def _cast(owner: str, key: str, value: Any, like: Any) -> Any:
    """The value as the type of the parameter's default."""
    kind = type(like)
    try:
        if kind is int and (isinstance(value, bool) or float(value) != int(float(value))):
            raise ValueError
        return kind(float(value)) if kind is int else kind(value)
    except (TypeError, ValueError, OverflowError):
        wanted = "a whole number" if kind is int else kind.__name__
        raise ValueError(f"{owner}: {key} must be {wanted}, not '{value}'") from None


__all__ = ["STRATEGIES", "Strategy", "build", "resolved"]
