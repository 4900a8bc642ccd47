"""What trainings against a discriminator, and by perceptual losses, need repaired."""

from __future__ import annotations

import inspect
import math

import basicsr  # noqa: F401  # repaired on import
import pytest
import torch
import torch.nn.functional as F
from basicsr.archs import build_network, stylegan2_arch
from basicsr.losses import basic_loss, build_loss
from basicsr.models import realesrgan_model
from basicsr.models.hifacegan_model import HiFaceGANModel
from basicsr.models.realesrnet_model import RealESRNetModel
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


def test_models_that_degrade_images_take_pairs_outside_validation():
    model = RealESRNetModel.__new__(RealESRNetModel)
    model.opt, model.is_train, model.device = {}, True, torch.device("cpu")
    model.usm_sharpener = USMSharp(radius=3)
    pair = {"lq": torch.rand(1, 3, 8, 8), "gt": torch.rand(1, 3, 32, 32)}
    with pytest.raises(KeyError, match="gt_usm"):
        inspect.unwrap(RealESRNetModel.feed_data)(model, pair)
    model.feed_data(pair)
    assert torch.equal(model.lq, pair["lq"])
    assert torch.equal(model.gt, pair["gt"])
    assert model.is_train


def test_activation_of_stylegan2_needs_no_extension():
    x, bias = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(3, requires_grad=True)
    with pytest.raises(NameError, match="fused_act_ext"):
        inspect.unwrap(stylegan2_arch.fused_leaky_relu)(x, bias)
    out = stylegan2_arch.FusedLeakyReLU(3)
    with torch.no_grad():
        out.bias.copy_(bias)
    shifted = x + bias[:, None, None]
    torch.testing.assert_close(out(x), torch.where(shifted > 0, shifted, 0.2 * shifted) * 2**0.5)
    penalty = torch.autograd.grad(stylegan2_arch.fused_leaky_relu(x, bias).square().sum(), x, create_graph=True)[0]
    penalty.square().sum().backward()  # as path lengths and R1 are
    assert x.grad.abs().sum() > 0
    rows = torch.randn(4, 3)
    torch.testing.assert_close(
        stylegan2_arch.fused_leaky_relu(rows, bias, 0.1, 1), F.leaky_relu(rows + bias, 0.1), msg="of linear layers"
    )


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_resampling_of_stylegan2_is_a_convolution(up, down):
    x, kernel = torch.randn(2, 3, 6, 7), torch.rand(4, 4)
    spread = torch.zeros(2, 3, 6 * up, 7 * up)
    spread[..., ::up, ::up] = x
    padded = F.pad(spread, (2, 1, 2, 1))
    expected = F.conv2d(padded, kernel.flip(0, 1).expand(3, 1, 4, 4), groups=3)[..., ::down, ::down]
    torch.testing.assert_close(stylegan2_arch.upfirdn2d(x, kernel, up, down, (2, 1)), expected)


@pytest.mark.parametrize("distributed", [False, True])
def test_hifacegan_validates_as_others(distributed):
    class Pairs(torch.utils.data.Dataset):
        opt = {"name": "faces"}

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {"lq": torch.full((3, 8, 8), 0.5), "gt": torch.full((3, 8, 8), 0.4), "lq_path": f"{index}.png"}

    model = HiFaceGANModel.__new__(HiFaceGANModel)
    model.opt = {"dist": distributed, "rank": 0, "network_g": {"type": "HiFaceGAN"}}
    model.opt["val"] = {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}}
    model.net_g, model.device = torch.nn.Identity(), torch.device("cpu")
    model.validation(torch.utils.data.DataLoader(Pairs()), 1, None)
    assert model.metric_results["psnr"] == pytest.approx(-20 * math.log10(26 / 255))
