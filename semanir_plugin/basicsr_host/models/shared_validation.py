"""Validation divided among the processes of a run, with the results of a single one, to the bit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import imwrite, tensor2img
from tqdm import tqdm

from semanir_plugin.basicsr_host.data.sharing import gather_in_order, share_of_loader
from semanir_plugin.basicsr_host.scoring.scorer import Scorer

__all__ = ["SharedValidation", "result_path"]


def result_path(opt: Mapping[str, Any], dataset_name: str, image_name: str, iteration: int | str) -> Path:
    """Return where the result of an image goes.

    Args:
        opt: The run's options.
        dataset_name: Of its set; "" where the host's own validation saves it, which tells no sets apart in training.
        image_name: Its name without its ending.
        iteration: After which it is made; of a test it does not matter.
    """
    folder = Path(opt["path"]["visualization"])
    if not opt["is_train"]:
        return folder / dataset_name / f"{image_name}_{opt['val'].get('suffix') or opt['name']}.png"
    several = len([phase for phase in opt["datasets"] if phase.startswith("val")]) > 1
    named = f"{image_name}_{dataset_name}" if several and dataset_name else image_name
    return folder / image_name / f"{named}_{iteration}.png"


class SharedValidation(SRModel):
    """SRModel that also scores by a protocol, and whose processes share the work, which BasicSR leaves to the first.

    Attributes:
        seconds_per_image: Time of `test` for each image of the last validation.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.seconds_per_image: list[float] = []
        super().__init__(opt)

    @cached_property
    def scorer(self) -> Scorer:
        """What images are scored by: `val.metrics`."""
        return Scorer.from_options(self.opt)

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
        if self.scorer.names:
            self._take_scores([values for values, _ in scored], name, current_iter, tb_logger)

    def _score_image(self, sample: Mapping[str, Any], dataset_name: str, saved_as: int | str | None) -> dict[str, Any]:
        """Return the value of each metric; save the image unless `saved_as`, the iteration, is None."""
        self.feed_data(sample)
        self.test()
        output, truth = self.output.detach().cpu(), self.gt.detach().cpu() if "gt" in sample else None
        self._forget_images()
        if saved_as is not None:
            path = result_path(self.opt, dataset_name, Path(sample["lq_path"][0]).stem, saved_as)
            imwrite(tensor2img([output]), str(path))
        return self.scorer.score(output, truth)

    def _forget_images(self) -> None:
        del self.lq, self.output
        if hasattr(self, "gt"):
            del self.gt
        torch.cuda.empty_cache()

    def _take_scores(
        self, values: Sequence[Mapping[str, Any]], dataset_name: str, current_iter: int | str, tb_logger: Any
    ) -> None:
        self._initialize_best_metric_results(dataset_name)
        self.metric_results = self.scorer.mean(values)
        for metric, mean in self.metric_results.items():
            self._update_best_metric_result(dataset_name, metric, mean, current_iter)
        self._log_validation_metric_values(current_iter, dataset_name, tb_logger)

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """Begin the record of a set's best scores, as BasicSR does for its own metrics."""
        best = self.__dict__.setdefault("best_metric_results", {})
        directions = {name: self.scorer.better(name) for name in self.scorer.names}
        best.setdefault(
            dataset_name,
            {
                name: {"better": better, "val": -math.inf if better == "higher" else math.inf, "iter": -1}
                for name, better in directions.items()
            },
        )
