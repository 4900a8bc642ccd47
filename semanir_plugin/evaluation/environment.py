"""What this package finds here: versions, optional parts, kernels, which backends "auto" takes, and why."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path

import torch
from torch import Tensor

import semanir_plugin
from semanir_plugin import ops
from semanir_plugin.ops.common import native_prebuilt, native_support

__all__ = ["describe_environment"]

HEADS, TOKENS, WIDTH, KEYS = 6, 1024, 30, 64
"""As SemanIR-S has them: windows of 32 x 32 tokens; so many windows as an image of 64 x 64 gives."""
WINDOWS = 4

FOR_DEVELOPERS = ("all", "dev", "docs", "fuzz")
REQUIREMENT = re.compile(r"^(?P<name>[\w.-]+).*;.*extra == ['\"](?P<extra>[\w-]+)['\"]$")
VARIABLES = ("ATEN_CPU_CAPABILITY", "CC", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TRITON_INTERPRET")


def describe_environment(device: torch.device) -> dict[str, dict[str, str]]:
    """Return sections of what is found, each a text by its name.

    Args:
        device: That networks are to run on.
    """
    return {
        "versions": _versions(),
        "machine": _machine(),
        "optional parts": _optional_parts(),
        "native kernels": _native_kernels(),
        f"what auto takes on {device}": {name: "{}: {}".format(*choice(device)) for name, choice in CHOICES.items()},
    }


def _versions() -> dict[str, str]:
    names = ("torch", "triton", "numpy", "opencv-python-headless", "pillow", "basicsr")
    found = {name: _version(name) or "not installed" for name in names}
    place = Path(semanir_plugin.__file__).parent
    return {"semanir_plugin": f"{semanir_plugin.__version__}, {place}", "Python": platform.python_version(), **found}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, str]:
    gpus = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
    changed = {name: value for name, value in os.environ.items() if name in VARIABLES or name.startswith("SEMANIR_")}
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processor": f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        "GPUs": ", ".join(gpus) or "none that PyTorch can use",
        "variables": ", ".join(f"{name}={value}" for name, value in sorted(changed.items())) or "none",
    }


def _optional_parts() -> dict[str, str]:
    """Return for each extra what it asks for, and what of that is missing."""
    asked: dict[str, list[str]] = {}
    for line in _requirements():
        if (found := REQUIREMENT.match(line)) and found["extra"] not in FOR_DEVELOPERS:
            asked.setdefault(found["extra"], []).append(found["name"])
    return {extra: _describe_part(extra, names) for extra, names in sorted(asked.items())}


def _requirements() -> list[str]:
    try:
        return metadata.requires("semanir_plugin") or []
    except metadata.PackageNotFoundError:  # on the path, but not installed
        return []


def _describe_part(extra: str, names: list[str]) -> str:
    versions = {name: _version(name) for name in names}
    if missing := [name for name, version in versions.items() if version is None]:
        return f"no {', '.join(missing)}; pip install 'semanir_plugin[{extra}]'"
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _native_kernels() -> dict[str, str]:
    folder = Path(ops.__file__).parent
    sources = sorted(folder.glob("*/native.c"))
    sources += sorted(folder.glob("*/native_bf16.c")) if native_support.processor_multiplies_bf16() else []
    return {native_prebuilt.label_of(each): native_support.describe(each) for each in sources}


def _heads(device: torch.device) -> Tensor:
    return torch.empty(WINDOWS, HEADS, TOKENS, WIDTH, device=device)


def _tokens(device: torch.device, width: int) -> Tensor:
    return torch.empty(WINDOWS, TOKENS, width, device=device)


def _choose(name: str, *arguments: object) -> tuple[str, str]:
    choice: tuple[str, str] = import_module(f"semanir_plugin.ops.{name}").choose_backend(*arguments)
    return choice


CHOICES: dict[str, Callable[[torch.device], tuple[str, str]]] = {
    "build_key_semantics": lambda device: _choose("key_semantics", _tokens(device, HEADS * WIDTH), KEYS),
    "key_semantic_attention": lambda device: _choose("key_semantic_attention", _heads(device), KEYS),
    "cosine_qkv": lambda device: _choose(
        "cosine_qkv", _tokens(device, 3 * HEADS * WIDTH), torch.empty(HEADS, device=device)
    ),
    "adaptive_sparse_attention": lambda device: _choose("adaptive_sparse_attention", _heads(device)),
    "linear": lambda device: _choose(
        "linear", _tokens(device, HEADS * WIDTH), torch.empty(HEADS * WIDTH, HEADS * WIDTH, device=device)
    ),
    "layer_norm": lambda device: _choose(
        "layer_norm", _tokens(device, HEADS * WIDTH), *torch.empty(2, HEADS * WIDTH, device=device)
    ),
    "gelu": lambda device: _choose("gelu", _tokens(device, HEADS * WIDTH)),
}
"""What "auto" takes for each op, fp32 in inference."""
