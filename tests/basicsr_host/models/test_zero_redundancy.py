"""Optimisers with divided state, in a group of one process; tests/basicsr_host/engine/test_distributed.py has two."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer

from semanir_plugin.basicsr_host.models.zero_redundancy import build_sharded_optimizer, gather_states
from semanir_plugin.basicsr_host.optimization import known_optimizers
from semanir_plugin.errors import UserError
from tests.basicsr_host.models.test_semanir_model import build_model, options


@pytest.fixture(autouse=True)
def _group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 8))


def stepped(net, optimizer, steps=2):
    for step in range(steps):
        optimizer.zero_grad()
        net(torch.full((4, 3), step + 1.0)).square().sum().backward()
        optimizer.step()
    return net.state_dict()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("AdamW", {"weight_decay": 0.1}), ("SGD", {"momentum": 0.9}), ("NAdam", {}), ("MuonAdamW", {"ns_steps": 3})],
)
def test_the_state_is_that_of_the_plain_one(name, arguments):
    plain_net, net = network(), network()
    plain = known_optimizers()[name](plain_net.parameters(), lr=0.1, **arguments)
    divided = build_sharded_optimizer(name, list(net.parameters()), lr=0.1, **arguments)
    assert isinstance(divided, ZeroRedundancyOptimizer)
    torch.testing.assert_close(stepped(net, divided), stepped(plain_net, plain), rtol=0, atol=0)
    gather_states([divided])
    torch.testing.assert_close(divided.state_dict(), plain.state_dict(), rtol=0, atol=0)
    other_net = network()
    other = known_optimizers()[name](other_net.parameters(), lr=0.5, **arguments)
    other_net.load_state_dict(net.state_dict())
    other.load_state_dict(copy.deepcopy(divided.state_dict()))
    torch.testing.assert_close(stepped(other_net, other), stepped(net, divided), rtol=0, atol=0)


def test_plain_optimisers_are_left_alone():
    gather_states([torch.optim.Adam(network().parameters())])


def test_schedulers_find_what_they_ask_for():
    optimizer = build_sharded_optimizer("Adam", list(network().parameters()), lr=0.1)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1, total_steps=10)


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("AdamWe", {}, "no optimizer 'AdamWe'; did you mean 'AdamW'"),
        ("Adam", {"momentum": 1}, "optimizer 'Adam': .*momentum"),
        ("Adam", {"betas": [2, 3]}, "optimizer 'Adam': Invalid beta"),
    ],
)
def test_a_wrong_one_is_explained(name, arguments, complaint):
    with pytest.raises(UserError, match=complaint):
        build_sharded_optimizer(name, list(network().parameters()), lr=0.1, **arguments)


@pytest.mark.parametrize(("wanted", "world_size"), [(True, 1), (False, 2), (None, 2)])
def test_a_model_divides_only_what_it_is_asked_to_and_can(tmp_path, wanted, world_size):
    opt = {**options(tmp_path, train={"zero_redundancy": wanted}), "world_size": world_size}
    assert type(build_model(opt).optimizer_g) is torch.optim.AdamW


def test_a_model_divides_the_state_of_several_processes(tmp_path):
    model = build_model({**options(tmp_path, train={"zero_redundancy": True}), "world_size": 2})
    assert isinstance(model.optimizer_g, ZeroRedundancyOptimizer)
    model.save(0, 1)
    assert torch.load(tmp_path / "1.state", weights_only=True)["optimizers"][0]["param_groups"]
