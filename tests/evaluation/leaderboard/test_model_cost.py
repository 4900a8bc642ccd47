from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.leaderboard import model_cost
from semanir_plugin.evaluation.leaderboard.contestants import (
    ClassicalOptions,
    NetworkOptions,
    PreparedContestant,
    make_contestant,
)
from semanir_plugin.evaluation.leaderboard.model_cost import NO_COST, CostOptions, measure_cost
from semanir_plugin.inference.restoration import Restoration

SETTINGS = {"num_gpu": 0, "manual_seed": 0, "scale": 2}


def test_a_network():
    network = {"type": "MSRResNet", "num_feat": 4, "num_block": 1, "upscale": 2}
    restorer = make_contestant("x", NetworkOptions(network_g=network), SETTINGS).prepare("")
    found = measure_cost(restorer, 3, CostOptions(size=[16, 24], runs=4, warm_up=1))
    net = restorer.model.net_g
    assert found["parameters"] == sum(p.numel() for p in net.parameters())
    assert found["flops_size"] == found["runtime_size"] == [3, 16, 24]
    convolutions = 16 * 24 * 9 * (3 * 4 + 2 * 4 * 4 + 4 * 16) + 32 * 48 * 9 * (4 * 4 + 4 * 3)
    assert convolutions <= found["flops"] < convolutions + 3 * 4 * 32 * 48 + 1, "and the bilinear skip"
    assert 0 < found["runtime_ms"]["low"] <= found["runtime_ms"]["median"] <= found["runtime_ms"]["high"]
    assert found["peak_memory_mib"] is None or 0 <= found["peak_memory_mib"] < 1000


def test_the_input_is_padded_as_images_are():
    options = {"upscale": 2, "img_size": 16, "window_size": 8, "embed_dim": 4, "depths": [1], "num_heads": [2]}
    restorer = make_contestant("x", NetworkOptions(network_g={"type": "SwinIR", **options}), SETTINGS).prepare("")
    found, padded = (measure_cost(restorer, 3, CostOptions(size=size, runs=1)) for size in ([13, 20], [16, 24]))
    assert found["flops"] == padded["flops"] > 0
    assert found["flops_size"] == [3, 13, 20]


def test_time_is_the_median_after_the_warm_up():
    runs = []

    def run(image):
        assert image.shape == (5, 7, 1)
        runs.append(image)
        time.sleep(0.2 if len(runs) <= 3 else 0.001)  # two to warm up, one for memory
        return image

    found = measure_cost(PreparedContestant(restore=None, run=run), 1, CostOptions(size=[5, 7], runs=5, warm_up=2))
    assert len(runs) == 2 + 1 + 5
    assert 1 <= found["runtime_ms"]["median"] < 100
    assert all(np.array_equal(runs[0], each) for each in runs)
    assert (found["parameters"], found["flops"], found["flops_size"]) == (0, None, None)


def test_quartiles():
    assert model_cost._summarise([5.0, 1.0, 2.0, 3.0, 4.0]) == {"median": 3, "low": 2, "high": 4}
    assert model_cost._summarise([5.0]) == {"median": 5, "low": 5, "high": 5}


def test_memory_is_what_the_run_takes(monkeypatch):
    options = CostOptions(size=[8, 8], runs=1, warm_up=0)
    restorer = PreparedContestant(restore=None, run=lambda image: np.ones(8 << 20).sum())  # 64 MiB
    memory = measure_cost(restorer, 3, options)["peak_memory_mib"]
    if memory is not None:
        assert 60 < memory < 100

    def fail(*_):
        raise UserError("not here")

    monkeypatch.setattr(model_cost, "peak_memory", fail)
    assert measure_cost(restorer, 3, options)["peak_memory_mib"] is None


def test_what_does_not_run_costs_nothing():
    restorer = make_contestant("x", ClassicalOptions(classical="identity"), SETTINGS).prepare("")
    assert measure_cost(restorer, 3, CostOptions()) == NO_COST


def test_a_network_that_cannot_be_counted_has_no_flops():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            raise RuntimeError("not\nnow")

    net = Stubborn()
    model = SimpleNamespace(
        net_g=net,
        get_bare_model=lambda net: net,
        device=torch.device("cpu"),
        restoration=Restoration(),
        seconds_per_image=[0.5],
    )
    restorer = PreparedContestant(restore=None, model=model, run=lambda image: image)
    found = measure_cost(restorer, 3, CostOptions(size=[8, 8], runs=1))
    assert (found["flops"], found["parameters"]) == (None, 12)
    assert found["runtime_ms"]["median"] == pytest.approx(500)
