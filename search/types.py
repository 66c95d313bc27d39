"""The shared words: what a problem, a step, a candidate, a score and a request are.

Everything else in Ponderosa speaks in these. A candidate's *path* ("2.0.1": the second child of the first child of the
third child of the root, counted from 0) is its identity: key, ancestry and seed come from it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .rules import NO_RULES, Ahead, Rules

Path = str
ROOT: Path = ""
SEPARATOR = "\n\n"  # what ends a step


def parent_of(path: Path) -> Path:
    """The path one step up; the parent of a first step is ROOT."""
    return path.rpartition(".")[0]


def depth_of(path: Path) -> int:
    """How many steps lead to a path; 0 for ROOT."""
    return path.count(".") + 1 if path else 0


def child_of(path: Path, index: int) -> Path:
    return f"{path}.{index}" if path else str(index)


def lineage(path: Path) -> list[Path]:
    """The paths from the first step down to this one, ROOT left out."""
    parts = path.split(".") if path else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


@lru_cache(maxsize=1 << 16)  # of other problems too: their trees have the same paths
def order(path: Path) -> tuple[int, ...]:
    """A sort key: numeric, so that 2 comes before 10 and a parent before its children."""
    return tuple(int(part) for part in path.split(".")) if path else ()


def seed_of(run_seed: int, problem_id: str, path: Path) -> int:
    """The 63-bit seed of a candidate's sampling noise: a function of its address, never of who sampled before it."""
    digest = hashlib.blake2b(f"{run_seed}|{problem_id}|{path}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


# ------------------------------------------------------------------------------------------------------------- problems


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a set. The reference answer is for the grader and the store; a search gets the Question."""

    id: str
    prompt: str
    answer: str
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What a search may know of a problem: its id, its text, and the prompt's tokens for the generator."""

    id: str
    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A canonical answer key taken from a text, or the reason why there is none."""

    key: str | None
    reason: str = ""


# ---------------------------------------------------------------------------------------------------- steps, candidates


class Until(StrEnum):
    """How far a continuation goes: to the end of a step, or to the end of the solution."""

    STEP = "step"
    END = "end"


class Finish(StrEnum):
    """Why a continuation ended. Only END finishes a solution; a truncated one is not finished."""

    STEP = "step"  # a step separator was written
    END = "end"  # the model's end token was written
    LENGTH = "length"  # the token limit or the model's context was reached
    BUDGET = "budget"  # the search's budget ran out inside the step
    CANCELLED = "cancelled"  # others of the request finished first
    PAUSE = "pause"  # a rule stopped it before its next token, to decide on that
    UNSURE = "unsure"  # its confidence fell below what a rule allows
    BARRED = "barred"  # in a tree only: it ended, and the search's constraint does not allow what it says


GOES_ON = (Finish.STEP, Finish.PAUSE)  # what is no whole solution
GIVEN_UP = (Finish.CANCELLED, Finish.UNSURE)  # what a rule stopped for good


class Packed(NamedTuple):
    """A step's arrays as bytes; search.packing says how."""

    tokens: bytes
    extra: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One continuation, token by token. The arrays have one entry a token and are of the model's own distribution
    (temperature 1, full vocabulary, before top-k and the like): float32 from a generator, and in a Tree rounded to what the
    store keeps (search.packing)."""

    tokens: NDArray[np.int32]
    text: str
    logprobs: NDArray[np.float32]  # ln p of each token, nats, <= 0
    certainties: NDArray[np.float32]  # KL(uniform || p) at each token, nats, >= 0; higher = surer (arXiv 2502.18581)
    entropies: NDArray[np.float32]  # nats, >= 0; lower = surer
    finish: Finish
    drawn: NDArray[np.float32] | None = None  # ln of the probability with which each token was drawn; 0 where greedy
    confidences: NDArray[np.float32] | None = None  # DeepConf's, where asked for: mean -ln p of the k likeliest; higher = surer
    packed: Packed | None = None  # of a rounded step
    ahead: Ahead | None = None  # what it said of its next token where it paused

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def logprob(self) -> float:
        """Sum of the tokens' ln p, nats; 0 for an empty step."""
        return float(self.logprobs.sum(dtype=np.float64))

    @property
    def certainty(self) -> float:
        """Mean self-certainty over the tokens, nats; 0 for an empty step."""
        return float(self.certainties.mean(dtype=np.float64)) if len(self) else 0.0


class State(StrEnum):
    """Where a candidate stands when its search is over; `cause` in the tree says why."""

    LIVE = "live"
    PRUNED = "pruned"
    MERGED = "merged"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ASIDE = "aside"  # no solution: what a strategy asked on the way, a plan or a comparison; the cause names it


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A partial or whole solution: a path and the step that was added at its end. Minted by the Tree only."""

    path: Path
    step: Step

    @property
    def parent(self) -> Path:
        return parent_of(self.path)

    @property
    def depth(self) -> int:
        return depth_of(self.path)

    @property
    def finished(self) -> bool:
        return self.step.finish is Finish.END

    @property
    def open(self) -> bool:
        """Whether the search may go on from here."""
        return self.step.finish in GOES_ON


def pieces_of(text: str) -> list[str]:
    """The steps of a text without their separators, empty ones left out."""
    return [piece for piece in map(str.strip, text.split(SEPARATOR)) if piece]


@dataclass(frozen=True, slots=True)
class Trace:
    """What a verifier may see: the question and the steps of one candidate, from the first to its own."""

    question: Question
    steps: tuple[Step, ...]

    @property
    def texts(self) -> list[str]:
        """The text step by step, without separators: a whole solution that was generated in one go is cut here, so that it
        is read as one that was generated step by step."""
        return [piece for step in self.steps for piece in pieces_of(step.text)]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a verifier answers for one trace: a value in [0, 1] for each of its texts, or for the whole (higher = better), and
    what it cost."""

    parts: tuple[float, ...]
    reason: str = ""  # why there is no value, where parts is empty; or what else was found (search.collaborate)
    passes: int = 0  # forward passes of a reward model (one for each trace scored)
    tokens: int = 0  # tokens those passes computed
    flops: float = 0.0


class Join(StrEnum):
    """How the values of a candidate's steps become one."""

    LAST = "last"
    MIN = "min"
    PROD = "prod"
    MEAN = "mean"

    def __call__(self, parts: Sequence[float]) -> float:
        match self:
            case Join.LAST:
                return parts[-1]
            case Join.MIN:
                return min(parts)
            case Join.PROD:
                return math.prod(parts)
            case Join.MEAN:
                return math.fsum(parts) / len(parts)


@dataclass(frozen=True, slots=True)
class Score:
    """A verifier's judgement of one candidate: a value in [0, 1], higher = better, or None with a reason."""

    path: Path
    verifier: str
    value: float | None
    parts: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer in a choice: how many candidates gave it and what weight they carried."""

    answer: str
    count: int
    weight: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search ends with: the chosen candidate and answer, or None where nothing finished, and why."""

    path: Path | None
    answer: str | None
    reason: str
    votes: tuple[Vote, ...] = ()  # heaviest first


# ------------------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 are off."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # of tokens seen in prompt or continuation (arXiv 1909.05858); 1 is off
    mirostat_tau: float = 0.0  # target surprise in bits (arXiv 2007.14966); 0 is off
    mirostat_eta: float = 0.1  # learning rate of Mirostat
    confidence: int = 0  # the k of DeepConf's token confidence (arXiv 2508.15260), kept with each step; 0 is off
    momentum: float = 0.0  # alpha of momentum decoding (arXiv 2212.02175) among the 5 likeliest tokens; 0 is off

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 100):
            raise ValueError(f"temperature must be between 0 and 100, not {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if not 0 <= self.min_p < 1:
            raise ValueError(f"min_p must be at least 0 and below 1, not {self.min_p}")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise ValueError(f"repetition_penalty must be above 0, not {self.repetition_penalty}")
        if not (math.isfinite(self.mirostat_tau) and self.mirostat_tau >= 0):
            raise ValueError(f"mirostat_tau must be 0 (off) or more bits, not {self.mirostat_tau}")
        if not (math.isfinite(self.mirostat_eta) and self.mirostat_eta > 0):
            raise ValueError(f"mirostat_eta must be above 0, not {self.mirostat_eta}")
        if self.confidence < 0:
            raise ValueError(f"confidence must be 0 (off) or more tokens, not {self.confidence}")
        if not (math.isfinite(self.momentum) and self.momentum >= 0):
            raise ValueError(f"momentum must be 0 (off) or more, not {self.momentum}")
        if self.momentum and self.temperature:
            raise ValueError(f"momentum draws nothing: give it with temperature 0, not {self.temperature}")
        if self.mirostat_tau and (self.top_k or self.top_p < 1 or self.min_p):
            raise ValueError("mirostat_tau replaces top_k, top_p and min_p; give it alone")


GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One continuation asked for: the path it will have, its seed, all the tokens before it (prompt included), and how
    many tokens it may have."""

    path: Path
    seed: int
    prefix: tuple[int, ...]
    limit: int
    begin: tuple[int, ...] = ()  # tokens that the continuation begins with: given, not drawn, and charged as any
    text: tuple[str, str] | None = None  # the question and what was said after it, for a generator that is asked in text


@dataclass(frozen=True, slots=True)
class Extend:
    """Asks a generator for continuations. All rows start together and run in step, token by token, so what the stop
    rules below do depends on the texts alone, never on the clock or on other searches."""

    rows: tuple[Row, ...]
    until: Until
    sampling: Sampling
    first: int | None = None  # stop all rows once this many have ended by themselves (END, or STEP if until=STEP)
    allowance: int | None = None  # tokens all rows together may have: the budget's remainder
    flops: float | None = None  # FLOPs all rows together may cost: likewise
    seconds: float | None = None  # of the generator's time, as it is charged to this request: likewise
    stops: tuple[str, ...] = ()  # strings that end a solution as the end token does, wherever tokens part them
    dropped: tuple[Path, ...] = ()  # candidates that the search gave up: their memory is free to go
    rules: Rules = NO_RULES
    model: str = ""  # which of the run's generators; "" is the one, "small" its smaller sibling
    prompt: str | None = None  # the question that the rows answer, where it is one of the strategy's own
    parted: bool = False  # whether the search has asked such questions: what stands above a path may be another text

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of what decides the reply: equal for equal requests, in any process. Deeper prefixes are not
        read: they follow from the replies before."""
        rows = [(row.path, row.seed, row.limit, len(row.prefix)) for row in self.rows]
        prompt = [row.prefix for row in self.rows[:1] if depth_of(row.path) == 1]
        # what a later version adds to the sampling is off in an older journal, and not part of it
        sampling = [(f.name, v) for f in fields(self.sampling) if (v := getattr(self.sampling, f.name)) != f.default]
        bounds = self.first, self.allowance, self.flops, self.seconds
        begins = [row.begin for row in self.rows] if any(row.begin for row in self.rows) else None
        rules = self.rules if self.rules != NO_RULES else None
        later = [(name, each) for name, each in zip("rmbp", (rules, self.model, begins, self.prompt), strict=True) if each]
        return _digest("extend", rows, prompt, self.until.value, sampling, *bounds, self.stops, *later)


@dataclass(frozen=True, slots=True)
class Extension:
    """A generator's reply: one step a row, in the order of the rows, and what it cost."""

    steps: tuple[Step, ...]
    prompt_tokens: int = 0  # tokens before the steps that had to be computed
    cached_tokens: int = 0  # tokens before the steps that were reused
    recomputed_tokens: int = 0  # of the prompt tokens: computed before, and dropped when memory ran short
    drafted_tokens: int = 0  # guessed ahead and checked by the model
    accepted_tokens: int = 0  # of the drafted: those that the model would have drawn itself
    small_tokens: int = 0  # of the generated: by the smaller sibling
    shared_tokens: int = 0  # of the generated: read from another run's rows, charged as if generated here
    shared_seconds: float = 0.0  # of the seconds: what they had cost there
    flops: float = 0.0
    queue_seconds: float = 0.0
    seconds: float = 0.0  # this request's share of the generator's time


@dataclass(frozen=True, slots=True)
class Verify:
    """Asks the verifier for a reading of each candidate. Where a bound is reached, the rest get a reading without a value."""

    paths: tuple[Path, ...]
    traces: tuple[Trace, ...]
    flops: float | None = None  # FLOPs all of it may cost: the budget's remainder
    seconds: float | None = None  # of the verifier's time, as it is charged to this request: likewise

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of what is asked. The traces are not read: they follow from the replies before."""
        return _digest("verify", self.paths, self.flops, self.seconds)


@dataclass(frozen=True, slots=True)
class Readings:
    """The verifier's reply, in the order of the request."""

    readings: tuple[Reading, ...]
    queue_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Embed:
    """Asks the encoder for a vector of each candidate."""

    paths: tuple[Path, ...]
    traces: tuple[Trace, ...]

    @property
    def digest(self) -> str:
        """As Verify's."""
        return _digest("embed", self.paths)


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What an encoder answers for one trace, and what it cost."""

    vector: NDArray[np.float32]  # [dimensions]
    tokens: int = 0  # computed for it
    flops: float = 0.0


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The encoder's reply, in the order of the request."""

    embeddings: tuple[Embedding, ...]
    queue_seconds: float = 0.0
    seconds: float = 0.0


def _digest(*of: object) -> str:
    return hashlib.blake2b(repr(of).encode(), digest_size=8).hexdigest()


Request = Extend | Verify | Embed
Reply = Extension | Readings | Embeddings
T = TypeVar("T")
Ask = Generator[Request, Reply, T]


# ------------------------------------------------------------------------------------------------------ who is asked


class TextGenerator(Protocol):
    """Answers Extend for many searches at once."""

    def submit(self, search: int, request: Extend) -> None:
        """Queues a request; one at a time for each search. Raises ValueError for one that can never be met."""

    def advance(self) -> Sequence[tuple[int, Extension | Exception]]:
        """Computes one more token for the running rows; the requests that are done with it, or failed alone."""

    def forget(self, search: int) -> None:
        """The search is over: drops its requests and frees its memory."""

    @property
    def busy(self) -> bool:
        """Whether any request is queued or running."""


class Verifier(Protocol):
    """Judges traces. It sees no reference answer."""

    name: str

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        """One reading a trace, in order; independent of what else is in the batch."""


class Encoder(Protocol):
    """Turns traces into vectors. It sees no reference answer."""

    name: str

    def embed(self, traces: Sequence[Trace]) -> list[Embedding]:
        """One vector a trace, in order, all of one length; independent of what else is in the batch."""


# ----------------------------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True, slots=True)
class Part:
    """A named piece of a run with its parameters, written NAME or NAME:KEY=VALUE,KEY=VALUE."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name + (":" + ",".join(f"{k}={v}" for k, v in self.params.items()) if self.params else "")


@dataclass(frozen=True, slots=True)
class Budget:
    """What one problem may cost; None = no bound. Every bound is hard: it stops inside a step.

    Tokens, passes and candidates are counted exactly. FLOPs and seconds are what the ledger charges, and that depends on
    what else was in the batch: a run bounded in them is replayed as it was, but not repeated to the token.
    """

    tokens: int | None = None  # generated tokens
    passes: int | None = None  # verifier passes
    candidates: int | None = None
    flops: float | None = None  # of generator, verifier and encoder
    seconds: float | None = None  # this search's share of the time spent generating, verifying and embedding

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is None:
                continue
            if name in ("flops", "seconds"):
                if not (math.isfinite(value) and value > 0):
                    raise ValueError(f"budget of {name} must be a finite number above 0, not {value}")
            elif value < 1:
                raise ValueError(f"budget of {name} must be at least 1, not {value}")


# Fields of RunSpec, Sampling and Budget that the first runs did not have: off, they are not in the JSON, and old ids stay.
_ADDED_LATER = {
    *("stops", "repetition_penalty", "mirostat_tau", "mirostat_eta", "confidence", "flops", "seconds"),
    *("encoder", "small", "momentum", "constraint", "slot"),
}


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything needed to repeat a run. Its canonical JSON is hashed to the run's id."""

    problems: Part
    generator: Part
    verifier: Part
    strategy: Part
    sampling: Sampling = Sampling()
    budget: Budget = Budget()
    step_tokens: int = 64  # tokens one step may have
    tokens: int = 384  # tokens one solution may have
    seed: int = 0
    weights: str = ""  # fingerprints of the models: a name alone does not say which weights it had
    stops: tuple[str, ...] = ()  # strings that end a solution as the end token does
    encoder: Part | None = None  # for strategies that embed; None: none
    small: Part | None = None  # the generator's smaller sibling, for strategies that switch; None: none
    constraint: str = ""  # a regular expression that must be found in each step's text; "": none
    slot: str = ""  # SCHEDULE@UTC of a scheduled run: what makes two nights of one spec two runs; "": none

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.step_tokens < 1:
            raise ValueError(f"token limits must be at least 1, not {min(self.tokens, self.step_tokens)}")
        if not -(2**63) <= self.seed < 2**63:  # what a database's columns hold
            raise ValueError(f"seed must be a whole number of 64 bits, not {self.seed}")
        try:
            re.compile(self.constraint)
        except re.error as error:
            raise ValueError(f"constraint '{self.constraint}' is no regular expression: {error}") from None
        if "" in self.stops:
            raise ValueError(f"a stop string must have at least 1 character; leave the empty one out of {list(self.stops)}")

    def json(self) -> str:
        """Canonical JSON: sorted keys, no spaces. What was added later is left out where it is off."""
        raw = asdict(self)
        for written, of in ((raw, self), (raw["sampling"], self.sampling), (raw["budget"], self.budget)):
            for each in fields(of):
                if each.name in _ADDED_LATER and written[each.name] == each.default:
                    del written[each.name]
        return json.dumps(raw, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def id(self) -> str:
        """12 hexadecimal digits of the BLAKE2b hash of the canonical JSON."""
        return hashlib.blake2b(self.json().encode(), digest_size=6).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> RunSpec:
        raw = json.loads(text)
        raw |= {key: Part(**raw[key]) for key in ("problems", "generator", "verifier", "strategy")}
        raw |= {key: Part(**raw[key]) for key in ("encoder", "small") if raw.get(key)}
        raw |= {"sampling": Sampling(**raw["sampling"]), "budget": Budget(**raw["budget"])}
        return cls(**raw | {"stops": tuple(raw.get("stops", ()))})
