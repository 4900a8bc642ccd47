"""The recipes and the map in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from semanir_plugin.archs import NetworkDescriptor
from semanir_plugin.blocks import SizeRequirements
from semanir_plugin.cli import main
from semanir_plugin.registry import ARCHS
from tests.conftest import ROOT, tiny_overrides

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_map_shows_what_is_there():
    folders = {path.name for path in (ROOT / "semanir_plugin").iterdir() if path.is_dir()} - {"__pycache__"}
    assert set(re.findall(r"^  (\w+)/ ", TEXT, re.MULTILINE)) == folders


# From the bottom up; a module imports from its own layer and those before it.
LAYERS = (
    {
        "atomic_io",
        "color",
        "downloads",
        "errors",
        "extensions",
        "markdown",
        "foreign_files",
        "path_safety",
        "option_files",
        "pixels",
        "plain_yaml",
        "registry",
        "shipped_recipes",
        "torchvision_repair",
    },
    {"schema"},
    {"ops"},
    {"blocks"},
    {"mixing", "degradations", "metrics", "losses"},
    {"archs"},
    {"inference"},
    {"web", "export"},
    {"basicsr_host"},
    {"evaluation"},
    {"cli"},
)
WIRING = {"__init__", "import_hooks", "openmmlab", "spandrel"}  # attach the package to its hosts


def modules_by_layer():
    for level, layer in enumerate(LAYERS):
        for part in layer:
            yield from ((level, path) for path in sorted((ROOT / "semanir_plugin").glob(f"{part}.py")))
            yield from ((level, path) for path in sorted((ROOT / "semanir_plugin" / part).rglob("*.py")))


def test_every_module_has_a_layer():
    known = {path for _, path in modules_by_layer()}
    assert {path.stem for path in (ROOT / "semanir_plugin").rglob("*.py") if path not in known} == WIRING


def test_imports_run_one_way():
    level_of = {part: level for level, layer in enumerate(LAYERS) for part in layer}
    for level, path in modules_by_layer():
        for part in parts_imported(path.read_text()):
            assert level_of[part] <= level, f"{path} imports {part} from above"


IMPORTS = """
import torch, semanir_plugin, semanir_plugin.cli.train
import semanir_plugin.web as page
from semanir_plugin import __version__, basicsr_host
def later():
    if True:
        from semanir_plugin.archs.semanir_arch import SemanIR; from semanir_plugin import (
            export as to,
        )
"""


def test_imports_are_found_in_every_form():
    assert sorted(parts_imported(IMPORTS)) == ["archs", "basicsr_host", "cli", "export", "web"]


def parts_imported(text):
    """Yield the parts of the package that a module imports anywhere, in functions too."""
    for module in modules_imported(text):
        package, _, inner = module.partition(".")
        if package == "semanir_plugin" and inner and not inner.startswith("__"):
            yield inner.partition(".")[0]


def modules_imported(text):
    """Yield the modules that a module imports anywhere; of the package's own names, each as if it were a module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are written out"
            whole = node.module == "semanir_plugin"
            yield from (f"{node.module}.{each.name}" for each in node.names) if whole else [node.module]


def test_no_imports_go_round_in_a_circle():
    trees = {name_of(path): ast.parse(path.read_text()) for _, path in modules_by_layer()}
    imports = {name: set(imported(tree, trees)) - {name} for name, tree in trees.items()}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError with the circle


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(tree, modules):
    """Yield the modules that one imports when it is itself imported."""
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            for each in statement.names:
                whole = f"{statement.module}.{each.name}"
                yield from {whole if whole in modules else statement.module} & modules.keys()


# All that a naive.py may import: of ours the name of a type, which keeps the mask that it is made of, and what leaves
# autocast, which computes nothing.
OURS_OF_A_TRUTH = {"semanir_plugin.ops.key_semantics", "semanir_plugin.ops.common.autocast"}
OF_A_TRUTH = {"__future__", "math", "torch", "torch.nn.functional"} | OURS_OF_A_TRUTH


@pytest.mark.parametrize("op", [path.name for path in (ROOT / "semanir_plugin" / "ops").iterdir() if path.is_dir()])
def test_every_op_has_a_truth_and_a_test(op):
    if op == "common" or op.startswith("__"):
        pytest.skip("what ops share, or bytecode")
    folder = ROOT / "semanir_plugin" / "ops" / op
    modules = set(modules_imported((folder / "naive.py").read_text()))
    assert {"torch"} <= modules <= OF_A_TRUTH, "a truth shares nothing with the fast paths"
    assert (ROOT / "tests" / "ops" / f"test_{op}.py").is_file()


def test_an_architecture_added_by_the_recipe_trains(sr_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    @ARCHS.register
    class OneConvolution(torch.nn.Module):
        def __init__(self, *, upscale: int, width: int = 8) -> None:
            super().__init__()
            self.descriptor = NetworkDescriptor(scale=upscale, size=SizeRequirements(multiple_of=2))
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(3, width, 2, stride=2), torch.nn.ConvTranspose2d(width, 3, 2 * upscale, 2 * upscale)
            )

        def forward(self, x):
            return self.layers(x)

    try:
        entries = [entry for entry in tiny_overrides(sr_data) if not entry.startswith("network_g")]
        entries += ["train:total_iter=2", "val:val_freq=2"]
        recipe = (ROOT / "options" / "train_SemanIR_SRx4.yml").read_text()
        start, stop = recipe.index("network_g:"), recipe.index("path:\n")
        for key, code in (("width", 0), ("widht", 2)):
            network = f"network_g:\n  type: OneConvolution\n  upscale: 4\n  {key}: 4\n\n"
            Path("mine.yml").write_text(recipe[:start] + network + recipe[stop:])
            assert main(["train", "-opt", "mine.yml", "--force_yml", *entries]) == code
        assert "did you mean 'width'" in capsys.readouterr().err
    finally:
        del ARCH_REGISTRY._obj_map["OneConvolution"], ARCHS._entries["OneConvolution"]
