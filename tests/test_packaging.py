"""What an sdist and a wheel hold."""

from __future__ import annotations

import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import yaml

import semanir_plugin
from tests.conftest import ROOT

PARTS = ("pyproject.toml", "setup.cfg", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CITATION.cff")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])"


def build(kind, folder, out):
    out.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, kind, out], cwd=folder, check=True, capture_output=True)
    return next(out.iterdir())


@pytest.fixture(scope="module")
def description():
    """The function of setup.py that makes the description on an index."""
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.describe


def test_nothing_on_an_index_leads_to_files_beside_the_readme(description):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](docs/" in readme
    for source in (None, "https://example.org/blob/main"):
        targets = re.findall(r"\]\(([^)]+)\)", description(readme, source))
        assert [each for each in targets if not each.startswith(("https://", "http://"))] == []
        assert any(each.startswith("https://example.org") for each in targets) == bool(source)


def test_links_become_text_and_pictures_go(description):
    readme = (
        "![a picture](docs/a.png)\n\nSee [the *ops*](docs/ops.md#k), [BasicSR](https://b.org) and [below](#below).\n"
    )
    assert description(readme, None) == "See the *ops*, [BasicSR](https://b.org) and [below](#below).\n"
    assert "See [the *ops*](https://here/docs/ops.md#k)," in description(readme, "https://here")


def test_one_version_one_name_and_one_licence():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    metadata, citation = config["metadata"], yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == semanir_plugin.__version__
    assert citation["license"] == metadata["license"]
    assert [each["name"] for each in citation["authors"]] == [metadata["author"]]
    assert {each["title"].partition(":")[0] for each in citation["references"]} == {
        "Sharing Key Semantics in Transformer Makes Efficient Image Restoration",
        "Adapt or Perish",
    }


def test_all_asks_for_every_optional_part():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    optional = set(extras) - {"all", "docs", "dev", "fuzz"}
    assert extras["all"].strip() == f"semanir_plugin[{','.join(sorted(optional))}]"


def recipes(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    return {name.rpartition("/")[2] for name in names if name.startswith("semanir_plugin/recipes/")}


def test_a_wheel_and_one_of_the_sdist_hold_the_option_files_and_kernels(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("*.safetensors", "__pycache__")
    shutil.copytree(ROOT / "semanir_plugin", source / "semanir_plugin", symlinks=True, ignore=ignored)
    shutil.copytree(ROOT / "options", source / "options")
    for name in PARTS:
        shutil.copy(ROOT / name, source)
    with tarfile.open(build("sdist", source, tmp_path / "sdist")) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"setup.py", "CITATION.cff", "options/aliases.yml", "semanir_plugin/py.typed"} <= names
    kernels = {path.relative_to(ROOT).as_posix() for path in (ROOT / "semanir_plugin" / "ops").rglob("*.[ch]")}
    assert "semanir_plugin/ops/key_semantics/native.c" in kernels <= names
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    expected = {path.name for path in (ROOT / "options").iterdir()}
    wheel = build("wheel", source, tmp_path / "wheel")
    assert {"semanir_plugin/py.typed", *kernels} <= set(zipfile.ZipFile(wheel).namelist())
    assert recipes(wheel) == expected
    assert recipes(build("wheel", unpacked, tmp_path / "wheel_of_sdist")) == expected
