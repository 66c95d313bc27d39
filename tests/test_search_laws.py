"""Every registered strategy keeps every law, and every law is shown to fail where a part is broken on purpose."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fakes import FakeGenerator, often_invalid, question
from laws import LAWS, REFERENCE, Ran, World

from search.drive import Driver
from search.judge import Judge, _Desk, _readings, _Request, _unscored
from search.ledger import Usage
from search.select import Selector, entries
from search.strategies import STRATEGIES, Strategy, build
from search.tree import Extractor, Tree, state_of
from search.types import (
    ROOT,
    Answer,
    Ask,
    Candidate,
    Choice,
    Extend,
    Extension,
    Part,
    Problem,
    Question,
    Reading,
    Row,
    State,
    Trace,
    Until,
    Verify,
)

VARIANTS: tuple[Part, ...] = (
    Part("best-of-n", {"n": 6, "select": "weighted", "join": "mean"}),
    Part("best-of-n", {"n": 6, "select": "borda", "power": 1.2}),
    Part("best-of-n", {"n": 5, "select": "shortest"}),
    Part("first-finish", {"n": 5, "m": 3}),
    Part("last-finish", {"n": 5, "m": 3}),
    Part("adaptive-consistency", {"n": 12, "batch": 3}),
    Part("adaptive-consistency", {"n": 12, "threshold": 0.9, "parallel": True}),
    Part("early-stopping", {"n": 7, "window": 2}),
    Part("deepconf", {"n": 12, "warmup": 4, "window": 3, "keep": 0.5, "tau": 0.8}),
    Part("deepconf", {"n": 9, "warmup": 3, "window": 2, "keep": 0.1, "tau": 0, "k": 0}),
    Part("budget-forcing", {"waits": 1, "greedy": False}),
    Part("budget-forcing", {"waits": 2, "cap": 12, "end": "good3 good"}),
    Part("budget-forcing", {"waits": 0, "cap": 5, "closing": "\\boxed{2}", "greedy": False}),
    Part("allocated", {"n": 3, "plan": '{"5": ["p1"], "2": ["p0", "p2"]}', "select": "weighted"}),
    Part("beam", {"n": 4, "keep": 1}),
    Part("beam", {"n": 3, "keep": 3, "select": "majority"}),
    Part("astar", {"k": 3, "cost": "rises", "goals": 3, "select": "weighted"}),
    Part("astar", {"k": 2, "cost": "greedy"}),
    Part("astar", {"k": 3, "pops": 3, "frontier": 4}),
    Part("astar", {"k": 1, "reopen": 0.1, "root": 0.9}),
    Part("astar", {"k": 2, "reopen": 0.05, "pops": 2, "frontier": 3, "lookahead": 1}),
    Part("astar", {"k": 2, "lookahead": 1, "goals": 2, "goal_on_pop": False}),
    Part("beam", {"n": 4, "keep": 2, "lookahead": 2}),
    Part("best-first", {"k": 3, "pops": 2, "lookahead": 2}),
    Part("dvts", {"n": 3, "width": 1, "select": "majority"}),
    Part("dvts", {"n": 4, "width": 2, "lookahead": 1}),
    Part("rebase", {"n": 6, "temperature": 0.5, "lookahead": 1}),
    Part("particles", {"n": 4, "weights": "current", "resampling": "multinomial", "ess": 1.0}),
    Part("particles", {"n": 5, "resampling": "residual", "anneal": "linear", "ess": 0.9, "select": "weighted"}),
    Part("particles", {"n": 4, "resampling": "stratified", "anneal": "entropic", "sweeps": 3, "select": "majority"}),
    Part("mcts", {"k": 3, "simulations": 12, "leaves": 4, "prior": "value", "final": "visits"}),
    Part("mcts", {"k": 2, "simulations": 9, "depth": 2, "prior": "uniform", "init": 0.2, "select": "weighted"}),
    Part("rstar", {"k": 2, "simulations": 8, "rollouts": 2, "reward": "agreement", "select": "majority"}),
    Part("rstar", {"k": 3, "simulations": 6, "depth": 2, "c": 0.5, "top": 2, "reward": "agreement"}),
    Part("pg-td", {"k": 1}),
    Part("pg-td", {"k": 4, "simulations": 6, "c": 0.5, "depth": 2, "select": "majority"}),
    Part("plan-search", {"observations": 3, "combinations": 0, "layers": 2, "criticise": True, "select": "best"}),
    Part("icn", {"n": 4, "keep": 2, "room": 12, "select": "weighted"}),
    Part("self-agreement", {"n": 3, "room": 9}),
    Part("knockout", {"n": 5, "k": 2, "by": "small", "room": 12}),
    Part("knockout", {"n": 3, "temperature": 0.0}),
    Part("awrs", {"n": 3, "pattern": r"(good\d |\n\n|\\boxed\{\d\})*", "ess": 0.8, "peek": 9}),
)
# the variants take as long as all the defaults together
CASES = [*(Part(name) for name in STRATEGIES), *(pytest.param(part, marks=pytest.mark.slow) for part in VARIANTS)]
WORLD = World()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("part", CASES, ids=str)
def test_every_strategy_keeps_every_law(part: Part, law: str) -> None:
    world = replace(WORLD, judge=often_invalid) if law == "an_invalid_score_never_wins" else WORLD
    LAWS[law](build(part), world)


def test_the_variants_are_of_registered_strategies_and_differ() -> None:
    strategies = [repr(build(part)) for part in (*map(Part, STRATEGIES), *VARIANTS)]
    assert len(set(strategies)) == len(strategies)


def test_the_world_is_varied_enough_for_the_laws_to_say_something() -> None:
    """Answers differ, some solutions have none, some are cut, lengths vary: a world of one text would prove nothing."""
    trees = [tree for tree, _ in WORLD.run(build(Part("best-of-n", {"n": 30}))).choices()]
    candidates = [(tree, candidate) for tree in trees for candidate in tree.candidates.values()]
    assert {tree.answer(c.path).key for tree, c in candidates if c.finished} == {None, "0", "1", "2", "3"}
    assert len({len(c.step) for _, c in candidates}) > 15
    assert {c.finished for _, c in candidates} == {True, False}
    assert len({c.step.text for _, c in candidates}) > 100


# ---------------------------------------------------------------------------------------- each law fails when it should


class Thirsty(FakeGenerator):
    """Ignores the allowance."""

    def submit(self, search: int, request: Extend) -> None:
        super().submit(search, replace(request, allowance=None))


@dataclass
class Arriving(FakeGenerator):
    """Texts depend on how many requests came before: the classic shared random state."""

    count: int = 0

    def submit(self, search: int, request: Extend) -> None:
        self.count += 1
        rows = tuple(replace(row, seed=row.seed + self.count) for row in request.rows)
        super().submit(search, replace(request, rows=rows))


@dataclass
class Clocked(FakeGenerator):
    """Texts depend on how often it was advanced."""

    def advance(self) -> list[tuple[int, Extension]]:
        for ticket in self.tickets:
            if self.clock % 5 == 3 and ticket.finish.count(None) > 1:
                ticket.write.reverse()
        return super().advance()


@dataclass(frozen=True)
class Plain:
    """What the broken strategies below are a change of: four solutions, the best-scored."""

    def search(self, tree: Tree) -> Ask[Choice]:
        answers = yield from tree.extend([ROOT], n=4, until=Until.END)
        yield from tree.verify(c for c in answers if c.finished)
        return self.choose(tree, answers)

    def choose(self, tree: Tree, answers: tuple[Candidate, ...]) -> Choice:
        return Selector("best")(entries(tree, answers))


CALLS = itertools.count()


@dataclass(frozen=True)
class Moody(Plain):
    """Asks for more at every other call."""

    def search(self, tree: Tree) -> Ask[Choice]:
        answers = yield from tree.extend([ROOT], n=3 + next(CALLS) % 2, until=Until.END)
        return Selector("majority")(entries(tree, answers))


@dataclass(frozen=True)
class Smuggler(Plain):
    """Asks the generator without the tree, and the verifier too."""

    def search(self, tree: Tree) -> Ask[Choice]:
        rows = (Row("0", 1, tree.question.tokens, 40), Row("1", 2, tree.question.tokens, 40))
        reply = yield Extend(rows, Until.END, tree.sampling)
        assert isinstance(reply, Extension)
        yield Verify(("0", "1"), tuple(Trace(tree.question, (step,)) for step in reply.steps))
        return (yield from super().search(tree))


@dataclass(frozen=True)
class Forger(Plain):
    """Mints a candidate that nobody generated."""

    def search(self, tree: Tree) -> Ask[Choice]:
        answers = yield from tree.extend([ROOT], n=4, until=Until.END)
        tree.candidates["9.9"] = Candidate("9.9", answers[0].step)
        tree.states["9.9"] = state_of(answers[0].step)
        return self.choose(tree, answers)


@dataclass(frozen=True)
class Pruner(Plain):
    """Drops everything and then chooses among it."""

    def choose(self, tree: Tree, answers: tuple[Candidate, ...]) -> Choice:
        tree.mark(answers, State.PRUNED, "why not")
        return super().choose(tree, answers)


@dataclass(frozen=True)
class Fickle(Plain):
    """Goes on from what it has dropped."""

    def search(self, tree: Tree) -> Ask[Choice]:
        steps = yield from tree.extend([ROOT], n=8, until=Until.STEP)
        tree.mark(steps, State.PRUNED, "why not")
        answers = yield from tree.extend([c for c in steps if c.open], until=Until.END)
        return self.choose(tree, answers)


@dataclass(frozen=True)
class Secretive(Plain):
    """Drops what it does not need without a word to the tree."""

    def search(self, tree: Tree) -> Ask[Choice]:
        for one in (yield from tree.extend([ROOT], n=4, until=Until.STEP)):
            tree.states[one.path] = (State.PRUNED, "why not")
        return (yield from super().search(tree))


@dataclass(frozen=True)
class Gullible(Plain):
    """Takes the first that finished, whatever the verifier said."""

    def choose(self, tree: Tree, answers: tuple[Candidate, ...]) -> Choice:
        for candidate in answers:
            if candidate.finished and tree.scores[candidate.path].value is None:
                return Choice(candidate.path, tree.answer(candidate.path).key, "first")
        return super().choose(tree, answers)


@dataclass(frozen=True)
class Hasty(Plain):
    """Takes one that has not finished, where there is one."""

    def choose(self, tree: Tree, answers: tuple[Candidate, ...]) -> Choice:
        unfinished = [candidate.path for candidate in answers if not candidate.finished]
        return Choice(unfinished[0], "1", "first") if unfinished else super().choose(tree, answers)


@dataclass(frozen=True)
class Liar(Plain):
    """Says another answer than the candidate's."""

    def choose(self, tree: Tree, answers: tuple[Candidate, ...]) -> Choice:
        choice = super().choose(tree, answers)
        return replace(choice, answer="17") if choice.path else choice


@dataclass(unsafe_hash=True)
class Thawed:
    """Is not frozen."""

    n: int = 4

    def search(self, tree: Tree) -> Ask[Choice]:
        return Plain().search(tree)


@dataclass(frozen=True)
class Learner(Plain):
    """Remembers what it did."""

    n: int = 4

    def search(self, tree: Tree) -> Ask[Choice]:
        object.__setattr__(self, "n", self.n + 1)
        return (yield from super().search(tree))


@dataclass(frozen=True)
class Lister(Plain):
    """Has a field that can change inside."""

    seen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Insider(Plain):
    """Holds the problem itself."""

    problem: Problem | None = None


class Blaming(_Desk[Reading]):
    """Lets a failure through to all whose traces are in the slice."""

    def _score(self, parts: Sequence[tuple[_Request[Reading], Sequence[Trace]]]) -> dict[int, Exception]:
        failed = super()._score(parts)
        return {request.search: error for error in failed.values() for request, _ in parts}


class Fragile(Driver):
    """Waits till all are due."""

    def __post_init__(self) -> None:
        assert self.verifier is not None
        self._judge = Judge(self.verifier)
        self._judge._readings = Blaming(self.verifier.score, _readings, _unscored, "{}", 1_000_000, 1_000_000)


class Amnesiac(Driver):
    """Asks the generator for what the journal has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.journal.stored = lambda search, request: None  # type: ignore[method-assign]


class Generous(Usage):
    """Does not charge what was cut."""

    def generated(self, reply: Extension) -> None:
        super().generated(replace(reply, steps=reply.steps[:-1]))


class Unmetered(World):
    """Its trees do not charge all tokens."""

    def tree(self, name: str, reference: str = "") -> Tree:
        made = super().tree(name, reference)
        made.usage = Generous()
        return made


class Trusting(World):
    """Its trees take a verifier's value as it comes."""

    def run(self, strategy: Strategy, *args: Any, **kwargs: Any) -> Ran:
        ran = super().run(strategy, *args, **kwargs)
        for outcome in ran.outcomes.values():
            for path, score in outcome.search.tree.scores.items():
                outcome.search.tree.scores[path] = replace(score, value=2.0)
        return ran


class Deaf(FakeGenerator):
    """Gives every row the seed of the first: siblings are copies, whatever the run's seed."""

    def submit(self, search: int, request: Extend) -> None:
        super().submit(search, replace(request, rows=tuple(replace(row, seed=7) for row in request.rows)))


@dataclass(frozen=True)
class Peeker(Plain):
    """Finds the reference somewhere and keeps it where only the running search has it."""

    def search(self, tree: Tree) -> Ask[Choice]:
        kept = [REFERENCE[:5], REFERENCE]
        answers = yield from tree.extend([ROOT], n=len(kept), until=Until.END)
        return self.choose(tree, answers)


def asking_extractor(problem: Problem) -> Extractor:
    """An extractor that is held against the reference."""
    return lambda text: Answer("right") if problem.answer in text else Answer(None, "wrong")


def telling_question(problem: Problem) -> Question:
    return Question(problem.id, f"{problem.prompt} (it is {problem.answer})", question(problem.id).tokens)


BREAKS: list[tuple[str, str, Strategy, World]] = [
    ("holds_its_budget", "budget is exceeded", Plain(), replace(WORLD, generator=Thirsty)),
    ("holds_its_budget", "budget is exceeded", Smuggler(), WORLD),
    ("repeats_itself", "second run is not the same", Moody(), replace(WORLD, names=("p0", "p1", "p2"))),
    ("repeats_itself", "another seed gives the same", Plain(), replace(WORLD, generator=Deaf)),
    ("does_not_mind_company", "company changes", Plain(), replace(WORLD, generator=Arriving)),
    ("does_not_mind_company", "company changes", Plain(), replace(WORLD, generator=Clocked)),
    ("ties_do_not_depend_on_arrival", "company changes", Plain(), replace(WORLD, generator=Clocked)),
    ("charges_every_token", "tokens are not charged", Smuggler(), WORLD),
    ("charges_every_token", "tokens are not charged", Plain(), Unmetered()),
    ("charges_every_pass", "passes are not charged", Smuggler(), WORLD),
    ("every_candidate_has_its_place", "9.9 has no parent", Forger(), WORLD),
    ("states_agree_with_steps", "PRUNED", Pruner(), WORLD),
    ("what_is_dropped_stays_dropped", "below what was dropped", Fickle(), WORLD),
    ("what_is_dropped_stays_dropped", "not what was marked", Secretive(), WORLD),
    (
        "a_failure_stays_alone",
        "a failure spreads",
        Plain(),
        replace(WORLD, driver=Fragile, names=("p0", "p2", "p3", "p1")),
    ),
    ("an_invalid_score_never_wins", "an invalid score won", Gullible(), replace(WORLD, judge=often_invalid)),
    ("an_invalid_score_never_wins", "2.0", Plain(), Trusting()),
    ("a_choice_is_true", "unfinished candidate is chosen", Hasty(), replace(WORLD, tokens=12)),
    ("a_choice_is_true", "answer is not the chosen", Liar(), WORLD),
    ("nothing_finished_is_nothing_chosen", "something was chosen of nothing", Hasty(), WORLD),
    ("goes_on_from_its_journal", "it is another search", Moody(), replace(WORLD, names=("p0", "p1", "p2"))),
    ("goes_on_from_its_journal", "not all replayed", Plain(), replace(WORLD, driver=Amnesiac)),
    ("a_strategy_is_a_constant", "n can be set", Thawed(), WORLD),
    ("a_strategy_is_a_constant", "changed itself", Learner(), WORLD),
    ("a_reference_is_out_of_reach", "Problem > str", Insider(problem=Problem("p", "", REFERENCE)), WORLD),
    ("a_reference_is_out_of_reach", "generator > .*list > str", Peeker(), WORLD),
    ("a_reference_is_out_of_reach", "Tree > function > .*cell", Plain(), replace(WORLD, extract=asking_extractor)),
    ("a_reference_is_out_of_reach", "Question > str", Plain(), replace(WORLD, ask=telling_question)),
]


@pytest.mark.parametrize(
    ("law", "says", "strategy", "world"), BREAKS, ids=[f"{law}-{type(s).__name__}" for law, _, s, _ in BREAKS]
)
def test_a_law_fails_for_a_broken_part(law: str, says: str, strategy: Strategy, world: World) -> None:
    with pytest.raises(AssertionError, match=says):
        LAWS[law](strategy, world)


def test_every_law_is_shown_to_fail() -> None:
    assert {law for law, *_ in BREAKS} == set(LAWS)


def test_the_plain_strategy_keeps_every_law() -> None:
    """So the breaks above fail for what was broken in them, not for what they have in common."""
    for law in LAWS.values():
        law(Plain(), WORLD)


def test_a_field_that_can_change_inside_is_not_a_constant() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        LAWS["a_strategy_is_a_constant"](Lister(), WORLD)
