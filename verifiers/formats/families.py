"""Which family a model is of: what its files say, and whether a format can read it.

Nothing of the model is run or loaded for this but its configuration and its tokenizer; code that comes with a model is never
run unless the caller allowed it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.models import BadOption, ModelError, locate, pretrained
from search.checks import one_of
from verifiers.formats.format import FORMATS, SEPARATORS, Format, Frame, Head, Squash
from verifiers.formats.layout import Layout
from verifiers.formats.text import Unreadable

RIGHT = ("right", "correct", "positive", "good", "true", "yes", "valid", "+")  # names of the label that means "right"
WRONG = ("wrong", "incorrect", "negative", "bad", "false", "no", "invalid", "error", "-")  # and of the other one
NUMBERED = re.compile(r"label[_ ]?\d+|\d+")  # names that say nothing: then 1 is right, as PRMTrainer has it
PROBE = ("What is 1 + 1?", ["1 + 1 = 2.", "The answer is 2."])
DEEP = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")
VALUE = ("v_head.summary.weight", "v_head.summary.bias")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model's files say."""

    name: str
    source: Path | str
    config: Any
    tokenizer: Any
    weights: Mapping[str, str]  # of each tensor, the file it is in
    code: bool = False  # whether the model's own code may run

    @property
    def architecture(self) -> str:
        return ", ".join(self.config.architectures or []) or "an unknown architecture"

    @property
    def labels(self) -> int:
        return int(self.config.num_labels)


@dataclass(frozen=True, slots=True)
class Trusting:
    """A loader of transformers that may run the model's own code: for those who asked for it by name."""

    loader: Any

    def from_pretrained(self, source: Path | str, trust_remote_code: bool = False, **options: Any) -> Any:
        return self.loader.from_pretrained(source, trust_remote_code=True, **options)


def trusted(loader: Any, code: bool) -> Any:
    return Trusting(loader) if code else loader


def allowed(code: str) -> bool:
    """Whether a model's own code may run. Raises BadOption for another word than 'never' and 'allow'."""
    if code not in ("never", "allow"):
        raise BadOption(f"code must be 'never' or 'allow', not '{code}'")
    return code == "allow"


def facts_of(name: str, code: bool = False) -> Facts:
    """Reads a model's configuration, tokenizer and list of weights. Raises ModelError in one line."""
    source = locate(name, "reward")
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = pretrained(trusted(AutoConfig, code), source)
    except ModelError as error:
        if not code and "auto_map" in _config_text(source):
            remedy = "give code=allow to run it if you trust it"
            raise ModelError(f"model '{name}' is known to its own code only, which does not run: {remedy}") from error
        raise
    tokenizer = pretrained(trusted(AutoTokenizer, code), source)
    if not tokenizer.is_fast:
        raise ModelError(f"model '{name}' has no fast tokenizer (tokenizer.json), which tells where tokens stand")
    return Facts(name, source, config, tokenizer, _weights(source), code)


def _file(source: Path | str, name: str) -> Path | None:
    """A file of a folder or of the hub, where it is there."""
    if isinstance(source, Path):
        return source / name if (source / name).is_file() else None
    from transformers.utils import cached_file

    with suppress(OSError):
        found = cached_file(source, name)
        return None if found is None else Path(found)
    return None


def _config_text(source: Path | str) -> str:
    path = _file(source, "config.json")
    return path.read_text() if path else ""


def _weights(source: Path | str) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    index = _file(source, "model.safetensors.index.json")
    if index is not None:
        return dict(json.loads(index.read_text())["weight_map"])
    path = _file(source, "model.safetensors")
    if path is None:
        return {}
    try:
        with safe_open(path, framework="np") as opened:
            return dict.fromkeys(opened.keys(), path.name)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"model '{source}' cannot be loaded: {error}") from error


def tensors(facts: Facts, names: tuple[str, ...]) -> Iterator[Any]:
    """Weights by name, as torch tensors."""
    from safetensors import safe_open

    for name in names:
        path = _file(facts.source, facts.weights[name])
        if path is None:
            raise ModelError(f"model '{facts.name}' has no file {facts.weights[name]}, in which '{name}' should be")
        with safe_open(path, framework="pt") as opened:
            yield opened.get_tensor(name)


# ------------------------------------------------------------------------------------------------------ what can be read


def unfit(form: Format, facts: Facts) -> str:
    """Why a format cannot read a model; "" where it can."""
    lacks = [name for name in _needed(form) if name not in facts.weights]
    if lacks:
        return f"it has no weight {lacks[0]}"
    kind = {Head.TOKENS: "ForTokenClassification", Head.SEQUENCE: "ForSequenceClassification", Head.WORDS: "ForCausalLM"}
    ending = kind.get(form.head)
    if ending and not any(each.endswith(ending) for each in facts.config.architectures or []):
        return f"it is {facts.architecture}, not one {ending}"
    if form.head is Head.TOKENS and facts.labels != 2:
        return f"it has {facts.labels} label(s), not 2"
    if form.head is Head.SEQUENCE and facts.labels not in (1, 2):
        return f"it has {facts.labels} labels, not 1 or 2"
    return _unwritable(form, facts.tokenizer)


def _needed(form: Format) -> tuple[str, ...]:
    return {Head.DEEP: DEEP, Head.VALUE: VALUE}.get(form.head, ())


def _unwritable(form: Format, tokenizer: Any) -> str:
    """Why a tokenizer cannot write what a format demands."""
    if form.frame in (Frame.CHAT, Frame.TURNS) and tokenizer.chat_template is None:
        return "its tokenizer has no chat template"
    if form.begun and tokenizer.bos_token is None:
        return "its tokenizer has no bos token, with which the family begins"
    if form.head is Head.DEEP and form.mark not in tokenizer.get_added_vocab():
        return f"its tokenizer has no token {form.mark}"
    if form.head is Head.WORDS:
        for word in (*form.classes, form.mark.strip()):
            tokens = len(tokenizer.encode(word if word in form.classes else form.mark, add_special_tokens=False))
            if min(tokens, len(tokenizer.encode(word, add_special_tokens=False))) != 1:
                return f"its tokenizer writes '{word}' with {tokens} tokens, not 1"
    try:
        Layout(form, tokenizer).lay(*PROBE)
    except Unreadable as error:
        return str(error)
    return ""


def unlike(form: Format, facts: Facts) -> str:
    """Why a model that a format can read does not look like its family; "" where it does."""
    if form.asked:
        return "any language model has its words: it must be asked for by name"
    names = {str(label).lower() for label in facts.config.id2label.values()}
    if form.name == "trl" and names == {"right", "wrong"}:
        return "its labels are named right and wrong, which PRMTrainer does not do"
    if form.name == "ponderosa" and names != {"right", "wrong"} and facts.tokenizer.chat_template is None:
        return "its labels are not named right and wrong, and its tokenizer has no chat template"
    return ""


def evidence(facts: Facts) -> list[str]:
    """What of a model's files speaks for a family, a line each."""
    tokenizer = facts.tokenizer
    heads = sorted(name for name in facts.weights if name.startswith(("score", "v_head", "lm_head", "classifier")))
    marks = [mark for mark in ("<extra_0>", " ки", "+", "-") if _single(tokenizer, mark)]
    named = ", ".join(f"{i} {label}" for i, label in sorted(facts.config.id2label.items()))
    return [
        f"architecture {facts.architecture}",
        f"labels {named}",
        f"weights of a head: {', '.join(heads) or 'none'}",
        f"chat template: {'yes' if tokenizer.chat_template else 'no'}; bos token: {tokenizer.bos_token or 'none'}",
        f"single tokens: {', '.join(repr(mark) for mark in marks) or 'none of the marks'}",
    ]


def _single(tokenizer: Any, text: str) -> bool:
    return min(len(tokenizer.encode(each, add_special_tokens=False)) for each in (text, text.strip())) == 1


def looks(facts: Facts) -> list[str]:
    """The families that a model looks like."""
    return [name for name, form in FORMATS.items() if not unfit(form, facts) and not unlike(form, facts)]


def detected(facts: Facts, wanted: str = "", separator: str = "") -> Format:
    """The format to read a model by: the one asked for, or the only one that it looks like. Raises ModelError in one line."""
    if wanted:
        one_of("format", wanted, FORMATS)
        why = unfit(FORMATS[wanted], facts)
        if why:
            raise ModelError(f"model '{facts.name}' cannot be read by format '{wanted}': {why}")
        return settled(FORMATS[wanted], facts, separator)
    found = looks(facts)
    if len(found) == 1:
        return settled(FORMATS[found[0]], facts, separator)
    readable = found or [name for name, form in FORMATS.items() if not unfit(form, facts)]
    who = f"model '{facts.name}' is {facts.architecture} with {facts.labels} label(s)"
    if not readable:
        raise ModelError(f"{who}: no reward-model format fits; `ponderosa verifier check` says why not")
    why = "which its files do not tell apart" if found else "and nothing in its files tells the family"
    raise ModelError(f"{who}: it can be read as {' or '.join(readable)}, {why}; name one with format=")


def settled(form: Format, facts: Facts, separator: str = "") -> Format:
    """A format with what the model and the user decide: which label means right, how many there are, the separator."""
    if separator:
        one_of("separator", separator, SEPARATORS)
        if form.name != "trl":
            raise ModelError(f"format '{form.name}' has one separator only; leave separator={separator} out")
        form = replace(form, mark=SEPARATORS[separator])
    if form.head is Head.SEQUENCE and facts.labels == 1:
        return replace(form, squash=Squash.SIGMOID)
    if form.named:
        names = {int(index): str(label) for index, label in facts.config.id2label.items()}
        form = replace(form, classes=tuple(names[i] for i in sorted(names)), right=_right(names, facts.name))
    return form


def _right(names: Mapping[int, str], model: str) -> int:
    """The index of the label that means "right", by its name or by the other's. Raises ModelError where they do not say."""
    plain = {index: label.strip().lower() for index, label in names.items()}
    if all(NUMBERED.fullmatch(label) for label in plain.values()):
        return 1
    right = [index for index, label in plain.items() if label in RIGHT]
    if not right and len(plain) == 2:
        right = [index for index in plain if any(label in WRONG for other, label in plain.items() if other != index)]
    if len(right) != 1:
        said = ", ".join(f"{index} '{label}'" for index, label in sorted(names.items()))
        raise ModelError(
            f"model '{model}' has the labels {said}, which do not say what is right; name them right and wrong in id2label"
        )
    return right[0]
