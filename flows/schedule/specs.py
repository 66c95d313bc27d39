"""The RunSpec of a schedule: from words, a file or a run that is stored, and what becomes of it at a slot."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

from flows import work
from flows.parts import weights
from pipelines.models import NAMES
from search.types import Part, RunSpec
from store.database import Database
from store.imported import is_imported
from store.runs import find_run, get_run
from store.schedules import Schedule
from store.slots import Taken

PATHS = ("file", "model", "generator")  # parameters that may name a file or a folder


def at_slot(schedule: Schedule, slot_utc: str) -> RunSpec:
    """What a slot evaluates: the schedule's spec with the weights as they are now, under the slot's own name.

    The name is part of the run's identity, so that two nights are two runs. The seed is the schedule's own in every slot: with
    the same weights and code the texts are the same, and a difference is a change. With `seeds` "slot" each has its own.
    """
    spec = schedule.spec
    here = weights(spec.generator, spec.verifier, spec.encoder, spec.small)
    seed = spec.seed if schedule.seeds == "same" else seed_at(spec.seed, slot_utc)
    return replace(spec, weights=here, seed=seed, slot=f"{schedule.name}@{slot_utc}")


def seed_at(seed: int, slot_utc: str) -> int:
    """32 bits of a hash of the spec's seed and the slot."""
    return int.from_bytes(hashlib.blake2b(f"{seed}|{slot_utc}".encode(), digest_size=4).digest(), "little")


def of_taken(database: Database, taken: Taken) -> RunSpec:
    """The spec of a slot that is run: what its run was begun with, where a process before this one has begun it."""
    begun = None if taken.slot.run_id is None else get_run(database, taken.slot.run_id)
    return at_slot(taken.schedule, taken.slot.slot_utc) if begun is None else begun.spec


def like(database: Database, wanted: str) -> RunSpec:
    """The spec of a stored run. ValueError for one that was imported: there is nothing to evaluate again."""
    run = find_run(database, wanted)
    if is_imported(run.spec):
        raise ValueError(f"run '{run.id}' was imported; a schedule needs one that was generated here")
    return run.spec


def anywhere(spec: RunSpec) -> RunSpec:
    """The spec with paths that hold from any folder: who serves a schedule is not where it was made."""
    encoder, small = (None if part is None else _whole(part, model=True) for part in (spec.encoder, spec.small))
    problems, verifier, generator = _whole(spec.problems), _whole(spec.verifier), _whole(spec.generator, model=True)
    return replace(
        spec, problems=problems, generator=generator, verifier=verifier, encoder=encoder, small=small, weights="", slot=""
    )


def _whole(part: Part, model: bool = False) -> Part:
    folder = model and part.name not in NAMES.values() and os.path.isdir(part.name)
    name = os.path.abspath(part.name) if folder else part.name
    params = {
        key: os.path.abspath(value) if key in PATHS and isinstance(value, str) and os.path.exists(value) else value
        for key, value in part.params.items()
    }
    return Part(name, params)


def checked(spec: RunSpec) -> None:
    """Raises ValueError for a spec that could not run here."""
    work.check(replace(spec, weights=weights(spec.generator, spec.verifier, spec.encoder, spec.small)))


__all__ = ["anywhere", "at_slot", "checked", "like", "of_taken", "seed_at"]
