"""Every registered strategy at one comparable size, about eight solutions where it has a size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search.strategies import STRATEGIES

ASTAR = "astar:k=1,reopen=0.1,root=0.9"  # measured in search/README.md

# the words of each strategy that has a size; the others, and those not named here, are run as they are by default
SIZED: Mapping[str, Sequence[str]] = {
    "adaptive-consistency": ("adaptive-consistency:n=8",),
    "astar": (ASTAR,),
    "awrs": ("awrs:n=8",),
    "beam": ("beam:n=8,keep=4,select=weighted",),
    "best-of-n": tuple(f"best-of-n:n=8,select={s}" for s in ("majority", "borda", "best", "weighted")),
    "deepconf": ("deepconf:n=8,warmup=4,window=16",),
    "diverse-beam": ("diverse-beam:n=8,groups=4",),
    "dvts": ("dvts:n=8,width=4",),
    "early-stopping": ("early-stopping:n=8,window=4",),
    "fetch": ("fetch:of=beam,how=equation,n=8,keep=4", "fetch:of=beam,how=embedding,distance=0.01,n=8,keep=4"),
    "first-finish": ("first-finish:n=8,m=3",),
    "last-finish": ("last-finish:n=8,m=3",),
    "mcts": ("mcts:k=4,simulations=16",),
    "pg-td": ("pg-td:k=3,simulations=8",),
    "plan-search": ("plan-search:observations=4,size=2,combinations=8",),
    "rebase": ("rebase:n=8",),
    "rstar": ("rstar:k=4,simulations=8",),
    "stochastic-beam": ("stochastic-beam:n=8",),
}


def words() -> list[str]:
    """All that is registered, in the order of names."""
    return [each for name in STRATEGIES for each in SIZED.get(name, (name,))]
