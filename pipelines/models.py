"""Models by name: the bundled ones, a Hugging Face folder, or a hub name. The same code path loads all."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.types import SEPARATOR

if TYPE_CHECKING:
    from pipelines.engine.engine import Engine

BUNDLED = {
    "generator": Path(__file__).parent / "bundled" / "generator",
    "reward": Path(__file__).parent / "bundled" / "reward",
    "small": Path(__file__).parent / "bundled" / "small",
    "judge": Path(__file__).parent / "bundled" / "judge",
}
# what each is asked for by
NAMES = {"generator": "bundled", "reward": "bundled", "small": "bundled-small", "judge": "bundled-judge"}
SIBLINGS = {
    NAMES[role]: BUNDLED[role] for role in ("small", "judge")
}  # with the generator's tokenizer, and generators as it is
DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16", "layercast")  # layercast: 16-bit weights, float32 arithmetic (arXiv 2506.09501)
STAND_IN = "PONDEROSA0QUESTION"  # for a question, while the chat template is rendered around it
PATHS = ("auto", "fused", "module", "plain")


class ModelError(ValueError):
    """A model that cannot be loaded; one line: what, the value, the remedy."""

    exit_code = 65


class BadOption(ModelError):
    """What was asked of a model is no option, or no value of one."""

    exit_code = 2  # usage, as of every flag


@dataclass(frozen=True, slots=True)
class TextModel:
    """A loaded generator: its engine, and how a question becomes the tokens of a prompt."""

    name: str
    engine: Engine
    tokenizer: Any

    def encode(self, question: str) -> tuple[int, ...]:
        """The prompt's tokens: the chat template with one user message where the model has one, else the text and a blank
        line."""
        return Writer(self.tokenizer).encode(question)

    def plainly(self, text: str) -> tuple[int, ...]:
        """A text's own tokens: no template, no special ones."""
        return Writer(self.tokenizer).plainly(text)


@dataclass(frozen=True, slots=True)
class Writer:
    """How texts become a generator's tokens, without the generator."""

    tokenizer: Any

    def encode(self, question: str) -> tuple[int, ...]:
        # those without a name of their own too, which all_special_tokens leaves out
        guarded = any(each.special and each.content in question for each in self.tokenizer.added_tokens_decoder.values())
        if self.tokenizer.chat_template is None:
            return tuple(self.tokenizer.encode(question + SEPARATOR, **({"split_special_tokens": True} if guarded else {})))
        if not guarded:
            return self.plainly(self._rendered(question))
        # what a question holds of the control tokens' spellings is text: it must not end the turn, nor begin another
        before, _, after = self._rendered(STAND_IN).partition(STAND_IN)
        inside = self.tokenizer.encode(question, add_special_tokens=False, split_special_tokens=True)
        return (*self.plainly(before), *inside, *self.plainly(after))

    def _rendered(self, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def plainly(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


@lru_cache(maxsize=2)
def load_writer(name: str = "bundled") -> Writer:
    """A generator's tokenizer alone. Raises ModelError where there is none."""
    from transformers import AutoTokenizer

    return Writer(pretrained(AutoTokenizer, locate(name, "generator")))


def locate(name: str, role: str) -> Path | str:
    """The folder a name means, or the name itself for the hub. Raises ModelError for a folder without a model."""
    if name == "bundled":
        return BUNDLED[role]
    if name in SIBLINGS and role != "reward":
        return SIBLINGS[name]
    folder = Path(name)
    if not folder.exists():
        if name.count("/") == 1 and not name.startswith((".", "/", "~")):
            return name  # a hub name: transformers looks in its cache, then asks the hub
        ours = "'bundled'" if role == "reward" else f"one of 'bundled', {', '.join(map(repr, SIBLINGS))}"
        raise ModelError(f"model folder '{name}' does not exist; give a folder, a hub name or {ours}")
    if not (folder / "config.json").is_file():
        raise ModelError(f"model folder '{name}' has no config.json; save one with save_pretrained")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        why = "only pickled weights, which may run code" if pickled else "no weights"
        raise ModelError(f"model folder '{name}' has {why}; save it as safetensors")
    return folder


def fingerprint(name: str, role: str) -> str:
    """8 hexadecimal digits that tell one model's weights from another's; "" for a hub name, whose files are not here.

    Over the configuration and, of each weights file, its size, first and last megabyte: a real model has too many bytes to
    read for every command.
    """
    folder = locate(name, role)
    if isinstance(folder, str):
        return ""
    digest = hashlib.blake2b((folder / "config.json").read_bytes(), digest_size=4)
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(f"{path.name}|{size}|".encode() + file.read(1 << 20))
            file.seek(max(size - (1 << 20), 0))
            digest.update(file.read())
    return digest.hexdigest()


def options_of(params: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """A model's options over their defaults; BadOption for an unknown one."""
    unknown = set(params) - set(defaults)
    if unknown:
        raise BadOption(f"unknown model option '{min(unknown)}' ({', '.join(sorted(defaults))})")
    return {**defaults, **params}


def whole(value: Any, name: str, least: int) -> int:
    """A model's option that is a count."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadOption(f"model option {name} must be a whole number of at least {least}, not '{value}'")
    return value


def placed(device: str, dtype: str) -> Any:
    """The torch dtype, after checking that device and dtype exist here."""
    import torch

    if dtype not in DTYPES:
        raise BadOption(f"unknown dtype '{dtype}' ({', '.join(DTYPES)})")
    kind = device.split(":")[0]
    if kind not in DEVICES:
        raise BadOption(f"unknown device '{device}' ({', '.join(DEVICES)})")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device '{device}' is not there: torch sees no CUDA; use device=cpu")
    return torch.bfloat16 if dtype == "layercast" else getattr(torch, dtype)


def pretrained(loader: Any, source: Path | str, **options: Any) -> Any:
    """from_pretrained with our rules: safetensors only, no code from the model; its errors become one line."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return loader.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"model '{source}' cannot be loaded: {first}") from error


def load_generator(name: str = "bundled", params: Mapping[str, Any] | None = None) -> TextModel:
    """Loads a causal language model onto the generation core.

    Options: device (cpu), dtype (float32), rows (rows that run at once, 256), cache_mb (memory for keys and values; 0 = 1024,
    or half of what is free on a GPU), threads (parts of a batch that run side by side on a CPU; 0 = as many as torch
    uses), draft (tokens guessed ahead from a search's own texts, 0), path (auto; fused, module or plain to choose one).
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipelines.engine import forward
    from pipelines.engine.build import CannotServe, built
    from pipelines.engine.layercast import cast
    from pipelines.engine.vocabulary import Vocabulary

    options = options_of(params or {}, device="cpu", dtype="float32", rows=256, cache_mb=0, threads=0, draft=0, path="auto")
    dtype = placed(str(options["device"]), str(options["dtype"]))
    if options["path"] not in PATHS:
        raise BadOption(f"unknown path '{options['path']}' ({', '.join(PATHS)})")
    rows = whole(options["rows"], "rows", 1)
    cache_mb, threads, draft = (whole(options[key], key, 0) for key in ("cache_mb", "threads", "draft"))
    source = locate(name, "generator")
    tokenizer = pretrained(AutoTokenizer, source)
    forward.register()
    model = pretrained(AutoModelForCausalLM, source, dtype=dtype, use_safetensors=True)
    model.to(options["device"]).eval().requires_grad_(False)
    vocabulary = Vocabulary(tokenizer, _ends(model, tokenizer), model.config.vocab_size)
    if options["dtype"] == "layercast":
        cast(model)
    try:
        engine = built(model, vocabulary, path=str(options["path"]), rows=rows, cache_mb=cache_mb, threads=threads, draft=draft)
    except CannotServe as error:
        raise ModelError(f"model '{name}' cannot run so: {error}") from None
    if engine.plain and options["path"] == "auto":
        logging.getLogger(__name__).warning("model '%s' runs on %s", name, engine.forward.what)
    return TextModel(name, engine, tokenizer)


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """All end tokens: a model's generation config may name several."""
    named = model.generation_config.eos_token_id
    ends = list(named) if isinstance(named, list) else [named]
    return [int(e) for e in {*ends, tokenizer.eos_token_id} if e is not None]


def card(folder: Path) -> dict[str, Any]:
    """A bundled model's card, or an empty one."""
    path = folder / "card.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}
