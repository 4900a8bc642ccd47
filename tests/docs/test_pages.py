"""What the pages show: tutorials run from top to bottom, commands are understood, Python compiles, YAML can be read."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys

import pytest
import yaml
from PIL import Image

from semanir_plugin.cli import build_parser
from semanir_plugin.inference.shipped_weights import shipped_weights
from tests.conftest import ROOT
from tests.docs.pages import blocks_of, commands_of

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))


def named(page):
    return str(page.relative_to(ROOT))


@pytest.fixture
def photographs(tmp_path):
    """An empty folder with what tutorials start from."""
    with Image.open(DOCS / "images" / "semanir_mini_x4.jpg") as picture:
        for index, folder in enumerate(["photographs", "photographs", "held_out"]):
            (tmp_path / folder).mkdir(exist_ok=True)
            left = 200 + 100 * index
            picture.convert("RGB").crop((left, 240, left + 96, 336)).save(tmp_path / folder / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_top_to_bottom(page, photographs):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.docs.pages", str(page)]
    done = subprocess.run(command, cwd=photographs, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(DOCS / "notebooks" / "first_steps.ipynb", 4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    told = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()))
    scores = {name: float(score) for name, score in re.findall(r"(\w+(?: keys)?): ([\d.]+) dB", told)}
    assert scores["SemanIR"] > scores["bicubic"] + 0.5
    assert scores["64 keys"] == scores["SemanIR"]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_are_understood(page):
    for block in blocks_of(page):
        for words in commands_of(block) if block.language == "sh" else ():
            if words[0] == "basicsr" and not words[1].startswith("--import"):
                with contextlib.redirect_stderr(io.StringIO()) as told:
                    try:
                        build_parser().parse_args(words[1:])
                    except SystemExit:
                        pytest.fail(f"{page.name}:{block.line}: {' '.join(words)}: {told.getvalue()}")
            if words[0].startswith("python") and words[1].startswith("scripts/"):
                assert (ROOT / words[1]).is_file(), f"{page.name}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_compiles_and_yaml_can_be_read(page):
    for block in blocks_of(page):
        place = f"{page.name}:{block.line}"
        if block.language == "python" and not block.text.startswith(">>>"):
            compile(block.text, place, "exec")
        elif block.language == "yaml" and "..." not in block.text:
            try:
                yaml.safe_load(block.text)
            except yaml.YAMLError as error:
                pytest.fail(f"{place}: {error}")


def test_networks_that_pages_name_come_with_the_package():
    named = {
        name for page in PAGES for name in re.findall(r"\b(?:semanir|semanirunet|ast)-mini-[\w-]*\w", page.read_text())
    }
    assert named - shipped_weights().keys() == set()
