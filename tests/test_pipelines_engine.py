"""The generation core on the real bundled model, against the Hugging Face module of the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine.engine import Engine
from pipelines.models import TextModel, load_generator
from search.types import ROOT, Extend, Extension, Finish, Row, Sampling, Until, child_of, seed_of

QUESTIONS = (
    "Ben has 27 coins. Ben finds 12 more. Ben loses 9. How many coins does Ben have now?",
    "Use 5, 12, 4 to make 21.",
    "Find x from 1 to 6 with 4*x+14=22.",
    "Ann has 12 books. Tom has 3 more than Ann. Kim has 2 times as many as Tom. How many books does Kim have?",
)


@pytest.fixture(scope="module")
def generator() -> TextModel:
    return load_generator()


@pytest.fixture(scope="module")
def oracle() -> Any:
    """The plain module, with transformers' own attention."""
    from transformers import AutoModelForCausalLM

    from pipelines.models import BUNDLED

    return AutoModelForCausalLM.from_pretrained(BUNDLED["generator"], dtype=torch.float32).eval()


def request(prefix: tuple[int, ...], n: int = 1, parent: str = ROOT, seed: int = 0, **changed: Any) -> Extend:
    limit = changed.pop("limit", 256)
    rows = tuple(Row(child_of(parent, i), seed_of(seed, str(prefix), child_of(parent, i)), prefix, limit) for i in range(n))
    return Extend(rows, **{"until": Until.END, "sampling": Sampling(), **changed})


def answered(engine: Engine, *requests: Extend) -> list[Extension]:
    """The replies to requests of as many searches, run together; the searches are forgotten."""
    for search, asked in enumerate(requests):
        engine.submit(search, asked)
    replies: dict[int, Extension] = {}
    while engine.busy:
        replies.update(engine.advance())
    for search in range(len(requests)):
        engine.forget(search)
    return [replies[search] for search in range(len(requests))]


def test_log_probabilities_of_a_ragged_batch_agree_with_the_module(generator: TextModel, oracle: Any) -> None:
    prompts = [generator.encode(q) for q in QUESTIONS]
    replies = answered(generator.engine, *(request(p, n) for p, n in zip(prompts, (1, 5, 3, 8), strict=True)))
    lengths = set()
    for prompt, reply in zip(prompts, replies, strict=True):
        for step in reply.steps:
            ids = torch.tensor([[*prompt, *step.tokens.tolist()]])
            with torch.inference_mode():
                logits = oracle(ids).logits[0, len(prompt) - 1 : -1].float()
            logp = torch.log_softmax(logits, dim=-1)
            chosen = logp.gather(1, torch.tensor(step.tokens).long()[:, None])[:, 0].numpy()
            assert np.abs(chosen - step.logprobs).max() < 1e-4
            uniform = -logp.mean(dim=-1).numpy() - np.log(logp.shape[-1])
            assert np.abs(uniform - step.certainties).max() < 1e-4
            entropy = -(logp.exp() * logp).sum(dim=-1).numpy()
            assert np.abs(entropy - step.entropies).max() < 1e-4
            lengths.add(len(step))
    assert len(lengths) > 5  # the batch was ragged


def test_greedy_output_equals_the_modules_own_generate_token_for_token(generator: TextModel, oracle: Any) -> None:
    for question in QUESTIONS:
        prompt = generator.encode(question)
        (reply,) = answered(generator.engine, request(prompt, sampling=Sampling(temperature=0)))
        out = oracle.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=256, pad_token_id=0)
        assert reply.steps[0].tokens.tolist() == out[0, len(prompt) :].tolist()


def test_a_text_does_not_depend_on_its_neighbours(generator: TextModel) -> None:
    prompts = [generator.encode(q) for q in QUESTIONS]
    together = answered(generator.engine, *(request(p, 16) for p in prompts))
    for prompt, reply in zip(prompts, together, strict=True):
        (alone,) = answered(generator.engine, request(prompt, 16))
        single = [answered(generator.engine, Extend((row,), Until.END, Sampling()))[0] for row in request(prompt, 3).rows]
        assert [s.text for s in alone.steps] == [s.text for s in reply.steps]
        assert [s.steps[0].text for s in single] == [s.text for s in reply.steps[:3]]


def test_another_seed_gives_another_text(generator: TextModel) -> None:
    prompt = generator.encode(QUESTIONS[3])
    first, second = answered(generator.engine, request(prompt, 8), request(prompt, 8, seed=1))
    assert [s.text for s in first.steps] != [s.text for s in second.steps]


def test_a_step_ends_after_its_separator_and_continues_to_the_same_text_as_in_one_go(generator: TextModel) -> None:
    prompt = generator.encode(QUESTIONS[0])
    greedy = Sampling(temperature=0)
    (whole,) = answered(generator.engine, request(prompt, sampling=greedy))
    engine, prefix, path, texts = generator.engine, prompt, ROOT, []
    for _ in range(20):
        engine.submit(7, request(prefix, parent=path, until=Until.STEP, sampling=greedy))
        while not (done := engine.advance()):
            pass
        (step,) = done[0][1].steps
        texts.append(step.text)
        if step.finish is Finish.END:
            break
        assert step.finish is Finish.STEP
        assert step.text.endswith("\n\n")
        prefix, path = (*prefix, *step.tokens.tolist()), child_of(path, 0)
    engine.forget(7)
    assert len(texts) == 3
    assert "".join(texts) == whole.steps[0].text


def test_the_prompt_is_computed_once_and_a_fork_computes_no_more_than_the_last_token(generator: TextModel) -> None:
    engine = generator.engine
    prompt = generator.encode(QUESTIONS[0])
    engine.submit(3, request(prompt, 5, until=Until.STEP))
    while not (done := engine.advance()):
        pass
    first = done[0][1]
    assert first.prompt_tokens == len(prompt) - 1 + 5
    assert first.cached_tokens == 4 * (len(prompt) - 1)
    step = first.steps[2]
    prefix = (*prompt, *step.tokens.tolist())
    engine.submit(3, request(prefix, 6, parent="2", until=Until.STEP))
    while not (done := engine.advance()):
        pass
    assert done[0][1].prompt_tokens == 6
    assert done[0][1].cached_tokens == 6 * (len(prefix) - 1)
    engine.forget(3)


def test_evicted_steps_are_computed_again_charged_and_lead_to_the_same_texts(generator: TextModel) -> None:
    engine = generator.engine
    prompt = generator.encode(QUESTIONS[0])
    results = []
    for capacity in (1 << 30, 0):
        engine.segments.capacity, before = capacity, engine.segments.capacity
        engine.submit(4, request(prompt, 4, until=Until.STEP))
        while not (done := engine.advance()):
            pass
        prefix = (*prompt, *done[0][1].steps[0].tokens.tolist())
        engine.submit(4, request(prefix, 4, parent="0", until=Until.STEP))
        while not (done := engine.advance()):
            pass
        results.append((done[0][1].prompt_tokens, [s.text for s in done[0][1].steps]))
        engine.forget(4)
        engine.segments.capacity = before
    assert results[0][1] == results[1][1]
    assert results[0][0] == 4
    assert results[1][0] == len(prefix) - 1 + 4


def test_searches_admitted_together_do_not_evict_each_other(generator: TextModel) -> None:
    roomy = answered(generator.engine, *(request(generator.encode(q), 3, until=Until.STEP) for q in QUESTIONS))
    before, generator.engine.segments.capacity = generator.engine.segments.capacity, 0
    tight = answered(generator.engine, *(request(generator.encode(q), 3, until=Until.STEP) for q in QUESTIONS))
    generator.engine.segments.capacity = before
    assert [[s.text for s in reply.steps] for reply in tight] == [[s.text for s in reply.steps] for reply in roomy]


def test_the_first_m_to_finish_stop_the_rest_at_their_length(generator: TextModel) -> None:
    prompt = generator.encode(QUESTIONS[2])
    (free,) = answered(generator.engine, request(prompt, 8))
    for m in (1, 3):
        (cut,) = answered(generator.engine, request(prompt, 8, first=m))
        bound = sorted(len(s) for s in free.steps)[m - 1]
        for full, step in zip(free.steps, cut.steps, strict=True):
            assert step.tokens.tolist() == full.tokens.tolist()[:bound]
            assert step.finish is (Finish.END if len(full) <= bound else Finish.CANCELLED)


@pytest.mark.parametrize("allowance", [1, 5, 37, 200])
def test_an_allowance_is_met_to_the_token_whatever_else_runs(generator: TextModel, allowance: int) -> None:
    prompt, other = generator.encode(QUESTIONS[0]), generator.encode(QUESTIONS[1])
    (alone,) = answered(generator.engine, request(prompt, 6, allowance=allowance))
    beside, _ = answered(generator.engine, request(prompt, 6, allowance=allowance), request(other, 9))
    assert sum(len(s) for s in alone.steps) == allowance
    assert [s.tokens.tolist() for s in alone.steps] == [s.tokens.tolist() for s in beside.steps]
    assert all(s.finish in (Finish.BUDGET, Finish.END) for s in alone.steps)
    lengths = [len(s) for s in alone.steps if s.finish is Finish.BUDGET]
    assert max(lengths) - min(lengths) <= 1


def test_a_token_limit_cuts_and_does_not_finish(generator: TextModel) -> None:
    (reply,) = answered(generator.engine, request(generator.encode(QUESTIONS[0]), 3, limit=7))
    assert [(len(s), s.finish) for s in reply.steps] == [(7, Finish.LENGTH)] * 3


def test_a_forgotten_search_leaves_at_once_and_its_memory_with_it(generator: TextModel) -> None:
    engine = generator.engine
    prompts = [generator.encode(q) for q in QUESTIONS]
    (expected,) = answered(engine, request(prompts[1], 4))
    engine.submit(0, request(prompts[0], 8))
    engine.submit(1, request(prompts[1], 4))
    engine.submit(2, request(prompts[2], 8))
    for _ in range(5):
        engine.advance()
    engine.forget(0)
    engine.forget(2)
    assert all(row.ticket.search == 1 for row in engine.live)
    replies: dict[int, Extension] = {}
    while engine.busy:
        replies.update(engine.advance())
    assert [s.text for s in replies[1].steps] == [s.text for s in expected.steps]
    engine.forget(1)
    assert engine.segments.bytes == 0


def test_a_place_that_falls_free_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    small = load_generator(params={"rows": 8})
    for search in range(6):
        small.engine.submit(search, request(small.encode(QUESTIONS[search % 4]), 4))
    batches: list[tuple[int, int]] = []
    decode = small.engine._decode
    monkeypatch.setattr(
        small.engine, "_decode", lambda: (batches.append((len(small.engine.live), len(small.engine.queue))), decode())
    )
    replies: dict[int, Extension] = {}
    while small.engine.busy:
        replies.update(small.engine.advance())
    assert len(replies) == 6
    assert max(rows for rows, _ in batches) <= 8 + 3  # a request enters whole
    waited = [rows for rows, waiting in batches if waiting]
    assert len(waited) > 20
    assert min(waited) >= 8  # no place stays empty while a request waits


def test_a_prompt_longer_than_the_context_is_refused_in_one_line(generator: TextModel) -> None:
    with pytest.raises(ValueError, match=r"the prompt has 1025 tokens and the model's context 1024"):
        generator.engine.submit(0, request((5,) * 1025))


def test_generation_stops_at_the_end_of_the_context(generator: TextModel) -> None:
    (reply,) = answered(generator.engine, request((5,) * 1020, limit=50, sampling=Sampling(temperature=0)))
    assert len(reply.steps[0]) <= 4
