"""Best-first search is A* without a cost of the way, and says so in every bit."""

from __future__ import annotations

from dataclasses import fields

import pytest
from fakes import by_text, perfect
from laws import World, recorded
from plays import ends, searched, word

from search.select import Selector
from search.strategies.astar import AStar
from search.strategies.best_first import BestFirst


@pytest.mark.parametrize("judge", [by_text, perfect])
def test_it_is_astar_with_the_greedy_cost(judge: object) -> None:
    world = World(tokens=40, judge=judge)  # type: ignore[arg-type]
    for given in ({}, {"k": 2, "goals": 2, "select": Selector("weighted")}, {"pops": 3, "frontier": 4, "lookahead": 1}):
        mine, its = world.run(BestFirst(**given)), world.run(AStar(cost="greedy", **given))  # type: ignore[arg-type]
        for name in world.names:
            assert recorded(mine.outcomes[name]) == recorded(its.outcomes[name])


def test_a_parameter_that_both_have_has_one_default() -> None:
    its = {each.name: each.default for each in fields(AStar)}
    assert all(its[each.name] == each.default for each in fields(BestFirst))


def test_it_forgets_the_way_and_stops_when_the_best_is_a_solution() -> None:
    """A fall to .3 and a rise to .7: A* would expand the .6 that never fell; here the .7 is the best there is."""
    texts = {"0": word(0), "1": word(1), "0.0": word(2), "0.1": word(3), "1.0": ends(1), "1.1": word(4)}
    rewards = {"0": 0.65, "1": 0.6, "0.0": 0.3, "0.1": 0.2, "1.0": 0.7, "1.1": 0.1}
    _, choice, asked = searched(BestFirst(k=2), texts, rewards)
    assert asked == [("0", "1"), ("0.0", "0.1"), ("1.0", "1.1")]
    assert choice.path == "1.0"
    _, choice, asked = searched(BestFirst(k=2), {"0": ends(1), "1": word(1)}, {"0": 0.6, "1": 0.5})
    assert (choice.path, asked) == ("0", [("0", "1")])


def test_bad_parameters_are_refused_when_it_is_built() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        BestFirst(k=0)
    with pytest.raises(ValueError, match="pops must be at least 1, not 0"):
        BestFirst(pops=0)
