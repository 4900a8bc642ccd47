from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from basicsr.archs import build_network
from torch import nn

from semanir_plugin.blocks import BLOCKS, KeySemanticAttention, SharedSemantics
from semanir_plugin.mixing import MixEntry, load_host_weights, mix
from semanir_plugin.mixing.stand_ins import SequenceSize
from semanir_plugin.ops import build_key_semantics
from tests.mixing.hosts import APPENDED, HOSTS, REPLACED

SWIN_ATTENTION = {"where": "WindowAttention", "what": {"type": "key_semantic", "topk": 5}, "how": "replace"}


def host(name):
    torch.manual_seed(1)
    return build_network(HOSTS[name])


def image(batch=1, height=16, width=24):
    return torch.rand(batch, 3, height, width)


def train(net, iterations=2):
    """Train, and return the names of the parameters with a nonzero gradient at the end."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    x = image(2)
    target = F.interpolate(x, scale_factor=2, mode="bicubic")
    for _ in range(iterations):
        optimizer.zero_grad()
        F.l1_loss(net(x), target).backward()
        optimizer.step()
    return {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


# Every block in every host, as the option file does it


@pytest.mark.parametrize("what", BLOCKS)
@pytest.mark.parametrize("place", REPLACED)
def test_replacing_trains_every_new_parameter_and_loads_again(place, what, tmp_path):
    name, where = REPLACED[place]
    options = {"type": "MixedArch", "base": HOSTS[name], "mix": [{"where": where, "what": what, "how": "replace"}]}
    _train_save_and_load(options, tmp_path)


@pytest.mark.parametrize("what", BLOCKS)
@pytest.mark.parametrize("place", APPENDED)
def test_appending_trains_every_new_parameter_and_loads_again(place, what, tmp_path):
    name, where = APPENDED[place]
    options = {"type": "MixedArch", "base": HOSTS[name], "mix": [{"where": where, "what": what}]}
    torch.manual_seed(1)
    plain, mixed = host(name), build_network(options)
    mixed.load_state_dict(mixed.translate_state(plain.state_dict()))
    x = image()
    with torch.no_grad():
        assert torch.equal(plain.eval()(x), mixed.eval()(x))
    _train_save_and_load(options, tmp_path)


def _train_save_and_load(options, folder):
    net = build_network(options)
    new = {name for name, _ in net.named_parameters() if "mixed" in name}
    assert new
    assert new <= train(net.train())
    torch.save(net.state_dict(), folder / "net.pth")
    again = build_network(options)
    again.load_state_dict(torch.load(folder / "net.pth", weights_only=True))
    x = image(height=20, width=28)
    with torch.no_grad():
        assert torch.equal(net.eval()(x), again.eval()(x))


# What the blocks compute where they are


def test_swinirs_windows_and_masks_become_dictionaries_of_their_regions():
    net = host("SwinIR")
    mix(net, [SWIN_ATTENTION])
    block = net.layers[0].residual_group.blocks[1]
    assert block.shift_size == 2
    seen = []
    block.attn.mixed.register_forward_hook(lambda _, args, __: seen.append(args))
    x = image(2, height=12, width=20)
    net.eval()(x)
    windows, semantics = seen[0]
    # Labels of the regions, as Swin describes them: the last rows and columns came round from the front.
    rows = (torch.arange(12) >= 12 - 2).long()
    columns = (torch.arange(20) >= 20 - 2).long()
    labels = (2 * rows[:, None] + columns).view(3, 4, 5, 4).transpose(1, 2).reshape(15, 16)
    expected = build_key_semantics(windows, 5, regions=labels)
    assert torch.equal(semantics.mask(), expected.mask())


@pytest.mark.parametrize(
    ("share", "built"),
    [(True, 4), ("RSTB", 4), ("layers.*", 4), ("BasicLayer", 4), (False, 4), ("SwinTransformerBlock", 4)],
)
def test_layers_share_dictionaries_by_window_position(monkeypatch, share, built):
    options = {**HOSTS["SwinIR"], "depths": [4, 4]}
    net = build_network(options)
    mixed = mix(net, [{**SWIN_ATTENTION, "share": share}])
    calls = []

    def spy(*args, **kwargs):
        calls.append(1)
        return build_key_semantics(*args, **kwargs)

    monkeypatch.setattr("semanir_plugin.blocks.attention.build_key_semantics", spy)
    alone = share in (False, "SwinTransformerBlock")
    for passes in (1, 2):
        net(image(height=16, width=20))
        assert len(calls) == passes * (8 if alone else built)
    owners = {change.shared_by for change in mixed.changes}
    assert (
        owners
        == {
            True: {"layers.0", "layers.1"},
            "RSTB": {"layers.0", "layers.1"},
            "layers.*": {"layers.0", "layers.1"},
            "BasicLayer": {"layers.0.residual_group", "layers.1.residual_group"},
            False: {None},
            "SwinTransformerBlock": {change.place.rpartition(".")[0] for change in mixed.changes},
        }[share]
    )


def test_shared_dictionaries_are_those_of_the_first_layer():
    net = host("SwinIR")
    mix(net, [SWIN_ATTENTION])
    seen = []
    for module in net.modules():
        if isinstance(module, KeySemanticAttention):
            module.register_forward_hook(lambda _, args, __: seen.append(args))
    net.eval()(image(height=16, width=20))
    first = build_key_semantics(seen[0][0], 5)
    assert torch.equal(seen[0][1].mask(), first.mask())
    assert not torch.equal(seen[0][1].mask(), seen[2][1].mask())


def test_sequences_are_given_to_blocks_as_maps():
    net = host("SwinIR").eval()
    mix(net, [{"where": "**.mlp", "what": "frfn", "how": "replace"}])
    mlp = net.layers[0].residual_group.blocks[0].mlp
    seen = []
    mlp.mixed.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    around = []
    mlp.register_forward_hook(lambda _, args, out: around.append((args[0], out)))
    net(image(2, height=12, width=20))
    assert seen[0][0].shape == (2, 12, 20, 12)
    assert torch.equal(seen[0][0].flatten(1, 2), around[0][0])
    assert torch.equal(seen[0][1].flatten(1, 2), around[0][1])


def test_height_and_width_are_those_whose_product_is_the_number_of_tokens():
    size = SequenceSize()
    size(nn.Identity(), (torch.zeros(1), (3, 4), "ab"), {"window": (2, 2), "x_size": torch.Size([2, 5])})
    assert [size.of(tokens) for tokens in (12, 4, 10)] == [(3, 4), (2, 2), (2, 5)]
    with pytest.raises(RuntimeError, match="height and width of 11 tokens"):
        size.of(11)


def test_a_replaced_convolutional_module_becomes_a_residual_unless_told_otherwise():
    for residual in (None, False):
        net = host("EDSR").eval()
        mix(net, [{"where": "body.0", "what": "leff", "how": "replace", "residual": residual}])
        seen = []
        net.body[0].register_forward_hook(lambda _, args, out, seen=seen: seen.append((args[0], out)))
        net(image())
        x, out = seen[0]
        tokens = x.permute(0, 2, 3, 1)
        block = net.body[0].mixed
        expected = block(tokens) if residual is False else tokens + block.block(F.layer_norm(tokens, (8,)))
        torch.testing.assert_close(out, expected.permute(0, 3, 1, 2))
        assert out.stride() == x.stride()


@pytest.mark.parametrize("where", ["body", "body.1"])
def test_appended_blocks_come_behind_what_the_module_returns(where):
    net = host("EDSR").eval()
    changes = mix(net, [{"where": where, "what": "frfn"}]).changes
    module = net.get_submodule(where)
    block = net.get_submodule(changes[0].block)
    with torch.no_grad():
        block.scale.fill_(0.5)
    seen = []
    block.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    module.register_forward_hook(lambda _, args, out: seen.append(out))
    inner = []
    net.body[1].conv2.register_forward_hook(lambda _, args, out: inner.append(out))
    net(image())
    (given, returned), last = seen
    assert given.shape == (1, 16, 24, 8)
    assert not torch.equal(given, returned)
    assert torch.equal(last, returned.permute(0, 3, 1, 2))
    assert len(inner) == 1


def test_networks_of_others_take_blocks():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 6, 3, padding=1)
            self.tokens = nn.Identity()
            self.last = nn.Conv2d(6, 1, 3, padding=1)

        def forward(self, x):
            x = self.first(x).permute(0, 2, 3, 1)
            return self.last(self.tokens(x).permute(0, 3, 1, 2))

    net, x = Net().eval(), torch.rand(2, 1, 13, 17)
    before = net(x)
    mix(net, [{"where": "tokens", "what": {"type": "window", "num_heads": 3, "window_size": 5}}])
    assert torch.equal(net(x), before)
    mix(net, [{"where": "tokens", "what": "frfn", "how": "replace"}])
    assert net(x).shape == before.shape


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("body", {"body"}),
        ("body.*", {"body.0", "body.1"}),
        ("body.**", {"body.0", "body.1", *(f"body.{i}.{part}" for i in "01" for part in ("conv1", "conv2", "relu"))}),
        ("**.conv?", {f"body.{i}.conv{j}" for i in "01" for j in "12"}),
        ("body.?.conv1", {"body.0.conv1", "body.1.conv1"}),
        ("**.body.1", {"body.1"}),
        ("ReLU", {"body.0.relu", "body.1.relu"}),
    ],
)
def test_patterns_are_of_whole_parts_of_names(pattern, names):
    changes = mix(host("EDSR"), [{"where": pattern, "what": "mlp"}]).changes
    assert {change.place for change in changes} == names


# Copies, devices, modes


def test_a_copy_leaves_the_network_as_it_was_and_shares_nothing_with_it():
    net = host("SwinIR")
    names = list(net.state_dict())
    mixed = mix(net, [SWIN_ATTENTION], on_copy=True)
    assert list(net.state_dict()) == names
    assert mixed.network is not net
    twin = copy.deepcopy(mixed.network)
    holders = [
        {id(m.shared) for m in each.modules() if isinstance(getattr(m, "shared", None), SharedSemantics)}
        for each in (mixed.network, twin, pickle.loads(pickle.dumps(twin)))
    ]
    assert [len(each) for each in holders] == [2, 2, 2]
    assert not holders[0] & holders[1]
    x = image()
    assert torch.equal(mixed.network.eval()(x), twin.eval()(x))


def test_the_network_given_is_left_in_its_mode_and_random_state():
    net = host("EDSR").train()
    net.body[0].eval()
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="nothing matches"):
        mix(net, [{"where": "nowhere", "what": "frfn"}])
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert not net.body[0].training
    mix(net, [{"where": "body.*", "what": "frfn"}])
    assert not net.body[0].mixed_frfn.training
    assert net.body[1].mixed_frfn.training
    assert not [m for m in net.modules() if m._forward_hooks and not hasattr(m, "mixed_frfn")]


def test_blocks_follow_the_hosts_precision():
    net = host("EDSR").double()
    mix(net, [{"where": "body.0", "what": "frfn"}])
    assert net(image().double()).dtype == torch.float64


def test_autocast_keeps_the_hosts_dtype_between_its_modules():
    net = host("EDSR").eval()
    mix(net, [{"where": "body.0", "what": "assa"}])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(net(image())).all()


# Weights


@pytest.mark.parametrize("before", [True, False])
def test_weights_of_the_host_load_before_and_after(before):
    source, net = host("SwinIR"), build_network(HOSTS["SwinIR"])
    entries = [SWIN_ATTENTION, {"where": "RSTB", "what": "leff"}]
    if before:
        net.load_state_dict(source.state_dict())
        mix(net, entries)
    else:
        mix(net, entries)
        account = load_host_weights(net, source.state_dict())
        own, theirs = net.state_dict().keys(), source.state_dict().keys()
        assert set(account.taken) == own & theirs
        assert set(account.new) == own - theirs
        assert set(account.left_out) == theirs - own
        assert all(".attn." in name for name in account.left_out)
        assert str(account).startswith(f"{len(account.taken)} weights of the host taken, {len(account.new)} of mixed")
    state = net.state_dict()
    for name in source.state_dict().keys() & state.keys():
        assert torch.equal(state[name], source.state_dict()[name])


def test_weights_of_another_host_are_refused():
    net = host("EDSR")
    mix(net, [{"where": "body.0", "what": "frfn"}])
    state = host("EDSR").state_dict()
    state["conv_zero.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match="conv_zero"):
        load_host_weights(net, state)


# What is wrong is told in one line, with what would be right


# One mistake per line, however long it gets.
# ruff: noqa: E501
@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("EDSR", {"where": "boddy.*", "what": "frfn"}, r"nothing matches 'boddy.*'; .*classes: .*ResidualBlockNoBN.*; names: "),
        ("SwinIR", {"where": "*.attn", "what": "frfn"}, r"nothing matches '\*.attn'; did you mean '\*\*.attn'"),
        ("EDSR", {"where": "upsample", "what": "frfn"}, r"cannot go to 'upsample' \(Upsample\), which maps .* to .*places that do: body"),
        ("EDSR", {"where": "body.0", "what": "frnf"}, "unknown block 'frnf'; did you mean 'frfn'"),
        ("EDSR", {"where": "body.0", "what": {"type": "assa", "heads": 2}}, "unknown option of assa 'heads'; did you mean 'num_heads'"),
        ("EDSR", {"where": "body.0", "what": {"type": "assa", "num_heads": 3}}, r"\(8 channels\).*not a multiple of the 3 heads.*fit: 1, 2, 4, 8"),
        ("EDSR", {"where": "body.0", "what": {"type": "assa", "num_heads": "3"}}, "num_heads must be a whole number of at least 1"),
        ("EDSR", {"where": "body.0", "what": {"type": "key_semantic", "topk": 0}}, "topk must be a whole number of at least 1"),
        ("EDSR", {"where": "body.0", "what": {"type": "window", "shift": 9}}, "shift must be at least 0 and below window_size"),
        ("EDSR", {"where": "body.0"}, "missing what"),
        ("EDSR", {"what": "frfn"}, "missing where"),
        ("EDSR", {"where": "body.0", "what": "frfn", "hwo": "append"}, "unknown key 'hwo'; did you mean 'how'"),
        ("EDSR", {"where": "body.0", "what": "frfn", "how": "prepend"}, "how must be 'replace' or 'append'"),
        ("EDSR", {"where": "body.0", "what": 3}, "what must be a kind of block"),
        ("EDSR", {"where": 3, "what": "frfn"}, "where must be a string"),
        ("EDSR", "body.0", "an entry has where, what and how"),
        ("EDSR", {"where": "body.0", "what": "key_semantic", "share": "RSTB"}, "no module around 'body.0' matches share 'RSTB'; around are: body"),
        ("SwinIR", {"where": "**.attn", "what": "assa"}, "cannot be appended to .* use how: replace"),
        ("SwinIR", {"where": "**.attn", "what": {"type": "assa", "window_size": 4}, "how": "replace"}, "window_size of assa .* is the network's own"),
        ("SwinIR", {"where": "norm", "what": "frfn"}, r"no module around is given the height and width of its \d+ tokens; mlp"),
        ("SwinIR", {"where": "**.qkv", "what": "mlp"}, "places that do: "),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(name, entry, message):
    net = host(name)
    names = list(net.state_dict())
    with pytest.raises(ValueError, match=rf"^mix\[0\]: .*{message}") as error:
        mix(net, [entry])
    assert "\n" not in str(error.value)
    assert list(net.state_dict()) == names


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "needs one entry"),
        ([("body.0", "frfn", "replace"), ("body.*", "leff", "replace")], r"mix\[1\]: 'body.0' is replaced already, by mix\[0\]"),
        ([("body.0", "frfn", "append"), ("body.0", "frfn", "append")], r"mix\[1\]: 'body.0' has frfn appended already"),
        ([("body.0", "frfn", "append"), ("body.0", "leff", "replace")], r"mix\[0\]: 'body.0' goes with 'body.0', which mix\[1\] replaces"),
        ([("body", "frfn", "replace"), ("body.0", "leff", "append")], r"mix\[1\]: 'body.0' goes with 'body', which mix\[0\] replaces"),
    ],
)  # fmt: skip
def test_entries_that_undo_one_another_are_refused(entries, message):
    with pytest.raises(ValueError, match=message):
        mix(host("EDSR"), [MixEntry(where=where, what=what, how=how) for where, what, how in entries])


def test_the_same_block_is_appended_once_also_by_two_calls():
    net = host("EDSR")
    mix(net, [{"where": "body.0", "what": "frfn"}])
    with pytest.raises(ValueError, match="appended already"):
        mix(net, [{"where": "body.0", "what": "frfn"}])


def test_a_sequence_with_a_forward_of_its_own_takes_nothing_behind_it():
    class Twice(nn.Sequential):
        def forward(self, x):
            return super().forward(super().forward(x))

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Twice(nn.Conv2d(4, 4, 1)))
    with pytest.raises(ValueError, match=r"'1' \(Twice\), a sequence with a forward of its own"):
        mix(net, [{"where": "1", "what": "frfn"}])
    assert mix(net, [{"where": "1.0", "what": "frfn"}]).changes[0].block == "1.0.mixed_frfn"


def test_two_blocks_may_follow_one_module():
    net = host("EDSR")
    changes = mix(net, [{"where": "body.0", "what": "frfn"}, {"where": "body.0", "what": "assa"}]).changes
    assert [change.block for change in changes] == ["body.0.mixed_frfn", "body.0.mixed_assa"]
    assert {name for name in train(net) if "mixed" in name} == {n for n, _ in net.named_parameters() if "mixed" in n}


def test_a_network_that_does_not_run_asks_for_an_example():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            if x.shape[-2:] != (10, 14):
                raise RuntimeError("10 x 14 only")
            return self.conv(x)

    entry = {"where": "conv", "what": "mlp"}
    with pytest.raises(ValueError, match=r"Fixed did not run .* give example: .*2 x 32 x 48: .*10 x 14 only"):
        mix(Fixed(), [entry])
    assert mix(Fixed(), [entry], example=[2, 10, 14]).changes[0].block == "conv.mixed_mlp"
    with pytest.raises(ValueError, match="another width"):
        mix(Fixed(), [entry], example=[2, 10, 10])


def test_changes_say_what_was_done():
    net = host("SwinIR")
    before = sum(p.numel() for p in net.parameters())
    changes = mix(net, [SWIN_ATTENTION, {"where": "RSTB", "what": "frfn"}]).changes
    after = sum(p.numel() for p in net.parameters())
    assert after - before == sum(change.parameters - change.removed for change in changes)
    for change in changes:
        assert sum(p.numel() for p in net.get_submodule(change.block).parameters()) == change.parameters
    assert str(changes[0]).startswith(
        "key_semantic instead of layers.0.residual_group.blocks.0.attn (WindowAttention): "
    )
    assert str(changes[0]).endswith("dictionaries shared in layers.0")
    assert str(changes[-1]).startswith("frfn behind layers.1 (RSTB): +")
