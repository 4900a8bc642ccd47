"""`basicsr benchmark`."""

from __future__ import annotations

import argparse

from semanir_plugin.cli.parser import Subparsers, image_size, whole_number
from semanir_plugin.evaluation.benchmark.configurations import add_configurations, read_configurations

EPILOG = """\
The networks take turns, so that a busy machine slows all alike; processor times, of all threads together, are what
other work disturbs least. Weights are random; what photographs show is what attention looks for. A step of training is
forward, L1, backward and Adam, with the batch and the patches of the option file. OUT gets benchmark.json.

  basicsr benchmark options/train_SemanIR_light_SRx4.yml options/train_SwinIR_light_SRx4.yml --threads 1 2
  basicsr benchmark options/train_{SemanIR,SwinIR}_light_SRx4.yml --task training --data BSD400 --bf16 --compile
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "benchmark",
        help="time networks side by side, at work or in training",
        description="Time the networks of option files side by side, at work or in training.",
        epilog=EPILOG,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="option files with a network_g")
    parser.add_argument("--task", choices=("inference", "training"), default="inference", help="(inference)")
    parser.add_argument("--data", metavar="FOLDER", help="photographs; to train, one for each image of the batch")
    parser.add_argument("--size", type=image_size, default=(64, 64), metavar="HxW", help="of the input at work (64x64)")
    parser.add_argument("--batch", type=whole_number, metavar="N", help="images in a step (the option file's)")
    parser.add_argument(
        "--patch", type=whole_number, metavar="N", help="side of the ground truth's patches (the file's)"
    )
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile: stages of ours, others whole")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to measure (a GPU where there is one)")
    parser.add_argument("--repeats", type=whole_number, default=9, metavar="N", help="turns that count (9)")
    add_configurations(parser)
    parser.add_argument("-o", "--output", default="results/benchmark", metavar="OUT", help="folder (results/benchmark)")
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Measure, print the table and write the file."""
    from pathlib import Path

    from semanir_plugin.evaluation.benchmark.networks import BenchmarkArguments, benchmark_option_files
    from semanir_plugin.inference.devices import choose_device

    given = {name: getattr(args, name) for name in ("files", "data", "size", "batch", "patch", "bf16", "compile")}
    device = choose_device(args.device).type
    arguments = BenchmarkArguments(**given, training=args.task == "training", device=device, repeats=args.repeats)
    benchmark_option_files(arguments, read_configurations(args), Path(args.output))
