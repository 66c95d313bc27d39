"""Which steps become one, who speaks for them, and how what is asked of that one is dealt over all."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
from fakes import FakeEncoder, boxed, question, step_of

from search.merging import Merging, clustered, distances
from search.saying import said
from search.select import Selector, entries
from search.tree import Tree
from search.types import (
    ROOT,
    Answer,
    Ask,
    Budget,
    Candidate,
    Embed,
    Embedding,
    Embeddings,
    Extend,
    Extension,
    Finish,
    Path,
    Reading,
    Readings,
    Request,
    State,
    Step,
    Trace,
    Until,
    Verify,
)

T = TypeVar("T")

# ----------------------------------------------------------------------------------------------------------- clustering


def apart(ab: float, ac: float, bc: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([[0, ab, ac], [ab, 0, bc], [ac, bc, 0]], dtype=np.float64)


def test_average_linkage_merges_what_is_nearer_than_the_distance() -> None:
    """Card D: with .10, .16, .16 the third is .16 from the pair's mean and stays out; at .12 all are one."""
    assert clustered(apart(0.10, 0.16, 0.16), 0.15) == [[0, 1], [2]]
    assert clustered(apart(0.10, 0.12, 0.12), 0.15) == [[0, 1, 2]]


def test_the_linkages_differ_at_one_distance() -> None:
    """Card D, pitfall b: a public version with another linkage merges other steps at the same distance."""
    chain = apart(0.10, 0.19, 0.12)  # to the pair (0, 1) the third is .12, .155 and .19
    assert clustered(chain, 0.15, "single") == [[0, 1, 2]]
    assert clustered(chain, 0.15, "average") == [[0, 1], [2]]
    assert clustered(chain, 0.16, "average") == [[0, 1, 2]]
    assert clustered(chain, 0.16, "complete") == [[0, 1], [2]]


def test_at_the_distance_itself_nothing_is_merged() -> None:
    """As scikit-learn's threshold has it, which the authors use; scipy's own cut would merge."""
    assert clustered(apart(0.15, 0.15, 0.15), 0.15) == [[0], [1], [2]]
    assert clustered(apart(0.0, 0.0, 0.0), 0.0) == [[0], [1], [2]]
    assert clustered(np.zeros((1, 1)), 0.15) == [[0]]


def test_a_distance_is_one_minus_the_cosine_and_of_no_vector_the_farthest() -> None:
    """A zero vector's cosine is nan, and one nan makes scipy refuse the whole group."""
    found = distances([np.array(v, dtype=np.float32) for v in ([2, 0], [0, 3], [1, 1], [-5, 0], [0, 0], [np.inf, 1])])
    assert found[0, 1] == pytest.approx(1.0)
    assert found[0, 2] == pytest.approx(1 - 2**-0.5)
    assert found[0, 3] == pytest.approx(2.0)
    assert (found[4] == 2).all()
    assert (found[:, 5] == 2).all()
    assert clustered(found, 0.5) in ([[0, 2], [1], [3], [4], [5]], [[0], [1, 2], [3], [4], [5]])


# --------------------------------------------------------------------------------------------------- what a step says


@pytest.mark.parametrize(
    "texts",
    [
        ("7*3=21, left 5,2,21, need 24.", "3 * 7 = 21, left 21,5,2, need 24.", "21=3×7, left 2,5,21, need 24."),
        ("So in all 3 + 4 = 7.", "3+4=7", r"Then $4 + 3 = 7$"),
        (r"The answer is \boxed{(3*7)+(5-2)}", r"The answer is \boxed{5+((7*3)-2)}"),
        (r"\frac{3}{4} + 1 = 1.75", "1 + 3/4 = 1.75"),
        ("12/4/3 = 1", "12/(4*3) = 1"),
        ("No numbers  here", "no numbers here"),
        ("x = 5", "5 = x"),
    ],
)
def test_steps_that_say_the_same_are_equal(texts: Sequence[str]) -> None:
    assert len({said(text) for text in texts}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5-2=3, left 3, need 24.", "2-5=3, left 3, need 24."),
        ("12/4=3", "4/12=3"),
        ("3*7=21, left 5,2,21, need 24.", "3*7=21, left 5,3,21, need 24."),
        ("3*7=21, left 5,2,21, need 24.", "3*7=21, left 5,2,2,21, need 24."),
        ("2+2=4", "2*2=4"),
        ("3+4=7", "3+4=8"),
        ("x = 5", "y = 5"),
        ("f(2) = 5", "g(2) = 5"),
        ("(3,4)", "(4,3)"),
        ("4+5=9, 3+2=5", "4+5=3, 9+2=5"),  # numbers beside signs are no list
        ("3+4=7 on day 1", "3+4=7 on day 2"),
        ("A 10-year bond yields more", "A 10-year bond yields less"),
        (r"3+4=7, \boxed{Monday}", r"3+4=7, \boxed{Tuesday}"),
        ("2^3=8", "3^2=8"),
        ("-3+4=1", "3-4=1"),
        ("3*(4+5)=27", "3*4+5=27"),
    ],
)
def test_steps_that_say_something_else_are_not(one: str, other: str) -> None:
    assert said(one) != said(other)


@pytest.mark.parametrize("text", ["", "=", "8=", "((((", "a=(b+", "1+" * 3000, "(" * 5000, "1=" * 3000, "\\frac{1", "3^-", "²"])
def test_any_text_of_a_model_can_be_read(text: str) -> None:
    """A step is cut anywhere; what is no expression must neither raise nor take long."""
    assert isinstance(said(text), str)


# ---------------------------------------------------------------------------------------------------- a tree by hand

Told = Mapping[Path, tuple[str, Finish, float]]  # text, finish, value


def step(text: str, finish: Finish) -> Step:
    made = step_of([zlib.crc32(text.encode()) % 9000 + 10, len(text)], 0, finish)
    return Step(made.tokens, text, made.logprobs, made.certainties, made.entropies, finish)


class World:
    """Answers by the path: each text as it is told, each verification by the value told, vectors by the text."""

    def __init__(self, told: Told, vectors: Mapping[str, Sequence[float]] | None = None, **options: Any) -> None:
        self.told, self.vectors, self.asked = told, vectors or {}, list[Request]()
        self.plain = Tree(question("p"), extract=lambda text: Answer(text[-1:]), budget=options.pop("budget", Budget()))
        self.tree = Merging.over(self.plain, **{"how": "equation", **options})

    def run(self, asking: Ask[T]) -> T:
        try:
            request = next(asking)
            while True:
                self.asked.append(request)
                request = asking.send(self.reply(request))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def reply(self, request: Request) -> Any:
        if isinstance(request, Extend):
            return Extension(tuple(step(*self.told[row.path][:2]) for row in request.rows))
        if isinstance(request, Verify):
            return Readings(tuple(Reading((self.told[path][2],), passes=1) for path in request.paths))
        of = [np.array(self.vectors[trace.steps[-1].text], dtype=np.float32) for trace in request.traces]
        return Embeddings(tuple(Embedding(vector, 3) for vector in of))

    def children(self, n: int, *parents: Path) -> tuple[Candidate, ...]:
        return self.run(self.tree.extend(list(parents) or [ROOT], n=n, until=Until.STEP))

    def merged(self, children: Sequence[Candidate]) -> list[Path]:
        return [c.path for c in self.run(self.tree.merged(children))]

    def paths(self, kind: type[Request]) -> list[Path]:
        return [path for request in self.asked if isinstance(request, kind) for path in getattr(request, "paths", ())]


GO, END = Finish.STEP, Finish.END
FIRST: Told = {
    "0": ("1+2=3", GO, 0.4),
    "1": ("2+1=3", GO, 0.9),
    "2": ("2-1=1", GO, 0.5),
    "3": ("1+2=3", GO, 0.4),
    "4": ("2+1=3", END, 0.2),
    "5": ("1+2=3", END, 0.7),
}


def test_the_best_member_stands_for_its_cluster_and_finished_ones_are_apart() -> None:
    world = World(FIRST)
    assert world.merged(world.children(6)) == ["1", "2", "5"]
    assert world.tree.members("1") == ("1", "0", "3")
    assert world.tree.members("5") == ("5", "4")
    assert world.tree.members("2") == ("2",)
    assert [world.tree.value(path) for path in ("0", "1", "3", "4")] == [0.9, 0.9, 0.9, 0.7]
    assert world.plain.states["0"] == (State.LIVE, "says what 1 says")
    assert world.plain.states["3"] == (State.MERGED, "says what 1 says")
    assert world.plain.states["4"] == (State.FINISHED, "says what 5 says")


def test_a_copy_of_a_text_costs_no_second_pass_and_one_judged_for_all_costs_one_each() -> None:
    world = World(FIRST)
    world.merged(world.children(6))
    assert world.paths(Verify) == ["0", "1", "2", "4", "5"]
    world = World(FIRST, scored="one")
    assert world.merged(world.children(6)) == ["0", "2", "4"]
    assert world.paths(Verify) == []
    world.run(world.tree.verify([world.plain.candidates["0"]]))
    assert world.tree.value("1") == 0.4


def test_what_is_asked_of_a_cluster_is_dealt_over_its_members_best_first() -> None:
    """Round-robin over 1, 0, 3; the copy's share goes to the text that it repeats, whose memory the generator has."""
    below = {f"{p}.{i}": (f"{p}{i}+1=1", GO, 0.5) for p in "012" for i in range(5)}
    world = World({**FIRST, **below})
    world.merged(world.children(6))
    grown = world.children(5, "1", "2")
    assert [c.path for c in grown] == ["1.0", "0.0", "0.1", "1.1", "0.2", "2.0", "2.1", "2.2", "2.3", "2.4"]
    assert world.run(world.tree.extend(["1"], n=1))[0].path == "1.2"


def test_rows_with_a_beginning_of_their_own_are_not_dealt() -> None:
    """They go on from the one candidate whose next token they were made for."""
    world = World({**FIRST, "1.0": ("x", GO, 0), "1.1": ("y", GO, 0)})
    world.merged(world.children(6))
    grown = world.run(world.tree.extend(["1"], n=2, begins=[(5,), (6,)]))
    assert [c.path for c in grown] == ["1.0", "1.1"]


def test_children_of_any_member_are_siblings() -> None:
    """A cluster is one virtual parent (card D): what two members are continued with may say the same."""
    world = World({**FIRST, "1.0": ("3+3=6", GO, 0.1), "0.0": ("3 + 3 = 6", GO, 0.2), "2.0": ("3+3=6", GO, 0.3)})
    world.merged(world.children(6))
    assert world.merged((*world.children(2, "1"), *world.children(1, "2"))) == ["0.0", "2.0"]
    assert world.tree.members("0.0") == ("0.0", "1.0")


def test_the_same_prefix_merged_alone_has_no_virtual_parent() -> None:
    """The counter-example: with merging off, equal steps of two parents stay two."""
    world = World({**FIRST, "1.0": ("3+3=6", GO, 0.1), "0.0": ("3 + 3 = 6", GO, 0.2)}, how="text")
    world.merged(world.children(6))
    assert world.merged(world.children(1, "1", "0")) == ["1.0", "0.0"]


def test_merged_solutions_vote_each_for_itself() -> None:
    """Three found the answer, one another: after merging by vectors the three are one place, and still three votes."""
    told = {str(i): (text, END, 0.5) for i, text in enumerate(("is 7", "so 7", "gives 7", "is 8"))}
    alike = {"is 7": [1, 0.0], "so 7": [1, 0.1], "gives 7": [1, 0.05], "is 8": [0, 1.0]}
    world = World(told, alike, how="embedding")
    kept = world.merged(world.children(4))
    assert kept == ["0", "3"]
    pool = entries(world.tree, [world.plain.candidates[path] for path in kept])
    choice = Selector("majority")(pool)
    assert [(vote.answer, vote.count) for vote in choice.votes] == [("7", 3), ("8", 1)]
    assert len(entries(world.tree, [world.plain.candidates[path] for path in ("0", "1", "3")])) == 4, "one votes twice"


def test_a_merged_solution_without_a_score_votes_with_its_representatives() -> None:
    world = World(FIRST, scored="one")
    kept = world.merged(world.children(6))
    candidates = [world.plain.candidates[path] for path in kept]
    world.run(world.tree.verify(candidates))
    pool = {entry.path: entry.value for entry in entries(world.tree, candidates[2:])}
    assert pool == {"4": 0.2, "5": 0.2}


def test_what_becomes_of_a_representative_becomes_of_its_members() -> None:
    world = World({**FIRST, "1.0": ("a", GO, 0), "0.0": ("b", GO, 0)})
    world.merged(world.children(6))
    world.tree.mark([world.plain.candidates["5"]], State.PRUNED, "below the beam")
    world.tree.mark([world.plain.candidates["2"]], State.PRUNED, "below the beam")
    assert world.plain.states["4"] == (State.PRUNED, "below the beam")
    world.tree.mark([world.plain.candidates["5"]], State.FINISHED, "taken back")
    assert world.plain.states["4"] == (State.FINISHED, "taken back")
    world.tree.mark([world.plain.candidates["1"]], State.PRUNED, "below the beam")
    assert world.plain.states["0"] == (State.MERGED, "says what 1 says")


def test_the_generator_is_not_told_to_forget_a_member_that_may_be_expanded() -> None:
    """`mark` with merged frees its memory; what is expanded after that is computed again, and charged."""
    below = {f"{p}.{i}": ("z", GO, 0.5) for p in "012" for i in range(5)}
    world = World({**FIRST, **below})
    world.merged(world.children(6))
    world.children(3, "1")
    [_, request] = [request for request in world.asked if isinstance(request, Extend)]
    assert request.dropped == ("3",)


def test_an_invalid_value_merges_into_nothing() -> None:
    """It would else be chosen with the value of another."""
    world = World({"0": ("1+2=3", END, float("nan")), "1": ("2+1=3", END, 0.5)})
    assert world.merged(world.children(2)) == ["0", "1"]
    assert world.tree.members("1") == ("1",)


def test_only_what_has_a_sibling_is_embedded_and_no_budget_is_no_merging() -> None:
    """A vector of an only child tells nothing and costs the same."""
    vectors = {"a": [1.0, 0], "b": [1.0, 0.1], "c": [0.0, 1]}
    told = {"0": ("a", GO, 0.5), "1": ("b", GO, 0.6), "2": ("c", END, 0.7)}
    world = World(told, vectors, how="embedding")
    assert world.merged(world.children(3)) == ["1", "2"]
    assert world.paths(Embed) == ["0", "1"]
    assert world.plain.usage.embedding_tokens == 6
    poor = World(told, vectors, how="embedding", budget=Budget(seconds=1e9))
    children = poor.children(3)
    poor.run(poor.tree.verify(children))
    poor.plain.usage.generate_seconds = 2e9
    assert poor.merged(children) == ["0", "1", "2"]


def test_the_view_writes_into_the_record_of_the_search() -> None:
    """The driver charges, settles and stores the tree it was given, not the view."""
    world = World(FIRST)
    world.merged(world.children(6))
    world.plain.settle()
    assert len(world.plain.candidates) == 6
    assert world.plain.usage.candidates == 6
    assert world.plain.usage.verifier_passes == 5
    assert world.plain.usage.pruned_tokens == 2  # of the copy; a member is not given up
    world.tree.close()
    world.plain.settle()
    assert world.plain.usage.pruned_tokens == 4


def test_the_fake_encoder_is_an_encoder_of_the_last_step() -> None:
    """If it read the whole text, siblings would share most of it and the laws would merge by chance."""
    traces = [_trace((11, 12), (101, 5)), _trace((13, 14), (101, 5)), _trace((11, 12), (207, 5))]
    one, same, other = [embedding.vector for embedding in FakeEncoder().embed(traces)]
    assert (one == same).all()
    assert distances([one, other])[0, 1] > 0.2
    assert boxed("\\boxed{3}").key == "3"


def _trace(*steps: Sequence[int]) -> Trace:
    return Trace(question("p"), tuple(step_of(tokens) for tokens in steps))
