"""`basicsr train`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.parser import Subparsers, add_run_arguments

EPILOG = """\
Checkpoints, logs and the best network go to experiments/<name>, TensorBoard records to tb_logger/<name>, both under the
working directory or under path.experiments_root.

  basicsr train -opt options/train_SemanIR_SRx4.yml
  basicsr train -opt options/train_SemanIR_SRx4.yml --auto_resume
  torchrun --nproc_per_node=8 -m semanir_plugin.cli train -opt options/train_SemanIR_SRx4.yml --launcher pytorch
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train", help="train a network as an option file says", description="Train a network.", epilog=EPILOG
    )
    add_run_arguments(parser)
    parser.add_argument("--auto_resume", action="store_true", help="continue from the experiment's last training state")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train."""
    from semanir_plugin.engine.run import RunArguments
    from semanir_plugin.engine.train import train

    train(RunArguments(args.opt, args.launcher, args.auto_resume, args.debug, args.force_yml))
