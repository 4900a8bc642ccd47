"""Modules that architectures are built from. Tokens are (B, H, W, C) unless a docstring says otherwise."""

from semanir_plugin.blocks.adaptive_sparse import AdaptiveSparseLayer, AdaptiveSparseStage, DropPath, FeedForwardLayer
from semanir_plugin.blocks.attention import AdaptiveSparseAttention, KeySemanticAttention, WindowAttention
from semanir_plugin.blocks.feed_forward import FRFN, LeFF, Mlp
from semanir_plugin.blocks.flat_ground import keep_flat_ground
from semanir_plugin.blocks.padding import SizeRequirements, crop_to, pad_to_multiple
from semanir_plugin.blocks.position_bias import ContinuousPositionBias, FactorisedPositionBias
from semanir_plugin.blocks.prompts import DegradationPrompts
from semanir_plugin.blocks.resampling import PixelShuffleDirectHead, PixelShuffleHead
from semanir_plugin.blocks.shared_semantics import SharedSemantics
from semanir_plugin.blocks.stage import KeySemanticLayer, KeySemanticStage
from semanir_plugin.blocks.token_maps import BLOCKS, KeySemanticMapAttention, MapAttention, ResidualBlock

__all__ = [
    "BLOCKS",
    "FRFN",
    "AdaptiveSparseAttention",
    "AdaptiveSparseLayer",
    "AdaptiveSparseStage",
    "ContinuousPositionBias",
    "DegradationPrompts",
    "DropPath",
    "FactorisedPositionBias",
    "FeedForwardLayer",
    "KeySemanticAttention",
    "KeySemanticLayer",
    "KeySemanticMapAttention",
    "KeySemanticStage",
    "LeFF",
    "MapAttention",
    "Mlp",
    "PixelShuffleDirectHead",
    "PixelShuffleHead",
    "ResidualBlock",
    "SharedSemantics",
    "SizeRequirements",
    "WindowAttention",
    "crop_to",
    "keep_flat_ground",
    "pad_to_multiple",
]
