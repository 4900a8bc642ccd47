from __future__ import annotations

import json
import re
from importlib import metadata

import pytest

from semanir_plugin.cli import main
from semanir_plugin.evaluation import environment
from semanir_plugin.ops.common import native_support


@pytest.fixture
def sections(capsys):
    """Return a function that gives what the command prints for programs."""

    def run():
        assert main(["env", "--device", "cpu", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_it_says_what_each_op_takes_and_why(sections, capsys):
    taken = sections()["what auto takes on cpu"]
    assert list(taken) == list(environment.CHOICES)
    assert taken["adaptive_sparse_attention"] == "torch: q is on a CPU"
    assert main(["env", "--device", "cpu"]) == 0
    assert re.search(r"^  adaptive_sparse_attention +torch: q is on a CPU$", capsys.readouterr().out, re.MULTILINE)


def test_it_says_why_there_are_no_kernels(sections, monkeypatch):
    monkeypatch.setenv("SEMANIR_NATIVE", "0")
    native_support._compiled.cache_clear()
    told = sections()
    native_support._compiled.cache_clear()
    assert set(told["native kernels"].values()) == {"native kernels are switched off by SEMANIR_NATIVE=0"}
    assert told["what auto takes on cpu"]["build_key_semantics"].startswith(
        "threshold: native kernels are switched off"
    )
    assert "SEMANIR_NATIVE=0" in told["machine"]["variables"].split(", ")


def test_it_says_what_is_missing_for_optional_parts(sections, monkeypatch):
    requires = ["numpy", "pytest; extra == 'dev'", 'semanir-lacks-this>=1; extra == "web"', "numpy; extra == 'video'"]
    monkeypatch.setattr(metadata, "requires", lambda name: requires)
    assert sections()["optional parts"] == {
        "video": f"numpy {metadata.version('numpy')}",
        "web": "no semanir-lacks-this; pip install 'semanir_plugin[web]'",
    }


def test_a_device_that_is_not_there_is_one_line(capsys):
    assert main(["env", "--device", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("basicsr env: --device nowhere: ")
