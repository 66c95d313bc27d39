"""The pass@N-aligned loss, and the generator's training with it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from pipelines.models import BUNDLED, load_generator
from pipelines.train import generator
from pipelines.train.dco import dco_loss, factor, log1mexp, sequence_logprobs


def ln(p: float) -> torch.Tensor:
    return torch.tensor([p], dtype=torch.float64).log()


def test_the_numbers_of_the_method_card() -> None:
    """p = .1, N = 8: one of eight is it with chance .5695, and .6718 of cross-entropy's gradient is left."""
    assert float(torch.exp(-dco_loss(ln(0.1), 8))) == pytest.approx(0.5695, abs=5e-5)
    assert float(factor(ln(0.1), 8)) == pytest.approx(0.6718, abs=5e-5)


def test_one_sample_is_cross_entropy() -> None:
    logprobs = torch.tensor([-0.3, -20.0, -500.0])
    assert torch.equal(dco_loss(logprobs, 1), -logprobs)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_the_gradient_is_cross_entropys_times_f(n: int) -> None:
    """By autograd through a softmax over whole sequences' tokens, against the formula of the paper."""
    torch.manual_seed(0)
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    targets, rows = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([0, 0, 0, 1, 1, 1])
    logprobs = sequence_logprobs(logits, targets, rows, 2)
    p = logprobs.detach().exp()
    f = n * (1 - p) ** (n - 1) * p / (1 - (1 - p) ** n)
    (ours,) = torch.autograd.grad(dco_loss(logprobs, n).sum(), logits, retain_graph=True)
    (theirs,) = torch.autograd.grad((-logprobs * f).sum(), logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(factor(logprobs, n), f)


@pytest.mark.parametrize("logprob", [-1e-300, -1e-15, -1e-9, -1e-3, -29.999, -30.001, -80.0, -700.0, -5000.0, 0.0])
def test_loss_and_gradient_are_finite_for_any_probability(logprob: float) -> None:
    """A direct 1 - (1 - p)^N is 0 below p = 1e-17: its logarithm gives inf, and the first such sequence ends the training."""
    for dtype in (torch.float32, torch.float64):
        given = torch.tensor([logprob], dtype=dtype, requires_grad=True)
        loss = dco_loss(given, 64)
        (gradient,) = torch.autograd.grad(loss.sum(), given)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient).all()
        assert -1 - 1e-6 <= float(gradient) <= 0


def test_far_below_one_in_n_it_is_cross_entropy_less_ln_n_on_both_sides_of_the_branch() -> None:
    for logprob in (-25.0, -29.999, -30.001, -90.0):
        given = torch.tensor([logprob], dtype=torch.float64)
        assert float(dco_loss(given, 64)) == pytest.approx(-logprob - math.log(64), rel=1e-9)


def test_ln_of_one_minus_e_to_the_x_keeps_its_digits_at_both_ends() -> None:
    x = torch.tensor([-1e-10, -0.5, -1.0, -40.0], dtype=torch.float64)
    expected = [math.log(1e-10), math.log(1 - math.exp(-0.5)), math.log(1 - math.exp(-1)), -math.exp(-40)]
    assert log1mexp(x).tolist() == pytest.approx(expected, rel=1e-9)


def test_the_number_of_samples_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        dco_loss(ln(0.5), 0)


def options(folder: Path, *words: str) -> list[str]:
    return [str(folder), "--init", str(BUNDLED["generator"]), "--lr", "1e-3", "--batch-tokens", "600", *words]


def first_loss(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> float:
    """The loss before the first update of a training."""
    monkeypatch.setattr(generator, "POOL", 12)
    chosen = generator.parser().parse_args(options(folder, *words))
    model, tokenizer, teacher = generator.begun(chosen)
    loop = generator.Loop(model, generator.Sequences(tokenizer, 0), chosen, teacher)
    return loop.step(*next(loop.batches()))


def test_training_with_one_sample_has_the_loss_of_training_without_the_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A mean over sequences in place of tokens would make N = 1 another training than the one it is compared with."""
    plain = first_loss(monkeypatch, tmp_path)
    assert first_loss(monkeypatch, tmp_path, "--dco", "1") == pytest.approx(plain, rel=1e-5)
    assert first_loss(monkeypatch, tmp_path, "--dco", "64") < plain


def test_a_model_trained_so_is_a_folder_that_generates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generator, "POOL", 12)
    loop = generator.train(generator.parser().parse_args(options(tmp_path, "--tokens", "1200", "--dco", "64")))
    assert loop.seen >= 1200
    assert "--dco 64" in (tmp_path / "card.json").read_text()
    assert load_generator(str(tmp_path)).encode("Use 4, 2 to make 6.")


def test_dco_and_a_teacher_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generator", *options(tmp_path, "--dco", "4", "--teacher", str(BUNDLED["generator"]))]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit):
        generator.main()
    assert "--dco 4 needs" in capsys.readouterr().err
