"""Repairs of how BasicSR's video models validate, and of the sets of clips that they validate on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from basicsr.data.transforms import mod_crop
from basicsr.data.video_test_dataset import VideoRecurrentTestDataset, VideoTestDataset
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.models.video_base_model import VideoBaseModel
from basicsr.models.video_recurrent_gan_model import VideoRecurrentGANModel
from basicsr.models.video_recurrent_model import VideoRecurrentModel
from basicsr.utils import FileClient, get_root_logger, img2tensor, imwrite, scandir, tensor2img
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor
from tqdm import tqdm

from semanir_plugin.basicsr_host.compat.repairs.image_files import decode_in_own_depth
from semanir_plugin.basicsr_host.compat.repairs.table import Repair, modules_with
from semanir_plugin.errors import UserError
from semanir_plugin.pixels import FloatImage

__all__ = ["REPAIRS"]


def validate_clips(self: Any, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
    """`dist_validation` of video models asks for CUDA, refuses to save images in training, and needs `val.metrics`.

    It keeps its tensors of scores as `metric_results`, with the folders of the first set for all sets. The one of
    recurrent models takes the batch from a sample in place, which on a CPU is what the network is then given. Here
    `metric_results` has the mean over folders of each metric, as other models have it, on every process.
    """
    from semanir_plugin.basicsr_host.data.sharing import gather_in_order, share  # its package needs a repaired host

    dataset, (rank, world_size) = dataloader.dataset, get_dist_info()
    name, saved_as = dataset.opt["name"], _label(self, current_iter) if save_img else None
    silent = rank != 0 or not self.opt["val"].get("pbar")
    bar = tqdm(share(len(dataset), rank, world_size), desc=name, unit="sample", disable=silent)
    own = [(sample["folder"], _score_sample(self, sample, name, saved_as)) for sample in map(dataset.__getitem__, bar)]
    if self.opt["val"].get("metrics"):
        scores: dict[str, list[Sequence[float]]] = {}
        for folder, frames in gather_in_order(own, world_size):
            scores.setdefault(folder, []).extend(frames)
        _take_scores(self, scores, name, current_iter, tb_logger)


def _score_sample(
    self: Any, sample: Mapping[str, Any], dataset_name: str, saved_as: int | str | None
) -> list[list[float]]:
    """Restore a sample, and save its frames unless `saved_as` is None; return the metrics of each frame."""
    scores, frames = [], _restore(self, sample)
    for name, images in zip(_frame_names(self, sample, dataset_name, len(frames)), frames, strict=True):
        if saved_as is not None:
            folder = Path(self.opt["path"]["visualization"], dataset_name, sample["folder"])
            imwrite(images["img"], str(folder / f"{name}_{saved_as}.png"))
        metrics = (self.opt["val"].get("metrics") or {}).values()
        scores.append([float(calculate_metric(images, options)) for options in metrics])
    return scores


def _restore(self: Any, sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each restored frame as `img`, and its ground truth as `img2` where there is one, uint8, BGR.

    Raises:
        UserError: The network and the set differ in their number of frames.
    """
    self.feed_data({key: sample[key][None] for key in ("lq", "gt") if key in sample})
    self.test()
    visuals = self.get_current_visuals()
    for attribute in ("lq", "gt", "output"):
        self.__dict__.pop(attribute, None)
    frames = {new: visuals[old].flatten(0, -4) for old, new in (("result", "img"), ("gt", "img2")) if old in visuals}
    counts = [len(each) for each in frames.values()]
    if counts[0] != counts[-1]:
        cure = "take another type of dataset, or set val.center_frame_only where it gives the frame in the middle"
        raise UserError(f"the network restores {counts[0]} frames of a sample that has {counts[-1]}; {cure}")
    return [{key: tensor2img([each[index]]) for key, each in frames.items()} for index in range(counts[0])]


def _frame_names(self: Any, sample: Mapping[str, Any], dataset_name: str, count: int) -> list[str]:
    """Return the names of frames: of a clip their numbers; of the frame in the middle of several what its file has."""
    if count > 1 or "lq_path" not in sample:
        return [f"{index:08d}" for index in range(count)]
    path, whole = Path(sample["lq_path"]), getattr(self, "center_frame_only", False)
    in_vimeo = whole or "vimeo" in dataset_name.lower()
    return ["_".join([*path.parts[-3:-1], *([] if whole else [path.stem])]) if in_vimeo else path.stem]


def _label(self: Any, current_iter: int | str) -> int | str:
    return current_iter if self.opt["is_train"] else self.opt["val"].get("suffix") or self.opt["name"]


def _take_scores(
    self: Any, scores: Mapping[str, Sequence[Sequence[float]]], dataset_name: str, current_iter: Any, tb_logger: Any
) -> None:
    """Log the means of each folder, and take up their means."""
    self._initialize_best_metric_results(dataset_name)
    metrics = list(self.opt["val"]["metrics"])
    means = {folder: torch.tensor(frames, dtype=torch.float64).mean(0) for folder, frames in scores.items()}
    for folder, values in means.items():
        told = dict(zip(metrics, values.tolist(), strict=True))
        listed = ", ".join(f"{metric} {value:.4f}" for metric, value in told.items())
        get_root_logger().info(f"{dataset_name}, {folder}: {listed}")
        for metric, value in told.items() if tb_logger else ():
            tb_logger.add_scalar(f"metrics/{dataset_name}/{folder}/{metric}", value, current_iter)
    totals = torch.stack(list(means.values())).mean(0).tolist()
    self.metric_results = dict(zip(metrics, totals, strict=True))
    for metric, value in self.metric_results.items():
        self._update_best_metric_result(dataset_name, metric, value, current_iter)
    self._log_validation_metric_values(current_iter, dataset_name, tb_logger)


_init_test_set = inspect.unwrap(VideoTestDataset.__init__)


class _KnownName(str):
    """The name of a set, which passes for one that the host knows."""

    def lower(self) -> str:
        return "vid4"


@functools.wraps(_init_test_set)
def init_any_test_set(self: Any, opt: dict[str, Any]) -> None:
    """`VideoTestDataset` refuses what is not called Vid4, REDS4 or REDSofficial, though all of it is laid out alike."""
    _init_test_set(self, {**opt, "name": _KnownName(opt["name"])})
    self.opt = opt


def read_whole_clip(self: Any, index: int) -> dict[str, Any]:
    """`VideoRecurrentTestDataset` reads nothing unless `cache_data` keeps all its clips in memory."""
    folder = self.folders[index]
    clips = {"lq": self.imgs_lq[folder], "gt": self.imgs_gt[folder]}
    if not self.cache_data:
        clips = {key: read_frames(paths) for key, paths in clips.items()}
    return {**clips, "folder": folder}


def read_frames(
    path: str | list[str], require_mod_crop: bool = False, scale: int = 1, return_imgname: bool = False
) -> Any:
    """`read_img_seq` dies of a frame that is missing or damaged without its name, and reads 16 bit as of 8.

    Raises:
        UserError: A frame cannot be read.
    """
    paths = path if isinstance(path, list) else sorted(scandir(path, full_path=True))
    frames = [mod_crop(frame, scale) if require_mod_crop else frame for frame in map(_read_frame, paths)]
    clip: Tensor = torch.stack(img2tensor(frames, bgr2rgb=True, float32=True))
    return (clip, [Path(each).stem for each in paths]) if return_imgname else clip


def _read_frame(path: str) -> FloatImage:
    try:
        frame: FloatImage = decode_in_own_depth(FileClient("disk").get(path), float32=True)
        return frame
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend the set, or take the clip out") from error
    except AttributeError as error:
        raise UserError(f"{path}: the frame cannot be decoded; replace it") from error


_setup_gan_optimizers = inspect.unwrap(VideoRecurrentGANModel.setup_optimizers)


@functools.wraps(_setup_gan_optimizers)
def setup_with_or_without_flow(self: Any) -> None:
    """`VideoRecurrentGANModel` dies of a missing `train.fix_flow`, which VideoRecurrentModel does without."""
    self.opt["train"].setdefault("fix_flow", None)
    _setup_gan_optimizers(self)


REPAIRS: tuple[Repair, ...] = (
    (VideoBaseModel, "dist_validation", validate_clips),
    (VideoBaseModel, "nondist_validation", validate_clips),
    (VideoBaseModel, "_log_validation_metric_values", SRModel._log_validation_metric_values),
    (VideoRecurrentModel, "dist_validation", validate_clips),
    (VideoRecurrentGANModel, "setup_optimizers", setup_with_or_without_flow),
    (VideoTestDataset, "__init__", init_any_test_set),
    (VideoRecurrentTestDataset, "__getitem__", read_whole_clip),
    *((module, "read_img_seq", read_frames) for module in modules_with("read_img_seq")),
)
