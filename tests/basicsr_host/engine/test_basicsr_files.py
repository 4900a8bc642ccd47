"""Option files for BasicSR's own models are taken as BasicSR takes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY

from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import OptionFile
from tests.basicsr_host.engine.basicsr_files import FILES, IGNORED


def validate(name, **changes):
    options = {**FILES[name], **changes}
    return validate_options(OptionFile(Path(name), options, {}), is_train=not name.startswith("test_"))


@pytest.mark.parametrize("name", FILES)
def test_files_for_the_hosts_models_pass_and_tell_what_it_ignores(name):
    told = {warning.partition("the key '")[2].partition("'")[0] for warning in validate(name)}
    assert told == IGNORED.get(name, set())


def test_every_model_and_dataset_of_the_host_is_among_them():
    models, datasets = (
        {name.removesuffix("_basicsr") for name, target in registry if target.__module__.startswith("basicsr.")}
        for registry in (MODEL_REGISTRY, DATASET_REGISTRY)
    )
    assert {options["model_type"] for options in FILES.values()} == models
    assert {each["type"] for options in FILES.values() for each in options["datasets"].values()} == datasets


def test_what_the_host_would_die_of_is_refused():
    schedule = {"type": "CosineAnnealingRestartLR", "periods": [5], "eta_min": 1e-7}  # it ends before the training
    train = {**FILES["train_SwinIR_SRx4"]["train"], "scheduler": schedule}
    with pytest.raises(UserError, match="periods end at 5, before total_iter 1000000"):
        validate("train_SwinIR_SRx4", train=train)
    network = {**FILES["train_SwinIR_SRx4"]["network_g"], "type": "MSRResNet"}
    with pytest.raises(UserError, match="unknown key 'img_size' of MSRResNet"):
        validate("train_SwinIR_SRx4", network_g=network)
