"""What the queries answer with."""

from __future__ import annotations

from dataclasses import dataclass

from search.types import Path, Score


@dataclass(frozen=True, slots=True)
class Summary:
    """One run in numbers. Tokens and passes are means per finished problem (done or failed), None where there is none;
    seconds are sums over them."""

    run_id: str
    problems: int
    done: int
    failed: int
    pending: int  # planned or still running
    graded: int
    correct: int
    accuracy: float | None  # correct / (done + failed): failed and ungraded ones count as wrong; None where none is graded
    low: float  # 95% Wilson interval of the accuracy
    high: float
    generated_tokens: float | None
    sequential_tokens: float | None
    verifier_passes: float | None
    prompt_tokens: float | None
    cached_tokens: float | None
    recomputed_tokens: float | None
    drafted_tokens: float | None
    accepted_tokens: float | None
    pruned_tokens: float | None
    cancelled_tokens: float | None
    verifier_tokens: float | None
    embedding_tokens: float | None
    flops: float | None
    candidates: float | None
    queue_seconds: float
    generate_seconds: float
    shared_tokens: float  # sum: of the generated, read from another run's rows
    shared_seconds: float  # of the generating: charged for them, and not spent
    verify_seconds: float
    embed_seconds: float
    store_seconds: float
    wasted_tokens: float  # sum: generated, stored and given up by a fresh start
    invalid_scores: float  # sum: that the verifier gave no number in [0, 1] for
    search_seconds: float  # from each search's start to its end; searches run side by side, so this is not wall time


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt with its problem's id and its result."""

    id: int
    problem: str
    position: int
    seed: int
    status: str
    tries: int
    error: str | None  # of the last try that failed
    path: Path | None
    answer: str | None
    reason: str | None
    verdict: str | None
    correct: bool | None
    grader: str | None
    generated_tokens: int | None
    verifier_passes: int | None
    candidates: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One candidate, its own step only, with all its scores."""

    attempt_id: int
    problem: str
    path: Path
    parent: Path
    depth: int
    number: int  # order of minting in the attempt
    tokens: int
    text: str
    finish: str
    state: str
    cause: str
    answer: str | None
    answer_reason: str
    logprob: float | None  # sum over the step, nats
    certainty: float | None  # mean over the step's tokens, nats; higher = surer
    scores: tuple[Score, ...] = ()
