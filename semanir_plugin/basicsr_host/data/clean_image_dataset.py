"""Base class of the datasets that degrade clean images on the fly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from basicsr.data.data_util import paths_from_lmdb
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.utils import FileClient, img2tensor, scandir
from torch.utils.data import Dataset

from semanir_plugin.basicsr_host.data.dataset_options import CleanImageOptions, read_options
from semanir_plugin.inference.images import Channels, decode_image
from semanir_plugin.pixels import FloatImage

__all__ = ["CleanImageDataset"]


class CleanImageDataset(Dataset[dict[str, Any]], ABC):
    """A folder or LMDB of clean images, each of which is its own ground truth.

    Options of all of them:
        dataroot_gt: Folder of images, or LMDB.
        io_backend: `{type: disk}` or `{type: lmdb}`.
        meta_info_file: Lists the images to read, one per line; all of the folder if missing.
        phase: "train" crops and augments; "val" and "test" take whole images and draw nothing at random.
        gt_size, use_hflip, use_rot: As of BasicSR's PairedImageDataset; read in training only.

    Files may be gray or coloured, of 8 or 16 bit, with alpha or without: `semanir_plugin.inference.images` says what
    becomes of them. A sample is `lq` and `gt`, (C, H, W) in RGB order, and `lq_path` and `gt_path`, which are the same.

    Args:
        opt: Options.

    Raises:
        ValueError: A value of `OPTIONS` cannot be right.
    """

    OPTIONS: ClassVar[type[CleanImageOptions]]
    """Options beyond those of all."""

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self.training = opt["phase"] == "train"
        self.io_backend_opt = dict(opt["io_backend"])
        self.file_client: FileClient | None = None
        self.options: Any = read_options(self.OPTIONS, opt)
        self.paths = self._list_paths(opt["dataroot_gt"])

    @classmethod
    def least_side(cls, opt: Mapping[str, Any]) -> int:
        """Return the least side that an image may have."""
        return 1

    @classmethod
    def truth_size(cls, opt: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int]:
        """Return the width and height of the ground truth that an image of this size makes where it is scored."""
        return size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.paths[index]
        lq, gt = img2tensor(list(self.read_pair(path)))
        return {"lq": lq, "gt": gt, "lq_path": path, "gt_path": path}

    def read_pair(self, path: str) -> tuple[FloatImage, FloatImage]:
        """Return the input and the ground truth, (H, W, C) in BGR order."""
        clean = decode_image(self.read(path), self.channels)
        if self.training:
            clean, _ = paired_random_crop(clean, clean, self.degraded_side(clean), 1, path)
            clean = self.augment([clean])[0]
        return self.degrade(clean)

    @property
    def channels(self) -> Channels:
        """The channels that images are decoded to; see `decode_image`."""
        return "color"

    def degraded_side(self, clean: FloatImage) -> int:
        """Return the side of what is cut out of an image (H, W, C) to be degraded in training."""
        side: int = self.opt["gt_size"]
        return side

    @abstractmethod
    def degrade(self, clean: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Make the input and the ground truth of a clean image or patch."""

    def augment(self, images: list[FloatImage]) -> list[FloatImage]:
        """Flip and rotate all images alike, at random and in place."""
        augmented = augment(images, self.opt["use_hflip"], self.opt["use_rot"])
        return augmented if isinstance(augmented, list) else [augmented]

    def read(self, path: str) -> bytes:
        """Return a file of the folder, or an entry of the LMDB."""
        if self.file_client is None:
            options = dict(self.io_backend_opt)
            self.file_client = FileClient(options.pop("type"), **options)
        result: bytes = self.file_client.get(path, "gt")
        return result

    def _list_paths(self, root: str) -> list[str]:
        if self.io_backend_opt["type"] == "lmdb":
            self.io_backend_opt.update(db_paths=[root], client_keys=["gt"])
            result: list[str] = paths_from_lmdb(root)
            return result
        if self.opt.get("meta_info_file") is None:
            return sorted(scandir(root, full_path=True))
        lines = Path(self.opt["meta_info_file"]).read_text(encoding="utf-8").splitlines()
        return [str(Path(root, line.strip().split(" ")[0])) for line in lines]
