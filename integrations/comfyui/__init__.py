"""Nodes for ComfyUI: restore images by SemanIR, AST and what else semanir_plugin loads.

This folder goes to ComfyUI's `custom_nodes`, under any name. Its import also enters the architectures in spandrel's
registry, so that ComfyUI's own "Load Upscale Model" takes their files.
"""

from __future__ import annotations

import semanir_plugin.spandrel  # noqa: F401  # registers

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
