"""The verbs that go on with what is stored: rescore, report, view, retrain."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flows.progress import said
from store.database import Database


def rescore(opened: Database, wanted: str, verifier: str | None, grader: str | None, json: bool) -> None:
    """Rescores and says what was added."""
    from flows import records
    from flows import rescore as rescoring
    from flows.parts import part

    made = rescoring.run(opened, wanted, None if verifier is None else part(verifier), grader, _Lines())
    if json:
        records.tell(*(asdict(each) for each in made))
    else:
        _out("\n".join(line for each in made for line in each.lines()))


def report(opened: Database, wanted: Sequence[str], file: str, plots: str, force: bool, resamples: int, json: bool) -> None:
    """Writes the report's page, or its summary in Markdown, and its charts."""
    from flows import records
    from flows.report import summary, written

    made = written.run(opened, wanted, file, plots, force, resamples)
    if not json:
        _out("\n".join(made.lines()))
        return
    try:
        pairs = [asdict(each) for each in summary.compared(opened, made.runs, resamples)]
    except ValueError:  # runs on other problems
        pairs = []
    runs = [records.of_run(opened, run) for run in made.runs]
    records.tell({"file": made.file, "plots": list(made.plots), "runs": runs, "pairs": pairs})


def view(opened: Database, wanted: Sequence[str], port: int, json: bool) -> None:
    """Serves the page until it is interrupted."""
    from flows import records
    from flows.report import viewed

    def started(url: str) -> None:
        records.tell({"url": url}) if json else _out(f"{url}  (Ctrl-C ends it)")
        sys.stdout.flush()

    viewed.run(opened, wanted, port, started)


def retrain(opened: Database, raw: Mapping[str, Any], json: bool) -> None:
    """Trains and says what it is worth. `raw`: the fields of RetrainParameters."""
    from pydantic import ValidationError

    from flows import retrain as retraining
    from flows.parameters import RetrainParameters

    try:
        asked = RetrainParameters.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "-".join(map(str, first["loc"])).replace("_", "-")
        raise ValueError(f"--{name} is '{first['input']}': {first['msg'].lower()}") from None
    made = retraining.run(opened, asked)
    _out(jsonlib.dumps(asdict(made)) if json else "\n".join(made.lines()))


class _Lines:
    """Says how far it is, now and then."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self, done: int, total: int) -> None:
        if total and (done == total or done - self.last >= max(total // 10, 1) * 2):
            self.last = done
            said(f"{done}/{total} problems")


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")


__all__ = ["report", "rescore", "retrain", "view"]
