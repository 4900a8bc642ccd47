"""`basicsr web`."""

from __future__ import annotations

import argparse
from functools import partial

from semanir_plugin.cli.messages import warnings_on_terminal
from semanir_plugin.cli.parser import Subparsers, whole_number

EPILOG = """\
Pictures are restored one after another on this computer, and results are written as `basicsr restore` writes them.
The page is for this computer alone unless --host says otherwise, loads nothing from elsewhere, and removes what was
dropped and made when it ends.

  basicsr web
  basicsr web --model experiments/my_SRx4/models/net_g_best.pth options/test_mine.yml --port 8000

docs/web.md shows it.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "web", help="try networks in a browser", description="Restore photographs on a page.", epilog=EPILOG
    )
    parser.add_argument(
        "--model",
        nargs="+",
        action="extend",
        default=[],
        metavar="CKPT|FILE",
        help="networks of your own, before those that come with the package: checkpoints, or option files that name "
        "their weights in path.pretrain_network_g",
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (127.0.0.1)")
    parser.add_argument(
        "--port", type=partial(whole_number, least=0), metavar="N", help="port; 0 for any (the first free from 7860)"
    )
    parser.add_argument(
        "--max-pixels", type=whole_number, default=16_000_000, metavar="N", help="of a picture (16000000)"
    )
    parser.add_argument("--max-upload", type=whole_number, default=64, metavar="MB", help="of a file, in MB (64)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 (a GPU where there is one)")
    parser.add_argument("--debug", action="store_true", help="log requests, tracebacks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve the page until it is told to stop, and return the exit code."""
    from semanir_plugin.web.server import WebArguments, serve

    with warnings_on_terminal():
        serve(
            WebArguments(
                models=args.model,
                host=args.host,
                port=args.port,
                most_pixels=args.max_pixels,
                most_megabytes=args.max_upload,
                device=args.device,
                debug=args.debug,
            )
        )
    return 0
