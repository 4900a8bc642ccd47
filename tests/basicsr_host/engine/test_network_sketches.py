from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from semanir_plugin.basicsr_host.engine import network_sketches
from semanir_plugin.basicsr_host.engine.network_sketches import find_refusal


class Network(nn.Module):
    def __init__(self, *, layers: int = 1, width: int = 8, table: int = 8, positive: bool = True) -> None:
        super().__init__()
        if not positive:
            raise ValueError("positive must be true")
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.layers[0].bias.data.add_(torch.linspace(0, 1, table))


def test_what_a_constructor_refuses_is_returned():
    assert find_refusal(Network, {}) is None
    assert str(find_refusal(Network, {"positive": False})) == "positive must be true"
    assert isinstance(find_refusal(Network, {"unknown": 1}), TypeError)


def test_shapes_that_do_not_fit_are_seen():
    assert isinstance(find_refusal(Network, {"table": 7}), RuntimeError)


def test_a_network_that_no_memory_holds_takes_none():
    assert find_refusal(Network, {"width": 2**16, "table": 2**16}) is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layers": 10**12}, "more than 10,000 tensors"),
        ({"table": 10**12}, "1,000,000,000,000 values"),
        ({"table": 10**6}, "1,000,000 values"),
    ],
)
def test_what_would_never_end_or_fill_the_memory_is_refused(options, reason):
    began = time.process_time()
    assert reason in str(find_refusal(Network, options))
    assert time.process_time() - began < 30


def test_what_can_be_built_with_memory_alone_is_not_where_it_is_large():
    class Computing(Network):
        def __init__(self, **options: int) -> None:
            super().__init__(**options)
            self.scale = float(self.layers[0].weight.abs().max())

    assert find_refusal(Computing, {}) is None
    assert find_refusal(Computing, {"width": 2**16, "table": 2**16}) is None


def test_a_run_draws_what_it_would_have_drawn():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    find_refusal(Network, {})
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_can_be_built_is_built_once():
    built = []

    class Counting(nn.Module):
        def __init__(self, **options):
            super().__init__()
            built.append(options)
            if options.get("refused"):
                raise ValueError("no")

    for options in ({"width": 1}, {"width": 2}, {"width": 1}, {"width": True}):
        assert find_refusal(Counting, options) is None
    assert built == [{"width": 1}, {"width": 2}, {"width": True}]
    for _ in range(2):  # what it names may be registered in between
        assert str(find_refusal(Counting, {"refused": True})) == "no"


def test_only_the_last_networks_are_remembered(monkeypatch):
    monkeypatch.setattr(network_sketches, "_built", {})
    monkeypatch.setattr(network_sketches, "REMEMBERED", 2)
    for width in (8, 16, 24):
        assert find_refusal(Network, {"width": width, "table": width}) is None
    assert list(network_sketches._built) == [(Network, str({"width": each, "table": each})) for each in (16, 24)]
