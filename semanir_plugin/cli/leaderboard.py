"""`basicsr leaderboard`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.parser import Subparsers, add_run_arguments

EPILOG = """\
results.html, a page in one file, tables (results.md, .csv, .json), images and a cache go to results/<name>, under the
working directory or under path.results_root. Run again, for instance after an interruption, the command computes only
the missing results. Exit code 1: some cells failed; the tables give the reasons.

  basicsr leaderboard -opt options/leaderboard_SRx4.yml
  basicsr leaderboard -opt options/leaderboard_SRx4.yml --force_yml test_sets:Urban100=~ models:SwinIR=~
  torchrun --nproc_per_node=2 -m semanir_plugin.cli leaderboard -opt options/leaderboard_SRx4.yml --launcher pytorch
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "leaderboard",
        help="compare models on test sets by the field's protocols",
        description="Compare models on test sets by the field's protocols.",
        epilog=EPILOG,
    )
    add_run_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compute the leaderboard, print its table, and return 1 if a cell has failed."""
    from semanir_plugin.basicsr_host.engine.run import RunArguments
    from semanir_plugin.evaluation.leaderboard.report import print_table
    from semanir_plugin.evaluation.leaderboard.run import run_leaderboard

    results = run_leaderboard(RunArguments(args.opt, args.launcher, debug=args.debug, force_yml=args.force_yml))
    if not results:  # of another process than the first
        return 0
    print_table(results)
    return int(any(cell["error"] for row in results["rows"] for cell in row["cells"].values()))
