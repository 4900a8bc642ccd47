"""`basicsr train`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from semanir_plugin.cli.parser import Subparsers, add_run_arguments

# The EX_TEMPFAIL of sysexits.h: nothing is wrong, try again later.
STOPPED = 75

EPILOG = """\
Checkpoints, logs and the best network go to experiments/<name>, TensorBoard records to tb_logger/<name>, both under the
working directory or under path.experiments_root.

  basicsr train -opt options/train_SemanIR_SRx4.yml
  basicsr train -opt options/train_SemanIR_SRx4.yml --auto_resume
  torchrun --nproc_per_node=8 -m semanir_plugin.cli train -opt options/train_SemanIR_SRx4.yml --launcher pytorch

On SIGTERM or SIGINT (Ctrl-C), at any moment from its start, the run finishes the iteration, saves and exits with code
75; --auto_resume resumes from there. A second signal, at least a second later, ends the run at once.
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
    try:
        with _ending_at_once():
            from semanir_plugin.basicsr_host.engine.run import RunArguments
            from semanir_plugin.basicsr_host.engine.train import train

            given = RunArguments(args.opt, args.launcher, args.auto_resume, args.debug, args.force_yml)
            return 0 if train(given) else STOPPED
    except _StopRequest as request:
        print(f"basicsr train: {request}: told to stop where nothing is to be saved", file=sys.stderr)
        return STOPPED


class _StopRequest(BaseException):
    """A signal that asks a training to stop which is not under way, so that there is nothing to save."""


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Have SIGTERM and SIGINT raise `_StopRequest`, until the training takes them to itself and after it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _StopRequest(signal.Signals(number).name)

    taken = [each for each in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(each) not in (signal.SIG_IGN, None)]
    previous = {number: signal.signal(number, stop) for number in taken}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
