"""What the verbs tell machines (`--json`): one JSON object a line on standard output, and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from store import queries
from store.imported import is_imported
from store.runs import Run, find_run, run_status

if TYPE_CHECKING:
    from store.database import Database


def tell(*objects: Mapping[str, Any]) -> None:
    for each in objects:
        sys.stdout.write(json.dumps(each, ensure_ascii=False) + "\n")
    sys.stdout.flush()  # a program may wait for it


def nothing(*objects: Mapping[str, Any]) -> None:
    """For whoever reads: nobody."""


def of_run(opened: Database, run: Run) -> dict[str, Any]:
    """A run in numbers, with its spec: what a query would find, under the same names."""
    found = asdict(queries.summary(opened, run.id))
    del found["run_id"]
    return {**about(opened, run), **found, "file": file_of([run]), "spec": json.loads(run.spec.json())}


def about(opened: Database, run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "name": run.name,
        "status": run_status(opened, run),
        "created": run.created,
        "ended": run.ended,
        "commit": run.environment.get("commit", ""),
    }


def of_runs(opened: Database, ids: Iterable[str]) -> int:
    """Tells each run; how many problems failed."""
    told = [of_run(opened, find_run(opened, each)) for each in ids]
    tell(*told)
    return sum(each["failed"] for each in told)


def file_of(runs: Sequence[Run]) -> str | None:
    """The spec file that repeats the runs; None where none does: they were imported, or an older version's."""
    from flows import spec_file

    if any(is_imported(run.spec) for run in runs):
        return None
    try:
        return spec_file.text([spec_file.of(run.spec, run.name) for run in runs])
    except ValueError:
        return None


def models() -> dict[str, Any]:
    from pipelines.models import BUNDLED, NAMES, card

    return {role: {"name": NAMES[role], **card(folder)} for role, folder in BUNDLED.items()}


def strategies() -> dict[str, Any]:
    from search.select import SELECTORS
    from search.strategies import STRATEGIES, resolved
    from search.types import Part
    from verifiers.registry import VERIFIERS

    return {
        "strategies": {
            name: {"about": (of.__doc__ or "").strip().splitlines()[0], "params": dict(resolved(Part(name)).params)}
            for name, of in STRATEGIES.items()
        },
        "selectors": {n: {"about": rule.about, "needs_verifier": rule.needs_verifier} for n, rule in SELECTORS.items()},
        "verifiers": {n: {"about": k.about, "join": k.join.value, "takes": list(k.takes)} for n, k in VERIFIERS.items()},
    }
