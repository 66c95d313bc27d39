"""TD(lambda) targets for step values (FETCH, arXiv 2502.11183): what a step is worth is learned from how solutions end.

A value is in [-1, 1], the outcome 1 or -1. Ours is 2p - 1 of the two-label head's p, so that a model trained so is read as
any other; the authors have a head of one output.
"""

from __future__ import annotations

import torch
from torch import Tensor

LAMBDA = 0.8
RAMP = 768  # optimizer steps until the lambda-returns have the whole weight


def lambda_return(values: Tensor, outcome: float, lam: float = LAMBDA) -> Tensor:
    """[steps] targets in [-1, 1] from the values of a solution's steps: no discount, the reward at the last step only, and
    nothing after it. Values .2, .4, .6 and outcome 1 give .816, .92, 1 at lambda .8."""
    out, after, advantage = torch.empty_like(values), 0.0, 0.0
    clamped = values.detach().clamp(-1, 1)
    for i in range(len(values) - 1, -1, -1):
        here = float(clamped[i])
        reward = outcome if i == len(values) - 1 else 0.0
        advantage = reward + after - here + lam * advantage
        out[i] = here + advantage
        after = here
    return out.clamp(-1, 1)


def td_loss(values: Tensor, outcome: float, weight: float, lam: float = LAMBDA) -> Tensor:
    """[steps] (1 - weight) (v - outcome)^2 + weight (v - lambda-return)^2; no gradient through the target."""
    target = lambda_return(values, outcome, lam)
    return (1 - weight) * (values - outcome) ** 2 + weight * (values - target) ** 2


__all__ = ["LAMBDA", "RAMP", "lambda_return", "td_loss"]
