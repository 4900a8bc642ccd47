from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semanir_plugin.blocks import AdaptiveSparseLayer, AdaptiveSparseStage, FeedForwardLayer, KeySemanticStage
from semanir_plugin.blocks import stage as blocks_stage
from semanir_plugin.blocks.stage import residual_conv
from semanir_plugin.ops import build_key_semantics


def stage(shifted, **kwargs):
    torch.manual_seed(1)
    module = KeySemanticStage(8, 2, window_size=4, mlp_ratio=2, shifted=shifted, **kwargs)
    for norm in norms(module):  # so that the layers count
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    return module


def norms(module):
    return [each for each in module.modules() if isinstance(each, torch.nn.LayerNorm)]


def test_layers_add_little_at_the_start():
    module = KeySemanticStage(8, 2, window_size=4, mlp_ratio=2, shifted=[False])
    x = torch.randn(1, 8, 12, 8)
    added = module.layers[0](x.view(1, -1, 8)[:, :16], None, build_key_semantics(x.view(1, -1, 8)[:, :16], 4))
    assert 0 < (added - x.view(1, -1, 8)[:, :16]).std() < 0.2


def reference(module, x, topk):
    """The stage layer by layer, each with its own roll, windows cut one by one, attention written out."""
    height, width = x.shape[1:3]
    out = x
    for layer in module.layers:
        s = [2 if layer.shifted and size > 4 else 0 for size in (height, width)]
        back = [-each for each in s]
        rolled, source = torch.roll(out, back, (1, 2)), torch.roll(x, back, (1, 2))
        ys, xs = (torch.roll(torch.arange(size), each) for size, each in zip((height, width), back, strict=True))
        result = torch.empty_like(rolled)
        for top in range(0, height, 4):
            for left in range(0, width, 4):
                part = (slice(None), slice(top, top + 4), slice(left, left + 4))
                tokens, keys = rolled[part].reshape(1, 16, -1), source[part].reshape(1, 16, -1)
                y, c = ys[top : top + 4].repeat_interleave(4), xs[left : left + 4].repeat(4)
                near = ((y[:, None] - y).abs() < 4) & ((c[:, None] - c).abs() < 4)
                labels = near.int().argmax(-1)
                result[part] = _layer(layer, tokens, build_key_semantics(keys, topk, regions=labels[None])).view(
                    1, 4, 4, -1
                )
        out = torch.roll(result, s, (1, 2))
    return x + module.conv(out.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _layer(layer, x, semantics):
    heads = []
    attn = layer.attn
    q, k, v = attn.qkv(x).chunk(3, -1)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        cosine = F.cosine_similarity(q[..., part][0, :, None], k[..., part][0, None], dim=-1)
        scores = cosine * attn.log_scale[head, 0, 0].exp() + attn.position_bias()[head]
        weights = scores.masked_fill(~semantics.mask()[0], -torch.inf).softmax(-1)
        heads.append(weights @ v[0, :, part])
    x = x + layer.norm1(attn.proj(torch.cat(heads, -1)))[None]
    return x + layer.norm2(layer.mlp(x))


@pytest.mark.parametrize(
    "shifted", [[False, False], [True, True], [False, True, False]], ids=["plain", "stage", "layer"]
)
@pytest.mark.parametrize("size", [(8, 12), (8, 4), (4, 8)], ids=str)
def test_stage_equals_a_straightforward_one(shifted, size):
    module = stage(shifted)
    x = torch.randn(1, *size, 8)
    torch.testing.assert_close(module(x, 5), reference(module, x, 5), atol=1e-5, rtol=1e-4)


def test_a_factorised_bias_equals_the_dense_one_of_its_features():
    module = stage([False, True], position_bias="factorised")
    for layer in module.layers:  # so that the bias counts
        layer.attn.position_bias.outer.data *= 4
    x = torch.randn(1, 8, 12, 8)
    results = []
    for out in (module(x, 5), reference(module, x, 5)):
        results.append((out, *torch.autograd.grad(out.square().mean(), module.parameters())))
    assert all(each.abs().max() > 0 for each in results[1])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("shifted", "built"), [([False] * 3, 1), ([True] * 3, 1), ([False, True, False, True], 2)])
def test_dictionaries_are_built_once_per_window_position(monkeypatch, shifted, built):
    calls = []
    monkeypatch.setattr("semanir_plugin.blocks.attention.build_key_semantics", spy_on(build_key_semantics, calls))
    stage(shifted)(torch.randn(1, 8, 8, 8), 5)
    assert len(calls) == built


def test_layers_that_attend_alike_in_the_same_windows_share_a_context(monkeypatch):
    layers = [
        FeedForwardLayer(8),
        *(AdaptiveSparseLayer(8, 4, 2, shift=shift, attn="key_semantic") for shift in (0, 2, 0)),
        AdaptiveSparseLayer(8, 4, 2, shift=2),
        AdaptiveSparseLayer(8, 4, 2, attn="key_semantic", similarity="cosine"),
    ]
    x = torch.randn(1, 8, 12, 8)
    expected = x
    for layer in layers:
        expected = layer(expected, layer.context(x, 5))
    made = []
    monkeypatch.setattr(AdaptiveSparseLayer, "context", spy_on(AdaptiveSparseLayer.context, made))
    assert torch.equal(AdaptiveSparseStage(layers)(x, 5), expected)
    assert [call[0] for call in made] == [layers[1], layers[2], layers[4], layers[5]]


def spy_on(function, calls):
    def spy(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return spy


@pytest.mark.parametrize("attn", ["key_semantic", "window"])
@pytest.mark.parametrize("shifted", [[False, False], [True, False, True]])
def test_windows_that_take_turns_give_what_all_at_once_give(monkeypatch, shifted, attn):
    module, x = stage(shifted, attn=attn), torch.randn(2, 12, 20, 8)
    expected, sizes = module(x, 5), set()
    for layer in module.layers:
        layer.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    monkeypatch.setattr(blocks_stage, "CHUNK_ELEMENTS", 4 * 16 * 8)
    with torch.no_grad():
        torch.testing.assert_close(module(x, 5), expected)
    assert sizes == {4, 2}, "of 30 windows"


def test_a_single_window_is_not_shifted():
    plain, shifted = stage([False]), stage([True])
    x = torch.randn(1, 4, 4, 8)
    assert torch.equal(plain(x, 5), shifted(x, 5))


def test_similarity_reaches_the_dictionary():
    # A long token is near to all in the dot product, and only to its own direction in the cosine.
    x = torch.randn(1, 4, 4, 8) * torch.linspace(0.1, 10, 16).view(1, 4, 4, 1)
    assert not torch.allclose(stage([False])(x, 3), stage([False], similarity="cosine")(x, 3))


def test_learned_scales_are_clamped():
    module = stage([False])
    x = torch.randn(1, 4, 4, 8)
    results = []
    for log_scale in (4.605170186, 20.0):
        module.layers[0].attn.log_scale.data.fill_(log_scale)
        results.append(module(x, 5))
    torch.testing.assert_close(*results)


def test_unknown_convolution_is_named():
    with pytest.raises(ValueError, match="'1conv' or '3conv'"):
        residual_conv(8, "2conv")
