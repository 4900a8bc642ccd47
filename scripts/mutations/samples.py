"""Small images, networks, checkpoints and option files that changes start from."""

from __future__ import annotations

import contextlib
import copy
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from mutations.commands import run_command
from mutations.trees import draw_value

NETWORK = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}
SEMANIR = {
    **{"type": "SemanIR", "upscale": 4, "embed_dim": 4, "depths": [1], "num_heads": [2], "window_size": 8, "topk": 12},
    "upsampler": "pixelshuffledirect",
}
UNET = {
    **{"type": "SemanIRUNet", "embed_dim": 4, "depths": [1, 1], "refinement_depth": 1, "head_dim": 4},
    **{"window_sizes": [8, 8], "topk": 12},
}
SWINIR = {
    **{
        "type": "SwinIR",
        "upscale": 2,
        "embed_dim": 4,
        "depths": [1],
        "num_heads": [2],
        "window_size": 8,
        "img_size": 16,
    },
    **{"mlp_ratio": 2, "upsampler": "pixelshuffledirect", "img_range": 1.0, "resi_connection": "1conv"},
}


AST = {"type": "AST", "img_size": 128, "embed_dim": 4, "depths": [1, 1, 1], "num_heads": [1, 2, 1], "win_size": 4}
HEIGHT, WIDTH = 13, 17


def noise(height: int, width: int, channels: int = 3) -> Any:
    """Return an image of 8 bit, always the same; H x W x C."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded_images() -> Iterator[tuple[str, bytes]]:
    """Yield suffixes and contents of images of all formats and of many of their kinds."""
    import numpy as np
    from PIL import Image

    rgb, rgba = Image.fromarray(noise(HEIGHT, WIDTH)), Image.fromarray(noise(HEIGHT, WIDTH, 4))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "an image"  # orientation, description
    described: dict[str, Any] = {"exif": exif.tobytes(), "icc_profile": bytes(range(200)), "dpi": (72, 72)}
    for suffix, images in {
        ".png": (
            rgb,
            rgba,
            rgb.convert("L"),
            rgb.quantize(7),
            Image.fromarray(noise(HEIGHT, WIDTH)[..., 0].astype(np.uint16) * 257),
        ),
        ".jpg": (rgb, rgb.convert("L"), rgb.convert("CMYK")),
        ".webp": (rgb, rgba),
        ".bmp": (rgb, rgb.quantize(7)),
        ".gif": (rgb.quantize(7),),
        ".avif": (rgb,),
    }.items():
        for image in images:
            for options in ({}, described):
                with contextlib.suppress(KeyError, OSError, ValueError):  # a format that this Pillow does not write
                    yield suffix, _encoded(image, suffix, **options)
    yield ".jpg", _encoded(rgb, ".jpg", progressive=True, quality=50)
    yield ".webp", _encoded(rgb, ".webp", lossless=True)
    yield ".png", _encoded(rgb, ".png", save_all=True, append_images=[rgb.rotate(90)])
    yield from _encoded_tiffs()


def _encoded_tiffs() -> Iterator[tuple[str, bytes]]:
    import numpy as np
    import tifffile

    for array in (
        noise(HEIGHT, WIDTH),
        noise(HEIGHT, WIDTH, 4),
        noise(HEIGHT, WIDTH)[..., 0],
        noise(HEIGHT, WIDTH).astype(np.uint16),
        noise(HEIGHT, WIDTH) / np.float32(255),
    ):
        for options in ({}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 2}):
            file = io.BytesIO()
            tifffile.imwrite(file, array, photometric="rgb" if array.ndim == 3 else "minisblack", **options)
            yield ".tif", file.getvalue()


def _encoded(image: Any, suffix: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper()), **options)
    return file.getvalue()


def write_pairs(folder: Path) -> None:
    """Write two images and their quarters to `GT` and `LQ` of a folder."""
    import cv2

    for index, name in enumerate(("GT", "LQ")):
        (folder / name).mkdir()
        for image in range(2):
            size = (32 + 4 * image) // (1, 4)[index]
            cv2.imwrite(str(folder / name / f"{image}.png"), noise(size, size))


def tiny_training(data: Path) -> dict[str, Any]:
    """Return the options of a training of one iteration on what `write_pairs` has written."""
    pair = {"type": "PairedImageDataset", "dataroot_gt": f"{data}/GT", "dataroot_lq": f"{data}/LQ"}
    patches = {"gt_size": 32, "use_hflip": True, "use_rot": True, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    return {
        **{"name": "run", "model_type": "SemanIRModel", "scale": 4, "num_gpu": 0, "manual_seed": 0},
        "datasets": {"train": {"name": "t", **pair, **patches}, "val": {"name": "v", **pair}},
        "network_g": dict(SEMANIR),
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "optim_g": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [1], "gamma": 0.5},
            "pixel_opt": {"type": "CharbonnierLoss", "loss_weight": 1.0, "reduction": "mean"},
            **{"total_iter": 1, "warmup_iter": -1, "ema_decay": 0.9, "grad_clip": 1.0, "accumulation_steps": 1},
        },
        "val": {"val_freq": 1, "save_img": False, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 4}}},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 1, "use_tb_logger": False},
    }


def as_test(training: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a test of what a training validates."""
    options = copy.deepcopy({key: value for key, value in training.items() if key not in ("train", "logger")})
    options["datasets"] = {"test_1": {**options["datasets"]["val"], "phase": "test"}}
    options["val"].pop("val_freq")
    return options


def tiny_denoising(folder: str) -> dict[str, Any]:
    """Return the options of a training of one iteration that adds noise to the images of a folder."""
    options = tiny_training(Path())
    patches = {"gt_size": 8, "use_hflip": True, "use_rot": True, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    dataset = {"name": "t", "type": "GaussianNoiseDataset", "dataroot_gt": folder, "sigma": 25, **patches}
    return options | {"scale": 1, "datasets": {"train": dataset}, "network_g": dict(UNET), "val": None}


def tiny_leaderboard(gt: Path | str) -> dict[str, Any]:
    """Return the options of a leaderboard of noisy images as they are."""
    return {
        **{"name": "board", "task": "denoising", "protocol": "denoising_color_bgr", "cost": None, "num_gpu": 0},
        **{"save_images": False, "models": {"identity": {"classical": "identity"}}},
        "test_sets": {"S": {"gt": str(gt), "sigma": 15}},
    }


def check_unchanged(folder: Path, *commands: Sequence[str]) -> None:
    """Run commands in a folder, on what is to be changed; raises SystemExit where one refuses."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        for command in commands:
            outcome = run_command(command)
            if outcome.code or outcome.problem:
                raise SystemExit(f"basicsr {' '.join(command)}: {outcome.text}")
    finally:
        os.chdir(before)


def write_options(options: Mapping[str, Any], path: Path = Path("x.yml")) -> None:
    """Write an option file."""
    import yaml

    path.write_text(yaml.safe_dump(dict(options), sort_keys=False))


def write_model(path: Path) -> Path:
    """Write a small network that enlarges, with options and weights; return the path."""
    import torch

    from semanir_plugin.inference.checkpoints import save_weights
    from semanir_plugin.inference.loading import build_network

    torch.manual_seed(0)
    save_weights(str(path), build_network(SEMANIR, ""), SEMANIR)
    return path


def checkpoint_trees() -> Iterator[dict[str, Any]]:
    """Yield contents of checkpoints: of this package, averaged weights too, and of others with weights alone."""
    import torch

    from semanir_plugin.archs.ast_checkpoints import to_authors_layout
    from semanir_plugin.inference.loading import build_network

    torch.manual_seed(0)
    for options in (NETWORK, SEMANIR, UNET):
        weights = dict(build_network(options, "").state_dict())
        yield {"params": weights, "network_g": dict(options), "semanir_plugin": {"format": 1, "version": "0"}}
    swinir = dict(build_network(SWINIR, "").state_dict())
    yield {"params": swinir, "params_ema": dict(swinir), "network_g": dict(SWINIR)}
    yield {"params": swinir}
    yield swinir
    yield {"state_dict": {f"module.{key}": value for key, value in swinir.items()}, "epoch": 3}
    yield {"state_dict": to_authors_layout(build_network(AST, "").state_dict()), "optimizer": {}}


def saved(tree: Any, *, zipped: bool = True) -> bytes:
    """Return what torch writes of a checkpoint, today or before version 1.6."""
    import torch

    file = io.BytesIO()
    torch.save(tree, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def draw_stored(random: Random) -> Any:
    """Return a value that a checkpoint may hold, mostly in another place."""
    import torch

    def tensor() -> Any:
        shape = [random.choice((0, 1, 2, 4, 16)) for _ in range(random.randint(0, 4))]
        return torch.ones(shape)

    match random.choice(("value", "value", "tensor", "type", "kind", "numbers")):
        case "tensor":
            return tensor()
        case "type":
            types = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64)
            return tensor().to(random.choice(types))
        case "kind":
            kinds = (
                lambda: tensor().to_sparse(),
                lambda: torch.full((2, 3), float("nan")),
                lambda: torch.empty(3, 2, device="meta"),
                lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8),
                lambda: torch.ones(1).expand(10**6, 10**6),
                lambda: torch.nn.Parameter(torch.ones(2, 2)),
                lambda: {"params": tensor()},
            )
            return random.choice(kinds)()
        case "numbers":
            return [random.choice((0, 1, 4, 10**6, 2**40)) for _ in range(random.randint(1, 3))]
        case _:
            value = draw_value(random)
            return value if storable(value) else None


def storable(value: Any) -> bool:
    """Return whether torch reads a value back without running code."""
    if isinstance(value, dict | list):
        return all(map(storable, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, bool | int | float | str | bytes)
