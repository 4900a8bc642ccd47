"""Fixtures of all tests: photographs, small data sets, and option files made of the shipped ones."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import skimage
import torch

# Kernels run in Triton's interpreter where there is no GPU; they look for this when they are imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import semanir_plugin  # noqa: F401  # attaches to BasicSR before any test imports it
from semanir_plugin.ops.common.triton_support import why_not

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = Path(skimage.__file__).parent / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Have yapf, which mmengine imports, write its cache before the workers start and read each other's half."""
    if not hasattr(config, "workerinput") and importlib.util.find_spec("yapf"):
        importlib.import_module("yapf")


@pytest.fixture(scope="module", autouse=True)
def _spare_what_lives_on():
    """Keep the collector from looking through a million objects of libraries again and again: a tenth of all time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def photos() -> dict[str, Path]:
    """Photographs in scikit-image's wheel, by name."""
    return {name: PHOTOS / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")}


@pytest.fixture(scope="session")
def sr_data(tmp_path_factory, photos) -> Path:
    """x4 pairs of small crops: `train` as LMDB, `val` (odd sizes, H != W) as folders."""
    import cv2

    from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs

    folder = tmp_path_factory.mktemp("sr_data")
    crops = {"train": (5, 64, 80), "val": (2, 60, 84)}
    for phase, (count, height, width) in crops.items():
        source = folder / f"{phase}_photos"
        source.mkdir()
        for index in range(count):
            image = cv2.imread(str(list(photos.values())[index % len(photos)]))
            top = 40 + 20 * index
            cv2.imwrite(str(source / f"{phase}{index}.png"), image[top : top + height, 100 : 100 + width])
        write_sr_pairs(source.iterdir(), folder / phase, 4, lmdb=phase == "train")
    return folder


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """The folder named by SEMANIR_DATA, with test/Set5 and others; tests that need it skip without."""
    folder = Path(os.environ.get("SEMANIR_DATA", ""))
    if not (folder / "test" / "Set5").is_dir():
        pytest.skip("SEMANIR_DATA does not name a folder with test/Set5")
    return folder.resolve()


@pytest.fixture(scope="module")
def browser(running_browser):
    """Headless Chromium, driven by Selenium; its console is in `get_log("browser")`."""
    yield running_browser
    running_browser.get("about:blank")  # a page that moves would take a processor until all tests are done


@pytest.fixture(scope="session")
def running_browser():
    """The browser that tests share; that without windows takes less time to start."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    shells = [shutil.which(name) for name in ("chromium-headless-shell", "chromium")]
    programs = next(filter(None, shells), None), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("Chromium is not on PATH (Debian: apt-get install chromium-headless-shell chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,900"):
        options.add_argument(argument)
    for argument in ("quic", "background-networking", "component-update", "sync"):  # it is to ask nobody
        options.add_argument(f"--disable-{argument}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # without which Chromium refuses to run as root, as in a container
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture
def kernel_device() -> str:
    """Return the device that Triton kernels run on here: a GPU, or the CPU in Triton's interpreter."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if reason := why_not(torch.device(device)):
        pytest.skip(reason)
    return device


@pytest.fixture
def python(tmp_path):
    """Runs code in a fresh interpreter that has imported nothing yet, and returns what it printed."""

    def run(code: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def stock():
    """Executes one of BasicSR's modules afresh, under no name, so that its classes are as BasicSR wrote them."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.find_spec(name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_log_of_an_earlier_test():
    yield
    logger = logging.getLogger("basicsr")
    for handler in list(logger.handlers):  # they write to a stderr that was this test's
        logger.removeHandler(handler)
        handler.close()
    if "basicsr.utils.logger" in sys.modules:  # or its next logger would have none
        sys.modules["basicsr.utils.logger"].initialized_logger.clear()


TINY_NETWORK = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 8, "topk": 12}


def tiny_overrides(data: Path, **more: object) -> list[str]:
    """`--force_yml` entries that shrink the shipped x4 recipe to seconds on a CPU, on the data of `sr_data`."""
    values = {
        "datasets:train:dataroot_gt": data / "train" / "GT.lmdb",
        "datasets:train:dataroot_lq": data / "train" / "LR_bicubic_X4.lmdb",
        "datasets:train:gt_size": 32,
        "datasets:train:batch_size_per_gpu": 2,
        "datasets:train:num_worker_per_gpu": 0,
        "datasets:val:dataroot_gt": data / "val" / "GT",
        "datasets:val:dataroot_lq": data / "val" / "LR_bicubic_X4",
        **{f"network_g:{key}": value for key, value in TINY_NETWORK.items()},
        "network_g:upsampler": "pixelshuffledirect",
        "train:amp": "~",
        "num_gpu": 0,
        "logger:use_tb_logger": "false",
        **{key.replace("__", ":"): value for key, value in more.items()},
    }
    return [f"{key}={value}" for key, value in values.items()]
