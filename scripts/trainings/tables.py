"""What came of trainings: scores by a leaderboard, curves, and a table of means over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

from trainings import files
from trainings.data import make_rain
from trainings.experiments import Group, Row
from trainings.files import Options, dump
from trainings.training import Training

Trained = Mapping[str, list[Training]]  # by the key of the row, one for each seed


def tabulate(group: Group, trained: Trained, seeds: Sequence[int], data: Path) -> str:
    """Score all by a leaderboard and draw their curves; return the table, which is also written."""
    from semanir_plugin.atomic_io import write_atomic

    names = {
        _name(row, seed): training for row in group.rows for seed, training in zip(seeds, trained[row.key], strict=True)
    }
    opt, folder = Path("weights", f"leaderboard_{group.name}.yml"), Path("results", group.name)
    opt.write_bytes(dump(make_board(group, names, data)))
    files.basicsr("leaderboard", "-opt", str(opt))
    curves = [str(training.run) for training in names.values()]
    files.basicsr("curves", *curves, "--names", *names, "-o", str(folder / "curves.png"))
    table = "\n".join(make_table(group, trained, seeds, json.loads((folder / "results.json").read_text())))
    write_atomic(f"{table}\n".encode(), folder / "table.md")
    return f"\n{folder}: table.md, curves.png, results.html\n\n{table}"


def _name(row: Row, seed: int) -> str:
    return f"{row.label}, seed {seed}"


def make_board(group: Group, names: Mapping[str, Training], data: Path) -> Options:
    """Return the options of the leaderboard: the baseline, and the averaged weights of each training."""
    models = {name: {"weights": str(training.result)} for name, training in names.items()}
    sets = {
        name: {**level, **_locate(group, data / "test" / (group.images or name))}
        for name, level in group.test_sets.items()
    }
    return {
        "name": group.name,
        "title": "Networks at an equal budget",
        **group.board,
        "models": {group.baseline: {"classical": group.baseline}, **models},
        "test_sets": sets,
        "published": False,
        "cost": {"size": [64, 64], "runs": 5, "warm_up": 2},
        "save_images": group.board["task"] != "sr",
    }


def _locate(group: Group, images: Path) -> dict[str, str]:
    if group.board["task"] != "derain":
        return {"gt": str(images.resolve())}
    pairs = make_rain(images, group.rows[0].photographs)
    return {"gt": str(pairs / "GT"), "lq": str(pairs / "LQ")}


def make_table(group: Group, trained: Trained, seeds: Sequence[int], results: Options) -> Iterator[str]:
    """Yield the lines of a Markdown table: means over the seeds, and half of what PSNR spans."""
    from semanir_plugin.markdown import escape_markdown

    measured = {each["model"]: each for each in results["rows"]}
    metrics = [each["name"] for each in results["metrics"]][:2]  # PSNR and SSIM come first
    yield f"| network | parameters | mult-adds | training | {' | '.join(group.test_sets)} |"
    yield f"|---|---:|---:|---:|{'---:|' * len(group.test_sets)}"
    yield f"| {group.baseline} | 0 | | | {' | '.join(_cells(group, [measured[group.baseline]], metrics))} |"
    for row in group.rows:
        scores = [measured[_name(row, seed)] for seed in seeds]
        iterations, minutes = (mean(each.cost[index] for each in trained[row.key]) for index in (0, 1))
        cost = f"{scores[0]['parameters']:,} | {scores[0]['mult_adds'] / 1e9:.2f} G"
        cells = " | ".join(_cells(group, scores, metrics))
        yield f"| {escape_markdown(row.label)} | {cost} | {iterations:,.0f} in {minutes:.0f} min | {cells} |"


def _cells(group: Group, rows: Sequence[Options], metrics: Sequence[str]) -> Iterator[str]:
    """Yield, by test set, means over seeds; with several, also half the range of PSNR."""
    for name in group.test_sets:
        psnr, ssim = ([row["cells"][name]["scores"][metric] for row in rows] for metric in metrics)
        spread = f" ± {(max(psnr) - min(psnr)) / 2:.2f}" if len(psnr) > 1 else ""
        yield f"{mean(psnr):.2f}{spread} / {mean(ssim):.4f}"
