"""The encoders by name, and how one is loaded from a run's words.

An encoder is named by a Part: NAME:KEY=VALUE,... It gives a vector of each candidate's last step to the strategies that ask
whether two steps say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.models import ModelError, fingerprint, locate
from search.checks import one_of
from search.types import Embedding, Encoder, Part, Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE = "sentence_transformers"


@dataclass(slots=True)
class Sentences:
    """A sentence-transformers model: the vector of the last step's text alone, of length 1. What is longer than the model
    reads is cut off at its end. Vectors float32 [dimensions]."""

    model: Any
    name: str = "sentence-transformers"

    def embed(self, traces: Sequence[Trace]) -> list[Embedding]:
        """One vector a trace, in order."""
        texts = [trace.steps[-1].text.strip() if trace.steps else trace.question.text for trace in traces]
        options = {"show_progress_bar": False, "convert_to_numpy": True, "normalize_embeddings": True}
        vectors: NDArray[np.float32] = self.model.encode(texts, **options)
        read = self.model.tokenizer(texts, truncation=True, max_length=self.model.max_seq_length)["input_ids"]
        parameters = sum(p.numel() for p in self.model.parameters())
        return [
            Embedding(vector.astype("float32"), len(ids), 2.0 * parameters * len(ids))
            for vector, ids in zip(vectors, read, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Known:
    """An encoder that can be named: loader, one line, parameters."""

    load: Callable[[dict[str, Any], Part], Encoder]
    about: str
    takes: tuple[str, ...]


def _hidden(params: dict[str, Any], generator: Part) -> Encoder:
    from pipelines.encoder import load_encoder

    like = {key: generator.params[key] for key in ("device", "dtype") if key in generator.params}
    model = str(params.pop("model", generator.name))
    return load_encoder(model, {**like, **params})


def _sentences(params: dict[str, Any], _: Part) -> Encoder:
    name = str(params["model"])
    transformer = import_module(PACKAGE).SentenceTransformer
    try:
        model = transformer(name, device=str(params.get("device", "cpu")), model_kwargs={"use_safetensors": True})
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"encoder '{name}' cannot be loaded: {first}") from error
    return Sentences(model)


ENCODERS: dict[str, Known] = {
    "hidden": Known(
        _hidden, "the generator's own last hidden states over the step, read in its context", ("model", "device", "dtype")
    ),
    "sentence-transformers": Known(_sentences, "a model of that package over the step's text alone", ("model", "device")),
}


def check_encoder(part: Part) -> Known:
    """What a Part names, without loading it. Raises ValueError in one line for what is not known or not there."""
    one_of("encoder", part.name, ENCODERS)
    known = ENCODERS[part.name]
    unknown = set(part.params) - set(known.takes)
    if unknown:
        raise ValueError(f"encoder '{part.name}' has no parameter '{min(unknown)}' (it takes {', '.join(known.takes)})")
    if part.name == "sentence-transformers":
        if "model" not in part.params:
            raise ValueError("encoder 'sentence-transformers' needs a model, as in sentence-transformers:model=NAME")
        if find_spec(PACKAGE) is None:
            raise ModelError(
                "encoder 'sentence-transformers' needs a package that is not installed: "
                "run `pip install sentence-transformers`, or use --encoder hidden"
            )
    return known


def load_named(part: Part, generator: Part) -> Encoder:
    """The encoder a Part names, loaded; `hidden` without a model is of the generator's."""
    return check_encoder(part).load(dict(part.params), generator)


def encoder_weights(part: Part | None) -> str:
    """The fingerprint of an encoder with weights of its own; "" for the generator's, and for a hub name."""
    model = "" if part is None else str(part.params.get("model", ""))
    if part is None or not model:
        return ""
    if part.name == "sentence-transformers":
        return fingerprint(model, "generator") if Path(model).exists() else ""
    return fingerprint(model, "generator") if isinstance(locate(model, "generator"), Path) else ""


__all__ = ["ENCODERS", "Sentences", "check_encoder", "encoder_weights", "load_named"]
