"""`ponderosa allocate`: samples for each problem, planned from a stored pilot, and the run that follows the plan."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from flows import launch, records, tables
from search.allocation import Group, Pool, allocated, grouped
from search.strategies import resolved
from search.types import Part, RunSpec
from store import queries
from store.database import Database, open_database
from store.errors import StoreError
from store.runs import Run, find_run

PILOTS = ("best-of-n", "allocated")  # whose solutions are the first of what the plan's run draws


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: the mean over the problems of samples, or else of their tokens, the pilot's among them."""

    samples: float | None = None
    tokens: float | None = None
    by: str = "agreement"
    bins: int = 4
    most: int = 64  # samples one problem may have

    def __post_init__(self) -> None:
        if (self.samples is None) == (self.tokens is None):
            raise ValueError("give the mean of one of samples (--n) and tokens (--budget)")
        wanted = self.samples if self.tokens is None else self.tokens
        if wanted is None or not (math.isfinite(wanted) and wanted > 0):
            raise ValueError(f"the mean must be a number above 0, not {wanted}")


def plan(pools: dict[str, Pool], wish: Wish) -> list[Group]:
    """The problems in groups, with the samples that each is to have beside its pilot's."""
    if not pools:
        raise StoreError("the pilot has no problem that is done; `ponderosa resume` goes on with it")
    groups = grouped(pools, wish.by, wish.bins, wish.most, tokens=wish.tokens is not None)
    spent = float(sum(len(pool) for pool in pools.values()))
    wanted = wish.samples
    if wish.tokens is not None:
        spent, wanted = float(sum(entry.tokens for pool in pools.values() for entry in pool)), wish.tokens
    assert wanted is not None
    left = wanted * len(pools) - spent
    if left < 0:
        unit = "samples" if wish.tokens is None else "tokens"
        raise ValueError(f"the pilot has {spent / len(pools):,.1f} {unit} a problem already; plan with more than that")
    return allocated(groups, left)


def followed(pilot: RunSpec, pools: dict[str, Pool], groups: Sequence[Group], select: str) -> RunSpec:
    """The run that the plan is of: the pilot's, but for the strategy. Its first samples are the pilot's, token for token."""
    sizes: dict[int, list[str]] = {}
    for group in groups:
        for problem in group.problems:
            sizes.setdefault(len(pools[problem]) + group.more, []).append(problem)
    written = json.dumps({str(n): sorted(sizes[n]) for n in sorted(sizes)}, separators=(",", ":"))
    default = max(len(pool) for pool in pools.values())
    return replace(pilot, strategy=resolved(Part("allocated", {"n": default, "plan": written, "select": select})))


def read(opened: Database, run: Run) -> dict[str, Pool]:
    """The pilot's solutions by problem. No reference answer and no verdict is read."""
    if run.spec.strategy.name not in PILOTS:
        raise ValueError(f"a pilot is a run of {' or '.join(PILOTS)}, not of {run.spec.strategy.name}")
    problems = {row.id: row.problem for row in queries.attempts(opened, run.id)}
    judges = queries.verifiers(opened, run.id)
    found = queries.pools(opened, run.id, judges[0] if judges else None)
    return {problems[attempt]: pool for attempt, pool in found if pool}


def run(
    database: str, wanted: str, wish: Wish, select: str, name: str, plain: bool, dry: bool, json: bool = False
) -> list[str]:
    """Prints the plan and, unless dry, follows it; the run's id."""
    with open_database(database, create=False) as opened:
        pilot = find_run(opened, wanted)
        pools = read(opened, pilot)
    if wish.by == "verifier" and not any(entry.value is not None for pool in pools.values() for entry in pool):
        raise ValueError("no solution of the pilot has a score; choose --by agreement, entropy or certainty")
    groups = plan(pools, wish)
    if not json:
        _print(groups, pools, wish)
    if dry:
        if json:
            records.tell({"pilot": pilot.id, "by": wish.by, "groups": [asdict(group) for group in groups]})
        return []
    spec = followed(pilot.spec, pools, groups, select)
    mean = f"n={wish.samples:g}" if wish.tokens is None else f"{wish.tokens:g} tokens"
    return launch.launch([spec], [name or f"allocated by {wish.by}, mean {mean}"], database, plain)


def _print(groups: Sequence[Group], pools: dict[str, Pool], wish: Wish) -> None:
    title = f"samples a problem, by {wish.by} in the pilot (no reference is read)"
    made = tables.table("group", ">problems", f">{wish.by}", ">samples", ">finds the mode", title=title)
    for i, group in enumerate(groups, start=1):
        sizes = sorted({len(pools[problem]) + group.more for problem in group.problems})
        made.add_row(
            f"{i}",
            str(len(group.problems)),
            f"{group.hardest:.3g} to {group.easiest:.3g}",
            "-".join(str(size) for size in sizes[:: max(len(sizes) - 1, 1)]),
            f"{group.gains[0]:.3f} -> {group.gains[group.more]:.3f}",
        )
    tables.console().print(made)
    total = sum((len(pools[p]) + g.more) for g in groups for p in g.problems)
    tables.console().print(f"mean {total / len(pools):.2f} samples a problem, the pilot's among them")
