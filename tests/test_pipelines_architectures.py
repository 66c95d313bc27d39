"""Other architectures through the same core: tiny random models of other families, saved and loaded as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.models import BUNDLED, ModelError, load_generator
from search.types import Extend, Row, Sampling, Until, seed_of

SMALL = {
    "vocab_size": 600,  # more than the tokenizer has: the rest is padding
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def saved(folder: Path, kind: str, **changed: Any) -> Any:
    """A random model of a family with the bundled tokenizer, in a folder."""
    import transformers

    torch.manual_seed(0)
    given = {**SMALL, **changed}
    if kind.startswith("GPT"):  # these have no grouped heads, and do not know the word
        del given["num_key_value_heads"]
    config = getattr(transformers, f"{kind}Config")(**given)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(6)  # far from uniform, so that a wrong cache shows in the greedy text
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(BUNDLED["generator"]).save_pretrained(folder)
    return model


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("Llama", {}),
    ("Qwen2", {}),
    ("Qwen3", {"head_dim": 32}),
    ("Mistral", {"sliding_window": None}),
    ("Phi3", {}),
    ("Olmo2", {}),
    ("Granite", {"logits_scaling": 8.0}),  # scales its logits after the head
    ("Cohere", {"logit_scale": 0.25}),  # so does this one
    ("GPTNeoX", {}),
    ("GPT2", {}),
]


@pytest.mark.parametrize(("kind", "changed"), KINDS, ids=[k for k, _ in KINDS])
def test_greedy_output_and_log_probabilities_are_the_modules_own(tmp_path: Path, kind: str, changed: dict[str, Any]) -> None:
    oracle = saved(tmp_path, kind, **changed)
    generator = load_generator(str(tmp_path))
    prompts = [generator.encode(q) for q in ("Use 3, 5, 7 to make 36.", "Ben has 2 coins.")]
    for search, prompt in enumerate(prompts):
        rows = tuple(Row(p, seed_of(0, kind, p), prompt, 24) for p in ("0", "1"))
        generator.engine.submit(search, Extend(rows, Until.END, Sampling(temperature=0)))
    replies = {}
    while generator.engine.busy:
        replies.update(generator.engine.advance())
    for search, prompt in enumerate(prompts):
        for step in replies[search].steps:
            ids = torch.tensor([[*prompt, *step.tokens.tolist()]])
            with torch.inference_mode():
                logits = oracle(ids).logits[0, len(prompt) - 1 : -1, : generator.engine.vocabulary.size].float()
            assert logits.argmax(-1).tolist() == step.tokens.tolist()
            expected = torch.log_softmax(logits, -1).max(-1).values.numpy()
            assert np.abs(expected - step.logprobs).max() < 1e-3


def test_sliding_window_attention_is_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path, "Mistral", sliding_window=32)
    with pytest.raises(ModelError, match="cannot run on the generation core: it uses sliding-window attention"):
        load_generator(str(tmp_path))


def test_padding_rows_of_the_embedding_are_never_drawn(tmp_path: Path) -> None:
    saved(tmp_path, "Llama")
    generator = load_generator(str(tmp_path))
    rows = tuple(Row(str(i), i, (5, 6, 7), 60) for i in range(32))
    generator.engine.submit(0, Extend(rows, Until.END, Sampling(temperature=3.0)))
    while not (done := generator.engine.advance()):
        pass
    tokens = np.concatenate([step.tokens for step in done[0][1].steps])
    assert tokens.max() < generator.engine.vocabulary.size < 600


def test_a_model_without_a_chat_template_gets_the_question_and_a_blank_line(tmp_path: Path) -> None:
    import transformers

    saved(tmp_path, "Llama")
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUNDLED["generator"])
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    generator = load_generator(str(tmp_path))
    assert tokenizer.decode(generator.encode("Ben has 2 coins.")) == "Ben has 2 coins.\n\n"


@pytest.mark.parametrize("option", [{"rows": 0}, {"cache_mb": -1}, {"cache_mb": "abc"}])
def test_a_count_out_of_range_is_one_line(option: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=f"model option {next(iter(option))} must be a whole number of at least"):
        load_generator(params=option)


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    saved(tmp_path, "Llama")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_generator(str(tmp_path))


def test_unknown_options_and_devices_are_one_line() -> None:
    with pytest.raises(ModelError, match=r"unknown model option 'dtyp' \(cache_mb, device, dtype, rows\)"):
        load_generator(params={"dtyp": "float32"})
    with pytest.raises(ModelError, match=r"unknown device 'gpu' \(cpu, cuda, mps\)"):
        load_generator(params={"device": "gpu"})
    with pytest.raises(ModelError, match=r"unknown dtype 'int3'"):
        load_generator(params={"dtype": "int3"})
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="torch sees no CUDA; use device=cpu"):
            load_generator(params={"device": "cuda"})
