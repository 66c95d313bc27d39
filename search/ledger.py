"""The cost ledger of one search."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .types import GIVEN_UP, Embeddings, Extension, Readings


@dataclass(slots=True)
class Usage:
    """What a search has spent. Tokens and passes are counts, seconds are this search's share of batched work."""

    generated_tokens: int = 0  # all of them: pruned and cancelled ones too
    cancelled_tokens: int = 0  # of the generated: in rows that a rule stopped for good
    pruned_tokens: int = 0  # of the generated: in steps that the strategy pruned or merged; known when the search is over
    sequential_tokens: int = 0  # longest chain of tokens that had to wait for each other: latency
    prompt_tokens: int = 0  # computed before the steps (prompts, and prefixes no longer in the cache)
    cached_tokens: int = 0  # reused instead
    recomputed_tokens: int = 0  # of the prompt tokens: computed before, and dropped when memory ran short
    drafted_tokens: int = 0  # guessed ahead and checked by the generator's model
    accepted_tokens: int = 0  # of the drafted: those that the model would have drawn itself
    small_tokens: int = 0  # of the generated: by the smaller sibling
    shared_tokens: int = 0  # of the generated: read from another run's rows, charged as if generated here
    candidates: int = 0
    verifier_passes: int = 0
    verifier_tokens: int = 0
    invalid_scores: int = 0  # that the verifier gave no number in [0, 1] for: they never select and never order
    embedding_tokens: int = 0
    flops: float = 0.0  # 2 x parameters x tokens, generator, verifier and encoder
    queue_seconds: float = 0.0
    generate_seconds: float = 0.0
    shared_seconds: float = 0.0  # of the generating: charged for shared tokens, and not spent again
    verify_seconds: float = 0.0
    embed_seconds: float = 0.0
    store_seconds: float = 0.0

    def generated(self, reply: Extension) -> None:
        """Charges a generator's reply. Its rows ran side by side, so the chain grows by the longest of them."""
        lengths = [len(step) for step in reply.steps]
        self.generated_tokens += sum(lengths)
        self.cancelled_tokens += sum(len(s) for s in reply.steps if s.finish in GIVEN_UP)
        self.sequential_tokens += max(lengths, default=0)
        self.prompt_tokens += reply.prompt_tokens
        self.cached_tokens += reply.cached_tokens
        self.recomputed_tokens += reply.recomputed_tokens
        self.drafted_tokens += reply.drafted_tokens
        self.accepted_tokens += reply.accepted_tokens
        self.small_tokens += reply.small_tokens
        self.shared_tokens += reply.shared_tokens
        self.candidates += len(reply.steps)
        self.flops += reply.flops
        self.queue_seconds += reply.queue_seconds
        self.generate_seconds += reply.seconds
        self.shared_seconds += reply.shared_seconds

    def verified(self, reply: Readings) -> None:
        """Charges a verifier's reply."""
        self.verifier_passes += sum(r.passes for r in reply.readings)
        self.verifier_tokens += sum(r.tokens for r in reply.readings)
        self.flops += sum(r.flops for r in reply.readings)
        self.queue_seconds += reply.queue_seconds
        self.verify_seconds += reply.seconds

    def embedded(self, reply: Embeddings) -> None:
        """Charges an encoder's reply."""
        self.embedding_tokens += sum(e.tokens for e in reply.embeddings)
        self.flops += sum(e.flops for e in reply.embeddings)
        self.queue_seconds += reply.queue_seconds
        self.embed_seconds += reply.seconds

    @property
    def seconds(self) -> float:
        """What a budget of seconds bounds: time spent for this search by the models."""
        return self.generate_seconds + self.verify_seconds + self.embed_seconds

    def asdict(self) -> dict[str, float]:
        return asdict(self)
