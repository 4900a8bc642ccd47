from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.leaderboard import model_cost
from semanir_plugin.evaluation.leaderboard.columns import NO_COST
from semanir_plugin.evaluation.leaderboard.contestants import (
    ClassicalOptions,
    NetworkOptions,
    PreparedContestant,
    make_contestant,
)
from semanir_plugin.evaluation.leaderboard.model_cost import CostOptions, measure_cost
from semanir_plugin.inference.restoration import Restoration

SETTINGS = {"num_gpu": 0, "manual_seed": 0, "scale": 2}


def test_a_network():
    network = {"type": "MSRResNet", "num_feat": 4, "num_block": 1, "upscale": 2}
    restorer = make_contestant("x", NetworkOptions(network_g=network), SETTINGS).prepare("")
    found = measure_cost(restorer, 3, CostOptions(size=[16, 24], runs=4, warm_up=1))
    net = restorer.model.net_g
    assert found["parameters"] == sum(p.numel() for p in net.parameters())
    convolutions = 16 * 24 * 9 * (3 * 4 + 2 * 4 * 4 + 4 * 16) + 32 * 48 * 9 * (4 * 4 + 4 * 3)
    assert convolutions <= found["mult_adds"] < convolutions + 3 * 4 * 32 * 48 + 1, "and the bilinear skip"
    assert 0 < found["time_low_ms"] <= found["time_ms"] <= found["time_high_ms"]
    assert 0 < found["processor_time_ms"] < 100 * found["time_high_ms"]
    assert found["memory_mib"] is None or 0 <= found["memory_mib"] < 1000


def test_the_input_is_padded_as_images_are():
    options = {"upscale": 2, "img_size": 16, "window_size": 8, "embed_dim": 4, "depths": [1], "num_heads": [2]}
    restorer = make_contestant("x", NetworkOptions(network_g={"type": "SwinIR", **options}), SETTINGS).prepare("")
    found, padded = (measure_cost(restorer, 3, CostOptions(size=size, runs=1)) for size in ([13, 20], [16, 24]))
    assert found["mult_adds"] == padded["mult_adds"] > 0


def test_time_is_the_median_after_the_warm_up():
    runs = []

    def run(image):
        assert image.shape == (5, 7, 1)
        runs.append(image)
        time.sleep(0.2 if len(runs) <= 3 else 0.001)  # two to warm up, one for memory
        return image

    found = measure_cost(PreparedContestant(restore=None, run=run), 1, CostOptions(size=[5, 7], runs=5, warm_up=2))
    assert len(runs) == 2 + 1 + 5
    assert 1 <= found["time_ms"] < 100
    assert found["disturbed"] is True, "it slept"
    assert all(np.array_equal(runs[0], each) for each in runs)
    assert (found["parameters"], found["mult_adds"]) == (0, None)


def summarise(clocks, processors, *, on_cpu=True):
    runs = [model_cost.Run(*each) for each in zip(clocks, processors, strict=True)]
    return model_cost._summarise(runs, on_cpu=on_cpu)


def test_quartiles_and_the_least_processor_time():
    found = summarise([5.0, 1.0, 2.0, 3.0, 4.0], [6.0, 2.0, 1.5, 7.0, 8.0])
    assert [found[key] for key in ("time_ms", "time_low_ms", "time_high_ms")] == [3000, 2000, 4000]
    assert found["processor_time_ms"] == 1500
    found = summarise([5.0], [5.0])
    assert [found[key] for key in ("time_ms", "time_low_ms", "time_high_ms")] == [5000, 5000, 5000]


@pytest.mark.parametrize(
    ("clocks", "processors", "disturbed"),
    [
        ([0.16, 0.17, 0.15], [0.16, 0.16, 0.15], False),
        ([0.16, 0.17, 0.15], [0.31, 0.33, 0.30], False),
        ([15.565, 16.0, 12.0], [0.158, 0.159, 0.158], True),
        ([0.10, 0.18, 0.20], [0.2, 0.2, 0.2], True),
        ([0.10, 0.10, 9.00], [0.2, 0.2, 0.2], False),
    ],
    ids=["one thread", "two threads", "hardly a turn", "half of two threads' turns", "one run of three"],
)
def test_what_waits_for_the_processor_is_disturbed(clocks, processors, disturbed):
    assert summarise(clocks, processors)["disturbed"] is disturbed


def test_on_a_gpu_the_clock_alone_counts():
    found = summarise([0.5, 0.5], [0.01, 0.01], on_cpu=False)
    assert (found["processor_time_ms"], found["disturbed"], found["time_ms"]) == (None, None, 500)


def test_memory_is_what_the_run_takes(monkeypatch):
    options = CostOptions(size=[8, 8], runs=1, warm_up=0)
    restorer = PreparedContestant(restore=None, run=lambda image: np.ones(8 << 20).sum())  # 64 MiB
    memory = measure_cost(restorer, 3, options)["memory_mib"]
    if memory is not None:
        assert 60 < memory < 100

    def fail(*_):
        raise UserError("not here")

    monkeypatch.setattr(model_cost, "peak_memory", fail)
    assert measure_cost(restorer, 3, options)["memory_mib"] is None


def test_what_does_not_run_costs_nothing():
    restorer = make_contestant("x", ClassicalOptions(classical="identity"), SETTINGS).prepare("")
    assert measure_cost(restorer, 3, CostOptions()) == NO_COST


def test_a_network_that_cannot_be_counted_has_no_mult_adds():
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
    assert (found["mult_adds"], found["parameters"]) == (None, 12)
    assert found["time_ms"] == pytest.approx(500)
