"""`basicsr train`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.parser import Subparsers, add_run_arguments

# The EX_TEMPFAIL of sysexits.h: nothing is wrong, try again later.
STOPPED = 75

EPILOG = """\
Checkpoints, logs and the best network go to experiments/<name>, TensorBoard records to tb_logger/<name>, both under the
working directory or under path.experiments_root.

  basicsr train -opt options/train_SemanIR_SRx4.yml
  basicsr train -opt options/train_SemanIR_SRx4.yml --auto_resume
  torchrun --nproc_per_node=8 -m semanir_plugin.cli train -opt options/train_SemanIR_SRx4.yml --launcher pytorch

On SIGTERM or SIGINT (Ctrl-C) the run finishes the iteration, saves and exits with code 75; --auto_resume resumes from
there. A second signal, at least a second later, ends the run at once.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train", help="train a network by an option file", description="Train a network.", epilog=EPILOG
    )
    add_run_arguments(parser)
    parser.add_argument("--auto_resume", action="store_true", help="resume from the experiment's last training state")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; return the exit code."""
    from semanir_plugin.basicsr_host.engine.run import RunArguments
    from semanir_plugin.basicsr_host.engine.train import train

    return 0 if train(RunArguments(args.opt, args.launcher, args.auto_resume, args.debug, args.force_yml)) else STOPPED
