"""Draws and their statistics, against definitions written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pipelines.engine.sampler import Settings, draw, uniforms


def settings(rows: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Settings:
    return Settings(
        torch.full((rows,), temperature),
        torch.full((rows,), top_k),
        torch.full((rows,), top_p),
        torch.full((rows,), min_p),
    )


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
