"""Kernels of ours are not known to `torch.use_deterministic_algorithms`, so they must be repeatable of themselves."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import ROOT

SOURCES = sorted((ROOT / "semanir_plugin" / "ops").rglob("triton_*.py"))


def names(source):
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Attribute | ast.Name):
            yield node.attr if isinstance(node, ast.Attribute) else node.id


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_kernel_adds_in_an_order_of_chance_or_is_chosen_by_the_clock(source):
    found = {name for name in names(source) if name.startswith("atomic") or name in ("autotune", "Autotuner")}
    assert not found


def test_every_kernel_is_looked_at():
    assert len([path for path in SOURCES if path.name == "triton_kernels.py"]) == 5
