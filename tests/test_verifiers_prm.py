"""The reader of reward models on the bundled one: as it was first read, in batches, short of memory, and refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.models import BUNDLED, ModelError
from pipelines.scoring import Laid, WholeScorer
from pipelines.train.calibration import scaled
from search.types import Finish, Question, Step, Trace
from verifiers.formats.families import facts_of
from verifiers.formats.heads import load
from verifiers.prm import RewardModel, load_prm

QUESTION = Question("q", "Ben has 27 coins. Ben finds 12 more. Ben loses 9. How many coins does Ben have now?", ())
STEPS = ("Finds 12 more: 27+12=39.\n\n", "Loses 9: 39-9=30.\n\n", "The answer is \\boxed{30}")


def trace(*texts: str) -> Trace:
    empty = np.zeros(0, dtype=np.float32)
    return Trace(QUESTION, tuple(Step(np.zeros(0, np.int32), t, empty, empty, empty, Finish.STEP) for t in texts))


@pytest.fixture(scope="module")
def prm() -> RewardModel:
    return load_prm()


def straight(texts: tuple[str, ...]) -> list[float]:
    """The same reading written out from the card's facts, one step at a time, each prefix computed afresh."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["reward"])
    model = AutoModelForTokenClassification.from_pretrained(BUNDLED["reward"], dtype=torch.float32).eval()
    values = []
    for i in range(len(texts)):
        text = f"<|user|>{QUESTION.text}<|assistant|>" + "".join(t.strip() + "\n\n" for t in texts[: i + 1])
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, -1]
        values.append(torch.softmax(logits, -1)[1].item())
    return values


def test_one_pass_reads_what_a_pass_for_each_prefix_reads(prm: RewardModel) -> None:
    (reading,) = prm.score([trace(*STEPS)])
    assert list(reading.parts) == pytest.approx(straight(STEPS), abs=0.6e-4)
    assert reading.passes == 1
    assert reading.tokens > 40


def test_a_batch_gives_the_values_of_one_by_one(prm: RewardModel) -> None:
    traces = [trace(*STEPS[: 1 + i % 3], *(["Loses 2: 30-2=28."] * (i % 4))) for i in range(40)]
    together = prm.score(traces)
    for one, reading in zip(traces, together, strict=True):
        (alone,) = prm.score([one])
        assert alone.parts == pytest.approx(reading.parts, abs=1.1e-4)
        assert len(reading.parts) == len(one.steps)


def test_a_slip_scores_below_the_right_step_at_the_same_place(prm: RewardModel) -> None:
    right, wrong = prm.score([trace(STEPS[0]), trace("Finds 12 more: 27+12=38.\n\n")])
    assert right.parts[0] > wrong.parts[0] + 0.3


def test_a_trace_over_the_models_context_gets_no_value_and_says_so(prm: RewardModel) -> None:
    long, short = prm.score([trace(*(["Loses 9: 39-9=30."] * 200)), trace(*STEPS)])
    assert long.parts == ()
    assert "over the reward model's context of 1024" in long.reason
    assert len(short.parts) == 3


def test_a_batch_that_runs_out_of_memory_is_halved_until_it_fits(prm: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to one trace alone, which gets no value if that fails too; the others keep theirs."""
    facts = facts_of("bundled")
    weights = load(facts, prm.format, "cpu", "float32")
    prm = RewardModel("prm", prm.format, prm.layout, WholeScorer(weights.base, weights.head, weights.context))
    traces = [trace(*STEPS[: 1 + i % 3], *(["Loses 2: 30-2=28."] * (i % 4))) for i in range(20)]
    expected, compute = prm.score(traces), WholeScorer._forward
    longest = max(reading.tokens for reading in expected)

    allowed, fault = [0], list[Exception]([torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")])

    def short(self: WholeScorer, laid: Sequence[Laid]) -> Any:
        if len(laid) > allowed[0] or (allowed[0] == 1 and max(len(each.ids) for each in laid) == longest):
            raise fault[0]
        return compute(self, laid)

    monkeypatch.setattr(WholeScorer, "_forward", short)
    for allowed[0] in (9, 2):
        for one, other in zip(prm.score(traces), expected, strict=True):
            assert one.parts == pytest.approx(other.parts, abs=2e-6)
            assert (one.passes, one.tokens, one.flops) == (1, other.tokens, other.flops)
    for fault[0] in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")):
        allowed[0] = 1
        for one, other in zip(prm.score(traces), expected, strict=True):
            if other.tokens == longest:
                assert (one.parts, one.passes, one.flops) == ((), 0, 0.0)
                assert one.reason.startswith(f"out of memory for a trace of {longest} tokens: ")
            else:
                assert one.parts == pytest.approx(other.parts, abs=2e-6)
    fault[0] = RuntimeError("another one")
    with pytest.raises(RuntimeError, match="another one"):
        prm.score(traces)


def test_a_language_model_is_not_taken_for_a_reward_model_of_some_family() -> None:
    with pytest.raises(ModelError, match=r"LlamaForCausalLM.*can be read as rlhflow, and nothing .* name one with format="):
        load_prm(str(BUNDLED["generator"]))


def test_classes_named_the_other_way_round_are_read_by_their_names(tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(BUNDLED["reward"], dtype=torch.float32)
    model.score.weight.data = model.score.weight.data.flip(0)
    model.score.bias.data = model.score.bias.data.flip(0)
    model.config.id2label = {0: "right", 1: "wrong"}
    model.config.label2id = {"right": 0, "wrong": 1}
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(BUNDLED["reward"]).save_pretrained(tmp_path)
    (turned,) = load_prm(str(tmp_path)).score([trace(*STEPS)])
    (plain,) = load_prm().score([trace(*STEPS)])
    assert turned.parts == pytest.approx(plain.parts, abs=2e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{}"), "has no weights"),
        (
            lambda folder: ((folder / "config.json").write_text("{}"), (folder / "pytorch_model.bin").write_bytes(b"x")),
            "only pickled weights",
        ),
    ],
)
def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path: Path, make: object, says: str) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(ModelError, match=says):
        load_prm(str(tmp_path))


def test_a_folder_that_does_not_exist_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"model folder '/no/such/folder' does not exist"):
        load_prm("/no/such/folder")


def test_a_solution_written_in_one_go_is_read_as_one_written_step_by_step(prm: RewardModel) -> None:
    stepwise, whole = prm.score([trace(*STEPS), trace("".join(STEPS))])
    assert whole.parts == stepwise.parts
    assert len(whole.parts) == 3


def test_a_trace_without_a_word_costs_nothing_and_says_why_it_has_no_value(prm: RewardModel) -> None:
    (reading,) = prm.score([trace("", "\n\n")])
    assert (reading.parts, reading.passes, reading.tokens) == ((), 0, 0)
    assert reading.reason == "nothing is written yet"


def test_a_temperature_divides_the_log_odds_as_the_one_that_was_fitted_would(prm: RewardModel) -> None:
    """One code fits it and another reads by it: the two must mean the same."""
    (plain,) = prm.score([trace(*STEPS)])
    (cooled,) = load_prm("bundled", {"temperature": 1.5}).score([trace(*STEPS)])
    assert cooled.parts == pytest.approx(scaled(plain.parts, 1.5), abs=5e-3)
    assert all(abs(ours - 0.5) < abs(theirs - 0.5) for ours, theirs in zip(cooled.parts, plain.parts, strict=True))


@pytest.mark.parametrize("value", [0, -1, "warm", True, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ModelError, match=rf"temperature of a reward model must be a number above 0, not '{value}'"):
        load_prm("bundled", {"temperature": value})
