"""Modules that architectures are built from. Tokens are (B, H, W, C) unless a docstring says otherwise."""

from semanir_plugin.blocks.adaptive_sparse import AdaptiveSparseLayer, AdaptiveSparseStage, DropPath, FeedForwardLayer
from semanir_plugin.blocks.attention import AdaptiveSparseAttention, KeySemanticAttention, WindowAttention
from semanir_plugin.blocks.feed_forward import FRFN, LeFF, Mlp
from semanir_plugin.blocks.position_bias import ContinuousPositionBias
from semanir_plugin.blocks.resampling import PixelShuffleDirectHead, PixelShuffleHead
from semanir_plugin.blocks.sizes import SizeRequirements, crop_to, pad_to_multiple
from semanir_plugin.blocks.stage import KeySemanticLayer, KeySemanticStage

__all__ = [
    "FRFN",
    "AdaptiveSparseAttention",
    "AdaptiveSparseLayer",
    "AdaptiveSparseStage",
    "ContinuousPositionBias",
    "DropPath",
    "FeedForwardLayer",
    "KeySemanticAttention",
    "KeySemanticLayer",
    "KeySemanticStage",
    "LeFF",
    "Mlp",
    "PixelShuffleDirectHead",
    "PixelShuffleHead",
    "SizeRequirements",
    "WindowAttention",
    "crop_to",
    "pad_to_multiple",
]
