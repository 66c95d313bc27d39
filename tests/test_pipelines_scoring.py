"""Scoring on paged memory: the same numbers as computing every sequence whole, for fewer tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForTokenClassification,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    Qwen3Config,
    Qwen3Model,
)

from pipelines.engine.build import CannotServe
from pipelines.engine.pages import Pool
from pipelines.engine.prefixes import Prefixes, pieces_of
from pipelines.engine.scarce import OutOfMemory
from pipelines.engine.scoring import PrefixScorer, levels, scorer
from pipelines.models import BUNDLED
from pipelines.scoring import Laid, Output, WholeScorer

PROMPT, STEP, WIDTH = 37, 11, 5  # tokens of a prompt and of a step, children of each kept parent


@pytest.fixture(scope="module")
def reward() -> Any:
    found = AutoModelForTokenClassification.from_pretrained(BUNDLED["reward"], dtype=torch.float32)
    return found.eval().requires_grad_(False)


def cached(reward: Any, **options: Any) -> PrefixScorer:
    found = scorer(reward.base_model, reward.score, 1024, **options)
    assert isinstance(found, PrefixScorer)
    return found


def sequence(prompt: Sequence[int], steps: Sequence[Sequence[int]]) -> Laid:
    ids, marks = list(prompt), []
    for step in steps:
        ids += step
        marks.append(len(ids) - 1)
    return Laid(tuple(ids), tuple(marks), len(prompt))


def beam(depth: int, questions: int = 3, vocabulary: int = 300, seed: int = 0) -> list[Laid]:
    """What a beam of one asks for, level by level: the children of the one parent that was kept."""
    rng = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(vocabulary) for _ in range(count)]

    prompts = [tokens(PROMPT) for _ in range(questions)]
    kept: list[list[list[int]]] = [[] for _ in prompts]
    asked = []
    for _ in range(depth):
        for i, prompt in enumerate(prompts):
            children = [tokens(STEP) for _ in range(WIDTH)]
            asked += [sequence(prompt, [*kept[i], child]) for child in children]
            kept[i] = [*kept[i], children[0]]
    return asked


def outputs(of: Any, laid: Sequence[Laid], batch: int = 15) -> list[Output]:
    found = [each for i in range(0, len(laid), batch) for each in of.outputs(laid[i : i + batch])]
    assert all(isinstance(each, Output) for each in found)
    return found


def same(a: Sequence[Output], b: Sequence[Output]) -> bool:
    return all(np.array_equal(x.values, y.values) for x, y in zip(a, b, strict=True))


def test_a_beam_of_depth_8_costs_a_third_of_the_tokens_or_less_for_the_same_numbers(reward: Any) -> None:
    laid = beam(8)
    ours, whole = outputs(cached(reward), laid), outputs(WholeScorer(reward.base_model, reward.score, 1024), laid)
    for a, b, asked in zip(ours, whole, laid, strict=True):
        assert a.values.shape == b.values.shape == (len(asked.marks), 2)
        assert np.abs(a.values - b.values).max() < 1e-3
        assert a.tokens + a.cached == len(asked.ids) == b.tokens
    assert 3 * sum(each.tokens for each in ours) <= sum(each.tokens for each in whole)
    assert sum(each.tokens for each in ours) == 3 * (PROMPT + 8 * WIDTH * STEP)  # each token once
    assert ours[0].flops == 2.0 * sum(p.numel() for p in reward.base_model.parameters()) * ours[0].tokens


@pytest.mark.parametrize("threads", [1, 2])
def test_the_bits_do_not_depend_on_the_batch_on_what_is_in_memory_or_on_threads(reward: Any, threads: int) -> None:
    laid = beam(4)
    first = outputs(cached(reward), laid)
    other = cached(reward, threads=threads)
    backwards = outputs(other, laid[::-1], batch=7)[::-1]
    assert same(first, backwards)
    assert same(first, outputs(other, laid, batch=1))  # all of it from memory


def test_what_is_asked_twice_in_one_batch_is_computed_once(reward: Any) -> None:
    (one,) = beam(1, questions=1)[:1]
    first, second = outputs(cached(reward), [one, one])
    assert (first.tokens, second.tokens, second.cached) == (len(one.ids), 0, len(one.ids))
    assert np.array_equal(first.values, second.values)


def test_with_little_memory_the_numbers_are_the_same_and_more_is_computed(reward: Any) -> None:
    laid = beam(6, questions=6)
    ample, scarce = cached(reward), cached(reward)
    scarce.pool = Pool(3 * (PROMPT + 6 * STEP) // 8)  # room for two or three sequences
    scarce.prefixes = Prefixes(scarce.pool)
    a, b = outputs(ample, laid, batch=30), outputs(scarce, laid, batch=30)
    assert same(a, b)
    assert sum(each.tokens for each in b) > sum(each.tokens for each in a)
    assert scarce.pool.used_pages <= scarce.pool.capacity


def test_a_sequence_that_alone_needs_more_memory_than_there_is_gets_the_error_and_the_others_their_numbers(reward: Any) -> None:
    short = beam(1, questions=2)
    long = sequence(range(PROMPT), [[7] * STEP] * 20)
    scarce = cached(reward)
    scarce.pool = Pool(16)
    scarce.prefixes = Prefixes(scarce.pool)
    found = scarce.outputs([short[0], long, short[1]])
    assert isinstance(found[1], OutOfMemory)
    assert "raise cache_mb" in str(found[1])
    assert same([found[0], found[2]], outputs(cached(reward), [short[0], short[1]]))  # type: ignore[list-item]


def test_a_pass_that_runs_out_of_memory_is_halved_and_leaves_no_half_computed_node(reward: Any) -> None:
    laid = beam(2)
    ours, expected = cached(reward), outputs(cached(reward), laid)
    true, calls = ours.forward, list[int]()

    class Short:
        what = "short"

        def __call__(self, batch: Any) -> torch.Tensor:
            calls.append(len(batch.ids))
            if len(batch.ids) > 2 * (PROMPT + STEP):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return true(batch)

    ours.forward = Short()
    assert same(outputs(ours, laid, batch=30), expected)
    assert len(calls) > 4
    assert all(node.value is not None for node in ours.prefixes._used.values())


def test_another_fault_is_not_taken_for_memory_and_leaves_the_tree_whole(reward: Any) -> None:
    ours, laid = cached(reward), beam(2)
    true = ours.forward

    class Broken:
        what = "broken"

        def __call__(self, batch: Any) -> torch.Tensor:
            raise RuntimeError("shape mismatch")

    ours.forward = Broken()
    with pytest.raises(RuntimeError, match="shape mismatch"):
        ours.outputs(laid)
    assert len(ours.prefixes) == 0
    assert ours.pool.used_pages == 0
    ours.forward = true
    assert same(outputs(ours, laid), outputs(cached(reward), laid))


def test_sequences_that_part_within_a_piece_share_nothing_of_it_and_none_is_mistaken_for_another(reward: Any) -> None:
    """The tree must compare all tokens: one that looked at lengths or ends alone would give a step the value of another."""
    prompt = list(range(20))
    a, b = sequence(prompt, [[1, 2, 3, 4], [5]]), sequence(prompt, [[1, 2, 9, 4], [5]])
    ours = cached(reward)
    first, second = outputs(ours, [a, b])
    assert second.cached == len(prompt)
    assert not np.array_equal(first.values, second.values)
    assert same([second], outputs(cached(reward), [b]))


def test_levels_put_a_chain_above_the_one_that_it_continues() -> None:
    tree = Prefixes(Pool(100))
    chains = [
        tree.path(pieces_of(each))[1]
        for each in (
            sequence([1] * 4, [[2], [3]]),
            sequence([1] * 4, [[4]]),
            sequence([1] * 4, [[4], [5]]),
            sequence([9], [[9]]),
        )
    ]
    assert [[len(chain) for chain in level] for level in levels(chains)] == [[3, 2], [1], [1]]


def test_pieces_end_behind_the_prompt_and_behind_each_mark_and_the_rest_is_left_out() -> None:
    assert pieces_of(Laid((0, 1, 2, 3, 4, 5), (2, 4), 2)) == [(0, 1), (2,), (3, 4)]
    assert pieces_of(Laid((0, 1, 2, 3, 4, 5), (2, 4))) == [(0, 1, 2), (3, 4)]


SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96, "vocab_size": 300}


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_other_architectures_are_read_as_their_own_module_reads_them(kind: str) -> None:
    torch.manual_seed(0)
    base: Any
    match kind:
        case "llama":
            base = LlamaModel(LlamaConfig(**SIZES))
        case "qwen3":
            base = Qwen3Model(Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=32))
        case _:
            base = GPT2Model(GPT2Config(n_embd=64, n_layer=2, n_head=2, vocab_size=300))
    base.eval().requires_grad_(False)
    head = torch.nn.Linear(64, 1).requires_grad_(False)
    laid = beam(3, questions=2)
    whole = outputs(WholeScorer(base, head, 512), laid)
    found = scorer(base, head, 512, path="auto" if kind == "gpt2" else "paged")
    for a, b in zip(outputs(found, laid), whole, strict=True):
        assert np.abs(a.values - b.values).max() < 1e-4


def test_a_model_with_windows_of_attention_is_read_whole_and_paged_is_refused_by_name() -> None:
    base = Qwen3Model(
        Qwen3Config(**SIZES, num_key_value_heads=1, use_sliding_window=True, sliding_window=8, max_window_layers=0)
    )
    head = torch.nn.Linear(64, 1)
    assert isinstance(scorer(base.eval(), head, 512), WholeScorer)
    with pytest.raises(CannotServe, match="sliding"):
        scorer(base, head, 512, path="paged")
