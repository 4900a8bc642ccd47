"""AST: a U-shaped transformer with adaptive sparse attention and feature refinement."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from semanir_plugin.archs.ast_checkpoints import from_authors_layout, is_authors_layout
from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.archs.staged_network import Depth, StagedNetwork, Topk, check_arguments
from semanir_plugin.blocks import AdaptiveSparseLayer, AdaptiveSparseStage, FeedForwardLayer, SizeRequirements
from semanir_plugin.blocks.attention import AttentionKind
from semanir_plugin.blocks.feed_forward import FeedForwardKind
from semanir_plugin.blocks.padding import check_images, crop_to, pad_to_multiple
from semanir_plugin.ops.common.eager import in_torch_func
from semanir_plugin.ops.key_semantics import Similarity
from semanir_plugin.registry import ARCHS
from semanir_plugin.schema.values import Count, Positive, Range

__all__ = ["AST"]

NEGATIVE_SLOPE = 0.01

_logger = logging.getLogger(__name__)


@ARCHS.register
class AST(StagedNetwork):
    """U-shaped transformer whose attention weighs a softmax against a squared ReLU of the same scores.

    Zhou et al., "Adapt or Perish: Adaptive Sparse Transformer with Attentive Feature Refinement for Image Restoration",
    CVPR 2024. The encoder refines features without attention; bottleneck and decoder attend in windows, shifted in
    every second layer. The defaults are the paper's B, of 65.4 M parameters; T, of 6.6 M, has an `embed_dim` of 16 and
    nine twos as `depths`. Options have the authors' names, and their checkpoints load (`ast_checkpoints`). Images of
    any size are padded by reflection, each side to a multiple of what the windows of all levels need (128), and the
    result cropped.

    Args:
        img_size: Side of the training patches. A stage to which they are a single window, or less, does not shift its
            windows, which are then of that size, however large the images are.
        in_chans: Channels of the image: 3 for RGB, 1 for gray.
        dd_in: Channels of the input; by default `in_chans`. If they differ, the network does not add to its input.
        embed_dim: Channels at full size. A level has twice those of the one above, in the decoder twice again.
        depths: Layers of each stage: encoder, bottleneck, decoder.
        num_heads: Attention heads of each stage; those of the encoder are not used.
        win_size: Side of the attention windows in tokens.
        mlp_ratio: Hidden channels of the feed-forward networks, as a multiple of the stage's.
        token_mlp: Kind of feed-forward network: "frfn", as published and by default, "leff" or "mlp".
        ffn: Another name of `token_mlp`, that of the other architectures here.
        attn: Kind of attention of bottleneck and decoder: "assa", as published, "key_semantic" (SemanIR's) or "window"
            (Swin's).
        topk: With key-semantic attention, keys per query; or several: training samples one per forward pass,
            evaluation takes the largest.
        similarity: With key-semantic attention, what makes two tokens alike: "dot" or "cosine".
        drop_path_rate: Largest probability of leaving out a residual branch in training, at the bottleneck; it grows
            from zero over the encoder and falls to zero over the decoder.
        use_checkpoint: Compute the layers again in the backward pass instead of keeping what they computed.
        compile_backend: Compile the stages by `torch.compile` with this backend, such as "inductor".

    Raises:
        ValueError: An argument is not as above.
    """

    def __init__(
        self,
        *,
        img_size: Count = 256,
        in_chans: Count = 3,
        dd_in: Count | None = None,
        embed_dim: Count = 32,
        depths: Sequence[Depth] = (1, 2, 8, 8, 2, 8, 8, 2, 1),
        num_heads: Sequence[Count] = (1, 2, 4, 8, 16, 16, 8, 4, 2),
        win_size: Count = 8,
        mlp_ratio: Positive = 4.0,
        token_mlp: FeedForwardKind | None = None,
        ffn: FeedForwardKind | None = None,
        attn: AttentionKind = "assa",
        topk: Topk = 32,
        similarity: Similarity = "dot",
        drop_path_rate: Annotated[float, Range(least=0, below=1)] = 0.1,
        use_checkpoint: bool = False,
        compile_backend: str | None = None,
    ) -> None:
        check_arguments(AST, locals())
        super().__init__(attn, topk)
        feed_forward = _one_of_two_names(ffn, token_mlp)
        dd_in = in_chans if dd_in is None else dd_in
        _check(img_size, depths, num_heads)
        levels = len(depths) // 2
        self.img_size = img_size
        self.dd_in = dd_in
        self.adds_to_input = dd_in == in_chans
        dims = [embed_dim * 2**level for level in range(levels + 1)]
        windows = [min(win_size, img_size // 2**level) for level in range(levels + 1)]
        multiple = math.lcm(*(window * 2**level for level, window in enumerate(windows)))
        self.descriptor = NetworkDescriptor(
            in_channels=dd_in, out_channels=in_chans, size=SizeRequirements(multiple_of=multiple), topk=self.topk
        )

        # Down, bottom, up; going up, a stage has the channels of the skip twice.
        at = [*range(levels), *range(levels, -1, -1)]
        stage_dims = [*dims, *(2 * dim for dim in dims[-2::-1])]
        stages: list[AdaptiveSparseStage] = []
        for level, dim, heads, rates in zip(
            at, stage_dims, num_heads, _drop_path_rates(depths, drop_path_rate), strict=True
        ):
            shift = windows[level] // 2 if img_size // 2**level > windows[level] else 0
            attention = Attention(attn, windows[level], heads, shift, similarity) if len(stages) >= levels else None
            layers = [
                _layer(dim, attention, index, mlp_ratio=mlp_ratio, ffn=feed_forward, drop_path=rate)
                for index, rate in enumerate(rates)
            ]
            stages.append(AdaptiveSparseStage(layers, use_checkpoint=use_checkpoint))

        self.conv_first = nn.Conv2d(dd_in, embed_dim, 3, padding=1)
        self.encoder = nn.ModuleList(stages[:levels])
        self.downs = nn.ModuleList(nn.Conv2d(dim, 2 * dim, 4, stride=2, padding=1) for dim in dims[:-1])
        self.bottom = stages[levels]
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(wide, dim, 2, stride=2)
            for wide, dim in zip(stage_dims[levels:-1], dims[-2::-1], strict=True)
        )
        self.decoder = nn.ModuleList(stages[levels + 1 :])
        self.conv_last = nn.Conv2d(2 * embed_dim, in_chans, 3, padding=1)
        self.finish(AdaptiveSparseStage, compile_backend)

    def forward(self, x: Tensor, topk: int | None = None) -> Tensor:
        """Restore a batch of images.

        Args:
            x: (B, dd_in, H, W) in about [0, 1], any H and W.
            topk: With key-semantic attention, keys per query for this pass, instead of the constructor's.

        Returns:
            (B, in_chans, H, W), in about [0, 1].

        Raises:
            ValueError: `x` has other dimensions or channels.
        """
        check_images(x, self.dd_in)
        height, width = x.shape[-2:]
        topk = self.sample_topk(topk)
        image = pad_to_multiple(x, self.descriptor.size.multiple_of)
        if not in_torch_func():  # in which tensors are of PyTorch's own order
            # Channels last throughout: maps and tokens are views of each other.
            image = image.contiguous(memory_format=torch.channels_last)
        features = self.conv_first(image)
        features, skips = F.leaky_relu(features, NEGATIVE_SLOPE), []
        for stage, down in zip(self.encoder, self.downs, strict=True):
            features = _apply(stage, features, topk)
            skips.append(features)
            features = down(features)
        features = _apply(self.bottom, features, topk)
        for up, stage in zip(self.ups, self.decoder, strict=True):
            features = _apply(stage, torch.cat([up(features), skips.pop()], dim=1), topk)
        out = self.conv_last(features)
        return crop_to(image + out if self.adds_to_input else out, height, width).contiguous()

    def translate_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights under this network's names: an authors' checkpoint is found out by its own."""
        if not is_authors_layout(state):
            return state
        _logger.warning(
            f"Weights of AST's authors, which do not record img_size: {self.img_size} is taken; "
            "for another, name an option file with it in its network_g."
        )
        return from_authors_layout(state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        for key in own:
            del state_dict[prefix + key]
        state_dict.update({prefix + key: value for key, value in self.translate_state(own).items()})
        super()._load_from_state_dict(state_dict, prefix, *args)


class Attention(NamedTuple):
    """Attention of a stage: its kind, side of its windows, heads, every second layer's shift, similarity of tokens."""

    kind: str
    window_size: int
    num_heads: int
    shift: int
    similarity: Similarity


def _layer(dim: int, attention: Attention | None, index: int, **options: Any) -> FeedForwardLayer:
    """Return the layer of that index in a stage."""
    if attention is None:
        return FeedForwardLayer(dim, **options)
    return AdaptiveSparseLayer(
        dim,
        attention.window_size,
        attention.num_heads,
        shift=attention.shift * (index % 2),
        attn=attention.kind,
        similarity=attention.similarity,
        **options,
    )


def _one_of_two_names(ffn: str | None, token_mlp: str | None) -> str:
    if ffn is not None and token_mlp is not None and ffn != token_mlp:
        raise ValueError(f"ffn {ffn!r} and token_mlp {token_mlp!r} are two names of one option: give one")
    return ffn or token_mlp or "frfn"


def _check(img_size: int, depths: Sequence[int], num_heads: Sequence[int]) -> None:
    if len(depths) != len(num_heads) or len(depths) % 2 == 0 or len(depths) < 3:
        raise ValueError(
            "depths and num_heads need one entry per stage: encoder, bottleneck and as many in the decoder as in the "
            f"encoder, got {len(depths)} and {len(num_heads)}"
        )
    smallest = 2 ** (len(depths) // 2)
    if img_size % smallest:
        raise ValueError(f"img_size must be a multiple of {smallest}, got {img_size}")


def _drop_path_rates(depths: Sequence[int], largest: float) -> list[list[float]]:
    """Return the rates of the layers of each stage: rising over the encoder, falling over the decoder."""
    levels = len(depths) // 2
    rising, falling = (_ramp(sum(part), largest) for part in (depths[:levels], depths[levels + 1 :]))
    rates = iter([*rising, *[largest] * depths[levels], *reversed(falling)])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _ramp(steps: int, last: float) -> list[float]:
    return [last * step / max(steps - 1, 1) for step in range(steps)]


def _apply(stage: nn.Module, x: Tensor, topk: int) -> Tensor:
    out: Tensor = rearrange(stage(rearrange(x, "b c h w -> b h w c"), topk), "b h w c -> b c h w")
    return out
