"""Architectures: networks from image to image, each in `registry.ARCHS`."""

from semanir_plugin.archs.ast_arch import AST
from semanir_plugin.archs.bicubic_arch import Bicubic
from semanir_plugin.archs.descriptor import NetworkDescriptor, describe, input_channels
from semanir_plugin.archs.mixed_arch import MixedArch
from semanir_plugin.archs.semanir_arch import SemanIR
from semanir_plugin.archs.semanir_unet_arch import SemanIRUNet

__all__ = ["AST", "Bicubic", "MixedArch", "NetworkDescriptor", "SemanIR", "SemanIRUNet", "describe", "input_channels"]
