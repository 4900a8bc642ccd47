"""What an sdist and a wheel hold."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile

from tests.conftest import ROOT

PARTS = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])"


def build(kind, folder, out):
    out.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, kind, out], cwd=folder, check=True, capture_output=True)
    return next(out.iterdir())


def recipes(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    return {name.rpartition("/")[2] for name in names if name.startswith("semanir_plugin/recipes/")}


def test_a_wheel_and_one_of_the_sdist_hold_the_option_files(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("*.safetensors", "__pycache__")
    shutil.copytree(ROOT / "semanir_plugin", source / "semanir_plugin", symlinks=True, ignore=ignored)
    shutil.copytree(ROOT / "options", source / "options")
    for name in PARTS:
        shutil.copy(ROOT / name, source)
    with tarfile.open(build("sdist", source, tmp_path / "sdist")) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    expected = {path.name for path in (ROOT / "options").iterdir()}
    assert recipes(build("wheel", source, tmp_path / "wheel")) == expected
    assert recipes(build("wheel", unpacked, tmp_path / "wheel_of_sdist")) == expected
