"""The generation core on the real bundled model, against the Hugging Face module of the same weights."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engine import forward
from pipelines.engine.batch import MOST_ROWS, Batch
from pipelines.engine.build import CannotServe, built
from pipelines.engine.engine import CHUNK, Engine
from pipelines.engine.forward import least_rows
from pipelines.engine.pages import PAGE, Pool, Segment, pages_of
from pipelines.engine.vocabulary import Vocabulary
from pipelines.models import BUNDLED, ModelError, TextModel, load_generator
from search.types import (
    GREEDY,
    ROOT,
    SEPARATOR,
    Extend,
    Extension,
    Finish,
    Path,
    Row,
    Sampling,
    Step,
    Until,
    child_of,
    depth_of,
    seed_of,
)

QUESTIONS = (
    "Ben has 27 coins. Ben finds 12 more. Ben loses 9. How many coins does Ben have now?",
    "Use 5, 12, 4 to make 21.",
    "Find x from 1 to 6 with 4*x+14=22.",
    "Ann has 12 books. Tom has 3 more than Ann. Kim has 2 times as many as Tom. How many books does Kim have?",
    "Use 3, 5, 7 to make 36.",
    "Find x from 1 to 9 with 3*x+5=20.",
    "Leo has 40 cards. Leo gives away 13. How many cards does Leo have now?",
    "Use 2, 9, 6 to make 12.",
    "Gus has 8 shells. Hana has 5 more than Gus. How many shells does Hana have?",
    "Find x from 1 to 7 with 6*x+1=31.",
)
WILD = Sampling(temperature=2.0)  # the bundled model is sure of itself: so that texts differ
SMALL = {"context": 256, "cache_mb": 1}
SMALL_PAGES = 42


@pytest.fixture(scope="module")
def generator() -> TextModel:
    return load_generator()


@pytest.fixture(autouse=True)
def rested(generator: TextModel) -> Iterator[None]:
    """What one test leaves behind when it fails is not the next one's."""
    yield
    for search in range(16):
        generator.engine.forget(search)


@pytest.fixture(scope="module")
def oracle() -> Any:
    """The plain module, with transformers' own attention."""
    return weights()


@pytest.fixture
def small(generator: TextModel) -> Engine:
    """An engine with 42 pages, which is little more than one full context takes."""
    engine = made(generator, **SMALL)
    assert engine.pool.capacity == SMALL_PAGES
    return engine


def weights(dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(BUNDLED["generator"], dtype=dtype).eval().requires_grad_(False)


def made(generator: TextModel, context: int = 1024, **options: Any) -> Engine:
    """Another engine of the bundled weights; with a shorter context it can do with less memory."""
    forward.register()
    model = weights()
    model.config.max_position_embeddings = context
    return built(model, generator.engine.vocabulary, **options)


ENGINES: dict[str, Engine] = {}


def engine_of(generator: TextModel, name: str, options: dict[str, Any]) -> Engine:
    """An engine that many tests use, made once."""
    if name not in ENGINES:
        ENGINES[name] = made(generator, **options)
    return ENGINES[name]


# ---------------------------------------------------------------------------------------------------------------- asking


def request(prefix: tuple[int, ...], n: int = 1, parent: str = ROOT, seed: int = 0, **changed: Any) -> Extend:
    limit = changed.pop("limit", 256)
    rows = tuple(Row(child_of(parent, i), seed_of(seed, str(prefix), child_of(parent, i)), prefix, limit) for i in range(n))
    return Extend(rows, **{"until": Until.END, "sampling": Sampling(), **changed})


def answered(engine: Engine, *requests: Extend) -> list[Extension]:
    """The replies to requests of as many searches, run together; the searches are forgotten."""
    for search, asked in enumerate(requests):
        engine.submit(search, asked)
    replies = finished(engine)
    for search in range(len(requests)):
        engine.forget(search)
    assert_empty(engine)
    return [replies[search] for search in range(len(requests))]


def finished(engine: Engine) -> dict[int, Extension]:
    """Advances until nothing is left to do; the replies by search."""
    replies: dict[int, Extension] = {}
    while engine.busy:
        replies.update(advanced(engine))
    return replies


def advanced(engine: Engine) -> list[tuple[int, Extension]]:
    """Advances once; no request may fail."""
    done = []
    for search, reply in engine.advance():
        assert isinstance(reply, Extension), reply
        done.append((search, reply))
    return done


def first_reply(engine: Engine) -> Extension:
    """Advances until one request is answered."""
    while not (done := advanced(engine)):
        pass
    return done[0][1]


def texts(replies: Sequence[Extension]) -> list[list[str]]:
    return [[step.text for step in reply.steps] for reply in replies]


def bits(step: Step) -> tuple[Any, ...]:
    """All of a step, to the bit."""
    arrays = (step.tokens, step.logprobs, step.certainties, step.entropies, step.drawn, step.confidences)
    return step.text, step.finish, *(None if array is None else array.tobytes() for array in arrays)


def all_bits(replies: Sequence[Extension]) -> list[list[tuple[Any, ...]]]:
    return [[bits(step) for step in reply.steps] for reply in replies]


def log_probabilities(oracle: Any, prefix: Sequence[int], tokens: Sequence[int]) -> torch.Tensor:
    """The module's ln p over the vocabulary before each of the tokens: [tokens, vocabulary]."""
    with torch.inference_mode():
        logits = oracle(torch.tensor([[*prefix, *tokens]])).logits[0, len(prefix) - 1 : -1]
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)


def farthest(oracle: Any, prefix: Sequence[int], step: Step) -> float:
    """The largest difference of a step's log-probabilities from a full forward pass of the module."""
    if not len(step):
        return 0.0
    tokens = step.tokens.tolist()
    logp = log_probabilities(oracle, prefix, tokens).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    return float(np.abs(logp.numpy() - step.logprobs).max())


def assert_empty(engine: Engine) -> None:
    """All searches are forgotten, and nothing is left of them."""
    assert engine.pool.used_pages == 0
    assert engine.memory_used() == 0
    assert len(set(engine.rows.free)) == len(engine.rows.free) == engine.rows.slots
    held = (
        engine.queue,
        engine.fills,
        engine.units,
        engine.live,
        engine.kept,
        engine.kept._known,
        engine.done,
        engine.rows.seen,
    )
    assert [len(some) for some in held] == [0] * len(held)


def assert_whole(engine: Engine) -> None:
    """Every page in use belongs to a segment that somebody needs, and every segment counts those who need it."""
    rows = [row for unit in (*engine.units, *engine.queue) for row in unit.rows]
    owners = [*engine.kept._held.values(), *(row.segment for row in rows if row.segment is not None)]
    owners += [fill.segment for fill in engine.fills if fill.key is not None]
    needed: dict[Segment, int] = {}
    for owner in owners:
        node: Segment | None = owner
        while node is not None:
            needed[node] = needed.get(node, 0) + 1
            node = node.parent if needed[node] == 1 else None  # a segment needs its parent once
    assert {id(s): s.refs for s in needed} == {id(s): count for s, count in needed.items()}
    assert sum(len(segment.pages) for segment in needed) == engine.pool.used_pages
    slots = [row.slot for row in rows] + [fill.slot for fill in engine.fills if fill.key is not None]
    assert sorted([*slots, *engine.rows.free]) == list(range(engine.rows.slots))


# ------------------------------------------------------------------------------------------------- the module's own numbers


def test_log_probabilities_of_a_ragged_batch_agree_with_the_module(generator: TextModel, oracle: Any) -> None:
    prompts = [generator.encode(q) for q in QUESTIONS[:4]]
    replies = answered(generator.engine, *(request(p, n) for p, n in zip(prompts, (1, 5, 3, 8), strict=True)))
    lengths = set()
    for prompt, reply in zip(prompts, replies, strict=True):
        for step in reply.steps:
            logp = log_probabilities(oracle, prompt, step.tokens.tolist())
            assert farthest(oracle, prompt, step) < 1e-4
            uniform = -logp.mean(dim=-1).numpy() - np.log(logp.shape[-1])
            assert np.abs(uniform - step.certainties).max() < 1e-4
            entropy = -(logp.exp() * logp).sum(dim=-1).numpy()
            assert np.abs(entropy - step.entropies).max() < 1e-4
            lengths.add(len(step))
    assert len(lengths) > 5  # the batch was ragged


def test_greedy_output_equals_the_modules_own_generate_token_for_token(generator: TextModel, oracle: Any) -> None:
    for question in QUESTIONS[:5]:
        prompt = generator.encode(question)
        (reply,) = answered(generator.engine, request(prompt, sampling=GREEDY))
        out = oracle.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=256, pad_token_id=0)
        assert reply.steps[0].tokens.tolist() == out[0, len(prompt) :].tolist()


PATHS: list[tuple[str, dict[str, Any], str]] = [
    ("fused", {"path": "fused"}, "the fused path, 1 thread"),
    ("fused with two threads", {"path": "fused", "threads": 2}, "the fused path, 2 threads"),
    ("module over host memory", {"path": "module"}, "the Hugging Face module over paged memory, HostMemory"),
    (
        "module over device memory",
        {"path": "module", "paged": "device"},
        "the Hugging Face module over paged memory, DeviceMemory",
    ),
    ("plain", {"path": "plain"}, "the plain path (asked for): every sequence is computed again for each token"),
]


@pytest.mark.parametrize(("options", "what"), [case[1:] for case in PATHS], ids=[case[0] for case in PATHS])
def test_every_path_gives_the_same_tokens_and_the_modules_log_probabilities(
    generator: TextModel, oracle: Any, options: dict[str, Any], what: str
) -> None:
    engine = made(generator, **options)
    assert engine.forward.what == what
    prompts = [generator.encode(q) for q in QUESTIONS[:4]]
    asked = [request(p, 8, sampling=WILD, limit=24) for p in prompts]
    replies, expected = answered(engine, *asked), answered(generator.engine, *asked)
    for prompt, reply, other in zip(prompts, replies, expected, strict=True):
        assert [s.tokens.tolist() for s in reply.steps] == [s.tokens.tolist() for s in other.steps]
        assert max(farthest(oracle, prompt, step) for step in reply.steps) < 1e-4


@pytest.mark.parametrize("paged", ["host", "device"])
def test_attention_that_is_shared_at_two_levels_of_a_tree_gives_the_same_texts(generator: TextModel, paged: str) -> None:
    """A long prompt, two long steps upon it, and five rows upon each: DeviceMemory attends what they share once for all."""
    engine = made(generator, path="module", paged=paged)
    prompt = generator.encode(" ".join(QUESTIONS[:6]))[:150]
    found: list[list[list[int]]] = []
    for some in (generator.engine, engine):
        some.submit(0, request(prompt, 5, until=Until.STEP, limit=140, sampling=Sampling(temperature=8)))
        steps = first_reply(some).steps
        long = [i for i, step in enumerate(steps) if len(step) > 130][:2]
        assert len(long) == 2
        rows: tuple[Row, ...] = ()
        for i in long:
            rows += request((*prompt, *steps[i].tokens.tolist()), 5, parent=str(i), limit=20).rows
        some.submit(0, Extend(rows, Until.END, WILD))
        found.append([step.tokens.tolist() for step in (*steps, *first_reply(some).steps)])
        some.forget(0)
        assert_empty(some)
    assert found[0] == found[1]


def test_layercast_gives_the_tokens_of_float32(generator: TextModel, oracle: Any) -> None:
    """The bundled weights are 16-bit: kept so and computed in float32, nothing changes."""
    engine = load_generator(params={"dtype": "layercast"}).engine
    assert {p.dtype for p in engine.forward.model.parameters() if p.ndim == 2} == {torch.bfloat16}
    asked = [request(generator.encode(q), 8, sampling=WILD, limit=60) for q in QUESTIONS[:4]]
    replies, expected = answered(engine, *asked), answered(generator.engine, *asked)
    assert texts(replies) == texts(expected)
    for one, reply in zip(asked, replies, strict=True):
        assert max(farthest(oracle, one.rows[0].prefix, step) for step in reply.steps) < 1e-4


@pytest.mark.parametrize(("dtype", "near"), [("bfloat16", 0.3), ("float16", 0.03)])
def test_half_precision_is_near_the_modules_own(generator: TextModel, dtype: str, near: float) -> None:
    """The module's own forward pass in that dtype rounds in other places: an eighth of a bit in bfloat16 at ln p near 30."""
    engine, own = load_generator(params={"dtype": dtype}).engine, weights(getattr(torch, dtype))
    for question in QUESTIONS[:3]:
        prompt = generator.encode(question)
        (reply,) = answered(engine, request(prompt, 3, sampling=WILD, limit=30))
        assert max(farthest(own, prompt, step) for step in reply.steps) < near


# ------------------------------------------------------------------------------------------------------- batch invariance


def singles(generator: TextModel, questions: int, seeds: int, limit: int) -> list[Extend]:
    """Requests of one row each, some surer than others, in an order that mixes prompts."""
    asked = []
    for question in QUESTIONS[:questions]:
        for i, row in enumerate(request(generator.encode(question), seeds, limit=limit).rows):
            asked.append(Extend((row,), Until.END, (Sampling(), WILD, Sampling(temperature=3.0))[i % 3]))
    return [asked[i] for i in np.random.default_rng(0).permutation(len(asked))]


def in_batches(engine: Engine, asked: Sequence[Extend], size: int) -> list[list[tuple[Any, ...]]]:
    return [reply for at in range(0, len(asked), size) for reply in all_bits(answered(engine, *asked[at : at + size]))]


@pytest.fixture(scope="module")
def alone(generator: TextModel) -> tuple[list[Extend], list[list[tuple[Any, ...]]]]:
    """200 texts of ten prompts, each generated by itself."""
    asked = singles(generator, questions=10, seeds=20, limit=24)
    found = in_batches(generator.engine, asked, 1)
    assert len({reply[0][0] for reply in found}) > 100
    return asked, found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_texts_bits_do_not_depend_on_its_batch(generator: TextModel, alone: Any, workers: int) -> None:
    asked, expected = alone
    engine = made(generator, path="fused", threads=workers)
    assert in_batches(engine, asked, 64) == expected
    assert in_batches(engine, asked, 3) == expected
    assert in_batches(engine, asked[:20], 1) == expected[:20]


def test_nor_on_what_the_memory_held_before(generator: TextModel, alone: Any) -> None:
    asked, expected = alone
    engine = made(generator, path="fused", cache_mb=16)
    for array in (engine.forward.memory.keys, engine.forward.memory.values):
        array[:] = np.random.default_rng(0).normal(0, 30, array.shape)
    assert in_batches(engine, asked[:64], 64) == expected[:64]


@pytest.fixture
def torchs(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads of torch's own."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("torchs", [pytest.param(1, marks=pytest.mark.slow), 2], indirect=True)
def test_the_modules_bits_do_not_depend_on_the_batch_either(generator: TextModel, torchs: int) -> None:
    engine = made(generator, path="module")
    assert engine.forward.threads == torchs
    asked = singles(generator, questions=5, seeds=4, limit=10)
    expected = in_batches(engine, asked, 1)
    assert in_batches(engine, asked, 3) == expected
    assert in_batches(engine, asked, 20) == expected


@pytest.mark.parametrize("torchs", [1], indirect=True)
@pytest.mark.parametrize(("width", "height"), [(128, 384), (384, 128), (896, 896), (1536, 256), (2048, 512)])
def test_from_least_rows_on_a_products_bits_do_not_depend_on_its_rows(width: int, height: int, torchs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, x = torch.randn(height, width, generator=generator), torch.randn(MOST_ROWS, width, generator=generator)
    turned = weight.t().contiguous()
    for product in (lambda some: torch.nn.functional.linear(some, weight), lambda some: torch.mm(some, turned)):
        whole = product(x)
        found = range(least_rows(width, product), MOST_ROWS)
        assert [rows for rows in found if not torch.equal(product(x[:rows]), whole[:rows])] == []


def test_a_row_gets_the_same_bits_beside_more_tokens_than_one_product_takes(generator: TextModel) -> None:
    for engine in (generator.engine, made(generator, path="module"), made(generator, threads=2)):
        prompt = generator.encode(" ".join(QUESTIONS * 3))[:600]
        shorter = request(prompt[:40], 1, sampling=WILD, limit=12)
        expected = all_bits(answered(engine, shorter))
        engine.submit(9, shorter)
        engine.submit(8, request(prompt, 200, sampling=WILD, limit=8))  # passes of more than 256 tokens, then of 200
        replies = finished(engine)
        engine.forget(8)
        engine.forget(9)
        assert all_bits([replies[9]]) == expected


MIXED = (
    GREEDY,
    Sampling(temperature=0.7, top_p=0.9),
    Sampling(min_p=0.05),
    Sampling(temperature=1.5, top_k=5),
    Sampling(repetition_penalty=1.3),
    Sampling(repetition_penalty=0.8, temperature=0.9),
    Sampling(mirostat_tau=2.0),
    Sampling(mirostat_tau=4.0, mirostat_eta=0.3, repetition_penalty=1.1),
    Sampling(confidence=10),
    Sampling(confidence=3, temperature=2.0),
    WILD,
)


def test_rows_of_other_sampling_settings_do_not_change_each_other(generator: TextModel) -> None:
    prompts = [generator.encode(QUESTIONS[i % 10]) for i in range(len(MIXED))]
    asked = [request(p, 3, sampling=s, limit=50) for p, s in zip(prompts, MIXED, strict=True)]
    together = answered(generator.engine, *asked)
    assert all_bits(together) == [all_bits(answered(generator.engine, one))[0] for one in asked]
    for sampling, reply in zip(MIXED, together, strict=True):
        for step in reply.steps:
            assert step.drawn is not None
            assert (step.confidences is not None) == (sampling.confidence > 0)
            assert (step.drawn == 0).all() or sampling is not GREEDY
            if sampling == Sampling(confidence=10):
                assert np.array_equal(step.drawn, step.logprobs)
                assert step.confidences is not None
                assert (step.confidences > 0).all()


def test_settings_of_a_row_that_left_do_not_stay_with_its_place(generator: TextModel) -> None:
    """One row at a time, which gets the place that the one before it had."""
    asked = [request(generator.encode(QUESTIONS[2]), sampling=s, limit=20) for s in MIXED]
    expected = [all_bits(answered(made(generator, cache_mb=4), one)) for one in asked]
    assert [all_bits(answered(generator.engine, one)) for one in asked] == expected


def test_rows_carry_mirostats_bound_and_the_tokens_seen_from_token_to_token(generator: TextModel) -> None:
    """mu moves by eta times what the last token's surprise, in bits, was above tau (arXiv 2007.14966)."""
    engine, vocabulary = generator.engine, generator.engine.vocabulary
    prompt, sampling = generator.encode(QUESTIONS[1]), Sampling(mirostat_tau=3.0, mirostat_eta=0.2)
    engine.submit(0, request(prompt, 3, sampling=sampling, limit=30))
    engine.submit(1, request(prompt, 3, sampling=Sampling(repetition_penalty=1.2), limit=30))
    looked = 0
    while engine.busy:
        for row in engine.live:
            count = int(engine.rows.counts[row.slot])
            looked += count > 5
            if row.ticket.search == 0:
                surprises = -engine.rows.statistics[row.slot, 0, :count] / np.log(2)
                assert engine.rows.mu[row.slot] == pytest.approx(6.0 - 0.2 * (surprises - 3.0).sum(), abs=1e-3)
            else:
                seen = {*prompt, *engine.rows.tokens[row.slot, :count].tolist()}
                assert set(engine.rows.seen[row.slot].nonzero()[:, 0].tolist()) == {t for t in seen if t < vocabulary.size}
        engine.advance()
    assert looked > 50


def test_another_seed_gives_another_text(generator: TextModel) -> None:
    prompt = generator.encode(QUESTIONS[3])
    first, second = answered(generator.engine, request(prompt, 8), request(prompt, 8, seed=1))
    assert [s.text for s in first.steps] != [s.text for s in second.steps]


# ----------------------------------------------------------------------------------------------------- steps and prompts


def test_a_step_ends_after_its_separator_and_continues_to_the_same_text_as_in_one_go(generator: TextModel) -> None:
    prompt = generator.encode(QUESTIONS[0])
    (whole,) = answered(generator.engine, request(prompt, sampling=GREEDY))
    engine, prefix, path, pieces = generator.engine, prompt, ROOT, []
    for _ in range(20):
        engine.submit(7, request(prefix, parent=path, until=Until.STEP, sampling=GREEDY))
        (step,) = first_reply(engine).steps
        pieces.append(step.text)
        if step.finish is Finish.END:
            break
        assert step.finish is Finish.STEP
        assert step.text.endswith(SEPARATOR)
        prefix, path = (*prefix, *step.tokens.tolist()), child_of(path, 0)
    engine.forget(7)
    assert len(pieces) == 3
    assert "".join(pieces) == whole.steps[0].text


def test_the_prompt_is_computed_once_and_a_fork_computes_no_more_than_the_last_token(generator: TextModel) -> None:
    engine = generator.engine
    prompt = generator.encode(QUESTIONS[0])
    engine.submit(3, request(prompt, 5, until=Until.STEP))
    first = first_reply(engine)
    assert first.prompt_tokens == len(prompt) - 1 + 5
    assert first.cached_tokens == 4 * (len(prompt) - 1)
    step = first.steps[2]
    prefix = (*prompt, *step.tokens.tolist())
    engine.submit(3, request(prefix, 6, parent="2", until=Until.STEP))
    second = first_reply(engine)
    assert second.prompt_tokens == 6
    assert second.cached_tokens == 6 * (len(prefix) - 1)
    assert first.recomputed_tokens == second.recomputed_tokens == 0
    for reply in (first, second):
        used = sum(map(len, reply.steps))
        assert reply.flops == 2.0 * engine.parameters * (reply.prompt_tokens + used)
    engine.forget(3)


def test_memory_used_is_pages_and_memory_needed_is_distinct_positions(generator: TextModel) -> None:
    engine = generator.engine
    prompt = generator.encode(QUESTIONS[0])
    engine.submit(0, request(prompt, 5, sampling=WILD))
    engine.advance()  # the prompt
    for k in range(1, 8):
        engine.advance()
        assert len(engine.live) == 5
        positions = len(prompt) - 1 + 5 * k
        assert engine.memory_needed() == positions * engine.page_bytes // PAGE
        pages = pages_of(len(prompt) - 1) + 5 * pages_of(k)
        assert engine.memory_used() == pages * engine.page_bytes
    engine.forget(0)
    assert_empty(engine)


def test_a_long_prompt_is_computed_in_pieces_while_other_rows_go_on(generator: TextModel) -> None:
    engine = generator.engine
    long = generator.encode(" ".join(QUESTIONS * 4))[:700]
    assert len(long) == 700
    asked, other = (
        request(long, 2, sampling=WILD, limit=20),
        request(generator.encode(QUESTIONS[1]), 4, sampling=WILD, limit=60),
    )
    expected = all_bits(answered(engine, asked) + answered(engine, other))
    engine.submit(1, other)
    engine.advance()
    engine.submit(0, asked)
    replies: dict[int, Extension] = {}
    filled = []
    while engine.busy:
        before = {id(row): int(engine.rows.counts[row.slot]) for row in engine.live}
        replies.update(advanced(engine))
        after = {id(row): int(engine.rows.counts[row.slot]) for row in engine.live}
        assert all(count == before.get(row, 0) + 1 for row, count in after.items() if row in before)
        filled += [int(engine.rows.ends[fill.slot]) for fill in engine.fills]
        assert not engine.fills or len(after) == 4  # nobody waited for the prompt
    assert filled == [CHUNK, 2 * CHUNK]
    assert all_bits([replies[0], replies[1]]) == expected
    for search in (0, 1):
        engine.forget(search)
    assert_empty(engine)


def test_prompts_that_begin_alike_share_whole_blocks(generator: TextModel) -> None:
    engine = generator.engine
    common = generator.encode(" ".join(QUESTIONS[:5]))[:77]
    prompts = [(*common, *generator.encode(q)) for q in QUESTIONS[5:8]]
    asked = [request(p, 3, sampling=WILD, limit=30) for p in prompts]
    expected = [all_bits(answered(engine, one))[0] for one in asked]
    for search, (one, prompt) in enumerate(zip(asked, prompts, strict=True)):
        engine.submit(search, one)
        reply = finished(engine)[search]
        shared = 77 // PAGE * PAGE if search else 0
        assert reply.cached_tokens == shared + 2 * (len(prompt) - 1)
        assert reply.prompt_tokens == len(prompt) - 1 - shared + 3
        assert all_bits([reply])[0] == expected[search]
        assert_whole(engine)
        if search == 1:
            engine.forget(0)  # whose blocks the second still needs, and the third will find
    for search in (1, 2):
        engine.forget(search)
    assert_empty(engine)


def test_a_block_is_shared_only_with_all_that_lies_before_it(generator: TextModel) -> None:
    """Two prompts in memory, and a third that begins as the second does and goes on as both do."""
    engine = generator.engine
    tokens = generator.encode(" ".join(QUESTIONS))
    first, second, common = tokens[:PAGE], tokens[50 : 50 + PAGE], tokens[100 : 100 + 3 * PAGE]
    prompts = [(*first, *common, 5), (*second, *common, 6), (*second, *common, 7)]
    asked = [request(p, 2, sampling=WILD, limit=20) for p in prompts]
    expected = [all_bits(answered(engine, one))[0] for one in asked]
    replies: dict[int, Extension] = {}
    for search, one in enumerate(asked):
        engine.submit(search, one)
        replies |= finished(engine)
    assert all_bits([replies[search] for search in range(3)]) == expected
    assert [replies[search].cached_tokens - (4 * PAGE) for search in range(3)] == [0, 0, 4 * PAGE]
    for search in range(3):
        engine.forget(search)
    assert_empty(engine)


@pytest.mark.parametrize("length", [33, 49, 50, 65])
def test_a_prompt_that_another_search_holds_whole_or_longer_is_not_computed(generator: TextModel, length: int) -> None:
    engine = generator.engine
    prompt = generator.encode(" ".join(QUESTIONS[:5]))[:65]
    asked = request(prompt[:length], 2, sampling=WILD, limit=30)
    (expected,) = answered(engine, asked)
    assert answered(engine, request(prompt, limit=5))
    engine.submit(0, request(prompt, 2, limit=40))
    finished(engine)
    engine.submit(1, asked)
    reply = finished(engine)[1]
    held = (length - 1) // PAGE * PAGE
    assert reply.prompt_tokens == length - 1 - held + 2
    assert all_bits([reply]) == all_bits([expected])
    for search in (0, 1):
        engine.forget(search)
    assert_empty(engine)


def test_two_searches_with_one_prompt_submitted_at_once_agree_and_leave_nothing(generator: TextModel) -> None:
    prompt = generator.encode(" ".join(QUESTIONS[:5]))
    asked = request(prompt, 3, sampling=WILD, limit=30)
    first, second = answered(generator.engine, asked, asked)
    assert all_bits([first]) == all_bits([second])


def test_a_prompt_of_one_token_needs_nothing_computed_before(generator: TextModel, oracle: Any) -> None:
    (reply,) = answered(generator.engine, request((7,), 3, sampling=WILD, limit=20))
    assert (reply.prompt_tokens, reply.cached_tokens) == (3, 0)
    assert max(farthest(oracle, (7,), step) for step in reply.steps) < 1e-4


def test_a_prompt_longer_than_the_context_is_refused_in_one_line(generator: TextModel) -> None:
    with pytest.raises(ValueError, match=r"^the prompt has 1025 tokens and the model's context 1024$"):
        generator.engine.submit(0, request((5,) * 1025))
    assert_empty(generator.engine)


def test_generation_stops_at_the_end_of_the_context(generator: TextModel) -> None:
    (reply,) = answered(generator.engine, request((5,) * 1020, limit=50, sampling=GREEDY))
    assert len(reply.steps[0]) <= 4


# ---------------------------------------------------------------------------------------------------------- who runs next


def test_a_place_that_falls_free_is_taken_at_once(generator: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_generator(params={"rows": 8}).engine
    for search in range(6):
        engine.submit(search, request(generator.encode(QUESTIONS[search % 4]), 4))
    passes: list[tuple[int, int]] = []
    compute = engine._pass

    def watched() -> None:
        passes.append((len(engine.live) + sum(len(fill.waiting) for fill in engine.fills), len(engine.queue)))
        compute()

    monkeypatch.setattr(engine, "_pass", watched)
    replies = finished(engine)
    assert len(replies) == 6
    assert max(rows for rows, _ in passes) == 8
    waited = [rows for rows, waiting in passes if waiting]
    assert len(waited) > 20
    assert min(waited) == 8  # no place stays empty while a row waits


def test_rows_in_step_enter_together_even_above_the_bound(generator: TextModel) -> None:
    engine = made(generator, rows=4)
    prompts = [generator.encode(q) for q in QUESTIONS[:3]]
    asked = [
        request(prompts[0], 6, first=2, sampling=WILD),
        request(prompts[1], 5, allowance=60),
        request(prompts[2], 3, limit=30),
    ]
    expected = [all_bits(answered(generator.engine, one))[0] for one in asked]
    for search, one in enumerate(asked):
        engine.submit(search, one)
    replies: dict[int, Extension] = {}
    while engine.busy:
        replies.update(advanced(engine))
        counts = [
            {int(engine.rows.counts[row.slot]) for row in engine.live if row.ticket.search == search} for search in range(2)
        ]
        assert max(map(len, counts)) <= 1  # in step
    assert all_bits([replies[search] for search in range(3)]) == expected
    for search in range(3):
        engine.forget(search)
    assert_empty(engine)


# ------------------------------------------------------------------------------------------------------------- stop rules


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
    assert lengths == sorted(lengths, reverse=True)  # the first rows get what is left


def priced(engine: Engine, tokens: float) -> float:
    """What so many computed tokens are charged."""
    return 2.0 * engine.parameters * tokens


def assert_bounded(reply: Extension, free: Extension, flops: float) -> None:
    """Within its bound, and each step the beginning of what it would have been."""
    assert reply.flops <= flops
    assert len(reply.steps) == len(free.steps)
    for step, full in zip(reply.steps, free.steps, strict=True):
        assert bits(step)[2:5] == tuple(a[: len(step)].tobytes() for a in (full.tokens, full.logprobs, full.certainties))
        if step.finish is Finish.BUDGET:
            assert len(step) <= len(full)
        else:
            assert bits(step) == bits(full)


WAYS: list[dict[str, Any]] = [{}, {"draft": 4}, {"path": "plain"}, {"path": "module", "paged": "device"}]


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        pytest.param(options, tokens, marks=() if options == {} or tokens in (39, 44, 151.9) else pytest.mark.slow)
        for options in WAYS
        for tokens in (0, 20, 38, 39, 43, 44, 60, 150, 151.9, 400, 2500)
    ],
)
def test_flops_bound_every_token_that_is_computed(generator: TextModel, options: dict[str, Any], tokens: float) -> None:
    engine = generator.engine if options == {} else engine_of(generator, str(options), options)
    prompt, other = generator.encode(QUESTIONS[0]), generator.encode(QUESTIONS[1])
    asked, beside = request(prompt, 5, sampling=WILD, limit=40), request(other, 4, sampling=WILD, limit=30)
    free, expected = answered(generator.engine, asked, beside)
    flops = priced(engine, tokens)
    bound = replace(asked, flops=flops)
    if options == {"draft": 4}:  # siblings, from whom to guess
        engine.submit(0, request(prompt, 5, sampling=WILD, limit=40))
        finished(engine)
        engine.submit(0, bound)
        reply = finished(engine)[0]
        engine.forget(0)
        assert_empty(engine)
        assert_bounded(reply, free, flops)
    reply, crowd = answered(engine, bound, beside)
    if "path" in options:  # the same tokens, and not to the bit the same log-probabilities
        assert texts([crowd]) == texts([expected])
        assert reply.flops <= flops
        for step, full in zip(reply.steps, free.steps, strict=True):
            assert step.tokens.tolist() == full.tokens.tolist()[: len(step)]
    else:
        assert_bounded(reply, free, flops)
        assert all_bits([crowd]) == all_bits([expected])
    ended = [step.finish is Finish.BUDGET for step in reply.steps]
    if options == {"path": "plain"}:
        return
    least = len(prompt) - 1 + 2  # of the first row's first token
    lengths = [len(step) for step in reply.steps]
    assert (sum(lengths) == 0) == (tokens < least)
    if tokens < least:
        assert (reply.prompt_tokens, reply.flops) == (0, 0.0), "a prompt that does not fit is not begun"
        assert all(step.text == "" and step.finish is Finish.BUDGET for step in reply.steps)
    elif any(ended) and options == {}:
        assert priced(engine, tokens) - reply.flops < priced(engine, 2), "what is left pays for nothing more"
        cut = [n for n, over in zip(lengths, ended, strict=True) if over]
        assert cut == sorted(cut, reverse=True), "the first rows get what is left"
    assert not any(ended) or tokens < 2500


@pytest.mark.parametrize("draft", [0, 4])
def test_a_bound_that_does_not_bind_changes_nothing(generator: TextModel, draft: int) -> None:
    engine = made(generator, draft=draft)
    asked = [request(generator.encode(q), 4, limit=60) for q in QUESTIONS[:3]]
    free = answered(engine, *asked)
    loose = answered(engine, *(replace(one, flops=priced(engine, 10_000), seconds=1e6) for one in asked))
    assert all_bits(loose) == all_bits(free)
    assert [reply.flops for reply in loose] == [reply.flops for reply in free]


def test_flops_and_an_allowance_bind_together_and_the_scarcer_counts(generator: TextModel) -> None:
    engine, prompt = generator.engine, generator.encode(QUESTIONS[0])
    base = len(prompt) - 1 + 4
    for allowance, tokens, most in ((30, base + 50, 30), (50, base + 30, 30), (30, base + 30, 30)):
        asked = request(prompt, 4, sampling=WILD, limit=60, allowance=allowance, flops=priced(engine, tokens))
        (reply,) = answered(engine, asked)
        assert sum(map(len, reply.steps)) == most


def test_rows_of_other_parents_get_their_prompt_only_where_it_leads_to_a_token(generator: TextModel) -> None:
    """The first parent is in memory, the second must be computed again, and what is left does not pay for it."""
    engine, prompt = generator.engine, generator.encode(QUESTIONS[0])
    engine.submit(0, request(prompt, 2, until=Until.STEP))
    prefixes = [(*prompt, *step.tokens.tolist()) for step in first_reply(engine).steps]
    rows = [request(prefix, 2, parent=str(i), limit=9).rows for i, prefix in enumerate(prefixes)]
    mixed = (rows[0][0], rows[0][1], rows[1][0], rows[1][1])
    missing = len(prefixes[1]) - len(prompt)  # the prompt itself is in memory
    for tokens, begun in ((4, 2), (3, 1), (4 + missing + 1, 2), (4 + missing + 1 + 2, 3)):
        engine.submit(0, Extend(mixed, Until.END, WILD, flops=priced(engine, tokens), dropped=("1",)))
        reply = finished(engine)[0]
        assert [len(step) > 0 for step in reply.steps] == [True] * begun + [False] * (4 - begun)
        assert reply.flops <= priced(engine, tokens)
        assert reply.prompt_tokens == begun + (missing if begun > 2 else 0)
    engine.forget(0)
    assert_empty(engine)


def test_what_is_computed_again_counts_and_rows_that_do_not_fit_in_step_come_one_by_one(
    generator: TextModel, small: Engine
) -> None:
    """8 rows of 200 tokens are more than the memory holds: bounded in FLOPs they run all the same, and within the bound."""
    asked = [request(generator.encode(q), 8, sampling=WILD, limit=100) for q in QUESTIONS[:3]]
    free = answered(generator.engine, *asked)
    for tokens in (200, 300):
        flops = priced(small, tokens)
        replies = answered(small, *(replace(one, flops=flops) for one in asked[:2]), asked[2])
        for reply, full in zip(replies[:2], free[:2], strict=True):
            assert_bounded(reply, full, flops)
            assert any(step.finish is Finish.BUDGET for step in reply.steps)
        assert all_bits(replies[2:]) == all_bits(free[2:])


def a_pass_a_second(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the clock stands still but for the engine's passes."""
    now, compute = [0.0], engine._pass

    def slow() -> None:
        now[0] += 1.0
        compute()

    monkeypatch.setattr(engine, "_pass", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])


@pytest.mark.parametrize("draft", [0, 4])
def test_seconds_stop_a_request_after_the_pass_that_reaches_them(
    generator: TextModel, monkeypatch: pytest.MonkeyPatch, draft: int
) -> None:
    """A pass takes a second here: 12 rows share it."""
    engine = made(generator, draft=draft, rows=12)
    a_pass_a_second(engine, monkeypatch)
    asked = [request(generator.encode(q), 8, sampling=WILD, limit=60) for q in QUESTIONS[:3]]
    free = answered(engine, *asked)
    for seconds in (0.0, 0.5, 3.0, 7.0, 1000.0):
        replies = answered(engine, replace(asked[0], seconds=seconds), asked[1], replace(asked[2], seconds=seconds))
        assert all_bits([replies[1]]) == all_bits([free[1]])
        for i in (0, 2):
            assert_bounded(replies[i], free[i], float("inf"))
            over = any(step.finish is Finish.BUDGET for step in replies[i].steps)
            assert replies[i].seconds >= seconds if over else seconds == 1000
            assert not over or replies[i].seconds < seconds + 1.001, "at most one pass beyond"
            assert seconds or sum(map(len, replies[i].steps)) == 0


def test_the_last_pass_is_charged_too(generator: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a request of one token would cost no time, and a search of such requests no end. A pass takes a second here."""
    engine, prompt = made(generator), generator.encode(QUESTIONS[0])
    a_pass_a_second(engine, monkeypatch)
    engine.submit(0, request(prompt, 1, limit=1))
    engine.advance()
    ((_, reply),) = engine.advance()
    assert isinstance(reply, Extension)
    assert reply.seconds == 2
    engine.submit(0, request(prompt, 1, limit=1))  # the prompt is in memory: one pass
    ((_, again),) = engine.advance()
    assert isinstance(again, Extension)
    assert again.seconds == 1
    engine.forget(0)


@pytest.mark.parametrize("passes", [0, 1, 2, 3, 4, 9])
def test_forgetting_a_bounded_request_leaks_nothing(generator: TextModel, small: Engine, passes: int) -> None:
    for bound in ({"flops": priced(small, 150)}, {"seconds": 1e-3}, {"flops": priced(small, 400), "seconds": 1e-2}):
        for search, q in enumerate(QUESTIONS[:3]):
            small.submit(search, request(generator.encode(q), 4, sampling=WILD, limit=60, **bound))
        for _ in range(passes):
            small.advance()
            assert_whole(small)
        for search in range(3):
            small.forget(search)
        small.done.clear()
        assert_empty(small)


def test_a_token_limit_cuts_and_does_not_finish(generator: TextModel) -> None:
    (reply,) = answered(generator.engine, request(generator.encode(QUESTIONS[0]), 3, limit=7))
    assert [(len(s), s.finish) for s in reply.steps] == [(7, Finish.LENGTH)] * 3


def earliest(vocabulary: Vocabulary, tokens: Sequence[int], stops: Sequence[str]) -> int | None:
    """How many tokens it takes until the text holds one of the strings."""
    for count in range(1, len(tokens) + 1):
        if any(stop in vocabulary.text((), tokens[:count]) for stop in stops):
            return count
    return None


def test_a_stop_string_that_straddles_tokens_ends_the_row_at_the_earliest_token(generator: TextModel) -> None:
    engine, vocabulary = generator.engine, generator.engine.vocabulary
    prompt = generator.encode(QUESTIONS[3])
    (free,) = answered(engine, request(prompt, 4, sampling=WILD, limit=60))
    asked, expected = [], []
    for row, full in zip(request(prompt, 4, limit=60).rows, free.steps, strict=True):
        tokens = full.tokens.tolist()
        for i in range(3, min(len(tokens), 40) - 2, 3):
            # the end of one token, a whole one, and the beginning of the next
            stop = "".join(
                (vocabulary.pieces[tokens[i]][-1:], vocabulary.pieces[tokens[i + 1]], vocabulary.pieces[tokens[i + 2]][:1])
            )
            count = earliest(vocabulary, tokens, [stop])
            if count is not None and "\ufffd" not in stop:
                asked.append(Extend((row,), Until.END, WILD, stops=("never written", stop)))
                expected.append((tokens, count))
    assert len(asked) > 30
    ends = set()
    for reply, (tokens, count) in zip(answered(engine, *asked), expected, strict=True):
        assert reply.steps[0].tokens.tolist() == tokens[:count]
        assert reply.steps[0].finish is Finish.END
        ends.add(count)
        assert len(tokens) > count  # without stops the same seed goes on
    assert len(ends) > 10


def test_the_earliest_of_several_stop_strings_counts_and_others_rows_go_on(generator: TextModel) -> None:
    engine = generator.engine
    prompt = generator.encode(QUESTIONS[0])
    (free,) = answered(engine, request(prompt, sampling=GREEDY))
    tokens = free.steps[0].tokens.tolist()
    stops = ("=30", "more: 2", "39")
    stopped, beside = answered(engine, request(prompt, sampling=GREEDY, stops=stops), request(prompt, sampling=GREEDY))
    count = earliest(engine.vocabulary, tokens, ["more: 2"])
    assert stopped.steps[0].tokens.tolist() == tokens[:count]
    assert stopped.steps[0].finish is Finish.END
    assert beside.steps[0].tokens.tolist() == tokens


class Scripted:
    """A forward pass that writes a text, whatever was asked: at position i stands script[i]."""

    what = "a script"

    def __init__(self, script: Sequence[int], size: int) -> None:
        self.script, self.size = script, size

    def __call__(self, batch: Batch) -> torch.Tensor:
        logits = torch.zeros(len(batch.wanted), self.size)
        for row, token in enumerate(batch.wanted):
            logits[row, self.script[int(batch.places.positions[token]) + 1]] = 50
        return logits


def scripted(generator: TextModel, *texts: str) -> tuple[Engine, list[int]]:
    """An engine that writes these texts, and their tokens."""
    vocabulary = generator.engine.vocabulary
    script = [token for text in texts for token in generator.tokenizer.encode(text, add_special_tokens=False)]
    return Engine(Scripted(script, vocabulary.size), vocabulary, Pool(20), context=len(script), parameters=1), script


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        (("a", "\n\n", "b"), 2),
        (("a", "\n", "\n", "b"), 3),  # a separator that straddles tokens
        (("\n\n", "a", "\n\n", "b"), 3),  # a step is more than white space
        (("\n", "\n", "\n", "a", "\n", "b", "\n", "\n", "c"), 8),
        ((" ", "\n\n", " ", "\n", "a", "\n\n"), 6),
        (("a", "\n", " ", "\n", "b"), None),
    ],
)
def test_a_step_ends_with_the_token_that_completes_a_separator_after_some_text(
    generator: TextModel, pieces: tuple[str, ...], ends: int | None
) -> None:
    engine, script = scripted(generator, "x", *pieces)
    assert len(script) == len(pieces) + 1
    (reply,) = answered(engine, request((script[0],), sampling=GREEDY, limit=len(pieces), until=Until.STEP))
    step = reply.steps[0]
    assert step.tokens.tolist() == script[1:][: ends or len(pieces)]
    assert step.finish is (Finish.LENGTH if ends is None else Finish.STEP)


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("the café is open", ("é",)),
        ("the café is open", ("fé i",)),
        ("1 € or 2 € or 3 €", ("€ or 3",)),
        ("日本語 and 中文 end", ("中文",)),
        ("日本語 and 中文 end", ("語 a",)),
        ("a\n\nb\n\nc", ("\n\nc",)),
        ("a b  c", ("  c", "b ")),
        ("so so so", ("so so",)),
        ("aaaaab aab", ("aab",)),
        ("an end </s", ("</s",)),
    ],
)
def test_stop_strings_of_any_characters_are_seen_when_their_last_byte_is_written(
    generator: TextModel, text: str, stops: tuple[str, ...]
) -> None:
    engine, script = scripted(generator, "x" + text + " and so on")
    limit = len(script) - 1
    (reply,) = answered(engine, request((script[0],), sampling=GREEDY, limit=limit, stops=stops))
    step = reply.steps[0]
    assert step.finish is Finish.END
    assert step.tokens.tolist() == script[1 : 1 + len(step)]
    assert len(step) == earliest(engine.vocabulary, script[1:], stops)
    (other,) = answered(engine, request((script[0],), sampling=GREEDY, limit=limit))
    assert (len(other.steps[0]), other.steps[0].finish) == (limit, Finish.LENGTH)


# ------------------------------------------------------------------------------------------------------------------ drafts


@pytest.mark.parametrize("most", [1, 4, 16])
def test_guessing_ahead_changes_no_bit_and_saves_passes(generator: TextModel, most: int) -> None:
    engine = made(generator, draft=most)
    stops = ("The ans", "=3")
    asked = [request(generator.encode(q), 6, limit=60) for q in QUESTIONS[:4]]
    asked += [request(generator.encode(QUESTIONS[0]), 6, until=until, stops=stops) for until in Until]
    asked += [request(generator.encode(QUESTIONS[0]), 4, first=2), request(generator.encode(QUESTIONS[1]), 4, allowance=77)]
    asked += [request(generator.encode(QUESTIONS[4]), 3, sampling=sampling, limit=40) for sampling in MIXED]
    expected = answered(generator.engine, *asked)
    for search, one in enumerate(asked):
        engine.submit(search, one)
    replies: dict[int, Extension] = {}
    while engine.busy:
        replies.update(advanced(engine))
        assert_whole(engine)
    for search in replies:
        engine.forget(search)
    assert_empty(engine)
    assert engine.drafter._tables == {}
    assert all_bits([replies[search] for search in range(len(asked))]) == all_bits(expected)
    for reply, other in zip((replies[search] for search in range(len(asked))), expected, strict=True):
        assert other.drafted_tokens == other.accepted_tokens == 0
        assert 0 <= reply.accepted_tokens <= reply.drafted_tokens
        computed = reply.prompt_tokens + sum(map(len, reply.steps)) + reply.drafted_tokens - reply.accepted_tokens
        assert reply.flops == 2.0 * engine.parameters * computed
    assert sum(reply.accepted_tokens for reply in replies.values()) > 100
    assert replies[6].drafted_tokens == replies[7].drafted_tokens == 0 or asked[6].first is None


def test_a_draft_saves_passes(generator: TextModel) -> None:
    asked, passes = request(generator.encode(QUESTIONS[0]), 1, limit=60), []
    for engine in (generator.engine, made(generator, draft=8)):
        engine.submit(0, request(generator.encode(QUESTIONS[0]), 4, seed=1))
        finished(engine)  # siblings, from whom to guess
        engine.submit(0, asked)
        count = 0
        while engine.busy:
            engine.advance()
            count += 1
        engine.forget(0)
        passes.append(count)
    assert passes[1] < passes[0] / 2


# ------------------------------------------------------------------------------------------------------------ memory short


def test_evicted_steps_are_computed_again_charged_and_lead_to_the_same_texts(generator: TextModel, small: Engine) -> None:
    prompt, other = generator.encode(QUESTIONS[0]), generator.encode(QUESTIONS[2])
    results = []
    for engine, crowd in ((generator.engine, 1), (small, 24)):
        engine.submit(4, request(prompt, 4, until=Until.STEP))
        prefix = (*prompt, *first_reply(engine).steps[0].tokens.tolist())
        engine.submit(5, request(other, crowd, sampling=WILD, limit=40))
        finished(engine)
        engine.forget(5)
        engine.submit(4, request(prefix, 4, parent="0", until=Until.STEP))
        results.append(first_reply(engine))
        engine.forget(4)
        assert_empty(engine)
    roomy, tight = results
    assert all_bits([roomy]) == all_bits([tight])
    assert (roomy.prompt_tokens, roomy.recomputed_tokens) == (4, 0)
    assert (tight.prompt_tokens, tight.recomputed_tokens) == (len(prefix) - 1 + 4, len(prefix) - 1)


def test_searches_admitted_together_do_not_change_each_other_where_memory_is_short(generator: TextModel, small: Engine) -> None:
    asked = [request(generator.encode(q), 3, until=Until.STEP) for q in QUESTIONS]
    assert texts(answered(small, *asked)) == texts(answered(generator.engine, *asked))


def preempted(engine: Engine) -> list[tuple[int, int, int]]:
    """Rows that wait with tokens: (search, index, how many)."""
    waiting = [row for unit in engine.queue for row in unit.rows]
    return [(row.ticket.search, row.index, n) for row in waiting if (n := int(engine.rows.counts[row.slot]))]


def squeezed(engine: Engine, *requests: Extend) -> tuple[list[Extension], int]:
    """Runs requests together; those admitted last go first, with their tokens. The replies, and how often a row went."""
    for search, asked in enumerate(requests):
        engine.submit(search, asked)
    replies: dict[int, Extension] = {}
    gone = 0
    while engine.busy:
        units = list(engine.units)
        drawn = {(row.ticket.search, row.index): row.slot for unit in units for row in unit.rows}
        tokens = {key: engine.rows.tokens[slot, : engine.rows.counts[slot]].tolist() for key, slot in drawn.items()}
        waiting = len(engine.queue)
        replies.update(advanced(engine))
        assert_whole(engine)
        out = [unit for unit in units if unit in engine.queue]
        assert out == [unit for unit in units if unit.rows][len([unit for unit in units if unit.rows]) - len(out) :]
        assert out == list(engine.queue)[: len(out)]
        assert waiting >= 0
        for search, index, count in preempted(engine):
            if (search, index) in drawn:
                slot = drawn[search, index]
                assert engine.rows.tokens[slot, :count].tolist() == tokens[search, index][:count]
                gone += count == len(tokens[search, index]) and any(slot == r.slot for u in out for r in u.rows)
    for search in range(len(requests)):
        engine.forget(search)
    assert_empty(engine)
    return [replies[search] for search in range(len(requests))], gone


def test_rows_admitted_last_are_preempted_keep_their_tokens_and_end_with_the_same_texts(
    generator: TextModel, small: Engine
) -> None:
    asked = [request(generator.encode(q), 4, sampling=WILD, limit=90) for q in QUESTIONS[:4]]
    replies, gone = squeezed(small, *asked)
    assert gone > 5
    assert sum(reply.recomputed_tokens for reply in replies) > 50
    assert all_bits(replies) == all_bits(answered(generator.engine, *asked))
    for reply in replies:
        assert reply.prompt_tokens >= reply.recomputed_tokens
        assert reply.seconds > 0


def test_rows_in_step_are_preempted_together_and_end_with_the_same_texts(generator: TextModel, small: Engine) -> None:
    prompts = [generator.encode(q) for q in QUESTIONS]
    asked = [
        request(prompts[0], 3, sampling=WILD, limit=60, first=2),
        request(prompts[1], 3, sampling=WILD, limit=60, allowance=100),
        request(prompts[2], 2, sampling=WILD, limit=90, allowance=150),
        request(prompts[3], 3, sampling=WILD, limit=60, first=1),
        request(prompts[4], 4, sampling=WILD, limit=40),
    ]
    replies, gone = squeezed(small, *asked)
    assert gone > 2
    assert sum(reply.recomputed_tokens for reply in replies[:4]) > 0
    assert all_bits(replies) == all_bits(answered(generator.engine, *asked))


def test_what_a_row_carries_from_token_to_token_outlives_its_preemption(generator: TextModel, small: Engine) -> None:
    """Mirostat's bound, the tokens seen, and whether a step has begun."""
    sampling = Sampling(temperature=2.0, mirostat_tau=4.0, repetition_penalty=1.2)
    asked = [request(generator.encode(q), 4, sampling=sampling, limit=60) for q in QUESTIONS[:3]]
    asked.append(request(generator.encode(QUESTIONS[3]), 6, sampling=WILD, limit=60, until=Until.STEP))
    replies, gone = squeezed(small, *asked)
    assert gone > 2
    assert sum(reply.recomputed_tokens for reply in replies[:3]) > 0
    assert replies[3].recomputed_tokens > 0
    assert all_bits(replies) == all_bits(answered(generator.engine, *asked))


def least(generator: TextModel) -> Engine:
    """An engine with the least memory that is accepted."""
    engine = made(generator, context=328, cache_mb=1)
    assert engine.pool.capacity == pages_of(engine.context) + 1
    return engine


def test_a_row_of_a_whole_context_runs_in_the_least_memory_that_is_accepted(generator: TextModel) -> None:
    for length in (299, 300, 304, 305, 327):
        asked = request((5,) * length, sampling=Sampling(temperature=6), limit=328 - length)
        assert texts(answered(least(generator), asked)) == texts(answered(generator.engine, asked))


def test_a_row_at_the_end_of_many_steps_runs_in_the_least_memory_that_is_accepted(generator: TextModel) -> None:
    """The last page of each step of its lineage is full in part only; together they take more pages than the context has."""
    found = []
    for engine in (generator.engine, least(generator)):
        prefix, path, tokens = (5,) * 200, ROOT, []
        while len(prefix) < 320:
            engine.submit(0, request(prefix, parent=path, until=Until.STEP, limit=9, sampling=Sampling(temperature=6)))
            (step,) = first_reply(engine).steps
            tokens += step.tokens.tolist()
            prefix, path = (*prefix, *step.tokens.tolist()), child_of(path, 0)
        engine.forget(0)
        assert_empty(engine)
        found.append(tokens)
    assert found[0] == found[1]


def test_rows_in_step_that_just_fit_the_memory_run(generator: TextModel, small: Engine) -> None:
    """What submit lets through must not fail later."""
    one = request(generator.encode(QUESTIONS[0])[:20], limit=236, first=1, sampling=Sampling(temperature=6))
    three = request(generator.encode(QUESTIONS[0])[:15], 3, limit=89, first=3, sampling=Sampling(temperature=6))
    assert sum(pages_of(len(row.prefix) + row.limit) + 1 for row in three.rows) == SMALL_PAGES
    for asked in (one, three):
        assert texts(answered(small, asked)) == texts(answered(generator.engine, asked))


def test_rows_in_step_at_the_end_of_many_steps_run_where_submit_lets_them_through(generator: TextModel, small: Engine) -> None:
    found = []
    for engine in (generator.engine, small):
        prefix, path, tokens = generator.encode(QUESTIONS[0]), ROOT, []
        while len(prefix) < 200:
            rule = {"first": 1, "until": Until.STEP, "limit": 9, "sampling": Sampling(temperature=6)}
            engine.submit(0, request(prefix, parent=path, **rule))
            (step,) = first_reply(engine).steps
            tokens += step.tokens.tolist()
            prefix, path = (*prefix, *step.tokens.tolist()), child_of(path, 0)
        engine.forget(0)
        assert_empty(engine)
        found.append(tokens)
    assert found[0] == found[1]


def test_rows_in_step_that_can_never_fit_are_refused_in_one_line(generator: TextModel, small: Engine) -> None:
    prompt = generator.encode(QUESTIONS[0])
    for rule in ({"first": 2}, {"allowance": 500}):
        with pytest.raises(ValueError, match=r"^8 rows in step may take \d+ MiB of memory and cache_mb is \d+; raise it$"):
            small.submit(0, request(prompt, 8, limit=200, **rule))
    assert_empty(small)
    (reply,) = answered(small, request(prompt, 8, limit=200))  # one by one they do
    assert len(reply.steps) == 8


def test_the_refusal_names_the_memory_that_there_is(generator: TextModel, small: Engine) -> None:
    """1 MiB was given; 8 rows of 30 pages of 24 KiB are more than 5 MiB."""
    with pytest.raises(ValueError, match=r"^8 rows in step may take 6 MiB of memory and cache_mb is 1; raise it$"):
        small.submit(0, request(generator.encode(QUESTIONS[0]), 8, limit=200, first=2))


def test_memory_below_the_contexts_need_is_refused_in_one_line(generator: TextModel) -> None:
    line = r"^model 'bundled' cannot run so: cache_mb 2 holds 680 tokens and the context is 1024; use at least 4$"
    with pytest.raises(ModelError, match=line):
        load_generator(params={"cache_mb": 2})
    with pytest.raises(CannotServe, match=r"use at least 13$"):
        made(generator, context=4096, cache_mb=1)
    assert load_generator(params={"cache_mb": 4}).engine.pool.capacity == 170


# -------------------------------------------------------------------------------------------------------- dropped, forgotten


def test_what_a_search_drops_is_free_at_once_and_computed_again_where_it_is_asked_for_after_all(generator: TextModel) -> None:
    engine = generator.engine
    prompt = generator.encode(QUESTIONS[0])
    engine.submit(0, request(prompt, 4, until=Until.STEP))
    steps = first_reply(engine).steps
    prefixes = [(*prompt, *step.tokens.tolist()) for step in steps]
    before = engine.pool.used_pages
    engine.submit(0, request(prefixes[0], 2, parent="0", dropped=("1", "2", "7.7"), limit=30))
    assert engine.pool.used_pages < before
    assert [engine.kept.get(0, path) is not None for path in (ROOT, "0", "1", "2", "3")] == [True, True, False, False, True]
    children = first_reply(engine)
    engine.submit(0, request(prefixes[1], 2, parent="1", dropped=("0",), limit=30))
    again = first_reply(engine)
    assert again.recomputed_tokens == len(steps[1])
    assert again.prompt_tokens == len(steps[1]) + 2
    engine.forget(0)
    assert_empty(engine)
    for reply, path, prefix in ((children, "0", prefixes[0]), (again, "1", prefixes[1])):
        assert all_bits([reply]) == all_bits(answered(engine, request(prefix, 2, parent=path, limit=30)))


def test_what_is_dropped_and_still_needed_by_the_new_rows_is_computed_for_them(generator: TextModel) -> None:
    engine = generator.engine
    prompt = generator.encode(QUESTIONS[0])
    engine.submit(0, request(prompt, 2, until=Until.STEP))
    prefix = (*prompt, *first_reply(engine).steps[1].tokens.tolist())
    asked = request(prefix, 3, parent="1", sampling=WILD, limit=30, dropped=(ROOT, "0", "1"))
    engine.submit(0, asked)
    reply = first_reply(engine)
    assert reply.recomputed_tokens == len(prefix) - 1
    engine.forget(0)
    assert_empty(engine)
    assert all_bits([reply]) == all_bits(answered(engine, asked))


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
    assert_whole(engine)
    assert texts([finished(engine)[1]]) == texts([expected])
    engine.forget(1)
    assert_empty(engine)


@pytest.mark.parametrize("passes", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("rule", [{}, {"first": 2}, {"allowance": 30}], ids=["free", "first", "allowance"])
def test_forgetting_amid_a_prompt_leaks_nothing(generator: TextModel, passes: int, rule: dict[str, int]) -> None:
    """Before, in and after the pieces of a prompt of 700 tokens, for rows on their own and in step."""
    engine = generator.engine
    other = request(generator.encode(QUESTIONS[1]), 3, sampling=WILD, limit=40)
    (expected,) = answered(engine, other)
    engine.submit(1, other)
    engine.submit(0, request(generator.encode(" ".join(QUESTIONS * 4))[:700], 4, limit=20, **rule))
    for _ in range(passes):
        engine.advance()
        assert_whole(engine)
    assert any(fill.key == (0, ROOT) for fill in engine.fills) == (0 < passes < 3)
    engine.forget(0)
    assert_whole(engine)
    assert all(row.ticket.search == 1 for unit in (*engine.units, *engine.queue) for row in unit.rows)
    assert all_bits([finished(engine)[1]]) == all_bits([expected])
    engine.forget(1)
    assert_empty(engine)


def test_forgetting_rows_in_step_that_wait_for_different_parents_leaks_nothing(generator: TextModel) -> None:
    """Some of them are complete, the others' prefix is on its way."""
    engine = generator.engine
    long = generator.encode(" ".join(QUESTIONS * 3))[:600]
    for passes in range(4):
        engine.submit(0, request(long, 2, until=Until.STEP, limit=9))
        prefixes = [(*long, *step.tokens.tolist()) for step in first_reply(engine).steps]
        rows = [request(prefix, 2, parent=str(i), limit=9).rows for i, prefix in enumerate(prefixes)]
        engine.submit(0, Extend((*rows[0], *rows[1]), Until.END, WILD, first=1, dropped=(ROOT, "1")))
        for _ in range(passes):
            engine.advance()
            assert_whole(engine)
        engine.forget(0)
        assert_empty(engine)


def test_forgetting_a_preempted_search_leaks_nothing_and_changes_no_other(generator: TextModel, small: Engine) -> None:
    asked = [request(generator.encode(q), 4, sampling=WILD, limit=90) for q in QUESTIONS[:4]]
    asked += [request(generator.encode(q), 3, sampling=WILD, limit=60, first=2) for q in QUESTIONS[4:6]]
    expected = all_bits(answered(generator.engine, *asked))
    for wanted in range(4):
        for search, one in enumerate(asked):
            small.submit(search, one)
        forgotten: set[int] = set()
        replies: dict[int, Extension] = {}
        while small.busy:
            replies.update(advanced(small))
            waiting = {search for search, _, _ in preempted(small)} - replies.keys()
            if len(forgotten) <= wanted % 2 and waiting:
                forgotten.add(sorted(waiting)[wanted % len(waiting)])
                small.forget(max(forgotten))
                forgotten.add(max(forgotten))
                assert_whole(small)
        assert forgotten
        for search in range(len(asked)):
            small.forget(search)
        assert_empty(small)
        assert {search: all_bits([reply])[0] for search, reply in replies.items()} == {
            search: expected[search] for search in range(len(asked)) if search not in forgotten
        }


# ------------------------------------------------------------------------------------------------------------- all at once


@dataclass
class Search:
    """What a search knows of its tree, and what it has asked for and not got."""

    prompt: tuple[int, ...]
    prefixes: dict[Path, tuple[int, ...]] = field(default_factory=dict)  # of the steps that can be extended
    children: dict[Path, int] = field(default_factory=dict)
    asked: Extend | None = None


class Chaos:
    """Many searches at once on one engine, in a random order of everything that a driver may do; every answer is checked."""

    def __init__(self, engine: Engine, roomy: Engine, oracle: Any, prompts: Sequence[tuple[int, ...]], seed: int) -> None:
        self.engine, self.roomy, self.prompts = engine, roomy, prompts
        # of many thousand tokens some are so unlikely that two ways of rounding differ by more than either does from the truth
        self.oracle = copy.deepcopy(oracle).double()
        self.random = np.random.default_rng(seed)
        self.searches: dict[int, Search] = {}
        self.begun = self.answered = self.cut = self.recomputed = self.deepest = 0

    def chosen(self, some: Sequence[Any]) -> Any:
        return some[int(self.random.integers(len(some)))]

    def begin(self) -> None:
        self.searches[self.begun] = Search(self.chosen(self.prompts))
        self.begun += 1

    def extend(self) -> None:
        idle = [number for number, search in self.searches.items() if search.asked is None]
        if not idle:
            return
        number = self.chosen(idle)
        search, rows = self.searches[number], []
        deepest = sorted(search.prefixes, key=depth_of)[-6:]
        parents = {self.chosen(deepest) for _ in range(self.random.integers(1, 4))} if deepest else {ROOT}
        limit = int(self.chosen([1, 3, 8, 20, 40]))
        for parent in sorted(parents):
            prefix = search.prefixes.get(parent, search.prompt)
            if len(prefix) < 170:
                for _ in range(self.random.integers(1, 5)):
                    path = child_of(parent, search.children.setdefault(parent, 0))
                    search.children[parent] += 1
                    rows.append(Row(path, seed_of(number, "chaos", path), prefix, limit))
        if not rows:
            self.forget(number)
            return
        kind = self.random.random()
        rule: dict[str, Any] = {}
        if kind < 0.2:
            rule["first"] = int(self.random.integers(1, len(rows) + 1))
        elif kind < 0.4:
            rule["allowance"] = int(self.random.integers(1, 1 + 2 * limit))
        if sum(pages_of(len(row.prefix) + limit) + 1 for row in rows) > self.engine.pool.capacity:
            rule = {}
        if self.random.random() < 0.2:
            rule["flops"] = priced(self.engine, int(self.random.integers(0, 400)))
        dropped = tuple(path for path in search.prefixes if path not in parents and self.random.random() < 0.3)
        for path in dropped:
            del search.prefixes[path]
        until = Until.END if self.random.random() < 0.1 else Until.STEP
        search.asked = Extend(tuple(rows), until, self.chosen(MIXED), dropped=dropped, **rule)
        self.engine.submit(number, search.asked)

    def forget(self, number: int) -> None:
        self.engine.forget(number)
        self.cut += self.searches.pop(number).asked is not None

    def advance(self) -> None:
        for number, reply in advanced(self.engine):
            search = self.searches[number]
            assert search.asked is not None
            rows = search.asked.rows
            assert len(reply.steps) == len(rows)
            for row, step in zip(rows, reply.steps, strict=True):
                assert farthest(self.oracle, row.prefix, step) < 1e-4
                if search.asked.until is Until.STEP and step.finish in (Finish.STEP, Finish.LENGTH):
                    search.prefixes[row.path] = (*row.prefix, *step.tokens.tolist())
                    self.deepest = max(self.deepest, depth_of(row.path))
            rules = {"first": search.asked.first, "allowance": search.asked.allowance}
            alone = answered(self.roomy, Extend(rows, search.asked.until, search.asked.sampling, **rules))
            if search.asked.flops is None:
                assert all_bits([reply]) == all_bits(alone)
            elif search.asked.first is None and search.asked.allowance is None:
                assert_bounded(reply, alone[0], search.asked.flops)
            assert search.asked.flops is None or reply.flops <= search.asked.flops
            computed = reply.prompt_tokens + sum(map(len, reply.steps)) + reply.drafted_tokens - reply.accepted_tokens
            assert reply.flops == 2.0 * self.engine.parameters * computed
            self.recomputed += reply.recomputed_tokens
            self.answered += 1
            search.asked = None
        assert_whole(self.engine)

    def run(self, operations: int) -> None:
        for _ in range(operations):
            kind = self.random.random()
            if kind < 0.06 or not self.searches:
                self.begin()
            elif kind < 0.35:
                self.extend()
            elif kind < 0.38:
                self.forget(self.chosen(sorted(self.searches)))
            else:
                for _ in range(self.random.integers(1, 8)):
                    self.advance()
        while self.engine.busy:
            self.advance()
        for number in list(self.searches):
            self.engine.forget(number)
        assert_empty(self.engine)


def chaotic_prompts(generator: TextModel) -> list[tuple[int, ...]]:
    """Some short, some that begin with the same 70 tokens."""
    common = generator.encode(" ".join(QUESTIONS[:5]))[:70]
    return [generator.encode(q) for q in QUESTIONS[:4]] + [(*common, *generator.encode(q)) for q in QUESTIONS[5:7]]


@pytest.mark.parametrize("seed", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_searches_that_extend_drop_and_go_in_any_order_get_the_modules_numbers(
    generator: TextModel, small: Engine, oracle: Any, seed: int
) -> None:
    chaos = Chaos(small, generator.engine, oracle, chaotic_prompts(generator), seed)
    chaos.run(200)
    assert chaos.answered > 30
    assert chaos.cut > 0  # forgotten with rows on their way
    assert chaos.deepest >= 4
    assert chaos.recomputed > 100  # memory was short


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
@pytest.mark.parametrize("options", [{"rows": 3}, {}, {"draft": 5}, {"threads": 2}, {"cache_mb": 8}], ids=str)
def test_more_such_searches(generator: TextModel, oracle: Any, seed: int, options: dict[str, Any]) -> None:
    engine = made(generator, **{**SMALL, **options})
    Chaos(engine, generator.engine, oracle, chaotic_prompts(generator), seed).run(600)
