"""Costs against counts by hand."""

from __future__ import annotations

import sys

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from semanir_plugin.archs import AST, SemanIR
from semanir_plugin.blocks import (
    AdaptiveSparseLayer,
    AdaptiveSparseStage,
    KeySemanticStage,
    attention,
    feed_forward,
    row_chunking,
)
from semanir_plugin.evaluation.cost import STAND_INS, count_by_module, count_flops, count_parameters

HEIGHT, WIDTH = 16, 24
PIXELS = HEIGHT * WIDTH


class OnPixels(nn.Module):
    """A block on (B, H, W, C) as a network of images."""

    def __init__(self, block, *arguments):
        super().__init__()
        self.block, self.arguments = block, arguments

    def forward(self, x):
        return self.block(x.permute(0, 2, 3, 1), *self.arguments)


def test_imports_that_are_forbidden_do_not_matter(monkeypatch):
    monkeypatch.setitem(sys.modules, "a_module_that_is_not_to_be_imported", None)
    monkeypatch.setitem(sys.modules, "an_object_in_the_place_of_a_module", object())
    assert count_flops(nn.Conv2d(2, 5, 1), (HEIGHT, WIDTH), channels=2) == PIXELS * 2 * 5


def test_a_convolution():
    net = nn.Conv2d(2, 5, 3, stride=2, padding=1)
    assert count_parameters(net) == 2 * 5 * 9 + 5
    assert count_flops(net, (HEIGHT, WIDTH), channels=2) == PIXELS / 4 * 2 * 5 * 9


@pytest.mark.parametrize(
    ("module", "per_value"),
    [
        (nn.ConvTranspose2d(8, 8, 2, 2), 8 * 4),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), 9),
        (nn.BatchNorm2d(8), 2),
        (nn.BatchNorm2d(8, affine=False), 1),
        (nn.InstanceNorm2d(8), 4),
        (nn.GroupNorm(2, 8), 5),
        (nn.LayerNorm([8, HEIGHT, WIDTH], elementwise_affine=False), 4),
        (nn.AdaptiveAvgPool2d(1), 1),
        (nn.AdaptiveAvgPool2d(3), 1),
        (nn.Upsample(scale_factor=2, mode="nearest"), 4),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 4 * 4),
    ],
    ids=str,
)
def test_layers_by_hand(module, per_value):
    assert count_flops(module, (HEIGHT, WIDTH), channels=8) == PIXELS * 8 * per_value


class Computed(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x[0, 0])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x @ x.mT, PIXELS * HEIGHT),
        (lambda x: x @ torch.zeros(5, WIDTH, 7), 5 * PIXELS * 7),  # one matrix for all
        (lambda x: x @ torch.zeros(WIDTH), PIXELS),
        (lambda x: x[0] @ x[1], WIDTH),
        (lambda x: torch.einsum("ij,kj->ik", x, x), PIXELS * HEIGHT),
        (lambda x: torch.baddbmm(torch.zeros(()), x[None], x.mT[None]), PIXELS * HEIGHT),
        (lambda x: nn.functional.grid_sample(x[None, None], torch.zeros(1, 3, 5, 2), align_corners=False), 4 * 15),
    ],
)
def test_products_by_hand(function, expected):
    assert count_flops(Computed(function), (HEIGHT, WIDTH), channels=1) == expected


def test_shared_parameters_count_once():
    layer = nn.Linear(3, 4)
    assert count_parameters(nn.ModuleList([layer, layer])) == 16


class Fused(nn.Module):
    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)[:, None]
        return nn.functional.scaled_dot_product_attention(tokens, tokens[..., :100, :], tokens[..., :100, :])


def test_attention_of_pytorch():
    assert count_flops(Fused(), (HEIGHT, WIDTH), channels=6) == 2 * PIXELS * 100 * 6


@pytest.mark.parametrize(("topk", "keys"), [(12, 12), (99, 64)])
def test_a_key_semantic_stage_by_hand(topk, keys):
    dim, side, heads, hidden = 12, 8, 3, 24
    stage = KeySemanticStage(dim, heads, window_size=side, mlp_ratio=2.0, shifted=[True])
    similarities = PIXELS * side**2 * dim
    attention = 2 * PIXELS * keys * dim
    linear = PIXELS * (4 * dim * dim + 2 * dim * hidden)
    positions = (2 * side - 1) ** 2 * (2 * 512 + 512 * heads)
    norms = 2 * 5 * PIXELS * dim
    convolution = PIXELS * 9 * dim * dim
    expected = similarities + attention + linear + positions + norms + convolution
    assert count_flops(OnPixels(stage, topk), (HEIGHT, WIDTH), channels=dim) == expected


def test_an_adaptive_sparse_layer_by_hand(monkeypatch):
    monkeypatch.setattr(row_chunking, "CHUNK_ELEMENTS", 1000)  # many chunks, whose borders are computed twice
    dim, side, hidden = 16, 8, 64
    stage = AdaptiveSparseStage([AdaptiveSparseLayer(dim, side, 4, shift=4, mlp_ratio=4.0)])
    attention = 2 * PIXELS * side**2 * dim + 4 * PIXELS * dim * dim
    refining = PIXELS * (9 * (dim // 4) ** 2 + 2 * dim * hidden + 9 * hidden + hidden * dim)
    norms = 2 * 5 * PIXELS * dim
    assert count_flops(OnPixels(stage), (HEIGHT, WIDTH), channels=dim) == attention + refining + norms


def test_operations_by_module_add_up():
    net = AST(embed_dim=4, depths=[1] * 5, num_heads=[1] * 5, img_size=32)
    by_module = count_by_module(net, (HEIGHT, WIDTH))
    top = [by_module[name] for name, _ in net.named_children()]
    assert sum(top) == by_module[""] == count_flops(net, (HEIGHT, WIDTH))
    assert all(top)


class Called(nn.Module):
    """Its list is not called, one entry is called twice, and a block is passed behind it by a hook."""

    def __init__(self):
        super().__init__()
        self.listed = nn.ModuleList([nn.Conv2d(3, 3, 1)])
        self.behind = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.listed[0](self.listed[0](x))


def test_modules_have_what_they_hold():
    net = nn.Sequential(Called())
    net[0].register_forward_hook(lambda module, arguments, output: module.behind(output))
    assert count_by_module(net, (HEIGHT, WIDTH)) == {
        **{"0.listed.0": 2 * 9 * PIXELS, "0.listed": 2 * 9 * PIXELS, "0.behind": 81 * PIXELS},
        **{"0": 99 * PIXELS, "": 99 * PIXELS},
    }


def test_dictionaries_that_layers_share_count_once():
    options = {"upscale": 2, "embed_dim": 8, "num_heads": [2], "window_size": 8, "upsampler": "pixelshuffledirect"}
    base = {"type": "SwinIR", "img_size": 16, "depths": [4], **options}
    mix = {
        "where": "layers.*.residual_group.blocks.*.attn",
        "what": {"type": "key_semantic", "topk": 12},
        "how": "replace",
    }
    shared, own = (
        count_flops(build_network({"type": "MixedArch", "base": base, "mix": [{**mix, **more}]}), (HEIGHT, WIDTH))
        for more in ({"share": "RSTB"}, {"share": False})
    )
    assert own - shared == 2 * PIXELS * 8**2 * 8  # of two plain and two shifted layers, one each


TINY = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 8, "topk": 12}


def test_images_are_padded_to_whole_windows():
    net = SemanIR(upscale=2, upsampler="pixelshuffledirect", **TINY)
    assert count_flops(net, (9, 17)) == count_flops(net, (HEIGHT, WIDTH)) > count_flops(net, (8, 17))


def test_tokens_of_four_pixels_cost_a_quarter():
    plain, cells = (
        count_flops(net, (32, 32)) - count_flops(net, (16, 32))  # without the position bias, which both have once
        for net in (SemanIR(upscale=2, unshuffle=each, upsampler="pixelshuffledirect", **TINY) for each in (1, 2))
    )
    same = 16 * 32 * 9 * 3 * 8 * (1 + 4)  # the first convolution, and the head's
    assert 4 * (cells - same) == plain - same


def test_a_compiled_network_costs_as_much():
    plain, compiled = (SemanIR(**TINY, compile_backend=backend) for backend in (None, "eager"))
    assert count_flops(compiled, (8, 16)) == count_flops(plain, (8, 16))
    compiled.eval()(torch.rand(1, 3, 8, 16))
    assert "forward" in vars(compiled.stages[0]), "the network itself is left as it was"


def test_the_ops_are_back_even_after_a_failure():
    with pytest.raises(ValueError, match="images must be"):
        count_flops(SemanIR(**TINY), (8, 8), channels=2)
    in_place = attention.key_semantic_attention, attention.adaptive_sparse_attention, feed_forward.map_row_chunks
    assert all(function in STAND_INS for function in in_place)


def test_an_architecture_of_basicsr():
    net = build_network({"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2})
    assert count_flops(net, (HEIGHT, WIDTH)) == PIXELS * (
        9 * (3 * 4 + 4 * 4 + 4 * 12) + 4 * 3
    )  # enlarging the input: 1 for a value
