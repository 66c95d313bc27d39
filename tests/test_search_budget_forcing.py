"""Budget forcing: what is inserted, what is suppressed, and what the model sees in between (card K)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fakes import DIGIT, END, GOOD, SEPARATOR, FakeGenerator, constant, spelled, written
from laws import World

from search.strategies import Strategy, build
from search.strategies.budget_forcing import BudgetForcing
from search.strategies.greedy import Greedy
from search.tree import Tree
from search.types import Budget, Choice, Finish, Part, Row, Sampling, State, lineage

WAIT = "good6"
[WAITS] = spelled(WAIT)
[OVER] = spelled("good5")  # the end of thinking of the model below
CLOSING = spelled("\n\ngood4")


def thinker(overs: bool = False, steps: int = 2):  # type: ignore[no-untyped-def]
    """A model that thinks for some steps of three words after the beginning and after each wait, says its end of thinking where
    it has one, and answers with the number of waits it has read; after the closing words it answers at once."""

    def language(row: Row, _: Sampling):  # type: ignore[no-untyped-def]
        def write(said: Sequence[int]) -> int:
            text = [*row.prefix[2:], *said]
            if text and DIGIT <= text[-1] < GOOD:
                return END
            if text[-len(CLOSING) :] == [*CLOSING] or text[-1:] == [OVER]:
                return DIGIT + text.count(WAITS)
            since = text[::-1].index(WAITS) if WAITS in text else len(text)
            if since >= 4 * steps:
                return OVER if overs else DIGIT + text.count(WAITS)
            return SEPARATOR if since % 4 == 3 else GOOD

        return write

    return language


def run(
    strategy: Strategy, overs: bool = False, budget: Budget = Budget(), step_tokens: int = 10, tokens: int = 90, steps: int = 2
) -> tuple[Tree, Choice]:
    made = thinker(overs, steps)
    world = World(lambda **_: FakeGenerator(made), judge=constant, names=("q",))
    world = World(world.generator, judge=constant, names=("q",), budget=budget, step_tokens=step_tokens, tokens=tokens)
    [(tree, choice)] = world.run(strategy).choices()
    return tree, choice


def forced(waits: int = 0, **params: object) -> Strategy:
    return build(Part("budget-forcing", {"waits": waits, "text": WAIT, "closing": "good4", **params}))


def words(tree: Tree, choice: Choice) -> str:
    assert choice.path is not None
    return tree.text(choice.path)


def test_without_waits_and_cap_it_is_plain_decoding() -> None:
    one, plain = run(forced())[0], run(Greedy())[0]
    assert {p: c.step.tokens.tolist() for p, c in one.candidates.items()} == {
        p: c.step.tokens.tolist() for p, c in plain.candidates.items()
    }
    assert one.usage.generated_tokens == plain.usage.generated_tokens
    world = World(tokens=40)
    for name in world.names:
        assert world.run(BudgetForcing(waits=0)).outcomes[name].choice == world.run(Greedy()).outcomes[name].choice, (
            "and of any language"
        )


@pytest.mark.parametrize("waits", [1, 2, 3])
@pytest.mark.parametrize("overs", [False, True])
def test_as_many_waits_are_inserted_and_the_model_goes_on_from_them(waits: int, overs: bool) -> None:
    """The answer is the number of waits that the model has read; no end of thinking stands before the last wait."""
    tree, choice = run(forced(waits, end="good5" if overs else ""), overs)
    text = words(tree, choice)
    assert text.count(WAIT) == waits
    assert text.endswith(f"\\boxed{{{waits}}}")
    assert text.count("good5") == (1 if overs else 0)
    assert not overs or text.rindex(WAIT) < text.index("good5")
    assert choice.path is not None
    assert tree.candidates[choice.path].step.finish is Finish.END


def test_the_suppressed_end_is_in_no_prefix_and_the_thought_before_it_is_whole() -> None:
    """An end token inside the context would tell the model that it is done; here every prefix that was asked for is read."""
    world = World(lambda **_: FakeGenerator(thinker()), judge=constant, names=("q",), step_tokens=10, tokens=90)
    ran = world.run(forced(2))
    for _, request in ran.generator.asked:
        for row in request.rows:
            assert END not in row.prefix
            assert END not in row.begin
    [(tree, choice)] = ran.choices()
    assert choice.path is not None
    whole = [t for p in lineage(choice.path) for t in tree.candidates[p].step.tokens.tolist()]
    thought = [GOOD] * 3 + [SEPARATOR]
    assert whole[:8] == thought * 2
    assert "".join(map(written, whole)) == words(tree, choice)


def test_what_is_written_again_is_charged_again() -> None:
    """Two steps of 4, an answer step of 2 whose 1 token before the end is given again, then the wait, two steps, the answer."""
    tree, _ = run(forced(1))
    lengths = {path: len(c.step) for path, c in tree.candidates.items()}
    assert sum(lengths.values()) == tree.usage.generated_tokens == tree.usage.sequential_tokens
    assert tree.usage.generated_tokens == (4 + 4 + 2) + 1 + (1 + 4 + 4 + 2)


def test_at_the_cap_thinking_ends_and_the_model_answers() -> None:
    """8 tokens of thinking, of 40 that it would take; the closing words follow in the same text."""
    tree, choice = run(forced(cap=8, end="good5"), True, steps=10)
    assert words(tree, choice) == "good0 good0 good0 \n\n" * 2 + "good5 \n\ngood4 \\boxed{0}"
    tree, choice = run(forced(cap=6), steps=10)
    assert words(tree, choice) == "good0 good0 good0 \n\ngood0 good0 \n\ngood4 \\boxed{0}"


def test_the_cap_is_shared_by_the_waits() -> None:
    """10 tokens are gone at the first end of thinking: of a cap of 12 two words are left, then it must answer."""
    tree, choice = run(forced(3, cap=12, end="good5"), True)
    text = words(tree, choice)
    assert text.count(WAIT) == 1
    thinking = text[: text.index("good5")]
    assert len(spelled(thinking)) == 12
    assert choice.answer == "1"
    assert run(forced(3, cap=9, end="good5"), True)[1].answer == "0"


def test_an_end_of_thinking_in_other_tokens_than_the_tokenizers_is_taken_out_as_text() -> None:
    """The end is half a token: what stands before it goes on, in the tokenizer's tokens, and the half is gone."""
    tree, choice = run(forced(1, end="od0 good0 g"))
    assert words(tree, choice).startswith("good0 good6 ")
    suppressed, again = tree.candidates["0"], tree.candidates["1"]
    assert (suppressed.step.text, tree.states["0"][0]) == ("good0 good0 good0 ", State.PRUNED)
    assert (again.step.tokens.tolist(), again.step.finish) == ([*spelled("go")], Finish.PAUSE)


def test_where_a_forced_continuation_comes_to_no_end_the_last_answer_stands() -> None:
    for budget in (Budget(tokens=12), Budget(tokens=15), Budget(candidates=3), Budget(candidates=4)):
        tree, choice = run(forced(1), budget=budget)
        assert choice.answer == "0", budget
        assert tree.usage.generated_tokens <= (budget.tokens or 1000)
    assert run(forced(1), tokens=14)[1].answer == "0"


def test_thinking_that_is_cut_without_a_cap_has_no_answer() -> None:
    _, choice = run(forced(1), step_tokens=3)
    assert choice.answer is None


@pytest.mark.parametrize(
    ("params", "says"),
    [({"waits": -1}, "waits and cap must be at least 0"), ({"text": ""}, "text and closing must have at least 1 character")],
)
def test_what_budget_forcing_cannot_do_is_said(params: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(Part("budget-forcing", params))
