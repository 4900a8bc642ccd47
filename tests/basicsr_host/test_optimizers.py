"""Muon for matrices, AdamW for the rest."""

from __future__ import annotations

import copy

import pytest
import torch

from semanir_plugin.basicsr_host.optimizers import MuonAdamW, is_matrix, orthogonalize

SHAPES = ((24, 16), (16, 24), (16, 16), (12, 8, 3, 3), (24, 16))


def weights(*shapes, dtype=torch.float32):
    return [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]


def gradient(weight, number, index):
    """Return the gradient of a step, which differs from step to step and from weight to weight."""
    generator = torch.Generator().manual_seed(10 * number + index)
    return torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


def train(optimizer, params, steps=4):
    for number in range(steps):
        for index, weight in enumerate(params):
            weight.grad = gradient(weight, number, index)
        optimizer.step()
    return [weight.detach().clone() for weight in params]


def copies(params):
    return [torch.nn.Parameter(weight.detach().clone()) for weight in params]


def orthogonal_by_svd(matrix):
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ v


@pytest.mark.parametrize("shape", [(3, 16, 24), (2, 24, 16), (1, 20, 20)])
def test_singular_values_become_about_one_and_their_vectors_stay(shape):
    matrices = torch.randn(shape, dtype=torch.float64)
    result = orthogonalize(matrices, 5)
    singular = torch.linalg.svdvals(result)
    assert singular.max() < 1.3
    assert (singular > 0.6).double().mean() > 0.9  # least ones, of square matrices, may need more iterations
    for matrix, each in zip(matrices, result, strict=True):
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        inner = u.mT @ each @ v.mT
        assert torch.allclose(inner, inner.diagonal().diag(), atol=1e-9)
    scaled = orthogonalize(result, 0)
    assert torch.allclose(scaled, result / result.norm(dim=(-2, -1), keepdim=True)), "without iterations only the scale"


def test_zero_gradients_move_nothing():
    (weight,) = weights((16, 16))
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    MuonAdamW([weight]).step()
    assert torch.equal(weight, before)


def test_matrices_are_what_maps_channels_to_channels():
    assert all(is_matrix(torch.empty(shape)) for shape in SHAPES)
    others = ((48,), (), (3, 1, 1), (48, 3, 3, 3), (3, 48, 3, 3), (48, 1, 3, 3), (961, 6), (1, 48, 1, 1))
    assert not any(is_matrix(torch.empty(shape)) for shape in others)


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_no_matrix_goes_as_by_adamw(fused):
    ours = weights((48,), (3, 1, 1), (16, 3, 3, 3), (225, 6))
    theirs = copies(ours)
    options = {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1, "fused": fused}
    after = train(MuonAdamW(ours, **options), ours)
    expected = train(torch.optim.AdamW(theirs, **options), theirs)
    assert all(torch.equal(one, another) for one, another in zip(after, expected, strict=True))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon before 2.9")
def test_matrices_go_as_by_torch_s_muon():
    ours = weights((24, 16), (16, 24), (24, 16))
    theirs = copies(ours)
    options = {"lr": 1e-2, "weight_decay": 0.1, "momentum": 0.9}
    after = train(MuonAdamW(ours, **options), ours)
    expected = train(torch.optim.Muon(theirs, **options, adjust_lr_fn="match_rms_adamw"), theirs)
    for one, another in zip(after, expected, strict=True):
        assert torch.allclose(one, another, atol=2e-3), "theirs counts in bfloat16"


def test_a_step_is_that_of_the_paper():
    """The first two steps by hand, matrix after matrix, in float64; orthogonal ones by singular values."""
    params = weights(*SHAPES, dtype=torch.float64)
    start = [weight.detach() for weight in copies(params)]
    lr, decay, momentum = 1e-2, 0.1, 0.9
    after = train(MuonAdamW(params, lr=lr, weight_decay=decay, momentum=momentum, ns_steps=5), params, steps=2)
    for index, (weight, result) in enumerate(zip(start, after, strict=True)):
        expected, average = weight, torch.zeros_like(weight)
        for number in range(2):
            given = gradient(weight, number, index)
            average = momentum * average + (1 - momentum) * given
            direction = orthogonal_by_svd((momentum * average + (1 - momentum) * given).flatten(1))
            length = 0.2 * max(direction.shape) ** 0.5
            expected = expected * (1 - lr * decay) - lr * length * direction.view_as(weight)
        moved = (result - weight).flatten() @ (expected - weight).flatten()
        assert moved / ((result - weight).norm() * (expected - weight).norm()) > 0.97
        assert (result - weight).norm() == pytest.approx((expected - weight).norm().item(), rel=0.2)


def test_each_step_is_the_same_beside_others_and_alone():
    """Matrices of one shape are taken together; nothing of one may reach another."""
    together = weights(*SHAPES, dtype=torch.float64)
    alone = copies(together)
    after = train(MuonAdamW(together), together)
    optimizers = [MuonAdamW([weight]) for weight in alone]
    for number in range(4):
        for index, (weight, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            weight.grad = gradient(weight, number, index)
            optimizer.step()
    assert all(torch.allclose(one, another, atol=1e-12) for one, another in zip(after, alone, strict=True))


def test_a_saved_state_goes_on_to_the_bit():
    first = weights((24, 16), (24,))
    optimizer = MuonAdamW(first)
    train(optimizer, first)
    second = copies(first)
    resumed = MuonAdamW(second)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    after, expected = train(resumed, second), train(optimizer, first)
    assert all(torch.equal(one, another) for one, another in zip(after, expected, strict=True))


def test_a_closure_is_called_and_weights_without_gradients_are_left():
    trained, left = weights((16, 16), (16, 16))
    before = left.detach().clone()

    def closure():
        loss = trained.square().sum()
        loss.backward()
        return loss.item()

    optimizer = MuonAdamW([trained, left])
    assert optimizer.step(closure) > 0
    assert torch.equal(left, before)
    assert left not in optimizer.state


@pytest.mark.parametrize(
    "options",
    [{"lr": -1}, {"eps": float("nan")}, {"weight_decay": -0.1}, {"betas": (0.9, 1)}, {"momentum": 1.0}],
    ids=str,
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must be at least 0"):
        MuonAdamW(weights((4,)), **options)
