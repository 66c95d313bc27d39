"""Passes that run out of memory: nothing is lost, nobody's text changes, and one request alone that is too large ends alone."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from test_pipelines_engine import (
    MIXED,
    QUESTIONS,
    SMALL,
    WILD,
    all_bits,
    answered,
    assert_empty,
    assert_whole,
    made,
    priced,
    request,
)

from pipelines.engine.batch import Batch
from pipelines.engine.engine import CALM, Engine
from pipelines.engine.scarce import OutOfMemory, halved, out_of_memory
from pipelines.models import TextModel, load_generator
from search.types import Extend, Extension, Until

Fault = Callable[[int, int], bool]  # of the number of the call and the tokens of its batch
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ...")


@pytest.fixture(scope="module")
def generator() -> TextModel:
    return load_generator()


class Faulty:
    """A forward pass that raises when `fault` says so: before the first layer, or when all keys and values are written."""

    def __init__(self, inner: Any, fault: Fault, late: bool, error: BaseException = CUDA) -> None:
        self.inner, self.fault, self.late, self.error = inner, fault, late, error
        self.what, self.calls, self.faults = inner.what, 0, 0
        self.memory = getattr(inner, "memory", None)

    def __call__(self, batch: Batch) -> torch.Tensor:
        self.calls += 1
        if not self.fault(self.calls, len(batch.ids)):
            logits: torch.Tensor = self.inner(batch)
            return logits
        self.faults += 1
        if self.late:
            self.inner(batch)
        raise self.error


def faulty(generator: TextModel, fault: Fault, late: bool = True, error: BaseException = CUDA, **options: Any) -> Engine:
    engine = made(generator, **{**SMALL, **options})
    engine.forward = Faulty(engine.forward, fault, late, error)
    return engine


def asked(generator: TextModel) -> list[Extend]:
    """Rows on their own, in step, of other settings, to the end of a step, and a prompt of several pieces."""
    prompts = [generator.encode(q) for q in QUESTIONS]
    long = generator.encode(" ".join(QUESTIONS * 2))[:190]
    found = [
        request(prompts[0], 4, sampling=WILD, limit=20),
        request(prompts[1], 3, sampling=WILD, limit=20, first=2),
        request(long, 2, sampling=WILD, limit=12),
        request(prompts[2], 3, sampling=WILD, limit=20, allowance=30),
        request(prompts[3], 3, until=Until.STEP),
    ]
    return [*found, *(request(prompts[4], 1, sampling=some, limit=15) for some in MIXED[5:8])]


def run(engine: Engine, requests: Sequence[Extend]) -> dict[int, Extension | Exception]:
    """The replies to requests of as many searches; memory is looked at after each pass, and nothing is left at the end."""
    for search, one in enumerate(requests):
        engine.submit(search, one)
    replies: dict[int, Extension | Exception] = {}
    while engine.busy:
        replies.update(engine.advance())
        assert_whole(engine)
    for search in range(len(requests)):
        engine.forget(search)
    assert_empty(engine)
    return replies


def extensions(replies: dict[int, Extension | Exception]) -> list[Extension]:
    found = [replies[search] for search in range(len(replies))]
    assert all(isinstance(reply, Extension) for reply in found), found
    return [reply for reply in found if isinstance(reply, Extension)]


@pytest.fixture(scope="module")
def expected(generator: TextModel) -> list[Any]:
    return all_bits(answered(generator.engine, *asked(generator)))


@pytest.mark.parametrize("late", [pytest.param(False, marks=pytest.mark.slow), True], ids=["early", "late"])
def test_a_fault_at_any_pass_changes_no_text(generator: TextModel, expected: list[Any], late: bool) -> None:
    requests = asked(generator)
    engine = made(generator, **{**SMALL, "cache_mb": 8})
    counted = Faulty(engine.forward, lambda call, tokens: False, late)
    engine.forward = counted
    run(engine, requests)
    assert counted.calls > 20
    inner, recomputed = counted.inner, 0
    for k in range(1, counted.calls + 1):
        engine.forward = Faulty(inner, lambda call, tokens, k=k: call == k, late)  # type: ignore[misc]
        engine.splits, engine.abreast, engine.piece = 0, None, engine.chunk
        replies = extensions(run(engine, requests))
        assert all_bits(replies) == expected
        assert engine.splits == engine.forward.faults == 1
        for reply in replies:
            assert reply.prompt_tokens >= reply.recomputed_tokens
            assert reply.flops == priced(engine, reply.prompt_tokens + sum(map(len, reply.steps)))
            recomputed += reply.recomputed_tokens
    assert recomputed > 1000


HALVED = [{}, {"cache_mb": 8}, {"draft": 4}, {"threads": 2}, {"path": "module"}]
# one size of each way, and for the plainest all: together they take a minute
QUICK = [(HALVED[0], 2), (HALVED[0], 5), (HALVED[0], 9), (HALVED[0], 20), *zip(HALVED[1:], (5, 9, 20, 9), strict=True)]


@pytest.mark.parametrize(
    ("options", "most"),
    [
        pytest.param(options, most, marks=() if (options, most) in QUICK else pytest.mark.slow)
        for options in HALVED
        for most in (2, 5, 9, 20)
    ],
)
def test_a_pass_with_too_many_tokens_is_halved_until_it_fits(
    generator: TextModel, expected: list[Any], most: int, options: dict[str, Any]
) -> None:
    """Rows in step cannot be parted, so those requests fail where they are more than that; nobody else does."""
    engine = faulty(generator, lambda call, tokens: tokens > most, error=CPU, **options)
    replies = run(engine, asked(generator))
    failed = {search for search, reply in replies.items() if isinstance(reply, Exception)}
    assert failed == ({1, 3} if most < 3 else set())
    if "path" not in options:
        for search, reply in replies.items():
            if isinstance(reply, Extension):
                assert all_bits([reply]) == [expected[search]]
    assert engine.splits > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fault_between_two_layers_changes_no_text(
    generator: TextModel, expected: list[Any], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """With two threads the other one goes on writing: its pages may be nobody else's before it has ended."""
    engine = made(generator, **SMALL, path="fused", threads=threads)
    read, calls = engine.forward.memory.read, [0]

    def short(layer: int, *rest: Any) -> None:
        calls[0] += 1
        if calls[0] % 41 == 0:
            raise MemoryError
        read(layer, *rest)

    monkeypatch.setattr(engine.forward.memory, "read", short)
    assert all_bits(extensions(run(engine, asked(generator)))) == expected
    assert engine.splits > 5


def test_a_request_that_fails_alone_gets_the_error_and_the_others_all_they_asked_for(
    generator: TextModel, expected: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The prompt of 190 tokens can never be computed, not one token of it."""
    engine = made(generator, **{**SMALL, "cache_mb": 8})
    inner, long = engine.forward, 2

    class Picky(Faulty):
        def __call__(self, batch: Batch) -> torch.Tensor:
            slots = {fill.slot for fill in engine.fills if fill.ticket.search == long}
            slots |= {row.slot for row in engine.live if row.ticket.search == long}
            self.fault = lambda call, tokens: bool(slots & set(batch.places.rows.tolist()))
            return super().__call__(batch)

    engine.forward = Picky(inner, lambda call, tokens: False, late=True)
    with caplog.at_level(logging.WARNING, logger="pipelines.engine.engine"):
        replies = run(engine, asked(generator))
    error = replies.pop(long)
    assert isinstance(error, OutOfMemory)
    assert str(error) == "out of memory for this request alone: CUDA out of memory. Tried to allocate 2.00 GiB."
    for search, reply in replies.items():
        assert isinstance(reply, Extension)
        assert all_bits([reply]) == [expected[search]]
    assert engine.splits <= 2 * (math.log2(256) + 1)
    assert len(caplog.records) == engine.splits, "one line for each"
    assert "ran out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.): from now on" in caplog.messages[0]


def test_where_nothing_fits_every_request_fails_after_few_tries(generator: TextModel) -> None:
    engine = faulty(generator, lambda call, tokens: True)
    requests = [request(generator.encode(q), 8, sampling=WILD) for q in QUESTIONS[:3]]
    replies = run(engine, requests)
    assert len(replies) == 3
    assert all(isinstance(reply, OutOfMemory) for reply in replies.values())
    assert engine.forward.calls <= 3 * (math.log2(256) + 2)


def test_another_error_is_no_fault_of_memory(generator: TextModel) -> None:
    engine = faulty(generator, lambda call, tokens: call == 3, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    engine.submit(0, request(generator.encode(QUESTIONS[0]), 3))
    engine.advance()
    engine.advance()
    with pytest.raises(RuntimeError, match="mat1"):
        engine.advance()
    assert engine.splits == 0


def test_a_draw_that_runs_out_of_memory_has_changed_nothing(
    generator: TextModel, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mirostat's bound and the tokens seen are carried on by the draw that counts, and by no other."""
    requests = asked(generator)
    for draft in (0, 4):
        engine = made(generator, **{**SMALL, "cache_mb": 8, "draft": draft})
        draw, calls = engine.rows.draw, [0]

        def short(slots: Any, logits: Any, draw: Any = draw, calls: list[int] = calls) -> Any:
            calls[0] += 1
            drawn = draw(slots, logits)
            if calls[0] % 3 == 0:
                raise MemoryError
            return drawn

        monkeypatch.setattr(engine.rows, "draw", short)
        assert all_bits(extensions(run(engine, requests))) == expected
        assert engine.splits > 5


def test_after_a_while_without_a_fault_as_many_rows_run_again_as_before(generator: TextModel) -> None:
    engine = faulty(generator, lambda call, tokens: call == 3, rows=16, cache_mb=8)
    for search in range(40):
        engine.submit(search, request(generator.encode(QUESTIONS[search % 4]), 4, sampling=WILD, limit=30))
    seen: list[tuple[int | None, int]] = []
    while engine.busy:
        engine.advance()
        seen.append((engine.abreast, len(engine.live)))
    halved_at = [i for i, (abreast, _) in enumerate(seen) if abreast == 8]
    assert len(halved_at) == CALM - 1 or len(halved_at) == CALM
    assert max(live for _, live in seen[halved_at[0] : halved_at[-1]]) == 8
    assert max(live for _, live in seen[halved_at[-1] + 3 :]) == 16
    for search in range(40):
        engine.forget(search)
    assert_empty(engine)


def test_rows_in_step_wait_until_they_are_alone_and_do_not_fail_again_and_again(generator: TextModel) -> None:
    engine = faulty(generator, lambda call, tokens: tokens > 6, rows=4, cache_mb=8)
    requests = [
        request(generator.encode(QUESTIONS[0]), 3, sampling=WILD, limit=30),
        request(generator.encode(QUESTIONS[1]), 6, sampling=WILD, limit=30, first=6),
    ]
    for reply, free in zip(extensions(run(engine, requests)), answered(generator.engine, *requests), strict=True):
        assert all_bits([reply]) == all_bits([free])
    assert engine.splits < 10


def test_rows_in_step_for_the_sake_of_flops_alone_are_parted(generator: TextModel) -> None:
    one = request(generator.encode(QUESTIONS[0]), 8, sampling=WILD, limit=60)
    flops = priced(generator.engine, 250)
    bound = Extend(one.rows, one.until, one.sampling, flops=flops, allowance=8 * 60)  # which does not bind
    (reply,) = extensions(run(faulty(generator, lambda call, tokens: tokens > 3, cache_mb=8), [bound]))
    assert reply.flops <= flops
    assert sum(map(len, reply.steps)) > 100
    (free,) = answered(generator.engine, one)
    for step, full in zip(reply.steps, free.steps, strict=True):
        assert step.tokens.tolist() == full.tokens.tolist()[: len(step)]


def test_the_plain_path_is_halved_too_and_charges_no_pass_that_failed(generator: TextModel) -> None:
    engine = made(generator, path="plain")
    inner, requests = engine.forward.whole, [request(generator.encode(q), 3, limit=6) for q in QUESTIONS[:3]]
    expected = answered(engine, *requests)

    def whole(sequences: Sequence[Any]) -> torch.Tensor:
        if len(sequences) > 2:
            raise CUDA
        return inner(sequences)

    engine.forward.whole = whole
    replies = extensions(run(engine, requests))
    assert [[s.tokens.tolist() for s in r.steps] for r in replies] == [[s.tokens.tolist() for s in r.steps] for r in expected]
    assert [reply.flops for reply in replies] == [reply.flops for reply in expected]
    assert engine.splits > 0


# ------------------------------------------------------------------------------------------------------------ telling, halving


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (CUDA, True),
        (CPU, True),
        (MemoryError(), True),
        (RuntimeError("not enough memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("expected scalar type Float"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error: Exception, is_one: bool) -> None:
    assert out_of_memory(error) is is_one


@pytest.mark.parametrize("most", [0, 1, 3, 100])
def test_halving_gives_each_its_result_in_order(most: int) -> None:
    def compute(batch: Sequence[int]) -> list[int]:
        if len(batch) > most or 13 in batch:
            raise MemoryError
        return [2 * each for each in batch]

    found = list(halved(range(20), compute))
    assert [isinstance(each, OutOfMemory) for each in found] == [i == 13 or most == 0 for i in range(20)]
    assert all(isinstance(each, OutOfMemory) or each == 2 * i for i, each in enumerate(found))


SCRIPT = """
import resource
from pipelines.models import load_generator
from search.types import Extend, Extension, Row, Sampling, Until

loaded = load_generator(params={"path": "plain", "rows": 4096})
engine, prompt = loaded.engine, loaded.encode("Find x from 1 to 6 with 4*x+14=22.")
rows = tuple(Row(str(i), i, prompt, 3) for i in range(800))
asked = Extend(rows, Until.END, Sampling())

def run():
    engine.submit(0, asked)
    replies = []
    while engine.busy:
        replies += engine.advance()
    engine.forget(0)
    assert engine.pool.used_pages == 0
    ((_, reply),) = replies
    assert isinstance(reply, Extension), reply
    return [step.tokens.tolist() for step in reply.steps]

engine.submit(0, Extend(rows[:2], Until.END, Sampling()))
while engine.busy:  # what is loaded at first use is there
    engine.advance()
engine.forget(0)
with open("/proc/self/statm") as file:
    room = int(file.read().split()[0]) * resource.getpagesize() + (ROOM << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
short = run()
splits = engine.splits
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("splits", splits, "same", short == run())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="bounds the address space as Linux counts it")
def test_a_process_whose_memory_is_bounded_gives_the_texts_of_one_whose_is_not() -> None:
    """The real thing: torch's own allocator fails, on the path whose activations grow with the rows."""
    script = SCRIPT.replace("ROOM", "40")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    splits, same = done.stdout.split()[1::2]
    assert int(splits) > 0
    assert same == "True"
    assert done.stderr.count("ran out of memory") == int(splits)
