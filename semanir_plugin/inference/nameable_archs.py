"""Which networks a file of weights may ask for: those from image to image that read and download nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from semanir_plugin.errors import UserError
from semanir_plugin.registry import ARCHS

__all__ = ["IMAGE_TO_IMAGE", "check_network"]

_CURE = "give an option file you trust: -opt, or in Python options="

IMAGE_TO_IMAGE = frozenset({"ECBSR", "EDSR", "MSRResNet", "RCAN", "RIDNet", "RRDBNet", "SRVGGNetCompact", "SwinIR"})
"""Classes of BasicSR's. Others download weights (VGGFeatureExtractor), open files that their options name (SpyNet,
BasicVSR, DFDNet), or take clips, faces or noise."""


def check_network(options: Mapping[str, Any], path: object) -> None:
    """Refuse the options that a checkpoint has of its network if building that could read or fetch other files.

    Architectures of this package and of packages that the user imports are taken to be from image to image.

    Args:
        options: `type` and its options; networks within count, too.
        path: The checkpoint, for messages.

    Raises:
        UserError: An architecture of BasicSR is not among `IMAGE_TO_IMAGE`, or an option names a path.
    """
    for each in _sections(options):
        name = each.get("type")
        if _reaches_out(name):
            known = ", ".join(sorted(IMAGE_TO_IMAGE))
            raise UserError(
                f"{path}: asks for {name}; of BasicSR's networks a checkpoint may only name those from image to image "
                f"({known}); {_CURE}"
            )
        for key, value in each.items():
            if key.endswith("path") and isinstance(value, str):
                raise UserError(f"{path}: its network_g would open a file ({key}: {value}); {_CURE}")


def _sections(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _sections(each)


def _reaches_out(name: Any) -> bool:
    try:
        arch = ARCHS.find(name) if isinstance(name, str) else None
    except KeyError:  # told when it is to be built
        return False
    return arch is not None and arch.__module__.startswith("basicsr.") and arch.__name__ not in IMAGE_TO_IMAGE
