"""Draws and their statistics, against definitions written out by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pipelines.engine import sampler
from pipelines.engine.sampler import Drawn, Settings, State, draw, uniforms


def settings(
    rows: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0, **others: float
) -> Settings:
    return Settings(
        torch.full((rows,), float(temperature)),
        torch.full((rows,), top_k),
        torch.full((rows,), float(top_p)),
        torch.full((rows,), float(min_p)),
        **{name: torch.full((rows,), value) for name, value in others.items()},
    )


def noise_of(rows: int) -> tuple[Tensor, Tensor]:
    """Seeds and counters."""
    return torch.full((rows,), 99), torch.arange(rows)


def by_cdf(p: NDArray[np.float64], u: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The tokens that uniforms stand for in a distribution, and where that is beyond the doubt of float32."""
    edges = np.cumsum(p) / np.sum(p)
    return np.searchsorted(edges, u, side="right"), np.abs(edges[:, None] - u).min(axis=0) > 2e-6


def drawn_many(p: list[float], n: int = 20_000, **changed: float) -> np.ndarray:
    logits = torch.tensor(p).log().expand(n, -1)
    out = draw(logits, settings(n, **changed), torch.full((n,), 99), torch.arange(n))  # type: ignore[arg-type]
    return np.bincount(out.tokens.numpy(), minlength=len(p))


def test_uniforms_are_uniform_over_counters_and_over_seeds_and_never_0_or_1() -> None:
    for seeds, counters in (
        (torch.zeros(50_000, dtype=torch.long), torch.arange(50_000)),
        (torch.arange(50_000), torch.zeros(50_000, dtype=torch.long)),
    ):
        u = uniforms(seeds, counters).numpy()
        assert u.min() > 0
        assert u.max() < 1
        assert stats.kstest(u, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.02


def test_uniforms_are_the_same_for_ever_and_on_every_device() -> None:
    """SplitMix64 in Python's own integers. Another number is another text for the same run."""
    mask = (1 << 64) - 1

    def by_hand(seed: int, counter: int) -> float:
        x = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & mask
        for _ in range(2):
            x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
            x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
            x = ((x ^ (x >> 31)) + 0x9E3779B97F4A7C15) & mask
        return ((x >> 12) + 0.5) / 2**52

    seeds, counters = torch.tensor([0, 1, 9147431229832112467, (1 << 63) - 1]), torch.tensor([0, 5, 1023, 2])
    assert uniforms(seeds, counters).tolist() == [
        by_hand(*pair) for pair in zip(seeds.tolist(), counters.tolist(), strict=True)
    ]
    assert (sampler._hashed(seeds, counters).double() + 0.5).mul(2.0**-52).equal(uniforms(seeds, counters))
    assert (2.0**52 - 1 + 0.5) * 2.0**-52 < 1  # the largest: with a bit more it would be 1


def test_a_draw_is_a_function_of_seed_and_counter_only() -> None:
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0))
    seeds, counters = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 7, 7, 1, 3])
    together = draw(logits, settings(5), seeds, counters).tokens
    for i in range(5):
        alone = draw(logits[i : i + 1], settings(1), seeds[i : i + 1], counters[i : i + 1]).tokens
        assert alone.item() == together[i].item()


def test_tokens_are_drawn_with_the_models_probabilities() -> None:
    p = [0.5, 0.3, 0.15, 0.05]
    counts = drawn_many(p)
    assert stats.chisquare(counts, np.array(p) * counts.sum()).pvalue > 1e-3


def test_temperature_sharpens_as_its_formula_says() -> None:
    p = np.array([0.5, 0.3, 0.2])
    expected = p ** (1 / 0.5) / (p ** (1 / 0.5)).sum()
    counts = drawn_many(p.tolist(), temperature=0.5)
    assert stats.chisquare(counts, expected * counts.sum()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("changed", "allowed"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.75}, [0, 1]),
        ({"top_p": 0.81}, [0, 1, 2]),
        ({"top_p": 0.01}, [0]),
        ({"min_p": 0.35}, [0, 1]),
        ({"top_k": 3, "top_p": 0.5}, [0]),
    ],
)
def test_filters_keep_what_their_definitions_keep_in_proportion(changed: dict[str, float], allowed: list[int]) -> None:
    p = np.array([0.5, 0.3, 0.15, 0.05])
    counts = drawn_many(p.tolist(), **changed)
    assert np.flatnonzero(counts).tolist() == allowed
    expected = p[allowed] / p[allowed].sum() * counts.sum()
    if len(allowed) > 1:
        assert stats.chisquare(counts[allowed], expected).pvalue > 1e-3


def test_statistics_are_of_the_untempered_distribution() -> None:
    logits = torch.tensor([[0.9, 0.1]]).log()
    out = draw(logits, settings(1, temperature=0.0), torch.tensor([1]), torch.tensor([0]))
    assert out.tokens.item() == 0
    assert out.logprobs.item() == pytest.approx(math.log(0.9), abs=1e-6)
    assert out.certainties.item() == pytest.approx(0.5108, abs=1e-4)  # KL(uniform || p), worked by hand
    assert out.entropies.item() == pytest.approx(0.3251, abs=1e-4)
    three = draw(torch.tensor([[0.7, 0.2, 0.1]]).log(), settings(1), torch.tensor([1]), torch.tensor([0]))
    assert three.certainties.item() == pytest.approx(0.3243, abs=1e-4)
    flat = draw(torch.zeros(1, 7), settings(1), torch.tensor([1]), torch.tensor([0]))
    assert flat.certainties.item() == pytest.approx(0.0, abs=1e-6)


def test_a_row_may_be_greedy_beside_one_that_samples() -> None:
    logits = torch.tensor([0.4, 0.6]).log().expand(2000, -1)
    mixed = settings(2000)
    mixed.temperature[::2] = 0
    out = draw(logits, mixed, torch.arange(2000), torch.zeros(2000, dtype=torch.long)).tokens
    assert (out[::2] == 1).all()
    assert 0.5 < out[1::2].float().mean().item() < 0.7


# --------------------------------------------------------------------------------------------------------- the inverse CDF

SIZES = st.sampled_from([1, 2, 7, 127, 128, 129, 561, 2047, 2048, 2049, 2176, 5000])  # about the blocks' borders


@examples(max_examples=40, deadline=None)
@given(SIZES, st.floats(0, 20), st.integers(0, 1 << 30))
def test_a_draw_is_the_inverse_cdf_at_its_uniform_in_the_order_of_the_vocabulary(size: int, scale: float, seed: int) -> None:
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale
    noise = noise_of(64)
    out = draw(logits.expand(64, -1), settings(64), *noise)
    u = uniforms(*noise).numpy()
    expected, clear = by_cdf(np.exp(logits.double().numpy() - logits.max().item()), u)
    assert (out.tokens.numpy()[clear] == expected[clear]).all()
    assert (np.diff(out.tokens.numpy()[np.argsort(u)]) >= 0).all()


def test_a_token_of_weight_0_is_never_drawn() -> None:
    """Not even by a uniform next to 0 or 1, between which and the drawn tokens there are only such."""
    counters = torch.arange(500_000)
    u = uniforms(torch.full_like(counters, 3), counters)
    hard = torch.cat((u.argsort()[:50], u.argsort()[-50:]))
    for size in (50, 2048, 9000):
        logits = torch.full((100, size), -200.0)
        logits[:, size // 3 : size // 2] = 0.0
        for changed in ({}, {"top_p": 0.99}, {"top_k": size - 1}, {"min_p": 1e-6}):
            tokens = draw(logits, settings(100, **changed), torch.full((100,), 3), counters[hard]).tokens
            assert size // 3 <= tokens.min() < tokens.max() < size // 2


@pytest.mark.parametrize("size", [2000, 4096])
def test_a_long_tail_of_small_weights_is_not_rounded_away(size: int) -> None:
    """Thousands of tokens of weight 1e-8 behind one of 1: a sum in float32 would stay at 1."""
    logits = torch.full((size,), math.log(1e-8))
    logits[0] = 0.0
    tail = (size - 1) * 1e-8
    counters = torch.arange(500_000)
    u = uniforms(torch.zeros_like(counters), counters)
    late = counters[u > 1 / (1 + tail)]
    assert len(late) >= 5
    out = draw(logits.expand(len(late), -1), settings(len(late)), torch.zeros_like(late), late)
    assert (out.tokens - ((u[late] * (1 + tail) - 1) / 1e-8).ceil()).abs().max() <= 1
    assert out.drawn.numpy() == pytest.approx(math.log(1e-8), abs=1e-4)


# ------------------------------------------------------------------------------------------------ the processed distribution


def processed(logits: Tensor, *processors: Any, seen: Sequence[int] = (0,)) -> NDArray[np.float64]:
    """The distribution that transformers would draw from."""
    scores = LogitsProcessorList(processors)(torch.tensor([list(seen)]), logits[None].clone())
    return torch.softmax(scores[0].double(), dim=-1).numpy()


CASES: list[tuple[dict[str, Any], list[Any]]] = [
    ({"temperature": 0.3}, [TemperatureLogitsWarper(0.3)]),
    ({"temperature": 2.5}, [TemperatureLogitsWarper(2.5)]),
    ({"top_k": 1}, [TopKLogitsWarper(1)]),
    ({"top_k": 5}, [TopKLogitsWarper(5)]),
    ({"top_k": 64}, [TopKLogitsWarper(64)]),
    ({"top_k": 1100}, [TopKLogitsWarper(1100)]),
    ({"top_p": 0.1}, [TopPLogitsWarper(0.1)]),
    ({"top_p": 0.7}, [TopPLogitsWarper(0.7)]),
    ({"top_p": 0.99}, [TopPLogitsWarper(0.99)]),
    ({"min_p": 0.02}, [MinPLogitsWarper(0.02)]),
    ({"min_p": 0.5}, [MinPLogitsWarper(0.5)]),
    (
        {"temperature": 0.6, "top_k": 20, "top_p": 0.95},
        [TemperatureLogitsWarper(0.6), TopKLogitsWarper(20), TopPLogitsWarper(0.95)],
    ),
    ({"top_k": 1500, "top_p": 0.9}, [TopKLogitsWarper(1500), TopPLogitsWarper(0.9)]),
    (
        {"temperature": 1.5, "min_p": 0.1, "top_k": 30},
        [TemperatureLogitsWarper(1.5), TopKLogitsWarper(30), MinPLogitsWarper(0.1)],
    ),
]


@pytest.mark.parametrize("size", [40, 561, 4000])
@pytest.mark.parametrize(("changed", "processors"), CASES, ids=[str(c[0]) for c in CASES])
def test_warped_rows_are_drawn_as_transformers_would(size: int, changed: dict[str, Any], processors: list[Any]) -> None:
    """The same tokens stay, with the same probabilities; flat rows and steep ones, so that the first few are enough or not."""
    rows = 200
    for scale in (0.5, 3.0):
        logits = torch.randn(size, generator=torch.Generator().manual_seed(size)) * scale
        p = processed(logits, *processors)
        noise = noise_of(rows)
        out = draw(logits.expand(rows, -1), settings(rows, **changed), *noise)
        tokens = out.tokens.numpy()
        expected, clear = by_cdf(p, uniforms(*noise).numpy())
        assert clear.mean() > 0.9
        assert (tokens[clear] == expected[clear]).all()
        assert (p[tokens] > 0).all()
        assert out.drawn.numpy() == pytest.approx(np.log(p[tokens]), abs=2e-5)
        raw = torch.log_softmax(logits.double(), dim=-1)
        assert out.logprobs.numpy() == pytest.approx(raw[out.tokens].numpy(), abs=1e-5)


def test_drawn_is_the_log_of_the_renormalised_probability() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(200, -1)
    out = draw(logits, settings(200, top_k=2), *noise_of(200))
    assert set(out.tokens.tolist()) == {0, 1}
    assert out.drawn.numpy() == pytest.approx(np.log([0.625, 0.375])[out.tokens.numpy()], abs=1e-6)
    plain = draw(logits, settings(200), *noise_of(200))
    assert torch.equal(plain.drawn, plain.logprobs)
    greedy = draw(logits, settings(200, temperature=0, top_k=3), *noise_of(200))
    assert (greedy.drawn == 0).all()
    alone = draw(logits, settings(200, top_p=1e-60), *noise_of(200))  # 0 in float32
    assert (alone.tokens == 0).all()
    assert (alone.drawn == 0).all()


@pytest.mark.parametrize("top_k", [1, 3, 64, 70, 1030])
def test_of_equally_probable_tokens_the_first_in_the_vocabulary_stay(top_k: int) -> None:
    """Exactly k of them, however many are looked at."""
    logits = torch.zeros(500, 2200)
    logits[:, 5] = -1.0
    tokens = draw(logits, settings(500, top_k=top_k), *noise_of(500)).tokens
    allowed = [token for token in range(top_k + 1) if token != 5][:top_k]
    assert set(tokens.tolist()) <= set(allowed)
    assert tokens.max() >= 0.97 * allowed[-1]
    best = draw(logits, settings(500, temperature=0), *noise_of(500)).tokens
    assert (best == 0).all()


@examples(max_examples=40, deadline=None)
@given(st.sampled_from([30, 561, 3000]), st.sampled_from([0.0, 0.3, 2.0, 30.0]), st.integers(0, 99), st.data())
def test_how_many_tokens_are_put_in_order_changes_nothing(size: int, scale: float, seed: int, data: st.DataObject) -> None:
    logits = (torch.randn(16, size, generator=torch.Generator().manual_seed(seed)) * scale).round(decimals=1)  # many ties
    weights = torch.exp(logits - logits.amax(dim=-1, keepdim=True))
    top_k = torch.tensor(data.draw(st.lists(st.integers(0, size + 5), min_size=16, max_size=16)))
    top_p = torch.tensor(data.draw(st.lists(st.floats(1 / 128, 1, width=32), min_size=16, max_size=16)))
    given_all = weights, weights.double().sum(dim=-1), top_k, top_p, uniforms(*noise_of(16))
    whole = sampler._likely(*given_all, widths=())
    for widths in ((1,), (2, 8), (7, 64, 200), sampler.WIDTHS):
        assert all(torch.equal(a, b) for a, b in zip(sampler._likely(*given_all, widths=widths), whole, strict=True))


# ---------------------------------------------------------------------------------------------------- DeepConf's confidence


def test_confidence_is_the_mean_of_the_k_largest_log_probabilities() -> None:
    """Worked by hand: ln .5 = -.6931, ln .3 = -1.2040, ln .2 = -1.6094."""
    logits = torch.tensor([0.3, 0.5, 0.2]).log().expand(5, -1)
    asked = settings(5, temperature=0.5, confidence=0)
    asked.confidence = torch.tensor([3, 2, 1, 0, 20])
    out = draw(logits, asked, *noise_of(5), confidence=20)
    assert out.confidences is not None
    assert out.confidences.tolist() == pytest.approx([1.1689, 0.9486, 0.6931, 0, 1.1689], abs=1e-4)
    assert draw(logits, asked, *noise_of(5)).confidences is None


def test_confidence_of_a_large_vocabulary_is_of_the_raw_distribution() -> None:
    logits = torch.randn(4, 5000, generator=torch.Generator().manual_seed(0)) * 3
    out = draw(logits, settings(4, temperature=0.1, top_k=2, confidence=20), *noise_of(4), confidence=20)
    expected = -torch.log_softmax(logits.double(), dim=-1).topk(20).values.mean(dim=-1)
    assert out.confidences is not None
    assert out.confidences.numpy() == pytest.approx(expected.numpy(), abs=1e-5)


# -------------------------------------------------------------------------------------------------------------- Mirostat


def test_mirostat_drops_what_surprises_more_than_mu_and_moves_mu_by_the_surprise() -> None:
    """p = 1/2, 1/4, 1/8, 1/8: 1, 2, 3 and 3 bits. With tau 1 and eta .1, token 1 takes .1 from mu, and token 0 nothing."""
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().expand(300, -1)
    state = State(torch.full((300,), 2.5))
    out = draw(logits, settings(300, tau=1.0, eta=0.1), *noise_of(300), state)
    assert set(out.tokens.tolist()) == {0, 1}
    assert out.drawn.numpy() == pytest.approx(np.log([2 / 3, 1 / 3])[out.tokens.numpy()], abs=1e-6)
    assert state.mu.numpy() == pytest.approx(np.array([2.5, 2.4])[out.tokens.numpy()], abs=1e-6)


def test_mirostat_always_keeps_the_most_probable_token() -> None:
    state = State(torch.full((50,), 0.5))
    out = draw(torch.tensor([0.3, 0.4, 0.3]).log().expand(50, -1), settings(50, tau=1.0, eta=0.2), *noise_of(50), state)
    assert (out.tokens == 1).all()
    assert (out.drawn == 0).all()
    assert state.mu.numpy() == pytest.approx(0.5 - 0.2 * (-math.log2(0.4) - 1), abs=1e-6)


def test_mirostats_bound_follows_its_rule_from_token_to_token() -> None:
    """A trajectory beside one computed here, with temperature: the surprise is of the tempered distribution."""
    p = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    tempered = p**0.5 / (p**0.5).sum()
    surprises, tau, eta, mu = -np.log2(tempered), 1.5, 0.4, 3.0
    state = State(torch.tensor([3.0]))
    asked = settings(1, temperature=2.0, tau=tau, eta=eta)
    for counter in range(60):
        seed = torch.tensor([7]), torch.tensor([counter])
        token = draw(torch.from_numpy(np.log(p)).float()[None], asked, *seed, state).tokens.item()
        allowed = np.where(surprises <= max(mu, surprises[0]), tempered, 0)
        assert token == by_cdf(allowed, uniforms(*seed).numpy())[0][0]
        mu -= eta * (surprises[int(token)] - tau)
        assert state.mu.item() == pytest.approx(mu, abs=1e-4)


@pytest.mark.parametrize("tau", [3.0, 5.0])
def test_mirostats_mean_surprise_comes_to_tau(tau: float) -> None:
    rows, ranks = 16, torch.arange(1, 1001)
    logits = (-1.1 * ranks.log())[torch.randperm(1000, generator=torch.Generator().manual_seed(0))].expand(rows, -1)
    state, asked, seeds = State(torch.full((rows,), 2 * tau)), settings(rows, tau=tau, eta=0.1), torch.arange(rows)
    bits = [
        -draw(logits, asked, seeds, torch.full((rows,), counter), state).logprobs.mean().item() / math.log(2)
        for counter in range(300)
    ]
    assert np.mean(bits[100:]) == pytest.approx(tau, abs=0.05)
    free = draw(logits, settings(rows), seeds, seeds).logprobs.mean().item() / -math.log(2)
    assert free > tau + 1  # it had something to do


# ------------------------------------------------------------------------------------------------------ repetition penalty


def test_a_penalty_divides_positive_logits_of_seen_tokens_and_multiplies_negative_ones() -> None:
    """(2, 1.5, -1, 0) with 0, 2 and 3 seen, penalty 2: (1, 1.5, -2, 0)."""
    logits = torch.tensor([[2.0, 1.5, -1.0, 0.0]])
    state = State(torch.zeros(1), torch.tensor([[True, False, True, True]]))
    out = draw(logits, settings(1, temperature=0, penalty=2.0), *noise_of(1), state)
    assert out.tokens.item() == 1
    assert out.logprobs.item() == pytest.approx(torch.log_softmax(logits, dim=-1)[0, 1].item(), abs=1e-6)
    assert state.seen is not None
    assert state.seen.all()  # the drawn one is seen from now on
    again = draw(logits, settings(1, temperature=0, penalty=2.0), *noise_of(1), state)
    assert again.tokens.item() == 0  # (1, .75, -2, 0)


@pytest.mark.parametrize("penalty", [0.7, 1.0, 1.3, 5.0])
@pytest.mark.parametrize("size", [60, 4000])
def test_penalised_rows_are_drawn_as_transformers_would(penalty: float, size: int) -> None:
    rows, generator = 300, torch.Generator().manual_seed(size)
    logits = torch.randn(size, generator=generator) * 2
    prompt = torch.randint(0, size, (30,), generator=generator).tolist()
    p = processed(logits, RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(0.8), seen=prompt)
    seen = torch.zeros(rows, size, dtype=torch.bool)
    seen[:, prompt] = True
    out = draw(
        logits.expand(rows, -1),
        settings(rows, temperature=0.8, penalty=penalty),
        *noise_of(rows),
        State(torch.zeros(rows), seen),
    )
    expected, clear = by_cdf(p, uniforms(*noise_of(rows)).numpy())
    assert (out.tokens.numpy()[clear] == expected[clear]).all()
    assert out.drawn.numpy() == pytest.approx(np.log(p[out.tokens.numpy()]), abs=2e-5)
    for row in range(rows):
        assert set(seen[row].nonzero().squeeze(1).tolist()) == {*prompt, int(out.tokens[row])}


# ------------------------------------------------------------------------------------------------------- rows of one batch


def mixed(rows: int, size: int, seed: int = 0) -> tuple[Tensor, Settings, Tensor, Tensor, State]:
    """Rows of every kind beside each other, steep and flat, with ties."""
    g = torch.Generator().manual_seed(seed)

    def any_of(*values: float) -> Tensor:
        return torch.tensor(values)[torch.randint(0, len(values), (rows,), generator=g)]

    logits = torch.randn(rows, size, generator=g) * any_of(0.3, 2.0, 8.0)[:, None]
    logits[::3] = logits[::3].round(decimals=1)
    tau = any_of(0.0, 0.0, 3.0)
    steered = tau > 0
    asked = Settings(
        any_of(0.0, 0.7, 1.0, 1.0, 1.0, 2.0),
        torch.where(steered, 0, any_of(0, 0, 1, 40, 64, 1500).long()),
        torch.where(steered, 1.0, any_of(0.5, 0.95, 1.0, 1.0)),
        torch.where(steered, 0.0, any_of(0.0, 0.0, 0.05)),
        any_of(1.0, 1.0, 1.3),
        tau,
        any_of(0.1, 0.5),
        any_of(0, 5, 20).long(),
    )
    seen = torch.rand(rows, size, generator=g) < 0.1
    return logits, asked, torch.randint(0, 1 << 62, (rows,), generator=g), torch.arange(rows), State(2 * tau, seen)


def taken(batch: tuple[Tensor, Settings, Tensor, Tensor, State], rows: Tensor) -> tuple[Drawn, State]:
    """What the rows of a batch get in a batch of their own."""
    logits, asked, seeds, counters, state = batch
    assert state.seen is not None
    own = State(state.mu[rows].clone(), state.seen[rows].clone())
    return draw(logits[rows], asked.rows(rows), seeds[rows], counters[rows], own, confidence=20), own


def same(one: tuple[Drawn, State], other: tuple[Drawn, State], rows: Tensor) -> bool:
    """Whether the first is the other's `rows`, bit for bit."""
    return all(
        torch.equal(getattr(a, field.name), getattr(b, field.name)[rows])
        for a, b in zip(one, other, strict=True)
        for field in fields(a)
    )


@pytest.mark.parametrize("size", [50, 561, 2048, 2049, 40_000])
def test_a_row_gets_the_same_bits_alone_and_in_any_company(size: int) -> None:
    """40,000: a lone row that long is a sum that torch would split among threads, and the batch is more than a chunk."""
    rows = 48
    batch = mixed(rows, size)
    whole = taken(batch, torch.arange(rows))
    assert len(set(whole[0].tokens.tolist())) > 10
    for some in (
        *torch.arange(rows)[:, None],
        torch.randperm(rows, generator=torch.Generator().manual_seed(1)),
        torch.arange(7),
    ):
        assert same(taken(batch, some), whole, some)
    plain = batch[0], settings(rows), *batch[2:]  # company of one kind, which takes another way
    uniform = draw(*plain, confidence=0)
    for row in range(rows):
        kinds = [getattr(batch[1], field.name)[row].item() for field in fields(Settings)]
        if kinds[:6] == [1.0, 0, 1.0, 0.0, 1.0, 0.0]:
            assert whole[0].tokens[row] == uniform.tokens[row]
            assert whole[0].drawn[row] == uniform.drawn[row]
    assert torch.equal(whole[0].certainties, uniform.certainties)
    assert torch.equal(whole[0].entropies, uniform.entropies)


def test_drawing_changes_nothing_but_the_state_and_again_gives_the_same() -> None:
    """So positions of one row can be drawn ahead one after the other, and drawn again when a guess was wrong."""
    batch = mixed(20, 561, seed=3)
    before = copy.deepcopy(batch)
    first = taken(batch, torch.arange(20))
    assert same(taken(batch, torch.arange(20)), first, torch.arange(20))
    assert torch.equal(batch[0], before[0])
    for field in fields(Settings):
        assert torch.equal(getattr(batch[1], field.name), getattr(before[1], field.name))
    steered = (batch[1].tau > 0) & (batch[1].temperature > 0)  # type: ignore[operator]
    assert torch.equal(first[1].mu != batch[4].mu, steered)
    assert first[1].seen is not None
    assert first[1].seen.gather(1, first[0].tokens[:, None]).all()


def test_what_is_off_for_every_row_may_be_left_out() -> None:
    logits, asked, seeds, counters, state = mixed(12, 300, seed=5)
    bare = Settings(asked.temperature, asked.top_k, asked.top_p, asked.min_p)
    off = settings(12, penalty=1.0, tau=0.0, eta=0.1, confidence=0)
    off.temperature, off.top_k, off.top_p, off.min_p = asked.temperature, asked.top_k, asked.top_p, asked.min_p
    one, other = draw(logits, bare, seeds, counters), draw(logits, off, seeds, counters, state)
    for name in ("tokens", "logprobs", "certainties", "entropies", "drawn"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_statistics_of_a_large_vocabulary_are_those_of_float64() -> None:
    logits = torch.randn(6, 30_000, generator=torch.Generator().manual_seed(2)) * 4 + 100
    out = draw(logits, settings(6), *noise_of(6))
    ln = torch.log_softmax(logits.double(), dim=-1)
    assert out.logprobs.numpy() == pytest.approx(ln.gather(1, out.tokens[:, None])[:, 0].numpy(), abs=1e-5)
    assert out.entropies.numpy() == pytest.approx(-(ln.exp() * ln).sum(dim=-1).numpy(), abs=1e-5)
    assert out.certainties.numpy() == pytest.approx(-ln.mean(dim=-1).numpy() - math.log(30_000), abs=1e-4)


def test_a_row_that_is_no_number_draws_a_token_of_the_vocabulary_and_harms_no_other() -> None:
    for size in (100, 3000):
        logits, asked, seeds, counters, state = mixed(12, size, seed=6)
        whole = taken((logits, asked, seeds, counters, state), torch.arange(12))
        broken = logits.clone()
        broken[::2] = math.nan
        out = taken((broken, asked, seeds, counters, state), torch.arange(12))
        assert ((out[0].tokens >= 0) & (out[0].tokens < size)).all()
        assert torch.equal(out[0].tokens[1::2], whole[0].tokens[1::2])
