"""`experiment.py`: trainings of one recipe, of variants, tasks and mixtures, from their data to the table."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
import torch
import yaml

from semanir_plugin import errors
from semanir_plugin.basicsr_host.engine.run import read_run_options
from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.cli import main as basicsr
from semanir_plugin.degradations import imresize_uint8
from semanir_plugin.errors import UserError
from semanir_plugin.inference.loading import load
from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import benchmark_loader
import experiment
from trainings import experiments, files, training
from trainings.beginning import choose_beginning
from trainings.data import CROP, USUAL
from trainings.training import Plan, Training

MINI = ROOT / "options" / "train_SemanIR_mini_SRx4.yml"
SETS = ("Set5", "Set12", "Set14", "BSD100", "McMaster", "classic5", "Kodak24")


@pytest.fixture
def data(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = cv2.imread(str(photos["coffee.png"]))
    for index, folder in enumerate(("train/BSD400", *(f"test/{name}" for name in SETS))):
        (tmp_path / "data" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / folder / "a.png"), photo[100 + index : 260 + index, 60:244])
    return tmp_path / "data"


@pytest.fixture
def recipe(tmp_path):
    options = yaml.safe_load(MINI.read_text())
    options["network_g"] |= {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 8, "topk": 32}
    options["datasets"]["train"] |= {"gt_size": 32, "batch_size_per_gpu": 2}
    path = tmp_path / "train_tiny.yml"
    path.write_text(yaml.safe_dump(options | {"num_gpu": 0}))
    return path


@pytest.fixture
def in_process(monkeypatch):
    """Subcommands that were run, in this process."""
    calls = []

    def call(*arguments):
        calls.append(arguments)
        assert basicsr(list(arguments)) == 0

    monkeypatch.setattr(files, "basicsr", call)
    return calls


@pytest.fixture
def run(data, in_process, monkeypatch, capsys):
    def train_in_process(self, _):
        files.basicsr("train", "-opt", str(self.opt), "--auto_resume")
        return True

    monkeypatch.setattr(experiment, "run_in_venv", lambda: None)
    monkeypatch.setattr(Training, "_train_until", train_in_process)

    def call(*words):
        in_process.clear()
        code = experiment.main([*map(str, words), "--data", str(data), "--workers", "0"])
        return code, capsys.readouterr()

    return call


def start(recipe, data, **others):
    return Training("tiny", files.read_yaml(recipe), Plan(data=data, **{"iterations": 5, "workers": 1, **others}))


def start_in_a_process(recipe, data, tmp_path):
    """Start what trains for long and is asked to save every second, in a process group of its own."""
    options = yaml.safe_load(recipe.read_text())
    options["logger"]["save_checkpoint_seconds"] = 1
    recipe.write_text(yaml.safe_dump(options))
    words = [str(recipe), "--data", str(data), "--minutes", "9", "--iterations", "100000", "--workers", "0"]
    command = [sys.executable, str(ROOT / "scripts" / "train_weights.py"), *words, "--parts", "parts"]
    environment = os.environ | {"SEMANIR_VENV": "0", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)


def wait_for(found, process, seconds=120):
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
def test_what_was_killed_goes_on_elsewhere_and_ends_in_weights(recipe, data, tmp_path, monkeypatch):
    process = start_in_a_process(recipe, data, tmp_path)
    try:
        wait_for(lambda: len(list((tmp_path / "experiments").glob("tiny/training_states/*.state"))) > 1, process)
        wait_for(lambda: files.list_whole_sets(tmp_path / "parts"), process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    shutil.copytree(tmp_path / "weights" / "data", elsewhere / "weights" / "data")
    files.unpack(tmp_path / "parts")
    facts = json.loads((elsewhere / "weights" / "tiny" / "training.json").read_text())
    done = facts["calls"][0]["iterations"]
    assert 0 < done < facts["iterations"] == 100_000
    options = yaml.safe_load((elsewhere / "weights" / "tiny" / "tiny.yml").read_text())
    files.shorten(options, done + 3)
    (elsewhere / "weights" / "tiny" / "tiny.yml").write_bytes(files.dump(options))
    start(recipe, data).train(time.monotonic() + 300)
    assert json.loads((elsewhere / "weights" / "tiny" / "training.json").read_text())["calls"][1]["iterations"] == 3
    network = load(elsewhere / "weights" / "tiny" / "tiny.safetensors").module
    averaged = torch.load(elsewhere / "experiments" / "tiny" / "models" / "net_g_latest.pth")["params_ema"]
    assert all(torch.equal(value, averaged[key]) for key, value in network.state_dict().items())


def test_a_time_too_short_to_begin_leaves_what_goes_on(recipe, data, tmp_path, in_process):
    start(recipe, data).train(time.monotonic() + 0.1)
    assert list((tmp_path / "weights" / "tiny" / "parts").iterdir())
    start(recipe, data).train(time.monotonic() + 300)
    assert (tmp_path / "weights" / "tiny" / "tiny.safetensors").exists()


SUPER_RESOLUTION = ("SemanIR_mini_SRx4", "SemanIR_SRx4", "SemanIR_real_SRx4")
RECIPES = (*SUPER_RESOLUTION, "SemanIRUNet_gray_JPEG10", "SemanIRUNet_GoPro", "AST_T_derain_SPAD")


def check_options(trained):
    """Return the options of a training, shortened, after `basicsr train` has checked them."""
    options = trained.options()
    files.shorten(options, 100)
    trained.opt.parent.mkdir(parents=True, exist_ok=True)
    trained.opt.write_bytes(files.dump(options))
    validate_options(read_run_options(trained.opt, is_train=True), is_train=True)
    return options


@pytest.mark.parametrize("name", RECIPES)
def test_option_files_of_all_kinds_of_recipes_are_valid(name, data, tmp_path, in_process):
    options = check_options(start(ROOT / "options" / f"train_{name}.yml", data))
    assert options["datasets"]["val"]["name"] == ("Set12" if "gray" in name else "Set5")
    assert len(list((tmp_path / "weights" / "data" / "BSD400_sizes").iterdir())) == len(USUAL.sizes)


def test_what_the_command_gives_takes_the_place_of_what_the_recipe_has(recipe, data, in_process):
    options = check_options(start(recipe, data, batch=3, patch=48, amp="bf16"))
    given = options["datasets"]["train"]
    assert (given["batch_size_per_gpu"], given["gt_size"], options["train"]["amp"]) == (3, 48, "bf16")
    plain, own = start(recipe, data).options(), files.read_yaml(recipe)
    assert plain["train"].get("amp") == own["train"].get("amp")
    assert plain["datasets"]["train"]["gt_size"] == own["datasets"]["train"]["gt_size"]


def test_other_images_are_trained_on_beside_bsd400(data, photos, tmp_path, in_process, capsys):
    also = tmp_path / "mine"
    also.mkdir()
    for path in (data / "train" / "BSD400").iterdir():  # of the same names
        cv2.imwrite(str(also / path.name), cv2.imread(str(photos["coffee.png"]))[:160, :184])
    options = check_options(start(MINI, data, also=[also]))
    assert Path(options["datasets"]["train"]["dataroot_gt"]).parent.name == "BSD400+mine_x4"
    sizes = {path.name for path in (tmp_path / "weights" / "data" / "BSD400+mine_sizes").iterdir()}
    assert len(sizes) == 2 * len(USUAL.sizes) * len(list(also.iterdir()))
    assert {name.partition("_")[0] for name in sizes} == {"BSD400", "mine"}
    for wrong, told in ((also / "none", "no such folder"), (data / "train" / "BSD400", "none of them BSD400")):
        with pytest.raises(SystemExit):
            experiment.main(["weights", str(MINI), "--data", str(data), "--minutes", "9", "--also", str(wrong)])
        assert told in capsys.readouterr().err


def test_trainings_at_once_make_their_data_one_after_the_other(data, monkeypatch):
    within, most = [], []

    def make(*_):
        within.append(1)
        most.append(len(within))
        time.sleep(0.1)
        within.pop()
        return {}

    monkeypatch.setattr(training, "make_training_set", make)
    threads = [Thread(target=start(MINI, data).options) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_a_recipe_of_several_degradations_keeps_its_validation_sets(data, tmp_path, in_process):
    options = check_options(start(ROOT / "options" / "train_SemanIRUNet_mini_AllInOne.yml", data))
    sets = {phase: each for phase, each in options["datasets"].items() if phase != "train"}
    assert list(sets) == ["val", "val_2", "val_3", "val_4", "val_5"]
    assert {each["dataroot_gt"] for each in sets.values()} == {str((data / "test" / "Set5").resolve())}
    assert len({str(each["degradations"]) for each in sets.values()}) == 5


SHIPPED = ROOT / "semanir_plugin" / "weights"
BLIND = SHIPPED / "semanirunet-mini-color-dnblind.safetensors"


def begin(weights, recipe, out):
    options = files.read_yaml(ROOT / "options" / f"train_{recipe}.yml")
    return choose_beginning(SHIPPED / f"{weights}.safetensors", options, out)


def test_another_scale_begins_with_all_weights_the_last_layer_s_interpolated(tmp_path, photos, capsys):
    begun = load(begin("semanir-mini-x4", "SemanIR_mini_SRx3", tmp_path / "new" / "x3.safetensors"))
    old, new = (each.module.state_dict() for each in (load("semanir-mini-x4"), begun))
    assert {name for name in new if not torch.equal(new[name], old[name])} == {"head.conv.weight", "head.conv.bias"}
    assert "made to fit are head.conv.bias, head.conv.weight" in capsys.readouterr().out
    truth = cv2.imread(str(photos["coffee.png"]))[100:196, 100:196]
    small = imresize_uint8(truth, 1 / 3)
    errors = [np.abs(each - truth.astype(float)).mean() for each in (begun.restore(small), imresize_uint8(small, 3))]
    assert errors[0] < 0.9 * errors[1], "of bicubic"


def test_layers_of_other_shapes_begin_anew_by_the_recipe_s_seed(tmp_path, capsys):
    recipe = files.read_yaml(ROOT / "options" / "train_SemanIRUNet_mini_color_DN25.yml")
    recipe["network_g"]["refinement_depth"] = 2
    begun = [choose_beginning(BLIND, recipe, tmp_path / f"{each}.safetensors") for each in range(2)]
    assert begun[0].read_bytes() == begun[1].read_bytes()
    assert "anew are refinement.layers.1" in capsys.readouterr().out


def test_a_network_for_gray_begins_as_the_one_for_colour_on_gray_images(tmp_path, capsys):
    begun = load(begin(BLIND.stem, "SemanIRUNet_mini_gray_DNblind", tmp_path / "gray.safetensors"))
    noisy = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load(BLIND).module(noisy.expand(1, 3, 64, 64)).mean(1, keepdim=True)
        torch.testing.assert_close(begun.module(noisy), expected, rtol=0, atol=1e-5)
    assert "made to fit are conv_first.weight, conv_last.bias, conv_last.weight" in capsys.readouterr().out


def test_weights_that_fit_are_taken_as_they_are_and_others_refused(tmp_path):
    assert begin(BLIND.stem, "SemanIRUNet_mini_color_DNblind", tmp_path / "x.safetensors") == BLIND
    with pytest.raises(UserError, match=r"ast-mini-derain.* of the network's 2.*; name those of a network like it"):
        begin("ast-mini-derain", "SemanIR_mini_SRx3", tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_mosaics_are_learnt_of_photographs_of_half_the_size_unless_others_are_named(data, in_process, monkeypatch):
    trained = []
    monkeypatch.setattr(experiment, "run_in_venv", lambda: None)
    monkeypatch.setattr(Training, "train", lambda self, _: trained.append(self.options()["datasets"]))
    recipe = ROOT / "options" / "train_SemanIRUNet_mini_demosaic.yml"
    for more in ([], ["--photographs", "usual"]):
        experiment.main(["weights", str(recipe), "--data", str(data), "--minutes", "9", "--workers", "0", *more])
    roots = [Path(sets["train"]["dataroot_gt"]) for sets in trained]
    assert [root.name for root in roots] == ["BSD400_halved.lmdb", "BSD400.lmdb"]
    (listed,) = (roots[0] / "meta_info.txt").read_text().splitlines()
    assert "(80,92,3)" in listed, "of 160 x 184"
    assert trained[0]["val"]["type"] == "DemosaicDataset"


def test_the_loader_is_measured_on_the_same_data(recipe, data, monkeypatch, capsys):
    words = [str(recipe), "--data", str(data), "--patch", "32", "--samples", "5"]
    monkeypatch.setenv("SEMANIR_VENV", "0")
    monkeypatch.setattr(sys, "argv", ["benchmark_loader.py", *words])
    assert benchmark_loader.main() == 0
    assert "patches per second of one core" in capsys.readouterr().out


def test_schedules_are_shortened_alike():
    options = {
        "train": {"total_iter": 1000, "warmup_iter": 50, "scheduler": {"milestones": [500, 800], "gamma": 0.5}},
        "datasets": {"train": {"iters": [333, 333, 334]}},
        "val": {"val_freq": 100},
        "logger": {},
    }
    files.shorten(options, 100, 20)
    assert options["train"] == {
        "total_iter": 100,
        "warmup_iter": 5,
        "scheduler": {"milestones": [50, 80], "gamma": 0.5},
    }
    assert options["datasets"]["train"]["iters"] == [33, 33, 34]
    assert options["val"]["val_freq"] == options["logger"]["save_checkpoint_freq"] == 5


def test_iterations_are_fitted_to_the_time(recipe, data, in_process):
    trained = start(recipe, data, iterations=None)
    options = trained.options()
    few, many = (trained._fit(options, time.monotonic() + seconds) for seconds in (10, 1000))
    assert 50 * few < many
    assert options["train"]["total_iter"] == 6000, "the trial has options of its own"


def test_a_set_of_parts_replaces_the_one_before_and_one_that_is_not_whole_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "PART", 10_000)
    for content in (b"old", b"new"):
        Path("file").write_bytes(content * 10_000)
        files.pack([Path("file")], Path("parts"))
    names = sorted(part.name for part in Path("parts").iterdir())
    assert names == [f"part_00002_{index}_of_{len(names)}" for index in range(1, len(names) + 1)]
    assert all(part.stat().st_size <= 10_000 for part in Path("parts").iterdir())
    Path("parts", f"part_00003_1_of_{len(names)}").write_bytes(b"killed while it was written")
    Path("file").unlink()
    files.unpack(Path("parts"))
    assert Path("file").read_bytes() == b"new" * 10_000
    Path("parts", names[0]).unlink()
    with pytest.raises(UserError, match="no whole set of parts"):
        files.unpack(Path("parts"))


def test_parts_that_are_damaged_are_told(tmp_path):
    (tmp_path / "part_00001_1_of_1").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(UserError, match="not the parts of a training"):
        files.unpack(tmp_path)


def test_recipes_and_variants_are_trained_scored_and_tabulated(run, recipe, tmp_path, in_process):
    words = ("recipes", recipe, "--variants", "cosine", "window_8", "--iterations", 3, "--seeds", 0, 1)
    code, said = run(*words)
    assert code == 0
    folder = tmp_path / "results" / "recipes"
    table = (folder / "table.md").read_text()
    assert said.out.endswith(table)
    rows = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert rows == ["| bicubic", "| tiny", "| tiny, cosine"], "the recipe's own window is no variant"
    measured = {each["model"]: each for each in json.loads((folder / "results.json").read_text())["rows"]}
    of_seeds = [measured[f"tiny, cosine, seed {seed}"]["cells"]["Set14"]["scores"]["psnr"] for seed in (0, 1)]
    cell = table.splitlines()[-1].split(" | ")[5]
    told = [float(number) for number in re.findall(r"[\d.]+", cell)]
    assert told[:2] == pytest.approx([sum(of_seeds) / 2, abs(of_seeds[0] - of_seeds[1]) / 2], abs=0.006)
    assert cv2.imread(str(folder / "curves.png")) is not None
    options = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "weights").glob("tiny*/*.yml")}
    assert {name: each["manual_seed"] for name, each in options.items()} == {
        f"tiny{kind}_3it_seed{seed}": seed for kind in ("", "_cosine") for seed in (0, 1)
    }
    networks = [options[f"tiny{kind}_3it_seed0"]["network_g"] for kind in ("", "_cosine")]
    assert networks[1] == networks[0] | {"similarity": "cosine"}
    run(*words)
    assert in_process[0][0] == "leaderboard", "what is finished is not trained again"


def test_one_variant_learns_from_a_teacher(tmp_path):
    rows = experiments.recipes([MINI], ["topk_32"], tmp_path / "teacher.safetensors")[0].rows
    assert [row.key for row in rows] == [f"SemanIR_mini_SRx4{kind}" for kind in ("", "_topk_32", "_distilled")]
    taught = {"distill_opt": {"type": "L1Loss"}, "teacher": str(tmp_path / "teacher.safetensors")}
    assert rows[2].recipe == rows[0].recipe | {"train": rows[0].recipe["train"] | taught}


def test_the_paper_s_ablations_are_there_and_keep_the_share_of_keys():
    rows = {row.label: row.recipe["network_g"] for row in experiments.recipes([MINI], ["all"])[0].rows}
    base = rows.pop("SemanIR_mini_SRx4")
    assert set(rows) == {
        f"SemanIR_mini_SRx4, {name.replace('_', ' ')}" for name in experiments.VARIANTS if name != "window_16"
    }
    assert all(rows[f"SemanIR_mini_SRx4, {name.replace('_', ' ')}"] == base for name in experiments.WAYS)
    assert rows["SemanIR_mini_SRx4, all keys"]["topk"] == base["window_size"] ** 2
    for side in (8, 32):
        net = rows[f"SemanIR_mini_SRx4, window {side}"]
        assert net["topk"] / net["window_size"] ** 2 == base["topk"] / base["window_size"] ** 2
    small = files.read_recipe("SemanIR_SRx4")["network_g"]
    assert experiments.NETWORKS["random_topk"](small) == {"topk": [64, 128, 192, 256, 384, 512]}, "as in the paper"


def test_other_ways_to_train_are_valid_and_change_what_they_say(data, in_process):
    (group,) = experiments.recipes([MINI], list(experiments.WAYS))
    checked = {row.key: check_options(Training(row.key, row.recipe, Plan(data=data))) for row in group.rows}
    growing = checked["SemanIR_mini_SRx4_growing_patches"]["datasets"]["train"]
    assert growing["gt_sizes"] == [64, 128, 192]
    assert sum(growing["iters"]) == 100
    assert "gt_size" not in growing
    sections = [each["datasets"]["train"] for each in checked.values()]
    assert max(max(each.get("gt_sizes", [each.get("gt_size")])) for each in sections) <= CROP, "sub-images are larger"
    kept = checked["SemanIR_mini_SRx4_psnr_loss"]["train"]
    assert kept["pixel_opt"] == {"type": "PSNRLoss", "loss_weight": 1, "reduction": "mean"}
    assert kept["optim_g"] == checked["SemanIR_mini_SRx4"]["train"]["optim_g"]


def test_a_wide_variant_fits_any_number_of_stages():
    light = files.read_recipe("SemanIR_light_SRx4")["network_g"]
    changed = experiments.NETWORKS["wide"](light)
    assert len(changed["depths"]) == len(changed["num_heads"]) == len(light["depths"]) > 2
    assert changed["embed_dim"] % changed["num_heads"][0] == 0


def test_a_time_instead_of_iterations(run, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "TRIAL", 4)
    monkeypatch.setattr(training, "read_seconds", lambda run: 0.5)
    assert run("recipes", recipe, "--minutes", 0.4)[0] == 0
    facts = json.loads((tmp_path / "weights" / "tiny_0.4min_seed0" / "training.json").read_text())
    assert facts["iterations"] == sum(call["iterations"] for call in facts["calls"]) > 1


@pytest.mark.parametrize("task", experiments.TASKS)
def test_tasks_are_learnt_and_scored_beside_their_input(task, run, tmp_path):
    assert run("tasks", task, "--iterations", 2)[0] == 0
    table = (tmp_path / "results" / f"reduced_{task}" / "table.md").read_text().splitlines()
    assert experiments.TASKS[task].test_set in table[0]
    before, after = (float(line.split(" | ")[-1].split(" / ")[0]) for line in table[2:])
    assert {"gray_DN25": 19, "color_DN25": 19, "gray_JPEG10": 22, "Demosaic": 25, "rain": 15}[task] < before < 40
    assert 5 < after < 60
    assert next((tmp_path / "results" / f"reduced_{task}").glob("images/_truth/*/a.png"))


def test_mixtures_stand_beside_their_hosts(run, tmp_path):
    assert run("mixing", "EDSR", "--iterations", 2)[0] == 0
    table = (tmp_path / "results" / "mixing" / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[3:]] == ["| EDSR", "| EDSR + FRFN"]
    parameters = [int(line.split(" | ")[1].replace(",", "")) for line in table[3:]]
    assert parameters == [158_979, 189_443], "as docs/mixing.md has them"
    (group,) = experiments.mixing(["SwinIR", "SemanIR"])
    networks = {row.label: row.recipe["network_g"] for row in group.rows}
    assert networks["SwinIR + key semantics"]["base"] == networks["SwinIR"]
    assert networks["SemanIR, ASSA"] | experiments.KEYS == networks["SemanIR, key semantics"]
    assert (networks["SemanIR, ASSA"]["attn"], networks["SemanIR, ASSA"]["embed_dim"]) == ("assa", 24)


def test_all_in_one_stands_beside_a_network_for_each(run, tmp_path, monkeypatch):
    small = {"embed_dim": 4, "depths": [1, 1], "head_dim": 4, "window_sizes": [8, 8], "topk": 16}
    full = files.read_recipe("SemanIRUNet_mini_AllInOne")
    monkeypatch.setattr(experiments, "read_recipe", lambda _: files.change(full, {"network_g": small}))
    assert run("all-in-one", "haze", "noise", "--iterations", 1)[0] == 0
    table = (tmp_path / "results" / "all_in_one" / "table.md").read_text().splitlines()
    assert re.findall(r"McMaster_\w+", table[0]) == ["McMaster_haze", "McMaster_noise"]
    rows = {cells[0].strip("| "): cells[3] for cells in (line.split(" | ") for line in table[3:])}
    assert [(label, int(told.partition(" in ")[0])) for label, told in rows.items()] == [
        *(("haze only", 1), ("noise only", 1), ("all in one", 1), ("all in one, 2 times the iterations", 2)),
        *(("all in one, prompts", 1), ("all in one, prompts, 2 times the iterations", 2)),
    ]
    trained = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "weights").glob("*_seed0/*.yml")}
    shares = {name.partition("_seed")[0]: each["datasets"]["train"]["degradations"] for name, each in trained.items()}
    assert list(shares["only_haze_1it"]) == ["haze", "clean"]
    assert shares["only_haze_1it"]["clean"] == {"weight": 0.05}
    assert list(shares["all_in_one_x2_2it"]) == ["haze", "noise", "clean"]
    assert shares["all_in_one_x2_2it"]["clean"] == {"weight": 0.1}
    assert trained["all_in_one_prompts_1it_seed0"]["network_g"]["prompts"] == 8
    validated = list(trained["all_in_one_1it_seed0"]["datasets"].values())[1:]
    assert [each["name"] for each in validated] == ["Set5_haze", "Set5_noise25"]


SR = ROOT / "options" / "train_SemanIR_SRx4.yml"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["weights", "no.yml", "--minutes", 5], "no.yml: no such file"),
        (["all-in-one", "haze"], "needs two names or more"),
        (["weights", SR, "--minutes", 0.1], "must be more than 0.3"),
        (["weights", SR], "--minutes is needed"),
        (["recipes", MINI], "give one of --iterations and --minutes"),
        (["recipes", MINI, "--iterations", 1, "--variants", "cosinus"], "invalid choice: 'cosinus'"),
        (["recipes", MINI, "--iterations", 0], "must be a whole number of at least 1, not '0'"),
        (["recipes", MINI, SR.with_stem("train_SemanIR_mini_SRx2"), "--iterations", 1], "all by one factor"),
        (["recipes", SR.with_stem("train_SwinIR_mini_SRx4"), "--variants", "all", "--iterations", 1], "of a SemanIR"),
        (["tasks", "JPEG"], "unknown name 'JPEG'"),
    ],
)
def test_wrong_arguments_are_one_line(words, message, run, capsys):
    try:
        code, said = run(*words)
    except SystemExit as ended:
        code, said = ended.code, capsys.readouterr()
    assert code == 2
    assert message in said.err.splitlines()[-1]


def test_a_plot_that_cannot_be_drawn_is_told_before_any_training(run, monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda _: None)
    monkeypatch.setattr(Training, "train", lambda *_: pytest.fail("it is trained"))
    code, said = run("recipes", MINI, "--iterations", 1)
    assert code == 2
    assert said.err == ("experiment: a plot of the trainings needs the package matplotlib: pip install matplotlib\n")


def test_the_former_name_and_data_that_are_missing_are_told(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "train_weights.py"), str(SR), "--minutes", "5", "--data", "no"]
    result = subprocess.run(command, capture_output=True, text=True, env={"SEMANIR_VENV": "0", "PATH": ""})
    assert result.returncode == 2
    assert "--data must name a folder" in result.stderr.splitlines()[-1]
