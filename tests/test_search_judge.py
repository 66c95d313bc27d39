"""The judge alone: first come first served, in slices, when they are due, each to whom it belongs, and within its bounds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from fakes import FakeVerifier, WrongLength, by_text, failing, noise, question, step_of

from search.judge import CAREFUL, Judge, Verdict
from search.types import Embed, Embedding, Embeddings, Reading, Readings, Trace, Verify


def request(name: str, n: int) -> Verify:
    """n traces of one question, of one step each."""
    traces = tuple(Trace(question(name), (step_of([100 + i]),)) for i in range(n))
    return Verify(tuple(map(str, range(n))), traces)


def seen(verifier: FakeVerifier) -> str:
    """Whose traces were scored, in order."""
    return "".join(trace.question.id for trace in verifier.seen)


def ended(verdicts: Sequence[Verdict]) -> dict[int, int | str]:
    """By search: how many readings it got, or its error."""
    counts: dict[int, int | str] = {}
    for search, _, came in verdicts:
        if isinstance(came, Readings):
            counts[search] = len(came.readings)
        elif isinstance(came, Embeddings):
            counts[search] = len(came.embeddings)
        else:
            counts[search] = str(came)
    return counts


def test_requests_are_served_as_they_came_and_cut_where_a_slice_is_full() -> None:
    verifier = FakeVerifier(by_text)
    judge = Judge(verifier, slice=3)
    asked = {key: request(name, n) for key, (name, n) in enumerate([("a", 2), ("b", 5), ("c", 1)])}
    for key in (0, 1, 2):
        judge.submit(key, asked[key])
    answers = [judge.advance(idle=True) for _ in range(4)]
    assert [ended(verdicts) for verdicts in answers] == [{0: 2}, {}, {1: 5, 2: 1}, {}]
    assert (verifier.batches, seen(verifier)) == ([3, 3, 2], "aabbbbbc")
    for key, of, came in (verdict for verdicts in answers for verdict in verdicts):
        assert of is asked[key]
        assert isinstance(came, Readings)
        assert isinstance(of, Verify)
        assert [reading.parts for reading in came.readings] == [by_text(trace) for trace in of.traces]


@pytest.mark.parametrize("patience", [1, 3])
def test_a_request_waits_for_company_and_no_longer_than_patience(patience: int) -> None:
    judge = Judge(FakeVerifier(by_text), slice=10, patience=patience)
    judge.submit(0, request("a", 1))
    for turn in range(1, patience):
        assert judge.advance(idle=False) == []
        judge.submit(turn, request("b", 1))
    assert ended(judge.advance(idle=False)) == dict.fromkeys(range(patience), 1)
    judge.submit(7, request("c", 1))
    if patience > 1:
        assert judge.advance(idle=False) == [], "the patience of another request was over, not its own"


def test_a_full_slice_has_company_enough_and_waits_for_nothing() -> None:
    verifier = FakeVerifier(by_text)
    judge = Judge(verifier, slice=4, patience=1000)
    judge.submit(0, request("a", 3))
    assert judge.advance(idle=False) == []
    judge.submit(1, request("b", 3))
    assert ended(judge.advance(idle=False)) == {0: 3}
    assert judge.advance(idle=False) == [], "two of b are left, and may wait"
    assert ended(judge.advance(idle=True)) == {1: 3}
    assert verifier.batches == [4, 2]


def test_a_fault_is_of_the_search_it_befell_and_of_no_other_in_the_slice() -> None:
    judge = Judge(FakeVerifier(failing(["b"])), slice=4)
    for key, name in enumerate("abc"):
        judge.submit(key, request(name, 2))
    assert ended(judge.advance(idle=True)) == {0: 2, 1: "cannot judge b"}
    assert ended(judge.advance(idle=True)) == {2: 2}


def test_a_request_that_fails_at_a_later_trace_is_over_and_its_rest_is_not_scored() -> None:
    def judged(trace: Trace) -> tuple[float, ...]:
        return (1 / (102 - int(trace.steps[0].tokens[0])),)  # fails at the third

    verifier = FakeVerifier(judged)
    judge = Judge(verifier, slice=2)
    judge.submit(0, request("a", 9))
    assert ended(judge.advance(idle=True)) == {}
    assert ended(judge.advance(idle=True)) == {0: "division by zero"}
    assert judge.advance(idle=True) == []
    assert verifier.batches == [2, 2]


def test_a_wrong_number_of_readings_is_a_fault() -> None:
    judge = Judge(WrongLength(by_text, names="b"), slice=3)
    for key, name in enumerate("ab"):
        judge.submit(key, request(name, 2))
    assert ended(judge.advance(idle=True)) == {0: 2, 1: "the verifier gave 0 readings for 1 traces"}
    assert judge.advance(idle=True) == []


def test_what_is_forgotten_is_neither_scored_nor_answered() -> None:
    verifier = FakeVerifier(by_text)
    judge = Judge(verifier, slice=3)
    for key, name in enumerate("abc"):
        judge.submit(key, request(name, 4))
    judge.advance(idle=True)
    judge.forget(0)  # cut
    judge.forget(1)  # not begun
    judge.forget(5)  # never there
    answers = [ended(judge.advance(idle=True)) for _ in range(3)]
    assert (answers, seen(verifier)) == ([{}, {2: 4}, {}], "aaacccc")


def test_a_request_of_nothing_is_answered() -> None:
    judge = Judge(FakeVerifier(by_text))
    judge.submit(0, Verify((), ()))
    assert ended(judge.advance(idle=True)) == {0: 0}


def test_seconds_are_shares_of_the_slices_and_the_queue_ends_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    @dataclass
    class Slow(FakeVerifier):
        """A second a trace."""

        def score(self, traces: Sequence[Trace]) -> list[Reading]:
            now[0] += len(traces)
            return super().score(traces)

    judge = Judge(Slow(by_text), slice=2)
    judge.submit(0, request("a", 3))
    now[0] = 10.0
    judge.submit(1, request("b", 3))
    times = {
        key: (came.queue_seconds, came.seconds)
        for _ in range(3)
        for key, _, came in judge.advance(idle=True)
        if isinstance(came, Readings)
    }
    assert times == {0: (10.0, 3.0), 1: (2.0, 3.0)}


def test_without_a_verifier_every_request_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a verifier, and the run has none"):
        Judge(None).submit(0, request("a", 1))


# ---------------------------------------------------------------------------------------------------------------- bounds


@dataclass
class Priced(FakeVerifier):
    """A verifier whose price of a trace is a function of it: 10 FLOPs a token, the question's too, and a share more."""

    spread: float = 0.0

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [replace(r, flops=self.price(t)) for r, t in zip(super().score(traces), traces, strict=True)]

    def price(self, trace: Trace) -> float:
        tokens = len(trace.question.tokens) + sum(map(len, trace.steps))
        return 10.0 * tokens * (1 + self.spread * noise(trace.steps[0].text, "price"))


def long_request(name: str, n: int, **bounds: float) -> Verify:
    """n traces of other lengths."""
    traces = tuple(Trace(question(name), tuple(step_of([100 + j] * (1 + i % 4)) for j in range(1 + i % 3))) for i in range(n))
    return Verify(tuple(map(str, range(n))), traces, **bounds)


def answers(judge: Judge, *asked: Verify) -> list[tuple[Reading, ...]]:
    """The readings of requests that are submitted together."""
    for key, one in enumerate(asked):
        judge.submit(key, one)
    found: dict[int, tuple[Reading, ...]] = {}
    for _ in range(1000):
        for key, _, came in judge.advance(idle=True):
            assert isinstance(came, Readings)
            found[key] = came.readings
        if len(found) == len(asked):
            break
    return [found[key] for key in range(len(asked))]


@pytest.mark.parametrize("flops", [0.0, 1.0, 59.0, 60.0, 61.0, 300.0, 1111.0, 4000.0])
@pytest.mark.parametrize("spread", [0.0, 0.9])
def test_flops_are_spent_up_to_the_bound_and_at_most_one_trace_beyond(flops: float, spread: float) -> None:
    verifier = Priced(by_text, spread=spread)
    asked = long_request("a", 40, flops=flops)
    (readings,) = answers(Judge(verifier, slice=8), asked)
    prices = [verifier.price(trace) for trace in asked.traces]
    scored = [bool(reading.parts) for reading in readings]
    count = sum(scored)
    assert scored == [True] * count + [False] * (40 - count), "the first ones are scored"
    assert len(verifier.seen) == count
    spent = sum(reading.flops for reading in readings)
    assert spent <= flops + max(prices)
    if count < 40:
        assert {reading.reason for reading in readings[count:]} == {"the budget of FLOPs is spent"}
        assert spent > flops - 2 * max(prices), "and what is left does not pay for another"
    if spread == 0.0 and count > 1:
        assert spent <= flops, "a price that is known is not paid where it does not fit"


def test_a_bound_in_flops_gives_the_same_readings_whatever_else_is_queued() -> None:
    alone = answers(Judge(Priced(by_text, spread=0.9), slice=8), long_request("a", 40, flops=1500.0))[0]
    assert 3 < sum(bool(reading.parts) for reading in alone) < 40
    for before in (1, 3, 7, 20):
        crowd = [long_request("b", before), long_request("c", 5, flops=200.0), long_request("a", 40, flops=1500.0)]
        readings = answers(Judge(Priced(by_text, spread=0.9), slice=8), *crowd, long_request("d", 9))
        assert readings[2] == alone
        assert [len(some) for some in readings] == [before, 5, 40, 9]


def test_a_bound_that_does_not_bind_changes_no_reading_and_hardly_the_slices() -> None:
    free, bound = Priced(by_text), Priced(by_text)
    expected = answers(Judge(free, slice=8), long_request("a", 41))
    assert answers(Judge(bound, slice=8), long_request("a", 41, flops=1e9, seconds=1e9)) == expected
    assert (free.batches, bound.batches) == ([8] * 5 + [1], [1] + [8] * 5)


def test_a_verifier_that_costs_nothing_is_not_stopped() -> None:
    (readings,) = answers(Judge(FakeVerifier(by_text), slice=8), long_request("a", 20, flops=1.0))
    assert all(reading.parts for reading in readings)


def test_seconds_stop_at_the_first_slice_after_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    @dataclass
    class Slow(FakeVerifier):
        """A second a trace."""

        def score(self, traces: Sequence[Trace]) -> list[Reading]:
            now[0] += len(traces)
            return super().score(traces)

    for seconds, scored in ((0.0, 0), (0.5, CAREFUL), (CAREFUL, CAREFUL), (CAREFUL + 1, 2 * CAREFUL), (1000, 40)):
        judge = Judge(Slow(by_text))
        judge.submit(0, long_request("a", 40, seconds=seconds))
        judge.submit(1, long_request("b", 3))
        came = dict[int, Readings]()
        while len(came) < 2:
            came |= {key: reply for key, _, reply in judge.advance(idle=True) if isinstance(reply, Readings)}
        assert [bool(reading.parts) for reading in came[0].readings] == [True] * scored + [False] * (40 - scored)
        assert all(r.reason == "the budget of seconds is spent" for r in came[0].readings[scored:])
        assert came[0].seconds == scored
        assert all(reading.parts for reading in came[1].readings)


def test_a_trace_that_got_no_value_tells_nothing_of_the_price() -> None:
    """The first ones are too long for the verifier, and cost nothing."""

    @dataclass
    class Short(Priced):
        def score(self, traces: Sequence[Trace]) -> list[Reading]:
            readings = super().score(traces)
            return [Reading((), "too long") if "101" in t.question.id else r for t, r in zip(traces, readings, strict=True)]

    traces = (*request("101", 5).traces, *request("a", 30).traces)
    verifier = Short(by_text)
    (readings,) = answers(Judge(verifier, slice=8), Verify(tuple(map(str, range(35))), traces, flops=100.0))
    assert [reading.reason for reading in readings[:5]] == ["too long"] * 5
    assert sum(reading.flops for reading in readings) == 90.0


# -------------------------------------------------------------------------------------------------------------- embedding


@dataclass
class FakeEncoder:
    """Two numbers of each trace."""

    name: str = "fake"
    batches: list[int] = field(default_factory=list)

    def embed(self, traces: Sequence[Trace]) -> list[Embedding]:
        self.batches.append(len(traces))
        if any(trace.question.id == "bad" for trace in traces):
            raise RuntimeError("cannot embed")
        return [Embedding(self.vector(trace), tokens=len(trace.steps[0]), flops=1.0) for trace in traces]

    def vector(self, trace: Trace) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.array([noise(trace.question.id), noise(trace.steps[0].text)], dtype=np.float32)


def embed(name: str, n: int) -> Embed:
    of = request(name, n)
    return Embed(of.paths, of.traces)


def test_embeddings_come_in_slices_of_their_own_beside_readings() -> None:
    verifier, encoder = FakeVerifier(by_text), FakeEncoder()
    judge = Judge(verifier, encoder, slice=3)
    asked = embed("b", 5)
    judge.submit(0, request("a", 4))
    judge.submit(1, asked)
    assert ended(judge.advance(idle=False)) == {}
    (first, second) = judge.advance(idle=True)
    assert ended([first, second]) == {0: 4, 1: 5}
    assert (verifier.batches, encoder.batches) == ([3, 1], [3, 2])
    assert second[1] is asked
    assert isinstance(second[2], Embeddings)
    for trace, embedding in zip(asked.traces, second[2].embeddings, strict=True):
        assert np.array_equal(embedding.vector, encoder.vector(trace))
    assert judge.advance(idle=True) == []


def test_an_encoders_fault_is_of_the_search_it_befell() -> None:
    judge = Judge(None, FakeEncoder(), slice=8)
    for key, name in enumerate(("a", "bad", "c")):
        judge.submit(key, embed(name, 2))
    judge.forget(2)
    assert ended(judge.advance(idle=True)) == {0: 2, 1: "cannot embed"}


def test_without_an_encoder_every_embedding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^this strategy needs an encoder, and the run has none$"):
        Judge(FakeVerifier(by_text)).submit(0, embed("a", 1))
