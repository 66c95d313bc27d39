"""The generator's hidden states as vectors, against the module's own forward pass, one trace at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes import step_of

from pipelines.encoder import HiddenStates, load_encoder
from pipelines.engine.scarce import OutOfMemory
from pipelines.models import BUNDLED, ModelError
from search.types import Question, Trace


@pytest.fixture(scope="module")
def encoder() -> HiddenStates:
    return load_encoder()


@pytest.fixture(scope="module")
def oracle() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(BUNDLED["generator"], dtype=torch.float32).eval()


def trace(prompt: int, *steps: int, seed: int = 0) -> Trace:
    """A question of so many tokens, and steps of so many."""
    random = np.random.default_rng(seed)
    tokens = tuple(random.integers(3, 500, prompt).tolist())
    # the fakes' texts mean nothing here: only tokens are read
    return Trace(Question("q", "", tokens), tuple(step_of(random.integers(10, 14, n).tolist()) for n in steps))


def straight(oracle: Any, of: Trace) -> np.ndarray[Any, Any]:
    """The same vector, written out."""
    ids = list(of.question.tokens) + [int(t) for step in of.steps for t in step.tokens]
    own = len(of.steps[-1]) if of.steps else 0
    with torch.inference_mode():
        states = oracle(torch.tensor([ids[-1024:]]), output_hidden_states=True).hidden_states[-1][0]
    mean: np.ndarray[Any, Any] = (states[-own:] if own else states[-1:]).mean(dim=0).numpy()
    return mean


TRACES = [
    trace(20, 5),
    trace(1, 1, seed=1),
    trace(30, 4, 7, 9, seed=2),
    trace(12, 6, 0, seed=3),  # an empty step
    trace(12, seed=4),  # none
    trace(40, 200, seed=5),
    trace(1000, 60, seed=6),  # over the context
    trace(10, 1100, seed=7),  # the step alone is
]


def test_vectors_are_the_modules_own_last_hidden_states(encoder: HiddenStates, oracle: Any) -> None:
    parameters = sum(p.numel() for p in oracle.parameters())  # its head is its embedding
    for of, embedding in zip(TRACES, encoder.embed(TRACES), strict=True):
        assert (embedding.vector.shape, embedding.vector.dtype) == ((128,), np.float32)
        assert np.abs(embedding.vector - straight(oracle, of)).max() < 1e-5
        tokens = min(len(of.question.tokens) + sum(map(len, of.steps)), 1024)
        assert (embedding.tokens, embedding.flops) == (tokens, 2.0 * parameters * tokens)


def test_a_vector_is_the_same_alone_and_in_any_batch(encoder: HiddenStates) -> None:
    together = encoder.embed([*TRACES, *TRACES[::-1]])
    for i, of in enumerate(TRACES):
        (alone,) = encoder.embed([of])
        assert np.abs(alone.vector - together[i].vector).max() < 1e-5
        assert np.abs(alone.vector - together[-1 - i].vector).max() < 1e-5
    assert encoder.embed([]) == []


def test_two_texts_that_mean_the_same_are_nearer_than_two_that_do_not(encoder: HiddenStates) -> None:
    """On the bundled model's own problems: the same step written twice, and another."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["generator"])

    def of(text: str) -> Trace:
        ids = tokenizer.encode("Ben has 27 coins. Ben finds 12 more. How many coins does Ben have now?")
        return Trace(Question("q", "", tuple(ids)), (step_of(tokenizer.encode(text, add_special_tokens=False)),))

    texts = ("Finds 12 more: 27+12=39.\n\n", "Finds 12 more: 12+27=39.\n\n", "The answer is \\boxed{5}")
    one, same, other = (e.vector / np.linalg.norm(e.vector) for e in encoder.embed([of(text) for text in texts]))
    assert one @ same > one @ other + 0.05


def test_a_batch_that_runs_out_of_memory_is_halved_until_it_fits(encoder: HiddenStates) -> None:
    expected = encoder.embed(TRACES[:6])

    allowed = [4]

    def model(input_ids: torch.Tensor, **rest: Any) -> Any:
        if input_ids.shape[0] > allowed[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return encoder.model(input_ids=input_ids, **rest)

    for name in ("config", "device", "parameters"):
        setattr(model, name, getattr(encoder.model, name))
    short = HiddenStates(model)
    for allowed[0] in (4, 1):
        for one, other in zip(short.embed(TRACES[:6]), expected, strict=True):
            assert np.abs(one.vector - other.vector).max() < 1e-5
            assert one.flops == other.flops
    allowed[0] = 0
    with pytest.raises(OutOfMemory, match="Tried to allocate"):
        short.embed(TRACES[:2])


def test_a_question_without_tokens_has_no_vector(encoder: HiddenStates) -> None:
    with pytest.raises(ValueError, match="question 'q' has no tokens"):
        encoder.embed([trace(0)])


@pytest.mark.parametrize(("dtype", "near"), [("layercast", 1e-5), ("bfloat16", 0.1)])
def test_other_dtypes_are_near(encoder: HiddenStates, dtype: str, near: float) -> None:
    other = load_encoder(params={"dtype": dtype})
    for one, two in zip(encoder.embed(TRACES[:4]), other.embed(TRACES[:4]), strict=True):
        assert two.vector.dtype == np.float32
        assert np.abs(one.vector - two.vector).max() < near * max(np.abs(one.vector).max(), 1)


def test_options_and_names_that_are_not_known_are_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="unknown model option 'rows'"):
        load_encoder(params={"rows": 3})
    with pytest.raises(ModelError, match="does not exist"):
        load_encoder("/no/such/folder")
