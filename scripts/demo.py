"""Train a small SemanIR x4 on real photographs, score it on others, and plot its results.

Everything goes under the working directory: datasets/demo, experiments/demo_SemanIR_SRx4, results/demo_*.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bootstrap import ROOT, run_in_venv

SCALE = 4
DATA = Path("datasets/demo")
TRAIN_OPT = ROOT / "options" / "train_SemanIR_demo_SRx4.yml"
TEST_OPT = ROOT / "options" / "test_SemanIR_demo_SRx4.yml"
BICUBIC_OPT = ROOT / "options" / "test_Bicubic_demo_SRx4.yml"

# Photographs in scikit-image's wheel that are free of restrictions; the other images there are drawings and text.
TRAIN_PHOTOS = (
    *("brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png"),
    *("moon.png", "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg"),
)
TEST_PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png")


def main() -> int:
    """Run the demo; return the exit code."""
    args = parse_arguments()
    run_in_venv()
    from semanir_plugin.errors import UserError

    try:
        run_demo(args)
    except UserError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:  # it has said why
        return error.returncode
    except KeyboardInterrupt:
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder of photographs, instead of scikit-image's")
    parser.add_argument("--seconds", type=float, default=100, help="how long to train, roughly (default: 100)")
    return parser.parse_args()


def run_demo(args: argparse.Namespace) -> None:
    """Prepare, train, test and report."""
    from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs

    started = time.time()
    train, test = find_photos(args.data)
    print(f"{len(train)} photographs to train on, {len(test)} kept out: {', '.join(path.name for path in test)}")
    write_sr_pairs(train, DATA / "train", SCALE, crop=256, lmdb=True)
    write_sr_pairs(test, DATA / "test", SCALE)
    total_iter = choose_iterations(args.seconds)
    basicsr("train", TRAIN_OPT, f"train:total_iter={total_iter}", f"train:scheduler:periods=[{total_iter}]")
    basicsr("test", BICUBIC_OPT)
    basicsr("test", TEST_OPT)
    report(test, total_iter, time.time() - started)


def find_photos(folder: Path | None) -> tuple[list[Path], list[Path]]:
    """Return the photographs to train on and those kept out: of a user's folder, every eighth."""
    from semanir_plugin.basicsr_host.data.pairing import find_images
    from semanir_plugin.errors import UserError

    if folder is None:
        import skimage

        photos = Path(skimage.__file__).parent / "data"
        return [photos / name for name in TRAIN_PHOTOS], [photos / name for name in TEST_PHOTOS]
    images = find_images(folder)
    if len(images) < 2:
        raise UserError(f"{folder}: one image to train on and one to keep out are needed at least, found {len(images)}")
    test = images[::8]
    return [path for path in images if path not in test], test


def choose_iterations(seconds: float) -> int:
    """Time a few training steps and return how many fit, in hundreds: from 200 to 3,000."""
    import basicsr.archs
    import torch

    from semanir_plugin.option_files import load_options

    opt = load_options(TRAIN_OPT).data
    train_opt = opt["datasets"]["train"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = basicsr.archs.build_network(opt["network_g"]).to(device)
    size = train_opt["gt_size"] // SCALE
    batch = torch.rand(train_opt["batch_size_per_gpu"], 3, size, size, device=device)
    for step in range(7):
        if step == 2:  # the first ones warm up
            start = time.perf_counter()
        net(batch).mean().backward()
        next(net.parameters()).sum().item()  # waits for the device
    per_step = (time.perf_counter() - start) / 5
    return 100 * round(min(max(seconds / per_step, 200), 3000) / 100)


def basicsr(subcommand: str, opt: Path, *overrides: str) -> None:
    """Run the `basicsr` command, shown as a user would type it."""
    arguments = [subcommand, "-opt", os.path.relpath(opt), *(["--force_yml", *overrides] if overrides else [])]
    print("\n$ basicsr", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "semanir_plugin.cli", *arguments], check=True)


def report(test: list[Path], total_iter: int, seconds: float) -> None:
    """Print the scores and draw the comparison."""
    scores = {name: read_scores(name) for name in ("demo_Bicubic_SRx4", "demo_SemanIR_SRx4")}
    bicubic, ours = scores.values()
    print(f"\nx{SCALE} on {len(test)} photographs kept out of training, Y channel, {SCALE} border pixels cropped:")
    for label, each in (("bicubic", bicubic), (f"SemanIR, {total_iter} iterations", ours)):
        print(f"  {label:26s} PSNR {each['psnr']:.2f} dB   SSIM {each['ssim']:.4f}")
    print(f"  {'gain':26s}      {ours['psnr'] - bicubic['psnr']:+.2f} dB        {ours['ssim'] - bicubic['ssim']:+.4f}")
    picture = Path("results/demo_SemanIR_SRx4/comparison.png")
    plot_comparison(test).save(picture)
    print(f"Comparison picture: {picture.resolve()}")
    print(f"Done in {seconds:.0f} s.")


def read_scores(name: str) -> dict[str, float]:
    """Return the metrics of one test run."""
    scores: dict[str, Any] = json.loads(Path("results", name, "metrics.json").read_text())
    return next(iter(scores.values()))


def plot_comparison(test: list[Path]) -> Any:
    """Plot LR, bicubic, ours and HR of every kept-out photograph."""
    import numpy as np
    from PIL import Image

    from semanir_plugin.evaluation.pictures import Comparison, compare_crops

    def read(*parts: str) -> Any:
        return np.asarray(Image.open(Path(*parts)).convert("RGB"))

    rows = []
    for name in (path.stem for path in test[:6]):
        truth = read(str(DATA), "test/GT", f"{name}.png")
        versions = {"low resolution": read(str(DATA), f"test/LR_bicubic_X{SCALE}", f"{name}.png")}
        for label, run in (("bicubic", "demo_Bicubic_SRx4"), ("SemanIR", "demo_SemanIR_SRx4")):
            image = read("results", run, "visualization/demo", f"{name}_{run}.png")
            versions[f"{label}, {luma_psnr(image, truth):.2f} dB"] = image
        rows.append(Comparison(name, truth, {**versions, "ground truth": truth}))
    return compare_crops(rows)


def luma_psnr(image: Any, truth: Any) -> float:
    """Return the PSNR of two RGB images as the test reports it."""
    from basicsr.metrics import calculate_psnr

    result: float = calculate_psnr(image[..., ::-1], truth[..., ::-1], crop_border=SCALE, test_y_channel=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
