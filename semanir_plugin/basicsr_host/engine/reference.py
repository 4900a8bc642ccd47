"""Reference of the options of `basicsr train` and `basicsr test`: tables for people, and a JSON schema for editors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from semanir_plugin.basicsr_host.data.dataset_options import LoaderOptions
from semanir_plugin.basicsr_host.engine import host_options
from semanir_plugin.basicsr_host.engine.declared import is_own
from semanir_plugin.basicsr_host.engine.fork_options import ForkOptions
from semanir_plugin.basicsr_host.engine.phases import PhaseOptions
from semanir_plugin.basicsr_host.engine.sections import (
    DistributedOptions,
    LoggerOptions,
    NetworkPathOptions,
    PathOptions,
    RunOptions,
    TrainingOptions,
    ValidationOptions,
    WandbOptions,
)
from semanir_plugin.basicsr_host.models.semanir_options import SemanIRTrainingOptions, SemanIRValidationOptions
from semanir_plugin.basicsr_host.optimization import known_optimizers, known_schedulers
from semanir_plugin.basicsr_host.scoring import PROTOCOLS
from semanir_plugin.schema.declarations import REQUIRED, Option, about, options_of
from semanir_plugin.schema.json_schema import Schema, by_type, section_schema
from semanir_plugin.schema.values import Hint, describe_hint, describe_value, without_null

__all__ = ["Part", "declared_part", "format_part", "run_parts", "run_schema"]


@dataclass(frozen=True)
class Part:
    """A part of the reference, with a table.

    Attributes:
        title: Where the options stand, or whose they are.
        about: Text before the table.
        options: The options.
    """

    title: str
    about: str
    options: Sequence[Option]


def run_parts() -> Iterator[Part]:
    """Yield the parts of the reference from the top of an option file to its end."""
    yield declared_part("Top level", RunOptions)
    yield declared_part("`datasets:*`", LoaderOptions)
    yield declared_part("`datasets:train`, growing patches", PhaseOptions)
    yield declared_part("`datasets:train`, from forks", ForkOptions)
    for name, kind in host_options.DATASETS.items():
        yield declared_part(f"`datasets:*`, `type: {name}`", kind)
    for name, target in _own(DATASET_REGISTRY):
        yield Part(f"`datasets:*`, `type: {name}`", f"{about(target)}.", options_of(target.OPTIONS))
        for key, kinds in getattr(target, "SECTIONS", {}).items():
            for section, kind in kinds.items() if isinstance(kinds, Mapping) else [("*", kinds)]:
                yield declared_part(f"`datasets:*:{key}:{section}`, `type: {name}`", kind)
    for name, target in _own(ARCH_REGISTRY):
        yield Part(f"`network_g`, `type: {name}`", f"{about(target)}.", options_of(target))
    yield declared_part("`path`", PathOptions)
    yield declared_part("`path`, for each network", NetworkPathOptions)
    yield declared_part("`train`", TrainingOptions)
    yield declared_part("`train`, `model_type: SemanIRModel`", SemanIRTrainingOptions)
    yield _hinted("`train:optim_g`", "Ranges of torch's options, of which each optimiser has some.", "OPTIMIZER_HINTS")
    yield _hinted("`train:scheduler`", "Ranges of BasicSR's and torch's options, by name.", "SCHEDULER_HINTS")
    yield _hinted("`train:*_opt`", "Ranges of the options of all losses, by name.", "LOSS_HINTS")
    for name, target in _own(LOSS_REGISTRY):
        yield Part(f"`train:*_opt`, `type: {name}`", f"{about(target)}.", options_of(target))
    yield declared_part("`val`", ValidationOptions)
    yield declared_part("`val`, `model_type: SemanIRModel`", SemanIRValidationOptions)
    yield _hinted("`val:metrics:*`", "Ranges of the options of all metrics, by name.", "METRIC_HINTS")
    yield declared_part("`logger`", LoggerOptions)
    yield declared_part("`logger:wandb`", WandbOptions)
    yield declared_part("`dist_params`", DistributedOptions)


def declared_part(title: str, kind: type) -> Part:
    """Return the part of a dataclass of options."""
    return Part(title, " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()), options_of(kind))


def _hinted(title: str, text: str, table: str) -> Part:
    return Part(title, text, _options_of_hints(getattr(host_options, table)))


def _options_of_hints(hints: Mapping[str, Hint]) -> list[Option]:
    return [Option(name, hint, None, "") for name, hint in sorted(hints.items())]


def _own(registry: Any) -> list[tuple[str, Any]]:
    return sorted((name, target) for name, target in registry if is_own(target))


def format_part(part: Part) -> str:
    """Return a part as Markdown."""
    told = any(option.meaning for option in part.options)
    columns = ["option", "type", *(["default", "meaning", "since"] if told else [])]
    rows = [_row(option)[: len(columns)] for option in part.options]
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"## {part.title}\n\n{part.about}\n\n{table}\n" if part.options else f"## {part.title}\n\n{part.about}\n"


def _row(option: Option) -> list[str]:
    if option.default is REQUIRED:
        default = "needed"
    elif option.required_to_train:
        default = "needed to train"
    else:
        value = list(option.default) if isinstance(option.default, tuple) else option.default
        default = f"`{describe_value(value)}`"
    words = describe_hint(without_null(option.hint))
    cells = [f"`{option.name}`", words, default, option.meaning, option.since]
    return [cell.replace("|", "\\|") for cell in cells]


def run_schema() -> Schema:
    """Return the JSON schema of option files for `basicsr train` and `basicsr test`."""
    networks = {name: _network_schema(target) for name, target in _own(ARCH_REGISTRY)}
    network = by_type(networks, known=_names(ARCH_REGISTRY))
    schema = section_schema(
        options_of(RunOptions),
        model_type={"anyOf": [{"enum": _names(MODEL_REGISTRY)}, {"type": "string"}]},
        datasets={"type": "object", "additionalProperties": _dataset_schema()},
        path=section_schema(options_of(PathOptions)),
        train=_train_schema(),
        val=section_schema([*options_of(ValidationOptions), *options_of(SemanIRValidationOptions)], metrics=_metrics()),
        logger=section_schema(options_of(LoggerOptions), wandb=section_schema(options_of(WandbOptions))),
        dist_params=section_schema(options_of(DistributedOptions)),
    )
    schema["properties"]["network_g"] = {"description": "Section of the network.", **network}
    return {**schema, "patternProperties": {"^network_(?!g$)": network}}


def _network_schema(target: Any) -> Schema:
    """Return the schema of a network of this package, which takes no other option."""
    schema = section_schema(options_of(target), nullable=False)
    return {**schema, "properties": {**schema["properties"], "type": {}}, "additionalProperties": False}


def _names(registry: Any) -> list[str]:
    return sorted(name.removesuffix("_basicsr") for name, _ in registry)


def _dataset_schema() -> Schema:
    kinds = dict(host_options.DATASETS) | {name: target.OPTIONS for name, target in _own(DATASET_REGISTRY)}
    schema = by_type(
        {name: section_schema(options_of(kind)) for name, kind in kinds.items()}, known=_names(DATASET_REGISTRY)
    )
    of_all = [option for kind in (LoaderOptions, PhaseOptions, ForkOptions) for option in options_of(kind)]
    common = section_schema(of_all)["properties"]
    return {**schema, "properties": {**common, **schema["properties"]}}


def _train_schema() -> Schema:
    optimizer = _called(known_optimizers(), host_options.OPTIMIZER_HINTS)
    loss = _called(dict(iter(LOSS_REGISTRY)), host_options.LOSS_HINTS)
    schema = section_schema(
        [*options_of(TrainingOptions), *options_of(SemanIRTrainingOptions)],
        optim_g=optimizer,
        scheduler=_called(known_schedulers(), host_options.SCHEDULER_HINTS),
        pixel_opt=loss,
        perceptual_opt=loss,
        fft_opt=loss,
        ssim_opt=loss,
        distill_opt=loss,
    )
    return {**schema, "patternProperties": {"^optim_": optimizer, "_opt$": loss}}


def _called(known: Mapping[str, Callable[..., Any]], hints: Mapping[str, Hint]) -> Schema:
    """Return the schema of a section that calls what its `type` names."""
    names = sorted(name.removesuffix("_basicsr") for name in known)
    properties = section_schema(_options_of_hints(hints), nullable=False)["properties"]
    kinds = {"anyOf": [{"enum": names}, {"type": "string"}]}
    return {"type": ["object", "null"], "properties": {**properties, "type": kinds}}


def _metrics() -> Schema:
    protocol = {"enum": sorted(PROTOCOLS)}
    metric = _called(dict(iter(METRIC_REGISTRY)), host_options.METRIC_HINTS)
    blocks = {"type": "object", "properties": {"protocol": protocol}, "additionalProperties": metric}
    return {"anyOf": [protocol, blocks, {"type": "null"}]}
