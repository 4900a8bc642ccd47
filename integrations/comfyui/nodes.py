"""The nodes, by ComfyUI's interface: class attributes and `INPUT_TYPES` that it reads, images of (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import semanir_plugin
from semanir_plugin.inference.restorer import PRECISIONS, Restorer
from semanir_plugin.inference.shipped_weights import shipped_weights

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

FOLDER = "upscale_models"
"""ComfyUI's folder of networks that restore."""

NETWORK = "RESTORATION_NETWORK"
CATEGORY = "image/restoration"


class LoadRestorationNetwork:
    """Load a network: one that comes with semanir_plugin, a file in ComfyUI's upscale_models, or by its path."""

    RETURN_TYPES = (NETWORK,)
    RETURN_NAMES = ("network",)
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = __doc__

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  # ComfyUI's name
        """Return the inputs: a name from the list or, instead, a path or the name of a repository."""
        elsewhere = {
            "default": "",
            "tooltip": "Instead: the path of a file or folder, or org/name on the Hugging Face hub",
        }
        return {
            "required": {
                "name": ([*shipped_weights(), *_files()], {"tooltip": "What comes with it, and upscale_models"})
            },
            "optional": {"elsewhere": ("STRING", elsewhere)},
        }

    def load(self, name: str, elsewhere: str = "") -> tuple[Restorer]:
        """Return the network, on the CPU, where it waits to be used."""
        if elsewhere.strip():
            return (semanir_plugin.load(elsewhere.strip(), device="cpu"),)
        return (semanir_plugin.load(name if name in shipped_weights() else _path(name), device="cpu"),)


class RestoreImages:
    """Restore images by a network: whole or in tiles, once or as the mean over all eight flips and turns."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "restore"
    CATEGORY = CATEGORY
    DESCRIPTION = __doc__

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  # ComfyUI's name
        """Return the inputs, the settings of `Restorer.configure`, where 0 leaves a choice to the network."""
        keys = {"default": 0, "min": 0, "max": 65536, "tooltip": "Keys per pixel of SemanIR; 0: as it was trained"}
        tile = {"default": 512, "min": 0, "max": 16384, "step": 8, "tooltip": "Side in pixels of the input; 0: whole"}
        overlap = {"default": 32, "min": 0, "max": 1024, "step": 8, "tooltip": "Pixels that neighbouring tiles share"}
        ensemble = {"default": False, "tooltip": "Mean over flips and turns; eight times slower"}
        return {
            "required": {
                "network": (NETWORK,),
                "image": ("IMAGE",),
                "keys": ("INT", keys),
                "tile": ("INT", tile),
                "tile_overlap": ("INT", overlap),
                "self_ensemble": ("BOOLEAN", ensemble),
            },
            "optional": {"precision": (list(PRECISIONS), {"default": "fp32"})},
        }

    def restore(
        self,
        network: Restorer,
        image: Tensor,
        keys: int = 0,
        tile: int = 512,
        tile_overlap: int = 32,
        self_ensemble: bool = False,
        precision: str = "fp32",
    ) -> tuple[Tensor]:
        """Return the images restored.

        Args:
            network: Of `LoadRestorationNetwork`.
            image: (B, H, W, C) in [0, 1]; channels beyond the third, such as opacity, are enlarged alike.
            keys: As `topk` of `Restorer.configure`; 0: the network's own choice.
            tile: As of `Restorer.configure`; 0: whole.
            tile_overlap: As of `Restorer.configure`.
            self_ensemble: As of `Restorer.configure`.
            precision: As of `Restorer.configure`.

        Raises:
            ValueError: A setting does not go with the network, or with another.
        """
        settings = {
            "topk": keys or None,
            "tile": tile or None,
            "tile_overlap": tile_overlap if tile else None,
            "self_ensemble": self_ensemble,
            "precision": precision,
        }
        images = image.movedim(-1, 1).float()
        device = _device()
        network.module.to(device)
        try:
            restored = _restore(replace(network, device=device), images[:, :3], settings, _progress(len(images)))
        finally:
            network.module.to("cpu")  # the next node has the memory
        if images.shape[1] > 3:
            more = F.interpolate(images[:, 3:], restored.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
            restored = torch.cat([restored, more], 1)
        return (restored.movedim(1, -1).contiguous(),)


Told = Callable[[int, int, int], None]  # which image, tiles done, all tiles of it


def _restore(network: Restorer, images: Tensor, settings: dict[str, Any], tell: Told) -> Tensor:
    """Return (B, C, H, W) restored, one after the other; a network for gray images restores each channel by itself."""
    channels, restored = network.descriptor.in_channels, []
    for index, each in enumerate(images.unsqueeze(1)):
        batch = each.movedim(1, 0) if channels == 1 else each.expand(-1, channels, -1, -1)
        result = network.restore(batch, progress=partial(tell, index), **settings)
        restored.append(result.movedim(0, 1) if channels == 1 else result)
    return torch.cat(restored)


def _files() -> list[str]:
    try:
        import folder_paths
    except ImportError:  # outside of ComfyUI
        return []
    names: list[str] = folder_paths.get_filename_list(FOLDER)
    return names


def _path(name: str) -> str:
    import folder_paths

    path: str = folder_paths.get_full_path_or_raise(FOLDER, name)
    return path


def _device() -> torch.device:
    try:
        from comfy.model_management import get_torch_device
    except ImportError:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device: torch.device = get_torch_device()
    return device


def _progress(images: int) -> Told:
    """Return what shows how far the work is, on ComfyUI's bar, which also raises where the user has stopped it."""
    try:
        from comfy.utils import ProgressBar
    except ImportError:
        return lambda *_: None
    bar = ProgressBar(images)
    return lambda index, done, total: bar.update_absolute(index * total + done, images * total)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "LoadRestorationNetwork": LoadRestorationNetwork,
    "RestoreImages": RestoreImages,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LoadRestorationNetwork": "Load Restoration Network (SemanIR)",
    "RestoreImages": "Restore Images (SemanIR)",
}
