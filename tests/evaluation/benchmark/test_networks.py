"""`basicsr benchmark`: networks of option files side by side."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch

from semanir_plugin.cli import main
from semanir_plugin.evaluation.benchmark import networks

SMALL = "  embed_dim: 6\n  depths: [1]\n  num_heads: [1]\n  upsampler: pixelshuffledirect\n  resi_connection: 1conv\n"
NETWORKS = {
    "SemanIR": "  type: SemanIR\n  window_size: 8\n  topk: 9\n",
    "SwinIR": "  type: SwinIR\n  img_size: 8\n  window_size: 4\n",
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir(parents=True)
    photo = cv2.imread(str(photos["chelsea.png"]))
    for index in range(2):
        cv2.imwrite(str(folder / f"{index}.png"), photo[index * 40 :][:40, :50])
    for name, network in NETWORKS.items():
        text = f"scale: 2\ndatasets: {{train: {{gt_size: 32, batch_size_per_gpu: 2}}}}\nnetwork_g:\n{network}{SMALL}"
        (tmp_path / f"train_{name}.yml").write_text(f"{text}  upscale: 2\n")


def run(*arguments, task="training", recipes=NETWORKS):
    files = [f"train_{name}.yml" for name in recipes]
    return main(["benchmark", *files, "--task", task, "--data", "data", "--device", "cpu", *arguments])


@pytest.mark.parametrize(("task", "image"), [("training", [2, 3, 16, 16]), ("inference", [1, 3, 24, 32])])
def test_networks_stand_side_by_side(capsys, task, image):
    assert run("--repeats", "2", "--size", "24x32", task=task) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["network", *NETWORKS]
    assert lines[3].split()[4] == "1.00"
    report = json.loads(Path("results/benchmark/benchmark.json").read_text())
    for row in report["rows"]:
        assert row["images_per_second"] == pytest.approx(1000 * image[0] / row["median"])
        assert row["least"] <= row["median"]
        assert "commit" in row["machine"]
        assert row["mib"] is None or row["mib"] > 0
        assert row["image"] == image


@pytest.mark.parametrize("arguments", [[], ["--bf16"]], ids=str)
def test_a_step_trains(monkeypatch, arguments):
    nets, before = [], []
    build = networks.Setup.build

    def keep(setup):
        nets.append(build(setup))
        before.append(next(nets[-1].parameters()).clone())
        return nets[-1]

    monkeypatch.setattr(networks.Setup, "build", keep)
    monkeypatch.setattr(networks, "peak_mib", lambda *_: None)
    assert run("--repeats", "1", *arguments) == 0
    for net, name, weights in zip(nets, NETWORKS, before, strict=True):
        assert type(net).__name__ == name
        assert net.training
        assert not torch.equal(weights, next(net.parameters()))
        assert all(each.grad is not None and each.grad.isfinite().all() for each in net.parameters())


def test_ours_compiles_its_stages_and_others_whole(monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda net, **options: seen.append((type(net).__name__, options)) or net)
    network = {"type": "SemanIR", "embed_dim": 6, "depths": [1, 1], "num_heads": [1, 1], "upscale": 2}
    how = (torch.zeros(1, 3, 8, 8), None, False, True, "cpu")
    networks.Setup("x.yml", network, *how).build()
    assert [options["backend"] for _, options in seen] == ["inductor", "inductor"]
    seen.clear()
    networks.Setup("x.yml", network | {"type": "SwinIR", "img_size": 8, "window_size": 4}, *how).build()
    assert seen == [("SwinIR", {})]


def test_inputs_are_the_patches_made_smaller(tmp_path):
    truth, image = networks.read_pairs(str(tmp_path / "data"), 2, 32, 2)
    assert (truth.shape, image.shape) == ((2, 3, 32, 32), (2, 3, 16, 16))
    assert (torch.nn.functional.avg_pool2d(truth, 2) - image).abs().mean() < 0.02
    assert not torch.equal(truth[0], truth[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--batch", "3"], "has no 3 photographs"), (["--patch", "41"], "of 41 x 41"), (["--patch", "31"], "by 2")],
)
def test_too_little_data_is_told(capsys, arguments, message):
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "recipes", "message"),
    [
        (["--data", "nowhere"], NETWORKS, "nowhere: no such folder"),
        ([], ["no"], "train_no.yml"),
        (["--repeats", "0"], NETWORKS, "must be a whole number of at least 1, not '0'"),
        (["--size", "24"], NETWORKS, "must be HEIGHTxWIDTH"),
    ],
)
def test_wrong_arguments_are_one_line(capsys, arguments, recipes, message):
    try:
        code = run(*arguments, recipes=recipes)
    except SystemExit as ended:
        code = ended.code
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


def test_what_a_training_lacks_is_told(capsys):
    assert main(["benchmark", "train_SwinIR.yml", "--task", "training"]) == 2
    assert "give --data FOLDER" in capsys.readouterr().err
    Path("train_bare.yml").write_text(f"network_g:\n{NETWORKS['SwinIR']}{SMALL}")
    assert run(recipes=["bare"]) == 2
    assert "give --batch and --patch" in capsys.readouterr().err
