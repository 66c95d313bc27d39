"""The verbs that go on with what is stored: rescore, report, retrain."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flows.parts import part
from flows.progress import said
from store.database import Database


def rescore(opened: Database, wanted: str, verifier: str | None, grader: str | None, json: bool) -> None:
    """Rescores and says what was added."""
    from flows import records
    from flows import rescore as rescoring

    made = rescoring.run(opened, wanted, None if verifier is None else part(verifier), grader, _Lines())
    if json:
        records.tell(*(asdict(each) for each in made))
    else:
        _out("\n".join(line for each in made for line in each.lines()))


def report(opened: Database, wanted: Sequence[str], file: str, resamples: int, json: bool) -> None:
    """Writes the report to standard output, or to a file."""
    from flows import report as reporting

    text = reporting.run(opened, wanted, file, resamples)
    if json:
        _tell_report(opened, wanted, file, resamples)
        return
    _out(f"written to {file}" if file else text.rstrip())


def _tell_report(opened: Database, wanted: Sequence[str], file: str, resamples: int) -> None:
    from flows import records
    from flows.report import compared
    from store.runs import find_run

    runs = list({run.id: run for run in (find_run(opened, each) for each in wanted)}.values())
    try:
        pairs = [asdict(each) for each in compared(opened, runs, resamples)]
    except ValueError:  # runs on other problems
        pairs = []
    records.tell({"file": file or None, "runs": [records.of_run(opened, run) for run in runs], "pairs": pairs})


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


__all__ = ["report", "rescore", "retrain"]
