"""Training with patches that grow, through the command's own entry."""

from __future__ import annotations

import re
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
import yaml

from semanir_plugin.basicsr_host.engine.train import TrainingLoop
from semanir_plugin.cli import main
from tests.conftest import ROOT, tiny_overrides

NAME = "train_SemanIR_SRx4"
SEMANIR = {"network_g__topk": "[4, 8, 12]"}
SWINIR = {  # draws from torch's generator: which layers of which samples are skipped
    **{"type": "SwinIR", "upscale": 4, "img_size": 8, "window_size": 4, "embed_dim": 8, "depths": [2, 2]},
    **{"num_heads": [2, 2], "mlp_ratio": 2, "upsampler": "pixelshuffledirect", "drop_path_rate": 0.5},
}


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(data, *flags, network=None, **more):
    """Train six iterations in phases of two, one and three, with a checkpoint after each."""
    options = yaml.safe_load((ROOT / "options" / f"{NAME}.yml").read_text())
    for key in ("gt_size", "batch_size_per_gpu"):
        del options["datasets"]["train"][key]
    lists = {"gt_sizes": "[32, 48, 64]", "batch_sizes_per_gpu": "[3, 2, 1]", "iters": "[2, 1, 3]"}
    more = {**{f"datasets__train__{key}": value for key, value in lists.items()}, "train__total_iter": 6, **more}
    more = {"logger__save_checkpoint_freq": 1, "logger__print_freq": 1, "val__val_freq": 3, **more}
    entries = [entry for entry in tiny_overrides(data, **more) if ":gt_size=" not in entry and "_size_per" not in entry]
    if network:
        options["network_g"] = network
        entries = [entry for entry in entries if not entry.startswith("network_g")]
    Path("progressive.yml").write_text(yaml.safe_dump(options))
    return main(["train", "-opt", "progressive.yml", *flags, "--force_yml", *entries])


@pytest.fixture
def batches(monkeypatch):
    """The batches that are trained on, by iteration; at the iteration `batches.stop` the run is interrupted."""

    class Seen(dict):
        stop = None

    seen, iterate = Seen(), TrainingLoop._iterate

    def observe(self, current_iter, batch):
        if current_iter == seen.stop:
            raise KeyboardInterrupt
        seen[current_iter] = (tuple(batch["lq"].shape), tuple(batch["gt"].shape), batch["gt_path"])
        iterate(self, current_iter, batch)

    monkeypatch.setattr(TrainingLoop, "_iterate", observe)
    return seen


def load(iteration, folder=Path("experiments")):
    run = folder / NAME
    network = torch.load(run / "models" / f"net_g_{iteration}.pth", weights_only=True)
    return network, torch.load(run / "training_states" / f"{iteration}.state", weights_only=True)


def flatten(value):
    if isinstance(value, dict):
        return [leaf for key in value for leaf in [key, *flatten(value[key])]]
    return [leaf for item in value for leaf in flatten(item)] if isinstance(value, list | tuple) else [value]


def same(a, b):
    pairs = list(zip(flatten(a), flatten(b), strict=True))
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def test_each_phase_has_its_patches(sr_data, batches):
    assert train(sr_data) == 0
    sizes = [(3, 32), (3, 32), (2, 48), (1, 64), (1, 64), (1, 64)]
    assert [gt for _, gt, _ in batches.values()] == [(count, 3, size, size) for count, size in sizes]
    assert [lq for lq, _, _ in batches.values()] == [(count, 3, size // 4, size // 4) for count, size in sizes]
    log = next(Path("experiments", NAME).glob("*.log")).read_text()
    assert "5 images, patches of 48, batches of 2 x 1 processes, iterations 3 to 3." in log
    assert "iterations 4 to 6." in log


def test_an_epoch_goes_on_through_phases(sr_data, batches):
    assert train(sr_data) == 0
    paths = [path for _, _, paths in batches.values() for path in paths]
    assert [len(set(paths[start : start + 5])) for start in (0, 5)] == [5, 5], "5 images, each once in an epoch"
    assert [load(iteration)[1]["epoch"] for iteration in range(1, 7)] == [0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("stop", "more"),
    [
        (2, SEMANIR),
        (3, {**SEMANIR, "datasets__train__num_worker_per_gpu": 1}),
        (3, {"network": SWINIR, "train__ema_decay": 0}),
        (5, {"network": SWINIR}),
    ],
    ids=["within the first phase", "between phases", "between phases, without average", "within the last phase"],
)
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(sr_data, tmp_path, batches, stop, more):
    assert train(sr_data, path__experiments_root=tmp_path / "straight", **more) == 0
    straight = dict(batches)
    batches.clear()
    batches.stop = stop
    assert train(sr_data, **more) == 130
    assert list(batches) == list(range(1, stop))
    batches.stop = None
    assert train(sr_data, "--auto_resume", **more) == 0
    assert batches == straight
    logs = "".join(path.read_text() for path in sorted(Path("experiments", NAME).glob("*.log")))
    _, _, log = logs.rpartition("Resuming from")  # both runs write one file, if they start within a second
    assert "iterations" in log
    assert all(f"to {last}." not in log for last in (2, 3) if last < stop), "phases that are done are left alone"
    assert same(load(6), load(6, tmp_path / "straight"))


def test_workers_end_with_their_phase(sr_data, monkeypatch):
    counts, iterate = [], TrainingLoop._iterate

    def count(self, current_iter, batch):
        counts.append(len(active_children()))
        iterate(self, current_iter, batch)

    monkeypatch.setattr(TrainingLoop, "_iterate", count)
    workers = {"datasets__train__num_worker_per_gpu": 1, "datasets__train__persistent_workers": "true"}
    assert train(sr_data, **workers) == 0
    assert max(counts) == 1


def test_a_learning_rate_for_each_phase(sr_data):
    scheduler = "{type: MultiStepLR, milestones: [], restarts: [0, 2, 3], restart_weights: [1, 0.5, 0.25]}"
    assert train(sr_data, train__scheduler=scheduler) == 0
    rates = [load(iteration)[1]["optimizers"][0]["param_groups"][0]["lr"] for iteration in range(1, 7)]
    assert rates == pytest.approx([2e-4, 2e-4, 1e-4, 5e-5, 5e-5, 5e-5])


def test_a_patch_that_the_network_cannot_take(sr_data, capsys):
    assert train(sr_data, network={**SWINIR, "window_size": 8}) == 2
    assert "network_g cannot take training patches of 3 x 12 x 12: " in capsys.readouterr().err.splitlines()[-1]
    assert not Path("experiments").exists()


def test_a_patch_larger_than_its_source(sr_data, capsys):
    assert train(sr_data, datasets__train__gt_sizes="[32, 128, 64]") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"datasets:train:gt_sizes: 128 is more than GT train\d, 80x64, has; use smaller patches$", line)
    assert not Path("experiments").exists()
