from __future__ import annotations

import time
from types import MethodType

import pytest
import torch
from torch import nn

from semanir_plugin.archs import AST, SemanIR, SemanIRUNet
from semanir_plugin.blocks import KeySemanticStage
from semanir_plugin.evaluation.cost import count_flops, count_parameters
from semanir_plugin.evaluation.profiling import clock
from semanir_plugin.evaluation.profiling import ops as op_profile
from semanir_plugin.evaluation.profiling.ops import profile_ops
from semanir_plugin.evaluation.profiling.plot import plot_profiles
from semanir_plugin.evaluation.profiling.profile import format_profile, profile_network
from semanir_plugin.evaluation.profiling.stages import find_stages, profile_stages
from tests.conftest import TINY_NETWORK
from tests.memory import measure_alone

SIZE = (9, 21)
CPU = torch.device("cpu")


def semanir(**more):
    return SemanIR(upscale=2, upsampler="pixelshuffledirect", **{**TINY_NETWORK, **more}).eval()


def ast():
    return AST(embed_dim=4, depths=[1] * 3, num_heads=[1, 2, 1], img_size=32).eval()


def prompted():
    return SemanIRUNet(
        embed_dim=4, head_dim=4, depths=[1] * 3, refinement_depth=1, window_sizes=[8, 8, 4], topk=6, prompts=3
    ).eval()


def test_parts_are_children_and_stages():
    assert list(find_stages(semanir())) == [
        *("conv_first", "norm_first", "stages.0", "stages.1", "norm", "conv_after_body", "head")
    ]
    assert list(find_stages(ast())) == [
        "conv_first",
        "encoder.0",
        "downs.0",
        "bottom",
        "ups.0",
        "decoder.0",
        "conv_last",
    ]
    wrapped = nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), nn.ModuleDict({"net": semanir()}))
    assert list(find_stages(wrapped))[:3] == ["0", "1.net.conv_first", "1.net.norm_first"]


@pytest.mark.parametrize("network", [semanir, ast, prompted])
def test_parts_and_the_rest_are_the_total(network):
    net = network()
    *parts, rest, total = profile_stages(net, SIZE, channels=3, repeats=1)
    assert (rest.name, total.name) == ("(rest)", "total")
    assert total.parameters == count_parameters(net) == sum(part.parameters for part in parts) + rest.parameters
    assert total.gflops == pytest.approx(count_flops(net, SIZE) / 1e9)
    assert rest.gflops == pytest.approx(0)
    assert sum(part.gflops for part in parts) == pytest.approx(total.gflops)
    assert all(part.gflops > 0 and part.milliseconds > 0 for part in parts)
    assert rest.milliseconds == pytest.approx(total.milliseconds - sum(part.milliseconds for part in parts))


class Slow(nn.Module):
    def __init__(self, seconds, mib):
        super().__init__()
        self.seconds, self.mib = seconds, mib

    def forward(self, x):
        time.sleep(self.seconds)
        torch.ones(self.mib * 2**18)
        return x


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([Slow(0.02, 40), Slow(0.01, 80)])

    def forward(self, x):
        time.sleep(0.03)
        for part in [*self.parts, self.parts[0]]:
            x = part(x)
        return x


def test_time_of_calls_adds_up():
    first, second, rest, total = profile_stages(Twice(), SIZE, channels=3, repeats=1)
    assert 40 <= first.milliseconds < total.milliseconds
    assert second.milliseconds >= 10
    assert rest.milliseconds >= 30
    assert total.milliseconds >= 80
    assert rest.mib is None


MEMORY = """
from semanir_plugin.evaluation.profiling.stages import profile_stages
from tests.evaluation.profiling.test_profiles import SIZE, Twice

print(*(each.mib for each in profile_stages(Twice(), SIZE, channels=3, repeats=1) if each.mib is not None))
"""


def test_memory_of_calls_does_not_add_up():
    assert [float(each) for each in measure_alone("-c", MEMORY).split()] == pytest.approx([40, 80, 80], abs=16)


def test_where_memory_cannot_be_measured_there_is_none(monkeypatch):
    def fail(*_):
        raise clock.UserError("not here")

    monkeypatch.setattr(clock, "peak_memory", fail)
    assert {cost.mib for cost in profile_stages(Twice(), SIZE, channels=3, repeats=1)} == {None}


def test_compiled_stages_are_left_as_they_were():
    net = semanir()
    for stage in net.stages:
        stage.forward = MethodType(KeySemanticStage.forward, stage)
    compiled = [vars(stage)["forward"] for stage in net.stages]
    profile_stages(net, SIZE, channels=3, repeats=1)
    assert [vars(stage)["forward"] for stage in net.stages] == compiled
    plain = semanir()
    profile_stages(plain, SIZE, channels=3, repeats=1)
    assert not any("forward" in vars(module) for module in plain.modules())


def test_every_backend_of_key_semantic_attention():
    costs = profile_ops(semanir(depths=[1, 2]), SIZE, channels=3, repeats=1)
    assert {(cost.op, cost.shape, cost.keys, cost.calls) for cost in costs} == {
        ("key_semantic_attention", (6, 2, 64, 4), 12, 3)
    }
    by_backend = {cost.backend: cost for cost in costs}
    assert by_backend.keys() == {"naive", "mask", "gather", "sdpa", "flex", "blockwise", "native", "triton"}
    assert [cost.backend for cost in costs if cost.chosen] in (["native"], ["sdpa"])
    assert all(by_backend[name].milliseconds > 0 for name in ("naive", "mask", "gather", "sdpa", "blockwise"))
    assert by_backend["triton"].milliseconds is None
    assert by_backend["triton"].reason == "its kernels are for GPUs"


def test_every_shape_of_adaptive_sparse_attention():
    costs = profile_ops(ast(), (32, 40), channels=3, repeats=1)
    assert [(cost.op, cost.shape, cost.keys, cost.calls, cost.backend) for cost in costs] == [
        ("adaptive_sparse_attention", shape, 64, 1, backend)
        for shape in ((6, 2, 64, 4), (24, 1, 64, 8))
        for backend in ("naive", "torch", "triton")
    ]
    assert [cost.backend for cost in costs if cost.chosen] == ["torch", "torch"]


def test_what_would_fill_the_memory_is_not_tried(monkeypatch):
    monkeypatch.setattr(op_profile, "free_memory", lambda _: 2**17)
    costs = {cost.backend: cost for cost in profile_ops(semanir(), SIZE, channels=3, repeats=1)}
    assert costs["gather"].reason == "it would need about 0.0 GiB"
    assert costs["blockwise"].milliseconds > 0


def test_a_backend_that_fails_says_why(monkeypatch):
    def fail(*_):
        raise ValueError("gather has no time")

    monkeypatch.setitem(op_profile.SEMANTIC_BACKENDS, "gather", fail)
    costs = {cost.backend: cost for cost in profile_ops(semanir(), SIZE, channels=3, repeats=1)}
    assert costs["gather"].reason == "gather has no time"


def test_a_network_without_our_attention_has_no_backends():
    assert profile_ops(nn.Conv2d(3, 3, 1), SIZE, channels=3) == []


def test_the_median_leaves_the_first_call_out(monkeypatch):
    times = iter([900.0, 1.0, 7.0, 2.0])
    monkeypatch.setattr(clock, "time_ms", lambda *_: next(times))
    assert clock.median_ms(lambda: None, CPU, 3) == 2


def test_a_call_of_seconds_is_made_once(monkeypatch):
    monkeypatch.setattr(clock, "LONG", 5.0)
    calls = []
    assert clock.median_ms(lambda: (time.sleep(0.01), calls.append(0)), CPU, 3) >= 10
    assert len(calls) == 1


@pytest.fixture(scope="module")
def profiles():
    return [profile_network(semanir(), size, channels=3, repeats=1) for size in (SIZE, (16, 16))]


def test_the_tables_line_up(profiles):
    profile = profiles[0]
    text = format_profile(profile)
    assert text.startswith("9x21\n\npart ")
    stages, ops = text.split("\n\n")[1:]
    head, *rows = stages.splitlines()
    assert [row.split()[0] for row in rows] == [*find_stages(semanir()), "(rest)", "total"]
    assert f"{profile.stages[-1].parameters:,}" in rows[-1]
    end = head.index("parameters") + len("parameters")
    assert all(row[end - 1].isdigit() and row[end] == " " for row in rows)
    assert "native *" in ops or "blockwise *" in ops
    assert ops.endswith("* is what 'auto' takes")
    assert "(its kernels are for GPUs)" in ops


def test_the_picture(profiles, tmp_path, monkeypatch):
    figures = []
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    assert plot_profiles(profiles, "SemanIR", tmp_path / "profile.png")
    stages, ops = figures[0].subfigs
    assert [axes.get_xlabel() for axes in stages.axes] == [
        *("parameters (millions)", "operations (GFLOPs)", "time (ms)", "peak memory (MiB)")
    ]
    labels = [label.get_text() for label in stages.axes[0].get_yticklabels()]
    assert labels == [*find_stages(semanir()), "(rest)"]
    assert len(stages.axes[1].patches) == 2 * len(labels)
    widths = [patch.get_width() for patch in stages.axes[1].patches[: len(labels)]]
    assert widths == [cost.gflops for cost in profiles[0].stages[:-1]]
    assert [text.get_text() for text in stages.axes[2].get_legend().get_texts()] == ["9x21", "16x16"]
    assert "triton" not in [label.get_text() for label in ops.axes[0].get_yticklabels()]
