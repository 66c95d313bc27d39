"""Parts of a pass side by side, each computed by one thread alone: one meeting a pass instead of one an operation, and products
whose rounding does not depend on how many threads there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch import Tensor

from pipelines.engine.batch import Batch

MIN_PART = 8  # tokens: smaller parts of a batch are not worth a thread


class SideBySide(ABC):
    """A forward pass over paged memory in up to `threads` parts; one thread off the CPU."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def __call__(self, batch: Batch) -> Tensor:
        """Logits float32 [wanted, vocabulary]."""
        first, *rest = self._parts(batch)
        before = torch.get_num_threads()
        if before != 1:
            torch.set_num_threads(1)
        others: list[Future[Tensor]] = []
        try:
            others = [self.pool.submit(self._alone, part) for part in rest] if self.pool is not None else []
            logits = [self._run(first), *(other.result() for other in others)]
        finally:
            if others:
                wait(others)  # where one part fails, no other may go on writing to pages that are soon another row's
            if before != 1:
                torch.set_num_threads(before)
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def _parts(self, batch: Batch) -> list[Batch]:
        """Parts of like size, cut between rows, since a row's later tokens need its earlier ones' keys."""
        rows, count = batch.places.rows, len(batch.ids)
        parts, begin = [], 0
        for k in range(1, self.threads):
            end = max(count * k // self.threads, begin)
            while 0 < end < count and rows[end] == rows[end - 1]:
                end += 1
            if end - begin >= MIN_PART and count - end >= MIN_PART:
                parts.append(batch.part(begin, end))
                begin = end
        return [*parts, batch.part(begin, count)] if parts else [batch]

    def _alone(self, part: Batch) -> Tensor:
        torch.set_num_threads(1)  # of this thread
        return self._run(part)

    @torch.inference_mode()
    def _run(self, part: Batch) -> Tensor:
        logits = [self._piece(piece) for piece in part.pieces()]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    @abstractmethod
    def _piece(self, batch: Batch) -> Tensor:
        """Logits of at most MOST_ROWS tokens."""
