"""`basicsr curves`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.parser import Subparsers

EPILOG = """\
Each LOG is a run: a log that `basicsr train` or BasicSR wrote, an event file of TensorBoard's, or the folder of a run,
whose files are joined where it was resumed. Event files have the iterations of validations; for logs they are inferred
from val_freq, which logs have too.

  basicsr curves experiments/my_SRx4 -o my_SRx4.png
  basicsr curves tb_logger/my_SRx4 tb_logger/other_SRx4 -o both.png
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "curves",
        help="plot losses and validation scores of trainings",
        description="Plot losses and validation scores against the iteration, of one training or several.",
        epilog=EPILOG,
    )
    parser.add_argument("logs", nargs="+", metavar="LOG", help="log, event file, or folder of a run")
    parser.add_argument("-o", "--output", required=True, metavar="PICTURE", help="the picture: .png, .pdf or .svg")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="names of the runs in the legend (their own)")
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Plot the picture."""
    from pathlib import Path

    from semanir_plugin.evaluation.pictures import check_picture_path
    from semanir_plugin.evaluation.training_curves import plot_training
    from semanir_plugin.evaluation.training_logs import read_runs

    output = Path(args.output)
    check_picture_path(output)
    runs = read_runs([Path(log) for log in args.logs], args.names)
    plot_training(runs, output)
    count = len({name for run in runs for name in run.series})
    print(f"{output}: {count:,} curves of {len(runs):,} run{'s' if len(runs) > 1 else ''}")
