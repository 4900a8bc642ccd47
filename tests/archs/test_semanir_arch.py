from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semanir_plugin.archs import SemanIR

TINY = {"embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "window_size": 8, "topk": 12}


def parameters(**kwargs):
    with torch.device("meta"):
        return sum(p.numel() for p in SemanIR(**kwargs).parameters())


@pytest.mark.parametrize(
    ("upscale", "small", "base"),
    [(2, 11_869_991, 19_895_783), (3, 12_054_631, 20_080_423), (4, 12_017_703, 20_043_495)],
)
def test_sizes_are_the_published_ones_to_the_digit(upscale, small, base):
    assert parameters(upscale=upscale) == small
    assert parameters(upscale=upscale, depths=[8] * 8, num_heads=[6] * 8) == base


def test_light_has_at_most_a_million_parameters():
    light = {"embed_dim": 60, "depths": [6] * 4, "num_heads": [4] * 4, "upsampler": "pixelshuffledirect"}
    assert parameters(upscale=4, **light) == 983_340


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect"])
@pytest.mark.parametrize(("upscale", "height", "width"), [(2, 8, 19), (3, 17, 8), (4, 16, 24), (4, 11, 13)])
def test_any_size_comes_out_enlarged(upsampler, upscale, height, width):
    net = SemanIR(upscale=upscale, upsampler=upsampler, **TINY).eval()
    assert net(torch.rand(2, 3, height, width)).shape == (2, 3, upscale * height, upscale * width)


@pytest.mark.parametrize("in_chans", [1, 3, 4])
@pytest.mark.parametrize("kwargs", [{}, {"resi_connection": "3conv"}, {"shift": "layer"}, {"similarity": "cosine"}])
def test_every_parameter_learns(in_chans, kwargs):
    net = SemanIR(upscale=2, in_chans=in_chans, **TINY, **kwargs)
    net(torch.rand(1, in_chans, 9, 21)).square().mean().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_state_dict_round_trip():
    net, other = (SemanIR(upscale=2, **TINY).eval() for _ in range(2))
    other.load_state_dict(net.state_dict())
    x = torch.rand(1, 3, 12, 20)
    assert torch.equal(net(x), other(x))
    assert not [key for key in net.state_dict() if "mean" in key or "coordinates" in key]


def test_the_mean_colour_passes_as_zero():
    net = SemanIR(upscale=2, **TINY)
    seen = []
    net.conv_first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    net(torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1).expand(1, 3, 8, 8))
    assert seen[0].abs().max() < 1e-6


def test_padding_does_not_depend_on_who_pads():
    net = SemanIR(upscale=2, **TINY).eval()
    x = torch.rand(1, 3, 12, 20)
    padded = F.pad(x, (0, 4, 0, 4), mode="reflect")
    torch.testing.assert_close(net(x), net(padded)[..., :24, :40])


@pytest.mark.parametrize(("shift", "expected"), [("stage", "00 11 00"), ("layer", "01 01 01"), ("none", "00 00 00")])
def test_shift_strategies(shift, expected):
    net = SemanIR(**{**TINY, "depths": [2, 2, 2], "num_heads": [2, 2, 2]}, shift=shift)
    pattern = " ".join("".join(str(int(layer.shifted)) for layer in stage.layers) for stage in net.stages)
    assert pattern == expected


def test_topk_of_a_pass_is_a_whole_number():
    with pytest.raises(ValueError, match="whole number"):
        SemanIR(upscale=2, **TINY).eval()(torch.rand(1, 3, 16, 16), topk=8.0)


def test_topk_is_sampled_in_training_and_largest_in_evaluation(monkeypatch):
    net = SemanIR(upscale=2, **{**TINY, "topk": [4, 8, 12]})
    seen = []
    for stage in net.stages:
        monkeypatch.setattr(stage, "forward", lambda x, topk: seen.append(topk) or x)
    x = torch.rand(1, 3, 8, 8)
    for _ in range(30):
        net(x)
    per_pass = [set(seen[i : i + 2]) for i in range(0, len(seen), 2)]
    assert all(len(each) == 1 for each in per_pass), "one k for the whole network"
    assert set(seen) == {4, 8, 12}
    seen.clear()
    net.eval()(x)
    net(x, topk=5)
    assert seen == [12, 12, 5, 5]


def test_fewer_keys_change_the_result_and_all_keys_are_dense_attention():
    net = SemanIR(upscale=2, **TINY).eval()
    x = torch.rand(1, 3, 8, 8)
    assert not torch.allclose(net(x, topk=4), net(x, topk=64))
    assert torch.equal(net(x, topk=64), net(x, topk=10_000))


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect"])
@pytest.mark.parametrize(("upscale", "unshuffle"), [(2, 1), (3, 1), (1, 2), (2, 2), (3, 2), (2, 3)])
def test_interpolating_init_enlarges_bilinearly(upsampler, upscale, unshuffle):
    wide = {**TINY, "embed_dim": 28}
    net = SemanIR(upscale=upscale, unshuffle=unshuffle, upsampler=upsampler, interpolating_init=True, **wide)
    x = torch.rand(1, 3, 17, 21)
    expected = F.interpolate(x, scale_factor=upscale, mode="bilinear")
    inner = (..., *[slice(2 * upscale * unshuffle, -2 * upscale * unshuffle)] * 2)
    torch.testing.assert_close(net(x)[inner], expected[inner], atol=1e-5, rtol=1e-5)
    opt = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(4):  # what starts at zero passes gradients on a step later
        opt.zero_grad()
        (net(x) - torch.rand_like(expected)).square().mean().backward()
        opt.step()
    assert not [name for name, p in net.named_parameters() if not p.grad.abs().sum() > 0]


def test_cells_of_pixels_are_the_tokens():
    net, seen = SemanIR(upscale=2, unshuffle=2, **TINY).eval(), []
    assert net.descriptor.size.multiple_of == 16
    net.conv_first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    net.stages[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = torch.rand(1, 3, 13, 30)
    assert net(x).shape == (1, 3, 26, 60)
    assert [each.shape for each in seen] == [(1, 12, 8, 16), (1, 8, 16, 8)]
    cell = x[0, 1, 4:6, 8:10].flatten()
    torch.testing.assert_close(seen[0][0, 4:8, 2, 4], cell - 0.4371)


def test_flat_ground_stays_as_it_is_where_asked_for():
    x = torch.full((1, 3, 19, 21), 0.3)
    x[..., :8] = torch.rand(1, 3, 19, 8)
    plain, keeping = (SemanIR(upscale=2, keep_flat=each, **TINY).eval() for each in (False, True))
    keeping.load_state_dict(plain.state_dict())
    with torch.no_grad():
        first, second = plain(x), keeping(x)
    assert torch.equal(first[..., :16], second[..., :16])
    assert (second[..., 18:] == x[0, 0, 0, -1]).all()
    assert not torch.equal(first[..., 18:], second[..., 18:])


@pytest.mark.parametrize(
    ("upscale", "unshuffle", "upsampler"),
    [(1, 3, "pixelshuffle"), (4, 2, "pixelshuffle"), (1, 4, "pixelshuffledirect")],
)
def test_any_size_comes_out_enlarged_of_cells(upscale, unshuffle, upsampler):
    net = SemanIR(upscale=upscale, unshuffle=unshuffle, upsampler=upsampler, in_chans=1, **TINY)
    out = net(torch.rand(2, 1, 11, 37))
    assert out.shape == (2, 1, 11 * upscale, 37 * upscale)
    out.square().mean().backward()
    assert not [name for name, p in net.named_parameters() if not p.grad.abs().sum() > 0]


def test_bf16_autocast_stays_finite_and_near():
    net = SemanIR(upscale=2, **TINY).eval()
    x = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x, topk=64)
    assert (out.float() - net(x, topk=64)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"upscale": 5}, "upscale must be"),
        ({"upscale": 1}, "or 1 with unshuffle above 1, got 1"),
        ({"upscale": 6, "unshuffle": 2}, "upscale must be 2, 3, 4 or 8"),
        ({"unshuffle": 0}, "unshuffle must be a whole number of at least 1 and at most 4, got 0"),
        ({"depths": [2, 0]}, "depths must be a list of whole numbers of at least 1 and at most 1000"),
        ({"unshuffle": 2, "interpolating_init": True}, "embed_dim of at least .* = 12, got 8"),
        (
            {"unshuffle": 4, "interpolating_init": True, "embed_dim": 48},
            "needs 96 channels before the upsampling of 'pixelshuffle', which has 64: take 'pixelshuffledirect'",
        ),
        ({"upsampler": "nearest"}, "upsampler must be"),
        ({"depths": [2, 2, 2]}, "equal length"),
        ({"num_heads": [3, 2]}, "not a multiple of the 3 heads"),
        ({"embed_dim": 0}, "embed_dim must be a whole number of at least 1"),
        ({"window_size": 0}, "window_size must be a whole number of at least 1"),
        ({"topk": 0}, "topk must be"),
        ({"topk": []}, "topk must be"),
        ({"shift": "window"}, "shift must be"),
        ({"resi_connection": "none"}, "resi_connection must be"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SemanIR(**{**TINY, **kwargs})


def test_too_small_an_image_is_named():
    with pytest.raises(ValueError, match="at least 8 x 8"):
        SemanIR(**TINY)(torch.rand(1, 3, 7, 30))
