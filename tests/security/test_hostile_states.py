"""Training states and reports of resumed trainings whose entries are not what they should be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from semanir_plugin.cli import main
from semanir_plugin.schema.forms import Each, IfThere, form_problem
from tests.conftest import ROOT, tiny_overrides
from tests.security.attacks import assert_refused

NAME = "train_SemanIR_SRx4"
STATE = Path("experiments", NAME, "training_states", "1.state")

# The entry that is replaced, what takes its place, and what the refusal says.
WRONG = [
    ("iter", "1", "iter must be a whole number of at least 0, not '1'"),
    ("iter", -5, "iter must be a whole number of at least 0, not -5"),
    ("iter", True, "iter must be"),
    ("iter", None, "iter must be"),
    ("iter", torch.ones(1), "iter must be a whole number of at least 0, not a Tensor"),
    ("epoch", "x" * 100_000, "epoch must be a whole number of at least 0, not a str"),
    ("epoch", -1, "epoch must be"),
    ("validated", 1, "validated must be true or false, not 1"),
    ("train_options", [1], "train_options must be a section, not a list"),
    ("train_options", {"total_iter": torch.zeros(2)}, "train_options has a Tensor"),
    ("optimizers", 5, "optimizers must be a list, not 5"),
    ("optimizers", "abc", "optimizers must be a list, not 'abc'"),
    ("optimizers", [7], "optimizers:0 must be a section, not 7"),
    ("optimizers", [], "Wrong lengths of optimizers"),
    ("optimizers:0:state", [], "optimizers:0:state must be a section"),
    ("optimizers:0:state:0", 1, "optimizers:0:state:0 must be a section"),
    ("optimizers:0:state:0:exp_avg", torch.zeros(1), "another exp_avg than Adam"),
    ("optimizers:0:state:0:exp_avg", 1.0, "another exp_avg than Adam"),
    ("optimizers:0:state:0:step", torch.ones(2), "another step than Adam"),
    ("optimizers:0:state:0:step", torch.ones((), dtype=torch.complex64), "another step than Adam"),
    ("optimizers:0:state:0:step", torch.ones((), dtype=torch.bool), "another step than Adam"),
    (
        "optimizers:0:state:0:step",
        "x",
        "optimizers:0:state:0:step must be a tensor or a number or a list or ~, not 'x'",
    ),
    ("optimizers:0:state:0", {"step": torch.ones(())}, "has no exp_avg, exp_avg_sq"),
    ("optimizers:0:param_groups", {}, "optimizers:0:param_groups must be a list"),
    ("optimizers:0:param_groups:0:params", ["x"], "optimizers:0:param_groups:0:params:0 must be"),
    ("optimizers:0:param_groups:0:lr", "x", "param_groups:0:lr must be a number, not a str"),
    ("optimizers:0:param_groups:0:foreach", torch.ones(2), "foreach must be null or a single value, not a Tensor"),
    ("optimizers:0:param_groups:0:foreach", [True], "foreach must be null or a single value, not a list"),
    ("optimizers:0:param_groups:0:betas", [0.9], "param_groups:0:betas must have 2 elements, not 1"),
    ("schedulers", None, "schedulers must be a list, not ~"),
    ("schedulers", ["x"], "schedulers:0 must be a section, not 'x'"),
    ("schedulers:0:get_lr", 5, "schedulers:0 has 'get_lr', which no scheduler saves"),
    ("schedulers:0:optimizer", 5, "schedulers:0 has 'optimizer', which no scheduler saves"),
    ("schedulers:0:base_lrs", ["x"], "schedulers:0:base_lrs:0 must be a number, not a str"),
    ("schedulers:0:last_epoch", [1], "schedulers:0:last_epoch must be a number, not a list"),
    ("memories", {}, "memories must be a list"),
    ("memories", [{"queue_ptr": "x"}], "memories:0:queue_ptr must be"),
    ("best_metric_results", [], "best_metric_results must be a section"),
    ("best_metric_results", {"Set5": {"psnr": 30.0}}, "best_metric_results:Set5:psnr must be a section, not 30.0"),
    ("best_metric_results", {"Set5": {"psnr": {"val": 30.0, "iter": 1}}}, "Set5:psnr:better is missing"),
    ("protocol", 5, "protocol must be a string or ~, not 5"),
    ("loss_scaler", 5, "loss_scaler must be"),
    ("rng", 5, "rng must be a section, not 5"),
    ("rng:torch", 5, "rng:torch must be a tensor, not 5"),
    ("finite_steps", 5, "finite_steps must be a section"),
    ("finite_steps", {"left_out": -1, "in_a_row": []}, "finite_steps:left_out must be"),
    ("finite_steps", {"left_out": 1, "in_a_row": ["x"]}, "finite_steps:in_a_row:0 must be a section, not 'x'"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sr_data):
    """The folder of a training of two iterations, of which the first is the last one saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        assert train(sr_data) == 0
        for path in Path("experiments").rglob("*"):
            if path.name in ("2.state", "net_g_2.pth", "net_g_latest.pth"):
                path.unlink()
        return Path("experiments").absolute()


def train(data, *flags, **more):
    more = {"train__total_iter": 2, "val": "~", "logger__save_checkpoint_freq": 1, **more}
    opt = str(ROOT / "options" / f"{NAME}.yml")
    return main(["train", "-opt", opt, *flags, "--force_yml", *tiny_overrides(data, **more)])


@pytest.fixture
def run(trained):
    shutil.copytree(trained, "experiments")


def replaced(content, keys, value):
    """Return nested dictionaries and lists with another value under a key path."""
    if not keys:
        return value
    key = int(keys[0]) if keys[0].isdecimal() else keys[0]
    parts = list(content) if isinstance(content, list | tuple) else dict(content)
    old = parts[key] if isinstance(parts, list) else parts.get(key)
    parts[key] = replaced(old, keys[1:], value)
    return parts


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(("key", "value", "told"), WRONG, ids=[f"{key}-{told[-20:]}" for key, _, told in WRONG])
def test_an_entry_that_is_not_what_it_should_be(sr_data, key, value, told, capsys):
    state = torch.load(STATE, weights_only=True)
    torch.save(replaced(state, key.split(":"), value), STATE)
    assert_refused(capsys, train(sr_data, path__resume_state=STATE.absolute()), str(STATE), told)


@pytest.mark.usefixtures("run")
def test_the_one_before_is_taken(sr_data, capsys):
    assert train(sr_data, "--auto_resume") == 0
    newest = STATE.with_name("2.state")
    torch.save({**torch.load(newest, weights_only=True), "optimizers": "x"}, newest)
    assert train(sr_data, "--auto_resume", train__total_iter=3) == 0
    assert "iteration 2 is passed over" in capsys.readouterr().err


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    "content",
    ["5", "{}", '"abc"', "[1]", '["a"]', '[{"image": 5}]', '[{"image": ["a"], "iteration": 1, "reason": "x"}]', "[{}]"],
)
def test_a_report_of_unreadable_images_that_is_none(sr_data, content, capsys):
    report = Path("experiments", NAME, "unreadable_images_0.json")
    report.write_text(content)
    assert train(sr_data, "--auto_resume") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{report}: not the list of unreadable images that it was" in line
    assert line.endswith("remove it")


@pytest.mark.usefixtures("run")
def test_a_report_of_steps_left_out_is_not_read(sr_data):
    report = Path("experiments", NAME, "nonfinite_steps_0.json")
    report.write_text(json.dumps({"a": 1}))
    assert train(sr_data, "--auto_resume") == 0


def test_forms_name_the_key():
    form = {"a": [{"b": int, "c": IfThere(str)}], "d": Each(bool)}
    right = {"a": [{"b": 1}, {"b": 2, "c": "x", "more": None}], "d": {"x": True}}
    assert form_problem(right, form) is None
    assert form_problem({**right, "a": [{"b": 1}, {"c": "x"}]}, form) == "a:1:b is missing"
    assert form_problem({**right, "a": [{"b": 1, "c": 2}]}, form) == "a:0:c must be a string, not 2"
    assert form_problem({**right, "d": {"x": "y"}}, form) == "d:x must be true or false, not 'y'"
    assert form_problem([], form) == "it must be a section, not a list"
