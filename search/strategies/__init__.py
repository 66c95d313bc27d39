"""The strategies by name, and how one is built from a run's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

from search.checks import one_of
from search.select import SELECTORS, Selector
from search.tree import Tree
from search.types import Ask, Choice, Join, Part

from .adadec import AdaDec
from .adaptive_consistency import AdaptiveConsistency
from .allocated import Allocated
from .astar import AStar
from .awrs import AWRS
from .beam import Beam
from .best_first import BestFirst
from .best_of_n import BestOfN
from .budget_forcing import BudgetForcing
from .cntp import CNTP
from .collaborative import Collaborative
from .contrastive import Contrastive
from .decoders import Mirostat, Momentum
from .deepconf import DeepConf
from .diverse_beam import DiverseBeam
from .dvts import DVTS
from .early_stopping import EarlyStopping
from .fetch import Fetch
from .first_finish import FirstFinish
from .greedy import Greedy
from .icn import ICN
from .knockout import Knockout
from .last_finish import LastFinish
from .mcts import MCTS
from .particles import Particles
from .pgtd import PGTD
from .plan_search import PlanSearch
from .rebase import Rebase
from .rstar import RStar
from .self_agreement import SelfAgreement
from .stochastic_beam import StochasticBeam
from .switching import Switching


class Strategy(Protocol):
    """A frozen dataclass of its own parameters with one generator method, deterministic given its replies."""

    def search(self, tree: Tree) -> Ask[Choice]: ...


STRATEGIES: dict[str, type[Strategy]] = {
    "adadec": AdaDec,
    "adaptive-consistency": AdaptiveConsistency,
    "allocated": Allocated,
    "astar": AStar,
    "awrs": AWRS,
    "beam": Beam,
    "best-first": BestFirst,
    "best-of-n": BestOfN,
    "budget-forcing": BudgetForcing,
    "cntp": CNTP,
    "collaborative": Collaborative,
    "contrastive": Contrastive,
    "deepconf": DeepConf,
    "diverse-beam": DiverseBeam,
    "dvts": DVTS,
    "early-stopping": EarlyStopping,
    "entropy-adaptive": Switching,
    "fetch": Fetch,
    "first-finish": FirstFinish,
    "greedy": Greedy,
    "icn": ICN,
    "knockout": Knockout,
    "last-finish": LastFinish,
    "mcts": MCTS,
    "mirostat": Mirostat,
    "momentum": Momentum,
    "particles": Particles,
    "pg-td": PGTD,
    "plan-search": PlanSearch,
    "rebase": Rebase,
    "rstar": RStar,
    "self-agreement": SelfAgreement,
    "stochastic-beam": StochasticBeam,
}

OF_SELECTORS = ("join", *dict.fromkeys(key for rule in SELECTORS.values() for key in rule.takes))


def build(part: Part) -> Strategy:
    """The strategy a Part names. `select` takes a selector's name; the selector's own parameters (join, power, ...) go to it.

    Raises ValueError in one line for an unknown name or parameter, or a value of the wrong type or out of range.
    """
    one_of("strategy", part.name, STRATEGIES)
    cls = STRATEGIES[part.name]
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    given: dict[str, Any] = dict(part.params)
    values: dict[str, Any] = {"inner": _wrapped(part.name, cls, given)} if known.pop("inner", None) else {}
    takes_selector = [key for key in OF_SELECTORS if key in given and "select" in known and key not in known]
    for_selector: dict[str, Any] = {key: given.pop(key) for key in takes_selector}
    for key, value in given.items():
        if key not in known:
            takes = ", ".join([*known, *(OF_SELECTORS if "select" in known else ())]) or "no parameters"
            raise ValueError(f"strategy '{part.name}' has no parameter '{key}' (it takes {takes})")
        values[key] = value if key == "select" else _cast(part.name, key, value, known[key].default)
    if "select" in values or for_selector:
        name = values.get("select", known["select"].default.name)
        values["select"] = chosen(str(name), for_selector)
    return cls(**values)


def resolved(part: Part) -> Part:
    """The same strategy with every parameter written out, so that one strategy has one name in a RunSpec, whatever was left
    to defaults, and a default that changes later changes no stored run."""
    return Part(part.name, _params(build(part)))


def _params(built: Strategy) -> dict[str, Any]:
    # what a strategy got later is left out where it is off, so that the runs from before keep their ids
    later = getattr(type(built), "later", ())
    every = [(f, getattr(built, f.name)) for f in fields(built)]  # type: ignore[arg-type]
    params: dict[str, Any] = {f.name: value for f, value in every if f.name not in later or value != f.default}
    inner, selector = params.pop("inner", None), params.pop("select", None)
    if inner is not None:
        params |= _params(inner)
    if selector is not None:
        params["select"] = selector.name
        if selector.join is not None:
            params["join"] = str(selector.join)
        # a strategy's own parameter of that name goes before the selector's
        params |= {key: getattr(selector, key) for key in SELECTORS[selector.name].takes if key not in params}
    return params


def _wrapped(name: str, cls: Any, given: dict[str, Any]) -> Strategy:
    """The strategy that one which wraps another names as `of`, one of its `wraps`. It takes the parameters that are not the
    wrapper's own out of those given."""
    own = [f.name for f in fields(cls) if f.name != "inner"]
    of = str(given.get("of", cls.of))
    one_of(f"strategy for {name}", of, cls.wraps)
    rest = {key: given.pop(key) for key in [*given] if key not in own}
    try:
        return build(Part(of, rest))
    except ValueError as error:
        also = f"; {name} itself takes {', '.join(own)}" if "no parameter" in str(error) else ""
        raise ValueError(f"{error}{also}") from None


def chosen(name: str, given: Mapping[str, Any]) -> Selector:
    """The selector of that name with its parameters. Raises ValueError in one line for one that it does not take."""
    one_of("selector", name, SELECTORS)
    values: dict[str, Any] = {"name": name}
    if "join" in given and not SELECTORS[name].needs_verifier:
        raise ValueError(f"selector '{name}' takes no join: it reads no scores")
    for key in given:
        if key not in ("join", *SELECTORS[name].takes):
            owners = [other for other, rule in SELECTORS.items() if key in rule.takes]
            raise ValueError(f"selector '{name}' takes no {key}; {' and '.join(owners) or 'none'} does")
    if "join" in given:
        one_of("join", str(given["join"]), list(Join))
        values["join"] = Join(given["join"])
    defaults = {f.name: f.default for f in fields(Selector)}
    values |= {key: _cast(name, key, value, defaults[key]) for key, value in given.items() if key != "join"}
    return Selector(**values)


def _cast(owner: str, key: str, value: Any, like: Any) -> Any:
    """The value as the type of the parameter's default."""
    kind = type(like)
    try:
        if kind is bool and value not in (True, False):
            raise ValueError
        if kind is int and (isinstance(value, bool) or float(value) != int(float(value))):
            raise ValueError
        return kind(float(value)) if kind is int else kind(value)
    except (TypeError, ValueError, OverflowError):
        wanted = {int: "a whole number", bool: "true or false"}.get(kind, kind.__name__)
        raise ValueError(f"{owner}: {key} must be {wanted}, not '{value}'") from None


__all__ = ["STRATEGIES", "Strategy", "build", "chosen", "resolved"]
