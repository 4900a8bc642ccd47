"""Every architecture and block in OpenMMLab's registries, under the scope `semanir_plugin`.

`mmengine.registry.MODELS.build(dict(type="semanir_plugin.SemanIR", upscale=2))` builds one, in any OpenMMLab project,
and needs no import of this package: `semanir_plugin.import_hooks` imports this module once mmengine's registries are.
"""

from __future__ import annotations

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry
from torch import nn

from semanir_plugin import archs, blocks

__all__ = ["MODELS"]

MODELS = MMENGINE_MODELS.children.get("semanir_plugin") or Registry(
    "model", parent=MMENGINE_MODELS, scope="semanir_plugin", locations=["semanir_plugin.openmmlab"]
)

for _package in (archs, blocks):
    for _name in _package.__all__:
        _target = getattr(_package, _name)
        if isinstance(_target, type) and issubclass(_target, nn.Module):
            MODELS.register_module(name=_name, module=_target, force=True)
