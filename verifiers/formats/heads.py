"""Loading a reward model: its base, which makes hidden states, and its head, which makes numbers of them.

No code of the model's own runs, and no weight is left random: a head that the files do not have is an error. Heads that
transformers does not know are built here from their weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.models import ModelError, placed, pretrained
from pipelines.scoring import Head as Reader
from verifiers.formats.families import DEEP, VALUE, Facts, tensors, trusted
from verifiers.formats.format import Format, Head

SCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # what some models do to their logits after the head


@dataclass(frozen=True, slots=True)
class Weights:
    """A loaded reward model."""

    model: Any  # as transformers loaded it
    base: Any  # without its head
    head: Reader
    context: int  # tokens


def load(facts: Facts, form: Format, device: str, dtype: str) -> Weights:
    """Raises ModelError in one line."""
    import transformers

    from pipelines.engine.layercast import arithmetic, cast

    placed_dtype = placed(device, dtype)
    loader = {
        Head.TOKENS: transformers.AutoModelForTokenClassification,
        Head.SEQUENCE: transformers.AutoModelForSequenceClassification,
        Head.WORDS: transformers.AutoModelForCausalLM,
    }.get(form.head, transformers.AutoModel)
    options = {"dtype": placed_dtype, "use_safetensors": True, "output_loading_info": True}
    model, told = pretrained(trusted(loader, facts.code), facts.source, **options)
    missing = sorted(told["missing_keys"])
    if missing:
        raise ModelError(f"model '{facts.name}' has no weight {missing[0]}, and would be read with a random one")
    model.to(device).eval().requires_grad_(False)
    base = model.base_model
    if dtype == "layercast":
        cast(model)
        base.arithmetic = model.arithmetic
    return Weights(model, base, head_of(facts, form, model, device, arithmetic(base)), context_of(facts))


def context_of(facts: Facts) -> int:
    config = facts.config
    for name in ("max_position_embeddings", "n_positions"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    raise ModelError(f"model '{facts.name}' does not say how many positions it has (max_position_embeddings)")


def head_of(facts: Facts, form: Format, model: Any, device: str, dtype: Any) -> Reader:
    from torch.nn.functional import linear, relu

    if form.head in (Head.TOKENS, Head.SEQUENCE):
        if not hasattr(model, "score"):
            raise ModelError(f"model '{facts.name}' is {facts.architecture}, whose head is not read: it must be a causal model")
        return model.score  # type: ignore[no-any-return]
    if form.head is Head.WORDS:
        return _words(facts, form, model)
    parts = [each.to(device, dtype) for each in tensors(facts, DEEP if form.head is Head.DEEP else VALUE)]
    if form.head is Head.VALUE:
        return lambda hidden: linear(hidden, parts[0], parts[1])
    if len(parts[2]) != len(form.classes):
        raise ModelError(
            f"model '{facts.name}' has {len(parts[2])} output(s), not {len(form.classes)}: no process reward model"
        )
    return lambda hidden: linear(relu(linear(hidden, parts[0], parts[1])), parts[2], parts[3])


def _words(facts: Facts, form: Format, model: Any) -> Reader:
    """The rows of the language model's output layer for the words of the classes."""
    from torch.nn.functional import linear

    from pipelines.engine.layercast import arithmetic

    changed = [name for name in SCALED if getattr(facts.config, name, None) not in (None, 1, 1.0)]
    if changed:
        raise ModelError(f"model '{facts.name}' scales its logits ({changed[0]}), which is not read")
    ids = [facts.tokenizer.encode(word, add_special_tokens=False)[-1] for word in form.classes]
    layer = model.get_output_embeddings()
    weight = layer.weight[ids].to(arithmetic(model))
    bias = None if layer.bias is None else layer.bias[ids].to(arithmetic(model))
    return lambda hidden: linear(hidden, weight, bias)
