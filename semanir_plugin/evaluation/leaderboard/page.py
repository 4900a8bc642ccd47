"""A leaderboard as one HTML page that needs no network: table, plot of quality against cost, and the images."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.evaluation.pictures import most_detailed_crop

__all__ = ["write_page"]

FILES = Path(__file__).parent / "page_files"
SCRIPTS = ("elements.js", "columns.js", "table.js", "plot.js", "slider.js", "viewer.js", "main.js")

QUALITY = 92
DETAIL = 48
LARGEST_SIDE = 640  # of an embedded image; of a larger one, the most detailed part
# Files of a few hundred bytes each way round the limit do not matter; what a phone can open does.
BUDGET = 16 * 2**20

Picture = dict[str, Any]
Pixels = NDArray[np.uint8]


def write_page(results: Mapping[str, Any], folder: Path, path: Path, *, budget: int = BUDGET) -> None:
    """Write a leaderboard as one file of HTML, with its images in it.

    Images are encoded again as JPEG, and of each test set those are taken on which the models differ most, as many as
    `budget` allows but at least one; the page says so. Whatever the results contain is shown as text.

    Args:
        results: The contents of `results.json`.
        folder: Where `results.json` lies: its image paths start there.
        path: The page.
        budget: Bytes of JPEG that all images together may take.

    Raises:
        OSError: The page cannot be written.
    """
    pictures, missing = _choose_pictures(results, folder, budget)
    data = {
        "results": _without_paths(results),
        "pictures": pictures,
        "encoding": {"quality": QUALITY, "side": LARGEST_SIDE, "missing": missing},
    }
    style = (FILES / "page.css").read_text(encoding="utf-8")
    script = "(() => {\n" + "\n".join((FILES / name).read_text(encoding="utf-8") for name in SCRIPTS) + "})();\n"
    values = {
        "policy": f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'",
        "title": html.escape(str(results["title"])),
        "style": style,
        "script": script,
        "data": _to_json(data),
    }
    template = (FILES / "page.html").read_text(encoding="utf-8")
    page = re.sub(r"@(\w+)@", lambda found: values[found[1]], template)
    write_atomic(page.encode(), path)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _to_json(data: Any) -> str:
    """Return JSON that is safe within a script element: no text in it can end the element."""
    text = json.dumps(_spell_out(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _spell_out(value: Any) -> Any:
    # JSON has no infinity, which is the PSNR of equal images; a script's Number() reads these words.
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _spell_out(each) for key, each in value.items()}
    return [_spell_out(each) for each in value] if isinstance(value, list | tuple) else value


def _without_paths(results: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for row in results["rows"]:
        cells = {
            name: {**cell, "images": [{"name": each["name"], "scores": each["scores"]} for each in _images(cell)]}
            for name, cell in row["cells"].items()
        }
        rows.append({**row, "cells": cells})
    return {**{key: value for key, value in results.items() if key != "references"}, "rows": rows}


def _images(cell: Mapping[str, Any]) -> list[Any]:
    return list(cell.get("images") or [])


def _choose_pictures(
    results: Mapping[str, Any], folder: Path, budget: int
) -> tuple[dict[str, list[Picture]], list[str]]:
    """Return the pictures by test set, in the order of the references, and the files that cannot be shown."""
    chosen: dict[str, dict[str, Picture]] = {}
    missing: list[str] = []
    for test_set, image in _by_interest(results):
        if budget <= 0 and chosen.get(test_set):
            continue
        picture = _encode_versions(_versions(results, test_set, image), folder, missing)
        if picture:
            budget -= sum(len(each) for each in picture["versions"].values()) * 3 // 4  # base64
            chosen.setdefault(test_set, {})[image] = {"name": image, **picture}
    references = results.get("references") or {}
    pictures = {
        test_set: [found[image] for image in references[test_set] if image in found]
        for test_set, found in chosen.items()
    }
    return pictures, missing


def _by_interest(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield images, by test sets in turn, from the one on which the models differ most to the least."""
    queues = []
    for test_set, images in (results.get("references") or {}).items():
        spread = _spreads(results, test_set)
        names = sorted(images, key=lambda name: -spread.get(name, 0.0))  # sorted here
        queues.append([(test_set, name) for name in names])
    yield from (each for each in chain.from_iterable(zip_longest(*queues)) if each is not None)


def _spreads(results: Mapping[str, Any], test_set: str) -> dict[str, float]:
    metric = results["metrics"][0]["name"]
    scores: dict[str, list[float]] = {}
    for row in results["rows"]:
        for image in _images(row["cells"].get(test_set, {})):
            value = image["scores"].get(metric)
            if value is not None and math.isfinite(value):
                scores.setdefault(image["name"], []).append(value)
    return {name: max(values) - min(values) for name, values in scores.items()}


def _versions(results: Mapping[str, Any], test_set: str, image: str) -> dict[str, str]:
    """Return the files that show an image: "truth", "input", and by the number of its row each model's."""
    reference = results["references"][test_set][image]
    versions = {"truth": reference["truth"], "input": reference.get("input")}
    for index, row in enumerate(results["rows"]):
        for each in _images(row["cells"].get(test_set, {})):
            if each["name"] == image:
                versions[str(index)] = each.get("output")
    return {version: path for version, path in versions.items() if path}


def _encode_versions(versions: Mapping[str, str], folder: Path, missing: list[str]) -> Picture | None:
    """Return an image's crops for the page, as data URLs; add to `missing` the files unreadable or of another size.

    Without a readable truth, or anything to compare it with, there is no picture.
    """
    truth = _read(folder / versions["truth"])
    if truth is None:
        missing.append(versions["truth"])
        return None
    height, width = (min(side, LARGEST_SIDE) for side in truth.shape[:2])
    top, left = most_detailed_crop(truth, (height, width))
    inner = (slice(top, top + height), slice(left, left + width))
    encoded = {}
    for version, path in versions.items():
        pixels = truth if version == "truth" else _read(folder / path)
        if pixels is None or pixels.shape != truth.shape:
            missing.append(path)
            continue
        encoded[version] = _encode(pixels[inner])
    if len(encoded) < 2:
        return None
    cut = (height, width) != truth.shape[:2]
    return {"height": height, "width": width, "cut": cut, "detail": _detail(truth[inner]), "versions": encoded}


def _detail(truth: Pixels) -> dict[str, int]:
    """Return the part of an image that the page enlarges first."""
    side = min(DETAIL, *truth.shape[:2])
    top, left = most_detailed_crop(truth, side)
    return {"top": top, "left": left, "side": side}


def _read(path: Path) -> Pixels | None:
    try:
        return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)  # type: ignore[return-value]
    except (OSError, cv2.error):  # the latter where the file is empty
        return None


def _encode(pixels: Pixels) -> str:
    full_colour = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    done, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *full_colour])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()
