"""Optimisers beside those of `torch.optim`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

__all__ = ["MuonAdamW"]

LEAST_SIDE = 8
QUINTIC = (3.4445, -4.7750, 2.0315)
TINY = 1e-7


class MuonAdamW(Optimizer):
    """Muon for weights that are matrices, AdamW for all others.

    AdamW scales each number of a step by itself; Muon makes the step of a whole matrix orthogonal, so that directions
    in which gradients are small are learned as fast as those in which they are large. Short trainings gain most.
    Weights of linear layers are matrices, and those of convolutions, with one row for each output channel; not so
    biases, normalisations, tables, and what has fewer than 8 channels on a side, as first and last layers have.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the scale of the steps, which makes
    learning rates and weight decay of AdamW fit, is of Liu et al., "Muon is Scalable for LLM Training",
    arXiv 2502.16982, section 2.2. `torch.optim.Muon`, where torch has it, takes networks of nothing but matrices.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate of both.
        betas: Averaging of AdamW's gradients and of their squares.
        eps: Added to AdamW's denominators.
        weight_decay: Share of a weight that each step takes away, times `lr`; for both.
        momentum: Averaging of Muon's gradients, as Nesterov's.
        ns_steps: Newton-Schulz iterations by which a matrix becomes nearly orthogonal.
        fused: AdamW in one kernel for all weights.

    Raises:
        ValueError: A value is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        ns_steps: int = 5,
        fused: bool = False,
    ) -> None:
        for name, value in {"lr": lr, "eps": eps, "weight_decay": weight_decay, "ns_steps": ns_steps}.items():
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, not {value}")
        for name, values in {"betas": betas, "momentum": [momentum]}.items():
            if not all(0 <= value < 1 for value in values):
                raise ValueError(f"{name} must be at least 0 and below 1, not {', '.join(map(str, values))}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "momentum": momentum, "ns_steps": ns_steps, "fused": fused})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; return what the closure returned, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            pairs = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            self._step_adamw(group, [pair for pair in pairs if not is_matrix(pair[0])])
            self._step_muon(group, [pair for pair in pairs if is_matrix(pair[0])])
        return loss

    def _step_adamw(self, group: Mapping[str, Any], pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        if not pairs:
            return
        for weight, _ in pairs:
            if not self.state[weight]:
                zeros = {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}
                device = weight.device if group["fused"] else "cpu"
                self.state[weight] = {"step": torch.zeros((), device=device), **zeros}
        states = [self.state[weight] for weight, _ in pairs]
        adamw(
            [weight for weight, _ in pairs],
            [gradient for _, gradient in pairs],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            **{"beta1": group["betas"][0], "beta2": group["betas"][1], "lr": group["lr"], "eps": group["eps"]},
            **{"weight_decay": group["weight_decay"], "amsgrad": False, "maximize": False, "fused": group["fused"]},
        )

    def _step_muon(self, group: Mapping[str, Any], pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        momentum, alike = group["momentum"], defaultdict(list)
        for weight, gradient in pairs:
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
            step = gradient.lerp(average, momentum).flatten(1)
            alike[step.shape, step.dtype, step.device].append((weight, step))
        for (shape, *_), members in alike.items():
            steps = orthogonalize(torch.stack([step for _, step in members]), group["ns_steps"])
            length = 0.2 * max(shape) ** 0.5  # the root of the mean square of AdamW's steps
            for (weight, _), step in zip(members, steps, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(step.view_as(weight), alpha=-group["lr"] * length)


def is_matrix(weight: Tensor) -> bool:
    """Return whether a weight takes Muon's steps: it maps several channels to several."""
    return weight.ndim >= 2 and min(weight.shape[:2]) >= LEAST_SIDE


def orthogonalize(matrices: Tensor, steps: int) -> Tensor:
    """Return the orthogonal matrices next to those given, nearly: singular values are between about 0.7 and 1.2.

    Args:
        matrices: Of shape (B, M, N).
        steps: Iterations of a polynomial of the fifth degree, which takes singular values towards 1 (Jordan et al.).
    """
    a, b, c = QUINTIC
    result: Tensor = matrices.bfloat16() if matrices.is_cuda else matrices
    tall = result.shape[-2] > result.shape[-1]
    result = result.mT if tall else result
    result = result / result.norm(dim=(-2, -1), keepdim=True).clamp(min=TINY)
    for _ in range(steps):
        gram = result @ result.mT
        result = a * result + (b * gram + c * gram @ gram) @ result
    return (result.mT if tall else result).to(matrices)
