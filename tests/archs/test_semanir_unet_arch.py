from __future__ import annotations

import pytest
import torch

from semanir_plugin.archs import SemanIRUNet

TINY = {
    "embed_dim": 8,
    "head_dim": 4,
    "depths": [1, 1, 1],
    "refinement_depth": 1,
    "window_sizes": [8, 8, 4],
    "topk": 12,
}


def test_the_default_is_within_one_percent_of_the_published_size():
    with torch.device("meta"):
        net = SemanIRUNet()
    count = sum(p.numel() for p in net.parameters())
    assert count == 25_952_235
    assert abs(count / 25.82e6 - 1) < 0.01
    assert net.descriptor.size.multiple_of == 64


def test_levels_have_the_sizes_and_widths_described():
    net, seen = SemanIRUNet(**TINY).eval(), []
    stages = [*net.encoder, net.bottom, *net.decoder, net.refinement]
    for stage in stages:
        stage.register_forward_pre_hook(
            lambda module, args: seen.append((tuple(args[0].shape[1:]), module.window_size))
        )
    net(torch.rand(1, 3, 30, 17))
    at = {0: (32, 32), 1: (16, 16), 2: (8, 8)}
    assert seen == [
        ((*at[0], 8), 8),
        ((*at[1], 16), 8),
        ((*at[2], 32), 4),
        ((*at[1], 16), 8),
        ((*at[0], 16), 8),
        ((*at[0], 16), 8),
    ]
    assert [stage.layers[0].attn.num_heads for stage in stages] == [2, 4, 8, 4, 4, 4]


def test_it_adds_to_its_input():
    net = SemanIRUNet(**TINY).eval()
    x = torch.rand(1, 3, 21, 5)
    with torch.no_grad():
        assert 0 < (net(x) - x).abs().max() < 0.1, "at first little"
    torch.nn.init.zeros_(net.conv_last.weight)
    torch.nn.init.zeros_(net.conv_last.bias)
    assert torch.equal(net(x), x)


def test_skips_reach_the_decoder():
    net, x = SemanIRUNet(**TINY).eval(), torch.rand(1, 3, 32, 32)
    before = net(x)
    with torch.no_grad():
        for up in net.ups:
            up.conv.weight.zero_()
    assert not torch.allclose(net(x), before)
    net.ups[0].conv.bias.data.fill_(3)
    assert net(x).std() > 0.01


def test_without_prompts_nothing_is_changed_and_with_them_little_at_first():
    torch.manual_seed(0)
    plain = SemanIRUNet(**TINY).eval()
    torch.manual_seed(0)
    none = SemanIRUNet(**TINY, prompts=0).eval()
    prompted = SemanIRUNet(**TINY, prompts=5).eval()
    assert not [name for name in plain.state_dict() if "prompt" in name]
    assert all(torch.equal(value, none.state_dict()[name]) for name, value in plain.state_dict().items())
    more = prompted.state_dict().keys() - plain.state_dict().keys()
    assert more == {f"prompts.{name}" for name in ("weigh.weight", "weigh.bias", "prompts.0", "prompts.1")}
    assert [tuple(each.shape) for each in prompted.prompts.prompts] == [(5, 32), (5, 32)]
    assert list(dict(prompted.named_modules()))[-1] == "conv_last", "which reduced precision leaves as it is"
    missing, unexpected = prompted.load_state_dict(plain.state_dict(), strict=False)
    assert (set(missing), unexpected) == (more, [])
    x = torch.rand(2, 3, 21, 30)
    with torch.no_grad():
        assert torch.equal(plain(x), none(x))
        assert 0 < (prompted(x) - plain(x)).abs().max() < 0.01


def test_prompts_follow_the_image():
    net, x = SemanIRUNet(**TINY, prompts=3).eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        net.prompts.weigh.weight.mul_(100)
        for each in net.prompts.prompts:
            each.mul_(50)
        net.conv_last.weight.mul_(100)
        both, seen = net(x), []
        net.prompts.weigh.register_forward_hook(lambda _, args, out: seen.append(out.softmax(-1)))
        alone = torch.cat([net(each[None]) for each in x])
    torch.testing.assert_close(alone, both, rtol=1e-4, atol=1e-4)
    assert (seen[0] - seen[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": [1, 1]}, "one entry per level"),
        ({"depths": [1], "window_sizes": [8]}, "two levels or more"),
        ({"embed_dim": 10}, "not a multiple of head_dim"),
        ({"window_sizes": [8, 6, 4]}, "do not fit into each other: 6 pixels at level 1 are 12 of the image"),
        ({"window_sizes": [8, 8, 0]}, "window_sizes must be a list of whole numbers of at least 1"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a number above 0"),
        ({"shift": "diagonal"}, "shift must be"),
        ({"prompts": -1}, "prompts must be a whole number of at least 0"),
        ({"refinement_depth": -1}, "refinement_depth must be a whole number of at least 0 and at most 1000, got -1"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        SemanIRUNet(**{**TINY, **change})
