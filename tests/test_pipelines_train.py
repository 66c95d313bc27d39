"""Training reward models: what sequences teach, TD(lambda), the figures, calibration, and a real training of a few updates."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.models import BUNDLED
from pipelines.problems import FAMILIES, instances
from pipelines.train import calibration, measures, prm, sequences
from pipelines.train.card import write_card
from pipelines.train.labelled import Sample, write
from pipelines.train.sequences import NONE, Labelled, Sequences, Shares, padded
from pipelines.train.td import lambda_return, td_loss
from search.types import Part, Question, Step, Trace
from verifiers.registry import load_verifier


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BUNDLED["generator"])


# ----------------------------------------------------------------------------------------------------------- sequences


def marked(sequence: Labelled) -> list[float]:
    return [label for label in sequence.labels if label != NONE]


def text(tokenizer: Any, sequence: Labelled) -> str:
    return str(tokenizer.decode(sequence.ids))


def sample(labels: tuple[float | None, ...], soft: bool = False, gold: str = "") -> Sample:
    return Sample("word", "Ann has 2.", tuple(f"2+{i}={2 + i}." for i in range(len(labels))), labels, False, gold, soft)


def test_hard_labels_end_with_the_first_wrong_step_and_soft_ones_do_not(tokenizer: Any) -> None:
    """Labels after the first error taught "already wrong" and never what the error is (PRM800K's rule)."""
    made = Sequences(tokenizer, 0)
    hard = made.solution(sample((1, 0, 1)), "x")
    assert marked(hard) == [1, 0]
    assert "2+2" not in text(tokenizer, hard)
    assert marked(made.solution(sample((0.5, 0, 0.25), soft=True), "x")) == [0.5, 0, 0.25]


def test_a_label_stands_at_the_last_token_of_the_separator_and_nowhere_else(tokenizer: Any) -> None:
    made = Sequences(tokenizer, 0)
    sequence = made.solution(sample((1, 1)), "x")
    assert len(sequence.ids) == len(sequence.labels) == len(sequence.follows)
    for i, label in enumerate(sequence.labels):
        assert (label != NONE) == (sequence.ids[i] == made.separator[-1])


def test_a_step_without_a_label_is_not_learned_from(tokenizer: Any) -> None:
    assert marked(Sequences(tokenizer, 0).solution(sample((1, None, 0)), "x")) == [1, 0]


def test_wrong_steps_are_not_imitated_and_the_right_token_is_taught_where_they_depart(tokenizer: Any) -> None:
    made = Sequences(tokenizer, 0)
    without = made.solution(sample((1, 0)), "x")
    taught = [i for i, token in enumerate(without.follows) if token != NONE]
    assert len(taught) == len(made.encode("2+0=2.")) + 1
    given = made.solution(sample((1, 0), gold="2+1=4."), "x")
    last = [token for token in given.follows if token != NONE][-1]
    assert last == made.encode("4")[0]


def test_with_td_a_solution_is_whole_and_carries_its_outcome_and_no_label(tokenizer: Any) -> None:
    sequence = Sequences(tokenizer, 0, td=True).solution(sample((1, 0, 1)), "x")
    assert sequence.outcome is False
    assert len(marked(sequence)) == 3
    assert set(sequence.follows) == {NONE}  # it ended wrong: not to be imitated


def test_shares_are_kept(tokenizer: Any) -> None:
    made = Sequences(tokenizer, 0, [sample((1, 1))])
    kinds = [made.one(Shares(0.5, 0.5, 0.25)).kind for _ in range(400)]
    assert 0.4 < sum(kind in ("drill", "page") for kind in kinds) / 400 < 0.6
    assert 0.15 < kinds.count("own word") / 400 < 0.35
    assert {made.one(Shares(1, 0, 0)).kind for _ in range(20)} == {"drill"}


def test_padding_has_no_labels_and_nothing_to_predict() -> None:
    rows = [Labelled([1, 2, 3], [NONE, NONE, 0.25], [2, 3, NONE], "a"), Labelled([4], [1.0], [NONE], "b")]
    ids, labels, follows = padded(rows, 0, "cpu")
    assert ids.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert labels.tolist() == [[NONE, NONE, 0.25], [1.0, NONE, NONE]]
    assert follows.tolist() == [[2, 3, NONE], [NONE] * 3]


def test_states_are_alive_as_often_as_not() -> None:
    rng = random.Random(0)
    alive = [sequences.state(rng)[2] for _ in range(300)]
    assert 0.4 < sum(alive) / 300 < 0.6


# ---------------------------------------------------------------------------------------------------------- TD(lambda)


@pytest.mark.parametrize(
    ("outcome", "lam", "expected"),
    [
        (1.0, 0.8, [0.816, 0.92, 1.0]),
        (1.0, 1.0, [1.0, 1.0, 1.0]),
        (1.0, 0.0, [0.4, 0.6, 1.0]),
        (-1.0, 0.8, [-0.464, -0.68, -1.0]),
    ],
)
def test_the_lambda_returns_of_the_method_card(outcome: float, lam: float, expected: list[float]) -> None:
    assert lambda_return(torch.tensor([0.2, 0.4, 0.6]), outcome, lam).tolist() == pytest.approx(expected, abs=1e-6)


def test_td_starts_from_the_outcome_and_ends_with_the_lambda_return_as_target() -> None:
    values = torch.tensor([0.2, 0.4, 0.6], requires_grad=True)
    assert td_loss(values, 1.0, 0.0).tolist() == pytest.approx([0.64, 0.36, 0.16])
    assert td_loss(values, 1.0, 1.0).tolist() == pytest.approx([(0.2 - 0.816) ** 2, (0.4 - 0.92) ** 2, 0.16])
    (gradient,) = torch.autograd.grad(td_loss(values, 1.0, 1.0).sum(), values)
    assert gradient.tolist() == pytest.approx([2 * (0.2 - 0.816), 2 * (0.4 - 0.92), -0.8])  # none through the target


def test_soft_labels_are_the_two_label_cross_entropy_with_shares_for_classes() -> None:
    row = Labelled([1, 2], [0.25, 1.0], [NONE, NONE], "x")
    scores = torch.tensor([0.3, -1.0])
    logits = torch.stack([torch.zeros(2), scores], dim=1)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([[0.75, 0.25], [0.0, 1.0]]))
    assert float(prm.judged([row], scores, torch.tensor(row.labels), 0.0, None)) == pytest.approx(float(expected))


def test_in_a_mixed_batch_drills_keep_their_labels_and_solutions_their_outcome() -> None:
    """Rows laid end to end and split at the wrong place would teach a drill's labels to a solution."""
    drill = Labelled([1, 2], [1.0, 0.0], [NONE, NONE], "drill")
    ended = Labelled([3], [0.0], [NONE], "own word", outcome=True)
    scores = torch.tensor([2.0, -2.0, 0.0])
    labels = torch.tensor([1.0, 0.0, 0.0])
    entropy = float(np.log1p(np.exp(-2.0)))
    expected = (entropy + entropy + 1.0) / 3  # value 0, outcome 1
    for rows, order in (([drill, ended], [0, 1, 2]), ([ended, drill], [2, 0, 1])):
        assert float(prm.judged(rows, scores[order], labels[order], 0.0, 0.8)) == pytest.approx(expected)


# ------------------------------------------------------------------------------------------------------------ measures


def test_first_error_f1_has_the_numbers_of_the_method_card() -> None:
    assert measures.harmonic(16.0, 89.2) == pytest.approx(27.13, abs=0.005)
    assert measures.harmonic(0.0, 0.0) == 0.0


def test_first_error_f1_wants_the_very_step() -> None:
    truth = [1, 2, None, None]
    assert measures.first_error_f1([1, 2, None, None], truth) == 1
    assert measures.first_error_f1([0, 2, None, 1], truth) == pytest.approx(0.5)
    assert measures.first_error_f1([0, 0, None, None], truth) == 0
    assert measures.first_error_f1([None], [None]) is None


def test_the_threshold_is_the_one_with_the_best_f1() -> None:
    values = [(0.9, 0.3), (0.9, 0.35), (0.8, 0.7), (0.9, 0.6)]
    threshold, f1 = measures.best_threshold(values, [1, 1, None, None])
    assert (round(threshold, 2), f1) == (0.36, 1.0)
    with pytest.raises(ValueError, match="sample more"):
        measures.best_threshold(values, [None] * 4)


def test_expected_calibration_error_is_what_was_said_less_what_came() -> None:
    assert measures.ece([0.8] * 10, [1] * 8 + [0] * 2) == pytest.approx(0)
    assert measures.ece([0.8] * 10, [1] * 5 + [0] * 5) == pytest.approx(0.3)
    assert measures.ece([0.0, 1.0], [0, 1]) == 0
    assert sum(b.share for b in measures.reliability([0.0, 0.5, 1.0], [0, 1, 1])) == pytest.approx(1)


# --------------------------------------------------------------------------------------------------------- calibration


def test_the_temperature_of_a_model_that_is_too_sure_is_found() -> None:
    """Values whose log-odds were doubled need a temperature of 2."""
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 1.5, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-odds))).astype(int).tolist()
    values = (1 / (1 + np.exp(-2 * odds))).tolist()
    found = calibration.fit(values, labels, "made up")
    assert found.temperature == pytest.approx(2, abs=0.1)
    assert found.nll[1] < found.nll[0]
    after = calibration.scaled(values, found.temperature).tolist()
    assert measures.ece(after, labels) < 0.02 < 0.05 < measures.ece(values, labels)


def test_scaling_keeps_the_order_and_takes_values_of_0_and_1() -> None:
    after = calibration.scaled([0.0, 0.2, 0.5, 0.9, 1.0], 3.0)
    assert (np.diff(after) > 0).all()
    assert after[2] == 0.5
    assert np.isfinite(calibration.nll([0.0, 1.0], [1, 0]))


def test_a_temperature_is_not_made_up_where_none_fits() -> None:
    with pytest.raises(ValueError, match="right and wrong steps"):
        calibration.fit([0.5, 0.6], [1, 1], "x")
    with pytest.raises(ValueError, match="at the edge"):
        calibration.fit([0.9, 0.9, 0.1, 0.1], [0, 0, 1, 1], "labels the wrong way round")


def test_a_calibration_comes_back_from_beside_its_model(tmp_path: Path) -> None:
    assert calibration.read(tmp_path) is None
    kept = calibration.Calibration(1.5, 10, (0.3, 0.2), "validation")
    calibration.write(kept, tmp_path)
    assert calibration.read(tmp_path) == kept
    (tmp_path / calibration.FILE).write_text('{"temperature": 0}')
    with pytest.raises(ValueError, match="temperature '0'"):
        calibration.read(tmp_path)


# ------------------------------------------------------------------------------------------------------------ training


def options(folder: Path, *words: str) -> Any:
    fixed = ["--init", str(BUNDLED["reward"]), "--batch-tokens", "800", "--lr", "2e-3", "--drills", "0", "--own", "1"]
    return prm.parser().parse_args([str(folder), *fixed, *words])


def labelled(folder: Path, flip: bool) -> Path:
    """Exact labels of a few solutions, or all of them turned round: what a model that knows better must be taught."""
    rng, source, rows = random.Random(0), instances(FAMILIES["word"], "train", 9, [2]), []
    for _ in range(12):
        instance = next(source)
        steps = FAMILIES["word"].demonstrate(rng, instance)
        right = FAMILIES["word"].label(instance, steps)
        rows.append(
            Sample("word", instance.question, tuple(steps), tuple(float(r != flip) for r in right), all(right), soft=True)
        )
    write(rows, folder / "rows.jsonl")
    return folder / "rows.jsonl"


def test_a_few_updates_lower_the_loss_and_the_folder_is_read_as_a_verifier(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Labels turned round: the values of right steps must fall, so the labels reach the weights with the right sign."""
    monkeypatch.setattr(sequences, "POOL", 24)
    question, step = (
        Question("q", "Ben has 27 coins. Ben finds 12 more. How many coins does Ben have now?", ()),
        "Finds 12 more: 27+12=39.",
    )
    none = np.zeros(0, dtype=np.float32)
    trace = Trace(question, (Step(np.zeros(0, dtype=np.int32), step + "\n\n", none, none, none, "step"),))  # type: ignore[arg-type]
    before = load_verifier(Part("prm"))[0].score([trace])[0].parts[0]
    rows = labelled(tmp_path, flip=True)
    loop = prm.train(options(tmp_path / "model", "--samples", str(rows), "--tokens", "6000", "--lm", "0"))
    assert loop.losses[-1] < loop.losses[0]
    after = load_verifier(Part("prm", {"model": str(tmp_path / "model")}))[0].score([trace])[0].parts[0]
    assert before > 0.9
    assert after < before - 0.1


def test_the_command_in_a_card_is_one_that_runs(tmp_path: Path) -> None:
    """Switches and lists were written as Python shows them: --fresh True --families ['word']."""
    given = options(tmp_path, "--fresh", "--families", "word", "guess", "--samples", "elsewhere.jsonl")
    write_card(tmp_path, "prm", vars(given), {}, "abc")
    command = json.loads((tmp_path / "card.json").read_text())["command"]
    assert "--fresh --" in command
    assert "--families word guess" in command
    assert "elsewhere" not in command
    words = command.removeprefix("python -m pipelines.train.prm ").split()
    again = vars(prm.parser().parse_args(words)) | {"folder": tmp_path, "init": given.init, "samples": given.samples}
    assert again == vars(given)


def test_a_fresh_head_keeps_what_lies_below_and_says_nothing_yet(tmp_path: Path) -> None:
    model, _ = prm.begun(options(tmp_path, "--fresh"))
    known, _ = prm.begun(options(tmp_path))
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, known.model.layers[0].mlp.up_proj.weight)
    assert not torch.equal(model.score.weight, known.score.weight)
    assert float(model.score.weight.detach().abs().max()) < 0.2


def test_td_trains_from_outcomes_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sequences, "POOL", 24)
    rows = [Sample("word", f"Ann has {n}.", (f"{n}+1={n + 1}.", r"\boxed{9}"), (None, 0.0), False) for n in range(9)]
    write(rows, tmp_path / "rows.jsonl")
    chosen = options(
        tmp_path / "model", "--samples", str(tmp_path / "rows.jsonl"), "--tokens", "4000", "--lm", "0", "--td", "0.8"
    )
    loop = prm.train(chosen)
    assert loop.losses[-1] < 0.5 * loop.losses[0]
