"""The rules of a request (search.rules) on the real engine with the bundled model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pipelines.models import TextModel, load_generator
from pipelines.routed import Routed
from search.rules import Halt, Pause, Rules, Unsure
from search.types import GREEDY, Extend, Extension, Finish, Row, Sampling, Step, Until

QUESTION = "Use 3, 5, 7, 2 to make 24."
DRAWN = Sampling()


@pytest.fixture(scope="module")
def model() -> TextModel:
    return load_generator()


def answer(model: TextModel, *requests: Extend) -> list[Extension]:
    """The replies, all requests in one batch."""
    for search, request in enumerate(requests):
        model.engine.submit(search, request)
    found: dict[int, Extension] = {}
    while model.engine.busy:
        for search, reply in model.engine.advance():
            if isinstance(reply, Exception):
                raise reply
            found[search] = reply
    for search in range(len(requests)):
        model.engine.forget(search)
    return [found[search] for search in range(len(requests))]


def rows(model: TextModel, n: int = 1, limit: int = 120, begin: tuple[int, ...] = ()) -> tuple[Row, ...]:
    return tuple(Row(str(i), 100 + i, model.encode(QUESTION), limit, begin) for i in range(n))


def whole(model: TextModel, sampling: Sampling = GREEDY, n: int = 1) -> tuple[Step, ...]:
    return answer(model, Extend(rows(model, n), Until.END, sampling))[0].steps


def close(a: Sequence[float], b: Sequence[float]) -> bool:
    return np.allclose(a, b, rtol=0, atol=1e-4)


def test_a_row_pauses_before_the_first_token_whose_entropy_is_high_and_goes_on_from_there(model: TextModel) -> None:
    (plain,) = whole(model)
    at = 5 + int(plain.entropies[5:].argmax())
    pause = Rules(pause=Pause(above=float(plain.entropies[at]) * 0.999, least=5, peek=3))
    (step,) = answer(model, Extend(rows(model), Until.END, GREEDY, rules=pause))[0].steps
    assert step.finish is Finish.PAUSE
    assert step.tokens.tolist() == plain.tokens[:at].tolist()
    assert step.ahead is not None
    assert math.isclose(step.ahead.entropy, float(plain.entropies[at]), abs_tol=1e-4)
    assert step.ahead.tokens[0] == plain.tokens[at]  # greedy decoding takes the likeliest
    assert math.isclose(float(step.ahead.logprobs[0]), float(plain.logprobs[at]), abs_tol=1e-4)
    child = Row("0.0", 7, (*model.encode(QUESTION), *step.tokens.tolist()), 120)
    (rest,) = answer(model, Extend((child,), Until.END, GREEDY))[0].steps
    assert [*step.tokens, *rest.tokens] == plain.tokens.tolist()


def test_a_pause_at_once_gives_an_empty_step_and_is_charged_for_what_was_computed(model: TextModel) -> None:
    reply = answer(model, Extend(rows(model), Until.END, GREEDY, rules=Rules(pause=Pause(peek=2))))[0]
    (step,) = reply.steps
    assert (len(step), step.text, step.finish) == (0, "", Finish.PAUSE)
    length = len(model.encode(QUESTION))
    assert reply.prompt_tokens + reply.cached_tokens == length
    assert reply.flops == 2.0 * model.engine.parameters * reply.prompt_tokens


def test_tokens_to_begin_with_are_written_with_the_models_own_probabilities(model: TextModel) -> None:
    plain = whole(model, DRAWN, 4)[2]
    given = tuple(plain.tokens[:9].tolist())
    (step,) = answer(model, Extend(rows(model, begin=given), Until.END, GREEDY))[0].steps
    assert tuple(step.tokens[:9].tolist()) == given
    assert close(step.logprobs[:9], plain.logprobs[:9])
    assert close(step.certainties[:9], plain.certainties[:9])
    assert step.drawn is not None
    assert not step.drawn[:9].any(), "what is given was not drawn"


def test_given_tokens_count_towards_the_limit_and_may_end_the_solution(model: TextModel) -> None:
    end = min(model.engine.vocabulary.ends)
    two = Extend(rows(model, limit=2, begin=(20, 21)), Until.END, GREEDY)
    ended = Extend(rows(model, begin=(20, end)), Until.END, GREEDY)
    first, second = answer(model, two, ended)
    assert (first.steps[0].finish, len(first.steps[0])) == (Finish.LENGTH, 2)
    assert (second.steps[0].finish, len(second.steps[0])) == (Finish.END, 2)
    with pytest.raises(ValueError, match="tokens to begin with must be below"):
        answer(model, Extend(rows(model, begin=(10**6,)), Until.END, GREEDY))


def test_a_sample_without_replacement_begins_with_each_token_as_often_as_it_is_likely(model: TextModel) -> None:
    rule = Rules(pause=Pause(peek=3, gumbel=True))
    steps = answer(model, Extend(rows(model, 600), Until.END, DRAWN, rules=rule))[0].steps
    firsts = np.array([step.ahead.tokens[0] for step in steps if step.ahead])
    (likely,) = answer(model, Extend(rows(model), Until.END, DRAWN, rules=Rules(pause=Pause(peek=3))))[0].steps
    assert likely.ahead is not None
    for token, logprob in zip(likely.ahead.tokens, likely.ahead.logprobs, strict=True):
        p = math.exp(float(logprob))
        assert abs(float((firsts == token).mean()) - p) < 4 * math.sqrt(p * (1 - p) / 600)
    for step in steps:
        assert step.ahead is not None
        assert list(step.ahead.keys) == sorted(step.ahead.keys, reverse=True)


def test_a_mark_ends_a_step_wherever_it_comes_to_stand(model: TextModel) -> None:
    marked = Extend(rows(model), Until.STEP, GREEDY, rules=Rules(marks=("left", ", n")))
    (step,) = answer(model, marked)[0].steps
    assert step.finish is Finish.STEP
    assert step.text.rstrip().endswith(("left", ", n")) or "left" in step.text
    assert step.text.count("left") == 1


def test_an_unsure_row_ends_as_soon_as_its_window_is_full_and_too_low(model: TextModel) -> None:
    (plain,) = whole(model)
    means = np.convolve(plain.certainties.astype(np.float64), np.ones(6) / 6, mode="valid")
    below = float(np.sort(means)[len(means) // 4])
    at = int(np.flatnonzero(means < below)[0]) + 6
    (step,) = answer(model, Extend(rows(model), Until.END, GREEDY, rules=Rules(unsure=Unsure(6, below))))[0].steps
    assert (step.finish, len(step)) == (Finish.UNSURE, at)
    long = Rules(unsure=Unsure(len(plain) + 1, math.inf))
    (step,) = answer(model, Extend(rows(model), Until.END, GREEDY, rules=long))[0].steps
    assert step.finish is Finish.END, "a text shorter than the window goes on"


def test_a_halt_sees_the_ended_in_order_and_cancels_the_others(model: TextModel) -> None:
    lengths: list[list[int]] = []

    def decide(ended: Sequence[Step]) -> bool:
        lengths.append([len(step) for step in ended])
        return len(ended) >= 3

    free = whole(model, DRAWN, 8)
    rule = Rules(halt=Halt("three", decide))
    steps = answer(model, Extend(rows(model, 8), Until.END, DRAWN, rules=rule))[0].steps
    third = sorted(len(step) for step in free if step.finish is Finish.END)[2]
    assert all(each == sorted(each) for each in lengths)
    for step, alone in zip(steps, free, strict=True):
        if len(alone) <= third and alone.finish is Finish.END:
            assert (step.finish, step.text) == (Finish.END, alone.text)
        else:
            assert (step.finish, len(step)) == (Finish.CANCELLED, third)


def test_a_halt_that_fails_ends_its_own_request_alone(model: TextModel) -> None:
    def decide(ended: Sequence[Step]) -> bool:
        raise ZeroDivisionError("a rule's own fault")

    broken = Extend(rows(model, 8), Until.END, DRAWN, rules=Rules(halt=Halt("broken", decide)))
    model.engine.submit(0, broken)
    model.engine.submit(1, Extend(rows(model), Until.END, GREEDY))
    found: dict[int, Extension | Exception] = {}
    while model.engine.busy:
        found |= dict(model.engine.advance())
    for search in (0, 1):
        model.engine.forget(search)
    assert isinstance(found[0], ZeroDivisionError)
    assert isinstance(found[1], Extension)


def test_rules_of_one_request_do_not_touch_its_neighbours(model: TextModel) -> None:
    plain = Extend(rows(model, 3), Until.END, DRAWN)
    ruled = Extend(rows(model, 3), Until.END, DRAWN, rules=Rules(pause=Pause(above=0.3, least=2, peek=4)))
    given = Extend(rows(model, 3, begin=(24, 25)), Until.END, DRAWN)
    alone = [answer(model, each)[0] for each in (plain, ruled, given)]
    together = answer(model, plain, ruled, given)
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one.steps, other.steps, strict=True):
            assert (a.tokens.tolist(), a.finish) == (b.tokens.tolist(), b.finish)


def test_the_memory_is_given_back_after_pauses(model: TextModel) -> None:
    before = model.engine.pool.used_pages
    answer(model, Extend(rows(model, 5), Until.END, DRAWN, rules=Rules(pause=Pause(above=0.2, peek=1))))
    assert model.engine.pool.used_pages <= before + 2  # a prompt may stay published
    assert not model.engine.rows.given


def test_a_rolling_mean_pauses_where_it_falls(model: TextModel) -> None:
    (plain,) = whole(model)
    window = 5
    means = np.convolve(plain.entropies.astype(np.float64), np.ones(window) / window, mode="valid")
    below = 0.05
    at = int(np.flatnonzero(means <= below)[0]) + window - 1
    rule = Rules(pause=Pause(above=below, window=window, falling=True, least=window - 1))
    (step,) = answer(model, Extend(rows(model), Until.END, GREEDY, rules=rule))[0].steps
    assert (step.finish, len(step)) == (Finish.PAUSE, at)


def test_requests_go_to_the_generator_they_name_and_unknown_ones_are_refused(model: TextModel) -> None:
    both = Routed({"": model.engine, "small": model.engine})
    both.submit(0, Extend(rows(model), Until.END, GREEDY, model="small"))
    replies = []
    while both.busy:
        replies += both.advance()
    ((_, reply),) = [each for each in replies if each]
    both.forget(0)
    assert isinstance(reply, Extension)
    assert reply.small_tokens == sum(map(len, reply.steps)) > 0
    with pytest.raises(ValueError, match="a 'large' generator and the run has none; name it with --small"):
        both.submit(0, Extend(rows(model), Until.END, GREEDY, model="large"))


def test_the_noise_ahead_is_not_the_noise_of_the_draw(model: TextModel) -> None:
    """Were it the same, the token drawn and the order told of would go together, and a choice made of both be biased."""
    from pipelines.engine.ruling import _gumbels
    from pipelines.engine.sampler import uniforms

    noise = torch.stack([_gumbels(seed, 3, 64) for seed in range(400)])
    drawn = uniforms(torch.arange(400), torch.full((400,), 3))
    uniform = (-(-noise).exp()).exp()  # what the noise was made of
    assert abs(float(uniform.mean()) - 0.5) < 0.01
    correlations = [abs(float(torch.corrcoef(torch.stack([uniform[:, i], drawn]))[0, 1])) for i in range(64)]
    assert max(correlations) < 0.25


def test_a_question_of_the_strategys_own_is_read_alone_whatever_is_kept_of_its_parent(model: TextModel) -> None:
    """Its rows were once computed on top of what memory held under the parent's path, which is another text."""
    own = model.encode("Use 1, 2, 3 to make 6.")
    alone = answer(model, Extend((Row("0", 5, own, 60),), Until.END, GREEDY))[0].steps[0]
    engine = model.engine
    first = Extend(rows(model), Until.STEP, GREEDY)
    second = Extend((Row("0.0", 5, own, 60),), Until.STEP, GREEDY, prompt="Use 1, 2, 3 to make 6.")
    steps = []
    for request in (first, second):
        engine.submit(0, request)
        while engine.busy:
            for _, reply in engine.advance():
                assert isinstance(reply, Extension)
                steps.append(reply.steps[0])
    step = steps[1]
    assert step.tokens.tolist() == alone.tokens[: len(step)].tolist()
    engine.submit(0, Extend((Row("0.0.0", 6, (*own, *step.tokens.tolist()), 60),), Until.END, GREEDY))
    while engine.busy:
        for _, reply in engine.advance():
            assert isinstance(reply, Extension)
            assert [*step.tokens, *reply.steps[0].tokens] == alone.tokens.tolist()
    engine.forget(0)
