"""The driver: it ends in every case, contains what fails, journals before it delivers, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from fakes import FakeGenerator, FakeVerifier, WrongLength, by_text, failing, never_ending, noise
from laws import Memory, World, recorded

from search.drive import Diverged, Driver, Outcome, Search
from search.select import Selector, entries
from search.strategies import Strategy
from search.strategies.astar import AStar
from search.strategies.beam import Beam
from search.strategies.best_of_n import BestOfN
from search.tree import Tree
from search.types import (
    GREEDY,
    ROOT,
    Ask,
    Budget,
    Choice,
    Embedding,
    Extend,
    Extension,
    Reading,
    Readings,
    Reply,
    Request,
    Trace,
    Until,
    Verify,
)

JUDGED = BestOfN(n=3, select=Selector("best"))
WORLD = World()


@dataclass(frozen=True)
class Does:
    """A strategy from a function of its tree."""

    body: Callable[[Tree], Any]

    def search(self, tree: Tree) -> Ask[Choice]:
        return self.body(tree)  # type: ignore[no-any-return]


def searches(*strategies: Strategy) -> list[Search]:
    return [Search(key, WORLD.tree(WORLD.names[key % 4]), strategy) for key, strategy in enumerate(strategies)]


def drive(driver: Driver, *strategies: Strategy) -> dict[int, Outcome]:
    outcomes = {outcome.search.key: outcome for outcome in driver.drive(searches(*strategies))}
    assert len(outcomes) == len(strategies)
    assert not driver.generator.busy
    return outcomes


def raising(tree: Tree) -> Ask[Choice]:
    raise RuntimeError("at once")


def raising_later(tree: Tree) -> Ask[Choice]:
    yield from tree.extend([ROOT])
    raise KeyError("later")


def returning_nothing(tree: Tree) -> Ask[Any]:
    yield from tree.extend([ROOT])


def asking_nonsense(tree: Tree) -> Iterator[Any]:
    yield "more tokens, please"


def not_a_generator(tree: Tree) -> int:
    return 5


def asking_a_stranger(tree: Tree) -> Ask[Choice]:
    yield from tree.extend(["4.4"])
    return Choice(None, None, "")


FAULTS = [
    (raising, "RuntimeError: at once"),
    (raising_later, "KeyError: 'later'"),
    (returning_nothing, "TypeError: the strategy returned None, not a Choice"),
    (asking_nonsense, "TypeError: a search asked for 'more tokens, please'"),
    (not_a_generator, "TypeError: 'int' object is not iterable"),
    (asking_a_stranger, "KeyError: '4'"),
]


@pytest.mark.parametrize(("fault", "says"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_faulty_strategy_ends_its_own_search_only(fault: Callable[[Tree], Any], says: str) -> None:
    """Some of these once ended the whole drive, or passed for a search that chose nothing."""
    well = drive(Driver(FakeGenerator(), FakeVerifier(by_text)), JUDGED, JUDGED, JUDGED)
    with_it = drive(Driver(FakeGenerator(), FakeVerifier(by_text)), JUDGED, Does(fault), JUDGED)
    assert (with_it[1].choice, with_it[1].error) == (None, says)
    assert isinstance(with_it[1].exception, Exception)
    for key in (0, 2):
        assert recorded(with_it[key]) == recorded(well[key])


def test_an_outcome_has_a_choice_or_an_error_never_both_or_neither() -> None:
    for outcome in drive(Driver(FakeGenerator()), BestOfN(n=2), JUDGED, Does(raising)).values():
        assert (outcome.choice is None) == bool(outcome.error)
        assert outcome.seconds >= 0


def test_a_strategy_that_needs_a_verifier_says_so_where_there_is_none() -> None:
    outcomes = drive(Driver(FakeGenerator()), BestOfN(n=2), JUDGED)
    assert outcomes[0].choice is not None
    assert outcomes[1].error == "ValueError: this strategy needs a verifier, and the run has none"


def test_a_prompt_that_is_too_long_ends_its_own_search() -> None:
    outcomes = drive(Driver(FakeGenerator(context=2)), BestOfN(n=2), Does(lambda tree: iter(())))
    assert outcomes[0].error == "ValueError: the prompt has 2 tokens and the model's context 2"


@pytest.mark.parametrize("patience", [1, 1000])
def test_a_verifier_that_fails_at_one_problem_fails_no_other(patience: int) -> None:
    """Whether the traces are judged together or not: the batch is taken apart to find whose fault it is."""
    well = drive(Driver(FakeGenerator(), FakeVerifier(by_text)), JUDGED, JUDGED, JUDGED, JUDGED)
    verifiers = [FakeVerifier(failing(["p2"])), WrongLength(by_text, names=["p2"])]
    for verifier, says in zip(verifiers, ["RuntimeError: cannot judge p2", "ValueError: the verifier "], strict=True):
        outcomes = drive(Driver(FakeGenerator(), verifier, patience=patience), JUDGED, JUDGED, JUDGED, JUDGED)
        assert outcomes[2].error.startswith(says)
        assert [recorded(outcomes[key]) for key in (0, 1, 3)] == [recorded(well[key]) for key in (0, 1, 3)]


def test_verifications_that_are_due_together_are_one_batch() -> None:
    verifier = FakeVerifier(by_text)
    drive(Driver(FakeGenerator(rounds=1000), verifier), *[JUDGED] * 8)
    assert len(verifier.batches) == 1
    assert verifier.batches[0] == len(verifier.seen) > 8


def test_a_search_goes_on_while_another_is_still_generating() -> None:
    """There are no rounds: the short one is over before the long one has had all its tokens."""
    outcomes: list[int] = []
    long = BestOfN(n=1)
    generator = FakeGenerator(never_ending)
    driver = Driver(generator, FakeVerifier(by_text), patience=2)

    def short(tree: Tree) -> Ask[Choice]:
        for _ in range(2):
            candidates = yield from tree.extend([ROOT], until=Until.STEP)
            yield from tree.verify(candidates)
        return Selector("best")(entries(tree, []))

    for outcome in driver.drive(searches(long, Does(short))):
        outcomes.append(outcome.search.key)
        if outcome.search.key == 1:
            assert generator.clock < WORLD.tokens
    assert outcomes == [1, 0]


# --------------------------------------------------------------------------------------------------- verifying in slices

MIXED: tuple[Strategy, ...] = (BestOfN(n=9, select=Selector("best")), AStar(), Beam(n=6, keep=2), BestOfN(n=7), JUDGED)
SLICES = [(1, 1), (2, 4), (3, 1000), (5, 2), (64, 4)]


@dataclass
class Watching(FakeVerifier):
    """Writes down the generator's clock at each batch, and whether the generator had more to do."""

    generator: FakeGenerator = field(default_factory=FakeGenerator)
    when: list[tuple[int, bool]] = field(default_factory=list)

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        self.when.append((self.generator.clock, self.generator.busy))
        return super().score(traces)


def watched(slice: int, patience: int) -> tuple[dict[int, Outcome], Watching]:
    verifier = Watching(by_text)
    driver = Driver(verifier.generator, verifier, patience=patience, slice=slice)
    return drive(driver, *MIXED, *MIXED), verifier


@pytest.mark.parametrize(("slice", "patience"), SLICES)
def test_a_slice_is_no_larger_than_allowed_and_generation_goes_on_between_two(slice: int, patience: int) -> None:
    """All that was due was once scored in one go, while the rows stood still."""
    _, verifier = watched(slice, patience)
    assert 0 < min(verifier.batches) <= max(verifier.batches) <= slice
    between = [clock for clock, busy in verifier.when if busy]
    assert len(set(between)) == len(between), "two slices without a step of the generator between them"
    assert len(between) > 5, "the generator was never busy, so this shows nothing"


@pytest.mark.parametrize("company", [True, False])
def test_a_verification_waits_only_while_another_search_is_generating(company: bool) -> None:
    def short(tree: Tree) -> Ask[Choice]:
        yield from tree.verify((yield from tree.extend([ROOT], until=Until.STEP)))
        return Choice(None, None, "seen enough")

    verifier = Watching(by_text, generator=FakeGenerator(never_ending))
    driver = Driver(verifier.generator, verifier, patience=5 if company else 1000)
    drive(driver, Does(short), *[BestOfN(n=1)] * company)
    assert verifier.when == ([(4 + 5, True)] if company else [(4, False)]), "the step has 4 tokens"
    desk = driver._judge._readings
    assert desk is not None
    assert company or desk.turn == 1 + 4 + 1 + 1, "it span until the patience was over"


@pytest.mark.parametrize(("slice", "patience"), SLICES)
def test_slices_change_no_result_and_no_trace_is_judged_twice(slice: int, patience: int) -> None:
    whole, _ = watched(10**9, 4)
    cut, verifier = watched(slice, patience)
    assert {key: recorded(outcome) for key, outcome in cut.items()} == {k: recorded(o) for k, o in whole.items()}
    assert len(verifier.seen) == sum(len(outcome.search.tree.scores) for outcome in cut.values())


def test_the_slices_of_a_drive_are_the_same_each_time() -> None:
    """They are a matter of counts, not of the clock."""
    once, again = watched(4, 3)[1], watched(4, 3)[1]
    assert (once.batches, once.when) == (again.batches, again.when)


@pytest.mark.parametrize(("slice", "patience"), SLICES)
def test_every_verification_is_answered_once_and_in_full(slice: int, patience: int) -> None:
    answered: list[tuple[int, tuple[str, ...]]] = []

    class Checking(Diary):
        def answered(self, search: int, request: Request, reply: Reply) -> None:
            if isinstance(request, Verify):
                assert isinstance(reply, Readings)
                answered.append((search, request.paths))
                assert [reading.parts for reading in reply.readings] == [by_text(trace) for trace in request.traces]

    driver = Driver(FakeGenerator(), FakeVerifier(by_text), Checking(), patience=patience, slice=slice)
    outcomes = drive(driver, *MIXED)
    assert len(set(answered)) == len(answered)
    judged = {(key, path) for key, outcome in outcomes.items() for path in outcome.search.tree.scores}
    assert judged == {(key, path) for key, paths in answered for path in paths}


@pytest.mark.parametrize(("slice", "patience"), SLICES)
def test_a_verifier_that_fails_at_one_trace_fails_one_search(slice: int, patience: int) -> None:
    """Also where the request is cut: its first traces may be scored long before the bad one."""
    well = drive(Driver(FakeGenerator(), FakeVerifier(by_text)), *MIXED)
    bad = well[0].search.tree.steps(list(well[0].search.tree.scores)[-1])[-1].text

    def judge(trace: Trace) -> tuple[float, ...]:
        if (trace.question.id, trace.steps[-1].text) == ("p0", bad):
            raise RuntimeError("cannot judge this")
        return by_text(trace)

    outcomes = drive(Driver(FakeGenerator(), FakeVerifier(judge), patience=patience, slice=slice), *MIXED)
    assert (outcomes[0].choice, outcomes[0].error) == (None, "RuntimeError: cannot judge this")
    assert [recorded(outcomes[key]) for key in (1, 2, 3)] == [recorded(well[key]) for key in (1, 2, 3)]


def test_a_drive_that_is_left_in_the_middle_of_a_verification_leaves_no_trace_behind() -> None:
    verifier = FakeVerifier(by_text)
    driver = Driver(FakeGenerator(rounds=1000), verifier, slice=2)
    first = driver.drive(searches(*[BestOfN(n=6, select=Selector("best"))] * 4))
    next(first)
    desk = driver._judge._readings
    assert desk is not None
    assert any(request.got and request.left for request in desk.requests.values()), "no search has some of its readings"
    before = len(verifier.seen)
    first.close()  # type: ignore[attr-defined]
    again = drive(driver, *[JUDGED] * 4)
    well = drive(Driver(FakeGenerator(), FakeVerifier(by_text)), *[JUDGED] * 4)
    assert [recorded(again[key]) for key in range(4)] == [recorded(well[key]) for key in range(4)]
    assert len(verifier.seen) == before + sum(len(outcome.search.tree.scores) for outcome in again.values())


class Forgetful(FakeGenerator):
    """Loses the requests of search 1."""

    def submit(self, search: int, request: Extend) -> None:
        if search != 1:
            super().submit(search, request)


def test_a_request_that_the_generator_lost_ends_its_search() -> None:
    """The drive once waited for it for ever."""
    outcomes = drive(Driver(Forgetful(), FakeVerifier(by_text)), JUDGED, JUDGED, JUDGED)
    assert outcomes[1].error == "RuntimeError: the generator is idle and has not answered"
    assert outcomes[0].choice is not None
    assert outcomes[2].choice is not None


class Bursting(FakeGenerator):
    """Fails after a few tokens, as a device that is out of memory does."""

    def advance(self) -> list[tuple[int, Extension]]:
        if self.clock == 5:
            raise MemoryError("device")
        return super().advance()


def test_a_generator_that_fails_ends_the_drive_and_is_left_empty() -> None:
    generator = Bursting()
    driver = Driver(generator, FakeVerifier(by_text))
    with pytest.raises(MemoryError):
        list(driver.drive(searches(JUDGED, JUDGED)))
    assert not generator.busy


def test_a_drive_that_is_left_half_way_leaves_no_request_behind() -> None:
    """The model is kept warm for the next run, whose searches have the same numbers: it must not get old replies."""
    generator, verifier = FakeGenerator(), FakeVerifier(by_text)
    driver = Driver(generator, verifier, concurrency=3)
    first = driver.drive(searches(*[JUDGED] * 4))
    next(first)
    assert generator.busy
    first.close()  # type: ignore[attr-defined]
    assert not generator.busy
    again = drive(driver, *[JUDGED] * 4)
    well = drive(Driver(FakeGenerator(), FakeVerifier(by_text)), *[JUDGED] * 4)
    assert [recorded(again[key]) for key in range(4)] == [recorded(well[key]) for key in range(4)]


def test_two_searches_at_once_with_one_key_are_refused() -> None:
    twice = [Search(1, WORLD.tree("p0"), JUDGED), Search(1, WORLD.tree("p1"), JUDGED)]
    with pytest.raises(ValueError, match="two searches at once have the key 1"):
        list(Driver(FakeGenerator(), FakeVerifier(by_text)).drive(twice))


@pytest.mark.parametrize("name", ["concurrency", "patience", "slice"])
def test_a_driver_that_would_never_start_is_refused(name: str) -> None:
    """With a concurrency of 0 it span for ever."""
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        Driver(FakeGenerator(), **{name: 0})  # type: ignore[arg-type]


def test_no_more_searches_are_held_than_allowed_and_they_are_made_as_they_are_needed() -> None:
    made: list[int] = []
    ended: list[int] = []

    def each() -> Iterator[Search]:
        for key in range(9):
            made.append(key)
            strategy = Does(raising) if key < 6 else JUDGED
            assert len(made) - len(ended) <= 2 + 1, "more are made than may run"
            yield Search(key, WORLD.tree(WORLD.names[key % 4]), strategy)

    for outcome in Driver(FakeGenerator(), FakeVerifier(by_text), concurrency=2).drive(each()):
        ended.append(outcome.search.key)
    assert sorted(ended) == list(range(9))


def test_no_searches_are_no_outcomes() -> None:
    assert list(Driver(FakeGenerator()).drive([])) == []


# -------------------------------------------------------------------------------------------------------------- journal


@dataclass
class Diary:
    """Writes down what is journaled. A commit is written at its `slow`th look, or when it is waited for."""

    said: list[tuple[str, int]] = field(default_factory=list)
    slow: int = 0
    committed: int = 0  # of `said`
    looks: list[tuple[int, bool]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # how much was said at each commit

    def started(self, search: int) -> None:
        self.said.append(("started", search))

    def stored(self, search: int, request: Request) -> Reply | None:
        return None

    def answered(self, search: int, request: Request, reply: Reply) -> None:
        of = request.rows if isinstance(request, Extend) else request.paths
        got = (
            reply.steps if isinstance(reply, Extension) else reply.readings if isinstance(reply, Readings) else reply.embeddings
        )
        assert len(of) == len(got)
        self.said.append((type(request).__name__, search))

    def closed(self, outcome: Outcome) -> None:
        self.said.append(("closed", outcome.search.key))

    def commit(self) -> int:
        self.marks.append(len(self.said))
        return len(self.marks)

    def written(self, number: int, wait: bool) -> float | None:
        self.looks.append((number, wait))
        if not wait and sum(number == each for each, _ in self.looks) <= self.slow:
            return None
        self.committed = max(self.committed, self.marks[number - 1])
        return 0.0


def watching(diary: Diary, strategy: Strategy = JUDGED) -> Does:
    """A strategy that looks, at each reply, whether it is written down."""

    def body(tree: Tree) -> Ask[Choice]:
        key = WORLD.names.index(tree.question.id)
        assert ("started", key) in diary.said[: diary.committed], "it began before its beginning was written"
        replies = 0
        running = strategy.search(tree)
        request: Request = next(running)
        try:
            while True:
                reply = yield request
                replies += 1
                own = [what for what, search in diary.said[: diary.committed] if search == key]
                assert len(own) == 1 + replies, "a reply came before its journal"
                request = running.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    return Does(body)


@pytest.mark.parametrize("slow", [0, 1, 5, 1000])
def test_every_reply_is_written_before_its_search_sees_it(slow: int) -> None:
    diary = Diary(slow=slow)
    outcomes = drive(Driver(FakeGenerator(), FakeVerifier(by_text), diary), *[watching(diary)] * 4)
    assert not any(outcome.error for outcome in outcomes.values())
    assert diary.committed == len(diary.said) == 4 * 4
    for key in range(4):
        assert [what for what, search in diary.said if search == key] == ["started", "Extend", "Verify", "closed"]


@pytest.mark.parametrize("slow", [0, 3, 1000])
def test_an_outcome_is_written_before_it_is_handed_out(slow: int) -> None:
    diary = Diary(slow=slow)
    keys = []
    for outcome in Driver(FakeGenerator(), FakeVerifier(by_text), diary).drive(searches(JUDGED, Does(raising), JUDGED)):
        assert ("closed", outcome.search.key) in diary.said[: diary.committed]
        keys.append(outcome.search.key)
    assert sorted(keys) == [0, 1, 2]


def test_a_slow_journal_changes_no_result_and_never_makes_the_driver_spin() -> None:
    """It is waited for where there is nothing else to do, and only there."""
    well = drive(Driver(FakeGenerator(), FakeVerifier(by_text)), *MIXED)
    for slow in (1, 7, 1000):
        turns = 0

        def pulse() -> None:
            nonlocal turns
            turns += 1

        diary, generator = Diary(slow=slow), FakeGenerator()
        outcomes = drive(Driver(generator, FakeVerifier(by_text), diary, pulse=pulse), *MIXED)
        assert {key: recorded(o) for key, o in outcomes.items()} == {key: recorded(o) for key, o in well.items()}
        assert turns <= generator.clock + len(diary.marks) + 10, "it span"
    assert any(wait for _, wait in diary.looks)


def test_the_other_searches_go_on_while_the_journal_writes() -> None:
    """The short one's reply is written only when it is waited for; the long one generates all its tokens meanwhile."""

    class Lazy(Diary):
        def written(self, number: int, wait: bool) -> float | None:
            assert not (wait and generator.busy), "it waits for the journal, and the generator waits for it"
            return super().written(number, wait)

    generator = FakeGenerator(never_ending)
    clocks = []

    def short(tree: Tree) -> Ask[Choice]:
        yield from tree.extend([ROOT], until=Until.STEP)
        clocks.append(generator.clock)
        return Choice(None, None, "seen enough")

    drive(Driver(generator, journal=Lazy(slow=1000)), BestOfN(n=1), Does(short))
    assert clocks == [WORLD.tokens]


def test_the_seconds_of_a_commit_are_shared_by_those_that_waited_for_it() -> None:
    class Timed(Diary):
        def written(self, number: int, wait: bool) -> float | None:
            super().written(number, wait)
            return 6.0

    outcomes = drive(Driver(FakeGenerator(rounds=1000), FakeVerifier(by_text), Timed()), *[JUDGED] * 3)
    for outcome in outcomes.values():  # the beginning, the reply, the verdict: each in one commit with the two others
        assert outcome.search.tree.usage.store_seconds == pytest.approx(3 * 6.0 / 3, abs=0.5)


@pytest.mark.parametrize("where", ["started", "answered", "closed", "commit", "written", "written later"])
def test_a_journal_that_fails_ends_the_drive_and_leaves_the_generator_empty(where: str) -> None:
    """Nothing may go on that is not written down."""

    class Full(Diary):
        def _full(self, *of: Any, **named: Any) -> Any:
            if where != "written later" or len(self.marks) > 2:
                raise OSError("disk full")
            return Diary.written(self, *of, **named)

    setattr(Full, where.split()[0], Full._full)
    generator = FakeGenerator()
    with pytest.raises(OSError, match="disk full"):
        list(Driver(generator, FakeVerifier(by_text), Full()).drive(searches(JUDGED, JUDGED)))
    assert not generator.busy


@pytest.mark.parametrize("turn", [1, 2, 5])
def test_a_pulse_is_given_at_each_turn_and_what_it_raises_ends_the_drive(turn: int) -> None:
    beats = 0

    def pulse() -> None:
        nonlocal beats
        beats += 1
        if beats == turn:
            raise InterruptedError("the shard is another's")

    generator = FakeGenerator()
    driver = Driver(generator, FakeVerifier(by_text), pulse=pulse)
    with pytest.raises(InterruptedError):
        list(driver.drive(searches(JUDGED, JUDGED)))
    assert (beats, generator.busy) == (turn, False)


# --------------------------------------------------------------------------------------------------------------- replay


class Refusing(FakeGenerator):
    def submit(self, search: int, request: Extend) -> None:
        pytest.fail(f"search {search} asks for what is stored")


@dataclass
class Pixels:
    """An encoder whose vectors do not fit float16."""

    name: str = "fake"

    def embed(self, traces: Sequence[Trace]) -> list[Embedding]:
        return [Embedding(np.array([noise(t.texts), 1 / 3], np.float32), tokens=5, flops=2.0) for t in traces]


def all_kinds(tree: Tree) -> Ask[Choice]:
    """Asks for every kind of reply, and decides by numbers that are not the same before they are rounded."""
    candidates = yield from tree.extend([ROOT], n=4)
    vectors = yield from tree.embed(candidates)
    scores = yield from tree.verify(candidates)
    last = candidates[-1]
    exact = [
        [v.tolist() for v in vectors],
        [s.value for s in scores],
        [c.step.logprob for c in candidates],
        last.step.certainty,
    ]
    yield from tree.extend([c for c in candidates if c.open], sampling=GREEDY)
    return Choice(None, None, repr(exact))


REPLAYED: tuple[Strategy, ...] = (AStar(), Does(all_kinds), Beam(n=6, keep=2), JUDGED)


def journaled(journal: Memory, generator: FakeGenerator, *strategies: Strategy, **options: Any) -> dict[int, Outcome]:
    return drive(Driver(generator, FakeVerifier(by_text), journal, encoder=Pixels(), **options), *strategies)


def test_a_search_whose_replies_are_all_stored_ends_without_a_question() -> None:
    journal = Memory()
    well = journaled(journal, FakeGenerator(), *REPLAYED)
    assert min(map(len, journal.kept.values())) >= 2
    again = journal.first(1000)
    ended = drive(Driver(Refusing(), FakeVerifier(failing(WORLD.names)), again), *REPLAYED)
    assert {key: recorded(outcome) for key, outcome in ended.items()} == {key: recorded(o) for key, o in well.items()}
    assert again.kept == journal.kept, "what is replayed is not journaled again"
    assert again.ended.keys() == well.keys()


@pytest.mark.parametrize("replies", range(1, 5))
@pytest.mark.parametrize("concurrency", [1, 64])
def test_a_search_goes_on_in_the_middle_with_the_same_numbers_to_the_last_bit(replies: int, concurrency: int) -> None:
    """What a live search sees is rounded as the journal rounds it, so its choices do not depend on when it was interrupted."""
    journal = Memory()
    well = journaled(journal, FakeGenerator(), *REPLAYED)
    generator = FakeGenerator(order="last")
    again = journal.first(replies)
    ended = journaled(again, generator, *REPLAYED, concurrency=concurrency)
    assert {key: recorded(outcome) for key, outcome in ended.items()} == {key: recorded(o) for key, o in well.items()}
    assert {s: [r.digest for r, _ in kept] for s, kept in again.kept.items()} == {
        s: [r.digest for r, _ in kept] for s, kept in journal.kept.items()
    }
    assert sum(isinstance(r, Extend) for kept in journal.kept.values() for r, _ in kept[replies:]) == len(generator.asked)


OTHERS: dict[str, Callable[[Tree], tuple[Tree, Strategy]]] = {
    "parameters": lambda tree: (tree, BestOfN(n=4, select=Selector("best"))),
    "code": lambda tree: (tree, Does(all_kinds)),
    "the seed": lambda tree: (replace(tree, seed=1), JUDGED),
    "the prompt": lambda tree: (replace(tree, question=replace(tree.question, tokens=(2, 1))), JUDGED),
    "the sampling": lambda tree: (replace(tree, sampling=GREEDY), JUDGED),
    "the token limit": lambda tree: (replace(tree, tokens_limit=23), JUDGED),
    "the budget": lambda tree: (replace(tree, budget=Budget(tokens=500)), JUDGED),
    "the stops": lambda tree: (replace(tree, stops=("Q:",)), JUDGED),
    "what is verified": lambda tree: (tree, Does(verifying_one)),
}


def verifying_one(tree: Tree) -> Ask[Choice]:
    answers = yield from tree.extend([ROOT], n=3, until=Until.END)
    yield from tree.verify(answers[1:2])
    return Choice(None, None, "")


@pytest.mark.parametrize("change", OTHERS)
def test_a_search_that_is_not_the_one_of_its_journal_is_refused_and_the_others_are_not(change: str) -> None:
    journal = Memory()
    well = drive(Driver(FakeGenerator(), FakeVerifier(by_text), journal), JUDGED, JUDGED)
    other, same = searches(JUDGED, JUDGED)
    other.tree, other.strategy = OTHERS[change](other.tree)
    again, generator = journal.first(1000), FakeGenerator()
    outcomes = {o.search.key: o for o in Driver(generator, FakeVerifier(by_text), again).drive([other, same])}
    assert isinstance(outcomes[0].exception, Diverged)
    assert outcomes[0].error.startswith("Diverged: reply ")
    assert recorded(outcomes[1]) == recorded(well[1])
    assert (again.kept, generator.asked) == (journal.kept, [])


def test_a_journal_that_cannot_be_read_ends_the_search_it_was_of() -> None:
    class Torn(Memory):
        def stored(self, search: int, request: Request) -> Reply | None:
            if search == 1:
                raise LookupError("reply 0 has 2 of its 3 rows")
            return super().stored(search, request)

    outcomes = drive(Driver(FakeGenerator(), FakeVerifier(by_text), Torn()), JUDGED, JUDGED)
    assert outcomes[1].error == "LookupError: reply 0 has 2 of its 3 rows"
    assert outcomes[0].choice is not None
