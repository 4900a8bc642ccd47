from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semanir_plugin.blocks.linear import Linear
from semanir_plugin.ops import linear as module
from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.linear import choose_backend, linear, native_backend, onednn
from tests.ops.conftest import assert_threads_change_nothing

needs_onednn = pytest.mark.skipif(not onednn.is_there(), reason="this PyTorch was built without oneDNN")


@pytest.fixture(params=[True, False], ids=["AMD", "other"])
def amd(request, monkeypatch):
    monkeypatch.setattr(module, "_is_amd", lambda: request.param)
    return request.param


def inputs(*shape, out=7, bias=True):
    x = torch.randn(*shape, requires_grad=True)
    weight = torch.randn(out, shape[-1], requires_grad=True)
    return x, weight, torch.randn(out, requires_grad=True) if bias else None


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("shape", [(1, 5), (33, 48), (2, 9, 16), (2, 3, 4, 30)], ids=str)
@pytest.mark.parametrize("backend", ["torch", pytest.param("onednn", marks=needs_onednn)])
def test_every_backend_equals_naive_in_output_and_gradients(backend, shape, bias):
    arguments = inputs(*shape, bias=bias)
    leaves = [each for each in arguments if each is not None]
    results, grad = [], torch.randn(*shape[:-1], 7)
    for each in ("naive", backend):
        out = linear(*arguments, backend=each)
        results.append((out, *torch.autograd.grad(out, leaves, grad)))
    for actual, expected in zip(*results, strict=True):
        assert actual.shape == expected.shape
        assert (actual - expected).norm() <= 2e-6 * expected.norm()


@needs_onednn
@pytest.mark.parametrize("native", [True, False], ids=["kernel", "oneDNN"])
@pytest.mark.parametrize(("tokens", "inputs", "outputs"), [(1, 1, 1), (70, 33, 7), (3001, 60, 50), (2500, 5, 100)])
def test_gradients_of_the_parameters(monkeypatch, tokens, inputs, outputs, native, target):
    if not native:
        monkeypatch.setattr(native_support, "why_not", lambda *_: "no compiler, say")
    elif reason := native_support.why_not(native_backend.SOURCE, torch.device("cpu"), torch.float32):
        pytest.skip(reason)
    x, weight = torch.randn(tokens, inputs), torch.randn(outputs, inputs, requires_grad=True)
    bias, grad = torch.randn(outputs, requires_grad=True), torch.randn(tokens, outputs)
    out = linear(x, weight, bias, backend="onednn")
    found = torch.autograd.grad(out, (weight, bias), grad)
    for actual, truth in zip(found, (grad.double().T @ x.double(), grad.double().sum(0)), strict=True):
        assert actual.shape == truth.shape
        assert (actual - truth).norm() <= 2e-6 * truth.norm() + 1e-6


@needs_onednn
def test_threads_change_nothing_in_the_gradients_of_the_parameters():
    x, grad = torch.randn(5000, 20), torch.randn(5000, 100)
    if reason := native_support.why_not(native_backend.SOURCE, x.device, x.dtype):
        pytest.skip(reason)
    assert_threads_change_nothing(lambda: native_backend.parameter_gradients(x, grad))


@needs_onednn
def test_strides_do_not_matter():
    x, weight, bias = inputs(4, 6, 10)
    shuffled = x.detach().permute(1, 0, 2).contiguous().permute(1, 0, 2)
    torch.testing.assert_close(linear(shuffled, weight, bias, backend="onednn"), F.linear(x, weight, bias))
    wide = torch.randn(4, 6, 20)[..., ::2]
    torch.testing.assert_close(linear(wide, weight, bias, backend="onednn"), F.linear(wide, weight, bias))


@needs_onednn
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5)], ids=str)
def test_the_result_can_be_written_to(shape):
    x, weight, bias = inputs(*shape)
    gradients = [
        torch.autograd.grad(function(x, weight, bias).relu_().square().sum(), (x, weight, bias))
        for function in (F.linear, lambda *a: linear(*a, backend="onednn"))
    ]
    torch.testing.assert_close(*gradients)


@needs_onednn
def test_differentiable_twice(amd):
    # In fp32: what oneDNN has no kernel for is not sent there. So against PyTorch's own, not by gradcheck.
    x, weight, bias = inputs(5, 4, out=3)
    results = []
    for function in (F.linear, linear):
        (first,) = torch.autograd.grad(function(x, weight, bias).pow(3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), (x, weight, bias)))
    torch.testing.assert_close(*results)


def test_the_choice_is_explained(amd):
    x, weight = torch.zeros(2, 3), torch.zeros(4, 3)
    name, reason = choose_backend(x, weight)
    assert name == ("onednn" if amd and onednn.is_there() else "torch")
    assert not amd or "AMD" in reason
    for other, word in ((x.double(), "fp32"), (x.to("meta"), "CPUs")):
        name, reason = choose_backend(other, weight)
        assert (name, word in reason) == ("torch", True)
    with torch.autocast("cpu", torch.bfloat16):
        assert choose_backend(x, weight)[0] == "torch"


class Other(torch.Tensor):
    """A class of its own, which oneDNN does not take."""


FITTING = {"x": torch.zeros(2, 3), "weight": torch.zeros(4, 3), "bias": torch.zeros(4)}
UNFIT = [
    ({"x": torch.zeros(2, 3).double()}, "fp32"),
    ({"weight": torch.zeros(4, 3).as_subclass(Other)}, "classes"),
    ({"bias": torch.zeros(4).as_subclass(Other)}, "classes"),
    ({"x": torch.zeros(0, 3)}, "no empty tensors"),
    ({"x": torch.zeros(2, 0), "weight": torch.zeros(4, 0)}, "no empty tensors"),
    ({"weight": torch.zeros(0, 3), "bias": torch.zeros(0)}, "no empty tensors"),
    ({"weight": torch.zeros(4, 3).bfloat16()}, "fp32"),
    ({"bias": torch.zeros(4).double()}, "fp32"),
    ({"x": torch.zeros(2, 7)}, "as wide as the features"),
    ({"bias": torch.zeros(2)}, "one number for each output"),
]


@pytest.mark.parametrize(("change", "message"), UNFIT)
def test_what_onednn_does_not_take_is_refused_and_auto_leaves_it_to_pytorch(monkeypatch, change, message):
    monkeypatch.setattr(module, "_is_amd", lambda: True)
    given = FITTING | change
    with pytest.raises(ValueError, match=f"'onednn' cannot run here: .*{message}"):
        linear(**given, backend="onednn")
    name, reason = choose_backend(**given)
    assert (name, message in reason) == ("torch", True)
    told = []
    for function in (F.linear, linear):
        try:
            out = function(*given.values())
            told.append((type(out), out.shape, out.dtype))
        except RuntimeError as error:
            told.append(str(error))
    assert told[0] == told[1]


def test_unknown_backends_are_named():
    with pytest.raises(ValueError, match="must be one of"):
        linear(**FITTING, backend="mkl")


def test_the_processor_is_asked_while_a_compiler_traces():
    module._asked_of_the_system.cache_clear()
    torch._dynamo.reset()
    compiled = torch.compile(linear, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**FITTING), F.linear(*FITTING.values()))


def test_layers_are_pytorchs_to_everyone_else(amd):
    layer = Linear(6, 4)
    assert isinstance(layer, torch.nn.Linear)
    x = torch.randn(3, 5, 6, requires_grad=True)
    plain = torch.nn.Linear(6, 4)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), plain(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), plain(x))
    exported = torch.export.export(layer, (x.detach(),))
    assert "linear" in str(exported.graph)
    assert "mkldnn" not in str(exported.graph)
    traced = torch.jit.trace(layer, x.detach())
    assert "mkldnn" not in str(traced.inlined_graph)
    per_row = torch.vmap(torch.func.grad(lambda row: layer(row).sum()))(x.detach().flatten(0, 1))
    torch.testing.assert_close(per_row, layer.weight.sum(0).expand(15, 6))


def test_amds_processors_are_known_where_there_is_no_proc(monkeypatch):
    def refuse(path):
        raise FileNotFoundError(2, "No such file", str(path))

    monkeypatch.setattr(module.Path, "read_text", refuse)
    for name in ("AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD", "AMD64 Family 6 Model 85, GenuineIntel", "arm"):
        monkeypatch.setattr(module.platform, "processor", lambda name=name: name)
        assert module._asked_of_the_system.__wrapped__() == ("AuthenticAMD" in name)
