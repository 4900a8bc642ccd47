"""Data of trainings: BSD400 and what comes beside it, at several sizes, as LMDBs; made once. Small validation sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainings import files
from trainings.files import Options

CROP = 240  # side of the sub-images that are stored


@dataclass(frozen=True)
class Photographs:
    """How photographs are prepared.

    Attributes:
        suffix: Of the folders' names.
        sizes: At which they are learnt from: smaller ones have finer detail, and none of what JPEG left.
        rain: Times the usual number of drops, in turn over images and their sizes, where rain is to be removed.
    """

    suffix: str = ""
    sizes: tuple[float, ...] = (1.0, 0.8, 0.6)
    rain: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)


USUAL = Photographs()
# BSD400 are JPEG files, whose colours have half the resolution: a network learns from them that all colours do.
HALVED = Photographs("_halved", sizes=(0.5,))
DOWNPOUR = Photographs("_downpour", rain=(4.0,))  # about 19 dB on Kodak24
PHOTOGRAPHS = {"usual": USUAL, "halved": HALVED, "downpour": DOWNPOUR}


def suited_photographs(recipe: Options) -> Photographs:
    """Return the photographs that a recipe should learn from: what is to be demosaicked needs colours at full size."""
    return HALVED if recipe["datasets"]["train"]["type"] == "DemosaicDataset" else USUAL


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other training in this working directory makes data, and keep others waiting meanwhile."""
    from filelock import FileLock

    Path("weights").mkdir(exist_ok=True)
    with FileLock(Path("weights", "data.lock")):
        yield


def make_training_set(
    recipe: Options, folders: Sequence[Path], workers: int, photographs: Photographs = USUAL
) -> Options:
    """Return the recipe's training set, moved to LMDBs of the folders' images that are made where they are missing."""
    dataset: Options = recipe["datasets"]["train"]
    images, name = enlarge_set(folders, workers, photographs), join_names(folders)
    if "dataroot_lq" not in dataset:
        clean = Path("weights", "data", f"{name}{photographs.suffix}.lmdb")
        if not clean.exists():
            files.basicsr("prepare", "lmdb", "-i", str(images), "-o", str(clean), "--crop", str(CROP))
        return dataset | {"dataroot_gt": str(clean), "io_backend": {"type": "lmdb"}}
    gt, lq = make_pairs(images, name, recipe.get("scale", 1), workers, photographs)
    return dataset | {"dataroot_gt": str(gt), "dataroot_lq": str(lq), "io_backend": {"type": "lmdb"}}


def join_names(folders: Sequence[Path]) -> str:
    """Return what files that are made of these folders' images begin with."""
    return "+".join(folder.name for folder in folders)


def make_pairs(
    images: Path, name: str, scale: int, workers: int, photographs: Photographs = USUAL
) -> tuple[Path, Path]:
    """Return LMDBs of ground truths and inputs: LR images, or rainy ones at scale 1."""
    from semanir_plugin.basicsr_host.data.pairing import find_images
    from semanir_plugin.basicsr_host.data.rain_pairs import write_rain_pairs
    from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs

    kind = f"x{scale}" if scale > 1 else "rain"
    folder = Path("weights", "data", f"{name}_{kind}{photographs.suffix}")
    gt, lq = folder / "GT.lmdb", folder / (f"LR_bicubic_X{scale}.lmdb" if scale > 1 else "LQ.lmdb")
    if gt.exists() and lq.exists():
        return gt, lq
    if scale > 1:
        write_sr_pairs(find_images(images), folder, scale, crop=CROP, lmdb=True, raw=True, workers=workers)
    else:
        write_rain_pairs(str(images), folder / "images", 1, photographs.rain)
        inputs = [str(folder / "images" / each) for each in ("GT", "LQ")]
        files.basicsr("prepare", "lmdb", "-i", *inputs, "-o", str(gt), str(lq), "--crop", str(CROP))
    return gt, lq


def enlarge_set(folders: Sequence[Path], workers: int, photographs: Photographs = USUAL) -> Path:
    """Return a folder of these folders' photographs at several sizes, made where it is missing."""
    from tqdm import tqdm

    from semanir_plugin.basicsr_host.data.in_order import in_order

    folder = Path("weights", "data", f"{join_names(folders)}_sizes{photographs.suffix}")
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.part")
    unfinished.mkdir(parents=True, exist_ok=True)
    photos = [path for images in folders for path in sorted(images.iterdir())]
    resized = in_order(lambda path: resize(path, unfinished, photographs.sizes), photos, workers)
    for _ in tqdm(resized, desc="Resizing", total=len(photos), unit="image", disable=None):
        pass
    unfinished.rename(folder)
    return folder


def resize(path: Path, folder: Path, sizes: Sequence[float]) -> None:
    """Write a photograph at several sizes, without spending time on compression."""
    from PIL import Image

    photo = Image.open(path).convert("RGB")
    for scale in sizes:
        size = (round(photo.width * scale), round(photo.height * scale))
        smaller = photo if scale == 1 else photo.resize(size, Image.Resampling.LANCZOS)
        smaller.save(folder / f"{path.parent.name}_{path.stem}_{round(100 * scale)}.bmp")


def make_validation_sets(recipe: Options, data: Path, photographs: Photographs = USUAL) -> dict[str, Options]:
    """Return the validation set, small since it is used often: Set5, or Set12 for gray images.

    A recipe that learns several degradations keeps all its sets, with these images.
    """
    train = recipe["datasets"]["train"]
    sets = {key: each for key, each in recipe["datasets"].items() if each and key.partition("_")[0] == "val"}
    name = "Set12" if train.get("num_channels") == 1 else "Set5"
    images, disk = (data / "test" / name).resolve(), {"io_backend": {"type": "disk"}}
    clean = disk | {"dataroot_gt": str(images)}
    if train["type"] == "MixedDegradationDataset":
        return {phase: each | clean for phase, each in sets.items()}
    if recipe.get("scale", 1) > 1 and "dataroot_lq" in train:
        return {"val": {"type": "BicubicSRDataset", "name": name, **clean}}
    val: Options = next(iter(sets.values())) | {"name": name}
    if "dataroot_lq" not in train:
        return {"val": val | clean}
    pairs = make_rain(images, photographs)
    return {"val": val | disk | {"dataroot_gt": str(pairs / "GT"), "dataroot_lq": str(pairs / "LQ")}}


def make_rain(images: Path, photographs: Photographs) -> Path:
    """Return a folder with `GT` and `LQ` of test images in the rain, made where it is missing."""
    from semanir_plugin.basicsr_host.data.rain_pairs import write_rain_pairs

    pairs = Path("weights", "data", f"{images.name}_rain{photographs.suffix}")
    if not pairs.exists():
        write_rain_pairs(str(images), pairs, 2, photographs.rain)
    return pairs
