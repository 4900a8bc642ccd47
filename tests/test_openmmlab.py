from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from semanir_plugin import archs, blocks


def test_every_architecture_and_block_is_built_from_a_dict():
    from semanir_plugin.openmmlab import MODELS as OURS

    modules = [name for package in (archs, blocks) for name in package.__all__]
    modules = [n for n in modules if isinstance(getattr(archs, n, getattr(blocks, n, None)), type)]
    modules = [n for n in modules if issubclass(getattr(archs, n, getattr(blocks, n, None)), nn.Module)]
    assert {"SemanIR", "SemanIRUNet", "AST", "MixedArch", "KeySemanticMapAttention", "FRFN", "LeFF"} <= set(modules)
    for name in modules:
        assert OURS.get(name) is MODELS.get(f"semanir_plugin.{name}") is not None
    frfn = MODELS.build({"type": "semanir_plugin.FRFN", "dim": 8, "hidden": 12})
    assert frfn(torch.rand(2, 5, 7, 8)).shape == (2, 5, 7, 8)


@pytest.mark.parametrize("first", ["mmengine.registry", "semanir_plugin.registry"])
def test_openmmlab_finds_it_whichever_is_imported_first(first):
    code = (
        f"import sys, {first}\n"
        "assert not {'mmengine', 'semanir_plugin'} <= set(sys.modules), 'one imports the other'\n"
        "from mmengine.registry import MODELS\n"
        "print(type(MODELS.build(dict(type='semanir_plugin.Bicubic', upscale=3))).__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "semanir_plugin.archs.bicubic_arch"
