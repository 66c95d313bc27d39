"""What a request may ask of a completions server."""

from __future__ import annotations

from pipelines.remote.address import Options
from search.types import Extend, Sampling


def check(request: Extend, options: Options, parameters: float) -> None:
    """Raises ValueError in one line for what no completions server can do. `parameters`: the model's, 0 = not known."""
    sampling, rules = request.sampling, request.rules
    if request.model or rules.pause or any(row.begin for row in request.rows):
        raise ValueError("a completions server cannot pause before a token, begin with given ones, or switch models")
    if any(row.text is None for row in request.rows):
        raise ValueError("a completions server is asked in text: give the tree texts=True")
    if sampling.mirostat_tau or sampling.momentum:
        raise ValueError("a completions server has no Mirostat and no momentum decoding")
    plain = Sampling(
        sampling.temperature, top_p=sampling.top_p, mirostat_eta=sampling.mirostat_eta, confidence=sampling.confidence
    )
    if sampling != plain and not options.extras:
        raise ValueError(
            "top_k, min_p and repetition_penalty are not of the protocol; where the server has them, give extras=true"
        )
    if options.api == "chat" and any(row.text and row.text[1] for row in request.rows):
        raise ValueError("a chat cannot be gone on from in the middle of an answer; use api=completions")
    if request.flops is not None and not parameters:
        raise ValueError("the model's size is not known, so its FLOPs are not; give parameters=")


__all__ = ["check"]
