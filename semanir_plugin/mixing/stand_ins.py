"""Modules in place of others, or behind them, that convert features to a block's layout and back."""

from __future__ import annotations

from math import isqrt
from typing import Any

from torch import Tensor, nn

from semanir_plugin.blocks.attention import Attention
from semanir_plugin.blocks.shared_semantics import SharedSemantics
from semanir_plugin.blocks.windows import CutWindows
from semanir_plugin.mixing.places import Form, image_size

__all__ = ["SequenceSize", "StandIn", "WindowsStandIn"]


class SequenceSize:
    """Height and width of token sequences, taken from the arguments of a module around them.

    An instance is a forward pre-hook of that module, with keywords.
    """

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """Record the candidates for height and width."""
        self.sizes = list(image_size(arguments, keywords))

    def of(self, tokens: int) -> tuple[int, int]:
        """Return the height and width of so many tokens.

        Raises:
            RuntimeError: The module around was not told.
        """
        for height, width in self.sizes:
            if height * width == tokens:
                return height, width
        raise RuntimeError(f"no module around was given the height and width of {tokens} tokens")


class StandIn(nn.Module):
    """A block in the place of a module, of which it ignores all arguments but the features.

    Args:
        block: Maps (B, H, W, C) to the same shape.
        form: How the network has its features there.
        size: Of sequences, their height and width; without, a sequence is one row.
    """

    def __init__(self, block: nn.Module, form: Form, size: SequenceSize | None = None) -> None:
        super().__init__()
        self.mixed = block
        self.form = form
        self.size = size

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """Map features to the same shape."""
        return through(self.mixed, x, self.form, self.size)


class AppendedHook:
    """Forward hook that passes a module's output through a block.

    Args:
        child: Name of the block in the module.
        form: How the network has its features there.
        size: Of sequences, their height and width; without, a sequence is one row.
    """

    def __init__(self, child: str, form: Form, size: SequenceSize | None = None) -> None:
        self.child = child
        self.form = form
        self.size = size

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the block's output instead of the module's."""
        return through(module.get_submodule(self.child), output, self.form, self.size)


def through(block: nn.Module, x: Tensor, form: Form, size: SequenceSize | None) -> Tensor:
    """Pass features of any form through a block on (B, H, W, C)."""
    out: Tensor
    if form is Form.MAP:
        out = block(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out.contiguous() if x.is_contiguous() else out  # as the module would, whose features a host may view
    if form is Form.MAP_LAST:
        out = block(x)
        return out
    batch, tokens, dim = x.shape
    if form is Form.WINDOWS:
        height, width = isqrt(tokens), isqrt(tokens)
    else:
        height, width = (1, tokens) if size is None else size.of(tokens)
    out = block(x.reshape(batch, height, width, dim)).reshape(batch, tokens, dim)
    return out


class WindowsStandIn(nn.Module):
    """Attention in the place of another that is given windows and, where they are shifted, a mask, as Swin's is.

    Args:
        attn: Attention on windows.
        topk: Of key-semantic attention, keys per query.
        shared: Dictionaries shared with other layers; without, each pass builds its own.
        position: What tells the window positions of layers that share apart: by how much the windows are shifted; None:
            whether there is a mask.
    """

    def __init__(
        self,
        attn: Attention,
        *,
        topk: int = 1,
        shared: SharedSemantics | None = None,
        position: int | None = None,
    ) -> None:
        super().__init__()
        self.mixed = attn
        self.topk = topk
        self.shared = shared
        self.position = position

    def forward(self, x: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Map windows to the same shape.

        Args:
            x: (B * R, N, C).
            mask: (R, N, N), 0 where a query, first, and a key come from one region of the image.
        """
        windows = CutWindows(None if mask is None or self.position == 0 else region_labels(mask))
        if self.shared is None:
            context = self.mixed.context(x, windows, self.topk)
        else:
            position = self.position if self.position is not None else mask is not None
            context = self.shared.context(self.mixed, x, windows, self.topk, position=position)
        out: Tensor = self.mixed(x, context)
        return out


def region_labels(mask: Tensor) -> Tensor:
    """Return a label for each token, (R, N): the first token of its region, which a mask (R, N, N) leaves at 0."""
    return (mask == 0).int().argmax(dim=-1)
