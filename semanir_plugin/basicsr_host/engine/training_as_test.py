"""A training's option file as that of the test of what it trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semanir_plugin.basicsr_host.engine.host_options import SAMPLING_MODELS
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import OVERRIDDEN, OptionFile, copy_options
from semanir_plugin.plain_yaml import Keys

__all__ = ["as_test"]

_TRAINING_ALONE = ("train", "logger")


def as_test(option_file: OptionFile) -> OptionFile:
    """Return the options of a training as those that test it; a file without `datasets: train` is returned as it is.

    Scored are its test sets or, without any, its validation sets: by the weights of the best validation, where the file
    has no test sets whose `path.pretrain_network_g` it would name, and the command line names none. `train` and
    `logger` are left out.

    Raises:
        UserError: There is nothing to score.
    """
    datasets = option_file.data.get("datasets")
    if not isinstance(datasets, dict) or "train" not in datasets:
        return option_file
    tests = {phase: phase for phase in datasets if _kind(phase) == "test"}
    scored = tests or {phase: f"test{phase[3:]}" for phase in datasets if _kind(phase) == "val"}
    if not scored and option_file.data.get("model_type") not in SAMPLING_MODELS:
        raise UserError(f"{option_file.where(('datasets',))}: datasets: nothing to score: add val, or test_1")
    data = {key: copy_options(value) for key, value in option_file.data.items() if key not in _TRAINING_ALONE}
    data["datasets"] = {name: copy_options(datasets[phase]) for phase, name in scored.items()}
    if not (tests and _section(data, "path").get("pretrain_network_g")):
        given = {key: value for key, value in _section(data, "path").items() if _is_given(option_file, key)}
        data["path"] = _section(data, "path") | _best_weights(option_file.data) | given
    return replace(option_file, data=data, places=_moved(option_file.places, scored))


def _kind(phase: str) -> str:
    return phase.partition("_")[0]


def _section(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a section; empty where it is missing, or is no section, which the schema refuses."""
    section = data.get(key)
    return section if isinstance(section, dict) else {}


def _is_given(option_file: OptionFile, key: str) -> bool:
    """Return whether the command line gives a key of `path`; what a file gives is what its training starts from."""
    return option_file.where(("path", key)) == OVERRIDDEN


def _best_weights(data: Mapping[str, Any]) -> dict[str, str]:
    """Return where a training leaves the best of its networks, else its last, averaged where it averages."""
    root = _section(data, "path").get("experiments_root") or "experiments"
    folder = Path(str(root), str(data.get("name")), "models")
    best, last = folder / "net_g_best.pth", folder / "net_g_latest.pth"  # BasicSR's own models keep no best one
    averages = _section(data, "train").get("ema_decay")
    weights = last if last.is_file() and not best.is_file() else best
    return {"pretrain_network_g": str(weights), "param_key_g": "params_ema" if averages else "params"}


def _moved(places: Mapping[Keys, str], renamed: Mapping[str, str]) -> dict[Keys, str]:
    """Return places with those of the datasets under their new names."""
    return {
        (*keys[:1], renamed.get(keys[1], keys[1]), *keys[2:])
        if keys[0] == "datasets" and len(keys) > 1
        else keys: place
        for keys, place in places.items()
    }
