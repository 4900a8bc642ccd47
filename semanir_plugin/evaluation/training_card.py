"""The card of a network that was trained here, from what its training left: options, losses and scores in its logs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.training_logs import TrainingRun, read_options, read_run
from semanir_plugin.inference.model_card import Scores, model_card
from semanir_plugin.markdown import escape_markdown

__all__ = ["training_card"]


def training_card(experiment: str | Path, *, best: bool = False, **about: Any) -> str:
    """Return the model card of a training's network.

        net.push_to_hub("org/name", card=training_card("experiments/my_SRx4"))

    Args:
        experiment: The training's folder, with its logs, which show the options that it ran with.
        best: Whether the card is of `net_g_best.pth`, the best validation, and not of the last one.
        **about: Of `inference.model_card.model_card`, instead of what the record says.

    Raises:
        UserError: The folder has no log, or one without options, losses or a network.
    """
    folder = Path(experiment)
    options, run = read_options(folder), read_run(folder)
    if not isinstance(options.get("network_g"), dict) or "type" not in options["network_g"]:
        raise UserError(f"{folder}: its log shows no network_g with a type; name the folder of a training")
    at = _iteration(run, best=best)
    facts = {
        "name": str(options.get("name", run.name)),
        "datasets": _datasets(options),
        "scores": _scores(run, at),
        "text": _training_section(options, run, at),
    }
    return model_card(options["network_g"], **{**facts, **about})


def _iteration(run: TrainingRun, *, best: bool) -> int:
    """Return the iteration of the last validation, or of that with the best PSNR; of no validation, the last one."""
    metrics = {name: values for name, values in run.series.items() if name.startswith("metrics/")}
    psnr = next((values for name, values in metrics.items() if "psnr" in name), None)
    if best and psnr:
        return max(psnr, key=lambda iteration: psnr[iteration])
    return max(iteration for values in (metrics or run.series).values() for iteration in values)


def _scores(run: TrainingRun, at: int) -> Scores:
    scores: dict[str, dict[str, float]] = {}
    for name, values in run.series.items():
        kind, _, rest = name.partition("/")
        if kind == "metrics" and at in values:
            test_set, _, metric = rest.rpartition("/")
            scores.setdefault(test_set, {})[metric] = values[at]
    return scores


def _datasets(options: Mapping[str, Any]) -> list[str]:
    sets = options.get("datasets") or {}
    return [str(each.get("name", each.get("type"))) for phase, each in sets.items() if phase.startswith("train")]


def _training_section(options: Mapping[str, Any], run: TrainingRun, at: int) -> str:
    """Return what was trained, with what, for how long."""
    train = options.get("train") or {}
    rows = {
        "iterations": f"{at:,} of {int(train['total_iter']):,}" if "total_iter" in train else f"{at:,}",
        "batch": _batch(options),
        "loss": _names(train, "_opt"),
        "optimiser": _described(train.get("optim_g")),
        "schedule": _described(train.get("scheduler")),
        "average of the weights": _average(train),
        "last losses": ", ".join(
            f"{name.removeprefix('losses/')} {list(values.values())[-1]:.3g}"
            for name, values in run.series.items()
            if name.startswith("losses/")
        ),
    }
    table = "".join(f"| {name} | {escape_markdown(value)} |\n" for name, value in rows.items() if value)
    return f"## Training\n\n| | |\n|---|---|\n{table}\nScores are of the validation at iteration {at:,}."


def _average(train: Mapping[str, Any]) -> str:
    if not train.get("ema_decay"):
        return ""
    return f"{train['ema_decay']}{', begun short' if train.get('ema_warmup') else ''}"


def _batch(options: Mapping[str, Any]) -> str:
    training_set = (options.get("datasets") or {}).get("train") or {}
    count, side = training_set.get("batch_size_per_gpu"), training_set.get("gt_size")
    if count is None:
        return ""
    return f"{count} patches a device" + (f", of {side} x {side} pixels" if side is not None else "")


def _names(section: Mapping[str, Any], suffix: str) -> str:
    found = [value for key, value in section.items() if key.endswith(suffix) and isinstance(value, Mapping)]
    return ", ".join(str(each["type"]) for each in found if "type" in each)


def _described(section: Any) -> str:
    """Return a section in a line: its type, then its options."""
    if not isinstance(section, Mapping):
        return ""
    return ", ".join([str(section.get("type")), *(f"{key} {value}" for key, value in section.items() if key != "type")])
