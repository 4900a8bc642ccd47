"""What precisions are worth where exported networks run: quality and time of each, beside PyTorch.

    python3 scripts/measure_exports.py --model semanir-mini-x4 --images DIR --calibrate DIR

Exports the network to ONNX, makes of it what less precision there is in onnxruntime and OpenVINO on a CPU, and prints
for each the PSNR against PyTorch's results on the images, and the least processor time of runs by turns, on one thread.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from semanir_plugin.export.exporting import ExportArguments, export_network
from semanir_plugin.export.lowering import restoration_of
from semanir_plugin.inference.loading import load

Array = NDArray[Any]
Run = Callable[[Array], Array]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
CALIBRATED_ON = 12


def main() -> int:
    """Measure, print a table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="checkpoint, or name of shipped weights")
    parser.add_argument("--images", required=True, type=Path, help="folder of photographs to restore")
    parser.add_argument(
        "--calibrate", required=True, type=Path, help="folder of photographs that int8 is calibrated on"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(127, 133), help="crop of the photographs (127 133)")
    parser.add_argument("--repeats", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = [crop(path, *args.size) for path in photographs(args.images)]
    calibration = [crop(path, 128, 128) for path in photographs(args.calibrate)[:CALIBRATED_ON]]
    with tempfile.TemporaryDirectory() as folder:
        runs = dict(variants(args.model, Path(folder), calibration))
        report(runs, images, args.repeats)
    return 0


def photographs(folder: Path) -> list[Path]:
    """Return the photographs in a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def crop(path: Path, height: int, width: int) -> Array:
    """Return the upper left of a photograph, (1, 3, height, width) in [0, 1]."""
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)[:height, :width] / 255
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def variants(model: str, folder: Path, calibration: Sequence[Array]) -> Iterator[tuple[str, Run]]:
    """Yield PyTorch, and each precision in each runtime, by name."""
    restorer = load(model, device="cpu")
    restoration = restoration_of(restorer.descriptor, None)
    yield "PyTorch", lambda image: restoration.restore(restorer.module, torch.from_numpy(image)).numpy()
    path = folder / "network.onnx"
    export_network(ExportArguments(model=model, format="onnx", output=str(path)))
    yield "onnxruntime fp32", in_onnxruntime(path)
    yield "onnxruntime fp16", in_onnxruntime(halve(path))
    yield "OpenVINO fp32", in_openvino(path, "f32")
    yield "OpenVINO bf16", in_openvino(path, "bf16")
    for name, operators in (("convolutions", ["Conv"]), ("convolutions and products", ["Conv", "MatMul"])):
        quantised = quantise(path, operators, calibration)
        yield f"onnxruntime int8, {name}", in_onnxruntime(quantised)
        yield f"OpenVINO int8, {name}", in_openvino(quantised, "f32")


def in_onnxruntime(path: Path) -> Run:
    """Return what restores by a file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda image: session.run(None, {"image": image})[0]


def in_openvino(path: Path, precision: str) -> Run:
    """Return what restores by a file in OpenVINO."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda image: compiled(image)[0]


def halve(path: Path) -> Path:
    """Write the network in fp16, but for its input and its output."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    target = path.with_name("fp16.onnx")
    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True, disable_shape_infer=True), target)
    return target


def quantise(path: Path, operators: list[str], calibration: Sequence[Array]) -> Path:
    """Write the network with some of its operators in int8, of ranges as they are on photographs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quant_pre_process, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image}

    prepared, target = path.with_name("prepared.onnx"), path.with_name(f"int8_{len(operators)}.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=operators,
        extra_options={"MatMulConstBOnly": True},
    )
    return target


def report(runs: dict[str, Run], images: Sequence[Array], repeats: int) -> None:
    """Print quality and time of each."""
    expected = [runs["PyTorch"](image) for image in images]
    least = dict.fromkeys(runs, math.inf)
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run(images[0])
            least[name] = min(least[name], time.process_time() - start)
    print("| | worst PSNR against PyTorch, dB | largest difference, of 255 | ms | of PyTorch's |")
    print("|---|---:|---:|---:|---:|")
    for name, run in runs.items():
        restored = [run(image) for image in images]
        psnr = min(map(psnr_of, restored, expected))
        levels = max(np.abs(eight_bit(a) - eight_bit(b)).max() for a, b in zip(restored, expected, strict=True))
        ratio = least[name] / least["PyTorch"]
        print(f"| {name} | {psnr:.1f} | {levels} | {1e3 * least[name]:.0f} | {ratio:.2f} |")


def psnr_of(image: Array, expected: Array) -> float:
    """Return the PSNR of values in [0, 1], in dB."""
    error = float(((image.astype(np.float64) - expected) ** 2).mean())
    return -10 * math.log10(error) if error else math.inf


def eight_bit(image: Array) -> Array:
    """Return what a file of 8 bit would hold."""
    return np.round(image.clip(0, 1) * 255).astype(int)


if __name__ == "__main__":
    sys.exit(main())
