"""Problems for the ops: inputs as a network in training has them, and a step forward and backward on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_stages.sizes import Sizes
from semanir_plugin.evaluation.profiling.network_features import stage_inputs
from semanir_plugin.ops import (
    KeySemantics,
    adaptive_sparse_attention,
    build_key_semantics,
    cosine_qkv,
    key_semantic_attention,
)

__all__ = ["DENSE", "Problem", "attention", "features", "heads_of_projection", "sparse_attention"]

DENSE = "dense"
"""As a backend of key-semantic attention: PyTorch's, without bias and mask."""
SCORES = 10.0  # what scaled cosine attention multiplies similarities by at its start


@dataclass(frozen=True)
class Problem:
    """An op and its inputs.

    Attributes:
        run: Returns the outputs of some tensors for a range of windows by a backend.
        tensors: By name: what is differentiated.
        shared: Which of them all windows share; the others begin with the axis of windows.
        outputs: Names of what `run` returns.
    """

    run: Callable[[dict[str, Tensor], slice, str], tuple[Tensor, ...]]
    tensors: dict[str, Tensor]
    shared: frozenset[str]
    outputs: tuple[str, ...] = ("out",)

    @property
    def windows(self) -> int:
        """B."""
        return next(len(x) for name, x in self.tensors.items() if name not in self.shared)

    def forward(self, backend: str) -> tuple[Tensor, ...]:
        """Return the outputs alone."""
        return self.run(self.tensors, slice(None), backend)

    def step(self, backend: str) -> dict[str, Tensor]:
        """Return outputs and gradients by name, in the dtypes of the tensors."""
        return self._step(self.tensors, backend, self.windows)

    def prepare_step(self, backend: str) -> Callable[[], tuple[Tensor, ...]]:
        """Return a step that does only forward and backward, all else being prepared."""
        leaves, everything = _leaves(self.tensors), slice(0, self.windows)
        gradients = [_gradient_of(out, everything) for out in self.forward(backend)]

        def step() -> tuple[Tensor, ...]:
            outputs = self.run(leaves, everything, backend)
            return torch.autograd.grad(outputs, tuple(leaves.values()), gradients, allow_unused=True)

        return step

    def truth(self, windows: int) -> dict[str, Tensor]:
        """Return the results of `step` by the definition in float64, computed `windows` windows at a time."""
        return self._step({name: x.double() for name, x in self.tensors.items()}, "naive", windows)

    def _step(self, tensors: dict[str, Tensor], backend: str, windows: int) -> dict[str, Tensor]:
        leaves = _leaves(tensors)
        parts = []
        for start in range(0, self.windows, windows):
            part = slice(start, start + windows)
            given = {name: x if name in self.shared else x[part] for name, x in leaves.items()}
            parts.append(self.run(given, part, backend))
            torch.autograd.backward(parts[-1], [_gradient_of(out, part) for out in parts[-1]])
        outputs = [torch.cat([part.detach() for part in each]) for each in zip(*parts, strict=True)]
        gradients = {f"d{name}": _gradient(leaf) for name, leaf in leaves.items()}
        return {**dict(zip(self.outputs, outputs, strict=True)), **gradients}


def _leaves(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.detach().requires_grad_() for name, x in tensors.items()}


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def _gradient_of(out: Tensor, part: slice) -> Tensor:
    """Return a gradient that depends on the place alone, exact in every dtype, so that a truth gets the same."""
    window = torch.arange(part.start, part.start + len(out), device=out.device)
    inside = torch.arange(out[0].numel(), device=out.device)
    mixed = (window[:, None] * 7919 + inside * 2654435761 % 1000003) % 255
    return ((mixed - 127) / 128).to(out.dtype).view(out.shape)


def features(sizes: Sizes, shape: tuple[int, int], windows: int) -> Tensor:
    """Return (B, N, C) fp32 features of a trained network on the device."""
    return stage_inputs(windows, shape, sizes.channels).to(sizes.device)


def attention(sizes: Sizes, shape: tuple[int, int], windows: int, keys: int, dtype: torch.dtype) -> Problem:
    """Return key-semantic attention; windows that are no squares have a dense bias."""
    torch.manual_seed(0)
    n = shape[0] * shape[1]
    dictionary = build_key_semantics(features(sizes, shape, windows), keys, backend="triton")
    q, k, v = (torch.randn(windows, sizes.heads, n, sizes.width, device=sizes.device) for _ in range(3))
    side = 2 * shape[0] - 1 if shape[0] == shape[1] else n
    bias = torch.randn(sizes.heads, side, side, device=sizes.device)
    tensors = {"q": SCORES * F.normalize(q, dim=-1), "k": F.normalize(k, dim=-1), "v": v}
    tensors = {name: each.to(dtype) for name, each in tensors.items()} | {"bias": bias}

    def run(given: dict[str, Tensor], part: slice, backend: str) -> tuple[Tensor]:
        if backend == DENSE:
            return (F.scaled_dot_product_attention(given["q"], given["k"], given["v"], scale=1.0),)
        semantics = KeySemantics(keys, mask=dictionary.mask()[part]) if backend == "naive" else dictionary
        return (key_semantic_attention(**_heads(given), semantics=semantics, scale=1.0, backend=backend),)

    return Problem(run, tensors, frozenset({"bias"}))


def _heads(given: dict[str, Tensor]) -> dict[str, Any]:
    return {"q": given["q"], "k": given["k"], "v": given["v"], "bias": given["bias"]}


def sparse_attention(sizes: Sizes, dtype: torch.dtype) -> Problem:
    """Return AST's attention; the softmax and the squared ReLU weigh alike."""
    torch.manual_seed(0)
    side = round(sizes.sparse[2] ** 0.5)
    q, k, v = (torch.randn(sizes.sparse, device=sizes.device).to(dtype) for _ in range(3))
    bias = torch.randn(sizes.sparse[1], 2 * side - 1, 2 * side - 1, device=sizes.device)
    weights = torch.tensor([0.5, 0.5], device=sizes.device)

    def run(given: dict[str, Tensor], part: slice, backend: str) -> tuple[Tensor]:
        return (adaptive_sparse_attention(**_heads(given), weights=given["weights"], backend=backend),)

    return Problem(run, {"q": q, "k": k, "v": v, "weights": weights, "bias": bias}, frozenset({"weights", "bias"}))


def heads_of_projection(sizes: Sizes, dtype: torch.dtype) -> Problem:
    """Return `cosine_qkv`."""
    torch.manual_seed(0)
    width = 3 * sizes.heads * sizes.width
    projection = torch.randn(sizes.windows, sizes.window**2, width, device=sizes.device).to(dtype)
    scale = torch.full((sizes.heads,), SCORES, device=sizes.device)

    def run(given: dict[str, Tensor], part: slice, backend: str) -> tuple[Tensor, Tensor, Tensor]:
        return cosine_qkv(given["qkv"], given["scale"], backend=backend)

    return Problem(run, {"qkv": projection, "scale": scale}, frozenset({"scale"}), ("q", "k", "v"))
