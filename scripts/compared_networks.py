"""Networks that benchmark_archs.py compares, with their inputs and references."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bootstrap import ROOT

PHOTO_SIDE = 320  # pixels that common photographs have
RESTORMER = ("spandrel_extra_arches", "spandrel")
# BasicSR's SwinIR of SemanIR-S's skeleton, as its authors trained it for classical super-resolution.
SWINIR = {
    **{"type": "SwinIR", "upscale": 4, "img_size": 64, "window_size": 8, "img_range": 1.0, "mlp_ratio": 2},
    **{"embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6},
    **{"upsampler": "pixelshuffle", "resi_connection": "1conv"},
}


@dataclass(frozen=True)
class Contestant:
    """A network in one way of running it.

    Attributes:
        build: Returns it, on the CPU; its weights are random or trained.
        options: For its forward pass.
        square: Pad images to a square multiple of so many pixels first; 0: they go in as they are.
        needs: Packages that this one does not.
    """

    build: Callable[[], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    square: int = 0
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Networks that take turns on one image.

    Attributes:
        size: Height and width of the image.
        contestants: By name.
        references: Names of those that others' times are divided by, a reference's own by those before it.
        training: Whether a step is forward, L1 and backward, instead of a restoration.
        same: Whether all compute the same, which is tried before anything is timed.
    """

    size: tuple[int, int]
    contestants: Mapping[str, Contestant]
    references: tuple[str, ...]
    training: bool = False
    same: bool = False

    def references_of(self, name: str) -> tuple[str, ...]:
        """Return the names that a contestant is compared with."""
        return self.references[: self.references.index(name)] if name in self.references else self.references


def recipe(name: str, **changes: Any) -> Any:
    """Return the network of an option file with random weights, some of its options changed."""
    from trainings.files import read_yaml

    return random_weights({**read_yaml(ROOT / "options" / f"train_{name}.yml")["network_g"], **changes})


def random_weights(options: Mapping[str, Any]) -> Any:
    """Return the network of a `network_g`, with the same weights every time."""
    import semanir_plugin  # noqa: F401, I001  # first: it makes BasicSR importable
    import torch
    from basicsr.archs import build_network

    torch.manual_seed(0)
    return build_network(dict(options))


def shipped(name: str) -> Any:
    """Return a network with the weights that come with the package."""
    from semanir_plugin.inference.loading import load

    return load(name, device="cpu").module


def restormer() -> Any:
    """Return Restormer as its authors trained it for deblurring, with random weights."""
    import basicsr  # noqa: F401  # first: attached to it, this package makes torchvision importable
    from spandrel_extra_arches.architectures.Restormer import Restormer

    return Restormer()


def ast(*, plain: bool) -> Any:
    """Return AST-B, or the plain implementation of its description, with the same weights."""
    import torch

    from semanir_plugin.archs import AST

    sys.path[:0] = [str(ROOT)]
    from tests.archs.ast_reference import ReferenceAST

    torch.manual_seed(0)
    reference = ReferenceAST(**AST_B)
    if plain:
        return reference
    net = AST(**AST_B)
    net.load_state_dict(reference.state_dict())
    return net


AST_B: dict[str, Any] = {"token_mlp": "frfn"}
AST_PAIR = {
    "AST-B": Contestant(partial(ast, plain=False)),
    "plain": Contestant(partial(ast, plain=True), square=128),  # as the authors pad
}
S, LIGHT, MINI = (partial(recipe, f"SemanIR{size}_SRx4") for size in ("", "_light", "_mini"))
TRAINED_MINI = partial(shipped, "semanir-mini-x4")

SETS: dict[str, dict[str, Comparison]] = {
    "semanir": {
        "S": Comparison(
            (64, 64),
            {
                "SemanIR-S, k 512": Contestant(S),
                "SemanIR-S, k 64": Contestant(S, {"topk": 64}),
                "SemanIR-S, all keys": Contestant(S, {"topk": 1024}),
                "SwinIR": Contestant(partial(random_weights, SWINIR)),
            },
            ("SwinIR", "SemanIR-S, all keys"),
        ),
        "light": Comparison(
            (64, 64),
            {
                "SemanIR-light": Contestant(LIGHT),
                "SemanIR-light, factorised bias": Contestant(partial(LIGHT, position_bias="factorised")),
                "SemanIR-light, all keys": Contestant(LIGHT, {"topk": 256}),
                "SwinIR-light": Contestant(partial(recipe, "SwinIR_light_SRx4")),
            },
            ("SwinIR-light", "SemanIR-light, all keys"),
        ),
        "mini": Comparison(
            (64, 64),
            {
                "SemanIR-mini, trained": Contestant(TRAINED_MINI),
                "SemanIR-mini, trained, all keys": Contestant(TRAINED_MINI, {"topk": 256}),
                "SwinIR of its size": Contestant(partial(recipe, "SwinIR_mini_SRx4")),
            },
            ("SwinIR of its size", "SemanIR-mini, trained, all keys"),
        ),
        "unet": Comparison(
            (256, 256),
            {
                "SemanIRUNet": Contestant(partial(recipe, "SemanIRUNet_color_DN50")),
                "Restormer": Contestant(restormer, needs=RESTORMER),
            },
            ("Restormer",),
        ),
    },
    "ast": {
        "ast": Comparison((256, 256), AST_PAIR, ("plain",), same=True),
        "ast-wide": Comparison((480, 720), AST_PAIR, ("plain",)),
        "ast-training": Comparison((256, 256), AST_PAIR, ("plain",), training=True),
    },
}
COMPARISONS = {name: each for group in SETS.values() for name, each in group.items()}


def make_image(height: int, width: int, data: Path | None) -> Any:
    """Return (1, 3, height, width) of a photograph, repeated where it ends: what it shows is what dictionaries find.

    Raises:
        UserError: `data` has no such photograph.
    """
    from semanir_plugin.evaluation.profiling.attention_inputs import read_photo

    photo = read_photo(min(height, PHOTO_SIDE), min(width, PHOTO_SIDE), data)
    times = [-(-side // PHOTO_SIDE) for side in (height, width)]
    return photo.repeat(1, 1, *times)[..., :height, :width]
