"""Pack for a machine without a network: one folder with this repository, packages and photographs."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bootstrap import ROOT

from semanir_plugin.basicsr_host.install import InstallError, build_wheel
from semanir_plugin.evaluation.benchmark.measuring import read_commit

__all__ = ["make_pack"]

# A bare machine with CUDA has torch, Triton, OpenCV, scikit-image and what they need; not these.
PACKAGES = ("einops", "lmdb", "mmengine", "addict", "yapf", "platformdirs", "termcolor", "pytest-timeout")
PYTHON = "3.12"
PLATFORMS = [f"manylinux{tag}_x86_64" for tag in ("_2_28", "_2_27", "_2_17", "2014", "1")]
LIMIT = 60_000_000  # bytes that travel, the repository included


def make_pack(folder: Path, data: Path | None, start: Path | None) -> str:
    """Fill a folder of this repository and return the command to run on the other machine.

    Args:
        folder: What it held is replaced.
        data: Has train/BSD400 and test/Set5; of the former as many photographs as fit are taken.
        start: What an earlier training left: parts or weights.

    Raises:
        UserError: The folder lies elsewhere, or a package cannot be had.
    """
    from semanir_plugin.errors import UserError

    if ROOT not in folder.resolve().parents:
        raise UserError(f"{folder}: lies outside of {ROOT}, with which it travels; name a folder in it, such as pack")
    shutil.rmtree(folder, ignore_errors=True)
    _install_packages(folder / "site")
    if start is not None:
        shutil.copytree(start, folder / "start")
    if data is not None:
        shutil.copytree(data / "test" / "Set5", folder / "data" / "test" / "Set5")
        _copy_photographs(data / "train" / "BSD400", folder)
    return _command(folder.resolve().relative_to(ROOT), data, start)


def _install_packages(site: Path) -> None:
    """Unpack wheels for the other machine's Python; BasicSR, which has none, is built."""
    with tempfile.TemporaryDirectory() as wheels:
        _build_basicsr(Path(wheels))
        pins = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        target = ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp", *platforms]
        _pip("download", *target, "--dest", wheels, *pins)
        _pip(
            "install",
            *target,
            "--no-index",
            "--no-compile",
            "--target",
            str(site),
            *map(str, Path(wheels).glob("*.whl")),
        )


def _build_basicsr(wheels: Path) -> None:
    from semanir_plugin.errors import UserError

    try:
        build_wheel(wheels)
    except (InstallError, subprocess.CalledProcessError) as error:
        raise UserError(f"BasicSR cannot be built: {error}") from error


def _pip(verb: str, *words: str) -> None:
    from semanir_plugin.errors import UserError

    command = [sys.executable, "-m", "pip", verb, "--no-deps", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no word").splitlines()[-1]
        raise UserError(f"pip {verb} failed: {last}; packing takes a network")


def _copy_photographs(source: Path, folder: Path) -> None:
    target = folder / "data" / "train" / source.name
    target.mkdir(parents=True)
    room = LIMIT - _tracked_bytes() - sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for photo in sorted(source.iterdir()):
        room -= photo.stat().st_size
        if room < 0:
            return
        shutil.copy(photo, target)


def _tracked_bytes() -> int:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sum((ROOT / name).stat().st_size for name in names if name and (ROOT / name).is_file())


def _command(folder: Path, data: Path | None, start: Path | None) -> str:
    words = ["--minutes", "9", "--output", "$OUT", "--commit", read_commit() or "unknown"]
    words += ["--data", f"{folder}/data"] if data else []
    words += ["--start", f"{folder}/start"] if start else []
    environment = f"SEMANIR_VENV=0 PYTHONUNBUFFERED=1 PYTHONPATH=$PWD:$PWD/{folder}/site"
    return f"{environment} python3 scripts/check_gpu.py {' '.join(words)}"
