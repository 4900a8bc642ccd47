from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from semanir_plugin.blocks import (
    BLOCKS,
    KeySemanticAttention,
    KeySemanticMapAttention,
    MapAttention,
    ResidualBlock,
    SharedSemantics,
)
from semanir_plugin.blocks.attention import build_attention
from semanir_plugin.blocks.token_maps import choose_heads
from semanir_plugin.blocks.windows import CutWindows
from semanir_plugin.ops import build_key_semantics

SIZES = [(8, 12), (7, 5), (13, 17), (1, 3)]


def windows_of(x, size, shift):
    """Yield each window of a map, cut one by one after a roll, with its place and the labels of its regions."""
    shift = [shift if side > size else 0 for side in x.shape[1:3]]
    rolled = torch.roll(x, [-each for each in shift], (1, 2))
    rows, columns = (torch.arange(side) >= side - each for side, each in zip(x.shape[1:3], shift, strict=True))
    labels = 2 * rows.long()[:, None] + columns.long()
    for top in range(0, x.shape[1], size):
        for left in range(0, x.shape[2], size):
            part = (slice(top, top + size), slice(left, left + size))
            yield part, rolled[:, part[0], part[1]].flatten(1, 2), labels[part].flatten()[None]


def reference(block, x, attend):
    """Pad by reflection, attend in each window, roll back, crop."""
    height, width = x.shape[1:3]
    pads = [-side % 4 for side in (height, width)]
    rows, columns = (
        torch.tensor([i if i < side else max(2 * (side - 1) - i, 0) for i in range(side + pad)])
        for side, pad in zip((height, width), pads, strict=True)
    )
    padded = x[:, rows][:, :, columns]
    out = torch.empty_like(padded)
    for part, tokens, labels in windows_of(padded, 4, block.shift):
        out[:, part[0], part[1]] = attend(tokens, labels).view(len(x), 4, 4, -1)
    shift = [block.shift if side > 4 else 0 for side in padded.shape[1:3]]
    return torch.roll(out, shift, (1, 2))[:, :height, :width]


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", SIZES[:3], ids=str)
@pytest.mark.parametrize("kind", ["key_semantic", "assa", "window"])
def test_attention_on_maps_is_attention_in_windows(kind, size, shift):
    block = BLOCKS[kind](8, num_heads=2, window_size=4, shift=shift, **({"topk": 5} if kind == "key_semantic" else {}))
    x = torch.randn(2, *size, 8)

    def attend(tokens, labels):
        keys = build_key_semantics(tokens, 5, regions=labels) if kind == "key_semantic" else labels
        return block.attn(tokens, keys)

    torch.testing.assert_close(block(x), reference(block, x, attend), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_blocks_keep_any_size_and_learn(kind, size):
    block, x = BLOCKS[kind](12), torch.randn(2, *size, 12, requires_grad=True)
    out = block(x)
    assert out.shape == x.shape
    out.square().mean().backward()
    assert x.grad.abs().sum() > 0
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name


def test_window_attention_is_plain_softmax_attention():
    block = BLOCKS["window"](6, num_heads=2, window_size=4)
    x = torch.randn(1, 4, 4, 6)
    attn = block.attn
    q, k, v = attn.qkv(x).view(16, 3, 2, 3).permute(1, 2, 0, 3)
    bias = torch.empty(2, 16, 16)
    for query in range(16):
        for key in range(16):
            bias[:, query, key] = attn.position_table[:, query // 4 - key // 4 + 3, query % 4 - key % 4 + 3]
    weights = (q @ k.mT / 3**0.5 + bias).softmax(-1)
    expected = attn.proj((weights @ v).transpose(0, 1).reshape(16, 6)).view(1, 4, 4, 6)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)


def test_a_dictionary_may_be_given():
    block = KeySemanticMapAttention(8, num_heads=2, window_size=4, topk=3)
    x, other = torch.randn(2, 6, 9, 8), torch.randn(2, 6, 9, 8)
    assert torch.equal(block(x, block.context(x)), block(x))
    assert not torch.equal(block(x, block.context(other)), block(x))


def test_layers_share_what_the_first_has_built_until_it_is_cleared():
    shared = SharedSemantics()
    first, second = (KeySemanticMapAttention(8, num_heads=2, window_size=4, topk=3, shared=shared) for _ in range(2))
    x, other = torch.randn(1, 8, 8, 8), torch.randn(1, 8, 8, 8)
    first(x)
    alone = KeySemanticMapAttention(8, num_heads=2, window_size=4, topk=3)
    assert torch.equal(second(other), second(other, alone.context(x)))
    shared.clear()
    assert torch.equal(second(other), second(other, alone.context(other)))
    wider = torch.randn(1, 8, 12, 8)  # other windows have a dictionary of their own
    assert torch.equal(second(wider), second(wider, alone.context(wider)))


def test_threads_share_nothing():
    attn, shared = KeySemanticAttention(8, 2, 1), SharedSemantics()

    def ask():
        return shared.context(attn, torch.randn(1, 4, 8), CutWindows(), 1, position="here")

    first = ask()
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(ask).result()
    assert ask() is first
    assert elsewhere is not first


def test_what_contexts_differ_by_is_not_shared():
    shared, x = SharedSemantics(), torch.randn(1, 16, 8)
    dot, cosine = (KeySemanticAttention(8, 4, 1, similarity=each) for each in ("dot", "cosine"))

    def ask(attn, topk=2, position=0):
        return shared.context(attn, x, CutWindows(), topk, position=position)

    contexts = [ask(dot), ask(cosine), ask(dot, topk=3), ask(dot, position=1)]
    assert len({id(each) for each in contexts}) == 4
    assert ask(KeySemanticAttention(8, 4, 1)) is contexts[0]


def test_attention_asks_for_its_own_context():
    x, labels = torch.randn(2, 4, 8), torch.tensor([[0, 0, 1, 1]])
    for windows in (CutWindows(), CutWindows(labels)):
        regions = windows.regions(x.device)
        for kind in ("assa", "window"):
            assert build_attention(kind, 8, 2, 1).context(x, windows, 3) is regions
        semantics = build_attention("key_semantic", 8, 2, 1, similarity="cosine").context(x, windows, 1)
        expected = build_key_semantics(x, 1, regions=regions, similarity="cosine")
        assert torch.equal(semantics.mask(), expected.mask())


@pytest.mark.parametrize("channels_first", [True, False])
def test_residual_block(channels_first):
    block = ResidualBlock(6, BLOCKS["frfn"](6), channels_first=channels_first)
    x = torch.randn(2, 6, 5, 7) if channels_first else torch.randn(2, 5, 7, 6)
    tokens = x.permute(0, 2, 3, 1) if channels_first else x
    expected = tokens + block.block(F.layer_norm(tokens, (6,)))
    out = block(x)
    torch.testing.assert_close(out.permute(0, 2, 3, 1) if channels_first else out, expected)


def test_a_residual_that_starts_at_zero_changes_nothing_and_learns_from_its_second_step():
    block = ResidualBlock(6, BLOCKS["assa"](6), zero_init=True)
    x = torch.randn(2, 6, 9, 11)
    assert torch.equal(block(x), x)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        block(x).square().mean().backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in block.parameters())


@pytest.mark.parametrize(("dim", "heads"), [(180, 6), (60, 2), (64, 2), (32, 1), (7, 1), (96, 3), (1, 1)])
def test_heads_are_about_32_wide(dim, heads):
    assert choose_heads(dim) == heads


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="unknown attention 'dense'"):
        MapAttention(8, kind="dense")
    with pytest.raises(ValueError, match="below window_size, got 4 and 4"):
        MapAttention(8, window_size=4, shift=4)
    with pytest.raises(ValueError, match="topk must be positive, got -1"):
        KeySemanticMapAttention(8, topk=-1)
    with pytest.raises(ValueError, match="not a multiple of the 3 heads"):
        KeySemanticMapAttention(8, num_heads=3)
