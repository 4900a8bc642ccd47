"""Test the contract of every architecture at a tiny size, on sizes that its windows do not divide."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from semanir_plugin.archs.staged_network import StagedNetwork
from semanir_plugin.blocks import FactorisedPositionBias
from semanir_plugin.blocks.attention import ATTENTIONS
from semanir_plugin.blocks.feed_forward import FEED_FORWARDS
from semanir_plugin.losses import PSNRLoss
from semanir_plugin.ops.common.portable import portable_ops

TINY = {
    # Without chance: outputs are compared.
    "AST": {
        "img_size": 16,
        "embed_dim": 4,
        "depths": [1, 2, 1],
        "num_heads": [1, 2, 2],
        "win_size": 4,
        "drop_path_rate": 0.0,
    },
    "SemanIR": {"upscale": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "window_size": 8, "topk": 12},
    "SemanIRUNet": {
        "embed_dim": 8,
        "head_dim": 4,
        "depths": [1, 1],
        "refinement_depth": 1,
        "window_sizes": [8, 4],
        "topk": 12,
    },
}


def ours():
    found = {
        name: cls
        for name, cls in ARCH_REGISTRY._obj_map.items()
        if cls.__module__.startswith("semanir_plugin.") and name not in ("Bicubic", "MixedArch")  # others' networks
    }
    assert found.keys() == TINY.keys(), "give every architecture a tiny size here"
    return found


@pytest.fixture(params=sorted(TINY))
def make(request):
    cls = ours()[request.param]
    return lambda **more: cls(**{**TINY[request.param], **more})


@pytest.mark.parametrize("in_chans", [1, 3])
def test_every_parameter_learns(make, in_chans):
    net = make(in_chans=in_chans)
    net(torch.rand(1, in_chans, 19, 33)).square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_sizes_are_kept_for_any_image(make):
    net = make().eval()
    for height, width in ((8, 8), (9, 31), (40, 17)):
        out = net(torch.rand(2, 3, height, width))
        scale = getattr(net, "upscale", 1)
        assert out.shape == (2, 3, scale * height, scale * width)
        assert out.is_contiguous(), "discriminators and losses view it"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attn", ATTENTIONS)
def test_shapes_are_told_on_the_device_meta(make, attn, training):
    for ffn in FEED_FORWARDS:
        net = make(attn=attn, ffn=ffn).train(training)
        expected = net(torch.rand(1, 3, 20, 25)).shape
        with torch.set_grad_enabled(training):
            out = net.to("meta")(torch.rand(1, 3, 20, 25, device="meta"))
        assert (out.shape, out.device.type) == (expected, "meta")
        if training:
            PSNRLoss()(out, torch.empty_like(out)).backward()
            assert all(each.grad.shape == each.shape for each in net.parameters())


def test_factorised_biases_have_shapes_on_the_device_meta():
    net = ours()["SemanIR"](**TINY["SemanIR"], position_bias="factorised").to("meta")
    assert net(torch.rand(1, 3, 20, 25, device="meta")).shape == (1, 3, 40, 50)


@pytest.mark.filterwarnings("ignore")  # torch.jit's, of its age and of what a trace keeps
@pytest.mark.parametrize("context", [nullcontext, portable_ops])
def test_torch_jit_traces_it_for_images_of_a_size(make, context):
    net = make().eval()
    with torch.no_grad(), context():
        traced = torch.jit.trace(net, torch.rand(1, 3, 20, 25), check_trace=False)
    x = torch.rand(1, 3, 20, 25)
    with torch.no_grad():
        torch.testing.assert_close(traced(x), net(x))


def test_checkpointing_and_compiling_change_nothing(make):
    plain, x = make(), torch.rand(1, 3, 20, 25)
    expected = plain(x)
    expected.square().mean().backward()
    for option in ({"use_checkpoint": True}, {"compile_backend": "aot_eager"}):
        net = make(**option)
        assert net.state_dict().keys() == plain.state_dict().keys()
        net.load_state_dict(plain.state_dict())
        out = net(x)
        torch.testing.assert_close(out, expected)
        out.square().mean().backward()
        for (name, ours_), theirs in zip(net.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours_.grad, theirs.grad, msg=f"{option}: {name}")


def test_checkpointing_computes_layers_twice(make):
    for option, runs in ((False, 1), (True, 2)):
        net, seen = make(use_checkpoint=option), []
        layer = next(module for name, module in net.named_modules() if name.endswith("layers.0"))
        layer.mlp.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        net(torch.rand(1, 3, 16, 16)).mean().backward()
        assert len(seen) == runs


@pytest.mark.parametrize(
    "shape", [(1, 1, 20, 25), (3, 20, 25), (1, 4, 20, 25), (2, 20, 25), (1, 1, 3, 20, 25), (20, 25)]
)
def test_images_of_other_dimensions_and_channels_are_refused(make, shape):
    for net in (make(), make().eval()):
        with pytest.raises(ValueError, match=r"^images must be \(B, 3, H, W\) for this network, got \(") as told:
            net(torch.rand(shape))
        assert str(shape) in str(told.value)


def test_state_dict_round_trip(make):
    net, other = make().eval(), make().eval()
    other.load_state_dict(net.state_dict())
    x = torch.rand(1, 3, 12, 20)
    assert torch.equal(net(x), other(x))
    assert not [key for key in net.state_dict() if "mean" in key or "coordinates" in key]


@pytest.mark.parametrize("ffn", FEED_FORWARDS)
@pytest.mark.parametrize("attn", ATTENTIONS)
def test_every_attention_goes_with_every_feed_forward(make, attn, ffn):
    plain, x = make(attn=attn, ffn=ffn, topk=5), torch.rand(2, 3, 19, 33)
    kinds = {type(module) for module in plain.modules()}
    assert {ATTENTIONS[attn], FEED_FORWARDS[ffn]} <= kinds
    assert not kinds & ({*ATTENTIONS.values(), *FEED_FORWARDS.values()} - {ATTENTIONS[attn], FEED_FORWARDS[ffn]})
    assert (plain.descriptor.topk is not None) == (attn == "key_semantic")
    net = make(attn=attn, ffn=ffn, topk=5, use_checkpoint=True)
    net.load_state_dict(plain.state_dict())
    out, again = plain(x), net(x)
    assert torch.equal(out, again)
    for each in (out, again):
        each.square().mean().backward()
    for (name, ours_), theirs in zip(plain.named_parameters(), net.parameters(), strict=True):
        assert ours_.grad.abs().sum() > 0, name
        torch.testing.assert_close(ours_.grad, theirs.grad, msg=name)


# Options that change what all layers do, together where a network has several.
FAR_REACHING = {
    "SemanIR": {"position_bias": "factorised"},
    "SemanIRUNet": {"position_bias": "factorised", "prompts": 3},
}


@pytest.mark.parametrize("name", FAR_REACHING)
def test_options_of_a_whole_network(name):
    make, x = partial(ours()[name], **TINY[name], **FAR_REACHING[name]), torch.rand(2, 3, 19, 33)
    plain = make()
    assert any(isinstance(module, FactorisedPositionBias) for module in plain.modules())
    out = plain(x)
    out.square().mean().backward()
    assert not [name for name, p in plain.named_parameters() if not p.grad.abs().sum() > 0]
    for option in ({"use_checkpoint": True}, {"compile_backend": "aot_eager"}):
        other = make(**option)
        other.load_state_dict(plain.state_dict())
        again = other(x)
        torch.testing.assert_close(again, out)
        again.square().mean().backward()
        for (name, ours_), theirs in zip(other.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours_.grad, theirs.grad, msg=f"{option}: {name}")


def test_prompts_in_bfloat16():
    net, x = ours()["SemanIRUNet"](**TINY["SemanIRUNet"], prompts=3), torch.rand(2, 3, 19, 33)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(x)
    torch.testing.assert_close(rough.float(), net(x), rtol=0, atol=0.02)
    rough.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", FAR_REACHING)
def test_position_biases_of_other_names_are_refused(name):
    with pytest.raises(ValueError, match="position_bias must be one of"):
        ours()[name](**TINY[name], position_bias="dense")


def test_unknown_kinds_are_refused_with_the_known_ones(make):
    for option, known in (("attn", ATTENTIONS), ("ffn", FEED_FORWARDS)):
        with pytest.raises(ValueError, match=f"unknown .* 'dense': it is one of .*{list(known)[-1]}"):
            make(**{option: "dense"})


@pytest.mark.parametrize("attn", ATTENTIONS)
def test_keys_are_those_of_the_stage_and_only_key_semantic_attention_chooses(make, attn):
    net = make(attn=attn, topk=6).eval()
    x = torch.rand(1, 3, 24, 40)
    if attn == "key_semantic":
        assert not torch.equal(net(x), net(x, topk=2))
    else:
        assert torch.equal(net(x), net(x, topk=2))


@pytest.mark.parametrize("name", [name for name, options in TINY.items() if "topk" in options])
def test_topk_is_sampled_in_training_and_largest_in_evaluation(name):
    def make(**more):
        return ours()[name](**{**TINY[name], **more})

    net = make(topk=[2, 5, 9])
    assert isinstance(net, StagedNetwork)
    assert {net.sample_topk(None) for _ in range(50)} == {2, 5, 9}
    assert net.eval().sample_topk(None) == 9
    assert net.sample_topk(7) == 7
    x = torch.rand(1, 3, 16, 24)
    assert torch.equal(net(x), net(x, topk=9))
    assert not torch.equal(net(x), net(x, topk=2))
    for topk in (0, [], [3, -1], 2.5, "4"):
        with pytest.raises(ValueError, match="topk must be"):
            make(topk=topk)
