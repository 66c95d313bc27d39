"""Every family of reward models on a tiny model of its architecture: read as its card says, and broken readers caught.

Two readings are independent of the reader: the cards' programs (one prefix at a time), and the texts written out by hand below.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rewards
import torch
from rewards import QUESTION, STEPS
from safetensors.torch import load_file, save_file

from pipelines.models import ModelError
from pipelines.scoring import Laid, Output
from search.types import Finish, Join, Part, Question, Reading, Step, Trace, Verifier
from verifiers import check
from verifiers.formats import cards, conformance
from verifiers.formats.families import Facts, detected, facts_of, looks, settled, unfit
from verifiers.formats.format import FORMATS, Format, Read
from verifiers.formats.heads import load
from verifiers.formats.layout import Layout
from verifiers.prm import RewardModel, load_orm, load_prm, opened, squashed
from verifiers.registry import check_verifier, load_verifier, reward_models

SPARE = FORMATS["spare"].system
PLUS, MINUS = "+", "-"


def trace(*texts: str, question: str = QUESTION) -> Trace:
    empty = np.zeros(0, dtype=np.float32)
    steps = (Step(np.zeros(0, np.int32), text + "\n\n", empty, empty, empty, Finish.STEP) for text in texts)
    return Trace(Question("q", question, ()), tuple(steps))


def read(reader: RewardModel, *texts: str) -> Reading:
    return reader.score([trace(*texts)])[0]


@dataclass(frozen=True)
class Built:
    """A family's model, loaded."""

    folder: Path
    facts: Facts
    reader: RewardModel
    card: conformance.Told

    @property
    def form(self) -> Format:
        return self.reader.format

    def broken(self, pad: int | None = None, **changed: Any) -> RewardModel:
        """The reader with a declaration that is wrong in one place."""
        form = replace(self.form, **changed)
        layout = Layout(form, self.facts.tokenizer, self.reader.layout.pad if pad is None else pad)
        return RewardModel("prm", form, layout, self.reader.scorer)


def values(reader: Verifier) -> list[tuple[float, ...]]:
    """What it says of STEPS, whatever that cost: what was read before is not computed again."""
    return [reading.parts for reading in reader.score([trace(*STEPS)])]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    made: dict[str, Built] = {}

    def get(family: str) -> Built:
        if family not in made:
            folder = rewards.build(family, tmp_path_factory.mktemp(family))
            facts = facts_of(str(folder))
            if family == "qwen":  # transformers gives every model of type qwen2 Qwen's own rule, which hides a wrong join
                facts = replace(facts, tokenizer=rewards.tokenizer(rewards.CHAT))
            form = detected(facts, rewards.wanted(family))
            weights = load(facts, form, "cpu", "float32")
            card = conformance.told(partial(cards.CARDS[form.name], cards.own(facts, weights, form.head)))
            made[family] = Built(folder, facts, opened("prm", facts, form, weights), card)
        return made[family]

    return get


Get = Callable[[str], Built]


# ------------------------------------------------------------------------------------------------------------ conformance


@pytest.mark.parametrize("family", rewards.FAMILIES)
def test_a_family_is_read_as_its_card_says(family: str, built: Get) -> None:
    """Counts, batches, prefixes, one go, empty steps, underflow, length, typed marks: all that `verifier check` runs."""
    found = conformance.conformance(built(family).reader, built(family).card)
    assert [each for each in found if each.status == "fail"] == []
    assert {each.name for each in found if each.status == "ok"} >= {"counts", "card", "batch", "underflow", "too long"}


@pytest.mark.parametrize("family", rewards.FAMILIES)
def test_values_of_a_tiny_model_are_far_enough_apart_to_tell_a_wrong_reader(family: str, built: Get) -> None:
    parts = [part for texts in conformance.TRACES for part in read(built(family).reader, *texts).parts]
    assert np.std(parts) > 50 * conformance.TOLERANCE["float32"]
    assert all(0 < part < 1 for part in parts)
    assert all(abs(part - 0.5) > 5 * conformance.TOLERANCE["float32"] for part in parts)


def shifted(built: Built) -> RewardModel:
    if built.form.read is Read.LAST:
        return built.broken(pad=built.reader.layout.lay(QUESTION, STEPS).ids[-1])
    return built.broken(read=Read.MARK if built.form.read is Read.BEFORE else Read.BEFORE)


BREAKS: dict[str, Callable[[Built], RewardModel]] = {
    "shifted position": shifted,
    "swapped class": lambda built: built.broken(right=1 - built.form.right),
    "joined separator": lambda built: built.broken(apart=not built.form.apart),
}


@pytest.mark.parametrize("fault", BREAKS)
@pytest.mark.parametrize("family", rewards.FAMILIES)
def test_a_broken_reader_of_a_family_is_caught(family: str, fault: str, built: Get) -> None:
    found = conformance.conformance(BREAKS[fault](built(family)), built(family).card)
    assert "card" in [each.name for each in found if each.status == "fail"], found


class Faulty(RewardModel):
    """A reader whose readings are changed afterwards."""

    def __init__(self, of: RewardModel, fault: Fault) -> None:
        super().__init__(of.name, of.format, of.layout, of.scorer)
        self.fault = fault

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        readings = super().score(traces)
        return [self.fault(traces, trace, reading) for trace, reading in zip(traces, readings, strict=True)]


Fault = Callable[[Sequence[Trace], Trace, Reading], Reading]


def parts(reading: Reading, change: Callable[[tuple[float, ...]], Sequence[float]]) -> Reading:
    return replace(reading, parts=tuple(change(reading.parts)))


FAULTS: dict[str, Fault] = {
    "counts": lambda traces, trace, reading: parts(reading, lambda p: p[:-1]),
    "batch": lambda traces, trace, reading: parts(reading, lambda p: [v / len(traces) for v in p]),
    "prefix": lambda traces, trace, reading: parts(reading, lambda p: [v / len(p) for v in p]),
    "one go": lambda traces, trace, reading: parts(reading, lambda p: p[: len(trace.steps)]),
    "empty steps": lambda traces, trace, reading: parts(reading, lambda p: [*p, 0.5][: len(trace.steps)]),
    "underflow": lambda traces, trace, reading: parts(reading, lambda p: [v for v in p if v]),
    "too long": lambda traces, trace, reading: reading if reading.parts else Reading((0.5,) * len(trace.texts)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_check_sees_the_fault_it_is_for(name: str, built: Get) -> None:
    found = conformance.conformance(Faulty(built("trl").reader, FAULTS[name]), built("trl").card)
    assert name in [each.name for each in found if each.status == "fail"]


@pytest.mark.parametrize("family", rewards.FAMILIES)
def test_a_reader_that_takes_typed_special_tokens_for_its_own_is_seen(family: str, built: Get) -> None:
    reader = built(family).broken()
    reader.layout._text = replace(reader.layout._text, specials=None)
    assert conformance.typed(reader).status == "fail"


# ------------------------------------------------------------------------------------- the cards' texts, written out by hand

HERE = "¦"  # stands after the token that is read
IM = "<|im_start|>{}\n{}<|im_end|>\n"
LLAMA = "<|im_start|>{}\n\n{}<|im_end|>"
FIRST, SECOND = STEPS[:2]
WRITTEN: dict[str, tuple[list[str], Callable[[Any], Any]]] = {  # what is tokenized, each alone; and the value of the numbers
    "ponderosa": (
        [
            f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
            *(FIRST, "\n\n¦", SECOND, "\n\n¦"),
        ],
        lambda z: z.softmax(-1)[1],
    ),
    "trl": (["<|begin|>", QUESTION, FIRST, "\n¦", SECOND, "\n¦"], lambda z: z.softmax(-1)[1]),
    "qwen": (
        [
            IM.format("system", "Please reason step by step, and put your final answer within \\boxed{}.")
            + IM.format("user", QUESTION)
            + f"<|im_start|>assistant\n{FIRST}<extra_0>¦{SECOND}<extra_0>¦<|im_end|>\n"
        ],
        lambda z: z.softmax(-1)[1],
    ),
    "skywork": ([f"<|begin|>{QUESTION}\n", FIRST, "\n¦", SECOND, "\n¦"], lambda z: z[0].sigmoid()),
    "rlhflow": (
        [
            f"<|begin|><|im_start|>user\n\n{QUESTION} {FIRST}<|im_end|><|im_start|>assistant\n\n¦+<|im_end|>"
            f"<|im_start|>user\n\n{SECOND}<|im_end|><|im_start|>assistant\n\n¦+<|im_end|>"
        ],
        lambda z: z.softmax(-1)[0],
    ),
    "math-shepherd": ([f"<|begin|>{QUESTION} {FIRST} ки¦\n{SECOND} ки¦"], lambda z: z.softmax(-1)[0]),
    "spare": (
        [
            "<|begin|>"
            + LLAMA.format("system", SPARE)
            + LLAMA.format("user", QUESTION)
            + LLAMA.format("user", f"{FIRST} ки¦\n{SECOND} ки¦")
        ],
        lambda z: z.softmax(-1)[1],
    ),
    "orm": (
        ["<|begin|>" + LLAMA.format("user", QUESTION) + LLAMA.format("assistant", f"{FIRST}\n\n{SECOND}") + "¦"],
        lambda z: z[0].sigmoid(),
    ),
    "orm-2": (
        [IM.format("user", QUESTION) + IM.format("assistant", f"{FIRST}\n\n{SECOND}") + "¦"],
        lambda z: z.softmax(-1)[1],
    ),
}


def by_hand(built: Built, chunks: Sequence[str]) -> tuple[list[int], list[int]]:
    """The ids of the chunks, and the positions before each HERE: the tokens of the text up to there, which end there."""
    ids, marks = [], []
    for chunk in chunks:
        whole = built.facts.tokenizer(chunk.replace(HERE, ""), add_special_tokens=False)["input_ids"]
        for i in range(chunk.count(HERE)):
            before = "".join(chunk.split(HERE)[: i + 1])
            upto = built.facts.tokenizer(before, add_special_tokens=False)["input_ids"]
            assert whole[: len(upto)] == upto
            marks.append(len(ids) + len(upto) - 1)
        ids += whole
    return ids, marks


def numbers(family: str, folder: Path, ids: list[int]) -> Any:
    """The model's numbers at every position, by transformers' own classes loaded anew: [length, K]."""
    import transformers

    weights = load_file(folder / "model.safetensors")
    kind = {"trl": "TokenClassification", "ponderosa": "TokenClassification", "orm": "SequenceClassification"}
    kind |= {"orm-2": "SequenceClassification"} | dict.fromkeys(("rlhflow", "spare", "math-shepherd"), "CausalLM")
    loader = getattr(transformers, f"AutoModelFor{kind[family]}") if family in kind else transformers.Qwen2Model
    model = loader.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        hidden = model.base_model(torch.tensor([ids])).last_hidden_state[0]
        if family == "qwen":
            inner = torch.nn.functional.relu(hidden @ weights["score.0.weight"].T + weights["score.0.bias"])
            return inner @ weights["score.2.weight"].T + weights["score.2.bias"]
        if family == "skywork":
            return hidden @ weights["v_head.summary.weight"].T + weights["v_head.summary.bias"]
        if kind[family] != "CausalLM":
            return model.score(hidden)
        order = (MINUS, PLUS) if family == "spare" else (PLUS, MINUS)
        return model.lm_head(hidden)[:, rewards.tokenizer().convert_tokens_to_ids(list(order))]


@pytest.mark.parametrize("family", rewards.FAMILIES)
def test_a_familys_layout_and_values_are_those_of_its_text_written_by_hand(family: str, built: Get) -> None:
    chunks, value = WRITTEN[family]
    ids, marks = by_hand(built(family), chunks)
    laid = built(family).reader.layout.lay(QUESTION, [FIRST, SECOND])
    assert laid.marks == tuple(marks)
    assert laid.ids == tuple(ids[: marks[-1] + 1])
    table = numbers(family, built(family).folder, ids)
    expected = [float(value(table[mark].double())) for mark in marks]
    assert list(read(built(family).reader, FIRST, SECOND).parts) == pytest.approx(expected, abs=0.6e-4)


# ------------------------------------------------------------------------------------------- the three places peers get wrong


class Fixed:
    """A scorer that reads the same numbers everywhere."""

    context = 512

    def __init__(self, *values: float) -> None:
        self.values = np.array(values, dtype=np.float32)

    def outputs(self, laid: Sequence[Laid]) -> list[Any]:
        return [Output(np.tile(self.values, (len(each.marks), 1)), len(each.ids), 0.0) for each in laid]


@pytest.mark.parametrize(("raw", "value"), [((200.0, -200.0), 0.0), ((-200.0, 200.0), 1.0), ((0.0, 0.0), 0.5)])
def test_probability_underflow_filter_drops_no_step(raw: tuple[float, float], value: float, built: Get) -> None:
    """The common reader of Qwen's keeps what is not 0 and pairs it up: a probability that underflows shifts all that follow."""
    single = torch.tensor(raw, dtype=torch.float32).softmax(-1)
    assert (value == 0.5) == (len(single[single != 0]) == 2)
    qwen = built("qwen").reader
    parts = RewardModel("prm", qwen.format, qwen.layout, Fixed(*raw)).score([trace(*STEPS)])[0].parts
    assert parts == (value,) * 3


def test_merged_separators_are_not_what_a_trl_model_was_trained_on(built: Get) -> None:
    """Text joined before it is tokenized has other tokens at the end of a step (ProcessBench, PR 12)."""
    trl = built("trl")
    tokenizer = trl.facts.tokenizer
    merged = tokenizer.encode(FIRST + "\n" + SECOND + "\n", add_special_tokens=False)
    laid = trl.reader.layout.lay(QUESTION, [FIRST, SECOND]).ids
    assert list(laid[-len(merged) :]) != merged
    assert read(trl.reader, FIRST, SECOND).parts != read(trl.broken(apart=False), FIRST, SECOND).parts


def test_twin_dialogue_with_another_word_in_place_of_plus_is_another_history(built: Get) -> None:
    """Later steps of RLHFlow's are conditioned on "+"; a reader that finds its positions by another word there reads others."""
    rlhflow = built("rlhflow")
    tokenizer, laid = rlhflow.facts.tokenizer, rlhflow.reader.layout.lay(QUESTION, STEPS)
    plus, twin = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("+", "ки"))
    assert [laid.ids[mark + 1] for mark in laid.marks[:-1]] == [plus, plus]
    replaced = list(laid.ids)
    for mark in laid.marks[:-1]:
        replaced[mark + 1] = twin
    found = rlhflow.reader.scorer.outputs([laid, Laid(tuple(replaced), laid.marks)])
    ours, theirs = (squashed(rlhflow.form, each.values) for each in found if isinstance(each, Output))
    assert ours[0] == pytest.approx(theirs[0], abs=1e-4)
    assert max(abs(ours[1:] - theirs[1:])) > 1e-3


# ---------------------------------------------------------------------------------------------------------- texts as typed


@pytest.mark.parametrize("family", rewards.FAMILIES)
def test_a_mark_typed_in_the_question_or_in_a_step_is_no_mark(family: str, built: Get) -> None:
    reader = built(family).reader
    typed = f"{FIRST} <extra_0> ки + - <|im_end|><|im_start|>assistant\n+ done"
    plain = reader.layout.lay(QUESTION, [FIRST, SECOND])
    laid = reader.layout.lay(QUESTION + " <extra_0><|im_end|> ки +", [typed, SECOND])
    assert len(laid.marks) == len(plain.marks)
    for special in rewards.SPECIAL:
        token = reader.layout.tokenizer.convert_tokens_to_ids(special)
        assert laid.ids.count(token) == plain.ids.count(token), special
    text = reader.layout.tokenizer.decode(laid.ids)
    assert typed.split("\n")[0] in text  # it is there, as text
    assert len(reader.score([trace(typed, SECOND)])[0].parts) == len(plain.marks)


def test_a_mark_that_the_tokenizer_does_not_call_special_is_no_mark_where_it_is_typed(built: Get) -> None:
    from tokenizers import AddedToken

    tokenizer = rewards.tokenizer(rewards.CHAT)
    tokenizer.add_tokens([AddedToken("<step>", special=False, normalized=False)])
    layout = Layout(replace(FORMATS["qwen"], mark="<step>"), tokenizer)
    mark = tokenizer.convert_tokens_to_ids("<step>")
    laid = layout.lay(QUESTION, [f"{FIRST} <step> here", SECOND])
    assert [i for i, each in enumerate(laid.ids) if each == mark] == list(laid.marks)
    assert len(laid.marks) == 2


def test_a_mark_that_the_tokenizer_joins_with_its_neighbour_gets_no_value_and_says_so(built: Get) -> None:
    """The authors' reader looks for the tag's token and would find none."""
    from tokenizers import Tokenizer

    tokenizer = rewards.tokenizer()
    raw = json.loads(tokenizer.backend_tokenizer.to_str())
    raw["pre_tokenizer"] = raw["pre_tokenizer"]["pretokenizers"][1]  # nothing keeps the tag apart
    tag, newline = (tokenizer.convert_ids_to_tokens(tokenizer.encode(text))[0] for text in (" ки", "\n"))
    raw["model"]["vocab"][tag + newline] = max(raw["model"]["vocab"].values()) + 10
    raw["model"]["merges"].append([tag, newline])
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(raw))
    shepherd = built("math-shepherd")
    reader = RewardModel("prm", shepherd.form, Layout(shepherd.form, tokenizer), shepherd.reader.scorer)
    reading = read(reader, FIRST, SECOND.lower())
    assert reading.parts == ()
    assert reading.reason == "the tokenizer joins the mark ' ки' with what stands beside it"


def test_a_tokenizer_that_puts_a_space_before_every_text_gives_the_cards_tokens() -> None:
    """Math-Shepherd's own tokenizer: the card's tag is found as it is after a word, not as it is after a space of its own."""
    tokenizer = rewards.sentencepiece()
    form = FORMATS["math-shepherd"]
    written = f"{QUESTION} {FIRST} ки\n{SECOND} ки"
    expected = [1, *tokenizer.encode(written, add_special_tokens=False)]
    tag = tokenizer.encode("ки", add_special_tokens=False)[-1]
    assert tokenizer.convert_ids_to_tokens(tag) == "▁ки"
    laid = Layout(form, tokenizer).lay(QUESTION, [FIRST, SECOND])
    assert list(laid.ids) == expected
    assert list(laid.marks) == [i for i, each in enumerate(expected) if each == tag]
    typed = Layout(form, tokenizer).lay(QUESTION, [FIRST + " ки </s> + done", SECOND])
    assert len(typed.marks) == 2
    assert typed.ids.count(2) == 0
    trl = Layout(FORMATS["trl"], tokenizer).lay(QUESTION, [FIRST, SECOND])
    pieces = [tokenizer.encode(text, add_special_tokens=False) for text in (QUESTION, FIRST, "\n", SECOND, "\n")]
    assert list(trl.ids) == [1, *(i for piece in pieces for i in piece)]


def test_a_step_of_several_lines_has_one_value_of_skyworks_and_it_is_the_last_lines(built: Get) -> None:
    skywork = built("skywork")
    laid = skywork.reader.layout.lay(QUESTION, [f"{FIRST}\n{SECOND}", STEPS[2]])
    lines = skywork.reader.layout.lay(QUESTION, STEPS)
    assert laid.ids == lines.ids
    assert laid.marks == lines.marks[1:]


def test_a_layout_is_a_prefix_of_the_layout_of_a_longer_trace(built: Get) -> None:
    """What lets a scored parent's computation be used again for its children."""
    for family in rewards.FAMILIES:
        if not family.startswith("orm"):
            layout = built(family).reader.layout
            short, long = (layout.lay(QUESTION, STEPS[:k]) for k in (2, 3))
            assert long.ids[: len(short.ids)] == short.ids, family
            assert long.marks[:2] == short.marks


def test_a_template_that_changes_a_message_gets_no_value(built: Get) -> None:
    tokenizer = rewards.tokenizer(rewards.CHAT.replace("message['content']", "message['content'] | upper"))
    qwen = built("qwen")
    reader = RewardModel("prm", qwen.form, Layout(qwen.form, tokenizer), qwen.reader.scorer)
    assert read(reader, FIRST) == Reading(
        (), "the model's chat template changes the text of a message, so where its steps end is not known"
    )


def test_a_template_that_refuses_the_conversation_is_told(built: Get) -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}" + rewards.CHAT
    facts = replace(built("qwen").facts, tokenizer=rewards.tokenizer(refuses))
    assert unfit(FORMATS["qwen"], facts) == "the model's chat template refuses the conversation: no system message"


# ----------------------------------------------------------------------------------------------------------- lengths, numbers


@pytest.mark.parametrize("family", ["trl", "qwen", "orm"])
def test_a_trace_of_the_whole_context_has_values_and_one_token_more_has_none(family: str, built: Get) -> None:
    reader = built(family).reader
    tokens = len(reader.layout.lay(QUESTION, STEPS).ids)
    scorer = Fixed(0.0) if family == "orm" else Fixed(0.0, 0.0)
    for context, values in ((tokens, len(read(reader, *STEPS).parts)), (tokens - 1, 0)):
        scorer.context = context
        reading = read(RewardModel("prm", reader.format, reader.layout, scorer), *STEPS)
        assert len(reading.parts) == values
        assert reading.reason == ("" if values else f"{tokens} tokens are over the reward model's context of {context}")


def test_a_number_that_is_not_finite_is_no_value_and_its_cost_is_charged(built: Get) -> None:
    qwen = built("qwen").reader
    reading = read(RewardModel("prm", qwen.format, qwen.layout, Fixed(float("nan"), 1.0)), *STEPS)
    assert (reading.parts, reading.passes) == ((), 1)
    assert "no finite number" in reading.reason


def test_an_outcome_model_whose_padding_token_ends_a_message_is_read_where_transformers_reads_it(
    built: Get, tmp_path: Path
) -> None:
    """transformers takes the last token that is not padding; a reader of the last token reads another."""
    folder = rewards.build("orm", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 3}))  # <|im_end|>
    reader = load_prm(str(folder))
    assert reader.layout.lay(QUESTION, STEPS).ids[-1] != 3
    facts = facts_of(str(folder))
    card = cards.orm(cards.own(facts, load(facts, reader.format, "cpu", "float32"), reader.format.head), QUESTION, STEPS)
    assert list(read(reader, *STEPS).parts) == pytest.approx(card, abs=0.6e-4)
    assert read(reader, *STEPS).parts != read(built("orm").reader, *STEPS).parts


# ------------------------------------------------------------------------------------------------------------ which family


@pytest.mark.parametrize("family", rewards.FAMILIES)
def test_a_family_is_known_by_its_files_or_must_be_named(family: str, built: Get) -> None:
    facts = built(family).facts
    if rewards.wanted(family):
        assert looks(facts) == []
        with pytest.raises(ModelError, match=rf"can be read as .*{family}.*; name one with format="):
            detected(facts)
    else:
        assert looks(facts) == [family.removesuffix("-2")]


def test_a_trl_model_with_a_chat_template_and_unnamed_labels_could_be_two_families(built: Get) -> None:
    """PRMTrainer uses no template, ours does, and the files look alike: nothing is guessed."""
    facts = replace(built("trl").facts, tokenizer=rewards.tokenizer(rewards.CHAT))
    with pytest.raises(ModelError, match="can be read as ponderosa or trl, which its files do not tell apart; name one"):
        detected(facts)
    assert detected(facts, "trl").name == "trl"


def test_the_separator_of_trl_may_be_a_blank_line_and_no_other_family_takes_one(built: Get) -> None:
    reader = load_prm(str(built("trl").folder), {"separator": "blank-line"})
    facts = built("trl").facts
    model = cards.own(facts, load(facts, reader.format, "cpu", "float32"), reader.format.head)
    expected = cards.trl(model, QUESTION, STEPS, separator="\n\n")
    assert list(read(reader, *STEPS).parts) == pytest.approx(expected, abs=0.6e-4)
    assert reader.score([trace(*STEPS)]) != built("trl").reader.score([trace(*STEPS)])
    with pytest.raises(ModelError, match="format 'qwen' has one separator only; leave separator=newline out"):
        load_prm(str(built("qwen").folder), {"separator": "newline"})
    with pytest.raises(ValueError, match=r"unknown separator 'tab' \(blank-line, newline\)"):
        load_prm(str(built("trl").folder), {"separator": "tab"})


@pytest.mark.parametrize(
    ("family", "wanted", "says"),
    [
        ("trl", "qwen", "cannot be read by format 'qwen': it has no weight score.0.weight"),
        ("trl", "rlhflow", "cannot be read by format 'rlhflow': it is LlamaForTokenClassification, not one ForCausalLM"),
        ("math-shepherd", "rlhflow", "cannot be read by format 'rlhflow': its tokenizer has no chat template"),
        ("trl", "shepherd", "unknown format 'shepherd'; did you mean 'math-shepherd'?"),
    ],
)
def test_a_format_that_does_not_fit_is_refused_in_one_line(family: str, wanted: str, says: str, built: Get) -> None:
    with pytest.raises(ValueError, match=says) as error:
        load_prm(str(built(family).folder), {"format": wanted})
    assert "\n" not in str(error.value)


def test_a_language_model_that_writes_the_tag_with_several_tokens_is_refused(built: Get) -> None:
    from pipelines.models import BUNDLED

    with pytest.raises(ModelError, match=r"format 'math-shepherd': its tokenizer writes 'ки' with \d+ tokens, not 1"):
        load_prm(str(BUNDLED["generator"]), {"format": "math-shepherd"})


def test_a_head_that_the_files_do_not_have_is_not_made_up(built: Get, tmp_path: Path) -> None:
    """transformers fills it with random numbers and warns; the values look like any others."""
    rewards.build("trl", tmp_path)
    kept = {name: each for name, each in load_file(tmp_path / "model.safetensors").items() if name != "score.weight"}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"has no weight score\.weight, and would be read with a random one"):
        load_prm(str(tmp_path))


def test_an_encoder_is_refused_for_its_steps_see_what_comes_later(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForTokenClassification

    config = BertConfig(vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForTokenClassification(config).save_pretrained(tmp_path)
    rewards.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is BertForTokenClassification, whose head is not read: it must be a causal model"):
        load_prm(str(tmp_path))


def test_an_outcome_head_of_two_layers_is_no_process_reward_model(built: Get, tmp_path: Path) -> None:
    """Qwen2.5-Math-RM has the layers of the process model, and one output."""
    rewards.build("qwen", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights |= {"score.2.weight": weights["score.2.weight"][:1].clone(), "score.2.bias": weights["score.2.bias"][:1].clone()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"has 1 output\(s\), not 2"):
        load_prm(str(tmp_path))


# ------------------------------------------------------------------------------------------------------------- custom code

PLANTED = """
from pathlib import Path
from transformers import LlamaConfig
Path({trace!r}).write_text("ran")
class PlantedConfig(LlamaConfig):
    model_type = "planted"
"""


def planted(folder: Path, model_type: str) -> Path:
    """A trl model whose folder brings code that leaves a file where it runs; the file's path."""
    rewards.build("trl", folder)
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "planted.PlantedConfig", "AutoModelForTokenClassification": "planted.PlantedModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": model_type, "auto_map": code}))
    trace_file = folder / "trace-of-the-code"
    (folder / "planted.py").write_text(PLANTED.format(trace=str(trace_file)))
    return trace_file


def test_code_in_a_models_folder_does_not_run(tmp_path: Path, built: Get) -> None:
    left = planted(tmp_path, "llama")
    assert values(load_prm(str(tmp_path))) == values(built("trl").reader)
    assert check.examine(str(tmp_path)).exit_code == 0
    assert not left.exists()


def test_a_model_that_only_its_own_code_knows_is_refused_and_the_code_does_not_run(tmp_path: Path) -> None:
    left = planted(tmp_path, "planted")
    with pytest.raises(ModelError, match=r"known to its own code only, which does not run: give code=allow"):
        load_prm(str(tmp_path))
    assert not left.exists()


def test_code_in_a_models_folder_runs_where_it_is_allowed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    left = planted(tmp_path / "model", "planted")
    facts_of(str(tmp_path / "model"), code=True)
    assert left.exists()
    with pytest.raises(ModelError, match="code must be 'never' or 'allow', not 'yes'"):
        load_prm(str(tmp_path / "model"), {"code": "yes"})


# ---------------------------------------------------------------------------------------------------------------- registry


@pytest.mark.parametrize(
    ("params", "join"),
    [
        ({}, Join.MIN),
        ({"model": "bundled"}, Join.MIN),
        ({"format": "math-shepherd"}, Join.MIN),
        ({"format": "rlhflow"}, Join.MEAN),
        ({"format": "spare"}, Join.LAST),
        ({"format": "qwen"}, Join.MIN),
        ({"format": "rlhflow", "join": "prod"}, Join.PROD),
    ],
)
def test_the_join_is_the_authors_where_the_format_is_named(params: dict[str, str], join: Join) -> None:
    assert check_verifier(Part("prm", params))[1] is join


def test_an_unknown_format_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match="unknown format 'qwenn'; did you mean 'qwen'"):
        check_verifier(Part("prm", {"format": "qwenn"}))


def test_an_outcome_model_is_a_verifier_with_one_value(built: Get) -> None:
    part = Part("orm", {"model": str(built("orm").folder)})
    verifier, join = load_verifier(part)
    assert (verifier.name, join) == ("orm", Join.LAST)
    assert values(verifier) == values(built("orm").reader)
    assert reward_models(part) == [str(built("orm").folder)]
    with pytest.raises(ModelError, match="cannot be read by format 'orm': it is LlamaForTokenClassification"):
        load_orm(str(built("trl").folder))
    with pytest.raises(ValueError, match="verifier 'orm' needs a model: orm:model=FOLDER"):
        load_verifier(Part("orm"))


def test_every_family_has_a_card_and_says_where_it_was_read() -> None:
    assert set(cards.CARDS) == set(FORMATS)
    assert all(form.source and form.about for form in FORMATS.values())


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (("LABEL_0", "LABEL_1"), 1),
        (("0", "1"), 1),
        (("wrong", "right"), 1),
        (("correct", "incorrect"), 0),
        (("True", "False"), 0),
        (("Yes", "No"), 0),
        (("no", "fine"), 1),
        (("+", "-"), 0),
    ],
)
def test_which_label_is_right_is_told_by_their_names(names: tuple[str, str], right: int) -> None:
    """Labels "True", "False" were read the wrong way round, and passed every check."""
    config = SimpleNamespace(id2label=dict(enumerate(names)), num_labels=2)
    facts = Facts("m", Path(), config, None, {})
    assert settled(FORMATS["trl"], facts).right == right
    assert cards.label(SimpleNamespace(config=config)) == right  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [("low", "high"), ("LABEL_0", "high"), ("right", "correct"), ("wrong", "bad")])
def test_labels_that_do_not_say_which_is_right_are_refused(names: tuple[str, str]) -> None:
    facts = Facts("m", Path(), SimpleNamespace(id2label=dict(enumerate(names)), num_labels=2), None, {})
    with pytest.raises(ModelError, match=rf"has the labels 0 '{names[0]}', 1 '{names[1]}', which do not say what is right"):
        settled(FORMATS["trl"], facts)
