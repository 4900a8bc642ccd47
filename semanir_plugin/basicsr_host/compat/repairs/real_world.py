"""Repairs of BasicSR's models that degrade their training images themselves: RealESRNet and Real-ESRGAN."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from basicsr.models.realesrgan_model import RealESRGANModel
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.utils import DiffJPEG, USMSharp
from torch import Tensor

from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.errors import UserError

__all__ = ["REPAIRS"]

MODELS = (RealESRNetModel, RealESRGANModel)


def on_own_device(model: Any) -> Callable[[Any, dict[str, Any]], None]:
    """The models put their degradations on CUDA, whatever device they are on themselves."""

    def init(self: Any, opt: dict[str, Any]) -> None:
        super(model, self).__init__(opt)
        self.jpeger = DiffJPEG(differentiable=False).to(self.device)
        self.usm_sharpener = USMSharp().to(self.device)
        self.queue_size = opt.get("queue_size", 180)

    return init


@torch.no_grad()
def exchange_with_pool(self: Any) -> None:
    """`_dequeue_and_enqueue` makes its pool on CUDA, whatever device the model is on.

    The pool is filled first. From then on each batch is exchanged for one drawn from it, without replacement.

    Raises:
        UserError: The pool is no multiple of a batch.
    """
    batch = len(self.lq)
    if not hasattr(self, "queue_lr"):
        if self.queue_size % batch:
            raise UserError(f"queue_size {self.queue_size} is not a multiple of the batch size {batch}; change one")
        self.queue_lr, self.queue_gt = (_pool_of(self.queue_size, each) for each in (self.lq, self.gt))
        self.queue_ptr = 0
    if self.queue_ptr < self.queue_size:
        places = slice(self.queue_ptr, self.queue_ptr + batch)
        self.queue_lr[places], self.queue_gt[places] = self.lq, self.gt
        self.queue_ptr += batch
        return
    order = torch.randperm(self.queue_size)
    self.queue_lr, self.queue_gt = self.queue_lr[order], self.queue_gt[order]
    given = self.lq, self.gt
    self.lq, self.gt = self.queue_lr[:batch].clone(), self.queue_gt[:batch].clone()
    self.queue_lr[:batch], self.queue_gt[:batch] = given


def _pool_of(size: int, images: Tensor) -> Tensor:
    return images.new_zeros(size, *images.shape[1:])


def feeding_pairs_too(feed: Callable[[Any, Mapping[str, Any]], None]) -> Callable[[Any, Mapping[str, Any]], None]:
    """`feed_data` asks a pair of images for blur kernels, where a model in training is given one outside validation."""
    feed = inspect.unwrap(feed)

    @functools.wraps(feed)
    def wrapper(self: Any, data: Mapping[str, Any]) -> None:
        is_train = self.is_train
        self.is_train = is_train and "kernel1" in data
        try:
            feed(self, data)
        finally:
            self.is_train = is_train

    return wrapper


REPAIRS: tuple[Repair, ...] = (
    *((model, "__init__", on_own_device(model)) for model in MODELS),
    *((model, "_dequeue_and_enqueue", exchange_with_pool) for model in MODELS),
    *((model, "feed_data", feeding_pairs_too(model.feed_data)) for model in MODELS),
)
