"""The kernels of `cosine_qkv`, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import cosine_qkv
from tests.ops.test_cosine_qkv import SHAPES, compare, compare_extremes, inputs, results, strided_results

pytest.importorskip("triton")

from semanir_plugin.ops.cosine_qkv import choose_backend, triton_backend


@pytest.fixture(autouse=True)
def _poison(monkeypatch):
    """Fill new tensors with NaN, so that elements which a kernel leaves unwritten fail."""
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda x, *size, **options: empty(x, *size, **options).fill_(float("nan"))
    )


def on(device, *arguments):
    return [each.detach().to(device).requires_grad_() for each in arguments]


@pytest.mark.parametrize("shape", [*SHAPES, (1, 40, 2, 128)], ids=str)
def test_equals_naive_in_output_and_gradients(shape, kernel_device):
    arguments = on(kernel_device, *inputs(*shape))
    compare(results("triton", *arguments), results("naive", *arguments))


def test_any_strides(kernel_device):
    compare(*(strided_results(each, kernel_device) for each in ("triton", "naive")))


def test_very_short_very_long_and_no_numbers(kernel_device):
    compare_extremes("triton", kernel_device)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_half_precision_is_rounded_once(dtype, tolerance, kernel_device):
    qkv, scale = inputs(2, 70, 3, 30)
    qkv = qkv.to(dtype)
    found = results("triton", *on(kernel_device, qkv, scale))
    expected = results("naive", *on(kernel_device, qkv.float(), scale))
    assert {each.dtype for each in found[:4]} == {dtype}
    assert found[4].dtype == torch.float32
    for each, truth in zip(found, expected, strict=True):
        assert (each - truth).norm() / truth.norm() < tolerance


def test_an_empty_batch_has_gradients(kernel_device):
    q, _, _, dqkv, dscale = results("triton", *on(kernel_device, *inputs(0, 4, 2, 3)))
    assert q.shape == (0, 2, 4, 3)
    assert dqkv.numel() == 0
    assert dscale.tolist() == [0, 0]


def test_registered_as_pytorch_wants_it(kernel_device):
    arguments = on(kernel_device, *inputs(2, 20, 2, 6))
    torch.library.opcheck(torch.ops.semanir_plugin.cosine_qkv.default, (*arguments, "triton"))


def test_wide_heads_and_double_are_left_to_naive(kernel_device):
    scale = torch.ones(1, device=kernel_device)
    wide = torch.zeros(1, 2, 3 * 129, device=kernel_device)
    with pytest.raises(ValueError, match="up to 128 wide, not 129"):
        cosine_qkv(wide, scale, backend="triton")
    with pytest.raises(ValueError, match=r"not torch\.float64"):
        cosine_qkv(wide.double(), scale, backend="triton")
    if kernel_device == "cuda":
        assert choose_backend(wide, scale)[0] == "naive"
        assert choose_backend(wide[..., :48], scale)[0] == "triton"


def test_every_launch_is_among_the_compilations(kernel_device, monkeypatch):
    compiled = [(kernel, tuple(constants.items())) for kernel, _, constants, _, _ in triton_backend.compilations()]
    launched = []
    constants = triton_backend._constants
    monkeypatch.setattr(triton_backend, "_constants", lambda d: launched.append(constants(d)) or launched[-1])
    for d in (1, 10, 30, 33, 128):
        results("triton", *on(kernel_device, *inputs(1, 3, 1, d)))
    for each in launched:
        for kernel in (triton_backend.cosine_qkv_fwd_kernel, triton_backend.cosine_qkv_bwd_kernel):
            assert any(kernel is other and tuple(each.items()) == items for other, items in compiled)
