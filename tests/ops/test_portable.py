from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import adaptive_sparse_attention, build_key_semantics, cosine_qkv, key_semantic_attention
from semanir_plugin.ops.adaptive_sparse_attention import choose_backend as choose_sparse
from semanir_plugin.ops.common import position_table
from semanir_plugin.ops.common.portable import only_standard_operators, portable_ops
from semanir_plugin.ops.common.position_table import dense_bias
from semanir_plugin.ops.cosine_qkv import choose_backend as choose_heads
from semanir_plugin.ops.key_semantic_attention import choose_backend as choose_attention
from semanir_plugin.ops.key_semantics import choose_backend as choose_dictionary
from semanir_plugin.ops.linear import choose_backend as choose_linear

X = torch.zeros(2, 3, 16, 4)
CHOICES = {
    "portable": [lambda: choose_dictionary(X[0], 3), lambda: choose_attention(X), lambda: choose_sparse(X)],
    "torch": [
        lambda: choose_linear(X, X[0, 0]),
        lambda: choose_heads(torch.zeros(2, 16, 12), torch.ones(2)),
    ],
}


@pytest.mark.parametrize(("name", "choices"), CHOICES.items())
def test_auto_stands_for_standard_operators_within_the_block_alone(name, choices):
    with portable_ops():
        assert only_standard_operators()
        assert [choose()[0] for choose in choices] == [name] * len(choices)
    assert not only_standard_operators()
    assert choose_attention(X)[0] != "portable"


def test_a_failure_within_the_block_ends_it():
    with pytest.raises(KeyError), portable_ops():
        raise KeyError
    assert not only_standard_operators()


class Attending(torch.nn.Module):
    """All ops in turn, on windows of 4 x 4 tokens."""

    def forward(self, qkv, scale, table, regions):
        q, k, v = cosine_qkv(qkv, scale)
        semantics = build_key_semantics(v.flatten(0, 1), 5, regions=regions)
        out = adaptive_sparse_attention(q, k, v, scale, bias=table, regions=regions)
        folded = (each.flatten(0, 1)[:, None] for each in (q, k, v))
        return out + key_semantic_attention(*folded, semantics, bias=table[:1]).view_as(out)


def test_graphs_have_pytorchs_own_operators_alone():
    arguments = (torch.randn(3, 16, 24), torch.rand(2), torch.randn(2, 7, 7), torch.randint(0, 2, (3, 16)))
    module = Attending()
    with torch.no_grad(), portable_ops():
        program = torch.export.export(module, arguments, strict=False)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert {each.namespace for each in targets if isinstance(each, torch._ops.OpOverload)} == {"aten"}
    torch.testing.assert_close(program.module()(*arguments), module(*arguments))


class Biased(torch.nn.Module):
    """The dense bias of a table, for as many windows as there are."""

    def forward(self, x, table):
        return x + dense_bias(table, 16, x.shape[0])


@pytest.mark.parametrize(("largest", "decided"), [(0, False), (1 << 20, True)])
def test_a_large_bias_is_not_made_before_there_is_an_image(monkeypatch, largest, decided):
    monkeypatch.setattr(position_table, "LARGEST_KEPT", largest)
    arguments = (torch.randn(3, 2, 16, 16), torch.randn(2, 7, 7))
    with portable_ops():
        free = ({0: torch.export.Dim.DYNAMIC}, None)
        program = torch.export.export(Biased(), arguments, dynamic_shapes=free, strict=False)
    lookups = [node for node in program.graph.nodes if "index_select" in str(node.target)]
    image, _ = (node for node in program.graph.nodes if node.op == "placeholder")
    assert [not reads(node.args[2], image) for node in lookups] == [decided] * 2
    torch.testing.assert_close(program.module()(*arguments), Biased()(*arguments))


def reads(node, source):
    return node is source or any(reads(each, source) for each in node.all_input_nodes)


@pytest.mark.parametrize("w", [1, 2, 5])
def test_a_table_looked_up_is_the_same_bias(w):
    table = torch.randn(3, 2 * w - 1, 2 * w - 1)
    expected = dense_bias(table, w * w)
    with portable_ops():
        assert torch.equal(dense_bias(table, w * w), expected)
