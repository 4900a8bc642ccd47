"""SemanIR, columnar: image super-resolution with shared key semantics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.archs.staged_network import (
    Depth,
    Shift,
    StagedNetwork,
    Topk,
    check_arguments,
    shift_pattern,
)
from semanir_plugin.blocks import KeySemanticStage, PixelShuffleDirectHead, PixelShuffleHead, SizeRequirements
from semanir_plugin.blocks.attention import AttentionKind
from semanir_plugin.blocks.feed_forward import FeedForwardKind
from semanir_plugin.blocks.flat_ground import keep_flat_ground
from semanir_plugin.blocks.layer_norm import LayerNorm
from semanir_plugin.blocks.padding import check_images, crop_to, pad_to_multiple
from semanir_plugin.blocks.position_bias import PositionBias
from semanir_plugin.blocks.stage import ResidualConvKind, residual_conv
from semanir_plugin.ops.key_semantics import Similarity
from semanir_plugin.registry import ARCHS
from semanir_plugin.schema.values import Count, Positive, Range

__all__ = ["SemanIR"]

# Mean colour of DIV2K, subtracted from RGB images as in EDSR and SwinIR.
RGB_MEAN = (0.4488, 0.4371, 0.4040)

Upsampler = Literal["pixelshuffle", "pixelshuffledirect"]

HEADS: dict[str, type[PixelShuffleHead | PixelShuffleDirectHead]] = {
    "pixelshuffle": PixelShuffleHead,
    "pixelshuffledirect": PixelShuffleDirectHead,
}


@ARCHS.register
class SemanIR(StagedNetwork):
    """Transformer whose stages share a key-semantic dictionary: each token attends to its k most similar ones.

    Ren et al., "Sharing Key Semantics in Transformer Makes Efficient Image Restoration", NeurIPS 2024. The defaults are
    the paper's S; B has eight stages, `depths` of eight eights and `num_heads` of eight sixes. Images of any size from
    8 x 8 are padded by reflection to a multiple of the window, and the result cropped.

    Args:
        upscale: Enlargement: 2, 3, 4 or 8; with `unshuffle` above 1 also 1.
        in_chans: Channels of input and output: 3 for RGB, 1 for gray.
        embed_dim: Channels of the features.
        depths: Layers of each stage.
        num_heads: Attention heads of each stage.
        window_size: Side of the attention windows in pixels of the input, or in cells of `unshuffle` pixels.
        mlp_ratio: Hidden channels of the MLPs, as a multiple of `embed_dim`.
        img_range: Range that images are scaled to inside the network, 1 or 255.
        upsampler: "pixelshuffle" (classical) or "pixelshuffledirect" (lightweight).
        resi_connection: "1conv" or "3conv".
        topk: Keys per query; or several: training samples one per forward pass, evaluation takes the largest.
        similarity: "dot", as published, or "cosine".
        shift: "stage": the windows of every second stage are shifted, one dictionary per stage; "layer": those of every
            second layer, two dictionaries per stage; "none".
        attn: Kind of attention: "key_semantic", as published, "assa" (AST's) or "window" (Swin's).
        position_bias: Of key-semantic attention: "table", as published, or "factorised": of low rank and in the scores
            themselves (arXiv 2603.06738), see `FactorisedPositionBias`.
        ffn: Kind of feed-forward network: "mlp", as published, "frfn" (AST's) or "leff" (Uformer's).
        interpolating_init: Start as bilinear enlargement instead of noise (x4 and x8 with "pixelshuffle": x2 in turn).
            Not in the paper; it makes short trainings useful, whose time would go into learning to enlarge.
        unshuffle: Side of the cells of pixels that become one token: with 2 the layers work on a quarter as many, whose
            first features are the four pixels of each channel, and the head enlarges twice as much. Not in the paper;
            large photographs take a fraction of the time.
        keep_flat: Give back ground without any detail as it is: pixels that equal all eight around them. Not in the
            paper; nothing is learnt, and white stays white.
        use_checkpoint: Compute the layers again in the backward pass instead of keeping what they computed.
        compile_backend: Compile the stages by `torch.compile` with this backend, such as "inductor".

    Raises:
        ValueError: An argument is not as above.
    """

    mean: Tensor

    def __init__(
        self,
        *,
        upscale: Literal[1, 2, 3, 4, 8] = 4,
        in_chans: Count = 3,
        embed_dim: Count = 180,
        depths: Sequence[Depth] = (6, 6, 6, 6, 6, 6),
        num_heads: Sequence[Count] = (6, 6, 6, 6, 6, 6),
        window_size: Count = 32,
        mlp_ratio: Positive = 2.0,
        img_range: Positive = 1.0,
        upsampler: Upsampler = "pixelshuffle",
        resi_connection: ResidualConvKind = "1conv",
        topk: Topk = 512,
        similarity: Similarity = "dot",
        shift: Shift = "stage",
        attn: AttentionKind = "key_semantic",
        position_bias: PositionBias = "table",
        ffn: FeedForwardKind = "mlp",
        interpolating_init: bool = False,
        unshuffle: Annotated[int, Range(least=1, most=4)] = 1,
        keep_flat: bool = False,
        use_checkpoint: bool = False,
        compile_backend: str | None = None,
    ) -> None:
        check_arguments(SemanIR, locals())
        super().__init__(attn, topk)
        if len(depths) != len(num_heads):
            raise ValueError(f"depths and num_heads must be of equal length, got {len(depths)} and {len(num_heads)}")
        if upsampler not in HEADS:
            raise ValueError(f"upsampler must be one of {list(HEADS)}, got {upsampler!r}")
        self.upscale = upscale
        self.unshuffle = unshuffle
        self.keep_flat = keep_flat
        self.img_range = img_range
        self.descriptor = NetworkDescriptor(
            scale=upscale,
            in_channels=in_chans,
            out_channels=in_chans,
            size=SizeRequirements(minimum=8, multiple_of=window_size * unshuffle),
            topk=self.topk,
            task="super-resolution" if upscale > 1 else None,
        )
        mean = RGB_MEAN if in_chans == 3 else (0.0,) * in_chans
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)

        self.conv_first = nn.Conv2d(in_chans * unshuffle**2, embed_dim, 3, padding=1)
        self.norm_first = LayerNorm(embed_dim)
        self.stages = nn.ModuleList(
            KeySemanticStage(
                embed_dim,
                heads,
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                shifted=shifted,
                similarity=similarity,
                resi_connection=resi_connection,
                attn=attn,
                position_bias=position_bias,
                ffn=ffn,
                use_checkpoint=use_checkpoint,
            )
            for shifted, heads in zip(shift_pattern(shift, depths), num_heads, strict=True)
        )
        self.norm = LayerNorm(embed_dim)
        self.conv_after_body = residual_conv(embed_dim, resi_connection)
        self.head = HEADS[upsampler](embed_dim, in_chans, upscale, unshuffle=unshuffle)
        self.finish(KeySemanticStage, compile_backend)
        if interpolating_init:
            self._init_as_interpolation(in_chans)

    def forward(self, x: Tensor, topk: int | None = None) -> Tensor:
        """Restore a batch of images.

        Args:
            x: (B, in_chans, H, W) in [0, 1], H and W at least 8.
            topk: Keys per query for this pass, instead of the constructor's.

        Returns:
            (B, in_chans, upscale * H, upscale * W), in about [0, 1].

        Raises:
            ValueError: `x` has other dimensions or channels, or is smaller than 8 x 8.
        """
        check_images(x, self.descriptor.in_channels)
        self.descriptor.size.check(x)
        height, width = x.shape[-2:]
        topk = self.sample_topk(topk)
        image, x = x, pad_to_multiple(x, self.descriptor.size.multiple_of)
        x = (x - self.mean) * self.img_range
        shallow = self.conv_first(x if self.unshuffle == 1 else F.pixel_unshuffle(x, self.unshuffle))
        deep = self.conv_after_body(self._body(shallow, topk)) + shallow
        x = self.head(deep) / self.img_range + self.mean
        x = crop_to(x, height * self.upscale, width * self.upscale).contiguous()
        return keep_flat_ground(x, image, self.upscale) if self.keep_flat else x

    def _body(self, x: Tensor, topk: int) -> Tensor:
        x = self.norm_first(rearrange(x, "b c h w -> b h w c"))
        for stage in self.stages:
            x = stage(x, topk)
        out: Tensor = rearrange(self.norm(x), "b h w c -> b c h w")
        return out

    @torch.no_grad()
    def _init_as_interpolation(self, in_chans: int) -> None:
        """Let the first features be the image, past the body, and the head enlarge them; let the layers add nothing."""
        channels = self.conv_first.in_channels
        if channels > self.conv_first.out_channels:
            raise ValueError(
                f"interpolating_init needs an embed_dim of at least in_chans * unshuffle ** 2 = {channels}, "
                f"got {self.conv_first.out_channels}"
            )
        last = [module for module in self.conv_after_body.modules() if isinstance(module, nn.Conv2d)][-1]
        for conv in (self.conv_first, last):
            for parameter in conv.parameters():
                parameter[:channels].zero_()
        for channel in range(channels):
            self.conv_first.weight[channel, channel, 1, 1] = 1
        self.head.init_as_interpolation(in_chans)
        for module in self.stages.modules():
            if isinstance(module, nn.LayerNorm):  # post-norm: what it scales is what a layer adds
                nn.init.zeros_(module.weight)
