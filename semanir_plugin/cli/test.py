"""`basicsr test`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.parser import Subparsers, add_run_arguments

EPILOG = """\
The file may be that of a training: its validation sets are scored by the weights that it left as its best. Images, a
log and metrics.json go to results/<name>, under the working directory or under path.results_root.

  basicsr test -opt options/test_SemanIR_SRx4.yml
  basicsr test -opt options/train_SemanIR_SRx4.yml
  basicsr test -opt options/test_SemanIR_SRx4.yml --force_yml path:pretrain_network_g=net_g_latest.pth val:topk=256
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "test", help="score a network on test sets", description="Score a network on test sets.", epilog=EPILOG
    )
    add_run_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Test, and print the scores."""
    from semanir_plugin.basicsr_host.engine.run import RunArguments
    from semanir_plugin.basicsr_host.engine.test import test

    scores = test(RunArguments(args.opt, args.launcher, debug=args.debug, force_yml=args.force_yml))
    for dataset, metrics in scores.items():
        print(dataset, *(f"{name} {value:.4f}" for name, value in metrics.items()), sep="  ")
