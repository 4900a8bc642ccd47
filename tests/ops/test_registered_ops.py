"""Every registered op does as it tells compilers: results of the shapes, strides and dtypes that its fake announces."""

from __future__ import annotations

import importlib
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import semanir_plugin.ops
from semanir_plugin.ops import (
    adaptive_sparse_attention,
    build_key_semantics,
    cosine_qkv,
    key_semantic_attention,
)
from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.gelu import gelu
from semanir_plugin.ops.key_semantic_attention import native_backend
from semanir_plugin.ops.layer_norm import layer_norm
from semanir_plugin.ops.linear import linear

B, SIDE, D, K = 2, 4, 4, 5
N = SIDE * SIDE
HEADS = (1, 2, 6)
BIASES = {"none": None, "table": (2 * SIDE - 1, 2 * SIDE - 1), "dense": (N, N)}
ATTENTION = ("blockwise", "native", "triton")
DICTIONARY = {"blockwise": "threshold"}
ADAPTIVE, COSINE = ("adaptive torch", "adaptive triton"), ("cosine native", "cosine triton")
CASES = [*product((*ATTENTION, *ADAPTIVE), BIASES, HEADS), *product(COSINE, ("none",), HEADS)]


class Recorder(TorchDispatchMode):
    """Record the arguments of this package's ops, backwards included."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "semanir_plugin":
            self.calls.append((op, args))
        return op(*args, **(kwargs or {}))


def heads_of(count):
    """Return q, k and v, (B, H, N, D), as networks have them: heads of a projection of tokens."""
    return [torch.randn(B, N, count, D).transpose(1, 2).requires_grad_() for _ in range(3)]


def bias_of(kind, heads):
    """Return a bias that lies in memory as networks have it: heads last."""
    shape = BIASES[kind]
    return None if shape is None else torch.randn(*shape, heads).movedim(-1, 0).requires_grad_()


def attend(backend, bias, heads):
    semantics = build_key_semantics(torch.randn(B, N, 8), K, backend=DICTIONARY.get(backend, backend))
    return key_semantic_attention(*heads_of(heads), semantics, bias=bias_of(bias, heads), backend=backend)


def run_other(name, bias, heads):
    op, _, backend = name.partition(" ")
    if op == "adaptive":
        weights = torch.rand(2).requires_grad_()
        return adaptive_sparse_attention(*heads_of(heads), weights, bias=bias_of(bias, heads), backend=backend)
    projection = torch.randn(B, N, 3 * heads * D).requires_grad_()
    return torch.stack(cosine_qkv(projection, torch.rand(heads).requires_grad_(), backend=backend))


def record(name, bias, heads):
    reason = native_support.why_not(native_backend.SOURCE, torch.device("cpu"), torch.float32)
    if "native" in name and reason:
        pytest.skip(reason)
    run = attend if name in ATTENTION else run_other
    with Recorder() as recorder:
        out = run(name, bias, heads)
        out.backward(torch.randn_like(out))
    return recorder.calls


def check(calls):
    for op, args in calls:
        detached = tree_map_only(torch.Tensor, torch.Tensor.detach, args)
        torch.library.opcheck(op, detached, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize(("name", "bias", "heads"), CASES)
def test_fakes_announce_what_the_ops_return(name, bias, heads):
    calls = record(name, bias, heads)
    assert len(calls) > 1, "forward and backward"
    check(calls)


@pytest.mark.usefixtures("kernel_device")
def test_no_registered_op_is_left_out():
    for path in Path(semanir_plugin.ops.__file__).parent.glob("*/*.py"):
        importlib.import_module(".".join((semanir_plugin.ops.__name__, path.parent.name, path.stem)))
    checked = {op.name() for name in (*ATTENTION, *ADAPTIVE, *COSINE) for op, _ in record(name, "none", 1)}
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("semanir_plugin::")}
    assert registered - {"semanir_plugin::stand_in"} == checked, "an op needs a call in this file"


@pytest.mark.slow
@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize("backend", ["native", "triton"])
def test_a_training_step_compiled_by_inductor_equals_one_that_is_not(backend):
    torch.compiler.reset()
    heads = 2
    q, k, v = heads_of(heads)
    table, features = bias_of("table", heads), torch.randn(B, N, 8)

    def step(q, k, v, table):
        semantics = build_key_semantics(features, K, backend=backend)
        out = key_semantic_attention(q, k, v, semantics, bias=table.sigmoid(), backend=backend)
        return out.square().mean()

    leaves = (q, k, v, table)
    expected = torch.autograd.grad(step(*leaves), leaves)
    gradients = torch.autograd.grad(torch.compile(step, backend="inductor")(*leaves), leaves)
    for gradient, truth in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, truth, rtol=1e-4, atol=1e-6)


def test_the_first_use_may_be_compiled_for_sizes_that_change(monkeypatch):
    """A path keeps its string once it was asked for it, which a trace that begins again must not meet."""
    for name, module in list(sys.modules.items()):
        if name.startswith("semanir_plugin.ops.") and isinstance(vars(module).get("SOURCE"), Path):
            monkeypatch.setattr(module, "SOURCE", Path(*module.SOURCE.parts))

    def run(x, w):
        semantics = build_key_semantics(x, 7)
        heads = cosine_qkv(torch.cat([x, x, x], -1), torch.ones(2))
        tokens = key_semantic_attention(*heads, semantics).transpose(1, 2).flatten(2)
        return layer_norm(gelu(linear(tokens, w, w[0])), w[0], w[0], residual=x)

    torch.compiler.reset()
    compiled = torch.compile(run, dynamic=True, fullgraph=True, backend="aot_eager")
    w = torch.randn(12, 12)
    for windows in (2, 3):
        x = torch.randn(windows, 16, 12)
        torch.testing.assert_close(compiled(x, w), run(x, w), rtol=1e-4, atol=1e-4)
