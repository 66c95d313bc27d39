"""Muon for the matrices and AdamW for the rest, in float32.

Muon's update is the momentum made orthogonal by five Newton-Schulz steps (https://kellerjordan.github.io/posts/muon).
torch's own runs them in bfloat16, which is slower than float32 on a CPU without matching instructions; here matrices of one
shape are stacked and done at once.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn


class MuonAdamW:
    """One optimizer over a model: Muon on 2-D weights that are not embeddings, AdamW on the rest.

    The update of a matrix is scaled by 0.2 * sqrt(max(rows, columns)), so that both parts take one learning rate.
    """

    def __init__(self, model: nn.Module, lr: float, momentum: float = 0.95, weight_decay: float = 0.05) -> None:
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        names = {id(p): name for name, p in model.named_parameters()}
        parameters = [p for p in model.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim == 2 and not any(w in names[id(p)] for w in ("embed", "head", "score"))]
        chosen = {id(p) for p in matrices}
        self.groups: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for p in matrices:
            self.groups[tuple(p.shape)].append(p)
        self.buffers = {shape: torch.zeros(len(ps), *shape, device=ps[0].device) for shape, ps in self.groups.items()}
        rest = [p for p in parameters if id(p) not in chosen]
        self.adam = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
        self.parameters = parameters

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """One update at lr * scale; gradients are clipped to norm 1 and cleared."""
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for shape, ps in self.groups.items():
            grads = torch.stack([p.grad if p.grad is not None else torch.zeros_like(p) for p in ps])
            buffer = self.buffers[shape]
            buffer.mul_(self.momentum).add_(grads)
            update = orthogonal(grads.add_(buffer, alpha=self.momentum))
            rate = self.lr * scale
            for p, u in zip(ps, update, strict=True):
                p.mul_(1 - rate * self.weight_decay).add_(u, alpha=-rate * 0.2 * max(shape) ** 0.5)
        for group in self.adam.param_groups:
            group["lr"] = self.lr * scale
        self.adam.step()
        self.clear()

    def clear(self) -> None:
        for p in self.parameters:
            p.grad = None


def orthogonal(stack: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest orthogonal matrices; stack is [n, rows, columns]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = stack.shape[1] > stack.shape[2]
    x: Tensor = stack.mT if tall else stack
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def warm_then_linear(done: float, warm: float = 0.01, flat: float = 0.35, end: float = 0.02) -> float:
    """The learning-rate factor after a share `done` of the training: warm up, stay, then fall linearly to `end`."""
    if done < warm:
        return max(done / warm, 0.02)
    if done < flat:
        return 1.0
    return 1.0 + (end - 1.0) * (done - flat) / (1.0 - flat)
