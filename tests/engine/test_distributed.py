from __future__ import annotations

import os
import subprocess
import sys

import pytest

from semanir_plugin.engine.distributed import init_distributed
from semanir_plugin.errors import UserError
from tests.conftest import ROOT, tiny_overrides

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_NODELIST", "SLURM_PROCID", "SLURM_NTASKS")


@pytest.mark.parametrize(("launcher", "hint"), [("pytorch", "torchrun"), ("slurm", "srun")])
def test_a_launcher_that_did_not_launch_is_told(monkeypatch, launcher, hint):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=hint):
        init_distributed(launcher)


@pytest.mark.parametrize("progressive", [False, True], ids=["", "growing patches, k drawn from a list"])
def test_two_cpu_processes_train_as_one_with_twice_the_batch(sr_data, tmp_path, progressive):
    import torch

    def run(name, batch, *launcher):
        overrides = tiny_overrides(sr_data, train__total_iter=3, logger__save_checkpoint_freq=3, val__val_freq=3)
        overrides += [f"name={name}", f"datasets:train:batch_size_per_gpu={batch}"]
        if progressive:
            overrides += ["datasets:train:gt_size=~", "datasets:train:batch_size_per_gpu=~"]
            overrides += [
                "datasets:train:gt_sizes=[32, 48]",
                f"datasets:train:batch_sizes_per_gpu=[{batch // 2}, {batch}]",
            ]
            overrides += ["datasets:train:iters=[2, 1]", "network_g:topk=[2, 6, 12, 24]"]
        flags = ["--launcher", "pytorch"] if launcher else []
        command = [sys.executable, "-m", *launcher, "semanir_plugin.cli", "train"]
        command += ["-opt", str(ROOT / "options" / "train_SemanIR_SRx4.yml"), *flags, "--force_yml", *overrides]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=240)
        path = tmp_path / "experiments" / name / "models" / "net_g_3.pth"
        return torch.load(path, weights_only=True)["params"]

    one = run("one", 4)
    two = run("two", 2, "torch.distributed.run", "--nproc_per_node=2", "--master_port=29517", "-m")
    # Adam divides by tiny second moments in the first steps, which magnifies rounding
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-4


def test_two_processes_score_once(sr_data, tmp_path):
    import json

    options = {
        **{"name": "bicubic", "model_type": "SemanIRModel", "scale": 4, "num_gpu": 0},
        "datasets": {
            "test_1": {
                **{"name": "val", "type": "PairedImageDataset", "io_backend": {"type": "disk"}},
                "dataroot_gt": str(sr_data / "val" / "GT"),
                "dataroot_lq": str(sr_data / "val" / "LR_bicubic_X4"),
            }
        },
        "network_g": {"type": "Bicubic", "upscale": 4},
        "val": {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 4}}},
    }
    (tmp_path / "bicubic.yml").write_text(json.dumps(options))  # JSON is YAML
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29518"]
    command += ["-m", "semanir_plugin.cli", "test", "-opt", "bicubic.yml", "--launcher", "pytorch"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / "results" / "bicubic" / "metrics.json").read_text())
    assert scores["val"]["psnr"] > 10
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["val", "psnr"]]
