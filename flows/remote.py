"""What a run may ask of a generator behind a server: refused in one line before it starts, rather than in its middle.

A completions server gives text, and at most the log-probabilities of single tokens. It cannot pause before a token, begin with
given tokens, tell a whole distribution (entropy, self-certainty) or hidden states; nothing of that is estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipelines.remote import RemoteModel
from search.select import Selector
from search.strategies import build
from search.types import Part, RunSpec
from verifiers.ensemble import members

if TYPE_CHECKING:
    from pipelines.models import TextModel

# strategies that decide between two tokens, whatever their parameters; tests/test_flows_remote.py holds that these are all
TOKENWISE = ("adadec", "awrs", "budget-forcing", "cntp", "contrastive", "diverse-beam", "entropy-adaptive", "stochastic-beam")
DECODERS = ("mirostat", "momentum")  # that shape a distribution
STEPWISE = (
    "astar",
    "beam",
    "best-first",
    "dvts",
    "fetch",
    "mcts",
    "particles",
    "pg-td",
    "rebase",
    "rstar",
)  # that go on from steps
WHOLE = ("self-certainty", "entropy", "borda")  # verifiers and selectors that read whole distributions
PROBABLE = ("logprob", "perplexity", "g-nll")  # ... the log-probability of each token

Load = Callable[[Part], "TextModel | RemoteModel"]


def check(spec: RunSpec, load: Load) -> None:
    """Raises ValueError for what the run's server cannot do. Asks the server where that depends on it."""
    why = next(_refusals(spec), None)
    if why is not None:
        raise ValueError(f"a generator behind a server cannot serve this: {why}")
    model = load(spec.generator)
    assert isinstance(model, RemoteModel)
    if (reads := next(_of_tokens(spec), None)) and not model.engine.traits.logprobs:
        raise ValueError(f"{reads} reads the log-probability of every token, which the server does not tell")
    if (k := _confidence(spec)) and not model.engine.tells(k):
        raise ValueError(f"confidences of the {k} likeliest tokens are asked for, which the server does not tell; try fewer")
    if spec.budget.flops is not None and not model.engine.parameters:
        raise ValueError(
            "FLOPs are bounded and the server does not tell its model's size; give it as parameters= of the generator"
        )


def _refusals(spec: RunSpec) -> Iterator[str]:
    strategy, sampling, params = spec.strategy.name, spec.sampling, spec.generator.params
    if strategy in TOKENWISE:
        yield f"strategy '{strategy}' decides between two tokens; take one that asks for steps or whole solutions"
    if strategy in DECODERS or sampling.mirostat_tau or sampling.momentum:
        yield "Mirostat and momentum decoding are the local core's"
    if params.get("api") == "chat" and strategy in STEPWISE:
        yield f"strategy '{strategy}' goes on from a step, and a chat cannot be gone on from; take api=completions"
    if (sampling.top_k or sampling.min_p or sampling.repetition_penalty != 1) and not params.get("extras"):
        yield "top_k, min_p and repetition_penalty are not of the protocol; where the server has them, give extras=true"
    if spec.small is not None:
        yield "it has no smaller sibling with its tokens; leave --small out"
    if spec.encoder is not None and spec.encoder.name == "hidden":
        yield "it tells no hidden states; take --encoder sentence-transformers, or how=text"
    for verifier in _verifiers(spec.verifier):
        of_all = verifier.name == "confidence" and verifier.params.get("of") == "self-certainty"
        if verifier.name in WHOLE or of_all:
            yield f"verifier '{verifier.name}' reads whole distributions, which it does not tell; logprob reads less"
        if verifier.name == "confidence" and not of_all and not _confidence(spec):
            yield "verifier 'confidence' reads the likeliest tokens; ask for them with --confidence 5"
    if (selector := _selector(spec)) in WHOLE:
        yield f"selector '{selector}' reads self-certainty, which it does not tell; logprob reads less"
    if selector == "deepconf" and not _confidence(spec):
        yield "selector 'deepconf' reads the likeliest tokens; ask for them with --confidence 5"
    if strategy == "deepconf" and not _confidence(spec):
        yield "deepconf with k=0 reads self-certainty, which it does not tell; set k=5"


def _of_tokens(spec: RunSpec) -> Iterator[str]:
    """What of the run reads the log-probability of each token."""
    yield from (f"verifier '{each.name}'" for each in _verifiers(spec.verifier) if each.name in PROBABLE)
    if _selector(spec) == "logprob":
        yield "selector 'logprob'"
    if spec.strategy.params.get("prior") == "logprob":
        yield f"strategy '{spec.strategy.name}' with prior=logprob (prior=uniform does not)"
    if "pg-td" in (spec.strategy.name, spec.strategy.params.get("of")):
        yield "strategy 'pg-td'"


def _verifiers(verifier: Part) -> tuple[Part, ...]:
    return members(str(verifier.params.get("of", ""))) if verifier.name == "ensemble" else (verifier,)


def _selector(spec: RunSpec) -> str:
    built: Any = build(spec.strategy)
    of = getattr(built, "inner", built)
    found = getattr(of, "select", None)
    return found.name if isinstance(found, Selector) else ""


def _confidence(spec: RunSpec) -> int:
    """Of how many likeliest tokens the run keeps confidences; 0 = of none."""
    own: Any = build(spec.strategy)
    return int(own.k) if spec.strategy.name == "deepconf" else spec.sampling.confidence


__all__ = ["DECODERS", "STEPWISE", "TOKENWISE", "check"]
