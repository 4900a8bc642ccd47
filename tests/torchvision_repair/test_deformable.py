from __future__ import annotations

import itertools
import math

import pytest
import torch
from basicsr.archs import build_network
from torch.nn import functional as F

from semanir_plugin.torchvision_repair.deformable import deform_conv2d

# batch, channels in and out, groups, offset groups, image, kernel, stride, padding, dilation
CASES = {
    "EDVR": (2, 8, 8, 1, 4, (6, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    "strided": (1, 4, 6, 2, 1, (7, 5), (3, 2), (2, 1), (0, 1), (1, 1)),
    "dilated": (1, 4, 2, 2, 2, (9, 8), (2, 3), (1, 3), (2, 0), (3, 2)),
    "single pixel": (2, 2, 3, 1, 2, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    "more offset groups than groups": (1, 12, 4, 2, 6, (4, 4), (1, 2), (1, 1), (0, 0), (1, 1)),
}


def draw(name, modulated=True, dtype=torch.float64):
    """Arguments by name; offsets reach a few pixels, also out of the image, none is a whole number."""
    batch, channels, out, groups, offset_groups, image, kernel, stride, padding, dilation = CASES[name]
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(image, kernel, stride, padding, dilation, strict=True)
    ]
    taps = offset_groups * math.prod(kernel)
    generator = torch.Generator().manual_seed(len(name))
    input, offset, weight, bias, mask = (
        torch.rand(shape, dtype=dtype, generator=generator) - 0.5
        for shape in (
            (batch, channels, *image),
            (batch, 2 * taps, *size),
            (out, channels // groups, *kernel),
            (out,),
            (batch, taps, *size),
        )
    )
    offset = (8 * offset).floor() + 0.2 + 0.6 * (offset + 0.5)
    shape = {"stride": stride, "padding": padding, "dilation": dilation}
    return dict(input=input, offset=offset, weight=weight, bias=bias, mask=mask if modulated else None, **shape)


def by_definition(input, offset, weight, bias, stride, padding, dilation, mask):
    """Equation 1 of Deformable ConvNets v2, one number after the other."""
    (out, per_group, kh, kw), (batch, channels, height, width) = weight.shape, input.shape
    offset_groups = offset.shape[1] // (2 * kh * kw)

    def pixel(b, c, y, x):
        return input[b, c, y, x].item() if 0 <= y < height and 0 <= x < width else 0.0

    def sample(b, c, y, x):
        top, left = math.floor(y), math.floor(x)
        corners = itertools.product((top, top + 1), (left, left + 1))
        return sum((1 - abs(y - v)) * (1 - abs(x - u)) * pixel(b, c, v, u) for v, u in corners)

    result = torch.zeros(batch, out, *offset.shape[2:], dtype=input.dtype)
    for b, o, i, j in itertools.product(*map(range, result.shape)):
        total = bias[o].item()
        for n, v, u in itertools.product(range(per_group), range(kh), range(kw)):
            c = o // (out // (channels // per_group)) * per_group + n
            tap = c // (channels // offset_groups) * kh * kw + v * kw + u
            y = i * stride[0] - padding[0] + v * dilation[0] + offset[b, 2 * tap, i, j].item()
            x = j * stride[1] - padding[1] + u * dilation[1] + offset[b, 2 * tap + 1, i, j].item()
            factor = 1.0 if mask is None else mask[b, tap, i, j].item()
            total += weight[o, n, v, u].item() * factor * sample(b, c, y, x)
        result[b, o, i, j] = total
    return result


@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_equals_its_definition(name, modulated):
    arguments = draw(name, modulated)
    result = deform_conv2d(**arguments)
    assert result.is_contiguous()
    torch.testing.assert_close(result, by_definition(**arguments), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("whole", [True, False], ids=["whole pixels", "between pixels"])
def test_equals_torchvisions(whole):
    import torchvision  # as BasicSR has imported it

    if torchvision.ops.deform_conv2d is deform_conv2d:
        pytest.skip("torchvision's operator cannot be loaded beside this PyTorch")
    arguments = draw("EDVR")
    arguments["offset"] = arguments["offset"].round() if whole else arguments["offset"]
    leaves = [value.requires_grad_() for value in arguments.values() if isinstance(value, torch.Tensor)]
    results = [convolve(**arguments) for convolve in (deform_conv2d, torchvision.ops.deform_conv2d)]
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    for one, other in zip(*(torch.autograd.grad(each.square().sum(), leaves) for each in results), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_gradients():
    arguments = draw("strided")
    tensors = {name: value.requires_grad_() for name, value in arguments.items() if isinstance(value, torch.Tensor)}

    def convolve(*values):
        return deform_conv2d(**{**arguments, **dict(zip(tensors, values, strict=True))})

    assert torch.autograd.gradcheck(convolve, tuple(tensors.values()))


def test_unmoved_taps_are_those_of_a_convolution():
    """Slopes there are those to the right, as torchvision takes them: the layers of EDVR start with offsets of zero."""
    image, weight = torch.rand(1, 1, 5, 7), torch.ones(1, 1, 1, 1)
    offset = torch.zeros(1, 2, 5, 7, requires_grad=True)
    assert torch.equal(deform_conv2d(image, offset, weight), image)
    deform_conv2d(image, offset, weight).sum().backward()
    slopes = F.pad(image, (0, 0, 0, 1)).diff(dim=2), F.pad(image, (0, 1)).diff(dim=3)
    torch.testing.assert_close(offset.grad, torch.cat(slopes, 1))


def test_half_precision_is_computed_in_float32():
    exact, half = draw("EDVR", dtype=torch.float32), draw("EDVR", dtype=torch.bfloat16)
    exact |= {name: value.float() for name, value in half.items() if isinstance(value, torch.Tensor)}
    result = deform_conv2d(**half)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result, deform_conv2d(**exact).bfloat16())


@pytest.mark.parametrize("name", ["offset", "mask"])
def test_other_shapes_are_refused(name):
    arguments = draw("EDVR")
    arguments[name] = arguments[name][..., 1:]
    with pytest.raises(ValueError, match=rf"{name} of shape \(2, \d+, 6, 8\): .* takes \(2, \d+, 6, 9\)"):
        deform_conv2d(**arguments)


EDVR = {"num_feat": 16, "num_frame": 3, "deformable_groups": 4, "num_extract_block": 1, "num_reconstruct_block": 1}
VIDEO = {"EDVR": EDVR, "BasicVSRPlusPlus": {"mid_channels": 16, "num_blocks": 1}}


@pytest.mark.parametrize("network", VIDEO)
def test_video_network_aligns_by_it(network):
    net = build_network({"type": network, **VIDEO[network]})
    net(torch.rand(1, 3, 3, 64, 64)).mean().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters() if "conv_offset" in name}
    assert gradients
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
