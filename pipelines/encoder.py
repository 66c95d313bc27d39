"""Vectors of candidates from the generator's own weights: what the model itself makes of the text, without a second model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.models import locate, options_of, placed, pretrained
from search.types import Embedding, Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Laid = tuple[list[int], int]  # the tokens that are computed, and how many of the last ones the mean is over


@dataclass(slots=True)
class HiddenStates:
    """The mean of the last hidden layer, after its norm, over the tokens of a candidate's own last step; where that step is
    empty, the state of the token before it. Vectors float32 [hidden size]."""

    model: Any  # without its head
    name: str = "hidden-states"
    batch_tokens: int = 8192  # padded tokens of one forward pass

    def embed(self, traces: Sequence[Trace]) -> list[Embedding]:
        """One vector a trace, in order. Each is of the prompt and all the steps; of what is longer than the model's context,
        the last tokens count. Raises OutOfMemory where there is too little memory for one trace alone."""
        from pipelines.engine.scarce import OutOfMemory, halved

        laid = [self._layout(trace) for trace in traces]
        found: list[Embedding | None] = [None] * len(laid)
        parameters = sum(p.numel() for p in self.model.parameters())
        for batch in self._batches([len(ids) for ids, _ in laid]):
            for i, vector in zip(batch, halved([laid[i] for i in batch], self._forward), strict=True):
                if isinstance(vector, OutOfMemory):
                    raise vector
                tokens = len(laid[i][0])
                found[i] = Embedding(vector, tokens, 2.0 * parameters * tokens)
        return [embedding for embedding in found if embedding is not None]

    def _layout(self, trace: Trace) -> _Laid:
        ids = [*trace.question.tokens, *(token for step in trace.steps for token in step.tokens.tolist())]
        if not ids:
            raise ValueError(f"question '{trace.question.id}' has no tokens; there is nothing to embed")
        kept = ids[-self._context :]
        own = len(trace.steps[-1]) if trace.steps else 0
        return kept, min(max(own, 1), len(kept))

    @property
    def _context(self) -> int:
        """Tokens; 0, which cuts nothing off, where the model names no bound."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 0)

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Traces of like length together."""
        held: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            if held and lengths[i] * (len(held) + 1) > self.batch_tokens:
                yield held
                held = []
            held.append(i)
        if held:
            yield held

    def _forward(self, laid: Sequence[_Laid]) -> list[NDArray[np.float32]]:
        """A vector for each of these sequences."""
        import torch

        batch = torch.zeros(len(laid), max(len(ids) for ids, _ in laid), dtype=torch.long)
        for i, (ids, _) in enumerate(laid):
            batch[i, : len(ids)] = torch.tensor(ids)
        with torch.inference_mode():
            # right-padded and causal: what follows a sequence cannot reach it, so no attention mask is needed
            hidden = self.model(input_ids=batch.to(self.model.device), use_cache=False).last_hidden_state
            means = [hidden[i, len(ids) - own : len(ids)].float().mean(dim=0) for i, (ids, own) in enumerate(laid)]
            return list(torch.stack(means).cpu().numpy())


def load_encoder(name: str = "bundled", params: Mapping[str, Any] | None = None) -> HiddenStates:
    """Loads a generator's weights, from the bundle, a folder or the hub, as an encoder. Options: device, dtype.

    They are loaded anew beside the generation core, which holds them in another form, and only where an encoder is asked for.
    """
    from transformers import AutoModel

    from pipelines.engine.layercast import cast

    options = options_of(params or {}, device="cpu", dtype="float32")
    dtype = placed(str(options["device"]), str(options["dtype"]))
    model = pretrained(AutoModel, locate(name, "generator"), dtype=dtype, use_safetensors=True)
    model.to(options["device"]).eval().requires_grad_(False)
    if options["dtype"] == "layercast":
        cast(model)
    return HiddenStates(model)
