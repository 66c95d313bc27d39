"""The shared words: paths, seeds, joins, parameters, the RunSpec, and how a run's words become a strategy."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from fakes import END, SEPARATOR, boxed, question, step_of
from hypothesis import given
from hypothesis import strategies as st

from search.checks import one_of, positive
from search.ledger import Usage
from search.packing import rounded
from search.select import SELECTORS, Selector
from search.strategies import STRATEGIES, build, resolved
from search.strategies.astar import AStar
from search.strategies.best_of_n import BestOfN
from search.strategies.first_finish import FirstFinish
from search.tree import Tree, scored
from search.types import (
    ROOT,
    Answer,
    Budget,
    Candidate,
    Embed,
    Embedding,
    Embeddings,
    Extend,
    Extension,
    Finish,
    Join,
    Part,
    Reading,
    Readings,
    Row,
    RunSpec,
    Sampling,
    State,
    Trace,
    Until,
    Verify,
    child_of,
    depth_of,
    lineage,
    order,
    parent_of,
    seed_of,
)

PATHS = st.lists(st.integers(0, 300), max_size=6).map(lambda indices: ".".join(map(str, indices)))


@given(PATHS, st.integers(0, 300))
def test_a_path_knows_its_parent_depth_and_lineage(path: str, index: int) -> None:
    child = child_of(path, index)
    assert parent_of(child) == path
    assert depth_of(child) == depth_of(path) + 1 == len(lineage(child))
    assert lineage(child) == [*lineage(path), child]
    assert order(child) == (*order(path), index)


def test_paths_are_sorted_as_numbers_parents_first() -> None:
    assert sorted(["10", "2", "2.0", "", "1.9", "1.10"], key=order) == ["", "1.9", "1.10", "2", "2.0", "10"]
    assert (depth_of(ROOT), lineage(ROOT)) == (0, [])


def test_a_seed_is_the_address_and_nothing_else() -> None:
    """These two numbers are in stored runs: a change of them is a change of every text."""
    assert seed_of(0, "p1", "2.0.1") == 9147431229832112467
    assert seed_of(7, "p1", "2.0.1") == 8695355436958281904
    assert all(0 <= seed_of(s, "p", "0") < 1 << 63 for s in range(50))


@given(st.integers(0, 9), st.text("p|.0", max_size=4), PATHS, st.integers(0, 9), st.text("p|.0", max_size=4), PATHS)
def test_two_addresses_have_two_seeds(run: int, problem: str, path: str, run2: int, problem2: str, path2: str) -> None:
    """Also where a problem's id has the characters of a path or of the divider in it."""
    same = (run, problem, path) == (run2, problem2, path2)
    assert (seed_of(run, problem, path) == seed_of(run2, problem2, path2)) == same


# ---------------------------------------------------------------------------------------------------------------- specs

SPEC = RunSpec(
    problems=Part("word", {"n": 20}),
    generator=Part("bundled"),
    verifier=Part("prm", {"join": "min"}),
    strategy=Part("beam", {"n": 8, "keep": 4}),
    budget=Budget(tokens=2048),
)


def test_a_spec_survives_its_json() -> None:
    again = RunSpec.from_json(SPEC.json())
    assert again == SPEC
    assert again.json() == SPEC.json()
    assert again.id == SPEC.id
    assert (type(again.sampling), type(again.budget), type(again.strategy)) == (Sampling, Budget, Part)


def test_the_json_is_canonical() -> None:
    """Sorted keys and no spaces: the order in which parameters were written is not part of the run."""
    turned = replace(SPEC, strategy=Part("beam", {"keep": 4, "n": 8}))
    assert turned.json() == SPEC.json()
    assert SPEC.json() == json.dumps(json.loads(SPEC.json()), sort_keys=True, separators=(",", ":"))


def test_an_id_is_stable() -> None:
    """It is in databases and reports: changing this number orphans them."""
    assert SPEC.id == "e71fdd77826e"
    assert len(SPEC.id) == 12


def test_a_spec_from_before_an_option_of_sampling_is_read_and_keeps_its_id() -> None:
    """Options that came later are not in its JSON, and not in that of a run that leaves them off."""
    assert json.loads(SPEC.json())["sampling"] == {"min_p": 0.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    sampling = Sampling(0.8, repetition_penalty=1.1, mirostat_tau=3.0, confidence=20)
    assert json.loads(SPEC.json())["budget"] == {"candidates": None, "passes": None, "tokens": 2048}
    later = replace(SPEC, sampling=sampling, stops=("Question:",), budget=Budget(flops=1e12, seconds=0.5))
    assert RunSpec.from_json(later.json()) == later
    assert RunSpec.from_json(later.json()).id == later.id


OTHER: dict[str, list[Any]] = {
    "problems": [Part("word", {"n": 21}), Part("guess", {"n": 20}), Part("word")],
    "generator": [Part("other"), Part("bundled", {"dtype": "float32"})],
    "verifier": [Part("prm", {"join": "last"}), Part("none")],
    "strategy": [Part("beam", {"n": 8, "keep": 2}), Part("astar", {"n": 8, "keep": 4})],
    "sampling": [
        Sampling(0.7),
        Sampling(top_k=5),
        Sampling(top_p=0.9),
        Sampling(min_p=0.1),
        Sampling(repetition_penalty=1.1),
        Sampling(mirostat_tau=3.0),
        Sampling(mirostat_tau=3.0, mirostat_eta=0.2),
        Sampling(confidence=20),
        Sampling(0.0, momentum=0.2),
    ],
    "budget": [
        Budget(),
        Budget(tokens=2047),
        Budget(2048, passes=5),
        Budget(2048, candidates=5),
        Budget(2048, flops=1.0),
        Budget(2048, seconds=1.0),
    ],
    "step_tokens": [63],
    "tokens": [383],
    "seed": [1],
    "weights": ["1a2b3c4d"],
    "stops": [("Question:",)],
    "encoder": [Part("hidden")],
    "small": [Part("small")],
    "constraint": ["left"],
    "slot": ["nightly@2026-11-21T02:00:00Z"],
}


def test_the_id_changes_with_every_field() -> None:
    assert set(OTHER) == {field.name for field in fields(RunSpec)}
    ids = [SPEC.id, *(replace(SPEC, **{name: value}).id for name, values in OTHER.items() for value in values)]
    assert len(set(ids)) == len(ids)


def test_a_spec_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(SPEC, strategy=Part("astar", {"root": math.nan})).json()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Sampling(temperature=-0.1), "temperature must be between 0 and 100, not -0.1"),
        (lambda: Sampling(temperature=math.nan), "temperature must be between 0 and 100, not nan"),
        (lambda: Sampling(top_k=-1), "top_k must be 0"),
        (lambda: Sampling(top_p=0), "top_p must be above 0"),
        (lambda: Sampling(min_p=1), "min_p must be at least 0 and below 1"),
        (lambda: Sampling(repetition_penalty=0), "repetition_penalty must be above 0, not 0"),
        (lambda: Sampling(repetition_penalty=math.inf), "repetition_penalty must be above 0, not inf"),
        (lambda: Sampling(mirostat_tau=-1), r"mirostat_tau must be 0 \(off\) or more bits, not -1"),
        (lambda: Sampling(mirostat_tau=math.nan), r"mirostat_tau must be 0 \(off\) or more bits, not nan"),
        (lambda: Sampling(mirostat_eta=0), "mirostat_eta must be above 0, not 0"),
        (lambda: Sampling(confidence=-1), r"confidence must be 0 \(off\) or more tokens, not -1"),
        *(
            (lambda other=other: Sampling(mirostat_tau=3, **other), "^mirostat_tau replaces top_k, top_p and min_p")
            for other in ({"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1})
        ),
        (lambda: Budget(tokens=0), "budget of tokens must be at least 1, not 0"),
        (lambda: Budget(passes=-1), "budget of passes must be at least 1, not -1"),
        *(
            (lambda name=name, bad=bad: Budget(**{name: bad}), f"budget of {name} must be a finite number above 0, not {bad}")
            for name in ("flops", "seconds")
            for bad in (0.0, -1.0, math.inf, math.nan)
        ),
        (lambda: replace(SPEC, stops=("a", "")), "a stop string must have at least 1 character"),
        (lambda: replace(SPEC, tokens=0), "token limits must be at least 1, not 0"),
        (lambda: positive(n=1, m=0), "m must be at least 1, not 0"),
    ],
)
def test_values_out_of_range_are_refused_with_the_value(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


# ----------------------------------------------------------------------------------------------------- names to strategies


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_built_from_its_name_alone(name: str) -> None:
    assert build(Part(name)) == STRATEGIES[name]()


def test_words_become_parameters_of_the_right_type() -> None:
    built = build(Part("astar", {"k": "8", "root": "0.4", "cost": "rises", "select": "weighted", "join": "prod"}))
    assert built == AStar(k=8, root=0.4, cost="rises", select=Selector("weighted", join=Join.PROD))
    assert build(Part("first-finish", {"n": 8.0, "m": "2"})) == FirstFinish(n=8, m=2)
    assert build(Part("best-of-n", {"select": "borda", "power": "1.2"})) == BestOfN(select=Selector("borda", power=1.2))


def test_a_join_alone_goes_to_the_strategys_own_selector() -> None:
    assert build(Part("beam", {"join": "last"})) == STRATEGIES["beam"](select=Selector("best", join=Join.LAST))  # type: ignore[call-arg]


ERRORS = [
    (Part("best_of_n"), "unknown strategy 'best_of_n'; did you mean 'best-of-n'? (adadec, adaptive-consistency, "),
    (Part("qqqqqq"), "unknown strategy 'qqqqqq' (adadec, adaptive-consistency, "),
    (Part("best-of-n", {"n": 0}), "n must be at least 1, not 0"),
    (Part("best-of-n", {"n": "many"}), "best-of-n: n must be a whole number, not 'many'"),
    (Part("best-of-n", {"n": 2.5}), "best-of-n: n must be a whole number, not '2.5'"),
    (Part("best-of-n", {"n": True}), "best-of-n: n must be a whole number, not 'True'"),
    (Part("best-of-n", {"n": "inf"}), "best-of-n: n must be a whole number, not 'inf'"),
    (Part("best-of-n", {"n": None}), "best-of-n: n must be a whole number, not 'None'"),
    (Part("best-of-n", {"width": 4}), "strategy 'best-of-n' has no parameter 'width' (it takes n, select, join, power, "),
    (Part("greedy", {"n": 4}), "strategy 'greedy' has no parameter 'n' (it takes no parameters)"),
    (Part("greedy", {"join": "min"}), "strategy 'greedy' has no parameter 'join' (it takes no parameters)"),
    (Part("first-finish", {"n": 2, "m": 3}), "m must be at most n, not m=3 with n=2"),
    (Part("first-finish", {"select": "best"}), "strategy 'first-finish' has no parameter 'select' (it takes n, m)"),
    (Part("beam", {"n": 6, "keep": 4}), "n must be a multiple of keep, not n=6 with keep=4"),
    (Part("beam", {"select": "majorty"}), "unknown selector 'majorty'; did you mean 'majority'? ("),
    (Part("beam", {"join": "mim"}), "unknown join 'mim'; did you mean 'min'? (last, mean, min, prod)"),
    (Part("beam", {"select": "borda", "power": "-1"}), "power must be between 0 and 100, not -1.0"),
    (Part("beam", {"select": "borda", "power": "big"}), "borda: power must be float, not 'big'"),
    (Part("astar", {"root": "nan"}), "root must be between 0 and 1, not nan"),
    (Part("astar", {"cost": "rise"}), "unknown cost 'rise'; did you mean 'rises'? (consistent, greedy, rises)"),
]


@pytest.mark.parametrize(("part", "says"), ERRORS, ids=[str(part) for part, _ in ERRORS])
def test_a_bad_strategy_is_refused_in_one_line(part: Part, says: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as raised:
        build(part)
    assert str(raised.value).startswith(says)


def test_names_that_are_near_are_proposed_and_others_are_not() -> None:
    with pytest.raises(ValueError, match=r"^unknown tree 'elmm'; did you mean 'elm'\? \(elm, oak\)$"):
        one_of("tree", "elmm", ["oak", "elm"])
    with pytest.raises(ValueError, match=r"^unknown tree 'xyz' \(elm, oak\)$"):
        one_of("tree", "xyz", ["oak", "elm"])


def test_a_part_is_written_as_it_is_read() -> None:
    assert str(Part("beam", {"n": 8, "keep": 4})) == "beam:n=8,keep=4"
    assert str(Part("greedy")) == "greedy"


@pytest.mark.parametrize("name", SELECTORS)
def test_a_selector_is_written_by_its_name_and_join(name: str) -> None:
    assert str(Selector(name)) == name
    assert str(Selector(name, join=Join.MIN)) == f"{name} (min)"


# ----------------------------------------------------------------------------------------------------------------- trees


def grown(limit: int = 20, budget: Budget = Budget()) -> Tree:
    """A tree with an open candidate "0" of 9 tokens and a finished one "1"."""
    tree = Tree(question("q"), boxed, tokens_limit=limit, step_tokens=8, budget=budget)
    tree.candidates["0"] = Candidate("0", step_of([100] * 8 + [SEPARATOR], 1, Finish.STEP))
    tree.candidates["1"] = Candidate("1", step_of([12, END], 1, Finish.END))
    return tree


def test_a_row_may_have_what_the_solution_has_room_for() -> None:
    request = next(grown().extend(["0", ROOT], n=[2, 1]))
    assert [row.limit for row in request.rows] == [8, 8, 8]  # type: ignore[union-attr]
    assert [row.path for row in request.rows] == ["0.0", "0.1", "0"]  # type: ignore[union-attr]
    request = next(grown().extend(["0"], until=Until.END))
    assert request.rows[0].limit == 20 - 9  # type: ignore[union-attr]
    assert request.rows[0].prefix == (*question("q").tokens, *([100] * 8), SEPARATOR)  # type: ignore[union-attr]


def test_a_candidate_without_room_gets_no_row_and_takes_none_from_others() -> None:
    """With one place left, the parent that could not go on once had it, and the search ended for nothing."""
    tree = grown(limit=9, budget=Budget(candidates=1))
    request = next(tree.extend(["0", ROOT]))
    assert [row.path for row in request.rows] == ["0"]  # type: ignore[union-attr]
    assert tree.states["0"] == (State.FAILED, "token limit")


def test_where_nothing_can_be_asked_for_the_reply_is_empty_at_once() -> None:
    for asking in (grown(limit=9).extend(["0"]), grown().extend([]), grown().extend(["0"], n=0)):
        with pytest.raises(StopIteration) as ended:
            next(asking)
        assert ended.value.value == ()


def test_a_request_names_what_was_dropped_since_the_last_one_in_order_and_once() -> None:
    """A merged or pruned candidate keeps memory of the generator's until it is told."""
    tree = grown()
    zero, one = tree.candidates.values()
    tree.mark([one, zero], State.PRUNED, "below the beam")
    tree.mark([zero, one], State.MERGED, "twice")
    assert not list(tree.extend([ROOT], n=0)), "nothing is asked for, and nothing forgotten"
    assert dropped(tree) == ("1", "0")
    tree.mark([zero], State.FAILED, "no drop")
    assert dropped(tree) == ()
    tree.mark([zero], State.PRUNED, "again")
    assert dropped(tree) == ("0",)


def dropped(tree: Tree) -> tuple[str, ...]:
    request = next(tree.extend([ROOT]))
    assert isinstance(request, Extend)
    return request.dropped


def test_every_request_has_the_trees_stops() -> None:
    tree = grown()
    assert next(tree.extend([ROOT])).stops == ()  # type: ignore[union-attr]
    tree.stops = ("Q:", "\n\n\n")
    for until in Until:
        assert next(tree.extend([ROOT], until=until)).stops == ("Q:", "\n\n\n")  # type: ignore[union-attr]


def test_a_reply_of_the_wrong_kind_or_number_is_refused_and_not_charged() -> None:
    tree = grown()
    asking = tree.extend(["0"], n=2)
    next(asking)
    with pytest.raises(TypeError, match="an Extend was answered with Readings"):
        asking.send(Readings(()))
    asking = tree.extend(["0"], n=2)
    next(asking)
    with pytest.raises(ValueError, match="the generator gave 1 steps for 2 rows"):
        asking.send(Extension((step_of([1]),)))
    assert tree.usage.generated_tokens == 0
    judging = tree.verify([tree.candidates["0"]])
    next(judging)
    with pytest.raises(TypeError, match="a Verify was answered with Extension"):
        judging.send(Extension(()))


def test_the_ledger_adds_up_every_count_of_a_reply() -> None:
    usage = Usage()
    steps = (step_of([100, 101], 1, Finish.END), step_of([100], 1, Finish.CANCELLED))
    for _ in range(2):
        usage.generated(Extension(steps, 10, 20, 3, 8, 5, 2, flops=1e6, queue_seconds=0.25, seconds=0.5))
    usage.verified(Readings((Reading((0.5,), passes=1, tokens=7, flops=10.0),), 0.5, 0.25))
    usage.embedded(Embeddings((embedding(1.0), embedding(2.0)), 0.25, 0.125))
    usage.pruned_tokens = 3  # a tree's, when its search is over
    assert usage == Usage(
        generated_tokens=6,
        cancelled_tokens=2,
        pruned_tokens=3,
        sequential_tokens=4,
        prompt_tokens=20,
        cached_tokens=40,
        recomputed_tokens=6,
        drafted_tokens=16,
        accepted_tokens=10,
        small_tokens=4,
        candidates=4,
        verifier_passes=1,
        verifier_tokens=7,
        embedding_tokens=8,
        flops=2e6 + 10 + 6,
        queue_seconds=1.25,
        generate_seconds=1.0,
        verify_seconds=0.25,
        embed_seconds=0.125,
        store_seconds=0.0,
    )
    assert usage.seconds == 1.375
    elsewhere = ("store_seconds", "invalid_scores", "shared_tokens", "shared_seconds")  # by the driver, the tree, what shares
    assert all(value for name, value in usage.asdict().items() if name not in elsewhere), "not all are looked at"


def test_a_score_that_is_no_number_is_counted_and_one_that_the_budget_refused_is_not() -> None:
    tree = grown()
    judging = tree.verify(tree.candidates.values())
    asked = next(judging)
    assert isinstance(asked, Verify)
    values = [(math.nan,), (math.inf,), (1.5,), (-0.5,), ()] + [(0.5,)] * len(asked.paths)
    readings = [Reading(parts) for parts in values[: len(asked.paths) - 1]]
    refused = Reading((), reason="the budget of FLOPs is spent")
    with pytest.raises(StopIteration):
        judging.send(Readings((*readings, refused)))
    invalid = sum(not (r.parts and 0 <= r.parts[0] <= 1) for r in readings)
    assert tree.usage.invalid_scores == invalid > 0


def embedding(value: float) -> Embedding:
    return Embedding(np.array([value, 1 / 3], np.float32), tokens=4, flops=3.0)


def test_when_a_search_is_over_its_pruned_tokens_are_charged() -> None:
    tree = grown()
    zero, one = tree.candidates.values()
    tree.mark([zero], State.PRUNED, "below the beam")
    tree.mark([one], State.FINISHED, "end")
    for _ in range(2):
        tree.settle()
        assert tree.usage.pruned_tokens == 9
    tree.mark([one], State.MERGED, "twice")
    tree.settle()
    assert tree.usage.pruned_tokens == 11


def test_what_a_tree_mints_is_rounded_as_it_is_stored() -> None:
    """Else a search that goes on from its journal would not compute with the numbers it had."""
    tree, exact = Tree(question("q"), boxed), step_of([100, 101, SEPARATOR], 1, Finish.STEP)
    asking = tree.extend([ROOT])
    next(asking)
    with pytest.raises(StopIteration) as ended:
        asking.send(Extension((exact,)))
    [candidate] = ended.value.value
    [again] = rounded([exact])
    assert candidate.step.packed == again.packed
    assert candidate.step.logprobs.tolist() == again.logprobs.tolist() != exact.logprobs.tolist()


def test_a_candidate_is_embedded_once_and_its_vector_rounded() -> None:
    tree = grown()
    zero, one = tree.candidates.values()
    asking = tree.embed([zero, one, zero])
    request = next(asking)
    assert isinstance(request, Embed)
    assert request.paths == ("0", "1")
    assert [trace.steps for trace in request.traces] == [(zero.step,), (one.step,)]
    with pytest.raises(TypeError, match="an Embed was answered with Readings"):
        asking.send(Readings(()))
    asking = tree.embed([zero, one, zero])
    next(asking)
    with pytest.raises(StopIteration) as ended:
        asking.send(Embeddings((embedding(1.0), embedding(2.0))))
    vectors = ended.value.value
    assert [v.tolist() for v in vectors] == [
        [1.0, float(np.float16(1 / 3))],
        [2.0, float(np.float16(1 / 3))],
        vectors[0].tolist(),
    ]
    assert (vectors[0].dtype, tree.usage.embedding_tokens) == (np.float32, 8)
    with pytest.raises(StopIteration) as ended:
        next(tree.embed([one]))
    assert ended.value.value[0] is vectors[1]


@pytest.mark.parametrize("budget", [Budget(flops=10.0), Budget(seconds=2.0)])
def test_a_bound_in_flops_or_seconds_is_told_and_when_it_is_reached_nothing_is_asked_for(budget: Budget) -> None:
    tree = grown(budget=budget)
    tree.usage.flops, tree.usage.verify_seconds = 4.0, 0.5
    left = (6.0, None) if budget.flops else (None, 1.5)
    for asking in (tree.extend([ROOT]), tree.verify([tree.candidates["0"]])):
        request = next(asking)
        assert isinstance(request, Extend | Verify)
        assert (request.flops, request.seconds) == left
    assert not tree.spent
    assert not tree.unjudged
    tree.usage.flops, tree.usage.embed_seconds = 11.0, 1.5
    assert tree.spent
    assert tree.unjudged
    everything = list(tree.candidates.values())
    for asking in (tree.extend([ROOT]), tree.embed(everything)):
        with pytest.raises(StopIteration) as ended:
            next(asking)
        assert ended.value.value == ()
    with pytest.raises(StopIteration) as ended:
        next(tree.verify(everything))
    assert {(score.value, score.reason) for score in ended.value.value} == {(None, "the budget is spent")}


# --------------------------------------------------------------------------------------------------------------- digests

ROW = Row("0", 5, (1, 2, 3), 9)
EXTEND = Extend((ROW, replace(ROW, path="1", seed=6)), Until.STEP, Sampling())
TRACE = Trace(question("q"), ())
DIGESTED: list[Extend | Verify | Embed] = [
    EXTEND,
    replace(EXTEND, rows=(ROW,)),
    replace(EXTEND, rows=EXTEND.rows[::-1]),
    *(
        replace(EXTEND, rows=(replace(ROW, **{name: value}), EXTEND.rows[1]))
        for name, value in {"path": "2", "seed": 7, "prefix": (1, 2, 4), "limit": 8}.items()
    ),
    replace(EXTEND, rows=(replace(ROW, prefix=(1, 2)), EXTEND.rows[1])),
    replace(EXTEND, until=Until.END),
    *(replace(EXTEND, sampling=each) for each in OTHER["sampling"]),
    *(replace(EXTEND, **{name: 7}) for name in ("first", "allowance", "flops", "seconds")),
    replace(EXTEND, stops=("Q:",)),
    replace(EXTEND, stops=("Q", ":")),
    Verify(("0",), (TRACE,)),
    Verify(("0", "1"), (TRACE, TRACE)),
    Verify(("0",), (TRACE,), flops=7),
    Verify(("0",), (TRACE,), seconds=7),
    Embed(("0",), (TRACE,)),
    Embed(("1",), (TRACE,)),
]


def test_a_request_that_may_have_another_reply_has_another_digest() -> None:
    digests = [request.digest for request in DIGESTED]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)
    looked_at = {
        each.name for sampling in OTHER["sampling"] for each in fields(Sampling) if getattr(sampling, each.name) != each.default
    }
    assert looked_at == {each.name for each in fields(Sampling)}, "not all are looked at"


def test_a_digest_is_stable() -> None:
    """It is in databases: with another number, no journal could be replayed."""
    assert EXTEND.digest == "2c017f9252062d69"
    assert Verify(("0",), (TRACE,)).digest == "ed64be767e1b692e"
    assert Embed(("0",), (TRACE,)).digest == "8ebe81f51fc73fbd"


def test_what_does_not_decide_a_reply_is_not_in_the_digest() -> None:
    assert replace(EXTEND, dropped=("0.1",)).digest == EXTEND.digest
    deeper = replace(EXTEND, rows=tuple(replace(row, path=f"0.{row.path}") for row in EXTEND.rows))
    longer = replace(deeper, rows=(replace(deeper.rows[0], prefix=(1, 2, 4)), deeper.rows[1]))
    assert longer.digest == deeper.digest, "its prefix follows from the replies before"
    assert Verify(("0",), (TRACE,)).digest == Verify(("0",), (replace(TRACE, steps=(step_of([100]),)),)).digest


def test_a_candidate_is_judged_once_however_often_it_is_named() -> None:
    tree = grown()
    one = tree.candidates["0"]
    request = next(tree.verify([one, one, tree.candidates["1"]]))
    assert request.paths == ("0", "1")  # type: ignore[union-attr]


def test_an_answer_is_extracted_once_and_only_from_what_has_finished() -> None:
    seen: list[str] = []
    tree = grown()

    def extract(text: str) -> Answer:
        seen.append(text)
        return boxed(text)

    tree.extract = extract
    assert tree.answer("0").reason == "not finished (step)"
    assert tree.answer("1") == tree.answer("1")
    assert (tree.answer("1").key, seen) == ("2", ["\\boxed{2}"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.01, 1.01])
def test_a_part_that_is_no_probability_makes_the_whole_score_absent(bad: float) -> None:
    """Even where the join would not look at it."""
    score = scored("0", "fake", (bad, 0.9), "", Join.LAST)
    assert (score.value, score.parts) == (None, ())
    assert score.reason == f"invalid value {bad}"


def test_a_verifier_without_a_value_gives_a_reason_in_any_case() -> None:
    assert scored("0", "fake", (), "no final answer", Join.MIN).reason == "no final answer"
    assert scored("0", "fake", (), "", Join.MIN).reason == "the verifier gave no value"
    assert scored("0", "fake", (0.0, 1.0), "", Join.MEAN).value == 0.5


def test_a_parameter_that_a_strategy_got_later_changes_no_id_where_it_is_off() -> None:
    """The same command found its run of the version before no more, and began another."""
    before = Part("astar", {"k": 4, "cost": "consistent", "expansions": 64, "goals": 1, "root": 0.5, "select": "best"})
    assert resolved(Part("astar")) == before
    assert resolved(before) == before
    assert resolved(Part("astar", {"reopen": 0.1})).params == {**before.params, "reopen": 0.1}
    assert resolved(Part("beam")).params == {"n": 8, "keep": 4, "depth": 40, "select": "best"}


@pytest.mark.parametrize("word", ["off", "no", "False!", 2])
def test_a_switch_takes_true_or_false_and_nothing_else(word: object) -> None:
    """Any word was true, "off" and "no" among them."""
    with pytest.raises(ValueError, match=f"adaptive-consistency: parallel must be true or false, not '{word}'"):
        build(Part("adaptive-consistency", {"parallel": word}))
    assert build(Part("adaptive-consistency", {"parallel": True})).parallel is True  # type: ignore[attr-defined]
