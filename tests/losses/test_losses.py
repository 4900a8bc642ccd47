from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from basicsr.losses import build_loss
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.metrics.psnr_ssim import calculate_ssim_pt
from basicsr.utils import tensor2img

from semanir_plugin.losses import FFTLoss, PSNRLoss, SSIMLoss
from semanir_plugin.losses.image_loss import ImageLoss

ALL = (FFTLoss, PSNRLoss, SSIMLoss)


def images(*shape, dtype=torch.float32):
    """A target and what is near to it, in [0, 1]."""
    target = torch.rand(shape, dtype=dtype)
    return (0.8 * target + 0.2 * torch.rand(shape, dtype=dtype)).requires_grad_(), target


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_weight_and_reduction(kind, reduction):
    pred, target = images(3, 2, 14, 17)
    values = kind(reduction="none")(pred, target)
    expected = {"none": values, "mean": values.mean(), "sum": values.sum()}[reduction]
    options = {"type": kind.__name__, "loss_weight": 0.3, "reduction": reduction}
    torch.testing.assert_close(build_loss(options)(pred, target), 0.3 * expected)


@pytest.mark.parametrize(
    ("kind", "shape"), [(FFTLoss, (3, 2, 14, 9, 2)), (PSNRLoss, (3,)), (SSIMLoss, (3, 2, 4, 7))], ids=str
)
def test_shapes_of_the_values(kind, shape):
    assert kind(reduction="none")(*images(3, 2, 14, 17)).shape == shape


@pytest.mark.parametrize("kind", ALL)
def test_gradients(kind):
    pred, target = images(2, 1, 12, 13, dtype=torch.float64)
    assert torch.autograd.gradcheck(kind(), (pred, target))


@pytest.mark.parametrize("kind", ALL)
def test_equal_images_are_the_minimum(kind):
    pred, target = images(2, 3, 12, 13)
    least = kind()(target, target)
    assert least == pytest.approx({FFTLoss: 0, PSNRLoss: -80, SSIMLoss: 0}[kind], abs=1e-4)
    assert least < kind()(pred, target)
    flat = torch.zeros(1, 3, 12, 12, requires_grad=True)
    kind()(flat, torch.zeros(1, 3, 12, 12)).backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("kind", ALL)
def test_autocast_and_half_precision_lose_nothing(kind):
    pred, target = images(2, 3, 24, 25)
    plain = kind()(pred, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(kind()(pred, target), plain, rtol=0, atol=0)
    half = pred.detach().to(torch.bfloat16), target.to(torch.bfloat16)
    loss = kind()(*half)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, kind()(half[0].float(), half[1].float()), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ALL)
def test_shapes_must_agree(kind):
    with pytest.raises(ValueError, match=r"pred \(1, 3, 12, 12\) and target \(1, 1, 12, 12\) differ in shape"):
        kind()(torch.zeros(1, 3, 12, 12), torch.zeros(1, 1, 12, 12))


@pytest.mark.parametrize("kind", ALL)
def test_reductions_are_three(kind):
    with pytest.raises(ValueError, match="reduction must be one of none, mean, sum, not 'max'"):
        kind(reduction="max")


@pytest.mark.parametrize("kind", ALL)
def test_losses_have_no_state(kind):
    assert kind().state_dict() == {}
    assert issubclass(kind, ImageLoss)


def test_fft_is_the_l1_of_both_transforms():
    pred, target = images(2, 3, 12, 9)
    first, second = np.fft.rfft2(pred.detach().double().numpy()), np.fft.rfft2(target.double().numpy())
    expected = (np.abs(first.real - second.real).mean() + np.abs(first.imag - second.imag).mean()) / 2
    assert FFTLoss()(pred, target).item() == pytest.approx(expected, rel=1e-5)
    assert FFTLoss(norm="ortho")(pred, target).item() == pytest.approx(expected / math.sqrt(12 * 9), rel=1e-5)


def test_psnr_is_that_of_the_metric():
    pred, target = (tensor.detach() for tensor in images(1, 3, 20, 21))
    pred, target = ((255 * tensor).round() / 255 for tensor in (pred, target))
    bgr = [tensor2img([tensor]) for tensor in (pred, target)]
    assert PSNRLoss()(pred, target).item() == pytest.approx(-calculate_psnr(*bgr, 0), abs=1e-3)
    in_y = -calculate_psnr(*bgr, 0, test_y_channel=True)
    assert PSNRLoss(toY=True)(pred, target).item() == pytest.approx(in_y, abs=1e-3)
    assert abs(in_y + calculate_psnr(*bgr, 0)) > 0.5


def test_psnr_is_averaged_over_images():
    pred, target = images(2, 3, 8, 8)
    each = [PSNRLoss()(pred[i : i + 1], target[i : i + 1]).item() for i in range(2)]
    assert PSNRLoss()(pred, target).item() == pytest.approx(sum(each) / 2, abs=1e-4)


def test_y_of_gray_images_is_refused():
    with pytest.raises(ValueError, match="toY needs images of 3 channels, not 1"):
        PSNRLoss(toY=True)(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("brightness", [1, 0.1])
def test_ssim_is_that_of_the_metrics(photos, brightness):
    target = (brightness * cv2.imread(str(photos["coffee.png"]))[:61, :86]).astype(np.uint8)
    pred = cv2.GaussianBlur(target, (5, 5), 1)
    tensors = [torch.from_numpy(image.transpose(2, 0, 1)[None] / 255.0) for image in (pred, target)]
    assert SSIMLoss()(*tensors).item() == pytest.approx(1 - calculate_ssim(pred, target, 0), abs=1e-6)
    assert SSIMLoss()(*tensors).item() == pytest.approx(1 - calculate_ssim_pt(*tensors, 0).item(), abs=1e-6)


def test_ssim_in_single_precision_is_close_to_double():
    pred, target = images(1, 3, 40, 40, dtype=torch.float64)
    assert SSIMLoss()(pred.float(), target.float()).item() == pytest.approx(SSIMLoss()(pred, target).item(), abs=1e-5)


@pytest.mark.parametrize("size", [(10, 30), (30, 10)])
def test_ssim_needs_a_window(size):
    with pytest.raises(ValueError, match=r"SSIM needs images of at least 11 x 11, not \(\d+, \d+\)"):
        SSIMLoss()(torch.zeros(1, 3, *size), torch.zeros(1, 3, *size))
    assert SSIMLoss()(torch.zeros(1, 3, 11, 11), torch.zeros(1, 3, 11, 11)) == pytest.approx(0, abs=1e-6)
