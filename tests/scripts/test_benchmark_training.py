from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest
import torch

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import benchmark_training
import measuring

SMALL = "  embed_dim: 6\n  depths: [1]\n  num_heads: [1]\n  upsampler: pixelshuffledirect\n  resi_connection: 1conv\n"
NETWORKS = {
    "SemanIR": "  type: SemanIR\n  window_size: 8\n  topk: 9\n",
    "SwinIR": "  type: SwinIR\n  img_size: 8\n  window_size: 4\n",
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark_training, "run_in_venv", lambda: None)
    folder = tmp_path / "data" / "train" / "BSD400"
    folder.mkdir(parents=True)
    photo = cv2.imread(str(photos["chelsea.png"]))
    for index in range(2):
        cv2.imwrite(str(folder / f"{index}.png"), photo[index * 40 :][:40, :50])
    for name, network in NETWORKS.items():
        text = f"scale: 2\ndatasets: {{train: {{gt_size: 32, batch_size_per_gpu: 2}}}}\nnetwork_g:\n{network}{SMALL}"
        (tmp_path / f"train_{name}.yml").write_text(f"{text}  upscale: 2\n")


def run(monkeypatch, *arguments, recipes=NETWORKS):
    files = [f"train_{name}.yml" for name in recipes]
    monkeypatch.setattr(sys, "argv", ["benchmark_training.py", *files, "--data", "data", "--device", "cpu", *arguments])
    return benchmark_training.main()


def test_networks_stand_side_by_side(monkeypatch, capsys):
    assert run(monkeypatch, "--repeats", "2") == 0
    lines = capsys.readouterr().out.splitlines()[3:5]
    assert [line.split()[0] for line in lines] == list(NETWORKS)
    assert lines[0].split()[4] == "1.00"
    report = json.loads(Path("results/benchmark_training/benchmark_training.json").read_text())
    for row in report["rows"]:
        assert row["images_per_second"] == pytest.approx(2000 / row["median"])
        assert row["least"] <= row["median"]
        assert "commit" in row["machine"]
        assert row["mib"] is None or row["mib"] > 0
        assert (row["batch"], row["patch"]) == (2, 32)


@pytest.mark.parametrize("arguments", [[], ["--bf16"]], ids=str)
def test_a_step_trains(monkeypatch, arguments):
    nets = []
    build = benchmark_training.build
    monkeypatch.setattr(benchmark_training, "build", lambda setup: nets.append(build(setup)) or nets[-1])
    monkeypatch.setattr(measuring, "peak_mib", lambda *_: None)
    assert run(monkeypatch, "--repeats", "1", *arguments) == 0
    for net, name in zip(nets, NETWORKS, strict=True):
        assert type(net).__name__ == name
        assert net.training
        assert all(each.grad is not None and each.grad.isfinite().all() for each in net.parameters())


def test_ours_compiles_its_stages_and_others_whole(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda net, **options: seen.append((type(net).__name__, options)) or net)
    setup = {"network": {"type": "SemanIR", "embed_dim": 6, "depths": [1, 1], "num_heads": [1, 1], "upscale": 2}}
    benchmark_training.build(setup | {"compile": True, "device": "cpu"})
    assert [options["backend"] for _, options in seen] == ["inductor", "inductor"]
    seen.clear()
    setup["network"] |= {"type": "SwinIR", "img_size": 8, "window_size": 4}
    benchmark_training.build(setup | {"compile": True, "device": "cpu"})
    assert seen == [("SwinIR", {})]


def test_inputs_are_the_patches_made_smaller(tmp_path):
    truth, image = benchmark_training.read_pairs(tmp_path / "data" / "train" / "BSD400", 2, 32, 2)
    assert (truth.shape, image.shape) == ((2, 3, 32, 32), (2, 3, 16, 16))
    assert (torch.nn.functional.avg_pool2d(truth, 2) - image).abs().mean() < 0.02
    assert not torch.equal(truth[0], truth[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--batch", "3"], "has no 3 photographs"), (["--patch", "41"], "of 41 x 41"), (["--patch", "31"], "by 2")],
)
def test_too_little_data_is_told(monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "recipes", "message"),
    [
        (["--repeats", "0"], NETWORKS, "at least 1"),
        (["--data", "nowhere"], NETWORKS, "--data must name"),
        ([], ["no"], "train_no.yml: no such file"),
    ],
)
def test_wrong_arguments_are_told(monkeypatch, capsys, arguments, recipes, message):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, *arguments, recipes=recipes)
    assert message in capsys.readouterr().err


def test_all_take_turns():
    calls = []
    times = measuring.take_turns([lambda: calls.append("a"), lambda: calls.append("b")], 3, "cpu")
    assert calls == ["a", "b"] * 5
    assert len(times) == 2


def test_times_are_the_least_and_the_median(monkeypatch):
    clock = iter([0.0, 9.0, 9.0, 9.0, 0.0, 0.003, 0.003, 0.004, 0.004, 0.009])  # two turns that warm up
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    processor = iter([0.0, 9.0, 9.0, 9.0, 0.0, 0.002, 0.002, 0.004, 0.004, 0.005])
    monkeypatch.setattr(measuring.time, "process_time", lambda: next(processor))
    (times,) = measuring.take_turns([lambda: None], 3, "cpu")
    assert times == pytest.approx((1.0, 1.0, 3.0))
