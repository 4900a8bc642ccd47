"""What BasicSR's models need to go on where they were; whole trainings are in `test_stock_models`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from basicsr.models.base_model import BaseModel
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.utils.registry import Registry

from semanir_plugin.basicsr_host.compat.repairs.resuming import gather_memories
from semanir_plugin.errors import UserError


@pytest.fixture
def make(tmp_path):
    def build(metrics=("psnr",), **attributes):
        path = {"training_states": str(tmp_path)}
        val = {"metrics": {name: {"type": "calculate_psnr"} for name in metrics}}
        model = BaseModel({"num_gpu": 0, "is_train": True, "dist": False, "path": path, "val": val})
        vars(model).update(attributes)
        return model

    return build


def go_on(model, other, tmp_path):
    """Have another model go on from what one saves."""
    model.save_training_state(0, 5)
    other.resume_training(torch.load(tmp_path / "5.state", weights_only=True))
    return other


def test_the_best_result_so_far_is_kept(make, tmp_path):
    best = {"Set5": {"psnr": {"better": "higher", "val": np.float64(31.5), "iter": 3}}}
    other = go_on(make(best_metric_results=best), make(), tmp_path)
    assert other.best_metric_results == best
    other._update_best_metric_result("Set5", "psnr", 30.0, 6)
    assert other.best_metric_results["Set5"]["psnr"]["iter"] == 3
    assert not hasattr(go_on(make(best_metric_results=best), make(metrics=("ssim",)), tmp_path), "best_metric_results")


@pytest.mark.parametrize("images", ["8 bit", "float"])
def test_pools_come_back_to_the_bit_and_those_of_8_bit_take_a_quarter(make, tmp_path, images):
    pool = torch.rand(40, 3, 16, 16)
    if images == "8 bit":
        pool = (pool * 255).round() / 255
    model = make(queue_lr=pool, queue_gt=pool[:, :, ::2], queue_ptr=20, mean_path_length=torch.tensor(0.3))
    other = go_on(model, make(), tmp_path)
    assert torch.equal(other.queue_lr, model.queue_lr)
    assert torch.equal(other.queue_gt, model.queue_gt)
    assert (other.queue_ptr, other.mean_path_length) == (20, torch.tensor(0.3))
    size = (tmp_path / "5.state").stat().st_size
    numbers = model.queue_lr.numel() + model.queue_gt.numel()
    assert size - numbers * (1 if images == "8 bit" else 4) < 8000


@pytest.mark.parametrize(
    ("attribute", "until", "iteration", "trained"),
    [
        ("fix_flow_iter", 10, 4, {"trunk", "fusion"}),
        ("fix_flow_iter", 10, 9, {"trunk", "fusion"}),  # the model thaws it in iteration 10
        ("fix_flow_iter", 10, 10, {"spynet", "edvr", "trunk", "fusion"}),
        ("fix_flow_iter", 1, 4, {"trunk", "fusion"}),  # as BasicSR, which looks for the end after the first alone
        ("fix_flow_iter", None, 4, {"spynet", "edvr", "trunk", "fusion"}),
        ("train_tsa_iter", 10, 4, {"fusion"}),
        ("train_tsa_iter", 10, 12, {"spynet", "edvr", "trunk", "fusion"}),
    ],
)
def test_what_was_frozen_is_frozen_again(make, attribute, until, iteration, trained):
    parts = ("spynet", "edvr", "trunk", "fusion")
    net = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1) for name in parts})
    make(net_g=net, **{attribute: until}).resume_training({"iter": iteration, "optimizers": [], "schedulers": []})
    assert {name.partition(".")[0] for name, each in net.named_parameters() if each.requires_grad} == trained


# The pool of images of RealESRNet and Real-ESRGAN


class Pool:
    """The attributes of a model that its pool is about."""

    device = torch.device("cpu")

    def __init__(self, size):
        self.queue_size = size


def exchanged(exchange, batches, size):
    torch.manual_seed(5)
    pool, seen = Pool(size), []
    for lq, gt in batches:
        pool.lq, pool.gt = lq, gt
        exchange(pool)
        seen.append((pool.lq.clone(), pool.gt.clone()))
    return seen


def test_pools_are_what_basicsr_makes_on_cuda(stock_exchange, monkeypatch):
    batches = [(torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)) for _ in range(9)]
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
        exchanged(stock_exchange, batches, 6)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    expected = exchanged(stock_exchange, batches, 6)
    for pair, other in zip(exchanged(RealESRNetModel._dequeue_and_enqueue, batches, 6), expected, strict=True):
        assert all(map(torch.equal, pair, other))


@pytest.fixture
def stock_exchange(stock, monkeypatch):
    """The method as BasicSR has it."""
    if torch.cuda.is_available():
        pytest.skip("the pool is on the GPU that is there")
    with monkeypatch.context() as context:
        context.setattr(Registry, "_do_register", lambda *_, **__: None)  # which has the class already
        return stock("basicsr.models.realesrnet_model").RealESRNetModel._dequeue_and_enqueue


def test_a_pool_that_is_no_multiple_of_a_batch_is_told():
    with pytest.raises(UserError, match="queue_size 5 is not a multiple of the batch size 2"):
        exchanged(RealESRNetModel._dequeue_and_enqueue, [(torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8))], 5)


# Two processes. Left by os._exit: gloo's destructor may wait, holding the GIL, for a thread that waits for the GIL.
TWO_PROCESSES = """
import json, os
import semanir_plugin, basicsr, torch
from basicsr.models.base_model import BaseModel
from basicsr.models.video_base_model import VideoBaseModel

rank = 0 if os.fork() else 1
torch.distributed.init_process_group("gloo", init_method=f"file://{os.getcwd()}/store", rank=rank, world_size=2)
opt = {"num_gpu": 0, "is_train": True, "dist": True, "rank": rank, "world_size": 2, "name": "run"}
opt |= {"path": {"training_states": os.getcwd()}}
opt |= {"val": {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}}}

def tell(**what):
    os.write(1, (json.dumps({"rank": rank, **what}) + "\\n").encode())  # two processes have the pipe

model = BaseModel(opt)
model.queue_ptr = 10 + rank
model.save_training_state(0, 3)
torch.distributed.barrier()
other = BaseModel(opt)
other.net_g = torch.nn.Linear(1, 1)
other.resume_training(torch.load("3.state", weights_only=True))
tell(recalled=other.queue_ptr)

class Clips(torch.utils.data.Dataset):
    opt = {"name": "clips"}

    def __len__(self):
        return 5

    def __getitem__(self, index):
        truth = torch.full((3, 8, 8), 0.5)
        lq, folder = truth[None] + 0.1 * (index + 1), "ab"[index % 2]
        return {"lq": lq, "gt": truth, "folder": folder, "lq_path": f"{index}.png"}

class First(torch.nn.Module):  # has what processes exchange, and no two have as many samples
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x[:, 0] * self.weight

video = VideoBaseModel.__new__(VideoBaseModel)
BaseModel.__init__(video, opt)
video.net_g = video.model_to_device(First())
video.validation(torch.utils.data.DataLoader(Clips()), 1, None, save_img=False)
best = video.best_metric_results["clips"]["psnr"]["val"]
tell(psnr=video.metric_results["psnr"], best=best)
torch.distributed.barrier()
os._exit(0)
"""


def test_processes_keep_their_memories_and_share_a_validation(python):
    lines = [json.loads(line) for line in python(TWO_PROCESSES).splitlines() if line.startswith("{")]
    assert {line["rank"]: line["recalled"] for line in lines if "recalled" in line} == {0: 10, 1: 11}
    scores = [line for line in lines if "psnr" in line]
    errors = [round((index + 1) * 25.5 + 127.5) - 128 for index in range(5)]
    by_folder = [[-20 * np.log10(min(error, 127) / 255) for error in errors[start::2]] for start in (0, 1)]
    for line in scores:
        assert line["psnr"] == line["best"] == pytest.approx(np.mean([np.mean(values) for values in by_folder]))
    assert {line["rank"] for line in scores} == {0, 1}


def test_a_state_of_other_processes_is_left_out_with_a_word(make, tmp_path, caplog):
    model = make(queue_ptr=3)
    assert gather_memories(model) == [{"queue_ptr": 3}]
    model.save_training_state(0, 5)
    state = torch.load(tmp_path / "5.state", weights_only=True)
    state["memories"] *= 2
    other = make(net_g=torch.nn.Linear(1, 1))
    with caplog.at_level("WARNING", logger="basicsr"):
        other.resume_training(state)
    assert not hasattr(other, "queue_ptr")
