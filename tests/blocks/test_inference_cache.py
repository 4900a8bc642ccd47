from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from semanir_plugin.blocks import ContinuousPositionBias, FactorisedPositionBias
from semanir_plugin.blocks.inference_cache import InferenceCache


class Bias(nn.Module):
    """Adds a position bias to its input and counts how often the bias was computed."""

    def __init__(self):
        super().__init__()
        self.bias = ContinuousPositionBias(3, 2, hidden=8)
        self.computed = []
        self.bias.mlp.register_forward_pre_hook(lambda *_: self.computed.append(1))

    def forward(self, x):
        return x + self.bias.apply_to(x, x)[2]

    def fresh(self, x):
        return x + self.bias.table() - 8


X = torch.zeros(())


@pytest.fixture
def module():
    """One that has computed its table, and would give it again."""
    net = Bias()
    with torch.no_grad():
        net(X)
        net(X)
    assert len(net.computed) == 1
    return net


def step(net):
    optimizer = torch.optim.SGD(net.parameters(), 1.0)
    net(X).square().sum().backward()
    optimizer.step()


def average(net):
    for parameter in net.parameters():
        parameter.data.mul_(0.5).add_(torch.ones_like(parameter), alpha=0.1)  # as BasicSR's EMA does


def load(net):
    net.load_state_dict(Bias().state_dict())


def assign(net):
    net.load_state_dict(Bias().state_dict(), assign=True)


def swap_data(net):
    net.bias.mlp[0].weight.data = torch.randn(8, 2)


def replace(net):
    net.bias.mlp[2] = nn.Linear(8, 2, bias=False)


def move_window(net):
    net.bias.coordinates.mul_(0.5)


@pytest.mark.parametrize("change", [step, average, load, assign, swap_data, replace, move_window, nn.Module.double])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_changed_parameters_are_seen(module, change, mode):
    before = module.fresh(X)
    change(module)
    with mode():
        after = module(X)
        assert torch.equal(after, module.fresh(X))
    assert after.dtype != before.dtype or not torch.allclose(after, before)


@torch.no_grad()
def test_features_of_low_rank_are_kept_and_computed_anew_likewise():
    bias, q = FactorisedPositionBias(3, 2), torch.randn(1, 2, 9, 4)
    before = bias.apply_to(q, q)[0]
    assert torch.equal(bias.apply_to(q, q)[0], before)
    average(bias)
    after = bias.apply_to(q, q)
    assert not torch.allclose(after[0], before)
    torch.testing.assert_close(after[0] @ after[1].mT, q @ q.mT + bias())


def test_other_parameters_for_one_call(module):
    other = dict(Bias().named_parameters())
    with torch.no_grad():
        before = module(X)
        called = torch.func.functional_call(module, other, (X,))
        assert not torch.allclose(called, before)
        assert torch.equal(module(X), before)
        stacked = {name: torch.stack([each, other[name]]) for name, each in module.named_parameters()}
        mapped = torch.vmap(lambda each: torch.func.functional_call(module, each, (X,)))(stacked)
    torch.testing.assert_close(mapped, torch.stack([before, called]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_and_checkpoints_hold_nothing(module, copied):
    assert copied(module.bias._cache)._entry is None
    module.computed.clear()
    module.bias.mlp._forward_pre_hooks.clear()
    other = copied(module)
    average(other)
    with torch.no_grad():
        assert torch.equal(other(X), other.fresh(X))
        assert torch.equal(module(X), module.fresh(X))
    assert set(module.bias.state_dict()) == {"mlp.0.weight", "mlp.0.bias", "mlp.2.weight"}
    assert {name for name, _ in module.bias.named_buffers()} == {"coordinates"}


def test_gradients_flow_as_ever(module):
    module(X).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


@torch.no_grad()
@pytest.mark.parametrize("how", ["compile", "export", "trace", "make_fx"])
def test_traces_compute(module, how):
    module.bias.mlp._forward_pre_hooks.clear()
    if how == "compile":
        traced = torch.compile(module, fullgraph=True, backend="aot_eager")
    elif how == "export":
        traced = torch.export.export(module, (X,)).module()
    elif how == "trace":
        traced = torch.jit.trace(module, (X,))
    else:
        traced = make_fx(module)(X)
    for net in {module, traced} if how == "export" else {module}:  # an exported one has parameters of its own
        traced(X)
        average(net)
    torch.testing.assert_close(traced(X), module.fresh(X))


def test_sources_of_another_shape_or_number_are_others():
    cache = InferenceCache()
    with torch.no_grad():
        for sources in ([torch.zeros(2)], [torch.zeros(1, 2)], [torch.zeros(2)] * 2, [torch.zeros(2).half()], []):
            result = torch.randn(1)
            assert cache.get(sources, lambda result=result: result) is result
