"""Losses that are not finite: steps left out, counted, and the end of a training."""

from __future__ import annotations

import copy
import json
import multiprocessing
import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from basicsr.losses.basic_loss import L1Loss

from semanir_plugin.basicsr_host.models.finite_steps import FiniteSteps
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from tests.basicsr_host.models.test_semanir_model import batch, build_model, options
from tests.conftest import ROOT, tiny_overrides

NAME = "train_SemanIR_SRx4"


def step(model, iteration, value=None):
    """Do an iteration, in which one pixel of the truth is of this value."""
    sample = batch()
    if value is not None:
        sample["gt"][1, 2, 3, 4] = value
    model.update_learning_rate(iteration)
    model.feed_data({**sample, "gt_path": ["a.png", "b.png", "c.png", "d.png"], "lq_path": list("efgh")})
    model.optimize_parameters(iteration)


def snapshot(model):
    return copy.deepcopy(
        [net.state_dict() for net in (model.net_g, model.net_g_ema)] + [model.optimizer_g.state_dict()["state"]]
    )


def flatten(value):
    items = value.values() if isinstance(value, dict) else value
    return [leaf for item in items for leaf in (flatten(item) if isinstance(item, dict | list) else [item])]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(flatten(a), flatten(b), strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("more", [{}, {"accumulation_steps": 2}, {"amp": "bf16", "grad_clip": 1.0}], ids=str)
def test_a_step_that_is_not_finite_is_left_out(tmp_path, value, more):
    model = build_model(options(tmp_path, train={"ema_decay": 0.5, **more}))
    step(model, 1)
    before = snapshot(model)
    step(model, 2, value)
    assert same(snapshot(model), before)
    assert all(parameter.grad is None for parameter in model.net_g.parameters())
    step(model, 3)
    assert not same(snapshot(model), before)
    assert model.finite_steps.left_out == 1
    assert model.finite_steps.in_a_row == []


def test_gradients_that_are_not_finite_are_seen_too(tmp_path):
    model = build_model(options(tmp_path, train={"ema_decay": 0.5}))
    step(model, 1)
    before = snapshot(model)
    model.cri_pix = lambda output, gt: (output - output).abs().sum().sqrt()  # 0, with an infinite slope
    step(model, 2)
    assert model.get_current_log() == {"l_pix": 0}
    assert same(snapshot(model), before)
    assert model.finite_steps.left_out == 1


def scaled(tmp_path):
    """Return a model whose loss is scaled, on a CPU, and the scaler; on CUDA it is the wrapper's own."""
    model = build_model(options(tmp_path, train={"ema_decay": 0.5}))
    wrapper, scaler = model.optim_wrapper, torch.amp.GradScaler("cpu")
    wrapper.loss_scaler = scaler
    wrapper.backward = lambda loss: scaler.scale(loss).backward()
    wrapper.step = lambda: (scaler.step(wrapper.optimizer), scaler.update())
    return model, scaler


def test_the_loss_scale_is_resumed(tmp_path):
    (first, scaler), (second, fresh) = scaled(tmp_path), scaled(tmp_path)
    step(first, 1)
    scaler.update(3.0)
    first.save(0, 1)
    second.resume_training(torch.load(tmp_path / "1.state", weights_only=True))
    assert fresh.state_dict() == scaler.state_dict()


def test_the_check_waits_for_the_device_once(tmp_path, monkeypatch):
    asked, item = [], torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: asked.append(self) or item(self))
    steps = FiniteSteps(most_in_a_row=1, report=tmp_path / "x.json")
    assert steps.allow([torch.ones(()), torch.ones(())], [torch.ones(3), torch.ones(2, 5)])
    assert len(asked) == 1


def test_what_the_loss_scale_leaves_out_does_not_count(tmp_path):
    model, scaler = scaled(tmp_path)
    before, scale = snapshot(model), scaler.get_scale()
    model.cri_pix = lambda output, gt: (output - output).abs().sum().sqrt()  # 0, with an infinite slope
    step(model, 1)
    assert same(snapshot(model)[:1], before[:1])
    assert scaler.get_scale() == scale / 2
    assert model.finite_steps.left_out == 0


def test_too_many_in_a_row_end_the_training_and_name_their_images(tmp_path):
    model = build_model(options(tmp_path, train={"max_nan_steps": 3}))
    for iteration, value in enumerate([float("nan"), float("nan"), None, float("inf"), float("nan")], start=1):
        step(model, iteration, value)
    report = tmp_path / "nonfinite_steps_0.json"
    assert not report.exists()
    with pytest.raises(
        UserError, match=r"^3 steps in a row up to iteration 6 .*nonfinite_steps_0\.json names their images"
    ):
        step(model, 6, float("nan"))
    told = json.loads(report.read_text())
    assert [each["iteration"] for each in told] == [4, 5, 6]
    assert [each["losses"]["l_pix"] for each in told] == ["inf", "nan", "nan"]
    assert told[0]["images"] == {"gt_path": ["a.png", "b.png", "c.png", "d.png"], "lq_path": list("efgh")}


def test_ten_in_a_row_are_allowed_where_nothing_is_said(tmp_path):
    model = build_model(options(tmp_path))
    for iteration in range(1, 10):
        step(model, iteration, float("nan"))
    with pytest.raises(UserError, match=r"^10 steps in a row"):
        step(model, 10, float("nan"))


def of_two(rank, folder):
    """In one of two processes: a step that only the second cannot take, ten times."""
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2)
    steps = FiniteSteps(most_in_a_row=1, report=folder / f"{rank}.json", distributed=True)
    assert steps.allow([torch.ones(())], [torch.ones(3)])
    assert not steps.allow([torch.tensor(float("nan") if rank else 1.0)], [torch.ones(3)])


def test_all_processes_leave_out_what_one_cannot_take(tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=of_two, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]


def test_each_process_writes_its_own_report(tmp_path):
    assert build_model({**options(tmp_path), "rank": 1}).finite_steps.report.name == "nonfinite_steps_1.json"


def test_a_resumed_run_goes_on_counting(tmp_path):
    first = build_model(options(tmp_path, train={"max_nan_steps": 2}))
    step(first, 1, float("nan"))
    first.save(0, 1)
    second = build_model(options(tmp_path, train={"max_nan_steps": 2}))
    second.resume_training(torch.load(tmp_path / "1.state", weights_only=True))
    with pytest.raises(UserError, match="2 steps in a row"):
        step(second, 2, float("nan"))
    assert [each["iteration"] for each in json.loads((tmp_path / "nonfinite_steps_0.json").read_text())] == [1, 2]


def test_a_loss_that_turns_nan_in_training(sr_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    forward, calls = L1Loss.forward, []

    def turning(self, *args, **kwargs):
        calls.append(self)
        loss = forward(self, *args, **kwargs)
        return loss * float("nan") if len(calls) > 3 else loss  # the first call is a dry run

    monkeypatch.setattr(L1Loss, "forward", turning)
    more = {"train__total_iter": 9, "train__max_nan_steps": 4, "logger__save_checkpoint_freq": 1, "val__val_freq": 99}
    opt = str(ROOT / "options" / f"{NAME}.yml")
    assert main(["train", "-opt", opt, "--force_yml", *tiny_overrides(sr_data, **more)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    assert re.search(r"^basicsr train: 4 steps in a row up to iteration 6 .*names their images", lines[-1])
    skipped = [line for line in lines if "its step is left out" in line]
    assert len(skipped) == 4
    assert skipped[-1].endswith(
        "Iteration 6: loss or gradients are not finite (l_pix nan), so its step is left out: 4 in a row, 4 in all."
    )
    run = Path("experiments", NAME)
    told = json.loads((run / "nonfinite_steps_0.json").read_text())
    assert [each["iteration"] for each in told] == [3, 4, 5, 6]
    assert all(len(each["images"]["lq_path"]) == 2 for each in told)
    saved = [torch.load(run / "models" / f"net_g_{iteration}.pth", weights_only=True) for iteration in (2, 5)]
    assert same(*([each["params"], each["params_ema"]] for each in saved))
