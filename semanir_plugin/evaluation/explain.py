"""Plot the pixels that one pixel attends to: the key-semantic dictionaries of a network's stages, over its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from semanir_plugin.archs import describe
from semanir_plugin.blocks import KeySemanticStage
from semanir_plugin.blocks.padding import pad_to_multiple, reflect_indices
from semanir_plugin.blocks.windows import CutWindows
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.evaluation.pictures import check_picture_path, save_figure
from semanir_plugin.inference.images import decode_image
from semanir_plugin.inference.loading import load
from semanir_plugin.ops import KeySemantics
from semanir_plugin.option_files import read_network, read_option_file
from semanir_plugin.path_safety import check_ordinary
from semanir_plugin.pixels import FloatImage, to_uint8

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Choice", "ExplainArguments", "choose_topks", "explain", "explain_pixel", "find_part", "plot_explanation"]

PANEL = 2.1  # inches
WINDOW_COLOUR, PIXEL_COLOUR = "#e69f00", "#0072b2"  # of the colour-blind-safe Okabe-Ito palette
KEY_COLOUR = (230, 159, 0)
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class ExplainArguments:
    """The flags of `basicsr explain`.

    Attributes:
        image: Image that the network restores.
        at: Row and column of the pixel.
        output: The picture.
        model: Checkpoint, or name of shipped weights; None: that of the option file.
        opt: An option file whose `network_g` the checkpoint is of; None: the checkpoint says it.
        topks: Keys per query; None: some up to the network's own.
        part: Of an image with a longer side, how much around the pixel is read.
    """

    image: Path
    at: tuple[int, int]
    output: Path
    model: str | None = None
    opt: str | None = None
    topks: Sequence[int] | None = None
    part: int = 512


def explain(args: ExplainArguments) -> str:
    """Plot the pixels that a pixel attends to; return a sentence on the part of the image that was read.

    Raises:
        UserError: The image, the pixel, the weights or the options are not right, or the picture cannot be written.
    """
    check_picture_path(args.output)
    if args.output.exists() and args.image.exists() and args.output.samefile(args.image):
        raise UserError(f"{args.output}: is the image itself; choose another name for the picture")
    network = _build_network(args)
    topks = sorted(set(args.topks)) if args.topks else choose_topks(network)
    image = _read_image(args.image, args.at, gray=describe(network).in_channels == 1)
    size, multiple_of = (image.shape[0], image.shape[1]), describe(network).size.multiple_of
    rows, columns = find_part(size, args.at, side=args.part, multiple_of=multiple_of)
    seen = image[rows, columns]
    at = (args.at[0] - rows.start, args.at[1] - columns.start)
    batch = torch.from_numpy(seen.transpose(2, 0, 1)[None].copy())
    try:
        explanation = explain_pixel(network, batch, at, topks)
    except ValueError as error:  # the image is too small for the network
        raise UserError(f"{args.image}: {one_line(error)}; choose a larger one") from error
    shown = to_uint8(seen).repeat(3 // seen.shape[2], axis=-1)
    plot_explanation(shown, explanation, args.output, at=at, corner=(rows.start, columns.start))
    if seen.shape == image.shape:
        return "the whole image"
    return f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"


def _build_network(args: ExplainArguments) -> nn.Module:
    network = None if args.opt is None else read_network(args.opt)
    options = {} if args.opt is None else read_option_file(args.opt).data
    model = args.model or (options.get("path") or {}).get("pretrain_network_g")
    if not model:
        raise UserError("no weights are named; give --model, or path.pretrain_network_g in the option file")
    built = load(model, options=network, device="cpu").module
    choose_topks(built)
    return built


def _read_image(path: Path, at: tuple[int, int], *, gray: bool) -> FloatImage:
    """Return (H, W, 3) in RGB order, or (H, W, 1), in which the pixel lies."""
    check_ordinary(path)
    try:
        image = decode_image(path.read_bytes(), "gray" if gray else "color")[..., ::-1]
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    height, width = image.shape[:2]
    if at[0] >= height or at[1] >= width:
        raise UserError(f"--at {at[0]},{at[1]}: {path} has rows 0 to {height - 1} and columns 0 to {width - 1}")
    return image


@dataclass(frozen=True)
class Choice:
    """Window and chosen keys of a pixel's token in one stage.

    Attributes:
        stage: Number of the stage, from 1.
        topk: Keys per query that the network ran with.
        shifted: Whether the window is a shifted one.
        token_side: Side of a token in pixels of the image.
        top: First row of the token's window in pixels; of a shifted window that wraps around, of its part there.
        left: First column, likewise.
        keys: (h, w) bool, for each token of the window from (top, left) on whether it was chosen.
    """

    stage: int
    topk: int
    shifted: bool
    token_side: int
    top: int
    left: int
    keys: NDArray[np.bool_]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, height and width of the window in pixels."""
        height, width = self.keys.shape
        return self.top, self.left, height * self.token_side, width * self.token_side


def choose_topks(network: nn.Module) -> list[int]:
    """Return numbers of keys that show what k does: those the network draws from, or parts of its one.

    Raises:
        UserError: The network has no key-semantic stages.
    """
    if not _key_semantic_stages(network):
        raise UserError(f"{type(network).__name__} has no key-semantic stages, so there are no dictionaries to show")
    chosen = sorted(set(describe(network).topk or ()))
    return chosen if len(chosen) > 1 else sorted({max(1, chosen[0] // part) for part in (8, 4, 2, 1)})


def find_part(size: tuple[int, int], at: tuple[int, int], *, side: int, multiple_of: int) -> tuple[slice, slice]:
    """Return the rows and columns of an image that a network is given, so that a large one does not take minutes.

    Args:
        size: Height and width of the image.
        at: Row and column of the pixel.
        side: Least side of the part around the pixel; a smaller image is given whole.
        multiple_of: Its windows stay where they are if the part starts at a multiple of this.
    """
    rows, columns = (_span(*each, side, multiple_of) for each in zip(size, at, strict=True))
    return rows, columns


def _span(length: int, at: int, side: int, multiple_of: int) -> slice:
    if length <= side:
        return slice(0, length)
    start = max(0, at - side // 2) // multiple_of * multiple_of
    # Two more: else a window next to the pixel might be cut off.
    return slice(start, min(length, start + (-(-side // multiple_of) + 2) * multiple_of))


@torch.no_grad()
def explain_pixel(
    network: nn.Module, image: Tensor, at: tuple[int, int], topks: Sequence[int]
) -> list[tuple[Choice, ...]]:
    """Return the keys that a pixel's token chose, for each stage and each number of keys.

    The network runs once with each, since what a stage sees depends on the stages before. Where a stage has two window
    positions, that of its first layer is shown.

    Args:
        network: Has key-semantic stages.
        image: (1, C, H, W) where the network is.
        at: Row and column of the pixel.
        topks: Keys per query.
    """
    size = pad_to_multiple(image[:, :1], describe(network).size.multiple_of).shape[-2:]
    by_topk = [_run(network, image, at, size, topk) for topk in tqdm(topks, desc="keys per query", disable=None)]
    return list(zip(*by_topk, strict=True))


def _run(network: nn.Module, image: Tensor, at: tuple[int, int], size: torch.Size, topk: int) -> list[Choice]:
    choices: list[Choice] = []

    def look(stage: nn.Module, inputs: tuple[Tensor, int]) -> None:
        assert isinstance(stage, KeySemanticStage)
        choices.append(_choose(stage, *inputs, at, size[0] // inputs[0].shape[1], len(choices) + 1))

    hooks = [stage.register_forward_pre_hook(look) for stage in _key_semantic_stages(network)]
    try:
        network(image, topk=topk)
    finally:
        for hook in hooks:
            hook.remove()
    return choices


def _key_semantic_stages(network: nn.Module) -> list[KeySemanticStage]:
    stages = [module for module in network.modules() if isinstance(module, KeySemanticStage)]
    return [stage for stage in stages if stage.attn.builds_dictionary]


def _choose(stage: KeySemanticStage, x: Tensor, topk: int, at: tuple[int, int], side: int, number: int) -> Choice:
    shifted = bool(stage.layers[0].shifted)
    grid = stage.grid(x, shifted=shifted)
    tokens = torch.arange(x.shape[1] * x.shape[2], device=x.device).view(1, *x.shape[1:3], 1)
    tokens = grid.partition(tokens).squeeze(-1)  # (windows, N)
    window, query = (int(each) for each in (tokens == at[0] // side * x.shape[2] + at[1] // side).nonzero()[0])
    regions = grid.regions(x.device)
    regions = None if regions is None else regions[window : window + 1]
    features = grid.partition(x)[window : window + 1]
    semantics = stage.attn.context(features, CutWindows(regions), topk)
    assert isinstance(semantics, KeySemantics)
    chosen = semantics.mask()[0, query]
    allowed = torch.ones_like(chosen) if regions is None else regions[0] == regions[0, query]
    return Choice(number, topk, any(grid.shift), side, *_to_map(tokens[window], allowed, chosen, x.shape[2], side))


def _to_map(tokens: Tensor, allowed: Tensor, chosen: Tensor, width: int, side: int) -> tuple[int, int, NDArray]:
    """Return top, left and map of the tokens that may be chosen, a rectangle of the image."""
    rows, columns = (each[allowed].cpu().numpy() for each in (tokens // width, tokens % width))
    top, left = rows.min(), columns.min()
    keys = np.zeros((rows.max() - top + 1, columns.max() - left + 1), bool)
    keys[rows - top, columns - left] = chosen[allowed].cpu().numpy()
    return int(top) * side, int(left) * side, keys


def plot_explanation(
    image: NDArray[np.uint8],
    explanation: Sequence[Sequence[Choice]],
    path: Path,
    *,
    at: tuple[int, int],
    corner: tuple[int, int] = (0, 0),
) -> None:
    """Plot a row for each stage: the image, the window that the pixel lies in, and the keys chosen with each k.

    Args:
        image: (H, W, 3) RGB, the network's input before padding.
        explanation: As `explain_pixel` returns it.
        path: The picture, of a kind that `check_picture_path` lets pass.
        at: Row and column of the pixel.
        corner: Row and column at which the image lies in a larger one, for the title.

    Raises:
        UserError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    count = len(explanation), 2 + len(explanation[0])
    figure = Figure(figsize=(PANEL * count[1] + 0.3, (PANEL + 0.25) * count[0] + 0.6), layout="constrained")
    grid = figure.subplots(*count, squeeze=False)
    titles = ["image", "window", *(f"k = {choice.topk}" for choice in explanation[0])]
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize="medium")
    for row, choices in zip(grid, explanation, strict=True):
        _plot_image(row[0], image, at, choices[0])
        _plot_window(row[1], image, at, choices[0])
        for axes, choice in zip(row[2:], choices, strict=True):
            _plot_window(axes, image, at, choice, only_keys=True)
    where = f"pixel at row {at[0] + corner[0]}, column {at[1] + corner[1]}"
    figure.suptitle(f"What the {where} (blue) attends to in its window: orange")
    save_figure(figure, path)


def _plot_image(axes: Axes, image: NDArray[np.uint8], at: tuple[int, int], choice: Choice) -> None:
    axes.imshow(image)
    _outline(axes, choice.box, WINDOW_COLOUR)
    axes.plot(at[1], at[0], marker="s", markersize=4, color=PIXEL_COLOUR, markeredgecolor="white", markeredgewidth=0.8)
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5), xticks=[], yticks=[])
    axes.set_ylabel(f"stage {choice.stage}")


def _plot_window(
    axes: Axes, image: NDArray[np.uint8], at: tuple[int, int], choice: Choice, *, only_keys: bool = False
) -> None:
    top, left, height, width = choice.box
    side = choice.token_side
    spans = ((image.shape[0], top, top + height), (image.shape[1], left, left + width))
    # What lies in the padding is shown as the network pads, by reflection.
    rows, columns = (reflect_indices(size, stop, CPU)[start:].numpy() for size, start, stop in spans)
    window = image[rows[:, None], columns]
    shown = _highlight(window, choice.keys.repeat(side, 0).repeat(side, 1)) if only_keys else window
    axes.imshow(shown, extent=(left - 0.5, left + width - 0.5, top + height - 0.5, top - 0.5))
    _outline(axes, (at[0] // side * side, at[1] // side * side, side, side), PIXEL_COLOUR)
    if top + height > image.shape[0]:
        axes.axhline(image.shape[0] - 0.5, color="black", linestyle=":", linewidth=1)
    if left + width > image.shape[1]:
        axes.axvline(image.shape[1] - 0.5, color="black", linestyle=":", linewidth=1)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(_describe_keys(choice) if only_keys else _describe_window(choice), fontsize="small")


def _highlight(window: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fade an (H, W, 3) image to grey, and tint what was chosen, so that the structure of both can be seen."""
    gray = window.mean(-1, keepdims=True)
    tinted = 0.15 * window + 0.85 * (0.75 + 0.25 * gray / 255) * np.array(KEY_COLOUR)
    result: NDArray[np.uint8] = np.where(chosen[..., None], tinted, 0.45 * gray + 0.55 * 255).round().astype(np.uint8)
    return result


def _describe_window(choice: Choice) -> str:
    height, width = choice.keys.shape
    tokens = "" if choice.token_side == 1 else f" tokens of {choice.token_side} x {choice.token_side}"
    return f"{'shifted, ' if choice.shifted else ''}{height} x {width}{tokens} pixels"


def _describe_keys(choice: Choice) -> str:
    return f"{int(choice.keys.sum()):,} of {choice.keys.size:,} tokens"


def _outline(axes: Axes, box: tuple[int, int, int, int], colour: str) -> None:
    from matplotlib.patches import Rectangle

    top, left, height, width = box
    corner = (left - 0.5, top - 0.5)
    axes.add_patch(Rectangle(corner, width, height, fill=False, clip_on=False, edgecolor="white", linewidth=3))
    axes.add_patch(Rectangle(corner, width, height, fill=False, clip_on=False, edgecolor=colour, linewidth=1.6))
