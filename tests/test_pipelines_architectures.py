"""Other architectures through the same core: tiny random models of other families, saved and loaded as folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import forward
from pipelines.engine.build import built
from pipelines.engine.engine import Engine
from pipelines.engine.forward import ModuleForward, PlainForward
from pipelines.engine.fused import FusedForward
from pipelines.engine.memory import DeviceMemory, HostMemory
from pipelines.models import BUNDLED, ModelError, TextModel, load_generator
from search.types import GREEDY, Extend, Row, Sampling, Step, Until, seed_of

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

    model = random_model(kind, **changed)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(BUNDLED["generator"]).save_pretrained(folder)
    return model


def random_model(kind: str, **changed: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    given = {**SMALL, **changed}
    if kind.startswith("GPT"):  # these have no grouped heads, and do not know the word
        del given["num_key_value_heads"]
    config = getattr(transformers, f"{kind}Config")(**given)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(6)  # far from uniform, so that a wrong cache shows in the greedy text
        elif parameter.ndim == 1:
            parameter.add_(torch.randn(parameter.shape) / 4)  # gains and biases that are not 1 and 0
    model.config.dtype = torch.float32
    return model


def steps_of(
    engine: Engine, prompts: Sequence[tuple[int, ...]], sampling: Sampling, n: int = 2, limit: int = 24
) -> list[list[Step]]:
    """The steps of as many searches, run together and forgotten."""
    for search, prompt in enumerate(prompts):
        rows = tuple(Row(str(i), seed_of(0, "kind", str(i)), prompt, limit) for i in range(n))
        engine.submit(search, Extend(rows, Until.END, sampling))
    replies = {}
    while engine.busy:
        replies.update(engine.advance())
    for search in replies:
        engine.forget(search)
    assert engine.pool.used_pages == 0
    return [list(replies[search].steps) for search in range(len(prompts))]


def assert_the_modules_own(generator: TextModel, oracle: Any, limit: int = 40) -> None:
    """Greedy and sampled texts have the log-probabilities of a full forward pass, and the greedy ones are its best tokens."""
    prompts = [generator.encode(q) for q in ("Use 3, 5, 7 to make 36.", "Ben has 2 coins.")]
    for sampling in (GREEDY, Sampling()):
        for prompt, steps in zip(prompts, steps_of(generator.engine, prompts, sampling, limit=limit), strict=True):
            for step in steps:
                ids = torch.tensor([[*prompt, *step.tokens.tolist()]])
                with torch.inference_mode():
                    logits = oracle(ids, use_cache=False).logits[0, len(prompt) - 1 : -1, : generator.engine.vocabulary.size]
                if sampling is GREEDY:
                    assert logits.argmax(-1).tolist() == step.tokens.tolist()
                expected = torch.log_softmax(logits.float(), -1).gather(1, ids[0, len(prompt) :, None])[:, 0].numpy()
                assert np.abs(expected - step.logprobs).max() < 1e-3


# ------------------------------------------------------------------------------------------------------------- which path

QUICK: list[tuple[str, dict[str, Any]]] = [
    ("Llama", {"head_dim": 32}),
    ("Llama", {"head_dim": 64}),
    ("Llama", {"head_dim": 32, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2}),
    ("Llama", {"head_dim": 96, "num_key_value_heads": 4, "tie_word_embeddings": True}),
    ("Qwen2", {"head_dim": 32}),
    ("Qwen2", {"hidden_size": 256}),
    ("Qwen3", {"head_dim": 32}),
    ("Qwen3", {"head_dim": 64}),
    ("Mistral", {"head_dim": 32, "sliding_window": None}),
    ("Mistral", {"head_dim": 64, "sliding_window": None, "num_attention_heads": 7, "num_key_value_heads": 1}),
]


def name_of(case: Any) -> str:
    return ", ".join(f"{k}={v}" for k, v in case.items()) if isinstance(case, dict) else str(case)


@pytest.mark.parametrize(("kind", "changed"), QUICK, ids=name_of)
def test_these_take_the_fused_path(tmp_path: Path, kind: str, changed: dict[str, Any]) -> None:
    oracle = saved(tmp_path, kind, **changed)
    generator = load_generator(str(tmp_path))
    assert isinstance(generator.engine.forward, FusedForward)
    assert_the_modules_own(generator, oracle)


ROPES: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 4.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
]


@pytest.mark.parametrize("rope", ROPES, ids=[rope["rope_type"] for rope in ROPES])
def test_scaled_rotary_embeddings_take_the_fused_path(tmp_path: Path, rope: dict[str, Any]) -> None:
    oracle = saved(tmp_path, "Llama", head_dim=32, rope_parameters={"rope_theta": 10000.0, **rope})
    generator = load_generator(str(tmp_path))
    assert isinstance(generator.engine.forward, FusedForward)
    assert_the_modules_own(generator, oracle)


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}  # changes beyond the context: never here
SLOWER: list[tuple[str, dict[str, Any], type, str]] = [
    ("Llama", {"head_dim": 16}, HostMemory, "its sizes are not multiples of 16"),  # a head's half must be one
    ("Llama", {"hidden_size": 72, "head_dim": 18}, DeviceMemory, "its sizes are not multiples of 16"),
    ("Llama", {"head_dim": 32, "intermediate_size": 100}, HostMemory, "its sizes are not multiples of 16"),
    ("Llama", {"head_dim": 32, "attention_bias": True}, HostMemory, "its attention has an output bias"),
    ("Llama", {"head_dim": 32, "mlp_bias": True}, HostMemory, "its MLP is another"),
    ("Qwen3", {"head_dim": 32, "hidden_act": "gelu"}, HostMemory, "its MLP is another"),
    ("Qwen3", {"head_dim": 32, "attention_bias": True}, HostMemory, "the fused path does not agree with the module"),
    ("Llama", {"head_dim": 32, "rope_parameters": DYNAMIC}, HostMemory, "its rotary embedding changes with the length"),
    ("Olmo2", {"head_dim": 32}, HostMemory, "Olmo2ForCausalLM is not of its families"),
]


@pytest.mark.parametrize(("kind", "changed", "memory", "why"), SLOWER, ids=name_of)
def test_these_take_the_module_path(tmp_path: Path, kind: str, changed: dict[str, Any], memory: type, why: str) -> None:
    oracle = saved(tmp_path, kind, **changed)
    generator = load_generator(str(tmp_path))
    assert isinstance(generator.engine.forward, ModuleForward)
    assert isinstance(generator.engine.forward.memory, memory)
    assert_the_modules_own(generator, oracle)
    with pytest.raises(ModelError, match=rf"^model '.*' cannot run so: {why}; use path=module$"):
        load_generator(str(tmp_path), {"path": "fused"})


WINDOW = {"sliding_window": 8, "use_sliding_window": True}
MIXED_LAYERS = ["full_attention", "sliding_attention", "full_attention"]
LINEAR = {
    "num_hidden_layers": 4,  # the fourth has full attention
    "head_dim": 16,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
    "short_factor": [1.0] * 16,
    "long_factor": [4.0] * 16,
}
PLAIN: list[tuple[str, dict[str, Any], str]] = [
    ("Mistral", {"sliding_window": 8}, "it uses sliding-window attention"),
    ("Qwen2", {**WINDOW, "layer_types": MIXED_LAYERS}, "it has sliding attention layers"),
    ("Gemma2", {"head_dim": 16, "sliding_window": 8}, "it has sliding attention layers"),
    ("Gemma3Text", {"head_dim": 16, "sliding_window": 8}, "it has sliding attention layers"),
    ("Llama", {"head_dim": 32, "rope_parameters": LONG}, "its rotary embedding changes with the length"),
    ("Mamba", {}, "it has linear attention layers"),
    ("Qwen3Next", LINEAR, "it has linear attention layers"),
]


@pytest.mark.parametrize(
    ("kind", "changed", "why"),
    [
        pytest.param(*case, id=case[0], marks=pytest.mark.slow if case[0] in ("Gemma3Text", "Qwen3Next") else ())
        for case in PLAIN
    ],
)
def test_what_paged_attention_cannot_serve_runs_on_the_plain_path(
    tmp_path: Path, kind: str, changed: dict[str, Any], why: str
) -> None:
    oracle = saved(tmp_path, kind, vocab_size=561, **changed)
    generator = load_generator(str(tmp_path))
    assert isinstance(generator.engine.forward, PlainForward)
    assert generator.engine.forward.what == f"the plain path ({why}): every sequence is computed again for each token"
    prompts = [generator.encode(q) for q in ("Use 3, 5, 7 to make 36.", "Ben has 2 coins.")]
    for prompt, steps in zip(prompts, steps_of(generator.engine, prompts, GREEDY), strict=True):
        out = oracle.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24, pad_token_id=0)
        assert [step.tokens.tolist() for step in steps] == [out[0, len(prompt) :].tolist()] * 2
    assert_the_modules_own(generator, oracle, limit=12)
    for path in ("fused", "module"):
        with pytest.raises(ModelError, match=rf"^model '.*' cannot run so: {why}; use path=plain$"):
            load_generator(str(tmp_path), {"path": path})


def test_a_model_whose_configuration_names_no_context_runs(tmp_path: Path) -> None:
    """Mamba's has no max_position_embeddings."""
    import transformers

    given = {k: v for k, v in SMALL.items() if k != "max_position_embeddings"}
    transformers.AutoModelForCausalLM.from_config(transformers.MambaConfig(**given)).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(BUNDLED["generator"]).save_pretrained(tmp_path)
    engine = load_generator(str(tmp_path)).engine
    assert isinstance(engine.forward, PlainForward)
    assert len(steps_of(engine, [(5, 6, 7)], GREEDY, n=1, limit=4)[0][0]) <= 4


# ----------------------------------------------------------------------------------------------------------- other families

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("Phi3", {}),
    ("Olmo2", {}),
    ("Granite", {"logits_scaling": 8.0}),  # scales its logits after the head
    ("Cohere", {"logit_scale": 0.25}),  # so does this one
    ("GPTNeoX", {}),
    ("GPT2", {}),
    ("Gemma", {"head_dim": 16}),
    ("Qwen3Moe", {"head_dim": 32}),
    ("GPTBigCode", {}),
]


@pytest.mark.parametrize(("kind", "changed"), KINDS, ids=[k for k, _ in KINDS])
def test_other_families_run_over_paged_memory_and_give_the_modules_own(
    tmp_path: Path, kind: str, changed: dict[str, Any]
) -> None:
    oracle = saved(tmp_path, kind, **changed)
    generator = load_generator(str(tmp_path))
    assert isinstance(generator.engine.forward, ModuleForward)
    assert_the_modules_own(generator, oracle)


LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "first_k_dense_replace": 3,
}
OWN_WAYS: list[tuple[str, dict[str, Any]]] = [
    ("Bloom", {}),  # ALiBi, in an attention of its own
    ("Falcon", {"num_kv_heads": 2}),
    ("OPT", {}),  # learnt positions counted from the mask
    ("GPTJ", {"rotary_dim": 8}),
    ("StableLm", {}),
    ("DiffLlama", {}),  # two attentions, one subtracted from the other
    ("Doge", {}),  # a mask of its own
    ("DeepseekV3", LATENT),  # values of another size than keys
    ("Llama4Text", {"layer_types": ["full_attention"] * 3, "num_local_experts": 2, "head_dim": 16}),  # linear layers of its own
    ("Gemma2", {"head_dim": 16, **WINDOW, "use_sliding_window": False, "layer_types": ["full_attention"] * 3}),  # soft caps
]


@pytest.mark.parametrize(("kind", "changed"), OWN_WAYS, ids=[k for k, _ in OWN_WAYS])
def test_families_that_go_their_own_way_run_on_the_plain_path(tmp_path: Path, kind: str, changed: dict[str, Any]) -> None:
    """They do not ask transformers' attention interface, or give it what the paged memory does not know of."""
    caps = {"attn_logit_softcapping": 2.0} if kind == "Gemma2" else {}
    oracle = saved(tmp_path, kind, **changed, **caps)
    generator = load_generator(str(tmp_path))
    assert isinstance(generator.engine.forward, PlainForward)
    assert "(its attention is not transformers' common one)" in generator.engine.forward.what
    assert_the_modules_own(generator, oracle, limit=12)
    with pytest.raises(ModelError, match=r"^model '.*' cannot run so: its attention is not .* common one; use path=plain$"):
        load_generator(str(tmp_path), {"path": "module"})


def test_a_rotary_embedding_that_changes_with_the_length_is_right_at_any_length(tmp_path: Path) -> None:
    """From 33 positions on longrope turns all of them by other angles: those in memory too, and those of no other row."""
    oracle = saved(tmp_path, "Llama", head_dim=32, rope_parameters={**LONG, "original_max_position_embeddings": 32})
    engine = load_generator(str(tmp_path)).engine
    for beside in ([], [tuple(range(5, 45))]):
        (step,), *_ = steps_of(engine, [(5, 6, 7), *beside], GREEDY, n=1, limit=40)
        for count, logprob in enumerate(step.logprobs):
            ids = torch.tensor([[5, 6, 7, *step.tokens[:count].tolist()]])
            with torch.inference_mode():
                logits = oracle(ids, use_cache=False).logits[0, -1, : engine.vocabulary.size]
            assert abs(float(torch.log_softmax(logits, -1)[step.tokens[count]]) - logprob) < 1e-3, (beside, count)


@pytest.mark.parametrize("path", ["fused", "module"])
def test_a_wider_models_bits_do_not_depend_on_the_batch(path: str) -> None:
    """Of Qwen2.5-0.5B's width: products of 896 columns take another way from some 200 rows on."""
    forward.register()
    sizes = {"hidden_size": 896, "intermediate_size": 896, "num_attention_heads": 14, "head_dim": 64, "num_hidden_layers": 1}
    vocabulary = load_generator().engine.vocabulary
    engine = built(random_model("Llama", **sizes, vocab_size=561, max_position_embeddings=512), vocabulary, path=path)
    short, long = (5, 6, 7), tuple(range(10, 410))
    (alone,) = steps_of(engine, [short], Sampling(), n=1, limit=12)
    beside, _ = steps_of(engine, [short, long], Sampling(), n=1, limit=12)
    for one, other in zip(alone, beside, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.logprobs.tobytes() == other.logprobs.tobytes()


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


@pytest.mark.parametrize("option", [{"rows": 0}, {"cache_mb": -1}, {"cache_mb": "abc"}, {"threads": -1}, {"draft": 1.5}])
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
    with pytest.raises(
        ModelError, match=r"unknown model option 'dtyp' \(cache_mb, device, draft, dtype, path, rows, threads\)"
    ):
        load_generator(params={"dtyp": "float32"})
    with pytest.raises(ModelError, match=r"unknown device 'gpu' \(cpu, cuda, mps\)") as raised:
        load_generator(params={"device": "gpu"})
    assert raised.value.exit_code == 2, "as of every flag"
    with pytest.raises(ModelError, match=r"unknown dtype 'int3'"):
        load_generator(params={"dtype": "int3"})
    with pytest.raises(ModelError, match=r"unknown path 'quick' \(auto, fused, module, plain\)"):
        load_generator(params={"path": "quick"})
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="torch sees no CUDA; use device=cpu"):
            load_generator(params={"device": "cuda"})
