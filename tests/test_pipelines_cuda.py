"""The generation core on a GPU, where there is one: the same code, held to what the CPU gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine.memory import DeviceMemory
from pipelines.models import TextModel, load_generator
from search.types import Extend, Extension, Row, Sampling, Until, seed_of

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA")]

QUESTIONS = ("Ben has 27 coins. Ben finds 12 more. Ben loses 9. How many coins does Ben have now?", "Use 5, 12, 4 to make 21.")


def answered(generator: TextModel, n: int, **sampling: Any) -> list[Extension]:
    engine = generator.engine
    for search, question in enumerate(QUESTIONS):
        prompt = generator.encode(question)
        rows = tuple(Row(str(i), seed_of(0, question, str(i)), prompt, 128) for i in range(n))
        engine.submit(search, Extend(rows, Until.END, Sampling(**sampling)))
    replies: dict[int, Extension] = {}
    while engine.busy:
        replies.update(engine.advance())
    for search in replies:
        engine.forget(search)
    assert engine.pool.used_pages == 0
    return [replies[search] for search in sorted(replies)]


def test_greedy_texts_in_float32_are_those_of_the_cpu() -> None:
    gpu = load_generator(params={"device": "cuda"})
    assert isinstance(gpu.engine.forward.memory, DeviceMemory)  # type: ignore[union-attr]
    cpu = load_generator()
    for ours, theirs in zip(answered(gpu, 1, temperature=0), answered(cpu, 1, temperature=0), strict=True):
        assert ours.steps[0].tokens.tolist() == theirs.steps[0].tokens.tolist()
        assert np.abs(ours.steps[0].logprobs - theirs.steps[0].logprobs).max() < 1e-3


def test_sampled_log_probabilities_are_those_of_a_forward_pass_on_the_cpu() -> None:
    from transformers import AutoModelForCausalLM

    from pipelines.models import BUNDLED

    oracle = AutoModelForCausalLM.from_pretrained(BUNDLED["generator"], dtype=torch.float32).eval()
    gpu = load_generator(params={"device": "cuda"})
    for question, reply in zip(QUESTIONS, answered(gpu, 32), strict=True):
        prompt = gpu.encode(question)
        for step in reply.steps:
            ids = torch.tensor([[*prompt, *step.tokens.tolist()]])
            with torch.inference_mode():
                logp = torch.log_softmax(oracle(ids).logits[0, len(prompt) - 1 : -1].float(), dim=-1)
            chosen = logp.gather(1, torch.tensor(step.tokens).long()[:, None])[:, 0].numpy()
            assert np.abs(chosen - step.logprobs).max() < 1e-2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "layercast"])
def test_the_other_dtypes_run(dtype: str) -> None:
    replies = answered(load_generator(params={"device": "cuda", "dtype": dtype}), 8)
    assert all(len(step) > 0 and np.isfinite(step.logprobs).all() for reply in replies for step in reply.steps)
