"""Check the package on a GPU, in stages: correctness, each kernel's time, training steps, and a training.

Every number is a JSON line of results.jsonl in the output folder the moment it is known; log.txt has all other words. A
stage has a limit of time, of which the next ones get what it leaves; a case that fails, crashes or hangs is a line with
its error. Takes the interpreter that it is started with, if SEMANIR_VENV=0.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from bootstrap import run_in_venv

EPILOG = """\
  python3 scripts/check_gpu.py --data DIR                       nine minutes of four stages
  python3 scripts/check_gpu.py --stages training --minutes 5 --data DIR --start results/check_gpu/parts
  python3 scripts/check_gpu.py --dry-run                        on a CPU, tiny, in Triton's interpreter
  python3 scripts/check_gpu.py --pack pack --data DIR           for a machine without a network: prints the command

DIR has train/BSD400 and test/Set5, folders of images.
"""
DEFAULT = ("correctness", "kernels", "steps", "training")
NAMES = (*DEFAULT, "tests")


def main() -> int:
    """Run the stages, or pack; return the exit code."""
    args = parse_arguments()
    run_in_venv()
    from semanir_plugin.errors import UserError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the stage's processes are ended
    try:
        return pack(args) if args.pack else check(args)
    except UserError as error:
        print(f"check_gpu: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--stages", nargs="+", choices=NAMES, default=DEFAULT, metavar="STAGE", help=f"{NAMES} (all but the last)"
    )
    parser.add_argument("--minutes", type=float, default=9, help="for all stages, shared out among them (9)")
    output = Path(os.environ.get("OUT") or "results/check_gpu")
    parser.add_argument("--output", type=Path, default=output, help="new folder (default: $OUT, or results/check_gpu)")
    parser.add_argument("--data", type=Path, default=os.environ.get("SEMANIR_DATA"), help="default: $SEMANIR_DATA")
    parser.add_argument("--start", type=Path, help="folder of parts, or weights, that the training goes on from")
    parser.add_argument("--commit", help="what is written down as the commit where the repository has no .git")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU, to try all of it")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="make DIR instead, for a machine without a network")
    args = parser.parse_args()
    if args.minutes <= 0:
        parser.error("--minutes must be above 0")
    for folder in (args.data and args.data / "train" / "BSD400", args.data and args.data / "test" / "Set5", args.start):
        if folder is not None and not folder.is_dir():
            parser.error(f"{folder}: no such folder; see --help")
    return args


def pack(args: argparse.Namespace) -> int:
    """Fill the pack's folder and print the command to run."""
    from gpu_stages.pack import make_pack

    command = make_pack(args.pack, args.data, args.start)
    size = sum(path.stat().st_size for path in args.pack.rglob("*") if path.is_file())
    print(f"{args.pack}: {size / 1e6:.1f} MB. In this repository's folder, there:\n\n{command}")
    return 0


def check(args: argparse.Namespace) -> int:
    """Run the stages; return 1 where one failed, was cut short or reported an error."""
    import torch
    from gpu_stages.journal import Journal
    from gpu_stages.summary import summarize
    from gpu_stages.supervision import STAGES, run_stages

    from semanir_plugin.errors import UserError
    from semanir_plugin.evaluation.benchmark.measuring import describe_machine

    if not args.dry_run and not torch.cuda.is_available():
        raise UserError("torch finds no CUDA device here; run it on a machine with one, or try it with --dry-run")
    args.output.mkdir(parents=True, exist_ok=True)
    journal = Journal(args.output, "machine")
    if journal.path.exists():
        raise UserError(f"{journal.path} holds the results of another run; name another --output, or remove it")
    if args.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
    machine = describe_machine("cpu" if args.dry_run else "cuda")
    journal.write(machine=machine, commit=args.commit, command=" ".join(sys.argv))
    stages = [stage for stage in STAGES if stage.name in args.stages]
    bad = run_stages(stages, 60 * args.minutes, args.output, options_of(args), warm=not args.dry_run)
    print(f"\n{summarize(journal.path)}")
    return min(1, bad)


def options_of(args: argparse.Namespace) -> list[str]:
    """Return the command-line options that the stages' processes take over."""
    paths = {"--data": args.data, "--start": args.start}
    options = [word for name, path in paths.items() if path is not None for word in (name, str(path))]
    return [*options, *(["--dry-run"] if args.dry_run else [])]


if __name__ == "__main__":
    sys.exit(main())
