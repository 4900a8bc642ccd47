"""The site: built strictly, without a warning, and with nothing that is fetched from elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_there(site):
    pages = {str(each.relative_to(ROOT / "docs").with_suffix("")) for each in (ROOT / "docs").rglob("*.md")}
    made = {str(each.relative_to(site).with_suffix("")) for each in site.rglob("*.html")}
    assert pages | {"changes", "commands", "contributing", "weights", "404"} == made


def test_pages_of_the_code_have_signatures_and_meanings(site):
    page = (site / "api" / "ops.html").read_text()
    assert 'id="semanir_plugin.ops.build_key_semantics"' in page
    assert "Select for every token the k tokens of its window that are most similar to it." in page
    assert "basicsr restore [-h]" in (site / "commands.html").read_text()


def test_nothing_is_fetched_from_elsewhere(site):
    fetched = (
        r'<(?:script|img|iframe)[^>]*\bsrc="(https?:[^"]+)"|<link[^>]*\bhref="(https?:[^"]+)"[^>]*rel="stylesheet"'
    )
    assert {each for page in site.rglob("*.html") for each in re.findall(fetched, page.read_text())} == set()
