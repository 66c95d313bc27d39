"""What a family of reward models expects and says, declared: how a question and its steps are laid out, where a value is
read, and what the numbers read there mean.

A wrong separator, class order or position gives plausible numbers in [0, 1] and no error, so nothing here is guessed: each
family's `source` names the card or repository it was read from, and `cards.py` has the same facts as straight-line programs,
against which `check.py` holds the reader.

The same for every family: an empty step is left out, wherever it stands; a sequence over the model's context is never cut, and
gets no value with a reason; a probability that is 0 in floating point is the value 0.0; values are rounded to DIGITS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from search.types import SEPARATOR, Join

DIGITS = 4  # a batch's shape moves the bundled model's values by up to 5e-8, which tips few of them over an edge
SEPARATORS = {"newline": "\n", "blank-line": "\n\n"}  # what `separator=` may be, where a family leaves it open


class Frame(StrEnum):
    """What the question and the steps stand in."""

    PLAIN = "plain"  # the opening, then the steps
    PROMPT = "prompt"  # the question by the chat template, the answer begun; then the steps. Without a template: PLAIN
    CHAT = "chat"  # one conversation by the chat template: the opening, then a message with all the steps
    TURNS = "turns"  # a conversation: each step is a user's message, answered by the mark


class Head(StrEnum):
    """What turns a hidden state into numbers."""

    TOKENS = "token classifier"  # a linear layer, `score`
    SEQUENCE = "sequence classifier"  # likewise, trained at one position
    DEEP = "two layers"  # Linear, ReLU, Linear: `score.0`, `score.2`
    VALUE = "value head"  # a linear layer with one output: `v_head.summary`
    WORDS = "words"  # the language model's own logits of the classes, which are words


class Read(StrEnum):
    """Where a value is read."""

    MARK = "mark"  # at the last token of what ends a step
    BEFORE = "before"  # at the token before that: the one that predicts it
    LAST = "last"  # once for the whole: at the last token that is not the padding token


class Squash(StrEnum):
    """How the numbers become a probability."""

    SOFTMAX = "softmax"  # over the classes
    SIGMOID = "sigmoid"  # of one number: the same as softmax over 0 and that number


@dataclass(frozen=True, slots=True)
class Format:
    """One family. Values in [0, 1], higher = more likely right."""

    name: str
    about: str
    source: str
    frame: Frame
    head: Head
    mark: str  # ends each step
    classes: tuple[str, ...] = ("wrong", "right")  # in the order of the numbers
    right: int = 1  # index of the class that means "right"
    named: bool = False  # whether the model's own label names, where they say it, decide `right`
    read: Read = Read.MARK
    squash: Squash = Squash.SOFTMAX
    bos: bool = False  # PLAIN: begins with the tokenizer's bos token, where it has one
    begun: bool = False  # and it must have one
    system: str = ""  # the system message
    opening: str = "{question}"  # what stands before the first step
    role: str = "assistant"  # CHAT: who says the steps
    after: str = ""  # stands between a mark and the next step
    apart: bool = False  # every step and mark is tokenized alone and joined as ids; else all is one string
    lines: bool = False  # each line of a step is ended by the mark, and the step is read at its last; else kept as it is
    join: Join | None = None  # the authors' own, where they state one
    asked: bool = False  # nothing in the files of a model tells the family: it must be asked for by name


TRL = Format(
    "trl",
    "token classifier by TRL's PRMTrainer: the prompt as it is, then steps and newlines",
    "huggingface/trl, experimental/prm/prm_trainer.py",
    Frame.PLAIN,
    Head.TOKENS,
    mark="\n",
    named=True,
    bos=True,
    apart=True,
)
PONDEROSA = Format(
    "ponderosa",
    "token classifier as this repository trains them, steps ended by blank lines",
    "pipelines/train/prm.py",
    Frame.PROMPT,
    Head.TOKENS,
    mark=SEPARATOR,
    named=True,
    opening="{question}" + SEPARATOR,
    apart=True,
)
QWEN = Format(
    "qwen",
    "Qwen2.5-Math-PRM: <extra_0> after each step of the assistant's message",
    "model card of Qwen/Qwen2.5-Math-PRM-7B",
    Frame.CHAT,
    Head.DEEP,
    mark="<extra_0>",
    system="Please reason step by step, and put your final answer within \\boxed{}.",
)
SKYWORK = Format(
    "skywork",
    "Skywork-o1-Open-PRM: a value head read at newlines, each line tokenized alone",
    "SkyworkAI/skywork-o1-prm-inference, model_utils/io_utils.py",
    Frame.PLAIN,
    Head.VALUE,
    mark="\n",
    squash=Squash.SIGMOID,
    bos=True,
    begun=True,
    opening="{question}\n",
    apart=True,
    lines=True,
)
RLHFLOW = Format(
    "rlhflow",
    "RLHFlow's PRMs: a conversation, every step answered by +, read where the answer is predicted",
    "RLHFlow/RLHF-Reward-Modeling, math-rm/prm_evaluate.py",
    Frame.TURNS,
    Head.WORDS,
    mark="+",
    classes=("+", "-"),
    right=0,
    read=Read.BEFORE,
    opening="{question} ",
    join=Join.MEAN,
    asked=True,
)
MATH_SHEPHERD = Format(
    "math-shepherd",
    "Math-Shepherd: plain text, every step ends with a Cyrillic tag, read there",
    "model card of peiyi9979/math-shepherd-mistral-7b-prm",
    Frame.PLAIN,
    Head.WORDS,
    mark=" ки",
    classes=("+", "-"),
    right=0,
    bos=True,
    opening="{question} ",
    after="\n",
    join=Join.MIN,
    asked=True,
)
SPARE = Format(
    "spare",
    "SPARE: an instruction and two user messages, steps end with a Cyrillic tag",
    "UKPLab/arxiv2025-spare-prm, README",
    Frame.CHAT,
    Head.WORDS,
    mark=" ки",
    classes=("-", "+"),
    system=(
        "You are an expert at solving challenging math problems spanning across various categories and difficulties such as "
        "Algebra, Number Theory, Geometry, Counting and Probability, Precalculus etc. For a given math problem, your task is "
        "to generate a step-by-step reasoning-based solution providing an answer to the question. Identify the correct "
        "concepts, formulas and heuristics that needs to be applied and then derive the contents of the reasoning steps from "
        "the given contexts and accurate calculations from the previous reasoning steps."
    ),
    role="user",
    after="\n",
    join=Join.LAST,
    asked=True,
)
ORM = Format(
    "orm",
    "outcome reward model: a sequence classifier, one value for the whole",
    "transformers, GenericForSequenceClassification",
    Frame.CHAT,
    Head.SEQUENCE,
    mark=SEPARATOR,
    named=True,
    read=Read.LAST,
    join=Join.LAST,
)

FORMATS: dict[str, Format] = {f.name: f for f in (PONDEROSA, TRL, QWEN, SKYWORK, RLHFLOW, MATH_SHEPHERD, SPARE, ORM)}

__all__ = ["DIGITS", "FORMATS", "SEPARATORS", "Format", "Frame", "Head", "Read", "Squash"]
