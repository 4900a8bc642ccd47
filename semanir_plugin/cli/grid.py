"""The flags that say how images are cut into sub-images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semanir_plugin.basicsr_host.data.sub_images import SubImages

__all__ = ["add_grid", "read_grid"]


def add_grid(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add the flags that `read_grid` reads."""
    side = "cut into sub-images of this side (of a ground truth)"
    parser.add_argument("--crop", type=int, required=required, metavar="SIDE", help=side)
    parser.add_argument("--step", type=int, metavar="N", help="distance between sub-images (SIDE)")
    parser.add_argument("--threshold", type=int, default=0, metavar="N", help="largest margin without a sub-image (0)")


def read_grid(args: argparse.Namespace) -> SubImages | None:
    """Return where sub-images lie; None: images stay whole.

    Raises:
        UserError: A number is not right, or there is no side.
    """
    from semanir_plugin.basicsr_host.data.sub_images import SubImages
    from semanir_plugin.errors import UserError

    if args.crop is None:
        if args.step is not None or args.threshold:
            raise UserError("--step and --threshold are about sub-images; give their side with --crop")
        return None
    step = args.crop if args.step is None else args.step
    if args.crop < 1 or step < 1 or args.threshold < 0:
        raise UserError("--crop and --step must be at least 1, --threshold at least 0")
    return SubImages(side=args.crop, step=step, threshold=args.threshold)
