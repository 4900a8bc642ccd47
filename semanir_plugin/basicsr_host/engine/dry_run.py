"""Dry run: one small pass of everything that the first iteration or image needs, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import tensor2img

from semanir_plugin.errors import UserError, one_line

__all__ = ["dry_run", "dry_run_patch"]

# Side of the LQ crop, and of the smallest one that metrics can do with.
CROP = 64

_CHANNEL_CURES = {  # by what the dataset gives
    1: "set num_channels: 3 or remove color: y in the dataset, or make network_g a gray one",
    3: "set num_channels: 1 or color: y in the dataset, or make network_g a colour one",
}


def dry_run(model: Any, sample: Mapping[str, Any]) -> None:
    """Restore a crop of a sample and, where it has a ground truth, compare sizes and try losses and metrics.

    Models that are no SRModel, and samples without an LQ image, are left alone.

    Args:
        model: A built model.
        sample: One sample of its data: `lq` and perhaps `gt`, (C, H, W).

    Raises:
        UserError: Something does not fit together.
    """
    if not _is_restored(model, sample):
        return
    lq = sample["lq"][None, :, :CROP, :CROP]
    try:
        model.feed_data({"lq": lq})
        model.test()
    except UserError:
        raise
    except Exception as error:
        cause = _wrong_channels(model, lq) or one_line(error)
        raise UserError(f"network_g cannot restore an LQ image of {_describe(sample, lq)}: {cause}") from error
    if "gt" in sample:
        _compare(model, sample, lq)
    elif _metrics(model):
        raise UserError(f"val:metrics: {', '.join(_metrics(model))} need a ground truth, but the dataset has none")
    del model.lq, model.output


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
    net.train(training)


def _is_restored(model: Any, sample: Mapping[str, Any]) -> bool:
    return isinstance(model, SRModel) and "lq" in sample and sample["lq"].ndim == 3


def _compare(model: Any, sample: Mapping[str, Any], lq: torch.Tensor) -> None:
    scale = model.opt.get("scale", 1)
    output = model.output.to(model.device)  # where losses are; an output made of tiles is not
    gt = sample["gt"][None, :, : lq.shape[-2] * scale, : lq.shape[-1] * scale].to(output)
    if gt.shape != output.shape:
        cure = "correct scale, network_g or the data"
        if gt.shape[1] != output.shape[1]:
            cure = _CHANNEL_CURES.get(gt.shape[1], cure)
        raise UserError(
            f"network_g makes {_shape(output)} of an LQ image of {_describe(sample, lq)}, but the ground truth is "
            f"{_shape(gt)} at scale {scale}; {cure}"
        )
    criterion = getattr(model, "cri_pix", None)
    try:
        if criterion is not None:
            criterion(output, gt)
        # A training patch may be smaller than the images that are scored.
        images = {"img": _enlarge(tensor2img([output])), "img2": _enlarge(tensor2img([gt]))}
        for metric in _metrics(model).values():
            calculate_metric(images, metric)
    except Exception as error:
        raise UserError(f"train.pixel_opt or val.metrics cannot be computed: {one_line(error)}") from error


def _enlarge(image: np.ndarray) -> np.ndarray:
    """Repeat an image, (H, W, C) or (H, W), until no side is shorter than CROP."""
    rows, columns = (-(-CROP // side) for side in image.shape[:2])
    return np.tile(image, (rows, columns, 1)[: image.ndim])


def _metrics(model: Any) -> dict[str, Any]:
    """Return the metrics that compare with a ground truth; those of one image may need a larger one."""
    metrics = (model.opt.get("val") or {}).get("metrics") or {}
    return {name: metric for name, metric in metrics.items() if not metric["type"].startswith("calculate_niqe")}


def _describe(sample: Mapping[str, Any], lq: torch.Tensor) -> str:
    return f"{_shape(lq)}, of {sample['lq_path']}" if "lq_path" in sample else _shape(lq)


def _shape(image: torch.Tensor) -> str:
    channels, height, width = image.shape[-3:]
    return f"{channels} x {height} x {width}"
