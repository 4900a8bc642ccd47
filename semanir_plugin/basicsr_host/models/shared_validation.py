"""Validation divided among the processes of a run, with the results of a single one, to the bit."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import imwrite, tensor2img
from tqdm import tqdm

from semanir_plugin.basicsr_host.data.sharing import gather_in_order, share_of_loader

__all__ = ["SharedValidation"]


class SharedValidation(SRModel):
    """SRModel whose processes share the scoring, which BasicSR leaves to the first while the others wait.

    Attributes:
        seconds_per_image: Time of `test` for each image of the last validation.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.seconds_per_image: list[float] = []
        super().__init__(opt)

    def dist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Score this process's share of the images of a set, and exchange the means with all processes."""
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Score the images of a set; of several processes, each scores its share."""
        name, rank, world_size = dataloader.dataset.opt["name"], self.opt["rank"], self.opt["world_size"]
        own = share_of_loader(dataloader, rank, world_size)
        self.seconds_per_image = []
        bar = tqdm(own, desc=name, unit="image", disable=rank != 0 or not self.opt["val"].get("pbar"))
        values = [self._score_image(sample, name, current_iter if save_img else None) for sample in bar]
        scored = gather_in_order(list(zip(values, self.seconds_per_image, strict=True)), world_size)
        self.seconds_per_image = [seconds for _, seconds in scored]
        if self.opt["val"].get("metrics") is not None:
            self._take_scores([values for values, _ in scored], name, current_iter, tb_logger)

    def _score_image(self, sample: Mapping[str, Any], dataset_name: str, saved_as: int | str | None) -> dict[str, Any]:
        """Return the value of each metric; save the image unless `saved_as`, the iteration, is None."""
        self.feed_data(sample)
        self.test()
        images = {"img": tensor2img([self.output.detach().cpu()])}
        if "gt" in sample:
            images["img2"] = tensor2img([self.gt.detach().cpu()])
            del self.gt
        del self.lq, self.output
        torch.cuda.empty_cache()
        if saved_as is not None:
            imwrite(images["img"], self._image_path(Path(sample["lq_path"][0]).stem, dataset_name, saved_as))
        metrics = self.opt["val"].get("metrics") or {}
        return {name: calculate_metric(images, options) for name, options in metrics.items()}

    def _image_path(self, image_name: str, dataset_name: str, current_iter: int | str) -> str:
        folder = Path(self.opt["path"]["visualization"])
        if self.is_train:
            return str(folder / image_name / f"{image_name}_{current_iter}.png")
        return str(folder / dataset_name / f"{image_name}_{self.opt['val']['suffix'] or self.opt['name']}.png")

    def _take_scores(
        self, values: Sequence[Mapping[str, Any]], dataset_name: str, current_iter: int | str, tb_logger: Any
    ) -> None:
        self._initialize_best_metric_results(dataset_name)
        self.metric_results = {}
        for metric in self.opt["val"]["metrics"]:
            # Added one by one, in the order of the images: the same bits whoever computed what.
            mean = reduce(operator.add, (each[metric] for each in values), 0) / len(values)
            self.metric_results[metric] = mean
            self._update_best_metric_result(dataset_name, metric, mean, current_iter)
        self._log_validation_metric_values(current_iter, dataset_name, tb_logger)
