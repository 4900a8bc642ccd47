"""Deformable convolution in plain PyTorch, for where torchvision's compiled operators cannot be loaded."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["deform_conv2d"]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """`torchvision.ops.deform_conv2d` raises "Couldn't load custom C++ ops" where its operators do not fit PyTorch.

    The same by `grid_sample` and a matrix product: Deformable ConvNets (Dai et al., 2017) without `mask`, v2 (Zhu et
    al., 2019) with it. Pixels outside the image are zero; precisions below float32 are computed in float32. With G
    groups of channels that have their own offsets, K = kh * kw taps, and an output of Ho x Wo:

    Args:
        input: (B, C, H, W).
        offset: (B, G * K * 2, Ho, Wo), how far each tap is moved, down and to the right, in pixels.
        weight: (Co, C / groups, kh, kw).
        bias: (Co,).
        stride: Pixels from one place of the kernel to the next; as the next two, one number, or rows and columns.
        padding: Pixels of zeros around the image.
        dilation: Pixels from one tap to the next.
        mask: (B, G * K, Ho, Wo), the factor of each sample.

    Returns:
        (B, Co, Ho, Wo), contiguous, in `input`'s type.

    Raises:
        ValueError: `offset` or `mask` has another shape than that.
    """
    axes = zip(input.shape[2:], weight.shape[2:], _pair(stride), _pair(padding), _pair(dilation), strict=True)
    taps = _tap_positions(*(_places(*axis) for axis in axes))  # (K, 2, Ho, Wo)
    offset_groups = max(1, offset.shape[1] // (2 * len(taps)))
    _check_shape("offset", offset, (len(input), offset_groups * 2 * len(taps), *taps.shape[2:]))
    precise = torch.promote_types(input.dtype, torch.float32)
    moved = offset.to(precise).unflatten(1, (offset_groups, -1, 2)) + taps.to(offset.device)
    samples = _bilinear(input.to(precise), moved)  # (B, G, C / G, K, Ho * Wo)
    if mask is not None:
        _check_shape("mask", mask, (len(input), offset_groups * len(taps), *taps.shape[2:]))
        samples = samples * mask.to(precise).flatten(2).unflatten(1, (offset_groups, 1, -1))
    output = _weighted_sums(samples, weight.to(precise)).view(len(input), -1, *taps.shape[2:])
    if bias is not None:
        output = output + bias.view(-1, 1, 1)
    return output.to(input.dtype)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _places(size: int, taps: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Return where the taps lie on one axis, unmoved, in pixels: (outputs, taps)."""
    starts = torch.arange(-padding, size + padding - dilation * (taps - 1), stride)
    return starts[:, None] + dilation * torch.arange(taps)


def _tap_positions(rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows and columns of all taps: (K, 2, Ho, Wo), of (Ho, kh) and (Wo, kw)."""
    grid = torch.broadcast_tensors(rows.T[:, None, :, None], columns.T[None, :, None, :])
    return torch.stack(grid, 2).flatten(0, 1)


def _check_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tensor.shape != expected:
        raise ValueError(f"{name} of shape {tuple(tensor.shape)}: this convolution takes {expected}")


def _bilinear(image: Tensor, positions: Tensor) -> Tensor:
    """Sample an image between its pixels.

    `grid_sample` takes positions from -1 to 1. On sides of 2^n + 1 pixels that changes none of whole numbers, so that
    unmoved taps lie on their pixels, and slopes there are those to the right, as torchvision's.

    Args:
        image: (B, C, H, W).
        positions: (B, G, K, 2, Ho, Wo), rows and columns in pixels; each group is for C / G channels.

    Returns:
        (B, G, C / G, K, Ho * Wo).
    """
    groups = positions.shape[1]
    height, width = (1 << (side - 1).bit_length() for side in image.shape[2:])
    padded = F.pad(image, (0, width + 1 - image.shape[3], 0, height + 1 - image.shape[2]))
    scales = torch.tensor([2 / width, 2 / height], dtype=image.dtype, device=image.device)
    grid = positions.flatten(4).movedim(3, -1).flip(-1).flatten(0, 1) * scales - 1  # (B * G, K, Ho * Wo, 2)
    grouped = padded.unflatten(1, (groups, -1)).flatten(0, 1)
    out: Tensor = F.grid_sample(grouped, grid, align_corners=True).unflatten(0, (-1, groups))
    return out


def _weighted_sums(samples: Tensor, weight: Tensor) -> Tensor:
    """Return (B, groups, Co / groups, L), of samples (B, G, C / G, K, L) and weights (Co, C / groups, kh, kw)."""
    columns = samples.flatten(1, 3).unflatten(1, (-1, weight[0].numel()))
    out: Tensor = weight.flatten(1).unflatten(0, (columns.shape[1], -1)) @ columns
    return out
