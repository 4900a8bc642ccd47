"""What every naive.py is held to: numbers of half precision are rounded once, into the dtype of the other backends."""

from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import cosine_qkv
from semanir_plugin.ops.gelu import gelu
from semanir_plugin.ops.layer_norm import layer_norm
from semanir_plugin.ops.linear import linear

CASES = {
    "gelu": lambda x, backend: gelu(x, backend=backend),
    "layer_norm": lambda x, backend: layer_norm(x, *WEIGHTS, backend=backend),
    "residual": lambda x, backend: layer_norm(x, *WEIGHTS, residual=x.flip(0), backend=backend),
    "linear": lambda x, backend: linear(x, MATRIX.to(x.dtype), WEIGHTS[0].to(x.dtype), backend=backend),
    "cosine_qkv": lambda x, backend: torch.stack(cosine_qkv(x, SCALE, backend=backend)),
}
# Numbers that are whole in half precision, too.
WEIGHTS = [torch.arange(48) % 7 / 4 + 0.5, torch.arange(48) % 5 / 4 - 0.5]
MATRIX = (torch.arange(48 * 48) * 7 % 17 / 8 - 1).view(48, 48)
SCALE = torch.tensor([3.0, 7.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_is_rounded_once(name, dtype):
    x = torch.randn(2, 37, 48).to(dtype)
    truth, found, other = CASES[name](x.double(), "naive"), CASES[name](x, "naive"), CASES[name](x, "torch")
    assert (found.dtype, truth.dtype) == (other.dtype, torch.float64) == (dtype, torch.float64)
    half_a_step = truth.abs() * torch.finfo(dtype).eps / 2 + 1e-5
    assert ((found.double() - truth).abs() <= half_a_step).all()
    assert (found.double() - truth).norm() <= (other.double() - truth).norm() * (1 + 1e-6)
