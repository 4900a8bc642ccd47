from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from semanir_plugin.ops.common.eager import run_op


@torch.library.custom_op("semanir_plugin_tests::double", mutates_args=())
def double(x: torch.Tensor, times: int) -> torch.Tensor:
    return x * 2**times


double.register_fake(lambda x, times: torch.empty_like(x))
double.register_autograd(
    lambda ctx, grad: (grad * ctx.factor, None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "factor", 2 ** inputs[1]),
)


class Watched:
    """An op that tells whether it was called itself, or the function behind it."""

    def __init__(self):
        self.called = []

    def __call__(self, *inputs):
        self.called.append("op")
        return double(*inputs)

    def _init_fn(self, *inputs):
        self.called.append("function")
        return double._init_fn(*inputs)


@pytest.fixture
def op():
    return Watched()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_inference_goes_past_the_dispatcher(op, context):
    x = torch.nn.Parameter(torch.rand(3))
    with context():
        assert torch.equal(run_op(op, x, 1), x * 2)
    run_op(op, x.detach(), 1)
    assert op.called == ["function", "function"]


def test_gradients_are_those_of_the_op(op):
    x = torch.rand(3, requires_grad=True)
    run_op(op, x, 3).sum().backward()
    assert torch.equal(x.grad, torch.full((3,), 8.0))
    assert op.called == ["op"]


def test_modes_fakes_and_transforms_see_the_op(op):
    x = torch.rand(3)
    with FlopCounterMode(display=False):
        run_op(op, x, 1)
    with torch._subclasses.FakeTensorMode() as mode:
        fake = mode.from_tensor(x)
    assert run_op(op, fake, 1).shape == (3,)
    torch.func.jvp(lambda x: run_op(op, x.detach(), 1), (x,), (x,))
    assert op.called == ["op"] * 3


def test_the_compiler_sees_the_op():
    x = torch.rand(3)
    compiled = torch.compile(lambda x: run_op(double, x, 2) + 1, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), x * 4 + 1)
    assert "semanir_plugin_tests.double" in str(torch.export.export(Doubles(), (x,)).graph)


class Doubles(torch.nn.Module):
    def forward(self, x):
        return run_op(double, x, 1)
