"""Ops without a registration of their own are PyTorch's to whoever looks on: the same values, and no crash."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.flop_counter import FlopCounterMode

from semanir_plugin.ops import linear as module
from semanir_plugin.ops.gelu import gelu
from semanir_plugin.ops.layer_norm import layer_norm
from semanir_plugin.ops.linear import linear, onednn

OURS = {
    "gelu": lambda x, weight, bias: gelu(x),
    "layer_norm": lambda x, weight, bias: layer_norm(x, weight, bias),
    "linear": lambda x, weight, bias: linear(x, weight.diag(), bias),
}
PYTORCHS = {
    "gelu": lambda x, weight, bias: F.gelu(x),
    "layer_norm": lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias),
    "linear": lambda x, weight, bias: F.linear(x, weight.diag(), bias),
}


@pytest.fixture(autouse=True)
def _amd(monkeypatch):
    """Have oneDNN chosen wherever it can be."""
    monkeypatch.setattr(module, "_is_amd", lambda: True)


@pytest.fixture(params=OURS)
def pair(request):
    if request.param == "linear" and not onednn.is_there():
        pytest.skip("this PyTorch was built without oneDNN")
    return OURS[request.param], PYTORCHS[request.param]


def inputs(wanted=(True, True, True)):
    return [
        torch.randn(shape).requires_grad_(want) for shape, want in zip([(7, 12), (12,), (12,)], wanted, strict=True)
    ]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wanted", [(1, 1, 1), (1, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1)], ids=str)
def test_gradients_of_gradients_for_some_of_the_inputs(pair, wanted):
    given = inputs(map(bool, wanted))
    leaves = [each for each in given if each.requires_grad]
    found = []
    for function in pair:
        out = function(*given)
        if not out.requires_grad:  # of the GELU of x alone
            return
        first = torch.autograd.grad(out.pow(3).sum(), leaves, create_graph=True, allow_unused=True)
        total = sum(each.square().sum() for each in first if each is not None)
        found.append([each for each in torch.autograd.grad(total, leaves, allow_unused=True) if each is not None])
    close(*found)


def test_many_gradients_at_once(pair):
    given = inputs()
    found = []
    for function in pair:
        out = function(*given)
        grads = torch.randn(4, *out.shape, generator=torch.Generator().manual_seed(0))
        found.append(torch.autograd.grad(out, given[0], grads, is_grads_batched=True))
        found[-1] += torch.autograd.functional.jacobian(
            lambda x, f=function: f(x, *given[1:]), given[0], vectorize=True
        ).unbind()
    close(*found)


def test_derivatives_are_carried_forward(pair):
    given, direction, found = inputs(), torch.randn(7, 12), []
    for learning in (False, True):
        with torch.set_grad_enabled(learning), torch.autograd.forward_ad.dual_level():
            for function in pair:
                x = torch.autograd.forward_ad.make_dual(given[0].detach(), direction)
                found.append(torch.autograd.forward_ad.unpack_dual(function(x, *given[1:])).tangent)
    close(found[0], found[1])
    close(found[2], found[3])


def test_tensors_of_a_class_of_their_own(pair):
    x, weight, bias = inputs()
    found = []
    for function in pair:
        first, second = (x.detach().clone().requires_grad_() for _ in range(2))
        wrapped = TwoTensor(first, second).requires_grad_()
        found.append(torch.autograd.grad(function(wrapped, weight, bias).sum(), wrapped)[0].a)
        out = function(x, weight, bias)
        grad = TwoTensor(torch.ones_like(out), torch.ones_like(out))
        found[-1] = [found[-1], torch.autograd.grad(out, x, grad)[0].a]
    close(*found)


def test_numbers_whose_sign_is_yet_to_be_changed(pair):
    x, weight, bias = inputs()
    found = []
    for function in pair:
        negated = torch._neg_view(x)
        out = function(negated, weight, bias)
        found.append([out, *torch.autograd.grad(out, x, torch._neg_view(torch.ones_like(out)))])
    close(*found)


def test_zeros_without_memory(pair):
    ours, pytorchs = pair
    zeros, (_, weight, bias) = torch._efficientzerotensor((7, 12)), inputs((False, False, False))
    close(ours(zeros, weight, bias), pytorchs(torch.zeros(7, 12), weight, bias))


LAYOUTS = {
    "every other": lambda x: x.repeat_interleave(2)[::2],
    "expanded": lambda x: x[:1].expand_as(x),
    "diagonal": lambda x: x.diag().diagonal(),
    "backwards in memory": lambda x: torch.stack([x, x], 1)[:, 1],
    "shifted": lambda x: torch.cat([x[:1], x])[1:],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_numbers_that_lie_apart(pair, layout):
    ours, pytorchs = pair
    x, weight, bias = (layout(each.detach()) if each.ndim == 1 else each.detach() for each in inputs())
    close(ours(x, weight, bias), pytorchs(x, weight, bias))


def test_saved_tensors_may_come_back_in_another_layout(pair):
    def turn(x):
        return x.t().contiguous() if x.ndim == 2 else x

    def turn_back(x):
        return x.t() if x.ndim == 2 else x

    given, found = inputs(), []
    for function in pair:
        with torch.autograd.graph.saved_tensors_hooks(turn, turn_back):
            found.append(torch.autograd.grad(function(*given).square().sum(), given[0]))
    close(*found)


def test_products_of_the_backward_are_counted():
    if not onednn.is_there():
        pytest.skip("this PyTorch was built without oneDNN")
    x, weight = torch.randn(7, 12, requires_grad=True), torch.randn(5, 12, requires_grad=True)
    out = linear(x, weight, backend="onednn")
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    assert counter.get_total_flops() == 2 * 2 * 7 * 12 * 5


def test_layers_without_outputs():
    x = torch.randn(3, 4, requires_grad=True)
    linear(x, torch.empty(0, 4, requires_grad=True), torch.empty(0)).sum().backward()
    assert (x.grad == 0).all()


@pytest.mark.parametrize(
    "shapes", [((6, 20), (8,), (8,)), ((6, 20), (20,), (1,)), ((6, 20), (40,), (40,)), ((), (1,), (1,))]
)
def test_a_weight_that_does_not_fit_is_an_error_and_no_read_past_its_end(shapes):
    with pytest.raises((RuntimeError, ValueError)):
        layer_norm(*map(torch.randn, shapes))


def test_shapes_and_numbers_that_pytorch_takes_too():
    x, weight = torch.randn(3, 2, 20), torch.randn(2, 20)
    close(layer_norm(x, weight, weight), F.layer_norm(x, (2, 20), weight, weight))
    close(layer_norm(x, weight[0], weight[1], eps=1), F.layer_norm(x, (20,), weight[0], weight[1], eps=1))
    assert layer_norm(torch.empty(3, 0), torch.empty(0), torch.empty(0)).shape == (3, 0)
