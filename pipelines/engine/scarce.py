"""Out of memory: how it is told from other errors, and batches that are halved until they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

SAYS = ("out of memory", "not enough memory", "allocate memory", "cublas_status_alloc_failed")  # in any case

T = TypeVar("T")
R = TypeVar("R")


class OutOfMemory(MemoryError):
    """One request alone needs more memory than there is; one line."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had. torch has a class of its own for a GPU's, and for a CPU's only a
    RuntimeError with a text."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(says in str(error).lower() for says in SAYS)


def said(error: BaseException) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def halved(batch: Sequence[T], compute: Callable[[Sequence[T]], Sequence[R]]) -> Iterator[R | OutOfMemory]:
    """What `compute` gives for each of a batch, in order. A batch that runs out of memory is computed in two halves, and so on
    down to one alone; where that fails too, it gets the error instead."""
    try:
        found = compute(batch)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        fault = said(error)
    else:
        yield from found
        return
    # beyond the except clause: the error holds the frames in which it was raised, and they hold the memory
    released()
    if len(batch) == 1:
        yield OutOfMemory(fault)
        return
    middle = len(batch) // 2
    yield from halved(batch[:middle], compute)
    yield from halved(batch[middle:], compute)


def released() -> None:
    """Gives back what torch's allocator keeps of a GPU for later."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
