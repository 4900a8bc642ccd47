"""Leaderboards from the command line: whole, killed half-way, by two processes, and with cells that fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.metrics import calculate_psnr

from semanir_plugin.cli import main
from semanir_plugin.evaluation.leaderboard import contestants
from semanir_plugin.evaluation.leaderboard import run as leaderboard
from semanir_plugin.evaluation.leaderboard.columns import NO_COST
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import describe_weights
from semanir_plugin.inference.shipped_weights import find_weights
from tests.conftest import ROOT

SEMANIR = {"type": "SemanIR", "upscale": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 8}
SWINIR = {"type": "SwinIR", "upscale": 4, "img_size": 16, "window_size": 8, "upsampler": "pixelshuffledirect"}
NETWORKS = {
    "SemanIR-12": {**SEMANIR, "topk": 12},
    "SemanIR-4": {**SEMANIR, "topk": 4},
    "SwinIR": {**SWINIR, "embed_dim": 4, "depths": [1], "num_heads": [2]},
    "MSRResNet": {"type": "MSRResNet", "num_feat": 4, "num_block": 1, "upscale": 4},
}
MODELS = {
    "Bicubic": {"classical": "bicubic"},
    "elsewhere": {"images": "elsewhere", "filename_tmpl": "{}_sr"},
    **{name: {"network_g": network, "checkpoint": f"{name}.pth"} for name, network in NETWORKS.items()},
}
SETS = {"A": 3, "B": 2}
RESULTS = Path("results", "board")


@pytest.fixture
def board(tmp_path, monkeypatch, photos):
    """Write six models and two test sets; return what runs a leaderboard of them."""
    monkeypatch.chdir(tmp_path)
    sources = [cv2.imread(str(path)) for path in photos.values()]
    for name, count in SETS.items():
        for index in range(count):
            image = sources[index][50 : 50 + 53, 90 : 90 + 70]  # of which 52 x 68 are scored
            for folder, stem in ((Path(name), index), (Path("elsewhere", name), f"{index}_sr")):
                folder.mkdir(parents=True, exist_ok=True)
                scored = image if folder == Path(name) else cv2.GaussianBlur(image[:52, :68], (0, 0), 1)
                cv2.imwrite(str(folder / f"{stem}.png"), scored)
    for index, (name, network) in enumerate(NETWORKS.items()):
        torch.manual_seed(index)
        torch.save({"params": build_network(dict(network)).state_dict()}, f"{name}.pth")

    def board(*overrides, **options):
        content = {
            **{"name": "board", "task": "sr", "protocol": "sr_y_crop", "scale": 4, "num_gpu": 0},
            **{"models": MODELS, "test_sets": {name: {"gt": name} for name in SETS}},
            **options,
        }
        Path("board.yml").write_text(yaml.safe_dump(content, sort_keys=False))
        return main(["leaderboard", "-opt", "board.yml", *(["--force_yml", *overrides] if overrides else [])])

    return board


@pytest.fixture
def computed(monkeypatch):
    """The names of rows, test sets and images that are computed, in turn."""
    calls, compute = [], leaderboard._Computation._compute_image

    def count(self, restorer, test_set, index):
        calls.append((rows[-1], test_set.name, index))
        return compute(self, restorer, test_set, index)

    def note(self, contestant, *rest):
        rows.append(contestant.name)
        compute_cell(self, contestant, *rest)

    rows, compute_cell = [], leaderboard._Computation._compute_cell
    monkeypatch.setattr(leaderboard._Computation, "_compute_cell", note)
    monkeypatch.setattr(leaderboard._Computation, "_compute_image", count)
    return calls


def read_results():
    return json.loads((RESULTS / "results.json").read_text())


def cells():
    return {row["model"]: row["cells"] for row in read_results()["rows"]}


def test_the_whole(board, capsys):
    assert board(published=["SwinIR"], cost={"size": [16, 24], "runs": 1}) == 0
    results = read_results()
    assert [row["model"] for row in results["rows"]] == list(MODELS), "nothing is published of these sets"
    assert results["test_sets"][0] == {"name": "A", "images": 3, "condition": "x4"}
    assert torch.__version__.startswith(results["environment"]["versions"]["torch"].partition("+")[0])
    for row in results["rows"]:
        for name, cell in row["cells"].items():
            assert (cell["error"], len(cell["images"])) == (None, SETS[name])
            assert cell["scores"]["psnr"] == pytest.approx(np.mean([i["scores"]["psnr"] for i in cell["images"]]))
            for image in cell["images"]:
                truth = cv2.imread(str(RESULTS / results["references"][name][image["name"]]["truth"]))
                output = cv2.imread(str(RESULTS / image["output"]))
                assert truth.shape == output.shape == (52, 68, 3)
                psnr = calculate_psnr(output, truth, 4, test_y_channel=True)
                assert psnr == image["scores"]["psnr"], "the image that is shown is that which is scored"
                lq = cv2.imread(str(RESULTS / results["references"][name][image["name"]]["input"]))
                assert np.array_equal(lq, lq[::4, ::4].repeat(4, axis=0).repeat(4, axis=1))
    by_name = {row["model"]: row for row in results["rows"]}
    assert by_name["elsewhere"]["parameters"] is None
    assert by_name["SemanIR-12"]["mult_adds"] > by_name["SemanIR-4"]["mult_adds"] > 0
    assert results["cost_size"] == [3, 16, 24]
    assert by_name["elsewhere"]["cells"]["A"]["scores"]["psnr"] > by_name["Bicubic"]["cells"]["A"]["scores"]["psnr"]
    out = capsys.readouterr().out
    assert all(name in out for name in MODELS)
    assert (RESULTS / "results.md").is_file()
    assert (RESULTS / "results.csv").is_file()
    assert all(name in (RESULTS / "results.html").read_text() for name in MODELS)


def test_weights_that_say_what_network_they_are_of(board):
    network = build_network(dict(NETWORKS["SemanIR-4"]))
    network.load_state_dict(torch.load("SemanIR-4.pth")["params"])
    save_weights("described.safetensors", network, NETWORKS["SemanIR-4"])
    named = {"named": {"network_g": NETWORKS["SemanIR-4"], "checkpoint": "SemanIR-4.pth"}}
    assert board(models={**named, "described": {"weights": "described.safetensors"}}) == 0
    rows = read_results()["rows"]
    scores = [{name: cell["scores"] for name, cell in row["cells"].items()} for row in rows]
    assert scores[0] == scores[1]
    assert [row["kind"] for row in rows] == ["measured", "measured"]


def test_a_checkpoint_may_be_shipped_weights(board):
    shipped, _, _ = describe_weights(find_weights("semanir-mini-x4"))
    named = {"checkpoint": {"network_g": shipped, "checkpoint": "semanir-mini-x4"}}
    assert board(models={**named, "weights": {"weights": "semanir-mini-x4"}}) == 0
    scores = [[cell["scores"] for cell in row["cells"].values()] for row in read_results()["rows"]]
    assert scores[0] == scores[1]


def test_networks_are_scored_as_by_basicsr_test(board):
    assert board() == 0
    options = {
        **{"name": "test", "model_type": "SemanIRModel", "scale": 4, "num_gpu": 0},
        "datasets": {
            "test_1": {"name": "A", "type": "BicubicSRDataset", "dataroot_gt": "A", "io_backend": {"type": "disk"}}
        },
        **{"network_g": NETWORKS["SwinIR"], "path": {"pretrain_network_g": "SwinIR.pth"}},
        "val": {
            "metrics": {
                name: {"type": f"calculate_{name}", "crop_border": 4, "test_y_channel": True}
                for name in ("psnr", "ssim")
            }
        },
    }
    Path("test.yml").write_text(yaml.safe_dump(options))
    assert main(["test", "-opt", "test.yml"]) == 0
    scores = json.loads(Path("results", "test", "metrics.json").read_text())["A"]
    assert cells()["SwinIR"]["A"]["scores"] == pytest.approx(scores, abs=1e-12)


def test_networks_are_built_once_for_cost_and_results(board, monkeypatch):
    built, build = [], contestants.build_model
    monkeypatch.setattr(contestants, "build_model", lambda opt: built.append(opt["network_g"]["type"]) or build(opt))
    models = {name: MODELS[name] for name in ("SwinIR", "MSRResNet")}
    assert board(models=models, cost={"size": [16, 24], "runs": 1}, save_images=False) == 0
    assert built == ["SwinIR", "MSRResNet"]


def test_only_what_is_missing_is_computed(board, computed):
    assert board() == 0
    assert len(computed) == 6 * 5 == len(set(computed))
    before = cells()
    computed.clear()
    assert board() == 0
    assert computed == []
    assert cells() == before
    record = next(path for path in RESULTS.glob("cache/*-v[0-9]/1.json") if "SwinIR/A" in path.read_text())
    record.unlink()
    (RESULTS / "images" / "Bicubic" / "B" / "0.png").write_bytes(b"x")
    assert board() == 0
    assert computed == [("Bicubic", "B", 0), ("SwinIR", "A", 1)]
    computed.clear()
    net = build_network(dict(NETWORKS["MSRResNet"]))
    torch.save({"params": net.state_dict()}, "MSRResNet.pth")
    assert board() == 0
    assert {name for name, _, _ in computed} == {"MSRResNet"}, "other weights"
    assert cells()["MSRResNet"] != before["MSRResNet"]
    computed.clear()
    cv2.imwrite("B/0.png", cv2.imread("B/0.png")[::-1])
    assert board("models:elsewhere=~") == 0
    assert {(name, index) for _, name, index in computed} == {("B", 0), ("B", 1)}, "another test set"
    computed.clear()
    assert board("models:elsewhere=~", "protocol=basicsr_rgb_mod12") == 0
    assert len(computed) == 5 * 5, "another protocol"


def test_a_changed_digit_is_computed_again(board, computed, capsys):
    models = {"models": {"Bicubic": MODELS["Bicubic"]}}
    assert board(**models) == 0
    before = cells()
    for path in records():
        path.write_text(re.sub(r'"psnr": \d', '"psnr": 9', path.read_text()))
    computed.clear()
    capsys.readouterr()
    assert board(**models) == 0
    assert computed == [("Bicubic", name, index) for name, count in SETS.items() for index in range(count)]
    assert cells() == before
    said = (RESULTS / "leaderboard.log").read_text()
    assert "Bicubic on A: 3 cached records are damaged or of an earlier version; made again." in said
    assert "Bicubic on B: 2 cached records are damaged" in capsys.readouterr().err


def test_a_disturbed_cost_is_said_and_measured_again(board, monkeypatch):
    measured = []

    def measure(*_):
        measured.append(
            {**NO_COST, "time_ms": 1.0, "time_low_ms": 1, "time_high_ms": 1, "disturbed": len(measured) < 1}
        )
        return measured[-1]

    monkeypatch.setattr(leaderboard, "measure_cost", measure)
    models = {"models": {"Bicubic": MODELS["Bicubic"]}, "cost": {}}
    for count in (1, 2, 2):
        assert board(**models) == 0
        assert len(measured) == count
    assert "Bicubic: other work disturbed the measurement of its time." in (RESULTS / "leaderboard.log").read_text()
    assert read_results()["rows"][0]["disturbed"] is False


def test_without_images_nothing_but_scores_is_kept(board, computed):
    assert board(save_images=False) == 0
    assert not (RESULTS / "images").exists()
    results = read_results()
    assert results["references"] == {}
    assert results["rows"][0]["cells"]["A"]["images"][0]["output"] is None
    assert len(computed) == 30


def start(*launcher, options="board.yml"):
    command = [sys.executable, "-m", *launcher, "semanir_plugin.cli", "leaderboard", "-opt", options]
    command += ["--launcher", "pytorch"] if launcher else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def records():
    found = [path for path in RESULTS.glob("cache/*-v[0-9]/*.json") if not path.parent.name.startswith("references")]
    return {path: path.stat().st_mtime_ns for path in found}


def test_a_run_that_is_killed_goes_on(board, computed):
    assert board() == 0
    expected = cells()
    Path("results").rename("earlier")
    process = start()
    while len(records()) < 12 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = records()
    assert process.returncode == -signal.SIGKILL
    assert 12 <= len(kept) < 30
    assert not (RESULTS / "results.json").exists()
    computed.clear()
    assert board() == 0
    assert len(computed) == 30 - len(kept)
    assert kept.items() <= records().items(), "no record is written again"
    assert cells() == expected


def test_two_processes_give_the_table_of_one(board):
    for path, rows in (("A/1", 1), ("A/2", 2), ("B/1", 3)):  # of which each process meets some
        image = cv2.imread(f"elsewhere/{path}_sr.png")
        cv2.imwrite(f"elsewhere/{path}_sr.png", image[rows:])
    assert board("models:MSRResNet:checkpoint=nowhere.pth") == 1
    assert "68x51" in cells()["elsewhere"]["A"]["error"]
    assert "68x49" in cells()["elsewhere"]["B"]["error"]
    expected, text = read_results(), (RESULTS / "results.csv").read_text()
    Path("results").rename("one")
    options = yaml.safe_load(Path("board.yml").read_text())
    options["models"]["MSRResNet"]["checkpoint"] = "nowhere.pth"
    Path("board.yml").write_text(yaml.safe_dump(options, sort_keys=False))
    process = start("torch.distributed.run", "--nproc_per_node=2", "--master_port=29519", "-m")
    out, error = process.communicate(timeout=240)
    assert process.returncode == 1, error
    found = read_results()
    assert {**found, "environment": None} == {**expected, "environment": None}
    assert (RESULTS / "results.csv").read_text() == text
    assert out.count("PSNR / SSIM") == 2, "the first process alone prints, two columns"
    assert error.count("ERROR: MSRResNet: nowhere.pth: cannot be opened") == 1


def test_a_process_that_is_lost_is_told(board, monkeypatch, capsys):
    def gather(self):
        monkeypatch.setattr(leaderboard.dist, "is_initialized", lambda: True)
        raise RuntimeError("[pair.cc:537] Read error [127.0.0.1]:4534: Connection reset by peer. GLHF!")

    monkeypatch.setattr(leaderboard._Computation, "run", gather)
    assert board() == 1
    assert "another process of the run has failed" in (line := capsys.readouterr().err)
    assert "start again, which goes on with what is computed" in line
    assert line.count("\n") == 1


def test_results_of_another_depth_are_told_the_ones_that_are_read(board):
    Path("elsewhere/B/1_sr.png").unlink()
    cv2.imwrite("elsewhere/B/1_sr.tif", np.zeros((52, 68, 3), np.float32))
    assert board(models={"elsewhere": MODELS["elsewhere"]}) == 1
    told = "elsewhere/B/1_sr.tif: the image has float32 pixels; 8 and 16 bit are read, so convert it"
    assert cells()["elsewhere"]["B"]["error"] == told


def test_two_results_of_one_image_are_refused(board, computed):
    cv2.imwrite("elsewhere/B/1_sr.jpg", cv2.imread("elsewhere/B/1_sr.png"))
    assert board() == 1
    found = cells()["elsewhere"]
    told = "elsewhere/B/1_sr.jpg and elsewhere/B/1_sr.png would both be the result of 1; take one away"
    assert (found["A"]["error"], found["B"]["error"]) == (None, told)


def test_cells_that_fail_are_told_and_do_not_end_the_run(board, computed, capsys):
    Path("SwinIR.pth").write_bytes(Path("SwinIR.pth").read_bytes()[:500])
    Path("elsewhere", "B", "1_sr.png").unlink()
    cv2.imwrite("elsewhere/A/1_sr.png", cv2.imread("elsewhere/A/1_sr.png")[1:])
    torch.save({"params": build_network(dict(NETWORKS["MSRResNet"])).state_dict()}, "SemanIR-4.pth")
    assert board() == 1
    found = cells()
    errors = {(row, name): cell["error"] for row, sets in found.items() for name, cell in sets.items() if cell["error"]}
    assert errors.keys() == {
        *(("SwinIR", name) for name in SETS),
        *(("elsewhere", name) for name in SETS),
        *(("SemanIR-4", name) for name in SETS),
    }
    assert errors["SwinIR", "A"].startswith("SwinIR.pth: not a PyTorch checkpoint, or a damaged one;")
    assert errors["elsewhere", "B"] == "elsewhere/B: no result of 1, 1_sr.png; add it, or correct filename_tmpl"
    assert "1_sr.png is 68x51, but the scored part of its ground truth is 68x52" in errors["elsewhere", "A"]
    assert errors["SemanIR-4", "A"].startswith("SemanIR-4.pth does not fit SemanIR: ")
    assert all("\n" not in error for error in errors.values())
    assert found["elsewhere"]["A"]["scores"] == {}
    captured = capsys.readouterr()
    assert captured.err.count("ERROR") == 4, "one line for each reason"
    assert "Failed: elsewhere on B: elsewhere/B: no result of 1" in captured.out
    computed.clear()
    cv2.imwrite("elsewhere/A/1_sr.png", cv2.imread("A/1.png")[:52, :68])
    assert board() == 1
    found = cells()["elsewhere"]["A"]
    assert (found["error"], found["images"][1]["scores"]["psnr"], found["scores"]["psnr"]) == (None, None, None)
    assert found["scores"]["ssim"] > 0.8, "equal images have infinite decibels, which JSON cannot hold"
    assert {row for row, _, _ in computed} == {"elsewhere"}


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda: Path("A").rename("C"), "board.yml:46: test_sets: A: A: no such folder; name a folder of photographs"),
        (lambda: [path.unlink() for path in Path("A").iterdir()], "test_sets: A: A: no images"),
        (lambda: Path("A", "0.png").write_bytes(b"GIF89a"), "A/0.png cannot be read"),
    ],
)
def test_a_wrong_test_set_is_told_before_any_work(board, capsys, spoil, line):
    spoil()
    assert board() == 2
    error = capsys.readouterr().err
    assert error.startswith("basicsr leaderboard: board.yml:")
    assert line.removeprefix("board.yml:46: ") in error
    assert error.count("\n") == 1
    assert not RESULTS.exists()


def test_pairs_of_other_sizes_are_told_before_any_work(board, capsys):
    assert board("test_sets:A:lq=B") == 2
    assert "A: no input in B for 2;" in capsys.readouterr().err
    Path("A", "2.png").unlink()
    assert board("test_sets:A:lq=B") == 2
    assert "A/0.png is 70x53, 68x52 of which are scored, but B/0.png is 70x53 at scale 4" in capsys.readouterr().err


def test_networks_with_weights_for_each_level(board):
    options = {
        **{"task": "denoising", "protocol": "denoising_color_bgr", "scale": 1},
        "test_sets": {f"A_{sigma}": {"gt": "A", "sigma": sigma} for sigma in (15, 50)},
        "models": {
            "Noisy": {"classical": "identity"},
            "net": {"network_g": {"type": "SemanIRUNet", **UNET}, "checkpoint": "unet_{}.pth"},
        },
    }
    for sigma in (15, 50):
        torch.manual_seed(sigma)
        net = build_network({"type": "SemanIRUNet", **UNET})
        torch.save(
            {"params": {key: value * (sigma == 15) for key, value in net.state_dict().items()}}, f"unet_{sigma}.pth"
        )
    assert board(**options) == 0
    found = cells()
    assert found["Noisy"]["A_50"]["scores"]["psnr"] == pytest.approx(14.15, abs=0.1)
    assert found["net"]["A_50"]["scores"]["psnr"] > found["Noisy"]["A_50"]["scores"]["psnr"], "the input, but clipped"
    assert found["net"]["A_15"]["scores"]["psnr"] != found["net"]["A_50"]["scores"]["psnr"]
    Path("unet_50.pth").unlink()
    assert board(**options) == 1
    assert "unet_50.pth" in cells()["net"]["A_50"]["error"]
    assert cells()["net"]["A_15"]["error"] is None


def test_one_network_on_sets_of_several_tasks_and_their_mean(board, capsys):
    for index in range(3):
        Path("inputs").mkdir(exist_ok=True)
        cv2.imwrite(f"inputs/{index}.png", cv2.GaussianBlur(cv2.imread(f"A/{index}.png"), (0, 0), 2))
    options = {
        **{"task": "all_in_one", "protocol": "all_in_one_3", "scale": 1, "average": True, "published": ["PromptIR"]},
        "models": {"Degraded": {"classical": "identity"}},
        "test_sets": {"SOTS": {"gt": "A", "lq": "inputs"}, "noise": {"gt": "A", "sigma": 50, "benchmark": "BSD68_50"}},
    }
    assert board(**options) == 0
    results, found = read_results(), cells()
    assert results["test_sets"][-1] == {"name": "average", "images": 6, "condition": "of 2 sets"}
    for row, metric in ((row, metric) for row in found for metric in ("psnr", "ssim")):
        scores = [found[row][name]["scores"][metric] for name in ("SOTS", "noise")]
        assert found[row]["average"]["scores"][metric] == pytest.approx(sum(scores) / 2)
    assert found["PromptIR"]["average"]["scores"] == pytest.approx({"psnr": 29.32, "ssim": 0.8865})
    noisy = cv2.imread(str(RESULTS / "images" / "_input" / "noise" / "0.png"))
    assert noisy is None or noisy.dtype == np.uint8
    assert "average of 2 sets" in " ".join(capsys.readouterr().out.split())
    assert board(**options | {"test_sets": {**options["test_sets"], "average": {"gt": "A", "sigma": 15}}}) == 2
    assert "average is the column of the mean: rename it" in capsys.readouterr().err
    del options["test_sets"]["SOTS"]["lq"]
    assert board(**options) == 2
    assert "test_sets:SOTS: missing 'sigma'" in capsys.readouterr().err


def test_drawn_degradations(board, capsys):
    network = {"type": "SemanIRUNet", **UNET}
    for name in ("rain", "clean"):
        torch.save({"params": build_network(dict(network)).state_dict()}, f"{name}.pth")
    degradations = {"rain": {"rain": {"amount": 2}}, "other": {"rain": {"amount": 2}}, "clean": {"clean": {}}}
    sets = {name: {"gt": "A", "degradations": each} for name, each in degradations.items()}
    sets["other"]["seed"], sets["clean"]["averaged"] = 5, False
    models = {
        "Degraded": {"classical": "identity"},
        "each": {"network_g": network, "checkpoint": "{}.pth"},
    }
    assert board(task="all_in_one", protocol="drawn_rgb", scale=1, average=True, models=models, test_sets=sets) == 0
    described, scores = read_results()["test_sets"], cells()["Degraded"]
    assert described[1] == {
        **{"name": "other", "images": 3, "condition": "rain, amount 2, seed 5"},
        **{"degradation": {"rain": {"amount": 2}}, "seed": 5},
    }
    assert (described[2]["degradation"], described[3]["condition"]) == ({"clean": {}}, "of 2 sets")
    assert scores["clean"]["scores"] == {"psnr": None, "ssim": 1}, "infinite decibels"
    psnr = [scores[name]["scores"]["psnr"] for name in ("rain", "other")]
    assert psnr[0] != psnr[1]
    assert scores["average"]["scores"]["psnr"] == pytest.approx(sum(psnr) / 2)
    assert all(cell["error"] is None for cell in cells()["each"].values())
    assert "other rain, amount 2, seed 5" in " ".join(capsys.readouterr().out.split())


UNET = {
    **{"embed_dim": 8, "head_dim": 4, "depths": [1, 1], "refinement_depth": 1, "window_sizes": [8, 8], "topk": 12},
}


def test_a_network_of_other_channels_is_told(board):
    network = {"type": "SemanIRUNet", **UNET, "in_chans": 1}
    models = {"gray": {"network_g": network}}
    sets = {"A": {"gt": "A", "sigma": 25}}
    assert board(task="denoising", protocol="denoising_color_bgr", scale=1, models=models, test_sets=sets) == 1
    assert "it takes 1 channels, not 3" in cells()["gray"]["A"]["error"]


def test_random_weights_are_those_of_the_seed(board, capsys):
    models = {"net": {"network_g": NETWORKS["MSRResNet"]}}
    scores = []
    for seed in (1, 1, 2):
        assert board(f"name=board{len(scores)}", f"manual_seed={seed}", models=models) == 0
        results = json.loads(Path("results", f"board{len(scores)}", "results.json").read_text())
        scores.append(results["rows"][0]["cells"]["A"]["scores"])
    assert "net: checkpoint is not set: untrained weights are scored" in capsys.readouterr().err
    assert scores[0] == scores[1] != scores[2]


def test_a_folder_that_cannot_be_written(board, capsys):
    Path("results").write_text("in the way")
    assert board() == 2
    assert "choose path.results_root" in capsys.readouterr().err


def test_an_error_of_any_other_kind_fails_its_cell_alone(board, monkeypatch):
    from basicsr.archs.srresnet_arch import MSRResNet

    def fail(self, x):
        raise RuntimeError("out\nof memory")

    monkeypatch.setattr(MSRResNet, "forward", fail)
    assert board(cost={"size": [16, 16], "runs": 1, "warm_up": 0}) == 1
    found = cells()
    assert "out of memory" in found["MSRResNet"]["A"]["error"]
    assert found["SwinIR"]["A"]["error"] is None
