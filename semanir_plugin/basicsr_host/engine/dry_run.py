"""Dry run: one small pass of everything that the first iteration or image needs, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.models.video_base_model import VideoBaseModel
from basicsr.models.video_recurrent_model import VideoRecurrentModel

from semanir_plugin.basicsr_host.scoring import Scorer
from semanir_plugin.errors import UserError, one_line

__all__ = ["dry_run", "dry_run_patch"]

CROP = 64
"""Side of the LQ crop that is restored."""
FRAMES = 7
"""Frames of a clip that are restored by networks for any number: with fewer some cannot pad."""
LARGEST_SCORED = 512
"""Side of the largest image that metrics are tried on; none needs a larger one."""

_HOST_LOSSES = {"pixel_opt": "cri_pix", "perceptual_opt": "cri_perceptual"}

_CHANNEL_CURES = {  # by what the dataset gives
    1: "set num_channels: 3 or remove color: y in the dataset, or make network_g a gray one",
    3: "set num_channels: 1 or color: y in the dataset, or make network_g a colour one",
}


def dry_run(model: Any, sample: Mapping[str, Any], *, scored: bool = True) -> None:
    """Restore a crop of a sample, compare sizes, and try the metrics or, of data to train on, the loss.

    Models that are no SRModel, and samples without an LQ image, are left alone, as are clips to train on.

    Args:
        model: A built model.
        sample: One sample of its data: `lq` and perhaps `gt`, (C, H, W), or (frames, C, H, W) for a video model.
        scored: Whether it is of data that metrics will score; else of data to train on.

    Raises:
        UserError: Something does not fit together.
    """
    if scored and _is_clip(model, sample):
        _try_clip(model, sample)
    if not _is_restored(model, sample):
        return
    training = model.is_train
    try:
        # In training RealESRNetModel and RealESRGANModel make LQ images themselves, of more than a pair.
        model.is_train = training and not scored
        _try(model, sample, scored=scored)
    finally:
        model.is_train = training


def _try(model: Any, sample: Mapping[str, Any], *, scored: bool) -> None:
    lq = sample["lq"][None, :, :CROP, :CROP]
    _restore(model, lq, f"an LQ image of {_describe(sample, lq)}")
    truth = _truth_of_crop(model, sample, lq) if "gt" in sample else None
    if scored:
        _try_metrics(model, sample, truth)
    elif truth is not None:
        _try_losses(model, truth)
    del model.lq, model.output


def _restore(model: Any, lq: torch.Tensor, what: str) -> None:
    """Restore an image or a clip, and leave it in `model.output`."""
    try:
        model.feed_data({"lq": lq})
        model.test()
    except UserError:
        raise
    except Exception as error:
        cause = (_wrong_channels(model, lq) if lq.ndim == 4 else "") or one_line(error)
        raise UserError(f"network_g cannot restore {what}: {cause}") from error


def _is_clip(model: Any, sample: Mapping[str, Any]) -> bool:
    """Return whether it is of a video model that is validated or tested."""
    validated = isinstance(model, VideoBaseModel) and bool(model.opt.get("val"))
    return validated and "lq" in sample and sample["lq"].ndim == 4


def _try_clip(model: Any, sample: Mapping[str, Any]) -> None:
    """Restore the beginning of a clip, compare numbers and sizes of frames, and try the metrics on the first."""
    most = FRAMES if isinstance(model, VideoRecurrentModel) else None  # others take the number they are made for
    lq = sample["lq"][None, :most, :, :CROP, :CROP]
    _restore(model, lq, f"a clip of {lq.shape[1]} frames of {_shape(lq)}")
    frames = _frames(model.output)
    truths = _frames(sample["gt"])[:most] if "gt" in sample else None
    if truths is not None and len(truths) != len(frames):
        raise UserError(
            f"network_g restores {len(frames)} frames of a sample that has {len(truths)}; take another type of "
            "dataset, or set val.center_frame_only where it gives the frame in the middle"
        )
    model.output = frames[:1]
    truth = None if truths is None else _truth_of_crop(model, {**sample, "gt": truths[0]}, lq[:, 0])
    if Scorer.from_options(model.opt).names:
        _try_metrics(model, sample, truth)
    del model.lq, model.output


def _frames(images: torch.Tensor) -> torch.Tensor:
    """Return frames (n, C, H, W) of one image, or of a clip, with or without a batch around it."""
    return images.reshape(-1, *images.shape[-3:])


def _wrong_channels(model: Any, lq: torch.Tensor) -> str:
    """Return the remedy if the network takes another number of channels, else an empty string."""
    channels = lq.shape[1]
    try:
        model.feed_data({"lq": lq[:, :1].expand(-1, 4 - channels, -1, -1)})
        model.test()
    except Exception:  # then it is not for the channels, and the first failure is told
        return ""
    return f"it takes {4 - channels} channels, not {channels}; {_CHANNEL_CURES[channels]}"


def dry_run_patch(model: Any, sample: Mapping[str, Any]) -> None:
    """Pass a whole training sample through the bare network, without padding, as training will.

    Args:
        model: A built model; others than in `dry_run` are left alone.
        sample: One sample of a phase of the training.

    Raises:
        UserError: The network does not take patches of this size.
    """
    if not _is_restored(model, sample):
        return
    net = model.get_bare_model(model.net_g)
    training = net.training
    try:
        with torch.no_grad():
            net.eval()(sample["lq"][None].to(model.device))
    except Exception as error:
        shape = _shape(sample["lq"])
        raise UserError(f"network_g cannot take training patches of {shape}: {one_line(error)}") from error
    finally:
        net.train(training)


def _is_restored(model: Any, sample: Mapping[str, Any]) -> bool:
    return isinstance(model, SRModel) and "lq" in sample and sample["lq"].ndim == 3


def _truth_of_crop(model: Any, sample: Mapping[str, Any], lq: torch.Tensor) -> torch.Tensor:
    """Return the ground truth of the crop, of the size of the output, where losses are."""
    scale = model.opt.get("scale", 1)
    truth: torch.Tensor = sample["gt"][None, :, : lq.shape[-2] * scale, : lq.shape[-1] * scale].to(model.device)
    if truth.shape != model.output.shape:
        cure = "correct scale, network_g or the data"
        if truth.shape[1] != model.output.shape[1]:
            cure = _CHANNEL_CURES.get(truth.shape[1], cure)
        raise UserError(
            f"network_g makes {_shape(model.output)} of an LQ image of {_describe(sample, lq)}, but the ground truth "
            f"is {_shape(truth)} at scale {scale}; {cure}"
        )
    return truth


def _try_losses(model: Any, truth: torch.Tensor) -> None:
    """Compute each loss of a pair of images, and its gradient."""
    losses_by_option = {option: getattr(model, name, None) for option, name in _HOST_LOSSES.items()}
    losses_by_option |= getattr(model, "extra_losses", {})  # those of SemanIRModel
    for option, criterion in losses_by_option.items():
        if criterion is None:
            continue
        try:
            output = model.output.detach().to(model.device).requires_grad_()  # one made of tiles is elsewhere
            with torch.enable_grad():
                losses = criterion(output, truth)
                parts = [each for each in (losses if isinstance(losses, tuple) else [losses]) if each is not None]
                torch.stack(parts).sum().backward()
        except Exception as error:
            raise UserError(f"train.{option} cannot be computed: {one_line(error)}") from error


def _try_metrics(model: Any, sample: Mapping[str, Any], truth: torch.Tensor | None) -> None:
    """Score the crop, repeated up to the size of the whole image, as far as metrics can need it."""
    scorer, scale = Scorer.from_options(model.opt), model.opt.get("scale", 1)
    if truth is None and scorer.with_reference:
        needing = ", ".join(scorer.with_reference)
        raise UserError(f"val:metrics: {needing} need a ground truth, but the dataset has none")
    size = [min(side * scale, LARGEST_SCORED) for side in sample["lq"].shape[-2:]]
    try:
        scorer.score(_repeat(model.output, size), None if truth is None else _repeat(truth, size))
    except Exception as error:
        raise UserError(f"val.metrics cannot be computed: {one_line(error)}") from error


def _repeat(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return an image of a size, made by repeating a smaller one, (1, C, h, w)."""
    counts = (-(-wanted // side) for wanted, side in zip(size, image.shape[-2:], strict=True))
    return image.repeat(1, 1, *counts)[..., : size[0], : size[1]]


def _describe(sample: Mapping[str, Any], lq: torch.Tensor) -> str:
    return f"{_shape(lq)}, of {sample['lq_path']}" if "lq_path" in sample else _shape(lq)


def _shape(image: torch.Tensor) -> str:
    channels, height, width = image.shape[-3:]
    return f"{channels} x {height} x {width}"
