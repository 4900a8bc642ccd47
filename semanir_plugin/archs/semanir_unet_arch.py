"""SemanIR, U-shaped: restoration at the size of the input with shared key semantics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from einops import rearrange
from torch import Tensor, nn

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.archs.staged_network import (
    MOST_LAYERS,
    Depth,
    Shift,
    StagedNetwork,
    Topk,
    check_arguments,
    shift_pattern,
)
from semanir_plugin.blocks import KeySemanticStage, SizeRequirements
from semanir_plugin.blocks.attention import AttentionKind
from semanir_plugin.blocks.feed_forward import FeedForwardKind
from semanir_plugin.blocks.padding import check_images, crop_to, pad_to_multiple
from semanir_plugin.blocks.position_bias import PositionBias
from semanir_plugin.blocks.prompts import DegradationPrompts, modulate
from semanir_plugin.blocks.resampling import Downsample, Upsample
from semanir_plugin.ops.key_semantics import Similarity
from semanir_plugin.registry import ARCHS
from semanir_plugin.schema.values import Count, FromZero, Positive, Range

__all__ = ["SemanIRUNet"]


@ARCHS.register
class SemanIRUNet(StagedNetwork):
    """U-shaped SemanIR for denoising, JPEG artifacts, demosaicking, deblurring and adverse weather.

    Ren et al., "Sharing Key Semantics in Transformer Makes Efficient Image Restoration", NeurIPS 2024, section 3.1.
    Each level halves the size and doubles the channels; the decoder takes the encoder's features in by concatenation
    and a 1x1 convolution, except at full size, where its stages keep both halves. The network adds to its input, at
    first little (not in the paper). Images of any size are padded by reflection to a multiple of what the windows of
    all levels need, and the result cropped.

    Args:
        in_chans: Channels of the image: 3 for RGB, 1 for gray.
        embed_dim: Channels at full size, a multiple of `head_dim`.
        depths: Layers of the stages of each level; the last level is the bottom, which has one stage, the others two.
        refinement_depth: Layers of the final stage at full size.
        head_dim: Channels of an attention head.
        window_sizes: Side of the windows of each level, in its pixels.
        mlp_ratio: Hidden channels of the MLPs, as a multiple of the level's channels.
        topk: Keys per query; or several: training samples one per forward pass, evaluation takes the largest.
            Windows of fewer tokens offer all they have.
        similarity: "dot", as published, or "cosine".
        shift: "stage": the windows of every second stage are shifted; "layer": those of every second layer; "none".
        attn: Kind of attention: "key_semantic", as published, "assa" (AST's) or "window" (Swin's).
        position_bias: Of key-semantic attention: "table", as published, or "factorised": of low rank and in the scores
            themselves (arXiv 2603.06738), see `FactorisedPositionBias`.
        ffn: Kind of feed-forward network: "mlp", as published, "frfn" (AST's) or "leff" (Uformer's).
        prompts: Learned prompts, for one network of several restorations; 0 for none, as published. Mixed by weights
            that the bottom's features tell, pooled over image or tile, they scale and shift what decoder stages take.
        use_checkpoint: Compute the layers again in the backward pass instead of keeping what they computed.
        compile_backend: Compile the stages by `torch.compile` with this backend, such as "inductor".

    Raises:
        ValueError: An argument is not as above.
    """

    def __init__(
        self,
        *,
        in_chans: Count = 3,
        embed_dim: Count = 64,
        depths: Sequence[Depth] = (4, 4, 4, 4),
        refinement_depth: Annotated[int, Range(least=0, most=MOST_LAYERS)] = 4,
        head_dim: Count = 32,
        window_sizes: Sequence[Count] = (32, 32, 16, 8),
        mlp_ratio: Positive = 2.0,
        topk: Topk = 512,
        similarity: Similarity = "dot",
        shift: Shift = "stage",
        attn: AttentionKind = "key_semantic",
        position_bias: PositionBias = "table",
        ffn: FeedForwardKind = "mlp",
        prompts: FromZero = 0,
        use_checkpoint: bool = False,
        compile_backend: str | None = None,
    ) -> None:
        check_arguments(SemanIRUNet, locals())
        super().__init__(attn, topk)
        if len(depths) != len(window_sizes) or len(depths) < 2:
            raise ValueError(
                f"depths and window_sizes need one entry per level, two levels or more, got {len(depths)} and "
                f"{len(window_sizes)}"
            )
        if embed_dim % head_dim:
            raise ValueError(f"embed_dim {embed_dim} is not a multiple of head_dim {head_dim}")
        levels, multiple = len(depths), _common_multiple(window_sizes)
        self.descriptor = NetworkDescriptor(
            in_channels=in_chans, out_channels=in_chans, size=SizeRequirements(multiple_of=multiple), topk=self.topk
        )
        dims = [embed_dim * 2**level for level in range(levels)]
        # Down, bottom, up, refinement; at full size the decoder's stages have the channels of both halves.
        at = [*range(levels), *range(levels - 2, -1, -1), 0]
        stage_dims = [*dims, *dims[-2:0:-1], 2 * embed_dim, 2 * embed_dim]
        stage_depths = [*(depths[level] for level in at[:-1]), refinement_depth]
        stages = [
            KeySemanticStage(
                dim,
                dim // head_dim,
                window_size=window_sizes[level],
                mlp_ratio=mlp_ratio,
                shifted=shifted,
                similarity=similarity,
                attn=attn,
                position_bias=position_bias,
                ffn=ffn,
                use_checkpoint=use_checkpoint,
            )
            for level, dim, shifted in zip(at, stage_dims, shift_pattern(shift, stage_depths), strict=True)
        ]

        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.encoder = nn.ModuleList(stages[: levels - 1])
        self.downs = nn.ModuleList(Downsample(dim, 2 * dim) for dim in dims[:-1])
        self.bottom = stages[levels - 1]
        self.ups = nn.ModuleList(Upsample(dim, dim // 2, 2) for dim in dims[:0:-1])
        self.reductions = nn.ModuleList(nn.Conv2d(2 * dim, dim, 1) for dim in dims[-2:0:-1])
        self.decoder = nn.ModuleList(stages[levels:-1])
        self.prompts = DegradationPrompts(dims[-1], stage_dims[levels:-1], prompts) if prompts else None
        self.refinement = stages[-1]
        self.conv_last = nn.Conv2d(2 * embed_dim, in_chans, 3, padding=1)
        self.finish(KeySemanticStage, compile_backend)
        self._init_near_identity()

    @torch.no_grad()
    def _init_near_identity(self) -> None:
        """Let the network add little to its input at first: the noise it would add is slow to unlearn."""
        for parameter, factor in ((self.conv_last.weight, 0.01), (self.conv_last.bias, 0.0)):
            assert parameter is not None
            parameter.mul_(factor)

    def forward(self, x: Tensor, topk: int | None = None) -> Tensor:
        """Restore a batch of images.

        Args:
            x: (B, in_chans, H, W) in about [0, 1], any H and W.
            topk: Keys per query for this pass, instead of the constructor's.

        Returns:
            (B, in_chans, H, W), in about [0, 1].

        Raises:
            ValueError: `x` has other dimensions or channels.
        """
        check_images(x, self.descriptor.in_channels)
        height, width = x.shape[-2:]
        topk = self.sample_topk(topk)
        image = pad_to_multiple(x, self.descriptor.size.multiple_of)
        features, skips = self.conv_first(image), []
        for stage, down in zip(self.encoder, self.downs, strict=True):
            features = _apply(stage, features, topk)
            skips.append(features)
            features = down(features)
        features = _apply(self.bottom, features, topk)
        modulations = [] if self.prompts is None else self.prompts(features)
        for index, (up, stage) in enumerate(zip(self.ups, self.decoder, strict=True)):
            features = torch.cat([up(features), skips.pop()], dim=1)
            if index < len(self.reductions):
                features = self.reductions[index](features)
            if modulations:
                features = modulate(features, modulations[index])
            features = _apply(stage, features, topk)
        features = _apply(self.refinement, features, topk)
        return crop_to(image + self.conv_last(features), height, width).contiguous()


def _common_multiple(window_sizes: Sequence[int]) -> int:
    """Return the multiple that image sizes are padded to, so that windows tile every level without a remainder."""
    sides = [size * 2**level for level, size in enumerate(window_sizes)]  # in pixels of the image
    for level, side in enumerate(sides):
        if side < 1 or max(sides) % side:
            raise ValueError(
                f"window_sizes {list(window_sizes)} do not fit into each other: {window_sizes[level]} pixels at level "
                f"{level} are {side} of the image, which does not divide {max(sides)}"
            )
    result: int = max(sides)
    return result


def _apply(stage: nn.Module, x: Tensor, topk: int) -> Tensor:
    out: Tensor = rearrange(stage(rearrange(x, "b c h w -> b h w c"), topk), "b h w c -> b c h w")
    return out
