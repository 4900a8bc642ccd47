from __future__ import annotations

import functools
import http.server
import threading
import time
import warnings
from urllib.error import URLError

import pytest
import torch
from basicsr.archs import inception
from basicsr.losses import build_loss
from basicsr.utils import download_util

from semanir_plugin import downloads
from semanir_plugin.errors import UserError

VGG = {"type": "PerceptualLoss", "layer_weights": {"conv5_3": 1}, "vgg_type": "vgg16"}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where nothing is, neither under the working directory nor in torch's cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    def fail(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr(downloads, "urlopen", fail)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda: build_loss(VGG), "vgg16-397923af.pth"),
        (inception.fid_inception_v3, "pt_inception-2015-12-05-6726825d.pth"),
        (lambda: download_util.load_file_from_url("https://a.invalid/b/net.pth", model_dir="mine"), "net.pth"),
    ],
    ids=["perceptual loss", "FID", "others"],
)
def test_missing_weights_are_named_with_their_url_and_place(folder, ask, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError) as caught:
            ask()
    message = str(caught.value)
    assert message.startswith(f"{name} is missing and cannot be downloaded (URLError: <urlopen error no route>): ")
    url, place = message.partition("fetch ")[2].split(" where there is a network, and put it at ")
    assert url.startswith("https://")
    assert url.endswith(name)
    assert place.startswith(str(folder))
    assert place.endswith(name)


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch, tmp_path):
    def answer_late(*_, **__):
        time.sleep(1)
        raise URLError("late")

    monkeypatch.setattr(downloads, "SECONDS", 0.05)
    monkeypatch.setattr(downloads, "urlopen", answer_late)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"no answer within 0\.05 seconds"):
        downloads.download("https://a.invalid/net.pth", str(tmp_path / "net.pth"))
    assert time.monotonic() - started < 0.9


def test_what_can_be_downloaded_is(tmp_path):
    (tmp_path / "served").mkdir()
    torch.save({"weight": torch.ones(2)}, tmp_path / "served" / "net.pth")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with downloads.telling_what_to_fetch():
        state = torch.hub.load_state_dict_from_url(
            f"http://127.0.0.1:{server.server_port}/net.pth", model_dir=str(tmp_path / "cache"), progress=False
        )
    server.shutdown()
    assert torch.equal(state["weight"], torch.ones(2))
    assert torch.hub.download_url_to_file is not downloads.download
