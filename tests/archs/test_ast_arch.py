from __future__ import annotations

import copy
import hashlib
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from semanir_plugin.archs import AST
from semanir_plugin.archs.ast_checkpoints import from_authors_layout, is_authors_layout, to_authors_layout
from semanir_plugin.blocks import AdaptiveSparseAttention, AdaptiveSparseLayer, DropPath
from tests.archs.ast_reference import ReferenceAST, WindowAttention

TINY = {"embed_dim": 4, "depths": [2, 1, 1, 2, 2, 2, 1, 1, 2], "num_heads": [1, 1, 1, 1, 4, 4, 2, 2, 1]}
T = {"embed_dim": 16, "depths": [2] * 9}

# Parameters, and names and shapes with the index buffers, of the authors' models.
PUBLISHED = {
    "T_frfn": (6_645_347, "e79090242cd0a40b"),
    "T_leff": (5_046_723, "c4e8991efea5c6f3"),
    "B_frfn": (65_362_455, "7627d4a35fdc45ed"),
    "B_leff": (47_766_871, "9e9b262a45da4524"),
}


def digest(state):
    layout = sorted((key, list(value.shape)) for key, value in state.items())
    return hashlib.sha256(json.dumps(layout).encode()).hexdigest()[:16]


def pair(seed=0, **kwargs):
    """Return the reference, with all weights moved away from where they start, and a network with the same."""
    torch.manual_seed(seed)
    reference, net = ReferenceAST(**kwargs).eval(), AST(**kwargs).eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            parameter += (0.5 if name.endswith("attn.w") else 0.05) * torch.randn_like(parameter)
    net.load_state_dict(reference.state_dict())
    return reference, net


def relative(out, expected):
    return ((out - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_and_layouts_to_the_digit(name):
    size, token_mlp = name.split("_")
    kwargs = {**(T if size == "T" else {}), "token_mlp": token_mlp}
    with torch.device("meta"):
        net, reference = AST(**kwargs), ReferenceAST(**kwargs)
    count, layout = PUBLISHED[name]
    assert sum(p.numel() for p in net.parameters()) == count
    assert digest(reference.state_dict()) == layout
    assert digest(to_authors_layout(net.state_dict())) == layout
    assert net.descriptor.size.multiple_of == 128


@pytest.mark.parametrize("token_mlp", ["frfn", "leff"])
@pytest.mark.parametrize("img_size", [128, 256])
def test_it_computes_what_the_description_says(token_mlp, img_size):
    reference, net = pair(token_mlp=token_mlp, img_size=img_size, **TINY)
    x = torch.rand(1, 3, 128, 128)
    assert reference.conv.blocks[1].shift == (4 if img_size == 256 else 0)
    with torch.no_grad():
        assert relative(net(x) - x, reference(x) - x) < 1e-5


def test_the_published_small_one_computes_what_the_description_says():
    reference, net = pair(**T)
    x = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        assert relative(net(x) - x, reference(x) - x) < 1e-5


@pytest.mark.parametrize("token_mlp", ["frfn", "leff"])
def test_it_learns_what_the_description_does(token_mlp):
    reference, net = pair(token_mlp=token_mlp, **TINY)
    x = torch.rand(2, 3, 128, 128)
    for each in (reference, net):
        (each(x) - x.flip(1)).abs().mean().backward()
    expected = from_authors_layout({name: p.grad for name, p in reference.named_parameters()})
    for name, parameter in net.named_parameters():
        assert relative(parameter.grad, expected[name]) < 1e-4, name


def test_paths_are_dropped_at_the_published_rates():
    reference, net = ReferenceAST(), AST()
    layers = [layer for stage in (*net.encoder, net.bottom, *net.decoder) for layer in stage.layers]
    names = [f"encoderlayer_{i}" for i in range(4)] + ["conv"] + [f"decoderlayer_{i}" for i in range(4)]
    blocks = [block for name in names for block in getattr(reference, name).blocks]
    assert [layer.drop_path.rate for layer in layers] == pytest.approx([block.drop for block in blocks])
    assert (layers[0].drop_path.rate, layers[18].drop_path.rate, layers[19].drop_path.rate) == (0, 0.1, 0.1)


def test_drop_path_keeps_the_mean_and_whole_samples():
    drop, x = DropPath(0.25), torch.ones(4000, 3, 2, 2)
    out = drop(x)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(out, out[:, :1, :1, :1].expand_as(out))
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert drop.eval()(x) is x


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_authors_file_loads_as_any_other(prefix, tmp_path):
    from basicsr.models.base_model import BaseModel

    reference, net = pair(**TINY)
    weights = {prefix + key: value for key, value in reference.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"state": {}}}, tmp_path / "model.pth")
    host = BaseModel({"num_gpu": 0, "is_train": False})
    x = torch.rand(1, 3, 128, 128)
    expected = net(x)
    for load in (
        lambda net: net.load_state_dict(weights),
        lambda net: nn.ModuleDict({"net": net}).load_state_dict({f"net.{key}": v for key, v in weights.items()}),
        lambda net: host.load_network(net, str(tmp_path / "model.pth"), strict=True),
        lambda net: host.load_network(net, str(tmp_path / "model.pth"), strict=False, param_key="state_dict"),
    ):
        other = AST(**TINY).eval()
        load(other)
        assert torch.equal(other(x), expected)


def test_weights_go_back_to_the_authors_layout():
    reference, net = pair(**TINY)
    back = to_authors_layout(net.state_dict())
    assert is_authors_layout(back)
    assert not is_authors_layout(net.state_dict())
    expected = reference.state_dict()
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[key], expected[key]) for key in expected)
    reference.load_state_dict(back)


def test_the_mlp_variant_goes_there_and_back():
    net = AST(**TINY, token_mlp="mlp")
    theirs = to_authors_layout(net.state_dict())
    assert "encoderlayer_0.blocks.0.mlp.fc1.weight" in theirs
    ours = from_authors_layout(theirs)
    assert ours.keys() == net.state_dict().keys()


@pytest.mark.parametrize("change", ["one more", "one less", "another size"])
def test_an_authors_file_that_does_not_fit_is_told(change, tmp_path):
    from basicsr.models.base_model import BaseModel

    from semanir_plugin.errors import UserError

    state = to_authors_layout(AST(**TINY).state_dict())
    if change == "one more":
        state["conv.blocks.2.attn.w"] = torch.ones(2)
    elif change == "one less":
        del state["conv.blocks.1.attn.qkv.to_kv.bias"]
    else:
        state["dowsample_0.conv.0.bias"] = torch.ones(3)
    expected = {
        "one more": r"1 unexpected \(bottom.layers.2.attn.branch_logits\); check",
        "one less": r"1 missing \(bottom.layers.1.attn.qkv.bias\), 1 unexpected \(bottom.layers.1.attn.qkv.to_q.bias\)",
        "another size": r"1 mis-shaped \(downs.0.bias\); check",
    }
    torch.save({"state_dict": state}, tmp_path / "model.pth")
    host = BaseModel({"num_gpu": 0, "is_train": False})
    with pytest.raises(UserError, match=expected[change]):
        host.load_network(AST(**TINY), str(tmp_path / "model.pth"))
    host.load_network(AST(**TINY), str(tmp_path / "model.pth"), strict=False)


@pytest.mark.parametrize("batch", [1, 2])
def test_odd_images_are_padded_per_side_by_reflection(batch):
    net = AST(**TINY).eval()
    seen = []
    net.conv_first.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    x = torch.rand(batch, 3, 37, 133)
    with torch.no_grad():
        out = net(x)
        assert net(torch.rand(1, 3, 37, 53)).shape == (1, 3, 37, 53)
        assert seen == [(batch, 3, 128, 256), (1, 3, 128, 128)]
        torch.testing.assert_close(net(torch.cat([x, x]))[batch:], out)


def test_it_adds_to_its_input_of_as_many_channels():
    for kwargs, channels, expected in (({}, 3, 1), ({"dd_in": 4}, 4, 0)):
        net = AST(**TINY, **kwargs)
        nn.init.zeros_(net.conv_last.weight)
        nn.init.zeros_(net.conv_last.bias)
        x = torch.rand(1, channels, 20, 30)
        assert torch.equal(net(x), expected * x[:, :3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_finite_and_near(dtype):
    net = AST(**TINY)
    x = torch.rand(1, 3, 64, 64)
    net.eval()
    expected = net(x)
    with torch.autocast("cpu", dtype=dtype):
        out = net(x)
    assert (out.float() - expected).abs().max() < 0.05
    out.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_scores_whose_square_overflows_fp16_do_no_harm():
    attn = AdaptiveSparseAttention(8, 2, 1)
    nn.init.zeros_(attn.qkv.bias)
    with torch.no_grad():
        attn.qkv.weight.copy_(torch.cat([30 * torch.eye(8), 30 * torch.eye(8), 1e-4 * torch.eye(8)]))
    x = torch.ones(1, 4, 8)  # scores of 30 * 30 * sqrt(8) = 2546
    with torch.autocast("cpu", dtype=torch.float16):
        q, k, _ = attn.qkv(x).chunk(3, -1)
        scores = q @ k.mT * 8**-0.5
        out = attn(x)
    assert scores.isfinite().all()
    assert (F.relu(scores) ** 2).isinf().any(), "the formula as it stands, in half precision"
    assert out.isfinite().all()
    assert relative(out.float(), attn(x)) < 1e-2


@pytest.mark.parametrize("shift", [0, 4])
def test_attention_is_the_described_one_where_scores_are_large(shift):
    theirs, layer = WindowAttention(8, 8, 2), AdaptiveSparseLayer(8, 8, 2, shift=shift)
    ours = layer.attn
    with torch.no_grad():
        theirs.qkv.to_q.weight.mul_(20)
        theirs.w.copy_(torch.tensor([0.3, -0.4]))
        ours.qkv.weight.copy_(torch.cat([theirs.qkv.to_q.weight, theirs.qkv.to_kv.weight]))
        ours.qkv.bias.copy_(torch.cat([theirs.qkv.to_q.bias, theirs.qkv.to_kv.bias]))
        ours.position_table.copy_(theirs.relative_position_bias_table.T.view(2, 15, 15))
        ours.branch_logits.copy_(theirs.w)
        ours.proj.load_state_dict(theirs.proj.state_dict())
    x = torch.randn(3, 64, 8)
    assert relative(ours(x), theirs(x, None)) < 1e-5


def test_nine_stages_compile_and_copies_have_weights_of_their_own():
    def backend(graph, inputs):
        compiled.append({type(each) for each in inputs})
        return graph.forward

    torch.compiler.reset()  # what other tests compiled counts as another size of the same
    small, compiled = {**TINY, "depths": [1] * 9, "img_size": 32, "win_size": 2}, []
    net, plain = AST(**small, compile_backend=backend).eval(), AST(**small).eval()
    plain.load_state_dict(net.state_dict())
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(x), plain(x))
        assert len(compiled) == 9
        assert not any(torch.SymInt in types or int in types for types in compiled), "each for its own size"
        twin = copy.deepcopy(net)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(twin(x), x)
        assert not torch.equal(net(x), x)


def test_checkpointing_repeats_dropped_paths():
    nets = [AST(**TINY, drop_path_rate=0.5, use_checkpoint=option) for option in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    x, grads = torch.rand(2, 3, 30, 20), []
    for net in nets:
        torch.manual_seed(3)
        net(x).square().mean().backward()
        grads.append([p.grad for p in net.parameters()])
    for one, other in zip(*grads, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_small_patches_have_small_windows():
    net = AST(**TINY, img_size=64)
    assert net.bottom.layers[1].window_size == 4
    assert net.bottom.layers[1].attn.position_table.shape == (4, 7, 7)
    assert [stage.layers[-1].shift for stage in (net.bottom, net.decoder[0], net.decoder[3])] == [
        (0, 0),
        (0, 0),
        (4, 4),
    ]
    assert net.descriptor.size.multiple_of == 64
    assert net.eval()(torch.rand(1, 3, 65, 7)).shape == (1, 3, 65, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": [1, 1]}, "one entry per stage"),
        ({"depths": [1] * 7}, "one entry per stage"),
        ({"depths": [2], "num_heads": [1]}, "one entry per stage"),
        ({"img_size": 100}, "img_size must be a multiple of 16"),
        ({"img_size": 0}, "img_size must be a whole number of at least 1"),
        ({"num_heads": [1] * 4 + [3] * 5}, "not a multiple of the 3 heads"),
        ({"token_mlp": "ffn"}, "unknown feed-forward network .ffn.: it is one of"),
        ({"embed_dim": 2}, "at least 4 channels"),
        ({"win_size": 0}, "win_size must be a whole number of at least 1"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a number above 0"),
        ({"drop_path_rate": 1}, "drop_path_rate must be"),
        ({"drop_path_rate": -0.1}, "drop_path_rate must be"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        AST(**{**TINY, **change})


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_are_refused(channels):
    with pytest.raises(ValueError, match=rf"must be \(B, 3, H, W\) for this network, got \(1, {channels}, "):
        AST(**TINY)(torch.rand(1, channels, 128, 128))


def test_ffn_is_another_name_of_token_mlp():
    tiny = {"img_size": 16, "embed_dim": 4, "depths": [1, 1, 1], "num_heads": [1, 2, 2], "win_size": 4}
    by_either = [AST(**tiny, **{name: "leff"}).state_dict().keys() for name in ("ffn", "token_mlp")]
    assert by_either[0] == by_either[1] != AST(**tiny).state_dict().keys()
    AST(**tiny, ffn="mlp", token_mlp="mlp")
    with pytest.raises(ValueError, match="two names of one option"):
        AST(**tiny, ffn="mlp", token_mlp="frfn")


SHAPES = {
    "number": lambda value: torch.tensor(1.0),
    "row": lambda value: value.flatten()[:5],
    "deeper": lambda value: value[None],
    "wider": lambda value: torch.zeros(*value.shape[:-1], value.shape[-1] + 1),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "key",
    [
        *(
            "conv.blocks.0.attn.relative_position_bias_table",
            "decoderlayer_0.blocks.0.attn.relative_position_bias_table",
        ),
        *("decoderlayer_0.blocks.0.attn.qkv.to_q.weight", "conv.blocks.0.attn.qkv.to_kv.weight"),
        *("input_proj.proj.0.weight", "output_proj.proj.0.weight", "encoderlayer_0.blocks.0.mlp.linear1.0.weight"),
    ],
)
def test_shapes_that_an_authors_file_cannot_have_are_told(key, shape, tmp_path):
    from semanir_plugin import load
    from semanir_plugin.errors import UserError

    state = to_authors_layout(AST(**TINY).state_dict())
    state[key] = SHAPES[shape](state[key])
    torch.save({"state_dict": state}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"model.pth(: an AST of its authors with|: AST refuses| does not fit AST)"):
        load(tmp_path / "model.pth")
