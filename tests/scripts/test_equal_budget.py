from __future__ import annotations

import json
import re
import shutil
import sys

import cv2
import pytest
import yaml

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import equal_budget
import train_weights

MINI = ROOT / "options" / "train_SemanIR_mini_SRx4.yml"


@pytest.fixture
def data(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = cv2.imread(str(photos["coffee.png"]))
    for index, folder in enumerate(("train/BSD400", "test/Set5", "test/Set14", "test/BSD100")):
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
def run(data, monkeypatch, capsys):
    from semanir_plugin.cli import main

    calls = []

    def in_process(*arguments):
        calls.append(arguments)
        return main(list(arguments))

    monkeypatch.setattr(equal_budget, "run_in_venv", lambda: None)
    for module in (equal_budget, train_weights):
        monkeypatch.setattr(module, "basicsr", in_process)

    def train_in_process(training, _):
        return in_process("train", "-opt", str(training.opt), "--auto_resume") == 0

    monkeypatch.setattr(train_weights.Weights, "_train_until", train_in_process)

    def call(*words):
        calls.clear()
        monkeypatch.setattr(sys, "argv", ["equal_budget.py", *map(str, words), "--data", str(data), "--workers", "0"])
        code = equal_budget.main()
        return code, capsys.readouterr(), list(calls)

    return call


def test_recipes_and_variants_are_trained_scored_and_tabulated(run, recipe, tmp_path):
    words = (recipe, "--variants", "cosine", "window_8", "--iterations", 3, "--seeds", 0, 1)
    code, said, _ = run(*words)
    assert code == 0
    folder = tmp_path / "results" / "equal_budget"
    table = (folder / "table.md").read_text()
    assert said.out.endswith(table)
    rows = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert rows == ["| bicubic", "| tiny", "| tiny, cosine"], "the recipe's own window is no variant"
    assert len(list((tmp_path / "weights").glob("tiny*/*.safetensors"))) == 4
    measured = {each["model"]: each for each in json.loads((folder / "results.json").read_text())["rows"]}
    of_seeds = [measured[f"tiny, cosine, seed {seed}"]["cells"]["Set14"]["scores"]["psnr"] for seed in (0, 1)]
    cell = table.splitlines()[-1].split(" | ")[5]
    told = [float(number) for number in re.findall(r"[\d.]+", cell)]
    assert told[:2] == pytest.approx([sum(of_seeds) / 2, abs(of_seeds[0] - of_seeds[1]) / 2], abs=0.006)
    assert cv2.imread(str(folder / "curves.png")) is not None
    assert run(*words)[2][0][0] == "leaderboard", "what is finished is not trained again"


def test_seeds_and_changes_reach_the_option_files(run, recipe, tmp_path):
    assert run(recipe, "--variants", "random_topk", "shift_layer", "--iterations", 2, "--seeds", 3)[0] == 0
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "weights").glob("tiny*/*.yml")}
    assert {options["manual_seed"] for options in files.values()} == {3}
    networks = {name: options["network_g"] for name, options in files.items()}
    base = networks["tiny_2it_seed3"]
    assert networks["tiny_random_topk_2it_seed3"] == base | {"topk": [4, 8, 12, 16, 24, 32]}
    assert networks["tiny_shift_layer_2it_seed3"] == base | {"shift": "layer"}


def test_the_paper_s_ablations_are_there_and_keep_the_share_of_keys():
    recipe = equal_budget.Row(MINI)
    for side in (8, 16, 32):
        net = equal_budget.Row(MINI, f"window_{side}").options()["network_g"]
        assert net["topk"] / net["window_size"] ** 2 == 64 / 16**2
    assert not equal_budget.Row(MINI, "window_16").changes()
    assert equal_budget.Row(MINI, "all_keys").options()["network_g"]["topk"] == 256
    assert equal_budget.Row(MINI, "from_noise").changes()
    small = read_network("SemanIR_SRx4")
    assert equal_budget.VARIANTS["random_topk"](small) == {"topk": [64, 128, 192, 256, 384, 512]}, "as in the paper"
    assert recipe.label == "SemanIR_mini_SRx4"


def read_network(name):
    return yaml.safe_load((ROOT / "options" / f"train_{name}.yml").read_text())["network_g"]


def test_a_time_instead_of_iterations(run, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(train_weights, "TRIAL", 4)
    monkeypatch.setattr(train_weights, "read_seconds", lambda run: 0.5)
    assert run(recipe, "--minutes", 0.4)[0] == 0
    facts = json.loads((tmp_path / "weights" / "tiny_0.4min_seed0" / "training.json").read_text())
    assert facts["iterations"] == sum(call["iterations"] for call in facts["calls"]) > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([MINI, "--iterations", 1, "--variants", "cosinus"], "unknown variant 'cosinus'"),
        (["no.yml", "--iterations", 1], "no.yml: no such file"),
        ([MINI, "--iterations", 0], "--iterations must be at least 1"),
        ([MINI, "--minutes", 0.1], "--minutes must be more than 0.3"),
        ([MINI, ROOT / "options" / "train_SemanIR_mini_SRx2.yml", "--iterations", 1], "all by one factor"),
        ([ROOT / "options" / "train_SwinIR_mini_SRx4.yml", "--variants", "all", "--iterations", 1], "are of a SemanIR"),
    ],
)
def test_wrong_arguments_are_one_line(words, message, run, capsys):
    try:
        code, said, _ = run(*words)
    except SystemExit as ended:
        code, said = ended.code, capsys.readouterr()
    assert code == 2
    assert message in said.err.splitlines()[-1]


def test_data_that_are_missing_are_one_line(run, data, capsys):
    shutil.rmtree(data)
    with pytest.raises(SystemExit):
        run(MINI, "--iterations", 1)
    assert "--data must name" in capsys.readouterr().err.splitlines()[-1]
