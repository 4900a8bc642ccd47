from __future__ import annotations

import copy
import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel

from semanir_plugin.archs import SemanIR, describe
from semanir_plugin.errors import UserError
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.restoration import Restoration, RestorationOptions
from semanir_plugin.losses import FFTLoss, SSIMLoss
from tests.conftest import TINY_NETWORK


def options(tmp_path, *, is_train=True, network=None, train=None, val=None):
    return {
        "name": "test",
        "model_type": "SemanIRModel",
        "scale": 2,
        "num_gpu": 0,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "manual_seed": 0,
        "is_train": is_train,
        "network_g": {"type": "SemanIR", "upscale": 2, **TINY_NETWORK, **(network or {})},
        "path": dict.fromkeys(("experiments_root", "models", "training_states", "visualization"), str(tmp_path)),
        "train": {
            "total_iter": 1000,
            "optim_g": {"type": "AdamW", "lr": 1e-3},
            "scheduler": {"type": "MultiStepLR", "milestones": [1000]},
            "pixel_opt": {"type": "L1Loss"},
            **(train or {}),
        },
        "val": {"save_img": False, "suffix": None, **(val or {})},
    }


def batch(count=4):
    generator = torch.Generator().manual_seed(3)
    gt = torch.rand(count, 3, 32, 16, generator=generator)
    return {"lq": F.avg_pool2d(gt, 2), "gt": gt}


def trained(tmp_path, steps=2, **kwargs):
    torch.manual_seed(0)
    model = build_model(options(tmp_path, **kwargs))
    for step in range(1, steps + 1):
        model.update_learning_rate(step)
        model.feed_data(batch())
        model.optimize_parameters(step)
    return model


def distance(a, b):
    pairs = zip(a.net_g.parameters(), b.net_g.parameters(), strict=True)
    return max((x - y).abs().max().item() for x, y in pairs)


@pytest.mark.parametrize("steps", [4, 3], ids=["equal parts", "unequal parts"])
def test_accumulation_takes_the_same_step(tmp_path, steps):
    whole, parts = (trained(tmp_path, train={"accumulation_steps": n}) for n in (1, steps))
    assert distance(whole, parts) < 1e-5
    assert parts.get_current_log() == pytest.approx(whole.get_current_log(), rel=1e-5)


def test_clipping_limits_the_step(tmp_path):
    train = {"optim_g": {"type": "SGD", "lr": 1.0}}
    start = trained(tmp_path, steps=0, train=train)
    free, clipped = (trained(tmp_path, steps=1, train={**train, "grad_clip": c}) for c in (None, 1e-3))
    assert 0 < distance(start, clipped) <= 1e-3 < distance(start, free)


def test_bf16_trains_near_fp32(tmp_path):
    full, half = (trained(tmp_path, train={"amp": amp}) for amp in (None, "bf16"))
    assert 0 < abs(full.get_current_log()["l_pix"] - half.get_current_log()["l_pix"]) < 1e-2
    assert all(p.dtype == torch.float32 for p in half.net_g.parameters())


def test_channels_last_takes_the_same_step_in_another_layout(tmp_path):
    train = {"optim_g": {"type": "SGD", "lr": 0.1}, "ema_decay": 0.5}
    usual, last = (trained(tmp_path, train=train | {"channels_last": wanted}) for wanted in (False, True))
    for net in (last.net_g, last.net_g_ema):
        assert net.conv_first.weight.is_contiguous(memory_format=torch.channels_last)
    assert last.lq.is_contiguous(memory_format=torch.channels_last)
    assert distance(trained(tmp_path, steps=0, train=train), last) > 0
    assert distance(usual, last) < 1e-5


def test_losses_that_are_added_add_up(tmp_path):
    added = {"fft_opt": {"type": "FFTLoss", "loss_weight": 0.1}, "ssim_opt": {"type": "SSIMLoss"}}
    alone, with_both = (trained(tmp_path, steps=1, train=train) for train in ({}, added))
    log = with_both.get_current_log()
    assert list(log) == ["l_pix", "l_fft", "l_ssim"]
    assert log["l_pix"] == alone.get_current_log()["l_pix"], "the first step's, before anything was learnt"
    start = trained(tmp_path, steps=0).net_g(batch()["lq"])
    assert log["l_fft"] == pytest.approx(FFTLoss(loss_weight=0.1)(start, batch()["gt"]).item(), rel=1e-5)
    assert log["l_ssim"] == pytest.approx(SSIMLoss()(start, batch()["gt"]).item(), rel=1e-5)
    assert distance(alone, with_both) > 0


@pytest.mark.parametrize("name", ["fft", "ssim"])
def test_a_loss_that_is_added_may_be_the_only_one(tmp_path, name):
    added = {f"{name}_opt": {"type": f"{name.upper()}Loss"}}
    beside = trained(tmp_path, steps=1, train=added).get_current_log()
    alone = trained(tmp_path, steps=1, train={"pixel_opt": None, **added})
    assert alone.get_current_log() == {f"l_{name}": beside[f"l_{name}"]}
    assert alone.opt["train"]["pixel_opt"] is None


def test_options_are_as_they_were_when_a_training_cannot_be_set_up(tmp_path, monkeypatch):
    models = []

    def refuse(model):
        models.append(model)
        raise ValueError("no training")

    monkeypatch.setattr(SRModel, "init_training_settings", refuse)
    with pytest.raises(ValueError, match="no training"):
        build_model(options(tmp_path, train={"pixel_opt": None, "fft_opt": {"type": "FFTLoss"}}))
    assert [model.opt["train"]["pixel_opt"] for model in models] == [None]


@pytest.fixture
def teacher(tmp_path):
    """Return the file of a larger network, and the network."""
    torch.manual_seed(1)
    network = {"type": "SemanIR", "upscale": 2, **TINY_NETWORK, "embed_dim": 2 * TINY_NETWORK["embed_dim"]}
    module = SemanIR(**{key: value for key, value in network.items() if key != "type"}).eval()
    save_weights(tmp_path / "teacher.safetensors", module, network)
    return str(tmp_path / "teacher.safetensors"), module


@pytest.mark.parametrize("parts", [1, 2])
def test_what_a_teacher_makes_is_learned_beside_the_truth(tmp_path, teacher, parts):
    file, network = teacher
    train = {"distill_opt": {"type": "L1Loss", "loss_weight": 0.5}, "teacher": file, "accumulation_steps": parts}
    taught, alone = trained(tmp_path, steps=1, train=train), trained(tmp_path, steps=1)
    log = taught.get_current_log()
    start = trained(tmp_path, steps=0).net_g(batch()["lq"])
    with torch.no_grad():
        expected = 0.5 * F.l1_loss(start, network(batch()["lq"])).item()
    assert log == pytest.approx({"l_pix": alone.get_current_log()["l_pix"], "l_distill": expected}, rel=1e-5)
    assert distance(taught, alone) > 0
    assert all(torch.equal(*pair) for pair in zip(taught.teacher.parameters(), network.parameters(), strict=True))
    assert not taught.teacher.training


def test_a_teacher_may_be_the_only_truth(tmp_path, teacher):
    train = {"pixel_opt": None, "distill_opt": {"type": "L1Loss"}, "teacher": teacher[0]}
    assert list(trained(tmp_path, steps=1, train=train).get_current_log()) == ["l_distill"]


@pytest.mark.parametrize(
    ("train", "network", "told"),
    [
        ({"teacher": None}, {}, "train: distill_opt and teacher go together; give both, or neither"),
        ({"distill_opt": None}, {}, "train: distill_opt and teacher go together; give both, or neither"),
        ({}, {"upscale": 3}, r"train:teacher: .*teacher.safetensors has 2 as its scale, network_g 3; name another"),
        ({}, {"in_chans": 1}, r"train:teacher: .*has 3 as its channels of inputs, network_g 1; name another"),
        ({"teacher": "semanir-mini-x5"}, {}, "train:teacher: no file and no weights 'semanir-mini-x5'; did you mean"),
    ],
)
def test_a_teacher_that_cannot_be_is_told(tmp_path, teacher, train, network, told):
    with pytest.raises(UserError, match=told):
        trained(
            tmp_path,
            steps=0,
            train={"distill_opt": {"type": "L1Loss"}, "teacher": teacher[0], **train},
            network=network,
        )


def test_no_loss_at_all_is_told(tmp_path):
    with pytest.raises(UserError, match="there is no loss: add pixel_opt, "):
        trained(tmp_path, steps=0, train={"pixel_opt": None})


@pytest.mark.parametrize(("amp", "message"), [("fp16", "needs a CUDA device"), ("fp8", "unknown")])
def test_precision_that_cannot_be_is_named(tmp_path, amp, message):
    with pytest.raises(UserError, match=message):
        build_model(options(tmp_path, train={"amp": amp}))


def test_topk_is_sampled_per_iteration_and_again_the_same(tmp_path, monkeypatch):
    def sampled():
        model, seen = build_model(options(tmp_path, network={"topk": [4, 8, 12]})), []
        forward = model.net_g.forward
        monkeypatch.setattr(model.net_g, "forward", lambda x, topk: seen.append(topk) or forward(x, topk))
        model.accumulation_steps = 2
        for step in range(1, 13):
            model.feed_data(batch(2))
            model.optimize_parameters(step)
        return seen

    first = sampled()
    assert first == sampled()
    assert set(first) == {4, 8, 12}
    assert first[::2] == first[1::2], "one k for all parts of a batch"


def test_topk_at_test_time(tmp_path):
    def output(val):
        torch.manual_seed(0)
        model = build_model(options(tmp_path, is_train=False, val=val))
        model.feed_data(batch(1))
        model.test()
        return model.output

    assert torch.equal(output({"topk": 12}), output({}))
    assert not torch.allclose(output({"topk": 3}), output({}))


def test_topk_for_a_network_without_is_refused(tmp_path):
    opt = options(tmp_path, is_train=False, val={"topk": 3})
    opt["network_g"] = {"type": "Bicubic", "upscale": 2}
    model = build_model(opt)
    model.feed_data(batch(1))
    with pytest.raises(UserError, match="topk is for networks that choose keys, which Bicubic does not"):
        model.test()


@pytest.mark.parametrize(("height", "width"), [(7, 5), (9, 30), (16, 8)])
def test_any_size_is_padded_and_cropped(tmp_path, height, width):
    model = build_model(options(tmp_path, is_train=False))
    model.feed_data({"lq": torch.rand(1, 3, height, width)})
    model.test()
    assert model.output.shape == (1, 3, 2 * height, 2 * width)


def test_host_architectures_are_padded_to_their_window(tmp_path):
    opt = options(tmp_path, is_train=False)
    opt["network_g"] = {
        **{"type": "SwinIR", "upscale": 2, "img_size": 16, "window_size": 8, "embed_dim": 8, "mlp_ratio": 2},
        **{"depths": [2], "num_heads": [2], "upsampler": "pixelshuffledirect"},
    }
    model = build_model(opt)
    model.feed_data({"lq": torch.rand(1, 3, 9, 13)})
    model.test()
    assert model.output.shape == (1, 3, 18, 26)


def test_testing_uses_the_average_and_leaves_training_mode(tmp_path):
    model = trained(tmp_path, train={"ema_decay": 0.5})
    model.test()
    assert model.net_g.training
    assert not model.net_g_ema.training
    with torch.no_grad():
        torch.testing.assert_close(model.output, model.net_g_ema(model.lq))


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_averages_may_begin_short(tmp_path, decay):
    model = trained(tmp_path, steps=0, train={"ema_decay": decay, "ema_warmup": True})
    mean = [each.detach().clone() for each in model.net_g.parameters()]
    for step, warm in ((1, 2 / 11), (2, 3 / 12), (3, 4 / 13)):
        model.feed_data(batch())
        model.optimize_parameters(step)
        share = min(warm, decay)
        for average, weight in zip(mean, model.net_g.parameters(), strict=True):
            average.mul_(share).add_((1 - share) * weight.detach())
    torch.testing.assert_close(list(model.net_g_ema.parameters()), mean)


def test_an_image_is_restored_as_the_options_say(tmp_path):
    val = {"topk": [3, 2], "tile": 24, "tile_overlap": 8, "self_ensemble": True}
    model = trained(tmp_path, train={"ema_decay": 0.5}, val=val)
    torch.manual_seed(0)
    model.feed_data({"lq": torch.rand(1, 3, 29, 37)})
    model.test()
    how = RestorationOptions(topk=3, tile=24, tile_overlap=8, self_ensemble=True)
    ways = Restoration(descriptor=describe(model.net_g), options=how)
    expected = ways.restore(model.net_g_ema, model.lq)
    assert torch.equal(model.output, expected)
    for other in ({"topk": 2}, {"tile": None}, {"tile_overlap": 9}, {"self_ensemble": False}):
        changed = dataclasses.replace(ways, options=dataclasses.replace(how, **other))
        changed = changed.restore(model.net_g_ema, model.lq)
        assert not torch.equal(changed, expected), other
    assert not torch.equal(ways.restore(model.net_g, model.lq), expected)


def test_the_time_that_each_image_took_is_kept(tmp_path):
    model = build_model(options(tmp_path, is_train=False))
    for _ in range(2):
        model.feed_data(batch(1))
        start = time.perf_counter()
        model.test()
        assert 0.5 * (time.perf_counter() - start) < model.seconds_per_image[-1] < 60
    assert len(model.seconds_per_image) == 2

    class Loader(list):
        dataset = SimpleNamespace(opt={"name": "set"})

    model.nondist_validation(Loader([{"lq": batch(1)["lq"], "lq_path": ["a.png"]}] * 3), 0, None, False)
    assert len(model.seconds_per_image) == 3, "of the last validation alone"


def test_training_continues_from_a_saved_state(tmp_path):
    straight = trained(tmp_path, steps=4, train={"ema_decay": 0.9})
    first = trained(tmp_path, steps=2, train={"ema_decay": 0.9})
    first.best_metric_results = {"Set5": {"psnr": {"better": "higher", "val": np.float64(30.0), "iter": 2}}}
    first.save(0, 2)
    metrics = {"psnr": {"type": "calculate_psnr", "crop_border": 0}}
    opt = options(tmp_path, train={"ema_decay": 0.9}, val={"metrics": metrics})
    opt["path"]["pretrain_network_g"] = str(tmp_path / "net_g_2.pth")
    resumed = build_model(opt)
    resumed.resume_training(torch.load(tmp_path / "2.state", weights_only=True))
    for step in (3, 4):
        resumed.update_learning_rate(step)
        resumed.feed_data(batch())
        resumed.optimize_parameters(step)
    assert distance(straight, resumed) == 0
    averages = zip(straight.net_g_ema.parameters(), resumed.net_g_ema.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in averages)
    assert resumed.best_metric_results == first.best_metric_results


@pytest.mark.parametrize(
    ("written", "resumed", "kept"),
    [("sr_y_crop", "sr_y_crop", True), ("sr_y_crop@1", "sr_y_crop", False), ("basicsr_rgb_mod12", "sr_y_crop", False)],
)
def test_the_best_scores_are_of_the_same_protocol(tmp_path, written, resumed, kept):
    first = trained(tmp_path, steps=1, val={"metrics": written})
    record = {"better": "higher", "val": 30.0, "iter": 1}
    first.best_metric_results = {"Set5": {"psnr": record, "ssim": record}}
    first.save(0, 1)
    second = build_model(options(tmp_path, val={"metrics": resumed}))
    second.resume_training(torch.load(tmp_path / "1.state", weights_only=True))
    assert second.best_metric_results == (first.best_metric_results if kept else {})


def test_the_best_network_is_kept(tmp_path):
    model = trained(tmp_path, val={"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}})
    best = tmp_path / "net_g_best.pth"

    def score(value, current_iter, dataset="Set5"):
        model._initialize_best_metric_results(dataset)
        model.metric_results = {"psnr": value}
        model._update_best_metric_result(dataset, "psnr", value, current_iter)
        model._log_validation_metric_values(current_iter, dataset, None)

    score(30.0, 1)
    before = copy.deepcopy(torch.load(best, weights_only=True))
    model.optimize_parameters(3)
    score(29.0, 2)
    score(35.0, 2, dataset="Set14")
    kept = torch.load(best, weights_only=True)["params"]
    assert all(torch.equal(kept[key], value) for key, value in before["params"].items())
    score(31.0, 3)
    kept = torch.load(best, weights_only=True)["params"]
    assert not all(torch.equal(kept[key], value) for key, value in before["params"].items())


def test_mixup_mixes_inputs_and_truths_alike_and_the_same_again(tmp_path):
    model = build_model(options(tmp_path, train={"mixup": 1.2}))
    mixed = []
    for step in (1, 1, 2):
        model.feed_data(batch())
        model.optimize_parameters(step)
        torch.testing.assert_close(F.avg_pool2d(model.gt, 2), model.lq)  # as in the batch
        mixed.append(model.lq)
    assert torch.equal(mixed[0], mixed[1])
    assert not torch.allclose(mixed[1], mixed[2])
    plain = batch()["lq"]
    weights = torch.linalg.lstsq(plain.flatten(1).T, mixed[0].flatten(1).T).solution  # (of samples, in samples)
    torch.testing.assert_close(weights.sum(0), torch.ones(4))
    assert weights.min() > -1e-4
    assert ((weights > 1e-3).sum(0) <= 2).all()
    assert ((weights > 1e-3).sum(0) == 2).any()


def test_without_mixup_the_batch_stays(tmp_path):
    assert torch.equal(trained(tmp_path, steps=1).lq, batch()["lq"])
