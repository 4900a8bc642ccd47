"""Fuzzing that is guided by the branches it reaches: atheris, libFuzzer for Python, where it is installed.

    python -m tests.security.guided_fuzz {options,overrides,images} [LIBFUZZER_FLAG ...]

It mutates shipped option files, overrides and small images until time is up (-max_total_time=SECONDS) or something
raises what no user should see. Then it says with what, writes that input to a file crash-*, and fails. What it works on
is left in the working directory, too.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["semanir_plugin", "yaml", "PIL", "tifffile"]):
    import cv2
    import numpy as np

    import semanir_plugin  # noqa: F401  # attaches to BasicSR, which comes next
    import basicsr  # noqa: F401  # isort: skip

    from semanir_plugin.basicsr_host.engine import validation
    from semanir_plugin.basicsr_host.engine.options import resolve_options
    from semanir_plugin.basicsr_host.engine.run import read_run_options
    from semanir_plugin.errors import UserError
    from semanir_plugin.inference.images import decode_image
    from semanir_plugin.inference.photograph_reading import decode_photograph

RECIPES = sorted((Path(__file__).parents[2] / "options").glob("*.yml"))
FOLDER = Path(tempfile.mkdtemp(prefix="guided_fuzz_", dir="."))


def refused_in_one_line(check: Callable[[], object], *kinds: type[Exception]) -> None:
    """Do something that may raise some kinds of errors, with one line, and no others."""
    try:
        check()
    except kinds as error:
        if len(str(error).splitlines()) > 1:
            raise RuntimeError("refused in more than a line") from error


def check_options(*entries: str, is_train: bool = True) -> None:
    file = read_run_options(FOLDER / "x.yml", entries, is_train=is_train)
    validation.validate_options(file, is_train=is_train)
    resolve_options(file, is_train=is_train, root=Path())


def fuzz_options(content: bytes) -> None:
    (FOLDER / "x.yml").write_bytes(content)
    for is_train in (True, False):
        refused_in_one_line(partial(check_options, is_train=is_train), UserError)


def fuzz_overrides(content: bytes) -> None:
    which, *entries = content.decode(errors="surrogateescape").split("\n")
    recipe = RECIPES[len(which) % len(RECIPES)]
    (FOLDER / "x.yml").write_bytes(recipe.read_bytes())
    is_train = recipe.name.startswith("train")
    refused_in_one_line(partial(check_options, *entries, is_train=is_train), UserError)


def fuzz_images(content: bytes) -> None:
    for channels in ("color", "gray", "y"):
        refused_in_one_line(partial(decode_image, content, channels), ValueError)
    refused_in_one_line(partial(decode_photograph, content), ValueError)


def seeds(target: str) -> list[bytes]:
    """Inputs to start from."""
    if target == "options":
        return [path.read_bytes() for path in RECIPES[::8]]
    if target == "overrides":
        entries = "train:ema_decay=0.9\nnetwork_g:depths=[1, 2]\npath:strict_load_g=false\ndatasets:val=~"
        return [("x" * index + "\n" + entries).encode() for index in range(0, len(RECIPES), 8)]
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    deep = cv2.imencode(".png", image.astype(np.uint16) * 257)[1].tobytes()
    return [cv2.imencode(suffix, image)[1].tobytes() for suffix in (".png", ".jpg", ".webp", ".bmp", ".tiff")] + [deep]


TARGETS = {"options": fuzz_options, "overrides": fuzz_overrides, "images": fuzz_images}


def main() -> None:
    """Fuzz what the command line names; libFuzzer ends the process."""
    target, *flags = sys.argv[1:]
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for index, content in enumerate(seeds(target)):
        (corpus / f"seed{index}").write_bytes(content)
    limits = ["-timeout=60", "-rss_limit_mb=4096", "-max_len=8192"]
    atheris.Setup([sys.argv[0], *limits, *flags, str(corpus)], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
