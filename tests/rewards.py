"""Tiny reward models of every family with random weights, and tokenizers made here; nothing is downloaded.

The tokenizer is built so that a wrong join shows: it has tokens of a full stop and the line break after it, and of a line break
and the letter after it. The weights are far from zero, so that a value read one token off, or of the
other class, is another value.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

QUESTION = "Ben has 27 coins. Ben finds 12 more. Ben loses 9. How many coins does Ben have now?"
STEPS = ["Finds 12 more: 27+12=39.", "Loses 9: 39-9=30.", "The answer is \\boxed{30}"]
TAG = " ки"
SPECIAL = ("<|pad|>", "<|begin|>", "<|im_start|>", "<|im_end|>", "<extra_0>")
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (  # trims, as Llama's does, and ends a message with one token, so that the answer's predictor is the third from the end
    "<|begin|>{% for message in messages %}<|im_start|>{{ message['role'] }}\n\n{{ message['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
FAMILIES = ("ponderosa", "trl", "qwen", "skywork", "rlhflow", "math-shepherd", "spare", "orm", "orm-2")
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 3,
    "tie_word_embeddings": False,
}


ACROSS = [(end, "Ċ") for end in ".?}"] + [("Ċ", letter) for letter in "BFLTSW"] + [("Ċ", "Ċ")]  # Ċ is a line break


@lru_cache(maxsize=1)
def _trained() -> str:
    """The tokenizer's JSON: tags, plus and minus stay apart; ends and beginnings of lines run together before all else."""
    made = Tokenizer(models.BPE())
    apart = pre_tokenizers.Split(Regex(f"{TAG}|[+\\-]"), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([apart, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [*(f"{word}{TAG}{TAG}" for word in (QUESTION, *STEPS)), "user", "assistant", "system"]
    made.train_from_iterator(texts * 3, trainer)
    raw = json.loads(made.to_str())
    vocabulary, merges = raw["model"]["vocab"], raw["model"]["merges"]
    for pair in ACROSS:
        vocabulary.setdefault("".join(pair), len(vocabulary))
    raw["model"]["merges"] = [list(pair) for pair in ACROSS] + [each for each in merges if tuple(each) not in ACROSS]
    return json.dumps(raw)


def tokenizer(template: str | None = None, bos: bool = True) -> Any:
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        bos_token="<|begin|>" if bos else None,
    )
    made.add_tokens([AddedToken(each, special=True, normalized=False) for each in SPECIAL])
    made.chat_template = template
    return made


def _wild(model: Any, seed: int) -> Any:
    """Weights far from zero, of a fixed seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(noise / 5 + name.endswith("norm.weight"))
            else:
                gain = 3 if "mlp" in name or "v_proj" in name or "o_proj" in name else 2
                parameter.copy_(noise * (1 if "embed" in name else gain / parameter.shape[-1] ** 0.5))
    return model.eval()


def _model(kind: str, **more: Any) -> Any:
    import transformers

    words = len(tokenizer())
    config = getattr(transformers, kind.split("For")[0] + "Config")(**SIZES, vocab_size=words, **more)
    return _wild(getattr(transformers, kind)(config), seed=7)


def _extended(folder: Path, architecture: str, extra: dict[str, torch.Tensor], **config: Any) -> None:
    """Adds weights of a head that transformers does not know, and what the authors' config says of it."""
    path = folder / "model.safetensors"
    kept = {name: each for name, each in load_file(path).items() if not name.startswith("lm_head")}
    save_file({**kept, **extra}, path, metadata={"format": "pt"})
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**written, "architectures": [architecture], **config}))


def _noise(*shape: int, scale: float) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * scale


def build(family: str, folder: Path) -> Path:
    """A model of a family, as its authors save it, in a folder."""
    width = SIZES["hidden_size"]
    template: str | None = None
    match family:
        case "ponderosa":
            model, template = _model("LlamaForTokenClassification", num_labels=2), CHAT
            model.config.id2label, model.config.label2id = {0: "wrong", 1: "right"}, {"wrong": 0, "right": 1}
        case "trl":
            model = _model("LlamaForTokenClassification", num_labels=2)
        case "qwen" | "skywork":
            model, template = _model("Qwen2ForCausalLM"), CHAT if family == "qwen" else None
        case "rlhflow" | "spare":
            model, template = _model("LlamaForCausalLM"), LLAMA
        case "math-shepherd":
            model = _model("MistralForCausalLM")
        case "orm":
            model, template = _model("LlamaForSequenceClassification", num_labels=1), LLAMA
        case "orm-2":
            model, template = _model("MistralForSequenceClassification", num_labels=2), CHAT
    model.save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    if family == "qwen":
        head = {"score.0.weight": _noise(width, width, scale=0.3), "score.0.bias": _noise(width, scale=0.3)}
        head |= {"score.2.weight": _noise(2, width, scale=0.3), "score.2.bias": _noise(2, scale=0.3)}
        code = {
            "AutoConfig": "configuration_qwen2_rm.Qwen2RMConfig",
            "AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel",
        }
        _extended(folder, "Qwen2ForProcessRewardModel", head, auto_map=code)
    elif family == "skywork":
        head = {"v_head.summary.weight": _noise(1, width, scale=0.3), "v_head.summary.bias": _noise(1, scale=0.3)}
        _extended(folder, "Qwen2ForPrmModel", head)
    return folder


def wanted(family: str) -> str:
    """The name that a family is asked for by: "" where the files tell it."""
    return family if family in ("rlhflow", "math-shepherd", "spare") else ""


def sentencepiece() -> Any:
    """A tokenizer as Llama 2 and Mistral have it: a space before each text, words with their space, bytes for the rest."""
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()  # for training: no token runs over a space
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    made.train_from_iterator([*(f"{text} ки" for text in (QUESTION, *STEPS)), "+ -"] * 5, trainer)
    raw = json.loads(made.to_str())
    for byte in range(256):
        raw["model"]["vocab"][f"<0x{byte:02X}>"] = len(raw["model"]["vocab"])
    raw["pre_tokenizer"] = None
    made = Tokenizer.from_str(json.dumps(raw))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
