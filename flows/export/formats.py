"""The formats by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import harness, inspecting, jsonl, parquet, preferences, prm
from .attempts import Source
from .told import Exported, Options

_LEARNED = ("least", "balance", "split")


@dataclass(frozen=True, slots=True)
class Format:
    """How runs are written down."""

    write: Callable[[Source, Path, Options, Exported], None]
    takes: tuple[str, ...] = ()  # fields of Options
    folder: Callable[[str], bool] = lambda output: True  # whether the output of this name is one
    available: Callable[[], None] = lambda: None  # raises ValueError where something is not installed


FORMATS: dict[str, Format] = {
    "parquet": Format(parquet.write),
    "jsonl": Format(jsonl.write, ("steps",), folder=lambda output: False),
    "lm-eval": Format(harness.write),
    "inspect": Format(inspecting.write, ("chosen",), lambda output: not inspecting.is_file(output), inspecting.available),
    "prm": Format(prm.write, ("soft", "unpruned", *_LEARNED)),
    "preferences": Format(preferences.write, ("level", "margin", "pairs", *_LEARNED)),
}

__all__ = ["FORMATS", "Format"]
