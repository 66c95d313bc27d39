"""FETCH around every strategy that merges: off it is that strategy, on it keeps the laws, and what is merged keeps its say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace

import pytest
from fakes import often_invalid
from laws import LAWS, World, recorded

from search.merging import Merging
from search.strategies import STRATEGIES, Strategy, build, resolved
from search.strategies.fetch import Fetch
from search.tree import Tree
from search.types import ROOT, Ask, Candidate, Choice, Part, State, parent_of

INNER: dict[str, dict[str, object]] = {
    "astar": {"k": 4, "expansions": 12, "goals": 2},
    "beam": {"n": 8, "keep": 4},
    "best-first": {"k": 4, "expansions": 12},
    "dvts": {"n": 8, "width": 4},
    "mcts": {"k": 4, "simulations": 10},
    "pg-td": {"k": 8, "simulations": 8},
    "rebase": {"n": 8},
    "rstar": {"k": 4, "simulations": 8},
}
SLOW = pytest.mark.slow
CASES = [
    *(pytest.param(Part("fetch", {"of": name, **INNER[name]}), marks=() if name == "beam" else SLOW) for name in Fetch.wraps),
    *(
        pytest.param(part, marks=SLOW)
        for part in (
            *(Part("fetch", {"of": of, "score": "one", "distance": 0.7, **INNER[of]}) for of in ("astar", "beam", "mcts")),
            Part("fetch", {"of": "beam", "how": "equation", "n": 8, "keep": 2}),
            Part("fetch", {"of": "beam", "lookahead": 1, "n": 6, "keep": 2}),
            Part("fetch", {"of": "beam", "distance": 2.0, "n": 8, "keep": 4, "select": "majority"}),
            Part("fetch", {"of": "astar", "lookahead": 1, "k": 4, "expansions": 12, "linkage": "single"}),
        )
    ),
]
WORLD = World()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("part", CASES, ids=str)
def test_fetch_keeps_every_law_around_every_strategy(part: Part, law: str) -> None:
    world = replace(WORLD, judge=often_invalid) if law == "an_invalid_score_never_wins" else WORLD
    LAWS[law](build(part), world)


@pytest.mark.parametrize("off", [{"distance": 0.0}, {"how": "text"}], ids=str)
@pytest.mark.parametrize("name", Fetch.wraps)
def test_a_fetch_that_merges_nothing_is_the_strategy_itself(name: str, off: dict[str, object]) -> None:
    """Card D's check. A view that asked for one embedding, or gave one row to another parent, would not be."""
    inner = build(Part(name, INNER[name]))
    wrapped = build(Part("fetch", {"of": name, **off, **INNER[name]}))
    plain, merged = WORLD.run(inner), WORLD.run(wrapped)
    for problem in WORLD.names:
        assert recorded(plain.outcomes[problem]) == recorded(merged.outcomes[problem])
    assert not merged.encoder.seen


@pytest.mark.parametrize("name", Fetch.wraps)
def test_every_wrapped_strategy_is_another_search_with_merging(name: str) -> None:
    """If none of its siblings were ever merged, the laws above would say nothing."""
    ran = WORLD.run(build(Part("fetch", {"of": name, "distance": 0.7, **INNER[name]})))
    causes = [cause for tree, _ in ran.choices() for _, cause in tree.states.values()]
    assert sum(cause.startswith("says what ") for cause in causes) >= 4


@pytest.mark.parametrize("name", ["astar", "beam", "mcts", "rebase"])
def test_the_members_of_a_cluster_are_expanded_and_not_the_representative_alone(name: str) -> None:
    ran = WORLD.run(build(Part("fetch", {"of": name, "distance": 0.7, **INNER[name]})))
    members = 0
    for tree, _ in ran.choices():
        parents = {parent_of(path) for path in tree.candidates} - {ROOT}
        members += sum(tree.states[path][1].startswith("says what ") for path in parents)
    assert members >= 4


@dataclass(frozen=True)
class Listening:
    """Runs a strategy and notes whether it asks its tree what is to be merged."""

    inner: Strategy
    heard: list[str]

    def search(self, tree: Tree) -> Ask[Choice]:
        heard = self.heard

        class Ear(Merging):
            def merged(self, candidates: object) -> Ask[list[Candidate]]:
                heard.append("merged")
                return super().merged(candidates)  # type: ignore[arg-type]

        return self.inner.search(Ear.over(tree, how="text"))


def test_the_strategies_that_fetch_wraps_are_those_that_merge() -> None:
    """One that asks the tree and is not in the list cannot be wrapped; one in the list that does not ask is never merged."""
    asks = set()
    for name in STRATEGIES.keys() - {"fetch"}:
        heard: list[str] = []
        WORLD.run(Listening(build(Part(name)), heard), WORLD.names[:1])
        if heard:
            asks.add(name)
    assert set(Fetch.wraps) == asks


def test_a_solution_merged_into_another_votes() -> None:
    """Merging would else take from an answer the frequency that majority counts (card D, pitfall d)."""
    part = Part("fetch", {"of": "beam", "n": 8, "keep": 8, "distance": 2.0, "select": "majority"})
    voted = merged = 0
    for tree, choice in WORLD.run(build(part)).choices():
        whole = Counter(tree.answer(p).key for p, c in tree.candidates.items() if c.finished)
        voted += sum(vote.count for vote in choice.votes)
        merged += sum(c.finished and tree.states[p][1].startswith("says") for p, c in tree.candidates.items())
        assert all(vote.count <= whole[vote.answer] for vote in choice.votes)
    assert merged > 0
    plain = WORLD.run(build(Part("beam", {"n": 8, "keep": 8, "select": "majority"})))
    assert voted > sum(vote.count for _, choice in plain.choices() for vote in choice.votes)


def test_judging_one_of_a_cluster_saves_the_passes_of_the_others() -> None:
    def passes(score: str) -> tuple[int, int]:
        ran = WORLD.run(build(Part("fetch", {"of": "beam", "score": score, "depth": 1})))
        trees = [tree for tree, _ in ran.choices()]
        firsts = sum(len({c.step.tokens.tobytes() for c in t.candidates.values() if c.open or c.finished}) for t in trees)
        return sum(tree.usage.verifier_passes for tree in trees), firsts

    (every, texts), (one, _) = passes("all"), passes("one")
    assert every == texts
    assert one < every


def test_no_strategy_has_a_parameter_of_fetchs_own() -> None:
    """Of two parameters of one name, the wrapped strategy's could not be set."""
    own = {each.name for each in fields(Fetch)}
    for name in Fetch.wraps:
        assert not own & resolved(Part(name)).params.keys()


def test_what_is_not_fetchs_own_goes_to_the_strategy_it_wraps() -> None:
    part = resolved(Part("fetch", {"of": "astar", "k": 3, "how": "equation", "select": "weighted", "join": "mean"}))
    assert part.params["k"] == 3
    assert (part.params["how"], part.params["select"], part.params["join"]) == ("equation", "weighted", "mean")
    assert resolved(part) == part
    built = build(part)
    assert isinstance(built, Fetch)
    assert built.inner == build(Part("astar", {"k": 3, "select": "weighted", "join": "mean"}))


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"of": "best-of-n"}, "unknown strategy for fetch 'best-of-n'"),
        ({"of": "fetch"}, "unknown strategy for fetch 'fetch'"),
        ({"of": "bean"}, "did you mean 'beam'?"),
        ({"of": "beam", "k": 3}, r"strategy 'beam' has no parameter 'k' \(it takes n, keep, .*; fetch itself takes of, how, "),
        ({"of": "beam", "n": 7}, "n must be a multiple of keep, not n=7 with keep=4$"),
        ({"how": "sound"}, "unknown how 'sound'"),
        ({"linkage": "ward"}, "unknown linkage 'ward'"),
        ({"score": "none"}, "unknown score 'none'"),
        ({"distance": 2.1}, "distance must be between 0 and 2, not 2.1"),
        ({"distance": "near"}, "fetch: distance must be float, not 'near'"),
        ({"inner": "beam"}, "strategy 'beam' has no parameter 'inner'"),
    ],
)
def test_words_that_cannot_be_are_refused_in_one_line(params: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        build(Part("fetch", params))
    assert "\n" not in str(refused.value)


def test_an_encoder_is_needed_only_where_vectors_decide() -> None:
    assert Fetch().needs_encoder
    assert not Fetch(how="equation").needs_encoder
    assert not Fetch(distance=0.0).needs_encoder


def test_a_member_that_is_never_expanded_is_merged_in_the_end() -> None:
    """While it may be expanded the generator keeps its memory; after the search nobody may take it for an open end."""
    for tree, _ in WORLD.run(build(Part("fetch", {"of": "beam"}))).choices():
        parents = {parent_of(path) for path in tree.candidates}
        for path, (state, cause) in tree.states.items():
            if cause.startswith("says what ") and tree.candidates[path].open:
                assert (state is State.LIVE) == (path in parents)
