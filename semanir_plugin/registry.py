"""The node of this package in OpenMMLab's tree of registries, which mmengine imports at its first `semanir_plugin.X`.

BasicSR's registries are filled elsewhere, by `semanir_plugin.registration`.
"""

from __future__ import annotations

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

__all__ = ["MODELS"]

MODELS = Registry("model", parent=MMENGINE_MODELS, scope="semanir_plugin", locations=["semanir_plugin.openmmlab"])
