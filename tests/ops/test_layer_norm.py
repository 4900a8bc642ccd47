from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semanir_plugin.blocks.layer_norm import LayerNorm
from semanir_plugin.blocks.stage import KeySemanticStage
from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.layer_norm import choose_backend, layer_norm, native_backend
from tests.ops.conftest import assert_threads_change_nothing

NO_NATIVE = native_support.why_not(native_backend.SOURCE, torch.device("cpu"), torch.float32)
needs_native = pytest.mark.skipif(NO_NATIVE is not None, reason=str(NO_NATIVE))
NO_BF16 = NO_NATIVE is not None or not native_support.multiplies_bf16(native_backend.BF16_SOURCE)
needs_bf16 = pytest.mark.skipif(NO_BF16, reason="the processor does not multiply bfloat16")
FAST = ["torch", pytest.param("native", marks=needs_native)]
SHAPES = [(1, 1), (3, 7), (2, 5, 48), (4, 60), (515, 33), (2, 9, 9, 180), (0, 6)]


def inputs(*shape, residual=True, dtype=torch.float32):
    x, more = (torch.randn(shape, dtype=dtype).requires_grad_() for _ in range(2))
    weight, bias = (torch.randn(shape[-1]).requires_grad_() for _ in range(2))
    return x, weight, bias, more if residual else None


def results(backend, x, weight, bias, residual, grad):
    out = layer_norm(x, weight, bias, residual=residual, backend=backend)
    leaves = [each for each in (x, weight, bias, residual) if each is not None]
    return out, *torch.autograd.grad(out, leaves, grad.to(out.dtype))


def exact(arguments, grad):
    """Return the results in fp64, of the numbers that were given."""
    wide = [None if each is None else each.detach().double().requires_grad_() for each in arguments]
    return results("naive", *wide, grad.double())


def test_naive_against_a_loop():
    x, weight, bias, residual = inputs(3, 4, dtype=torch.float64)
    out = layer_norm(x, weight, bias, residual=residual, backend="naive")
    row = x[1]
    mean = sum(row) / 4
    deviation = (sum((each - mean) ** 2 for each in row) / 4 + 1e-5) ** 0.5
    for c in range(4):
        torch.testing.assert_close(out[1, c], residual[1, c] + weight[c] * (row[c] - mean) / deviation + bias[c])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "alone"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_backend_equals_naive_in_output_and_gradients(backend, residual, shape):
    arguments, grad = inputs(*shape, residual=residual), torch.randn(shape)
    for actual, truth in zip(results(backend, *arguments, grad), exact(arguments, grad), strict=True):
        assert actual.shape == truth.shape
        # A token of one channel is divided by the root of eps, errors too.
        torch.testing.assert_close(actual.double(), truth, rtol=1e-5, atol=2e-3 if shape[-1] == 1 else 2e-5)


@needs_native
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_narrower_vectors(shape, target):
    test_every_backend_equals_naive_in_output_and_gradients("native", True, shape)


@needs_bf16
@pytest.mark.parametrize("shape", [(515, 48), (7, 33)], ids=str)
def test_bfloat16_is_rounded_once_and_gradients_of_the_parameters_not_at_all(shape):
    arguments, grad = inputs(*shape, dtype=torch.bfloat16), torch.randn(shape, dtype=torch.bfloat16)
    found, truth = results("native", *arguments, grad), exact(arguments, grad)
    assert [each.dtype for each in found] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32, grad.dtype]
    for actual, expected, digits in zip(found, truth, (8, 8, 20, 20, 8), strict=True):
        # Half a unit of the last digit, and what fp32 inside has lost.
        bound = expected.abs() * 2.0**-(digits) + 1e-5 * expected.abs().max()
        assert ((actual.double() - expected).abs() <= bound).all()


@needs_native
def test_large_offsets_lose_no_more_than_pytorch_does():
    x, weight, bias, _ = inputs(64, 48)
    far = (x.detach() + 1000).requires_grad_()
    expected = layer_norm(far.double(), weight.double(), bias.double(), backend="naive")
    errors = [
        (layer_norm(far, weight, bias, backend=each).double() - expected).norm() / expected.norm()
        for each in ("native", "torch")
    ]
    assert errors[0] <= max(2 * errors[1], 1e-4)


@needs_native
def test_what_is_no_number_stays_in_its_row():
    x, weight, bias, residual = inputs(9, 20)
    damaged = x.detach().clone()
    damaged[4, 3], damaged[6, 0] = float("nan"), float("inf")
    out = layer_norm(damaged, weight, bias, residual=residual, backend="native")
    expected = layer_norm(x, weight, bias, residual=residual, backend="native")
    others = [row for row in range(9) if row not in (4, 6)]
    assert torch.equal(out[others], expected[others])
    assert out[[4, 6]].isnan().all()


@needs_native
def test_any_strides():
    x, weight, bias, residual = inputs(6, 4, 10)
    grad = torch.randn(4, 6, 10)
    turned = (x.transpose(0, 1), weight, bias, residual.transpose(0, 1))
    found, truth = results("native", *turned, grad), exact(turned, grad)
    for actual, expected in zip(found, truth, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@needs_native
def test_threads_change_nothing():
    arguments, grad = inputs(3000, 60), torch.randn(3000, 60)
    assert_threads_change_nothing(lambda: results("native", *arguments, grad))


@needs_native
def test_differentiable_twice():
    arguments, found = inputs(5, 12), []
    for backend in ("native", "torch"):
        out = layer_norm(*arguments[:3], residual=arguments[3], backend=backend)
        (first,) = torch.autograd.grad(out.pow(3).sum(), arguments[0], create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), arguments[:3]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-3)


@needs_native
def test_only_what_is_wanted_gets_a_gradient():
    x, weight, bias, residual = inputs(5, 12)
    out = layer_norm(x, weight.detach(), bias, residual=residual.detach(), backend="native")
    dx, dbias = torch.autograd.grad(out.sum(), (x, bias))
    torch.testing.assert_close(dbias, torch.full((12,), 5.0))
    assert dx.shape == x.shape


def test_the_choice_is_explained(monkeypatch):
    x, weight, bias, residual = inputs(2, 6)
    assert choose_backend(x, weight, bias, residual)[0] == ("torch" if NO_NATIVE else "native")
    half = torch.zeros(2, 6, dtype=torch.float16)
    for change, word in (
        ((x.double(), weight, bias, None), "float64"),
        ((half, weight, bias, None), "float16"),
        ((x, weight.double(), bias, None), "weight"),
        ((x, weight, bias, half), "same dtype"),
        ((x.to("meta"), weight.to("meta"), bias.to("meta"), None), "CPUs"),
    ):
        name, reason = choose_backend(*change)
        assert (name, word in reason) == ("torch", True), reason
    monkeypatch.setattr(native_support, "why_not", lambda *_: "no compiler, say")
    assert choose_backend(x, weight, bias) == ("torch", "no compiler, say")


def test_wrong_arguments_are_named():
    x, weight, bias, _ = inputs(2, 6)
    with pytest.raises(ValueError, match="must be one of"):
        layer_norm(x, weight, bias, backend="fast")
    with pytest.raises(ValueError, match=r"'native' cannot run here: .*float64"):
        layer_norm(x.double(), weight, bias, backend="native")


def test_layers_are_pytorchs_to_everyone_else():
    layer, plain = LayerNorm(6), torch.nn.LayerNorm(6)
    torch.nn.init.normal_(layer.weight)
    plain.load_state_dict(layer.state_dict())
    x, residual = torch.randn(3, 5, 6), torch.randn(3, 5, 6)
    expected = residual + plain(x)
    torch.testing.assert_close(layer(x, residual), expected)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x.double().float()), F.layer_norm(x, (6,), layer.weight, layer.bias))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, residual), expected)
    assert "layer_norm" in str(torch.export.export(layer, (x, residual)).graph)
    assert "layer_norm" in str(torch.jit.trace(layer, (x, residual)).inlined_graph)
    torch.testing.assert_close(torch.vmap(lambda row: layer(row))(x), plain(x))


def test_a_stage_takes_anybodys_norm():
    torch.manual_seed(0)
    stage = KeySemanticStage(12, 2, window_size=4, mlp_ratio=2.0, shifted=[False, True])
    x = torch.randn(1, 8, 8, 12)
    expected = stage(x, 5)
    for layer in stage.layers:
        for name in ("norm1", "norm2"):
            plain = torch.nn.LayerNorm(12)
            plain.load_state_dict(getattr(layer, name).state_dict())
            setattr(layer, name, plain)
    torch.testing.assert_close(stage(x, 5), expected, rtol=1e-5, atol=1e-5)
