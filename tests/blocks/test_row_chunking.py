from __future__ import annotations

import pytest
import torch
from torch import nn

from semanir_plugin.blocks import FRFN, LeFF, row_chunking


def reference(net, x):
    """The feed-forward networks in NCHW, as they are defined."""
    x = x.permute(0, 3, 1, 2)
    if isinstance(net, FRFN):
        quarter = net.partial_conv.in_channels
        x = torch.cat([net.partial_conv(x[:, :quarter]), x[:, quarter:]], 1)
    hidden = nn.functional.gelu(net.expand(x.permute(0, 2, 3, 1)))
    a, g = hidden.chunk(2, -1) if isinstance(net, FRFN) else (hidden, 1)
    a = nn.functional.gelu(net.dwconv(a.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    return net.reduce(a * g)


def gradients(function, net, x):
    x = x.clone().requires_grad_()
    net.zero_grad()
    out = function(x)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in net.parameters())]


@pytest.fixture(params=[FRFN, LeFF])
def net(request):
    torch.manual_seed(0)
    return request.param(8, 12)


@pytest.fixture
def small_chunks(monkeypatch):
    def set_rows(rows, width=7):
        monkeypatch.setattr(row_chunking, "CHUNK_ELEMENTS", rows * width * 12)
        monkeypatch.setattr(row_chunking, "LEAST_ROWS", 1)

    return set_rows


# Chunks of less than an image, of an image, of two of three, of all.
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 10, 11, 20, 30])
def test_chunks_change_neither_result_nor_gradients(net, small_chunks, rows):
    small_chunks(rows)
    x = torch.randn(3, 10, 7, 8)
    for out, expected in zip(gradients(net, net, x), gradients(lambda x: reference(net, x), net, x), strict=True):
        # Gradients of biases are sums of 210 numbers of both signs, up to 1, which rounding leaves at that.
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=3e-5)
    with torch.no_grad():
        torch.testing.assert_close(net(x), reference(net, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 5, 10, 20, 25])
def test_chunks_cover_every_row_once_within_their_size(small_chunks, rows):
    small_chunks(rows)
    x, count = torch.empty(3, 10, 7, 8), torch.zeros(3, 10)
    for images, inner, around in row_chunking._row_chunks(x, 12):
        count[images, inner] += 1
        assert x[images, inner, :, :1].numel() <= max(rows, 1) * 7
        assert (around.start, around.stop) == (max(inner.start - 1, 0), min(inner.stop + 1, 10))
    assert (count == 1).all()


@pytest.mark.parametrize("frozen", ["input", "expand", "dwconv", "all but input"])
def test_what_is_frozen_gets_no_gradient(net, small_chunks, frozen):
    small_chunks(3)
    x = torch.randn(2, 10, 7, 8)
    truth = [None if frozen == "input" else gradients(lambda x: reference(net, x), net, x)[1]]
    for name, parameter in net.named_parameters():
        if frozen == "all but input" or name.startswith(frozen):
            parameter.requires_grad_(False)
            parameter.grad = None
        parameter.grad = None
    leaf = x.clone().requires_grad_(frozen != "input")
    out = net(leaf)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in net.parameters())
    if frozen == "input":
        assert leaf.grad is None
    else:
        torch.testing.assert_close(leaf.grad, truth[0], rtol=1e-5, atol=1e-5)


def test_nothing_between_input_and_output_is_kept(net, small_chunks):
    def kept():
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            net(torch.randn(1, 10, 7, 8, requires_grad=True))
        return max(sizes)

    small_chunks(100)
    assert kept() >= 10 * 7 * 12
    small_chunks(3)
    assert kept() == 10 * 7 * 8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_of_chunks_add_up_in_full_precision(net, small_chunks, dtype):
    def run(rows):
        small_chunks(rows)
        with torch.autocast("cpu", dtype=dtype):
            return gradients(net, net, x)

    x = torch.randn(2, 10, 7, 8)
    truth = gradients(lambda x: reference(net, x), net, x)
    for chunked, whole, expected in zip(run(1), run(100), truth, strict=True):
        assert chunked.dtype == whole.dtype
        assert (chunked - expected).norm() < 2 * (whole - expected).norm() + 0.01 * expected.norm()


def test_the_networks_compile_whole(net, small_chunks):
    small_chunks(3)
    x = torch.randn(1, 10, 7, 8)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for out, expected in zip(gradients(compiled, net, x), gradients(net, net, x), strict=True):
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_too_few_channels_are_named():
    with pytest.raises(ValueError, match="at least 4 channels, got 3"):
        FRFN(3, 12)
