"""Ops and networks under torch.func and forward-mode derivatives, which know nothing of registered ops."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap

from semanir_plugin.archs.ast_arch import AST
from semanir_plugin.archs.semanir_arch import SemanIR
from semanir_plugin.archs.semanir_unet_arch import SemanIRUNet
from semanir_plugin.blocks import row_chunking
from semanir_plugin.ops import adaptive_sparse_attention, build_key_semantics, cosine_qkv, key_semantic_attention

BATCH, HEADS, TOKENS, WIDTH = 2, 2, 16, 4


DRAWN = torch.Generator().manual_seed(1)
KEYS, VALUES = torch.randn(2, BATCH, HEADS, TOKENS, WIDTH, generator=DRAWN)
TABLE, BIAS = torch.randn(HEADS, 7, 7, generator=DRAWN), torch.randn(HEADS, TOKENS, TOKENS, generator=DRAWN)


def attend(q, backend="auto"):
    semantics = build_key_semantics(VALUES[:, 0] + 0 * q[:, 0], 5)
    return key_semantic_attention(q, KEYS, VALUES * q, semantics, bias=TABLE * q[0, 0, 0, 0], backend=backend)


def attend_sparsely(q, backend="auto"):
    return adaptive_sparse_attention(q, KEYS, VALUES, q[0, 0, 0, :2], bias=BIAS, backend=backend)


def split(q, backend="auto"):
    qkv = torch.cat([q, 2 * q, q**2], -1).transpose(1, 2).flatten(2)
    return torch.cat(cosine_qkv(qkv, q[0, :, 0, 0].abs() + 1, backend=backend))


OPS = [(attend, ("blockwise", "native")), (attend_sparsely, ("torch",)), (split, ("native",))]


def forward_mode(function, x, direction):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, direction))).tangent


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(BATCH, HEADS, TOKENS, WIDTH)


@pytest.mark.parametrize("op", [op for op, _ in OPS])
def test_derivatives_by_transforms_are_those_of_backward(op, x):
    def loss(x, backend="auto"):
        return op(x, backend).square().sum()

    own, direction = x.clone().requires_grad_(), torch.randn_like(x)
    (expected,) = torch.autograd.grad(loss(own, "naive"), own, create_graph=True)
    (second,) = torch.autograd.grad(expected, own, direction)
    torch.testing.assert_close(grad(loss)(x), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(vmap(grad(loss))(torch.stack([x, x]))[1], expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(jvp(loss, (x,), (direction,))[1], (expected * direction).sum())
    torch.testing.assert_close(forward_mode(loss, x, direction), (expected * direction).sum())
    torch.testing.assert_close(jvp(grad(loss), (x,), (direction,))[1], second, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("op", "backend"), [(op, backend) for op, backends in OPS for backend in backends])
def test_backends_of_registered_ops_are_refused(op, backend, x):
    for differentiate in (lambda f: grad(f)(x), lambda f: jvp(f, (x,), (x,)), lambda f: forward_mode(f, x, x)):
        with pytest.raises(ValueError, match=rf"{backend}.*cannot run here: torch\.func"):
            differentiate(lambda x: op(x, backend).sum())
    assert torch.equal(vmap(lambda x: op(x, backend))(x[None])[0], op(x, backend))


NETWORKS = {
    "SemanIR": lambda: SemanIR(upscale=2, embed_dim=8, depths=[2], num_heads=[2], window_size=8, topk=16),
    "SemanIRUNet": lambda: SemanIRUNet(
        embed_dim=8, depths=[1, 1], refinement_depth=1, head_dim=4, window_sizes=[8, 4], topk=8
    ),
    "AST": lambda: AST(img_size=16, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 2, 1], win_size=8, token_mlp="frfn"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_gradients_per_sample_and_forward_ones(name, monkeypatch):
    monkeypatch.setattr(row_chunking, "CHUNK_ELEMENTS", 1 << 10)
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    images, direction = torch.rand(2, 2, 3, 16, 16)

    def loss(parameters, image):
        return functional_call(network, parameters, (image[None],)).square().sum()

    parameters = dict(network.named_parameters())
    per_sample = vmap(grad(loss), in_dims=(None, 0))({key: p.detach() for key, p in parameters.items()}, images)
    for index, image in enumerate(images):
        expected = torch.autograd.grad(loss(parameters, image), parameters.values(), allow_unused=True)
        for key, value in zip(parameters, expected, strict=True):
            if value is not None:
                torch.testing.assert_close(per_sample[key][index], value, rtol=1e-3, atol=1e-3, msg=key)
    frozen = network.requires_grad_(False)
    own = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(frozen(own).square().sum(), own)
    tangent = forward_mode(lambda x: frozen(x).square().sum(), images, direction)
    torch.testing.assert_close(tangent, (gradient * direction).sum(), rtol=1e-3, atol=1e-3)
