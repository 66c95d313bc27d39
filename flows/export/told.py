"""What an export tells of itself, and the options it was given."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

_SURROGATES = re.compile("[\ud800-\udfff]")
LEVELS = ("solution", "step")
SPLITS = ("all", "train")


@dataclass(frozen=True, slots=True)
class Options:
    """What some of the formats take; each names its own."""

    steps: bool = False  # jsonl: the tree too
    chosen: bool = False  # inspect: only what was chosen
    soft: bool = False  # prm: shares in place of true and false
    least: int = 1  # prm, preferences: whole solutions that a step must have below it
    balance: bool = False  # prm: as many right as wrong rows; preferences: as many longer as shorter choices
    unpruned: bool = False  # prm: only rows below whose steps the search cut nothing
    level: str = "solution"  # preferences: LEVELS
    margin: float | None = None  # preferences: by which the verifier must agree
    pairs: int = 4  # preferences: of one problem, at most
    split: str = "all"  # prm, preferences: SPLITS

    def given(self) -> dict[str, Any]:
        """Those that are not the defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


@dataclass(slots=True)
class Exported:
    """What was written, and what was not."""

    format: str
    output: str
    runs: list[str]
    files: dict[str, int] = field(default_factory=dict)  # name -> rows
    left_out: Counter[str] = field(default_factory=Counter)  # what -> how many
    replaced: int = 0  # characters that the format cannot hold, each by U+FFFD
    notes: list[str] = field(default_factory=list)

    def text(self, text: str) -> str:
        """A text as UTF-8 can hold it: a lone surrogate becomes U+FFFD, and is counted."""
        if text.isascii():
            return text
        kept, count = _SURROGATES.subn("\ufffd", text)
        self.replaced += count
        return kept

    def note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)

    def told(self) -> dict[str, Any]:
        """For a machine."""
        files = [{"file": name, "rows": rows} for name, rows in self.files.items()]
        return {
            "format": self.format,
            "output": self.output,
            "runs": self.runs,
            "files": files,
            "left_out": dict(self.left_out),
            "replaced_characters": self.replaced,
            "notes": self.notes,
        }

    def lines(self) -> list[str]:
        """For a person."""
        rows = [f"{rows:>9,} rows in {name}" for name, rows in self.files.items()]
        lost = [f"{count:,} {what} left out" for what, count in self.left_out.items() if count]
        if self.replaced:
            lost.append(f"{self.replaced:,} lone surrogates, which the format cannot hold, are U+FFFD in it")
        return [f"written to {self.output}", *rows, *lost, *self.notes]


__all__ = ["LEVELS", "SPLITS", "Exported", "Options"]
