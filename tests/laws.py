"""Laws that every registered strategy keeps, as functions of the strategy and the world it is run in.

A test runs a law over all strategies, and shows once that the law fails for a part that is broken on purpose.
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from types import CodeType, FunctionType, ModuleType

from fakes import (
    FakeEncoder,
    FakeGenerator,
    FakeVerifier,
    Judge,
    always_nan,
    boxed,
    by_text,
    constant,
    failing,
    never_ending,
    question,
    rendered,
    spelled,
)

from search.drive import Diverged, Driver, Journal, NoJournal, Outcome, Search
from search.select import Entry, Selector
from search.strategies import Strategy
from search.tree import Extractor, Tree
from search.types import (
    ROOT,
    Budget,
    Choice,
    Embed,
    Embeddings,
    Extend,
    Finish,
    Join,
    Problem,
    Question,
    Readings,
    Reply,
    Request,
    State,
    Verify,
    depth_of,
    lineage,
    parent_of,
    seed_of,
)

REFERENCE = "the-reference-" + "7f3a" * 4
Batching = Mapping[str, object]
IN_ORDER: Batching = {}
BATCHINGS: tuple[Batching, ...] = (
    {"width": 1, "rounds": 1, "order": "last"},
    {"width": 2, "rounds": 3, "order": "mixed"},
    {"width": 3, "rounds": 100, "order": "mixed"},
)


@dataclass(frozen=True)
class World:
    """Where a strategy is run: the parts, any of which may be replaced by a broken one."""

    generator: Callable[..., FakeGenerator] = FakeGenerator
    verifier: Callable[[Judge], FakeVerifier] = FakeVerifier
    encoder: Callable[[], FakeEncoder] = FakeEncoder
    judge: Judge = by_text
    driver: Callable[..., Driver] = Driver
    extract: Callable[[Problem], Extractor] = lambda _: boxed
    ask: Callable[[Problem], Question] = lambda problem: question(problem.id, problem.prompt)
    names: tuple[str, ...] = ("p0", "p1", "p2", "p3")
    budget: Budget = Budget()
    seed: int = 0
    step_tokens: int = 6  # a step may be longer, and a solution too: some are cut
    tokens: int = 24

    def tree(self, name: str, reference: str = "") -> Tree:
        problem = Problem(name, f"question {name}", reference)
        return Tree(
            self.ask(problem),
            self.extract(problem),
            seed=self.seed,
            budget=self.budget,
            step_tokens=self.step_tokens,
            tokens_limit=self.tokens,
            verifier="fake",
            join=Join.MIN,
            encode=spelled,
            render=rendered,
        )

    def run(
        self,
        strategy: Strategy,
        names: Sequence[str] | None = None,
        batching: Batching = IN_ORDER,
        concurrency: int = 64,
        patience: int = 4,
        slice: int = 64,
        journal: Journal | None = None,
    ) -> Ran:
        generator, verifier, encoder = self.generator(**batching), self.verifier(self.judge), self.encoder()
        journal = journal or NoJournal()
        counts = {"concurrency": concurrency, "patience": patience, "slice": slice}
        driver = self.driver(generator, verifier, journal, encoder=encoder, **counts)
        of = {name: key for key, name in enumerate(self.names)}
        searches = [Search(of[name], self.tree(name), strategy) for name in names or self.names]
        outcomes = {self.names[outcome.search.key]: outcome for outcome in driver.drive(searches)}
        assert len(outcomes) == len(searches), "a search was lost"
        return Ran(outcomes, generator, verifier, encoder)


@dataclass(frozen=True)
class Ran:
    """What came of a run, with the parts' own counters."""

    outcomes: dict[str, Outcome]
    generator: FakeGenerator
    verifier: FakeVerifier
    encoder: FakeEncoder

    def choices(self) -> Iterator[tuple[Tree, Choice]]:
        """The searches that must all have ended well."""
        for name, outcome in self.outcomes.items():
            assert outcome.choice is not None, f"{name} failed: {outcome.error}"
            yield outcome.search.tree, outcome.choice


@dataclass
class Memory:
    """A journal in memory. What it holds at the beginning is replayed; `kept` is by search, and grows when it is written."""

    kept: dict[int, list[tuple[Request, Reply]]] = field(default_factory=dict)
    ended: dict[int, Outcome] = field(default_factory=dict)
    replayed: int = 0  # replies given out
    _at: dict[int, int] = field(default_factory=dict)  # by search: replies given out or taken
    _commits: list[tuple[list[tuple[int, Request, Reply]], list[Outcome]]] = field(default_factory=list)
    _buffer: list[tuple[int, Request, Reply]] = field(default_factory=list)
    _closed: list[Outcome] = field(default_factory=list)
    _written: int = 0

    def first(self, replies: int) -> Memory:
        """A journal that was cut off after so many replies of each search."""
        return Memory({search: kept[:replies] for search, kept in self.kept.items()})

    def started(self, search: int) -> None:
        self._at[search] = 0

    def stored(self, search: int, request: Request) -> Reply | None:
        kept, at = self.kept.get(search, []), self._at[search]
        if at == len(kept):
            return None
        asked, reply = kept[at]
        if (type(asked), asked.digest) != (type(request), request.digest):
            raise Diverged(f"reply {at} is to another request")
        self._at[search] += 1
        self.replayed += 1
        return reply

    def answered(self, search: int, request: Request, reply: Reply) -> None:
        self._buffer.append((search, request, reply))

    def closed(self, outcome: Outcome) -> None:
        self._closed.append(outcome)

    def commit(self) -> int:
        self._commits.append((self._buffer, self._closed))
        self._buffer, self._closed = [], []
        return len(self._commits)

    def written(self, number: int, wait: bool) -> float | None:
        for replies, ended in self._commits[self._written : number]:
            for search, request, reply in replies:
                self.kept.setdefault(search, []).append((request, reply))
                self._at[search] += 1
            self.ended |= {outcome.search.key: outcome for outcome in ended}
        self._written = max(self._written, number)
        return 0.0


def recorded(outcome: Outcome) -> dict[str, object]:
    """All of a search that is to be repeatable: everything but the clock."""
    tree = outcome.search.tree
    return {
        "candidates": {p: (c.step.tokens.tolist(), c.step.text, c.step.finish) for p, c in tree.candidates.items()},
        "scores": {p: repr(score) for p, score in tree.scores.items()},
        "states": dict(tree.states),
        "usage": {key: value for key, value in tree.usage.asdict().items() if not key.endswith("seconds")},
        "choice": outcome.choice,
        "error": outcome.error,
    }


# ------------------------------------------------------------------------------------------------------------ the laws

BUDGETS = (
    Budget(tokens=1),
    Budget(tokens=17),
    Budget(tokens=90),
    Budget(passes=1),
    Budget(passes=5),
    Budget(candidates=1),
    Budget(candidates=7),
    Budget(tokens=60, passes=4, candidates=9),
)


def holds_its_budget(strategy: Strategy, world: World) -> None:
    """No bound is exceeded, by the tree's count or by the parts' own."""
    for budget in BUDGETS:
        ran = replace(world, budget=budget).run(strategy)
        for name, outcome in ran.outcomes.items():
            key, usage = outcome.search.key, outcome.search.tree.usage
            seen = sum(trace.question.id == name for trace in ran.verifier.seen)
            for bound, *counts in (
                (budget.tokens, usage.generated_tokens, ran.generator.spent.get(key, 0)),
                (budget.passes, usage.verifier_passes, seen),
                (budget.candidates, usage.candidates, len(outcome.search.tree.candidates)),
            ):
                assert bound is None or max(counts) <= bound, f"the budget is exceeded: {counts} of {budget}"


def repeats_itself(strategy: Strategy, world: World) -> None:
    """The same seed gives the same tree; another seed gives another, unless nothing is drawn."""
    once, again = world.run(strategy), world.run(strategy)
    for name in world.names:
        assert recorded(once.outcomes[name]) == recorded(again.outcomes[name]), "a second run is not the same"
    asked = [request for _, request in once.generator.asked]
    if any(request.sampling.temperature > 0 for request in asked):
        other = replace(world, seed=world.seed + 1).run(strategy)
        same = [recorded(once.outcomes[n]) == recorded(other.outcomes[n]) for n in world.names]
        assert not all(same), "another seed gives the same trees"


COMPANIES = ((2, 1, 64), (64, 7, 3))


def does_not_mind_company(strategy: Strategy, world: World, companies: Sequence[tuple[int, int, int]] = COMPANIES) -> None:
    """A search driven with others is the search driven alone, in any batching and any order of arrival."""
    alone = {name: recorded(world.run(strategy, [name]).outcomes[name]) for name in world.names}
    for batching in BATCHINGS:
        for company in companies:
            together = world.run(strategy, None, batching, *company)
            backward = world.run(strategy, world.names[::-1], batching, *company)
            for name in world.names:
                for ran in (together, backward):
                    assert recorded(ran.outcomes[name]) == alone[name], f"company changes a search: {batching}"


def ties_do_not_depend_on_arrival(strategy: Strategy, world: World) -> None:
    """Where the verifier finds all alike, the choice is still a function of the texts."""
    does_not_mind_company(strategy, replace(world, judge=constant), COMPANIES[1:])


def charges_every_token(strategy: Strategy, world: World) -> None:
    """Tokens charged = tokens stored = the generator's own count; the cancelled and the longest chain are of them."""
    ran = world.run(strategy)
    for tree, _ in ran.choices():
        stored = sum(len(candidate.step) for candidate in tree.candidates.values())
        spent = sum(n for key, n in ran.generator.spent.items() if world.names[key] == tree.question.id)
        assert tree.usage.generated_tokens == stored == spent, "tokens are not charged as they are spent"
        assert tree.usage.candidates == len(tree.candidates)
        assert 0 <= tree.usage.cancelled_tokens <= stored
        assert 0 < tree.usage.sequential_tokens <= stored


def charges_every_pass(strategy: Strategy, world: World) -> None:
    """Verifier passes charged = scores stored = traces the verifier has seen; no candidate is judged twice."""
    ran = world.run(strategy)
    for tree, _ in ran.choices():
        seen = [trace.steps for trace in ran.verifier.seen if trace.question.id == tree.question.id]
        assert tree.usage.verifier_passes == len(tree.scores) == len(seen), "passes are not charged as they are spent"
        assert set(tree.scores) <= set(tree.candidates), "a score of nothing"
        embedded = [trace for trace in ran.encoder.seen if trace.question.id == tree.question.id]
        assert len(tree.vectors) == len(embedded), "a candidate is embedded twice"
        tokens = sum(map(FakeEncoder.tokens, embedded))
        assert tree.usage.embedding_tokens == tokens, "embeddings are not charged as they are made"


def every_candidate_has_its_place(strategy: Strategy, world: World) -> None:
    """Each candidate's parent exists and could be continued, its depth is its number of steps, its seed its path's."""
    ran = world.run(strategy)
    for tree, _ in ran.choices():
        for path, candidate in tree.candidates.items():
            assert candidate.path == path
            parent = parent_of(path)
            assert parent == ROOT or parent in tree.candidates, f"{path} has no parent"
            asks = path in tree.prompts  # a question of the strategy's own: a child by name, that continues nothing
            assert asks or parent == ROOT or tree.candidates[parent].open, f"{path} continues what had ended"
            assert candidate.depth == depth_of(path) == len(lineage(path))
            before = max((depth_of(p) - 1 for p in lineage(path) if p in tree.prompts), default=0)
            assert len(tree.steps(path)) == candidate.depth - before
            assert path in tree.states
            assert len(candidate.step) > 0 or candidate.step.finish is Finish.PAUSE, f"{path} is empty"
        for key, request in ran.generator.asked:
            if world.names[key] == tree.question.id:
                _asks_for_its_paths(request, tree)


def _asks_for_its_paths(request: Extend, tree: Tree) -> None:
    for row in request.rows:
        assert row.seed == seed_of(tree.seed, tree.question.id, row.path), "a seed is not its path's"
        if request.prompt is not None:
            assert row.prefix == rendered(request.prompt), "a prefix is not its prompt's tokens"
            assert row.limit <= tree.tokens_limit
            continue
        assert row.prefix == tree.tokens(parent_of(row.path)), "a prefix is not its parent's tokens"
        assert tree.length(parent_of(row.path)) + row.limit <= tree.tokens_limit


def states_agree_with_steps(strategy: Strategy, world: World) -> None:
    """A state other than the one a candidate was born in has a cause, and an expanded candidate was not dropped."""
    for tree, choice in world.run(strategy).choices():
        rollouts = {path for path, state in tree.states.items() if state == (State.PRUNED, "lookahead")}
        expanded = {parent_of(path) for path in tree.candidates if path not in rollouts and path not in tree.prompts} - {ROOT}
        for path, (state, cause) in tree.states.items():
            assert state is State.LIVE or cause, f"{path} is {state} without a cause"
            assert path not in expanded or state is State.LIVE, f"{path} is {state} and was expanded"
        assert choice.path is None or tree.states[choice.path][0] is State.FINISHED


def what_is_dropped_stays_dropped(strategy: Strategy, world: World) -> None:
    """The generator is told of every candidate that was pruned or merged, once, before it is asked for more; nothing is
    asked for below one, so that its memory was freed for good."""
    for name in world.names:
        tree = world.tree(name)
        gone: list[str] = []
        for request, _ in by_hand(strategy, tree, world):
            if not isinstance(request, Extend):
                continue
            gone += request.dropped
            marked = [path for path, (state, _) in tree.states.items() if state in (State.PRUNED, State.MERGED)]
            assert sorted(gone) == sorted(marked), "what was dropped is not what was marked"
            assert set(gone) <= set(tree.candidates), "what was never there was dropped"
            for row in request.rows:
                assert not set(gone) & set(lineage(row.path)), f"{row.path} is asked for below what was dropped"


def a_failure_stays_alone(strategy: Strategy, world: World) -> None:
    """Where the verifier fails at one problem, that search ends with the error and the others are as ever."""
    well = world.run(strategy)
    if not well.verifier.seen:
        return
    bad = world.names[1]
    ran = replace(world, judge=failing([bad], world.judge)).run(strategy)
    for name in world.names:
        if name == bad:
            assert ran.outcomes[name].choice is None
            assert "cannot judge" in ran.outcomes[name].error
        else:
            assert recorded(ran.outcomes[name]) == recorded(well.outcomes[name]), "a failure spreads"
    assert not ran.generator.busy, "a failed search left a request behind"


def an_invalid_score_never_wins(strategy: Strategy, world: World) -> None:
    """Stored scores are in [0, 1] or absent with a reason; what has an absent one is not chosen, but where texts vote whatever
    was made of them (`texts_vote`): there a score is no merit."""
    for judge in (world.judge, always_nan):
        ran = replace(world, judge=judge).run(strategy)
        for tree, choice in ran.choices():
            for path, score in tree.scores.items():
                assert score.value is None or (math.isfinite(score.value) and 0 <= score.value <= 1), f"{score}"
                assert score.value is not None or score.reason, f"{path} has no score and no reason"
            won = tree.scores.get(choice.path) if choice.path else None
            votes = getattr(strategy, "texts_vote", False)
            assert votes or won is None or won.value is not None, "an invalid score won"


def a_choice_is_true(strategy: Strategy, world: World) -> None:
    """The chosen candidate is finished, gave the chosen answer, and the votes say the same."""
    chosen = 0
    for tree, choice in world.run(strategy).choices():
        assert choice.reason
        assert (choice.path is None) == (choice.answer is None), f"half a choice: {choice}"
        if choice.path is None:
            continue
        chosen += 1
        assert tree.candidates[choice.path].finished, "an unfinished candidate is chosen"
        assert tree.answer(choice.path).key == choice.answer, "the answer is not the chosen candidate's"
        assert [vote.answer for vote in choice.votes][:1] == [choice.answer], "the votes say another answer"
        assert [v.weight for v in choice.votes] == sorted((v.weight for v in choice.votes), reverse=True)
        assert sum(v.count for v in choice.votes) <= len(tree.candidates)
    assert chosen, "nothing was chosen anywhere, so this shows nothing"


def nothing_finished_is_nothing_chosen(strategy: Strategy, world: World) -> None:
    """Where no solution ends, or the budget ends it, there is no choice, and a reason."""
    siblings = {"small": never_ending}
    endless = replace(world, generator=lambda **batching: world.generator(never_ending, siblings=siblings, **batching))
    for place in (endless, replace(world, budget=Budget(tokens=2))):
        for tree, choice in place.run(strategy).choices():
            assert not any(c.finished for c in tree.candidates.values())
            assert choice.path is None, "something was chosen of nothing"
            assert choice.answer is None, "something was chosen of nothing"
            assert choice.reason, "no choice, and no reason"


def goes_on_from_its_journal(strategy: Strategy, world: World) -> None:
    """Cut off after any number of replies and fed them again, a search ends as it would have, to the last bit; nothing that
    was answered is asked for again, and the journal is whole in the end."""
    journal = Memory()
    well = world.run(strategy, journal=journal)
    longest = max(map(len, journal.kept.values()))
    total = sum(map(len, journal.kept.values()))
    for cut in {0, 1, longest // 2, longest - 1, longest}:
        again = journal.first(cut)
        before = sum(map(len, again.kept.values()))
        ran = world.run(strategy, batching=BATCHINGS[1], journal=again)
        for name in world.names:
            assert recorded(ran.outcomes[name]) == recorded(well.outcomes[name]), f"after {cut} replies it is another search"
        assert again.replayed == before, "what was stored was not all replayed"
        left = [request for kept in journal.kept.values() for request, _ in kept[cut:]]
        assert len(ran.generator.asked) == sum(isinstance(request, Extend) for request in left), "generated again"
        judged = sum(len(request.paths) for request in left if isinstance(request, Verify))
        assert len(ran.verifier.seen) == judged, "judged again"
        embedded = sum(len(request.paths) for request in left if isinstance(request, Embed))
        assert len(ran.encoder.seen) == embedded, "embedded again"
        assert sum(map(len, again.kept.values())) == total


def a_strategy_is_a_constant(strategy: Strategy, world: World) -> None:
    """A frozen dataclass with values for fields, the same after a run as before."""
    assert is_dataclass(strategy), "a strategy is a dataclass"
    before, memory = repr(asdict(strategy)), repr(sorted(vars(strategy).items()))
    for _ in world.run(strategy).choices():
        pass
    assert repr(asdict(strategy)) == before, "a strategy changed itself"
    assert repr(sorted(vars(strategy).items())) == memory, "a strategy remembers"
    hash(strategy)  # all its fields are values
    for each in fields(strategy):
        try:
            setattr(strategy, each.name, getattr(strategy, each.name))
        except AttributeError:
            continue
        raise AssertionError(f"{each.name} can be set")


def a_reference_is_out_of_reach(strategy: Strategy, world: World) -> None:
    """At every request, nothing that the running search holds leads to the reference answer."""
    tree = world.tree(world.names[0], REFERENCE)
    for request, running in by_hand(strategy, tree, world):
        found = trail(REFERENCE, strategy, tree, running, request)
        assert found is None, f"the reference answer is in reach: {found}"


LAWS: dict[str, Callable[[Strategy, World], None]] = {
    law.__name__: law
    for law in (
        holds_its_budget,
        repeats_itself,
        does_not_mind_company,
        ties_do_not_depend_on_arrival,
        charges_every_token,
        charges_every_pass,
        every_candidate_has_its_place,
        states_agree_with_steps,
        what_is_dropped_stays_dropped,
        a_failure_stays_alone,
        an_invalid_score_never_wins,
        a_choice_is_true,
        nothing_finished_is_nothing_chosen,
        goes_on_from_its_journal,
        a_strategy_is_a_constant,
        a_reference_is_out_of_reach,
    )
}


def selection_does_not_mind_order(selector: Selector, pool: Sequence[Entry], shuffled: Sequence[Entry]) -> None:
    """A choice is of the pool, not of the order in which it is held."""
    assert selector(pool) == selector(shuffled), "the order of the pool decides"


# ----------------------------------------------------------------------------------------------------- running by hand


def by_hand(strategy: Strategy, tree: Tree, world: World) -> Iterator[tuple[Request, object]]:
    """Each request of a search with the running generator, before it is answered: `next`, then `send`."""
    generator, verifier = world.generator(), world.verifier(world.judge)
    running = strategy.search(tree)
    try:
        request = next(running)
        while True:
            yield request, running
            request = running.send(answered(request, generator, verifier, world.encoder()))
    except StopIteration:
        return


def answered(request: Request, generator: FakeGenerator, verifier: FakeVerifier, encoder: FakeEncoder) -> Reply:
    """The reply to one request, with nobody else there."""
    if isinstance(request, Embed):
        return Embeddings(tuple(encoder.embed(request.traces)))
    if not isinstance(request, Extend):
        return Readings(tuple(verifier.score(request.traces)))
    generator.submit(0, request)
    while True:
        for _, reply in generator.advance():
            return reply


# -------------------------------------------------------------------------------------------------- walking the objects


@dataclass
class _Walk:
    """A walk over the objects that a search can reach. Modules are not entered: any code can import anything."""

    seen: set[int] = field(default_factory=set)
    kept: list[object] = field(default_factory=list)  # so that no id is used twice

    def next_of(self, thing: object) -> list[object]:
        if isinstance(thing, ModuleType):
            return []
        if isinstance(thing, CodeType):
            return list(thing.co_consts)
        if isinstance(thing, FunctionType):
            own = [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__code__, thing.__dict__]
            return [*own, *(self._globals(thing) if thing.__module__.split(".")[0] == "search" else ())]
        if isinstance(thing, type):
            package = thing.__module__.split(".")[0]
            return list(vars(thing).values()) if package not in {*sys.stdlib_module_names, "numpy"} else []
        return gc.get_referents(thing)

    @staticmethod
    def _globals(function: FunctionType) -> list[object]:
        return [value for name, value in function.__globals__.items() if not name.startswith("__")]


def trail(needle: str, *roots: object) -> str | None:
    """The names of the types on the way to a string that holds the needle, or None where there is no way."""
    walk = _Walk()
    todo: list[tuple[object, tuple[str, ...]]] = [(root, ()) for root in roots]
    while todo:
        thing, way = todo.pop()
        if id(thing) in walk.seen or thing is None:
            continue
        walk.seen.add(id(thing))
        walk.kept.append(thing)
        here = (*way, type(thing).__name__)
        if (isinstance(thing, str) and needle in thing) or (isinstance(thing, bytes) and needle.encode() in thing):
            return " > ".join(here)
        todo += [(each, here) for each in walk.next_of(thing)]
    return None
