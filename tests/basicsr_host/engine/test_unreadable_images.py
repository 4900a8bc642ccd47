"""Images that cannot be read in the midst of a training, through the command's own entry."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs
from semanir_plugin.basicsr_host.data.tolerant_dataset import UNREADABLE
from semanir_plugin.basicsr_host.engine import unreadable_images
from semanir_plugin.basicsr_host.engine.log import start_logging
from semanir_plugin.basicsr_host.engine.train import TrainingLoop
from semanir_plugin.basicsr_host.engine.unreadable_images import UnreadableImages
from semanir_plugin.cli import main
from tests.conftest import ROOT, tiny_overrides

NAME = "train_SemanIR_SRx4"
RUN = Path("experiments", NAME)
REPORT = RUN / "unreadable_images_0.json"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folders(sr_data):
    """Pairs to be broken; those of sr_data are for all tests."""
    for phase in ("train", "val"):
        write_sr_pairs((sr_data / f"{phase}_photos").iterdir(), Path("data", phase), 4)
    return Path("data").absolute()


def image(folders, index, phase="train", side="LR_bicubic_X4"):
    return sorted((folders / phase / side).iterdir())[index]


def break_pixels(path):
    """Header and end stay whole, so that only decoding tells."""
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)


def train(folders, *flags, **more):
    roots = {
        f"datasets__{phase}__dataroot_{key}": folders / phase / side
        for phase in ("train", "val")
        for key, side in (("gt", "GT"), ("lq", "LR_bicubic_X4"))
    }
    often = {"val__val_freq": 100, "logger__save_checkpoint_freq": 100, "train__total_iter": 6}
    more = {**roots, "datasets__train__io_backend__type": "disk", "train__max_unreadable": 2, **often, **more}
    opt = str(ROOT / "options" / f"{NAME}.yml")
    return main(["train", "-opt", opt, *flags, "--force_yml", *tiny_overrides(folders, **more)])


def network(iteration=6, folder=RUN):
    saved = torch.load(folder / "models" / f"net_g_{iteration}.pth", weights_only=True)
    return {f"{key}.{name}": value for key in ("params", "params_ema") for name, value in saved[key].items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def warnings(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]


@pytest.fixture
def straight(folders, capsys):
    """The network of a training in which one image cannot be read."""
    break_pixels(image(folders, 1))
    assert train(folders) == 0
    return network()


def test_it_is_told_once_and_named(folders, straight, capsys):
    path, others = image(folders, 1), image(folders, 1, side="GT")
    (line,) = warnings(capsys)
    assert re.search(
        rf"Iteration \d: dataset '.*': cannot read .*{path}.*: the image cannot be decoded; .*"
        r"; another image takes its place: 1 of at most 2\.$",
        line,
    )
    (entry,) = json.loads(REPORT.read_text())
    assert entry["image"] in (f"{path}, {others}", f"{others}, {path}")
    assert entry["reason"] in line
    assert f"Iteration {entry['iteration']}:" in line


@pytest.mark.parametrize(
    "more", [{"num_worker_per_gpu": 2}, {"num_worker_per_gpu": 1, "prefetch_mode": "cpu"}], ids=str
)
def test_workers_change_nothing(folders, straight, more, tmp_path, capsys):
    more = {f"datasets__train__{key}": value for key, value in more.items()}
    report = json.loads(REPORT.read_text())
    assert train(folders, path__experiments_root=tmp_path / "other", **more) == 0
    assert same(network(folder=tmp_path / "other" / NAME), straight)
    assert json.loads((tmp_path / "other" / NAME / REPORT.name).read_text()) == report


def test_a_resumed_run_goes_on_counting_and_ends_as_one_without_a_break(folders, straight, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        iterate = TrainingLoop._iterate
        patch.setattr(TrainingLoop, "_iterate", lambda self, at, batch: iterate(self, at, batch) if at < 4 else 1 / 0)
        assert train(folders, logger__save_checkpoint_freq=1) == 1
    before = json.loads(REPORT.read_text())
    capsys.readouterr()
    # An image that can no longer be opened does not keep a training from going on either.
    gone = image(folders, 3)
    gone.write_bytes(b"")
    assert train(folders, "--auto_resume", logger__save_checkpoint_freq=1) == 0
    told = warnings(capsys)
    assert len(told) == 1
    assert str(gone) in told[0]
    assert told[0].endswith("2 of at most 2.")
    after = json.loads(REPORT.read_text())
    assert after[:1] == before
    assert len(after) == 2


def test_a_resumed_run_is_that_of_one_without_a_break(folders, straight, monkeypatch):
    with monkeypatch.context() as patch:
        iterate = TrainingLoop._iterate
        patch.setattr(TrainingLoop, "_iterate", lambda self, at, batch: iterate(self, at, batch) if at < 4 else 1 / 0)
        assert train(folders, logger__save_checkpoint_freq=1) == 1
    assert train(folders, "--auto_resume", logger__save_checkpoint_freq=1) == 0
    assert same(network(), straight)


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_the_limit_end_the_training_with_all_before_saved(folders, capsys, monkeypatch, workers):
    iterate = TrainingLoop._iterate

    def break_two(self, current_iter, batch):
        if current_iter == 3:
            paths = self.phases[0][1].dataset.dataset.dataset.paths
            for index in (0, 2):  # so that there is always one to take their place
                break_pixels(Path(paths[index]["lq_path"]))
        iterate(self, current_iter, batch)

    monkeypatch.setattr(TrainingLoop, "_iterate", break_two)
    more = {"datasets__train__num_worker_per_gpu": workers, "train__total_iter": 20, "train__max_unreadable": 1}
    assert train(folders, **more) == 2
    *_, before, last = capsys.readouterr().err.splitlines()
    assert re.match(
        r"basicsr train: 2 images cannot be read, where train\.max_unreadable allows 1: .*"
        r"unreadable_images_0\.json names them; mend .*; the last: .*: the image cannot be decoded",
        last,
    )
    assert len(json.loads(REPORT.read_text())) == 2
    done = re.search(r"Iteration (\d+) is saved, --auto_resume goes on after it\.$", before)
    assert int(done[1]) >= 3
    assert (RUN / "training_states" / f"{done[1]}.state").is_file()
    monkeypatch.undo()
    monkeypatch.chdir(folders.parent)
    assert train(folders, "--auto_resume", **more) == 2, "as long as they are not mended"
    assert train(folders, "--auto_resume", **{**more, "train__max_unreadable": 2}) == 0


def test_strict_is_a_limit_of_none(folders, capsys):
    path = image(folders, 1)
    break_pixels(path)
    assert train(folders, train__max_unreadable=0) == 2
    assert re.search(
        rf"cannot read .*{path}.*: the image cannot be decoded; .*\(train.max_unreadable: 0\)$",
        capsys.readouterr().err.splitlines()[-1],
    )


def test_the_end_reaches_past_a_prefetching_thread(folders, capsys):
    for index in range(5):
        break_pixels(image(folders, index))
    break_pixels(image(folders, 0, side="GT"))
    more = {"datasets__train__prefetch_mode": "cpu", "datasets__train__num_worker_per_gpu": 1}
    assert train(folders, **more) == 2
    assert "the image cannot be decoded" in capsys.readouterr().err.splitlines()[-1]


def test_a_score_is_never_that_of_another_image(folders, capsys):
    path = image(folders, 1, "val")
    break_pixels(path)
    assert train(folders, val__val_freq=2, train__max_unreadable=9) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{path}" in last
    assert "the image cannot be decoded" in last
    assert not REPORT.exists()


def test_a_report_that_is_none(folders, straight, capsys):
    REPORT.write_text("[{}]")
    assert train(folders, "--auto_resume", train__total_iter=7) == 2
    assert f"{REPORT.absolute()}: not the list of unreadable images" in capsys.readouterr().err.splitlines()[-1]


def test_each_process_writes_its_own_report(tmp_path):
    opt = {"name": "x", "rank": 1, "train": {"total_iter": 1}, "path": {"experiments_root": str(tmp_path)}}
    opt["logger"] = {"print_freq": 1, "use_tb_logger": False}
    run = SimpleNamespace(opt=opt, logger=None)
    assert TrainingLoop(run, None, [], None, 0).unreadable.report == tmp_path / "unreadable_images_1.json"


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_shows_what_it_met(rank, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(unreadable_images, "get_dist_info", lambda: (rank, 2))
    start_logging(rank)
    found = UnreadableImages(most=2, report=tmp_path / "report.json")
    found.take(7, {UNREADABLE: [{"image": "a.png", "reason": "a.png cannot be read"}], "lq": 1})
    told = "Iteration 7: a.png cannot be read; another image takes its place: 1 of at most 2."
    assert capsys.readouterr().err.endswith((f"WARNING: {told}\n", f"ERROR: Process 1: {told}\n")[rank])
