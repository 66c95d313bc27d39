"""The fake generator follows the rules of a request as search/rules.py says: a strategy tested with it is tested at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import DIGIT, END, GOOD, SEPARATOR, FakeGenerator, question, scripted, solution, step_of, written

from search.rules import Halt, Pause, Rules, Unsure
from search.types import GREEDY, Extend, Extension, Finish, Row, Sampling, Step, Until

PREFIX = question("q").tokens


def answer(rows: Sequence[Row], fake: FakeGenerator | None = None, until: Until = Until.END, **asked: Any) -> list[Step]:
    return list(extension(rows, fake, until, **asked).steps)


def extension(rows: Sequence[Row], fake: FakeGenerator | None = None, until: Until = Until.END, **asked: Any) -> Extension:
    fake = fake or FakeGenerator()
    fake.submit(0, Extend(tuple(rows), until, asked.pop("sampling", Sampling()), **asked))
    while True:
        for _, reply in fake.advance():
            return reply


def rows(n: int = 1, limit: int = 40, begin: tuple[int, ...] = (), prefix: tuple[int, ...] = PREFIX) -> list[Row]:
    return [Row(str(i), 11 + i, prefix, limit, begin) for i in range(n)]


def script(*lengths: int) -> FakeGenerator:
    return FakeGenerator(scripted({str(i): solution(n, i % 4) for i, n in enumerate(lengths)}))


# ----------------------------------------------------------------------------------------------------------------- begin


def test_a_step_begins_with_what_it_was_given_and_goes_on_from_there() -> None:
    """Token by token it is the text of a row that has those tokens in its prefix instead."""
    begin = (GOOD, GOOD + 3)
    [given] = answer(rows(begin=begin))
    [after] = answer(rows(prefix=(*PREFIX, *begin)))
    assert given.tokens.tolist() == [*begin, *after.tokens.tolist()]
    assert given.text.startswith("good0 good3 ")


def test_given_tokens_count_towards_the_limit_and_the_allowance() -> None:
    [cut] = answer(rows(limit=3, begin=(GOOD,) * 3))
    assert (cut.finish, len(cut)) == (Finish.LENGTH, 3)
    both = answer(rows(2, begin=(GOOD,) * 3), allowance=5)
    assert [(step.finish, len(step)) for step in both] == [(Finish.BUDGET, 3), (Finish.BUDGET, 2)]


def test_a_given_token_ends_a_row_as_a_drawn_one_does() -> None:
    """A row that branches on the end token must end there, and one that is given a separator has written a step."""
    [ended] = answer(rows(begin=(GOOD, END)))
    assert (ended.finish, len(ended)) == (Finish.END, 2)
    [step] = answer(rows(begin=(GOOD, SEPARATOR)), until=Until.STEP)
    assert (step.finish, len(step)) == (Finish.STEP, 2)


# ----------------------------------------------------------------------------------------------------------------- pause


def paused(rule: Pause, n: int = 1, begin: tuple[int, ...] = (), sampling: Sampling = Sampling()) -> list[Step]:
    return answer(rows(n, begin=begin), rules=Rules(pause=rule), sampling=sampling)


def test_a_bound_of_0_pauses_at_once_with_no_token() -> None:
    [step] = paused(Pause(peek=3))
    assert (step.finish, len(step)) == (Finish.PAUSE, 0)
    assert step.ahead is not None
    assert len(step.ahead.tokens) == len(step.ahead.logprobs) == len(step.ahead.keys) == 3


def test_given_tokens_and_the_least_come_before_any_pause() -> None:
    [step] = paused(Pause(least=2), begin=(GOOD, GOOD))
    assert len(step) == 4
    assert step.tokens[:2].tolist() == [GOOD, GOOD]


def test_a_row_pauses_where_the_mean_of_its_window_first_reaches_the_bound() -> None:
    """Compared with the entropies of a row that never pauses, one by one."""
    found = {False: 0, True: 0}
    for seed in range(20):
        row = [Row("0", seed, PREFIX, 40)]
        [free] = answer(row, rules=Rules(pause=Pause(above=math.inf)))
        for window, falling in ((1, False), (1, True), (3, False), (3, True)):
            bound = 1.0 if falling else 1.6
            [step] = answer(row, rules=Rules(pause=Pause(bound, window, falling)))
            assert step.tokens.tolist() == free.tokens[: len(step)].tolist()
            means = [float(free.entropies[max(i - window + 1, 0) : i + 1].mean()) for i in range(len(free))]
            due = [i for i, mean in enumerate(means) if (mean <= bound if falling else mean >= bound)]
            assert (step.finish is Finish.PAUSE) == bool(due)
            assert not due or len(step) == due[0]
            found[falling] += bool(due)
    assert all(5 < many < 40 for many in found.values()), found


def test_what_is_told_is_a_function_of_the_prefix_and_the_likeliest_is_what_greedy_decoding_writes() -> None:
    [one, two] = paused(Pause(peek=20, least=1), 2, begin=(GOOD, SEPARATOR))
    [again] = paused(Pause(peek=20), begin=tuple(one.tokens.tolist()))
    assert one.ahead is not None
    assert two.ahead is not None
    assert again.ahead is not None
    assert one.ahead.entropy == again.ahead.entropy
    assert one.ahead.tokens.tolist() == again.ahead.tokens.tolist()
    assert one.ahead.tokens.tolist() != two.ahead.tokens.tolist()
    assert one.ahead.keys.tolist() == one.ahead.logprobs.tolist() == sorted(one.ahead.logprobs.tolist(), reverse=True)
    assert math.isclose(float(np.exp(one.ahead.logprobs).sum()), 1, abs_tol=1e-5)
    entropy = -float((np.exp(one.ahead.logprobs) * one.ahead.logprobs).sum())
    assert math.isclose(one.ahead.entropy, entropy, abs_tol=1e-5)
    [greedy] = answer(rows(begin=tuple(one.tokens.tolist())), sampling=GREEDY)
    assert greedy.tokens[len(one)] == one.ahead.tokens[0]


def test_the_gumbel_order_is_the_rows_own_and_every_token_comes_first_as_often_as_it_is_likely() -> None:
    rule = Pause(peek=20, gumbel=True, least=1)
    firsts = []
    for seed in range(400):
        [step] = answer([Row("0", seed, (*PREFIX, GOOD), 40)], rules=Rules(pause=replace(rule, least=0)))
        assert step.ahead is not None
        assert step.ahead.keys.tolist() == sorted(step.ahead.keys.tolist(), reverse=True)
        firsts.append(int(step.ahead.tokens[0]))
        likely = dict(zip(step.ahead.tokens.tolist(), np.exp(step.ahead.logprobs).tolist(), strict=True))
    for token, p in likely.items():  # 400 draws: 5 standard errors
        assert abs(firsts.count(token) / 400 - p) < 5 * math.sqrt(p * (1 - p) / 400) + 1e-9
    once, later = paused(rule), paused(replace(rule, least=2))
    assert once[0].ahead is not None
    assert later[0].ahead is not None
    assert once[0].ahead.keys.tolist() != later[0].ahead.keys.tolist()


def test_a_paused_row_leaves_the_others_running() -> None:
    steps = answer(rows(6), rules=Rules(pause=Pause(above=1.6, least=1)))
    assert {step.finish for step in steps} == {Finish.PAUSE, Finish.END}
    free = answer(rows(6))
    for step, whole in zip(steps, free, strict=True):
        assert step.tokens.tolist() == whole.tokens[: len(step)].tolist()


# ---------------------------------------------------------------------------------------------------------------- unsure


@pytest.mark.parametrize("confidence", [0, 20])
def test_a_row_ends_with_the_first_full_window_whose_mean_is_too_low(confidence: int) -> None:
    """Of the asked-for confidences, or of the certainties where none are asked for; a shorter row goes on to its end."""
    sampling, stopped = Sampling(confidence=confidence), 0
    for window, below in ((3, 1.7), (40, 100.0), (2, 3.0)):
        free = answer(rows(12), sampling=sampling)
        for step, whole in zip(
            answer(rows(12), sampling=sampling, rules=Rules(unsure=Unsure(window, below))), free, strict=True
        ):
            assert (whole.confidences is None) == (confidence == 0)
            trace = whole.certainties if whole.confidences is None else whole.confidences
            means = [float(trace[i - window : i].mean()) for i in range(window, len(trace) + 1)]
            due = [i + window for i, mean in enumerate(means) if mean < below]
            whole_first = not due or (due[0] == len(whole) and whole.finish is Finish.END)
            assert (step.finish, len(step)) == ((whole.finish, len(whole)) if whole_first else (Finish.UNSURE, due[0]))
            stopped += step.finish is Finish.UNSURE
    assert 6 < stopped < 30


# ------------------------------------------------------------------------------------------------------------------ halt


def test_a_halt_is_asked_with_what_ended_in_order_of_length_and_path_and_stops_the_rest() -> None:
    seen: list[list[int]] = []

    def decide(steps: Sequence[Step]) -> bool:
        seen.append([len(step) for step in steps])
        return len(steps) >= 3

    steps = answer(rows(5), script(7, 5, 7, 9, 12), rules=Rules(halt=Halt("three", decide)))
    assert seen == [[5], [5, 7, 7]]
    assert [step.finish for step in steps] == [Finish.END, Finish.END, Finish.END, Finish.CANCELLED, Finish.CANCELLED]
    assert [len(step) for step in steps] == [7, 5, 7, 7, 7]


def test_a_halt_is_not_asked_for_rows_that_were_cut() -> None:
    def decide(steps: Sequence[Step]) -> bool:
        raise AssertionError("nothing has ended by itself")

    steps = answer(rows(3, limit=6), script(9, 9, 12), rules=Rules(halt=Halt("never", decide)))
    assert {step.finish for step in steps} == {Finish.LENGTH}


# ----------------------------------------------------------------------------------------------------------------- marks


def test_a_mark_ends_a_step_wherever_tokens_part_it_and_stays_in_the_text() -> None:
    [step] = answer(rows(), script(8), Until.STEP, rules=Rules(marks=("0 good0 g",)))
    assert (step.finish, step.text) == (Finish.STEP, "good0 " * 3)
    [whole] = answer(rows(), script(8), Until.END, rules=Rules(marks=("0 good0 g",)))
    assert (whole.finish, len(whole)) == (Finish.END, 8)


def test_what_stood_before_the_step_is_no_part_of_a_mark() -> None:
    [step] = answer(rows(prefix=(*PREFIX, GOOD)), script(8), Until.STEP, rules=Rules(marks=("good0 good0 ",)))
    assert step.text == "good0 " * 2


# ----------------------------------------------------------------------------------------------------------------- model


def test_the_smaller_sibling_writes_other_texts_and_its_tokens_are_counted_apart() -> None:
    small, large = extension(rows(4), model="small"), extension(rows(4))
    assert [s.text for s in small.steps] != [s.text for s in large.steps]
    assert small.small_tokens == sum(map(len, small.steps))
    assert large.small_tokens == 0
    with pytest.raises(ValueError, match="there is no generator 'tiny'"):
        extension(rows(), model="tiny")


def test_a_step_without_rules_is_what_it_always_was() -> None:
    for step, row in zip(answer(rows(4)), rows(4), strict=True):
        plain = step_of(step.tokens.tolist(), row.seed, step.finish)
        assert step.ahead is None
        assert step.confidences is None
        assert step.text == "".join(map(written, step.tokens.tolist()))
        for name in ("logprobs", "certainties", "entropies"):
            assert getattr(step, name).tolist() == getattr(plain, name).tolist()
    assert written(DIGIT + 1) == "\\boxed{1}"
