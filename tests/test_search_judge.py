"""The judge alone: first come first served, in slices, when they are due, each to whom it belongs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from fakes import FakeVerifier, WrongLength, by_text, failing, question, step_of

from search.judge import Judge, Verdict
from search.types import Reading, Readings, Trace, Verify


def request(name: str, n: int) -> Verify:
    """n traces of one question, of one step each."""
    traces = tuple(Trace(question(name), (step_of([100 + i]),)) for i in range(n))
    return Verify(tuple(map(str, range(n))), traces)


def seen(verifier: FakeVerifier) -> str:
    """Whose traces were scored, in order."""
    return "".join(trace.question.id for trace in verifier.seen)


def ended(verdicts: Sequence[Verdict]) -> dict[int, int | str]:
    """By search: how many readings it got, or its error."""
    return {s: len(came.readings) if isinstance(came, Readings) else str(came) for s, _, came in verdicts}


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
