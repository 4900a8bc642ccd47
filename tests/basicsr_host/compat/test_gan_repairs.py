"""What trainings against a discriminator, and by perceptual losses, need repaired."""

from __future__ import annotations

import inspect

import basicsr  # noqa: F401  # repaired on import
import pytest
import torch
import torch.nn.functional as F
from basicsr.archs import build_network
from basicsr.losses import basic_loss, build_loss
from basicsr.models import realesrgan_model
from basicsr.utils.img_process_util import USMSharp, filter2D

PERCEPTUAL = {"type": "PerceptualLoss", "layer_weights": {"conv1_1": 0.5}, "perceptual_weight": 2.0}


@pytest.fixture
def small_vgg(monkeypatch):
    """Stands in for VGG, of which no weights are at hand: one convolution."""

    class Features(torch.nn.Module):
        def __init__(self, layer_name_list, **_):
            super().__init__()
            self.names = layer_name_list
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return {name: self.conv(x) for name in self.names}

    monkeypatch.setattr(basic_loss, "VGGFeatureExtractor", Features)


@pytest.mark.usefixtures("small_vgg")
def test_perceptual_loss_knows_squared_differences():
    with pytest.raises(AttributeError, match="L2loss"):
        inspect.unwrap(basic_loss.PerceptualLoss.__init__)(
            basic_loss.PerceptualLoss.__new__(basic_loss.PerceptualLoss), {"conv1_1": 1}, criterion="l2"
        )
    x, gt = torch.rand(2, 2, 3, 8, 8)
    for criterion, measure in (("l1", F.l1_loss), ("l2", F.mse_loss)):
        loss = build_loss({**PERCEPTUAL, "criterion": criterion})
        assert loss.criterion_type == criterion
        torch.testing.assert_close(loss(x, gt)[0], measure(loss.vgg.conv(x), loss.vgg.conv(gt)))
    with pytest.raises(NotImplementedError, match="l3"):
        build_loss({**PERCEPTUAL, "criterion": "l3"})
    assert "criterion" in inspect.signature(basic_loss.PerceptualLoss).parameters, "option files are checked by it"


def channels_last(*shape):
    return torch.rand(shape).contiguous(memory_format=torch.channels_last)


def test_discriminators_take_images_of_any_strides():
    discriminator = build_network({"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 2}).eval()
    image = channels_last(2, 3, 128, 128)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        inspect.unwrap(type(discriminator).forward)(discriminator, image)
    assert torch.equal(discriminator(image), discriminator(image.contiguous()))
    other = build_network({"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}).eval()
    assert other(image).shape == (2, 1, 128, 128)


@pytest.mark.parametrize("kernels", [1, 2])
def test_filters_take_images_of_any_strides(kernels):
    image, kernel = channels_last(2, 3, 9, 14), torch.rand(kernels, 3, 3)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        inspect.unwrap(filter2D)(image, kernel)
    assert torch.equal(filter2D(image, kernel), filter2D(image.contiguous(), kernel))
    assert realesrgan_model.filter2D is filter2D, "models have it by name"
    sharpen = USMSharp(radius=3)
    assert torch.equal(sharpen(image), sharpen(image.contiguous()))
