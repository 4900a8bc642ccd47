"""Schedules and optimisers of resumed trainings, with the same and other options, against uninterrupted ones."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from basicsr.models.base_model import BaseModel

from semanir_plugin.atomic_io import save_atomic
from semanir_plugin.basicsr_host.engine import resuming
from semanir_plugin.basicsr_host.engine.training_states import read_state
from semanir_plugin.basicsr_host.optimization import known_optimizers, known_schedulers
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from tests.conftest import ROOT, tiny_overrides

SAVED, END = 5, 12

# Options of each scheduler, and others that the same training could go on with.
SCHEDULERS = {
    "ConstantLR": ({"factor": 0.5, "total_iters": 7}, {"factor": 0.25, "total_iters": 9}),
    "CosineAnnealingLR": ({"T_max": 6}, {"T_max": 12, "eta_min": 0.001}),
    "CosineAnnealingRestartLR": ({"periods": [6]}, {"periods": [12], "eta_min": 0.001}),
    "CosineAnnealingRestartCyclicLR": (
        {"periods": [3, 4], "restart_weights": [1, 1], "eta_mins": [0.01, 0.001]},
        {"periods": [2, 10], "restart_weights": [1, 0.5], "eta_mins": [0.02, 0.001]},
    ),
    "CosineAnnealingWarmRestarts": ({"T_0": 4}, {"T_0": 3, "T_mult": 2}),
    "CyclicLR": (
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "cycle_momentum": False},
        {"base_lr": 0.02, "max_lr": 0.2, "step_size_up": 4, "cycle_momentum": False},
    ),
    "ExponentialLR": ({"gamma": 0.9}, {"gamma": 0.8}),
    "LinearLR": ({"start_factor": 0.5, "total_iters": 7}, {"start_factor": 0.25, "total_iters": 10}),
    "MultiStepLR": ({"milestones": [3, 8], "gamma": 0.5}, {"milestones": [2, 4, 10], "gamma": 0.1}),
    "MultiStepRestartLR": ({"milestones": [3, 8], "gamma": 0.5}, {"milestones": [4, 9], "gamma": 0.5}),
    "OneCycleLR": ({"max_lr": 0.1, "total_steps": 12}, {"max_lr": 0.3, "total_steps": 20}),
    "PolynomialLR": ({"total_iters": 12, "power": 1.0}, {"total_iters": 24, "power": 2.0}),
    "StepLR": ({"step_size": 3}, {"step_size": 2, "gamma": 0.5}),
    "TrueCosineAnnealingLR": ({"T_max": 6}, {"T_max": 12, "eta_min": 0.001}),
}


class Model(BaseModel):
    """Two weights of two groups of one optimiser, which each iteration pulls somewhere else."""

    def __init__(self, train):
        super().__init__({"num_gpu": 0, "is_train": True, "dist": False, "train": train})
        torch.manual_seed(0)
        self.weights = [torch.nn.Parameter(torch.randn(2, 2)) for _ in range(2)]
        options = dict(train["optim_g"])
        groups = [{"params": self.weights[0]}, {"params": self.weights[1], "lr": options["lr"] / 10}]
        self.optimizers.append(self.get_optimizer(options.pop("type"), groups, **options))
        self.setup_schedulers()
        self.run_state = {}

    def train(self, iterations):
        """The learning rates and the other options of each group, in each iteration."""
        told = []
        for iteration in iterations:
            self.update_learning_rate(iteration, self.opt["train"].get("warmup_iter", -1))
            for index, weight in enumerate(self.weights):
                weight.grad = torch.sin(torch.arange(4.0) * iteration + index).reshape(2, 2)
            self.optimizers[0].step()
            groups = self.optimizers[0].param_groups
            told.append([{key: value for key, value in group.items() if key != "params"} for group in groups])
        return told


def state_of(model, options, path):
    """What is read back of a saved state."""
    state = {
        "iter": SAVED,
        "epoch": 0,
        "optimizers": [each.state_dict() for each in model.optimizers],
        "schedulers": [each.state_dict() for each in model.schedulers],
        **({} if options is None else {"train_options": options}),
    }
    save_atomic(state, path)
    return read_state(path)


def run_of(train):
    logger = logging.getLogger("test_resuming")
    return SimpleNamespace(
        opt={"train": train}, train_options=train, logger=logger, file=SimpleNamespace(path=Path("x.yml"))
    )


def go_on(before, after, path, *, told=True):
    """Train as `before` says, save, resume as `after` says; return the model, and what each iteration then has."""
    first = Model(before)
    first.train(range(1, SAVED + 1))
    state = state_of(first, before if told else None, path)
    second = Model(after)
    with torch.no_grad():
        for weight, saved in zip(second.weights, first.weights, strict=True):
            weight.copy_(saved)
    resuming.resume(second, state, run_of(after))
    return second, second.train(range(SAVED + 1, END + 1))


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def options(name, more, *, optimizer="Adam", warmup=-1, **optim):
    return {
        "optim_g": {"type": optimizer, "lr": 0.05, **optim},
        "scheduler": {"type": name, **more},
        "warmup_iter": warmup,
        "total_iter": END,
    }


def test_every_scheduler_is_here():
    assert SCHEDULERS.keys() == known_schedulers().keys()


def schedule(name, which):
    sizes = {"CosineAnnealingRestartLR": {"periods": [END]}}  # one that ends may not be asked for more
    return {**SCHEDULERS[name][which], **(sizes.get(name, {}) if which == 0 else {})}


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("warmup", [-1, 8], ids=["", "warmup"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_same_options_go_on_to_the_bit(tmp_path, caplog, name, warmup, told):
    train = options(name, schedule(name, 0), warmup=warmup)
    straight = Model(train)
    rates = straight.train(range(1, END + 1))[SAVED:]
    with caplog.at_level(logging.INFO):
        resumed, after = go_on(train, train, tmp_path / "x.state", told=told)
    assert after == rates
    assert all(map(torch.equal, resumed.weights, straight.weights))
    assert not caplog.messages


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_other_options_of_a_schedule_have_its_rates(tmp_path, caplog, name, told):
    old, new = (options(name, SCHEDULERS[name][which], warmup=7 * which) for which in (0, 1))
    rates = Model(new).train(range(1, END + 1))[SAVED:]
    with caplog.at_level(logging.INFO):
        _, after = go_on(old, new, tmp_path / "x.state", told=told)
    assert after == rates
    if told:
        key, value = next((key, value) for key, value in new["scheduler"].items() if value != old["scheduler"].get(key))
        before = old["scheduler"].get(key, "not set")
        assert f"Changed since iteration 5 was saved: train:scheduler:{key}: {before} -> {value}" in caplog.messages
        assert "Changed since iteration 5 was saved: train:warmup_iter: 0 -> 7" in caplog.messages
    else:
        assert any("group 0 of the optimisers:lr: " in message for message in caplog.messages)


def test_another_schedule_takes_the_place_of_one(tmp_path):
    old, new = options("StepLR", {"step_size": 3}), options("CosineAnnealingLR", {"T_max": 12})
    assert go_on(old, new, tmp_path / "x.state")[1] == Model(new).train(range(1, END + 1))[SAVED:]


CHANGED = {"lr": 0.02, "weight_decay": 0.125, "betas": [0.5, 0.75], "momentum": 0.5, "eps": 0.001}


@pytest.mark.parametrize("optimizer", known_optimizers())
def test_options_of_optimisers_win_over_the_state(tmp_path, caplog, optimizer):
    def train(**more):
        return options("StepLR", {"step_size": 3}, optimizer=optimizer, **more)

    kept = Model(train()).optimizers[0].param_groups[0].keys()
    other = {("Adafactor", "eps"), ("RMSprop", "momentum")}  # two numbers; what the state has none of
    changes = {key: value for key, value in CHANGED.items() if key in kept and (optimizer, key) not in other}
    for change in ({}, *({key: value} for key, value in changes.items())):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            resumed, after = go_on(train(), train(**change), tmp_path / "x.state")
        assert after == Model(train(**change)).train(range(1, END + 1))[SAVED:]
        assert [message.split("train:optim_g:")[1].split(":")[0] for message in caplog.messages] == list(change)
        moments = resumed.optimizers[0].state[resumed.weights[0]]
        assert moments.get("step", END) == END, "they are those of the state, and what came after"


def test_a_state_of_another_optimiser_is_refused(tmp_path):
    old, new = (options("StepLR", {"step_size": 3}, optimizer=name) for name in ("Adam", "SGD"))
    with pytest.raises(
        UserError, match=r"another optimiser \(train:optim_g:type: Adam -> SGD\); correct x.yml, or start"
    ):
        go_on(old, new, tmp_path / "x.state")


def test_moments_that_the_state_lacks_are_told(tmp_path):
    old, new = (options("StepLR", {"step_size": 3}, optimizer="RMSprop", momentum=each) for each in (0, 0.5))
    with pytest.raises(UserError, match=r"has no momentum_buffer, which RMSprop needs with its new options: take them"):
        go_on(old, new, tmp_path / "x.state")


def train(data, *flags, **more):
    more = {"val": "~", "train__total_iter": 8, "logger__print_freq": 1, "logger__save_checkpoint_freq": 8, **more}
    opt = str(ROOT / "options" / "train_SemanIR_SRx4.yml")
    return main(["train", "-opt", opt, *flags, "--force_yml", *tiny_overrides(data, **more)])


def rates(folder):
    text = "".join(path.read_text() for path in sorted(Path(folder).glob("*.log")))
    lines = [line.partition(", iter:")[2] for line in text.splitlines() if ", iter:" in line]
    return {int(line.partition(",")[0]): line.partition("lr:(")[2].partition(",)")[0] for line in lines}


def test_a_finished_cosine_is_made_longer(sr_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cosine = {"train__scheduler": "{type: CosineAnnealingRestartLR, periods: [8], restart_weights: [1]}"}
    longer = {**cosine, "train__total_iter": 16, "train__scheduler__periods": "[16]"}
    assert train(sr_data, **cosine) == 0
    assert train(sr_data, "--auto_resume", **longer) == 0
    told = [line.partition("saved: ")[2] for line in capsys.readouterr().err.splitlines() if "Changed since" in line]
    assert sorted(told) == ["train:scheduler:periods: [8] -> [16]", "train:total_iter: 8 -> 16"]
    assert train(sr_data, path__experiments_root=tmp_path / "straight", **longer) == 0
    resumed, straight = rates("experiments/train_SemanIR_SRx4"), rates("straight/train_SemanIR_SRx4")
    assert {key: resumed[key] for key in range(9, 17)} == {key: straight[key] for key in range(9, 17)}
