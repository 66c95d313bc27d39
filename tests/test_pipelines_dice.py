"""The test bed of dice: its texts are functions of prefix and seed, its numbers are true, and its dial turns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fakes import FakeGenerator
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dice import (
    Dice,
    DiceGenerator,
    DiceVerifier,
    Refused,
    accuracy,
    boxed,
    dice_problems,
    is_right,
    passes,
    play,
    question_of,
    tokens,
)
from pipelines.dice.__main__ import main
from pipelines.dice.verifier import SURE
from pipelines.dice.world import ANSWER, HEAD
from search.rules import Halt, Pause, Rules
from search.strategies import build
from search.types import (
    GREEDY,
    Extend,
    Extension,
    Finish,
    Part,
    Problem,
    Row,
    Sampling,
    Step,
    Trace,
    Until,
    seed_of,
)

PROBLEMS = dice_problems(40, depth=5, spread=2)
QUESTION = question_of(PROBLEMS[0])
NOBODY = 1 << 30  # a limit that binds nobody


def rows(prefix: tuple[int, ...], count: int, limit: int = NOBODY) -> tuple[Row, ...]:
    return tuple(Row(str(i), seed_of(7, "dice", str(i)), prefix, limit) for i in range(count))


def asked(count: int = 1, prefix: tuple[int, ...] = QUESTION.tokens, until: Until = Until.END) -> Extend:
    return Extend(rows(prefix, count), until, Sampling())


def answered(request: Extend, dice: Dice = Dice()) -> Extension:
    generator = DiceGenerator(dice)
    generator.submit(0, request)
    [(_, reply)] = generator.advance()
    assert not generator.busy
    return reply


def steps(request: Extend, dice: Dice = Dice()) -> list[Step]:
    return list(answered(request, dice).steps)


def said(of: Sequence[Step]) -> list[tuple[list[int], Finish]]:
    return [(step.tokens.tolist(), step.finish) for step in of]


# --------------------------------------------------------------------------------------------- texts are functions of rows


def test_a_text_does_not_depend_on_its_company() -> None:
    """Alone, among others, first or last, in one request or in many: the classic shared random state would differ."""
    whole = asked(12)
    together = said(steps(whole))
    assert len({str(each) for each in together}) > 10
    assert [said(steps(replace(whole, rows=(row,))))[0] for row in whole.rows] == together
    assert said(steps(replace(whole, rows=whole.rows[::-1])))[::-1] == together
    generator = DiceGenerator()
    for search in reversed(range(12)):
        generator.submit(search, replace(whole, rows=(whole.rows[search],)))
    replies = dict(generator.advance())
    assert [said(replies[search].steps)[0] for search in range(12)] == together


def test_step_by_step_with_one_seed_is_the_text_written_in_one_go() -> None:
    for row in asked(20).rows:
        [whole] = steps(Extend((row,), Until.END, Sampling()))
        prefix, finish = row.prefix, Finish.STEP
        while finish is Finish.STEP:
            [step] = steps(Extend((replace(row, prefix=prefix),), Until.STEP, Sampling()))
            prefix, finish = (*prefix, *step.tokens.tolist()), step.finish
        assert prefix[len(row.prefix) :] == tuple(whole.tokens.tolist())


@pytest.mark.parametrize("given_as", ["prefix", "begin"])
def test_a_text_that_is_cut_anywhere_goes_on_as_it_would_have(given_as: str) -> None:
    """In the middle of a step too, and before the end token."""
    dice = Dice(p=0.5, recover=0.3, longer=2)
    for row in asked(6).rows:
        [whole] = steps(Extend((row,), Until.END, Sampling()), dice)
        text = tuple(whole.tokens.tolist())
        for at in range(len(text)):
            cut = replace(row, prefix=row.prefix + text[:at]) if given_as == "prefix" else replace(row, begin=text[:at])
            [rest] = steps(Extend((cut,), Until.END, Sampling()), dice)
            assert tuple(rest.tokens.tolist()) == (text[at:] if given_as == "prefix" else text)


def test_nothing_follows_the_end() -> None:
    [whole] = steps(asked())
    with pytest.raises(ValueError, match="nothing can follow"):
        answered(asked(prefix=(*QUESTION.tokens, *whole.tokens.tolist())))


def test_the_bed_stays_what_it_was() -> None:
    """Published numbers are of these problems and texts, whatever the version of Python."""
    assert PROBLEMS[0] == Problem("dice-0-0", "Take 5 right steps from 950297.", "1", "dice", {"depth": 5})
    [step] = steps(asked())
    assert step.text.split("\n\n")[:2] == ["right 5 so ", "wrong 7 so so so "]
    assert step.text.endswith("right 3 so so so \\boxed{9}")


def test_a_step_tells_its_number_and_some_steps_are_the_same() -> None:
    texts = Counter(step.text for step in steps(asked(200, until=Until.STEP), Dice(variety=3)))
    assert len(texts) == 6
    assert len({text.split()[-1] for text in texts}) > 1
    assert len({len(text.split()) for text in texts}) == 3, "token counts vary"
    assert len({step.text for step in steps(asked(200, until=Until.STEP), Dice(variety=1 << 18))}) > 195


@settings(max_examples=150, deadline=None)
@given(
    limit=st.sampled_from([1, 4, 9, 16, NOBODY]),
    first=st.none() | st.integers(1, 6),
    allowance=st.none() | st.integers(1, 160),
    halt=st.none() | st.integers(1, 6),
    until=st.sampled_from(Until),
    count=st.integers(1, 8),
    begin=st.integers(0, 3),
)
def test_stop_rules_do_what_they_do_token_by_token(
    limit: int, first: int | None, allowance: int | None, halt: int | None, until: Until, count: int, begin: int
) -> None:
    """The bed cuts rows by arithmetic; the fake generator writes the same texts in rounds."""
    rule = None if halt is None else Halt(f"{halt} ended", lambda ended: len(ended) >= halt)
    free = Extend(rows(QUESTION.tokens, count), until, Sampling())
    of = [step.tokens.tolist() for step in steps(free)]
    mine = tuple(
        replace(row, limit=limit, begin=tuple(text[: begin % len(text)][:limit]))
        for row, text in zip(free.rows, of, strict=True)
    )
    request = replace(free, rows=mine, first=first, allowance=allowance, rules=Rules(halt=rule))
    texts = {row.path: text for row, text in zip(mine, of, strict=True)}

    def language(row: Row, _: Sampling) -> Callable[[Sequence[int]], int]:
        return lambda before: texts[row.path][len(before)]

    slow = FakeGenerator(language)
    slow.submit(0, request)
    replies: list[tuple[int, Extension]] = []
    while not replies:
        replies = slow.advance()
    assert said(answered(request).steps) == said(replies[0][1].steps)


@pytest.mark.parametrize(
    "request_",
    [
        replace(asked(), sampling=Sampling(top_k=5)),
        replace(asked(), stops=("so",)),
        replace(asked(), rules=Rules(pause=Pause())),
        replace(asked(), model="small"),
    ],
    ids=["top_k", "stops", "pause", "small"],
)
def test_what_dice_have_not_is_refused(request_: Extend) -> None:
    with pytest.raises(Refused, match="dice"):
        answered(request_)


def test_the_smaller_sibling_has_its_own_odds_and_is_charged_as_such() -> None:
    generator = DiceGenerator(Dice(p=0.99), small=Dice(p=0.01))
    generator.submit(0, replace(asked(50, until=Until.STEP), model="small"))
    [(_, reply)] = generator.advance()
    assert sum("wrong" in step.text for step in reply.steps) > 40
    assert reply.small_tokens == sum(map(len, reply.steps))
    assert answered(asked()).small_tokens == 0


# ------------------------------------------------------------------------------------------------------ numbers are true


def surprise(counts: Sequence[float], expected: Sequence[float]) -> float:
    """Pearson's statistic as a normal deviate (Wilson-Hilferty): above 4 about once in 30,000."""
    statistic = sum((a - b) ** 2 / b for a, b in zip(counts, expected, strict=True))
    freedom = len(counts) - 1
    return ((statistic / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_log_probabilities_are_what_the_frequencies_say(temperature: float) -> None:
    dice = Dice(p=0.7, variety=4)
    drawn = steps(replace(asked(8000, until=Until.STEP), sampling=Sampling(temperature=temperature)), dice)
    counts = Counter(int(step.tokens[0]) for step in drawn)
    likely = {int(step.tokens[0]): float(step.drawn[0]) for step in drawn if step.drawn is not None}
    assert len(likely) == 8
    assert math.fsum(map(math.exp, likely.values())) == pytest.approx(1)
    assert abs(surprise([counts[t] for t in likely], [8000 * math.exp(ln) for ln in likely.values()])) < 4
    own = {int(step.tokens[0]): float(step.logprobs[0]) for step in drawn}
    assert math.fsum(map(math.exp, own.values())) == pytest.approx(1), "the model's own, whatever the temperature"
    assert all(not step.logprobs[1:].any() for step in drawn), "the rest of a step follows from its head"
    entropy = -math.fsum(math.exp(ln) * ln for ln in own.values())
    sure = -math.fsum(ln + math.log(8) for ln in own.values()) / 8
    assert {round(float(step.entropies[0]), 5) for step in drawn} == {round(entropy, 5)}
    assert {round(float(step.certainties[0]), 5) for step in drawn} == {round(sure, 5)}


def test_an_answer_after_a_mistake_is_as_likely_as_it_says() -> None:
    dice = Dice(p=0.3, recover=0.25)
    right, wrong = [], []
    for step in steps(asked(4000), dice):
        at = int(np.flatnonzero((step.tokens >= ANSWER) & (step.tokens < HEAD))[0])
        if "wrong" not in step.text:
            assert step.logprobs[at] == 0
            continue
        (right if boxed(step.text).key == Dice.answer_of(QUESTION) else wrong).append(math.exp(step.logprobs[at]))
    assert set(np.round(right, 5)) == {0.25}
    assert set(np.round(wrong, 5)) == {0.75}
    assert abs(surprise([len(right), len(wrong)], [0.25 * (len(right) + len(wrong)), 0.75 * (len(right) + len(wrong))])) < 4


def test_mistakes_of_one_kind_agree_on_a_wrong_answer() -> None:
    """So that a majority may err, as it may with models."""
    problem = question_of(dice_problems(1, depth=4)[0])
    answers: dict[int, set[str | None]] = {}
    for step in steps(asked(500, problem.tokens), Dice(p=0.6)):
        mistake = next((i for i, text in enumerate(step.text.split("\n\n")) if "wrong" in text), -1)
        answers.setdefault(mistake, set()).add(boxed(step.text).key)
    assert {len(found) for found in answers.values()} == {1}
    assert answers[-1] == {Dice.answer_of(problem)}
    assert all(answers[i] != answers[-1] for i in range(4))


@pytest.mark.parametrize("recover", [0.0, 0.2])
def test_the_optimum_is_the_frequency_of_success(recover: float) -> None:
    """From the start, after right steps and after a wrong one, within 4 standard errors."""
    dice, count = Dice(p=0.8, recover=recover), 3000
    question = question_of(dice_problems(1, depth=6)[0])
    verifier = DiceVerifier(dice)
    some = steps(asked(200, question.tokens, Until.STEP), dice)
    good, bad = (next(step for step in some if word in step.text) for word in ("right", "wrong"))
    for before in ((), (good,), (good, good, good), (good, bad)):
        prefix = (*question.tokens, *(token for step in before for token in step.tokens.tolist()))
        value = dice.value(6, len(before), bad in before)
        if before:
            [reading] = verifier.score([Trace(question, before)])
            assert reading.parts[-1] == value
        right = sum(boxed(step.text).key == Dice.answer_of(question) for step in steps(asked(count, prefix), dice))
        assert abs(right / count - value) <= 4 * math.sqrt(value * (1 - value) / count)


@pytest.mark.parametrize("part", [Part("best-of-n", {"n": 4}), Part("beam"), Part("astar")], ids=str)
def test_what_is_charged_is_what_was_written(part: Part) -> None:
    outcomes = play(build(part), PROBLEMS)
    written = [c.step for o in outcomes for c in o.search.tree.candidates.values()]
    assert tokens(outcomes) * len(PROBLEMS) == pytest.approx(sum(map(len, written)))
    words = sum(
        len(step.text.replace("\n\n", " | ").replace("right ", "right").replace("wrong ", "wrong").split()) for step in written
    )
    assert words + sum(step.finish is Finish.END for step in written) == sum(map(len, written))
    scores = sum(len(o.search.tree.scores) for o in outcomes)
    assert passes(outcomes) * len(PROBLEMS) == pytest.approx(scores)
    assert accuracy(outcomes) == sum(map(is_right, outcomes)) / len(PROBLEMS)


def test_problems_differ_and_their_prompts_do_not_give_the_answer_away() -> None:
    problems = dice_problems(500, seed=3, depth=6, spread=2)
    assert len({problem.prompt for problem in problems}) == len({problem.id for problem in problems}) == 500
    assert {problem.meta["depth"] for problem in problems} == {4, 5, 6, 7, 8}
    assert abs(surprise([*Counter(p.answer for p in problems).values()], [50.0] * 10)) < 4
    assert problems[:20] == dice_problems(20, seed=3, depth=6, spread=2)
    assert {p.prompt for p in problems}.isdisjoint(p.prompt for p in dice_problems(500, seed=4, depth=6, spread=2))
    with pytest.raises(ValueError, match="not a problem of dice"):
        question_of(Problem("x", "Use 3, 5, 7 to make 36.", "?"))


def test_greedy_has_one_text_whatever_the_seed() -> None:
    greedy = steps(replace(asked(10), sampling=GREEDY))
    assert len({step.text for step in greedy}) == 1
    assert all(step.drawn is not None and not step.drawn.any() for step in greedy)


# -------------------------------------------------------------------------------------------------------- the verifier


def traces(dice: Dice, count: int = 60) -> list[Trace]:
    return [Trace(q, (step,)) for q in map(question_of, PROBLEMS) for step in steps(asked(count // 4, q.tokens), dice)]


def auc(verifier: DiceVerifier, of: Sequence[Trace]) -> float:
    """The probability that a right solution is scored above a wrong one."""
    scored = [(reading.parts[-1], "wrong" not in t.steps[0].text) for t, reading in zip(of, verifier.score(of), strict=True)]
    right, wrong = ([value for value, good in scored if good is which] for which in (True, False))
    above = np.searchsorted(np.sort(wrong), right, "left") + np.searchsorted(np.sort(wrong), right, "right")
    return float(above.mean()) / 2 / len(wrong)


@pytest.mark.parametrize("kind", ["value", "step"])
def test_the_dial_turns_from_perfect_to_blind(kind: str) -> None:
    of = traces(Dice())
    found = [auc(DiceVerifier(noise=noise, kind=kind), of) for noise in (0, 1, 2, 4, 16, 1e6)]  # type: ignore[arg-type]
    assert found[0] == 1
    assert found == sorted(found, reverse=True)
    assert all(a - b > 0.02 for a, b in pairwise(found[1:-1])), found
    expected = [0.5 + 0.5 * math.erf(2 * SURE / noise / 2) for noise in (1, 2, 4)]  # two normals, 2 SURE apart
    assert found[1:4] == pytest.approx(expected, abs=0.04)
    assert found[-1] == pytest.approx(0.5, abs=0.06)


def test_a_prefix_has_one_value_wherever_it_is_met() -> None:
    """Step by step or in one go, alone or in a batch; another seed, question or order of steps gives another."""
    verifier = DiceVerifier(noise=2.0)
    question = question_of(PROBLEMS[1])
    for row in rows(question.tokens, 5):
        [whole] = steps(Extend((row,), Until.END, Sampling()))
        parts: list[Step] = []
        prefix = row.prefix
        while not parts or parts[-1].finish is Finish.STEP:
            parts += steps(Extend((replace(row, prefix=prefix),), Until.STEP, Sampling()))
            prefix = (*prefix, *parts[-1].tokens.tolist())
        [once] = verifier.score([Trace(question, (whole,))])
        assert len(once.parts) == len(Trace(question, (whole,)).texts) == len(parts)
        grown = verifier.score([Trace(question, tuple(parts[: i + 1])) for i in range(len(parts))])
        assert grown[-1].parts == once.parts
        assert all(0 <= part <= 1 for part in once.parts)
        # all but the last, whose solution is known to be right or wrong
        assert all(reading.parts == once.parts[: i + 1] for i, reading in enumerate(grown[:-1]))
        assert (once.passes, once.tokens) == (1, len(whole))
        assert replace(verifier, seed=1).score([Trace(question, (whole,))])[0].parts != once.parts


def test_a_perfect_step_verifier_says_one_until_the_first_mistake() -> None:
    for trace in traces(Dice(p=0.6)):
        [reading] = DiceVerifier(Dice(p=0.6), kind="step").score([trace])
        wrong = ["wrong" in text for text in trace.texts]
        assert reading.parts == tuple(float(not any(wrong[: i + 1])) for i in range(len(wrong)))


def test_a_bias_moves_the_logit_and_a_depth_bias_does_so_at_each_step() -> None:
    trace = next(t for t in traces(Dice()) if "wrong" not in t.steps[0].text)

    def logits(verifier: DiceVerifier) -> list[float]:
        [reading] = verifier.score([trace])
        return [math.log(part / (1 - part)) for part in reading.parts]

    plain = logits(DiceVerifier(kind="step", bias=1e-12))
    assert plain == pytest.approx([SURE] * len(plain))
    assert logits(DiceVerifier(kind="step", bias=-1.5)) == pytest.approx([SURE - 1.5] * len(plain))
    assert logits(DiceVerifier(kind="step", depth_bias=0.5)) == pytest.approx([SURE + 0.5 * (i + 1) for i in range(len(plain))])
    assert DiceVerifier(constant=0.5, noise=3.0).score([trace])[0].parts == (0.5,) * len(plain)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Dice(p=1.0), "p must be above 0 and below 1, not 1.0"),
        (lambda: Dice(recover=1.0), "recover must be at least 0"),
        (lambda: Dice(variety=0), "variety must be at least 1"),
        (lambda: Dice(longer=-1), "longer at least 0"),
        (lambda: dice_problems(3, depth=2, spread=2), "depth must be at least 1"),
        (lambda: DiceVerifier(noise=-1.0), "noise must be a finite number"),
        (lambda: DiceVerifier(constant=2.0), "constant must be between 0 and 1"),
        (lambda: DiceVerifier(kind="steps"), "did you mean 'step'"),  # type: ignore[arg-type]
    ],
)
def test_parameters_out_of_range_are_refused_in_one_line(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


# ---------------------------------------------------------------------------------------------------- the command line


def test_the_command_line_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--strategy", "beam:n=4,keep=2", "--strategy", "greedy", "--noise", "0", "3", "--problems", "5", "--depth", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[3:]] == [
        ["beam:n=4,keep=2", "0"],
        ["beam:n=4,keep=2", "3"],
        ["greedy", "0"],
        ["greedy", "3"],
    ]
    assert lines[3].split()[2] == "1.000"


def test_the_command_line_says_what_is_wrong_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--strategy", "beem"])
    assert "did you mean 'beam'" in capsys.readouterr().err
