"""Reference of options and JSON schema: current, true of the shipped files, made of the declarations alone."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated

import jsonschema
import pytest
import yaml

from semanir_plugin.basicsr_host.engine import reference
from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.basicsr_host.models.semanir_model import SemanIRModel
from semanir_plugin.basicsr_host.models.semanir_options import SemanIRTrainingOptions
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import apply_overrides, load_options
from semanir_plugin.schema.declarations import Since
from semanir_plugin.schema.values import Share
from tests.conftest import ROOT

OPTIONS = ROOT / "options"
RECIPES = sorted(
    path for path in OPTIONS.glob("*.yml") if path.stem.partition("_")[0] in ("train", "test", "leaderboard")
)
TRAIN = OPTIONS / "train_SemanIR_SRx4.yml"


@pytest.fixture(scope="module")
def made():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from write_reference import make_reference
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return make_reference()


@pytest.fixture(scope="module")
def schema():
    return jsonschema.Draft7Validator(json.loads((OPTIONS / "semanir_plugin.schema.json").read_text()))


def test_the_files_are_current(made):
    for path, text in made.items():
        assert path.read_text() == text, f"run python3 scripts/write_reference.py: {path.name} is not current"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_schema_takes_the_shipped_files(schema, path):
    for content in (load_options(path).data, yaml.safe_load(path.read_text())):  # with its base, and as editors see it
        assert [error.message for error in schema.iter_errors(content)] == []


@pytest.mark.parametrize(
    "entry",
    [
        *("scale=0", "num_gpu=all", "network_g:topk=0", "network_g:attn=sparse", "network_g:embed_dm=3"),
        *("datasets:train:gt_size=0", "datasets:val:type=~", "train:optim_g:lr=-1", "train:scheduler:gamma=0"),
        *("train:pixel_opt:reduction=none", "val:tile=0", "val:metrics=psnr", "logger:print_freq=0"),
    ],
)
def test_the_schema_refuses_what_the_command_refuses(schema, entry):
    file = apply_overrides(load_options(TRAIN), [entry])
    assert list(schema.iter_errors(file.data))
    with pytest.raises(UserError):
        validate_options(file, is_train=True)


@dataclass(frozen=True, kw_only=True)
class MoreOptions(SemanIRTrainingOptions):
    """Options.

    Attributes:
        patience: Share of the training after which it sighs.
    """

    patience: Annotated[Share, Since("0.9.0")] = 0.25


def test_an_option_is_declared_in_one_place(monkeypatch):
    file = apply_overrides(load_options(TRAIN), ["train:patience=0.5"])
    with pytest.raises(UserError, match="train: unknown key 'patience'"):
        validate_options(file, is_train=True)
    monkeypatch.setitem(SemanIRModel.OPTIONS, "train", MoreOptions)
    monkeypatch.setattr(reference, "SemanIRTrainingOptions", MoreOptions)
    assert validate_options(file, is_train=True) == []
    with pytest.raises(UserError, match="patience must be a number of at least 0 and at most 1, not 2"):
        validate_options(apply_overrides(file, ["train:patience=2"]), is_train=True)
    page = "\n".join(map(reference.format_part, reference.run_parts()))
    row = "| `patience` | a number of at least 0 and at most 1 | `0.25` | Share of the training after which it sighs. |"
    assert f"{row} 0.9.0 |" in page
    told = reference.run_schema()["properties"]["train"]["properties"]["patience"]
    assert (told["description"], told["default"]) == ("Share of the training after which it sighs.", 0.25)
    assert {"type": "number", "minimum": 0, "maximum": 1} in told["anyOf"]
