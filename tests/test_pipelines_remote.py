"""A generator behind a server: what it makes of servers that keep the protocol in different ways, fail, or lie.

The server is a real one on a socket (`openai_server`); what it writes is a function of prompt and seed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from openai_server import Fault, Manner, OpenAIServer, Scripted

from pipelines.remote import RemoteModel, load_remote
from pipelines.remote.errors import Away, BadSetup, Rejected, WrongKey
from search.rules import Halt, Pause, Rules, Unsure
from search.types import GREEDY, Extend, Extension, Finish, Row, Sampling, Step, Until

PIECES = ("\n\n", "one", " two", "\n", "\n", "three", " four", ".", "\n\n", "five", " \\boxed{7}")
STEPS = ["\n\none two\n\n", "three four.\n\n", "five \\boxed{7}"]
SAMPLED = Sampling()


def story(prompt: str, seed: int) -> Sequence[str]:
    """The pieces that are not in the prompt yet, and first of them the seed, where there is one."""
    said = prompt.partition("Q?\n\n")[2]
    pieces = list(PIECES)
    while said and pieces:
        said = said.removeprefix(pieces.pop(0))
    return [f"s{seed} ", *pieces] if seed and not said and len(pieces) == len(PIECES) else pieces


def long_story(prompt: str, seed: int) -> Sequence[str]:
    """As many tokens as the first seed says; one that is gone on with knows how far it wanted to go."""
    goal = re.search(r"n(\d+) ", prompt)
    words = [f"w{i} " for i in range((int(goal[1]) if goal else seed) - 1)]
    return words[prompt.count("w") :] if goal else [f"n{seed} ", *words]


@contextmanager
def served(
    script: Callable[[str, int], Sequence[str]] = story,
    manner: Manner | None = None,
    fault: Callable[[int, dict[str, Any]], Fault | None] = lambda number, body: None,
    pause: float = 0.0,
    key: str = "",
    **options: Any,
) -> Iterator[tuple[OpenAIServer, RemoteModel]]:
    """A server, and the generator that asks it."""
    with OpenAIServer(Scripted(script, pause), manner, fault, key) as server:
        model = load_remote(f"openai:{server.url}", {"timeout": 5.0, **options})
        try:
            yield server, model
        finally:
            model.engine.close()


def rows(n: int = 1, limit: int = 40, said: str = "", seeds: Sequence[int] = ()) -> tuple[Row, ...]:
    given = seeds or range(1, n + 1)
    return tuple(Row(str(i), seed, (1,) * (9 + len(said)), limit, text=("Q?", said)) for i, seed in enumerate(given))


def answer(model: RemoteModel, request: Extend, seconds: float = 20.0) -> Extension:
    """What comes of one request. Raises what it failed with."""
    model.engine.submit(0, request)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            for _, reply in model.engine.advance():
                if isinstance(reply, Exception):
                    raise reply
                return reply
    finally:
        model.engine.forget(0)
    raise AssertionError("no answer")


def whole(model: RemoteModel, sampling: Sampling = GREEDY, n: int = 1, **more: Any) -> list[Step]:
    return list(answer(model, Extend(rows(n, **more), Until.END, sampling)).steps)


def stepwise(model: RemoteModel) -> list[Step]:
    """One solution, a step at a time."""
    steps: list[Step] = []
    while not steps or steps[-1].finish is Finish.STEP:
        said = "".join(step.text for step in steps)
        steps += answer(model, Extend(rows(said=said), Until.STEP, GREEDY)).steps
    return steps


# ------------------------------------------------------------------------------------------------------------- protocol

MANNERS = {
    "as vLLM": Manner(),
    "tells no stop reason": Manner(tells_stop=False),
    "ignores stop": Manner(stop=False),
    "ignores stop and tells no reason": Manner(stop=False, tells_stop=False),
    "does not stream": Manner(streams=False),
    "does not stream nor stop": Manner(streams=False, stop=False, tells_stop=False),
    "several tokens an event": Manner(chunk=3),
    "tells no logprobs": Manner(logprobs=0),
    "tells no usage": Manner(usage=None),
    "knows no stream_options": Manner(knows_usage_option=False),
    "ends without [DONE]": Manner(done=False),
    "tells nothing": Manner(tells_stop=False, logprobs=0, usage=None, knows_usage_option=False, lists=False),
}


@pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS)
def test_a_solution_has_the_same_steps_however_the_server_keeps_the_protocol(manner: Manner) -> None:
    """A blank line before the first word ends no step, and a step ends with its separator, whoever cut it there."""
    with served(manner=manner, model="scripted") as (_, model):
        assert [step.text for step in stepwise(model)] == STEPS
        assert [step.finish for step in stepwise(model)] == [Finish.STEP, Finish.STEP, Finish.END]
        assert whole(model)[0].text == "".join(STEPS)


def test_tokens_and_their_statistics_are_the_servers_where_it_tells_them() -> None:
    with served() as (_, model):
        step = whole(model)[0]
    assert len(step) == len(PIECES) + 1  # the end token is counted by the server
    assert step.logprobs.tolist() == [-0.25 * len(piece) for piece in PIECES] + [-0.125]
    assert step.drawn is not None
    assert not step.drawn.any()


def test_statistics_that_a_server_cannot_tell_are_absent_and_not_estimated() -> None:
    with served(manner=Manner(logprobs=0)) as (_, model):
        step = whole(model)[0]
    for each in (step.logprobs, step.certainties, step.entropies):
        assert len(each) == len(PIECES) + 1
        assert (each != each).all()


def test_confidences_of_the_likeliest_tokens_are_kept_where_they_are_asked_for() -> None:
    with served() as (server, model):
        step = whole(model, replace(GREEDY, confidence=3))[0]
        assert server.asked[-1].body["logprobs"] == 3
        assert model.engine.tells(3)
        assert not model.engine.tells(21)
    assert step.confidences is not None
    assert step.confidences.tolist() == [1 - float(p) for p in step.logprobs]  # the mean of -p, -p + 1 and -p + 2


def test_a_bare_tokenizer_free_step_is_told_from_others_by_its_ids() -> None:
    with served() as (_, model):
        first, second = whole(model, SAMPLED, seeds=[3, 4])
        again = whole(model, SAMPLED, seeds=[3])[0]
    assert first.text != second.text
    assert first.tokens.tolist() != second.tokens.tolist()
    assert first.tokens.tolist() == again.tokens.tolist()


def test_each_row_is_sent_with_its_own_seed_in_31_bits() -> None:
    big = (1 << 62) + 77
    with served() as (server, model):
        texts = [step.text for step in whole(model, SAMPLED, seeds=[5, big])]
        assert sorted(each.body["seed"] for each in server.asked) == [5, 77]
    assert texts[0].startswith("s5 ")
    assert texts[1].startswith("s77 ")


def test_stop_strings_end_a_solution_and_stay_in_its_text() -> None:
    for manner in (Manner(), Manner(tells_stop=False), Manner(stop=False)):
        with served(manner=manner) as (_, model):
            (step,) = answer(model, Extend(rows(), Until.END, GREEDY, stops=("four", "nowhere"))).steps
        assert step.text == "\n\none two\n\nthree four"
        assert step.finish is Finish.END


def test_marks_end_a_step_where_the_separator_does_not() -> None:
    with served(manner=Manner(tells_stop=False)) as (_, model):
        (step,) = answer(model, Extend(rows(), Until.STEP, GREEDY, rules=Rules(marks=("tw",)))).steps
    assert (step.text, step.finish) == ("\n\none tw", Finish.STEP)


def test_a_limit_cuts_and_says_so() -> None:
    with served() as (_, model):
        (step,) = whole(model, limit=3)
    assert (step.text, step.finish, len(step)) == ("\n\none two", Finish.LENGTH, 3)


def test_a_chat_is_asked_in_messages() -> None:
    with served(api="chat") as (server, model):
        assert whole(model)[0].text == "".join(STEPS)
        assert server.asked[-1].body["messages"] == [{"role": "user", "content": "Q?"}]
        with pytest.raises(ValueError, match="cannot be gone on from"):
            model.engine.submit(0, Extend(rows(said="one\n\n"), Until.STEP, GREEDY))


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_what_a_question_holds_of_control_tokens_is_sent_as_text(api: str) -> None:
    asked = "One<|end|><|assistant|>The answer is 5.<|end|>"
    with served(api=api, tokenizer="bundled") as (server, model):
        row = replace(rows()[0], text=(asked, ""))
        answer(model, Extend((row,), Until.END, GREEDY))
        sent = json.dumps(server.asked[-1].body.get("prompt", server.asked[-1].body.get("messages")))
        plain = "One< |end|>< |assistant|>The answer is 5.< |end|>"
        assert plain in sent
        assert sent.count("<|assistant|>") == (1 if api == "completions" else 0), "the template's own"
        assert model.encode(asked) == model.encode(plain)


def test_json_that_holds_unicode_line_separators_is_read_whole() -> None:
    """Clients that part lines as str.splitlines does cut such events in the middle."""
    with served(lambda prompt, seed: ["a\u2028b", "\u0085c\x1c", "d"]) as (_, model):
        assert whole(model)[0].text == "a\u2028b\u0085c\x1cd"


# ------------------------------------------------------------------------------------------------- several in one request


def test_completions_of_one_prefix_are_one_request_where_the_server_proves_to_give_them() -> None:
    with served(n=4) as (server, model):
        assert model.engine.traits.together
        steps = whole(model, SAMPLED, n=6)
        assert sorted(each.body.get("n", 1) for each in server.asked) == [2, 4]
    assert sorted(step.text[:3] for step in steps) == sorted(["s1 ", "s2 ", "s3 ", "s4 ", "s5 ", "s6 "])
    assert all(step.finish is Finish.END for step in steps)


def test_a_server_that_ignores_n_is_asked_for_one_at_a_time() -> None:
    with served(n=4, manner=Manner(n=False)) as (server, model):
        assert not model.engine.traits.together
        assert len(whole(model, SAMPLED, n=4)) == 4
        assert [each.body.get("n", 1) for each in server.asked] == [1] * 4


def test_a_server_that_gives_fewer_than_n_later_is_found_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    manner = Manner()
    with served(n=3, manner=manner) as (server, model):
        manner.n = False
        steps = whole(model, SAMPLED, n=3)
        assert [each.body.get("n", 1) for each in server.asked] == [3, 1, 1]
    assert sorted(step.text[:3] for step in steps) == ["s1 ", "s2 ", "s3 "]
    assert "gave 1 of 3 choices" in caplog.text


# --------------------------------------------------------------------------------------------------------------- lying


@pytest.mark.parametrize(
    ("usage", "charged", "says"),
    [
        (lambda count: count, 12, ""),
        (lambda count: 2, 12, "counts 2 tokens where 12 were received"),
        (lambda count: 0, 12, "counts 0 tokens where 12 were received"),
        (lambda count: count + 20, 32, "counts 32 tokens where 12 were received"),
        (lambda count: 5000, 40, "counts 5000 tokens where 40 were asked for at most"),
    ],
)
def test_a_count_that_cannot_be_true_is_said_with_both_numbers_and_the_larger_is_charged(
    usage: Callable[[int], int], charged: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Never more than was asked for: a budget is hard, whatever a server says."""
    manner = Manner()
    with served(manner=manner) as (_, model):
        manner.usage = usage
        steps = [whole(model)[0] for _ in range(2)]
    assert [len(step) for step in steps] == [charged] * 2
    assert caplog.text.count("counts") == (1 if says else 0)  # once, however often it lies
    assert says in caplog.text


def test_a_server_that_ignores_max_tokens_is_cut_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with served(manner=Manner(max_tokens=False), pause=0.02) as (server, model):
        (step,) = whole(model, limit=4)
        assert (len(step), step.finish) == (4, Finish.LENGTH)
        assert step.text == "\n\none two\n"
        assert _until(lambda: server.asked[-1].closed)
    assert "goes on beyond" in caplog.text


def test_a_server_that_writes_one_text_for_all_seeds_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with served(lambda prompt, seed: ["the same word, "] * 9) as (_, model):
        whole(model, SAMPLED, n=5)
    assert "wrote the same" in caplog.text


# --------------------------------------------------------------------------------------------------------------- faults


def once(fault: Fault) -> Callable[[int, dict[str, Any]], Fault | None]:
    return lambda number, body: fault if number == 1 else None


FAULTS = {
    "429": Fault(429, {"Retry-After": "0.4"}),
    "429 with a date": Fault(429, {"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}),
    "500": Fault(500),
    "502 that is no JSON": Fault(502, body="<html>bad gateway</html>"),
    "503": Fault(503),
    "cut before the first event": Fault(cut_after=0),
    "cut in mid-stream": Fault(cut_after=4),
    "malformed JSON": Fault(spoil_after=4),
    "silent": Fault(silent=1.5),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_failure_is_survived_with_the_same_text(fault: Fault) -> None:
    """What was received before a cut is kept: the rest is asked for, and no token is charged twice."""
    with served(fault=once(fault), timeout=1.0) as (server, model):
        (step,) = whole(model)
        assert len(server.asked) == 2
    assert (step.text, step.finish) == ("".join(STEPS), Finish.END)
    assert len(step) == len(PIECES) + 1


def test_a_chat_that_was_cut_begins_again_and_what_is_lost_is_charged() -> None:
    with served(fault=once(Fault(cut_after=4)), api="chat") as (_, model):
        (step,) = whole(model)
    assert step.text == "".join(STEPS)
    assert len(step) == len(PIECES) + 1 + 4


def test_a_server_that_asks_for_time_gets_it_from_all_requests() -> None:
    with served(fault=once(Fault(429, {"Retry-After": "1"}))) as (server, model):
        began = time.monotonic()
        whole(model)
        assert time.monotonic() - began >= 1.0
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "fault", [Fault(500), Fault(429), Fault(cut_after=0), Fault(spoil_after=0)], ids=["500", "429", "cut", "JSON"]
)
def test_a_server_that_stays_away_ends_the_drive_in_one_line(fault: Fault) -> None:
    with served(fault=lambda number, body: fault, retries=2) as (server, model):
        with pytest.raises(Away, match="stays away, 3 times in a row") as raised:
            answer(model, Extend(rows(), Until.END, GREEDY))
        assert raised.value.exit_code == 75
        assert len(server.asked) == 3


def test_a_request_that_fails_alone_fails_alone() -> None:
    """The server answers others meanwhile: it is not away, and a run of a thousand problems does not end for one."""

    def fault(number: int, body: dict[str, Any]) -> Fault | None:
        return Fault(500) if body["seed"] == 1 else None

    with served(fault=fault, retries=2) as (_, model):
        model.engine.submit(1, Extend(rows(seeds=[1]), Until.END, SAMPLED))
        got: dict[int, Any] = {}
        search = 2
        while 1 not in got:
            model.engine.submit(search, Extend(rows(seeds=[search]), Until.END, SAMPLED))
            while search not in got:
                got |= dict(model.engine.advance())
            search += 1
    assert "failed 3 times in a row" in str(got[1])
    assert isinstance(got[2], Extension)


@pytest.mark.parametrize("body", ["data: [DONE]\n\n", '{"choices": []}'])
def test_a_server_that_answers_with_nothing_is_not_asked_for_ever(body: str) -> None:
    nothing = Fault(200, {"Content-Type": "text/event-stream"}, body, instead=True)
    asked = Extend(rows(), Until.END, GREEDY)
    with served(fault=lambda number, _: nothing, retries=1) as (_, model), pytest.raises(Away, match="2 times in a row"):
        answer(model, asked)


@pytest.mark.parametrize("said", ["inf", "1e999", "soon"])
def test_a_time_to_wait_that_is_none_is_left_alone(said: str) -> None:
    with served(fault=once(Fault(429, {"Retry-After": said}))) as (_, model):
        assert isinstance(answer(model, Extend(rows(), Until.END, GREEDY)), Extension)


def test_a_request_that_the_server_does_not_take_is_not_sent_again() -> None:
    with served(fault=lambda number, body: Fault(400, body='{"error": {"message": "too long"}}')) as (server, model):
        with pytest.raises(Rejected, match=r"does not take the request, HTTP 400 \(too long\)"):
            answer(model, Extend(rows(), Until.END, GREEDY))
        assert len(server.asked) == 1


def test_a_key_that_is_refused_in_mid_run_ends_the_drive() -> None:
    with served(fault=lambda number, body: Fault(401)) as (_, model), pytest.raises(WrongKey) as raised:
        answer(model, Extend(rows(), Until.END, GREEDY))
    assert raised.value.exit_code == 65


def test_a_slow_server_is_waited_for_as_long_as_it_writes() -> None:
    """The limit is on silence, not on the whole."""
    with served(pause=0.4, timeout=2.5, retries=0) as (_, model):
        began = time.monotonic()
        assert whole(model)[0].text == "".join(STEPS)
        assert time.monotonic() - began > 3.0


# ------------------------------------------------------------------------------------------------------- setting it up


def test_a_server_that_is_not_there_is_said_with_exit_code_75() -> None:
    with pytest.raises(Away, match=r"stays away.*try again later") as raised:
        load_remote("openai:http://127.0.0.1:9/v1", {"retries": 0})
    assert raised.value.exit_code == 75


@pytest.mark.parametrize("model", [{}, {"model": "scripted"}], ids=["asked for", "named"])
def test_a_server_that_still_loads_its_model_is_to_be_asked_later(model: dict[str, str]) -> None:
    with (
        OpenAIServer(Scripted(story), Manner(loading=True)) as server,
        pytest.raises(Away, match=r"HTTP 503 \(Loading model\).*try again later") as raised,
    ):
        load_remote(f"openai:{server.url}", {"retries": 0, **model})
    assert raised.value.exit_code == 75


def test_a_model_that_the_server_does_not_have_is_said() -> None:
    with OpenAIServer(Scripted(story)) as server, pytest.raises(BadSetup, match="'other' does not exist"):
        load_remote(f"openai:{server.url}", {"model": "other"})


def test_a_server_that_lists_no_models_needs_the_name() -> None:
    with OpenAIServer(Scripted(story), Manner(lists=False)) as server:
        with pytest.raises(BadSetup, match="name it with model="):
            load_remote(f"openai:{server.url}", {})
        assert load_remote(f"openai:{server.url}", {"model": "scripted"}).engine.traits.model == "scripted"


def test_an_address_that_serves_something_else_is_said() -> None:
    with OpenAIServer(Scripted(story)) as server, pytest.raises(BadSetup, match="check URL, model= and api="):
        load_remote(f"openai:{server.url}/v2", {"model": "scripted"})


@pytest.mark.parametrize(
    "request_",
    [
        Extend((replace(rows()[0], begin=(1,)),), Until.END, GREEDY),
        Extend(rows(), Until.END, GREEDY, rules=Rules(pause=Pause())),
        Extend(rows(), Until.END, GREEDY, model="small"),
        Extend(rows(), Until.END, Sampling(mirostat_tau=3.0)),
        Extend(rows(), Until.END, Sampling(0.0, momentum=0.5)),
        Extend(rows(), Until.END, Sampling(top_k=5)),
        Extend(rows(), Until.END, GREEDY, flops=1e9),
        Extend((replace(rows()[0], text=None),), Until.END, GREEDY),
    ],
)
def test_what_no_server_can_do_is_refused_before_anything_is_sent(request_: Extend) -> None:
    with served() as (server, model):
        with pytest.raises(ValueError, match=r"server|protocol|size"):
            model.engine.submit(0, request_)
        assert server.asked == []


def test_what_is_not_of_the_protocol_is_sent_where_the_server_has_it() -> None:
    with served(extras=True) as (server, model):
        whole(model, Sampling(top_k=5, min_p=0.25))
        body = server.asked[0].body
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (5, 0.25, 1.0)


def test_what_is_off_is_sent_as_off() -> None:
    """llama.cpp's servers have a top_p of 0.95 of their own, and vLLM's take the model's."""
    with served() as (server, model):
        whole(model, SAMPLED)
        assert server.asked[0].body["top_p"] == 1.0
        assert {*server.asked[0].body} & {"top_k", "min_p", "repetition_penalty"} == set()


# ---------------------------------------------------------------------------------------------- rules, bounds and cutting


def _until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_a_search_that_is_forgotten_closes_its_connections() -> None:
    with served(long_story, pause=0.05) as (server, model):
        model.engine.submit(0, Extend(rows(3, 200, seeds=[100, 101, 102]), Until.END, SAMPLED))
        assert _until(lambda: model.engine.advance() == [] and server.running == 3)
        time.sleep(0.2)
        model.engine.forget(0)
        assert not model.engine.busy
        assert _until(lambda: all(each.closed for each in server.asked), 2.0)
        assert max(each.tokens for each in server.asked) < 50


def test_first_finish_takes_the_shortest_and_closes_the_others() -> None:
    with served(long_story, pause=0.02) as (server, model):
        got = answer(model, Extend(rows(limit=400, seeds=[200, 6, 300, 9]), Until.END, SAMPLED, first=2))
        assert [step.finish for step in got.steps] == [Finish.CANCELLED, Finish.END, Finish.CANCELLED, Finish.END]
        assert _until(lambda: sum(each.closed for each in server.asked) == 2)
    cut = got.steps[0]
    assert 1 <= len(cut) < 60
    assert cut.text.startswith("n200 w0 ")  # what was received is kept, and charged
    assert len(cut) == cut.text.count("w") + 1


def test_first_finish_goes_by_tokens_and_not_by_who_was_asked_first() -> None:
    """With one request at a time the longest is there first: it is not the first to finish."""
    with served(long_story, concurrency=1) as (_, model):
        got = answer(model, Extend(rows(limit=400, seeds=[30, 6, 20]), Until.END, SAMPLED, first=1))
    assert [step.finish for step in got.steps] == [Finish.CANCELLED, Finish.END, Finish.CANCELLED]


def test_a_halt_sees_the_ended_rows_in_the_order_of_their_tokens() -> None:
    seen: list[list[int]] = []

    def decide(ended: Sequence[Step]) -> bool:
        seen.append([len(step) for step in ended])
        return len(ended) == 2

    with served(long_story, concurrency=2) as (_, model):
        rule = Rules(halt=Halt("two", decide))
        got = answer(model, Extend(rows(limit=400, seeds=[30, 6, 20]), Until.END, SAMPLED, rules=rule))
    assert seen == [[7], [7, 21]]
    assert [step.finish for step in got.steps] == [Finish.CANCELLED, Finish.END, Finish.END]


def test_an_unsure_row_is_cut() -> None:
    with served() as (_, model):
        rule = Rules(unsure=Unsure(2, 2.0))
        (step,) = answer(model, Extend(rows(), Until.END, replace(GREEDY, confidence=2), rules=rule)).steps
    assert step.finish is Finish.UNSURE
    assert len(step) == 2


@pytest.mark.parametrize("allowance", [5, 30, 47, 60, 1000])
def test_an_allowance_is_never_exceeded_and_what_is_left_over_goes_to_the_others(allowance: int) -> None:
    with served(long_story) as (_, model):
        got = answer(model, Extend(rows(limit=90, seeds=[4, 6, 50]), Until.END, SAMPLED, allowance=allowance))
    lengths = [len(step) for step in got.steps]
    assert sum(lengths) <= allowance
    if allowance >= 47:
        assert lengths[:2] == [5, 7]
        assert lengths[2] == min(51, allowance - 12)
    finishes = {step.finish for step in got.steps}
    assert finishes == (
        {Finish.END} if allowance == 1000 else {Finish.BUDGET} if allowance == 5 else {Finish.END, Finish.BUDGET}
    )


def test_flops_are_never_exceeded() -> None:
    with served(long_story, parameters=100.0) as (_, model):
        got = answer(model, Extend(rows(limit=90, seeds=[80]), Until.END, SAMPLED, flops=200.0 * 20))
    assert 0 < got.flops <= 200.0 * 20
    assert got.steps[0].finish is Finish.BUDGET


def test_seconds_cut_a_row_in_the_middle() -> None:
    with served(long_story, pause=0.05) as (server, model):
        got = answer(model, Extend(rows(limit=900, seeds=[500]), Until.END, SAMPLED, seconds=0.5))
        assert _until(lambda: server.asked[0].closed)
    assert got.steps[0].finish is Finish.BUDGET
    assert 0.5 <= got.seconds < 10  # the whole text takes 25 s
    assert 1 <= len(got.steps[0]) <= 20


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    with served(long_story, pause=0.01, concurrency=3) as (server, model):
        whole(model, SAMPLED, seeds=[10] * 9, limit=50)
        assert server.most == 3


def test_requests_a_minute_are_kept() -> None:
    with served(rpm=600) as (server, model):  # ten a second, and a hundred at once: after these, one each 0.1 s
        model.engine.asker.pace.requests.take(99)
        whole(model, SAMPLED, n=4)
        times = sorted(each.began for each in server.asked)
    assert times[-1] - times[0] >= 0.25


def test_tokens_a_minute_are_kept_and_what_was_not_used_is_given_back() -> None:
    with served(tpm=60_000) as (_, model):
        bucket = model.engine.asker.pace.tokens
        whole(model, limit=400)
        assert bucket.most - bucket.level < 60  # of 400 that it might have been


def test_the_ledger_is_charged_the_servers_prompts() -> None:
    with served() as (server, model):
        got = answer(model, Extend(rows(2), Until.END, GREEDY))
        assert got.prompt_tokens == 2 * server.writer.count("Q?\n\n")
    assert got.seconds > 0
