"""Every architecture and block in OpenMMLab's registries, under the scope `semanir_plugin`.

`mmengine.registry.MODELS.build(dict(type="semanir_plugin.SemanIR", upscale=2))` builds one, in any OpenMMLab project,
and needs no import of this package.
"""

from __future__ import annotations

from torch import nn

from semanir_plugin import archs, blocks
from semanir_plugin.registry import MODELS

__all__: list[str] = []

for _package in (archs, blocks):
    for _name in _package.__all__:
        _target = getattr(_package, _name)
        if isinstance(_target, type) and issubclass(_target, nn.Module):
            MODELS.register_module(name=_name, module=_target, force=True)
