from __future__ import annotations

import copy
import inspect
import logging
import os
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import basicsr  # noqa: F401  # repaired on import
import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data import data_util, paired_image_dataset
from basicsr.data.ffhq_dataset import FFHQDataset
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.prefetch_dataloader import PrefetchGenerator
from basicsr.data.realesrgan_dataset import RealESRGANDataset
from basicsr.models import lr_scheduler as host_schedulers
from basicsr.models.base_model import BaseModel
from basicsr.utils import FileClient, imfrombytes
from basicsr.utils.file_client import LmdbBackend
from basicsr.utils.registry import Registry
from torch import nn

from semanir_plugin.basicsr_host.compat.repairs import REPAIRS, repair_host
from semanir_plugin.basicsr_host.data.lmdb_listing import read_lmdb_keys
from semanir_plugin.basicsr_host.lmdb_environments import open_lmdb
from semanir_plugin.errors import UserError
from tests.basicsr_host.engine.stock_models import REAL_DATA, write_stock_data


def options(tmp_path, **more):
    path = {"models": str(tmp_path), "training_states": str(tmp_path)}
    return {"num_gpu": 0, "is_train": True, "dist": False, "path": path, **more}


@pytest.fixture
def model(tmp_path):
    return BaseModel(options(tmp_path))


@pytest.fixture
def stock_model(tmp_path, stock, monkeypatch):
    module = stock("basicsr.models.base_model")
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    return module.BaseModel(options(tmp_path))


def test_repairs_are_idempotent():
    before = [vars(owner)[name] for owner, name, _ in REPAIRS]
    repair_host()
    assert [vars(owner)[name] for owner, name, _ in REPAIRS] == before


def test_registry_falls_back_in_silence_and_names_a_near_match(stock, capsys):
    broken, repaired = stock("basicsr.utils.registry").Registry("arch"), Registry("arch")
    for registry in (broken, repaired):
        registry._do_register("RRDBNet", int, suffix="basicsr")
    with pytest.raises(KeyError):
        broken.get("RRDBNett")
    assert "use name: RRDBNett_basicsr!" in capsys.readouterr().out

    assert repaired.get("RRDBNet") is int
    with pytest.raises(KeyError, match=r"no 'rrdbnet_basicsrr' in the arch registry; did you mean 'RRDBNet_basicsr'\?"):
        repaired.get("rrdbnet_basicsrr")
    assert capsys.readouterr().out == ""


def encoded(suffix: str, size: int = 32) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (encoded(".png")[:1500], "truncated"),
        (encoded(".png")[:-8], "truncated"),
        (encoded(".jpg")[:700], "truncated"),
        (b"", "empty"),
    ],
)
def test_incomplete_image_is_named(content, complaint, tmp_path, stock):
    path = tmp_path / "0801.png"
    path.write_bytes(content)
    assert stock("basicsr.utils.file_client").FileClient("disk").get(path) == content
    with pytest.raises(UserError, match=rf"0801\.png: .*{complaint}"):
        FileClient("disk").get(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_complete_image_is_read(suffix, tmp_path):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encoded(suffix) + b"\0" * 100)  # some writers pad
    assert imfrombytes(FileClient("disk").get(path)).shape == (32, 32, 3)


def test_files_of_16_bit_are_not_read_as_of_8(stock):
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    content = cv2.imencode(".png", pixels)[1].tobytes()
    broken, repaired = stock("basicsr.utils.img_util"), paired_image_dataset
    assert np.abs(broken.imfrombytes(content, float32=True) - pixels / 65535).max() > 1e-3
    assert np.abs(repaired.imfrombytes(content, float32=True) - pixels / 65535).max() < 1e-6
    for flag in ("color", "grayscale"):
        eight = cv2.imencode(".png", (pixels // 256).astype(np.uint8))[1].tobytes()
        read = [module.imfrombytes(eight, flag, float32=True) for module in (broken, repaired)]
        np.testing.assert_array_equal(*read)


def write_lmdb(path, **images: bytes) -> str:
    with lmdb.open(str(path)) as env, env.begin(write=True) as transaction:
        for key, content in images.items():
            transaction.put(key.encode(), content)
    (path / "meta_info.txt").write_text("".join(f"{key}.png (32,32,3) 1\n" for key in images))
    return str(path)


def test_key_that_an_lmdb_lacks_is_named(tmp_path, stock):
    client = {"db_paths": [write_lmdb(tmp_path / "gt.lmdb", a=encoded(".png"))], "client_keys": ["gt"]}
    broken = stock("basicsr.utils.file_client").FileClient("lmdb", **client)
    assert broken.get("b", "gt") is None
    broken.client._client["gt"].close()
    with pytest.raises(UserError, match=r"gt\.lmdb: the LMDB lacks the key 'b'"):
        FileClient("lmdb", **client).get("b", "gt")


@pytest.fixture
def folders(tmp_path):
    for name, size in (("gt", 32), ("lq", 16)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(encoded(".png", size))
    return {
        "dataroot_gt": str(tmp_path / "gt"),
        "dataroot_lq": str(tmp_path / "lq"),
        "io_backend": {"type": "disk"},
        "phase": "val",
        "scale": 2,
    }


def test_pairs_are_in_the_order_of_their_names(tmp_path, stock, monkeypatch):
    names = ["b.png", "a.png", "c.png"]
    for folder in ("lq", "gt"):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    scandir = os.scandir

    def order(module):
        pairs = module.paired_paths_from_folder([str(tmp_path / "lq"), str(tmp_path / "gt")], ["lq", "gt"], "{}")
        return [os.path.basename(pair["gt_path"]) for pair in pairs]

    broken = stock("basicsr.data.data_util")
    monkeypatch.setattr(os, "scandir", lambda path: sorted(scandir(path), key=lambda each: names.index(each.name)))
    assert order(broken) == names
    assert order(data_util) == sorted(names)


def test_datasets_may_share_their_options(folders):
    first = PairedImageDataset(folders)
    second = copy.copy(first)
    read = PairedImageDataset.__getitem__.__wrapped__
    read(PairedImageDataset(folders), 0)
    with pytest.raises(KeyError, match="type"):
        read(PairedImageDataset(folders), 0)

    folders["io_backend"]["type"] = "disk"
    assert first[0]["gt"].shape == second[0]["gt"].shape == (3, 32, 32)


FFHQ = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "use_hflip": False}


def real_options(tmp_path):
    write_stock_data(tmp_path)
    entry = {**REAL_DATA["train"], "dataroot_gt": str(tmp_path / "pairs" / "gt")}
    return RealESRGANDataset, {**entry, "meta_info": str(tmp_path / "pairs" / "list.txt")}


def ffhq_options(tmp_path):
    cv2.imwrite(str(tmp_path / "00000000.png"), np.zeros((8, 8, 3), np.uint8))
    return FFHQDataset, {**FFHQ, "dataroot_gt": str(tmp_path), "io_backend": {"type": "disk"}}


@pytest.mark.parametrize("make", [ffhq_options, real_options])
def test_a_file_that_cannot_be_read_is_told_at_once(tmp_path, monkeypatch, make):
    dataset, opt = make(tmp_path)
    module = sys.modules[dataset.__module__]
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("it waits, to read another"))
    opened = dataset(opt)
    for _ in range(2):  # the file client is its own again
        assert torch.isfinite(opened[0]["gt"]).all()
        opened.paths[1] = "absent.png"
        with pytest.raises(FileNotFoundError, match=r"absent\.png"):
            opened[1]


def test_the_host_waits_and_dies_of_another_error(tmp_path, monkeypatch):
    _, opt = ffhq_options(tmp_path)
    waits = []
    host = inspect.unwrap(FFHQDataset.__getitem__)
    monkeypatch.setattr(sys.modules[FFHQDataset.__module__].time, "sleep", waits.append)
    with pytest.raises((UnboundLocalError, IndexError)):
        host(FFHQDataset(opt), 1)
    assert waits


def test_dataset_on_lmdb_is_copied_after_use(tmp_path, stock):
    lq, gt = (write_lmdb(tmp_path / f"{name}.lmdb", a=encoded(".png")) for name in ("lq", "gt"))
    opt = {"dataroot_gt": gt, "dataroot_lq": lq, "io_backend": {"type": "lmdb"}, "phase": "val", "scale": 1}

    broken = stock("basicsr.utils.file_client").LmdbBackend([lq])
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy(broken)
    broken._client["default"].close()

    dataset = PairedImageDataset(opt)
    image = dataset[0]["gt"]
    assert torch.equal(copy.deepcopy(dataset)[0]["gt"], image)
    pickled = pickle.dumps(dataset)
    dataset.file_client = None  # as a spawned worker starts: with nothing open
    assert torch.equal(pickle.loads(pickled)[0]["gt"], image)


def test_datasets_share_an_lmdb_and_forked_processes_open_it_anew(tmp_path, stock):
    path = write_lmdb(tmp_path / "gt.lmdb", a=b"content")
    broken = stock("basicsr.utils.file_client").LmdbBackend
    first = broken(path)
    with pytest.raises(lmdb.Error, match="already open"):
        broken(path)
    del first
    one, other = LmdbBackend([Path(path)], "gt"), LmdbBackend(path)
    assert one.get("a", "gt") == other.get("a", "default") == b"content"
    inherited = one._client["gt"]
    if (child := os.fork()) == 0:
        try:
            same = one.get("a", "gt") == LmdbBackend(path).get("a", "default") == b"content"
            os._exit(0 if same and one._client["gt"] is not inherited else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert one.get("a", "gt") == b"content", "a child that closes its copy leaves this one open"
    assert read_lmdb_keys(Path(path)) == {b"a"}, "a check reads what a dataset has open"


def test_threads_open_an_lmdb_together(tmp_path):
    path, before = write_lmdb(tmp_path / "gt.lmdb", a=b"content"), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(50):
                opened = [pool.submit(open_lmdb, path) for _ in range(4)]
                assert len({id(each.result()) for each in opened}) == 1
                del opened
    finally:
        sys.setswitchinterval(before)


def test_an_lmdb_in_the_place_of_another_is_another(tmp_path):
    backends = [LmdbBackend(write_lmdb(tmp_path / "gt.lmdb", a=b"old"))]
    shutil.rmtree(tmp_path / "gt.lmdb")
    backends.append(LmdbBackend(write_lmdb(tmp_path / "gt.lmdb", a=b"new")))
    assert [backend.get("a", "default") for backend in backends] == [b"old", b"new"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_prefetching_meets_is_raised(stock):
    def failing():
        yield 1
        raise UserError("unreadable")

    broken = stock("basicsr.data.prefetch_dataloader").PrefetchGenerator(failing(), 1)
    assert next(broken) == 1
    broken.join()
    assert broken.queue.empty(), "and so `next` waits for ever"
    prefetched = PrefetchGenerator(failing(), 1)
    assert next(prefetched) == 1
    prefetched.join()
    assert not prefetched.queue.empty()
    with pytest.raises(UserError, match="unreadable"):
        next(prefetched)
    assert list(PrefetchGenerator(iter([2, 3]), 1)) == [2, 3]


def test_optimizer_goes_by_its_torch_name(model, stock_model):
    parameters = [nn.Parameter(torch.zeros(1))]
    with pytest.raises(NotImplementedError):
        stock_model.get_optimizer("AdamW", parameters, lr=1e-4)
    optimizer = model.get_optimizer("AdamW", parameters, lr=1e-4, weight_decay=0.02)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["weight_decay"] == 0.02


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("adamw", {}, "did you mean 'AdamW'"),
        ("Optimizer", {}, "no optimizer 'Optimizer'"),
        ("AdamW", {"weight_deca": 0.1}, "AdamW.*weight_deca"),
        ("AdamW", {"betas": [2, 2]}, "AdamW.*beta"),
    ],
)
def test_wrong_optimizer_is_explained(name, arguments, complaint, model):
    with pytest.raises(UserError, match=complaint):
        model.get_optimizer(name, [nn.Parameter(torch.zeros(1))], lr=1e-4, **arguments)


def scheduled(model, **scheduler):
    model.opt["train"] = {"scheduler": scheduler}
    model.optimizers = [torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)]
    model.setup_schedulers()
    return model.schedulers[0]


def test_scheduler_goes_by_its_torch_name(model, stock_model):
    with pytest.raises(NotImplementedError):
        scheduled(stock_model, type="CosineAnnealingLR", T_max=10)
    assert "type" not in stock_model.opt["train"]["scheduler"]

    scheduler = scheduled(model, type="CosineAnnealingLR", T_max=10)
    assert type(scheduler) is torch.optim.lr_scheduler.CosineAnnealingLR
    assert model.opt["train"]["scheduler"]["type"] == "CosineAnnealingLR"


@pytest.mark.parametrize("name", ["MultiStepLR", "MultiStepRestartLR"])
def test_scheduler_of_the_host_comes_first(name, model):
    scheduler = scheduled(model, type=name, milestones=[2, 4], gamma=0.5)
    assert type(scheduler) is host_schedulers.MultiStepRestartLR


def test_wrong_scheduler_is_explained(model):
    with pytest.raises(UserError, match="did you mean 'CosineAnnealingRestartLR'"):
        scheduled(model, type="CosineAnealingRestartLR", periods=[10])
    with pytest.raises(UserError, match=r"'StepLR': .*step"):
        scheduled(model, type="StepLR", step=3)


def test_ema_averages_parameters_and_copies_buffers(model, stock_model):
    for each in (stock_model, model):
        each.net_g, each.net_g_ema = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        each.net_g.running_mean += 4
        with torch.no_grad():
            each.net_g.weight += 1
        each.model_ema(0.75)
    assert torch.equal(stock_model.net_g_ema.running_mean, torch.zeros(2))
    assert torch.equal(model.net_g_ema.running_mean, torch.full((2,), 4.0))
    assert torch.equal(model.net_g_ema.weight, stock_model.net_g_ema.weight)
    assert torch.equal(model.net_g_ema.weight, torch.full((2,), 1.25))


def test_ema_leaves_derived_buffers_alone(model):
    for name, size in (("net_g", 3), ("net_g_ema", 5)):
        net = nn.Linear(1, 1)
        net.register_buffer("mask", torch.zeros(size), persistent=False)
        setattr(model, name, net)
    model.model_ema(0)
    assert torch.equal(model.net_g_ema.weight, model.net_g.weight)


# Left by os._exit: gloo's destructor may wait, holding the GIL, for a thread that waits for the GIL.
DISTRIBUTED = """
import os, basicsr, torch
from basicsr.models.base_model import BaseModel

torch.distributed.init_process_group("gloo", init_method=f"file://{os.getcwd()}/store", rank=0, world_size=1)
model = BaseModel({"num_gpu": 0, "is_train": True, "dist": True})
net = model.model_to_device(torch.nn.Linear(2, 2))
net(torch.ones(1, 2)).sum().backward()
print(type(net).__name__, net.module.weight.grad.tolist(), flush=True)
os._exit(0)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a current CUDA device to be asked for")
def test_host_asks_a_cpu_for_its_cuda_device(stock_model):
    stock_model.opt["dist"] = True
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
        stock_model.model_to_device(nn.Linear(2, 2))


def test_distributed_training_runs_on_a_cpu(python):
    printed = python("import semanir_plugin" + DISTRIBUTED)
    assert printed.splitlines()[-1] == "DistributedDataParallel [[1.0, 1.0], [1.0, 1.0]]"


def test_validation_is_by_the_bare_network(model):
    net, seen = nn.Linear(2, 2), []
    model.net_g = wrapped = nn.DataParallel(net)
    model.nondist_validation = lambda *_: seen.append(model.net_g)
    model.validation(None, 1, None)
    assert seen == [net]
    assert model.net_g is wrapped


@pytest.fixture
def checkpoint(tmp_path):
    def save(content) -> str:
        path = tmp_path / "net_g.pth"
        torch.save(content, path)
        return str(path)

    return save


@pytest.mark.parametrize("wrap", [lambda s: {"params": s}, lambda s: {"params_ema": s, "params": {}}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_loaded_as_the_host_does(wrap, prefix, model, checkpoint):
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    path = checkpoint(wrap({prefix + key: value for key, value in source.state_dict().items()}))
    model.load_network(target, path, strict=True, param_key="params_ema")
    assert torch.equal(source.weight, target.weight)


@pytest.mark.parametrize("param_key", ["params", "params_ema"])
def test_state_dict_does_where_the_param_key_is_missing(param_key, model, checkpoint):
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    model.load_network(target, checkpoint({"epoch": 1, "state_dict": source.state_dict()}), param_key=param_key)
    assert torch.equal(source.weight, target.weight)


def test_param_key_none_takes_the_whole_file(model, checkpoint):
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    model.load_network(target, checkpoint(source.state_dict()), param_key=None)
    assert torch.equal(source.weight, target.weight)


def test_loading_without_strict_takes_what_fits(model, checkpoint):
    target = nn.Linear(2, 2)
    path = checkpoint({"params": {"weight": torch.ones(2, 2), "bias": torch.ones(7), "other": torch.ones(1)}})
    bias = target.bias.detach().clone()
    model.load_network(target, path, strict=False)
    assert torch.equal(target.weight, torch.ones(2, 2))
    assert torch.equal(target.bias, bias)


def test_checkpoint_of_another_network_is_told_in_one_line(model, stock_model, checkpoint, caplog):
    other = {f"layers.{i}.weight": torch.zeros(1) for i in range(5)} | {"weight": torch.zeros(3, 3)}
    path = checkpoint({"params": other})
    with pytest.raises(RuntimeError, match="\n"):
        stock_model.load_network(nn.Linear(2, 2), path)
    with caplog.at_level(logging.WARNING), pytest.raises(UserError) as caught:
        model.load_network(nn.Linear(2, 2), path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{path} does not fit Linear: " in message
    assert "1 missing (bias)" in message
    assert "5 unexpected (layers.0.weight, layers.1.weight, layers.2.weight and 2 more)" in message
    assert "1 mis-shaped (weight)" in message


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_checkpoint_that_would_execute_code_is_refused(model, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"net_g\.pth: refused, .*mkdir.* would execute code"):
        model.load_network(nn.Linear(2, 2), checkpoint({"params": Hostile()}))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04 truncated"])
def test_file_that_is_no_checkpoint_is_named(content, model, tmp_path):
    path = tmp_path / "net_g.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"net_g\.pth: not a PyTorch checkpoint") as caught:
        model.load_network(nn.Linear(2, 2), str(path))
    assert "\n" not in str(caught.value)


def test_missing_checkpoint_is_named(model, tmp_path):
    with pytest.raises(UserError, match=r"absent\.pth: cannot be opened"):
        model.load_network(nn.Linear(2, 2), str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("content", [{"epoch": 1, "state_dict": {}}, {"params": 3}, [1, 2]])
def test_checkpoint_without_the_param_key_says_what_it_holds(content, model, stock_model, checkpoint):
    path = checkpoint(content)
    with pytest.raises((KeyError, TypeError, AttributeError)):
        stock_model.load_network(nn.Linear(2, 2), path)
    with pytest.raises(UserError, match=r"no weights under 'params', but (epoch, state_dict|params|a list); set"):
        model.load_network(nn.Linear(2, 2), path)


def save(model) -> None:
    model.save_network([nn.Linear(2, 2), nn.Linear(2, 2)], "net_g", -1, ["params", "params_ema"])


def save_state(model) -> None:
    model.save_training_state(epoch=0, current_iter=5)


def test_saved_network_is_on_the_cpu_without_wrappers(model, tmp_path):
    net = nn.Linear(2, 2)
    model.save_network(nn.DataParallel(net), "net_g", 5)
    saved = torch.load(tmp_path / "net_g_5.pth", weights_only=True)["params"]
    assert list(saved) == ["weight", "bias"]
    assert torch.equal(saved["weight"], net.weight)


@pytest.mark.parametrize(("write", "name"), [(save, "net_g_latest.pth"), (save_state, "5.state")])
def test_failing_save_is_an_error_and_keeps_the_last_file(write, name, model, stock_model, tmp_path, monkeypatch):
    def disk_full(obj, file):
        if isinstance(file, str):
            file = open(file, "wb")  # noqa: SIM115  # the host hands on a path
        file.write(b"half")
        raise OSError("No space left on device")

    write(model)
    good = (tmp_path / name).read_bytes()
    assert list(torch.load(tmp_path / name, weights_only=True)) in (
        ["params", "params_ema"],
        ["epoch", "iter", "optimizers", "schedulers"],
    )
    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write(model)
    assert (tmp_path / name).read_bytes() == good
    assert [path.name for path in tmp_path.iterdir()] == [name]

    write(stock_model)  # says nothing
    assert (tmp_path / name).read_bytes() != good


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"type": "MultiStepLR", "milestones": [6], "gamma": 0.5}, [0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5]),
        ({"type": "ConstantLR", "factor": 0.5, "total_iters": 5}, [0.25, 0.5, 0.75, 0.5, 0.5, 1, 1, 1]),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_warm_up_leaves_the_schedule_alone(scheduler, expected):
    from basicsr.models.base_model import BaseModel

    model = BaseModel({"num_gpu": 0, "is_train": True, "train": {"scheduler": scheduler}})
    model.optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)]
    model.setup_schedulers()
    rates = []
    for iteration in range(1, 9):
        model.update_learning_rate(iteration, warmup_iter=4)
        rates += model.get_current_learning_rate()
        model.optimizers[0].step()
    assert rates == pytest.approx(expected)


def test_a_misspelt_param_key_is_not_replaced(tmp_path):
    from basicsr.models.base_model import BaseModel

    net = torch.nn.Linear(2, 2)
    path = tmp_path / "net.pth"
    torch.save({"params": net.state_dict()}, path)
    model = BaseModel({"num_gpu": 0, "is_train": False})
    model.load_network(net, str(path), True, "params_ema")
    with pytest.raises(UserError, match="no weights under 'params_emma'"):
        model.load_network(net, str(path), True, "params_emma")
