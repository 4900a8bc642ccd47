"""Networks in folders and in repositories of the Hugging Face hub, for which a small server stands."""

from __future__ import annotations

import inspect
import re

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants
from huggingface_hub.hub_mixin import ModelHubMixin, PyTorchModelHubMixin
from PIL import Image

import semanir_plugin
from semanir_plugin.archs import AST, MixedArch, SemanIR, SemanIRUNet
from semanir_plugin.archs.pretrained_network import PretrainedNetwork
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.inference import checkpoints, hub
from semanir_plugin.inference.model_card import model_card, shipped_card
from semanir_plugin.inference.shipped_weights import shipped_weights
from tests.conftest import TINY_NETWORK
from tests.inference.hub_server import serve

OPTIONS = {"upscale": 2, "upsampler": "pixelshuffledirect", **TINY_NETWORK}
NETWORKS = {
    SemanIR: OPTIONS,
    SemanIRUNet: {"embed_dim": 8, "head_dim": 4, "depths": [1, 1], "window_sizes": [8, 8], "topk": [3, 12]}
    | {"prompts": 2},
    AST: {"img_size": 16, "embed_dim": 4, "depths": [1, 2, 1], "num_heads": [1, 2, 2], "win_size": 4},
    MixedArch: {
        "base": {"type": "SemanIR", **OPTIONS},
        "mix": [{"where": "norm_first", "what": "mlp", "how": "append"}],
    },
}
IMAGE = torch.rand(1, 3, 9, 13)


def build(cls=SemanIR):
    return cls(**NETWORKS[cls]).eval()


@torch.no_grad()
def same(a, b):
    return torch.equal(a(IMAGE), b(IMAGE))


@pytest.fixture
def online(tmp_path, monkeypatch):
    """The stand-in for the hub, at the address that the hub's library asks, with an empty cache."""
    with serve() as (server, url):
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
        for name, value in {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        server.url = url
        yield server


@pytest.mark.parametrize("cls", NETWORKS, ids=lambda cls: cls.__name__)
def test_a_folder_written_and_read(cls, tmp_path):
    net = build(cls)
    assert net.save_pretrained(tmp_path / "net") is None
    assert sorted(each.name for each in (tmp_path / "net").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert same(cls.from_pretrained(tmp_path / "net"), net)
    loaded = semanir_plugin.load(tmp_path / "net", device="cpu")
    assert same(loaded.module, net)
    assert loaded.options == {"type": cls.__name__, **NETWORKS[cls]}


def test_nothing_of_the_hub_is_imported_for_a_folder(python, tmp_path):
    build().save_pretrained(tmp_path / "net")
    code = """
import sys, semanir_plugin
from semanir_plugin.archs import SemanIR
SemanIR.from_pretrained("net").save_pretrained("again")
semanir_plugin.load("again")
print("huggingface_hub" in sys.modules)
"""
    assert python(code).splitlines()[-1] == "False"


def test_methods_are_called_as_the_hub_s_mixin():
    for name in ("save_pretrained", "push_to_hub", "from_pretrained"):
        theirs = inspect.signature(getattr(ModelHubMixin, name)).parameters
        ours = inspect.signature(getattr(PretrainedNetwork, name)).parameters
        named = {key for key, each in theirs.items() if each.kind is not inspect.Parameter.VAR_KEYWORD}
        if name == "push_to_hub":
            ours = {**ours, **inspect.signature(hub.push).parameters}
            named -= {"allow_patterns", "ignore_patterns", "delete_patterns"}
        assert named <= ours.keys()


def test_options_may_be_others(tmp_path):
    build().save_pretrained(tmp_path / "net")
    assert SemanIR.from_pretrained(tmp_path / "net", topk=5).descriptor.topk == (5,)
    with pytest.raises(UserError, match=r"is of SemanIR, not of AST; take semanir_plugin.load"):
        AST.from_pretrained(tmp_path / "net")


def test_keywords_are_those_of_the_mixin_of_torch_and_of_the_class(tmp_path):
    net = build()
    net.save_pretrained(tmp_path / "net")
    of_weights = inspect.signature(PyTorchModelHubMixin._from_pretrained).parameters.keys() & {"map_location", "strict"}
    assert len(of_weights) == 2
    assert same(SemanIR.from_pretrained(tmp_path / "net", map_location="cpu", strict=True), net)
    placed = SemanIR.from_pretrained(tmp_path / "net", map_location=torch.device("cpu"))
    assert next(placed.parameters()).device == torch.device("cpu")
    with pytest.raises(UserError, match=r"^map_location tpu9: .*; 'cpu' is always there$"):
        SemanIR.from_pretrained(tmp_path / "net", map_location="tpu9")
    for cls in NETWORKS:
        build(cls).save_pretrained(tmp_path / cls.__name__)
        with pytest.raises(TypeError, match=rf"unknown keyword 'strictt' of {cls.__name__}\.from_.*mean 'strict'\?"):
            cls.from_pretrained(tmp_path / cls.__name__, strictt=True)
    with pytest.raises(TypeError, match=r"unknown keyword 'toppk' of SemanIR\.from_.* did you mean 'topk'\? known: "):
        SemanIR.from_pretrained(tmp_path / "net", toppk=3)
    with pytest.raises(UserError, match=r"SemanIR refuses its options: .*; correct what you gave: window_size$"):
        SemanIR.from_pretrained(tmp_path / "net", window_size=-3)


def test_weights_may_be_missing_or_too_many_where_it_is_not_strict(tmp_path):
    net = build()
    net.save_pretrained(tmp_path / "net")
    state = dict(net.state_dict())
    dropped = sorted(state)[0]
    del state[dropped]
    checkpoints.write_safetensors(tmp_path / "net" / hub.WEIGHTS, {**state, "more": torch.ones(1)}, {})
    with pytest.raises(UserError, match=rf"1 missing \({dropped}\), 1 unexpected \(more\)"):
        SemanIR.from_pretrained(tmp_path / "net")
    loaded = SemanIR.from_pretrained(tmp_path / "net", strict=False).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    name = next(name for name, value in state.items() if value.dim() == 4)
    state[name] = state[name][:1, :1]
    checkpoints.write_safetensors(tmp_path / "net" / hub.WEIGHTS, state, {})
    with pytest.raises(UserError, match=rf"1 mis-shaped \({name}\)"):
        SemanIR.from_pretrained(tmp_path / "net", strict=False)


@pytest.mark.parametrize("config", [{}, {"a": 1}, {"type": 3}])
def test_options_without_a_type_are_told(tmp_path, config):
    with pytest.raises(UserError, match=r"^config has no 'type' of a network beside its options; add it, or leave"):
        build().save_pretrained(tmp_path / "net", config=config)
    assert not (tmp_path / "net").exists()


def test_a_card_that_is_there_stays(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    build().save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    build().save_pretrained(tmp_path, card="other")
    assert (tmp_path / "README.md").read_text() == "other"


def test_pushed_and_loaded_by_name(online, tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    net = build()
    address = net.push_to_hub("org/net", private=True, token="x")
    assert address.startswith(f"{online.url}/org/net/commit/")
    assert online.repositories["org/net"]["main"].keys() == {"README.md", "config.json", "model.safetensors"}
    assert 'semanir_plugin.load("org/net")' in online.repositories["org/net"]["main"]["README.md"].decode()
    assert same(semanir_plugin.load("org/net", device="cpu").module, net)
    assert same(SemanIR.from_pretrained("org/net"), net)
    Image.open(photos["chelsea.png"]).crop((0, 0, 40, 24)).save("photo.png")
    assert main(["restore", "photo.png", "-o", "x2.png", "--model", "org/net"]) == 0
    assert Image.open("x2.png").size == (80, 48)


def test_only_the_network_is_downloaded_and_once(online):
    build().push_to_hub("org/net", token="x")
    online.repositories["org/net"]["main"] |= {"big.bin": b"0" * 100, "other.safetensors": b"no"}
    semanir_plugin.load("org/net", device="cpu")
    fetched = [path for method, path in online.requests if method == "GET" and "/resolve/" in path]
    assert sorted(path.rpartition("/")[2] for path in fetched) == ["config.json", "model.safetensors"]
    semanir_plugin.load("org/net", device="cpu")
    assert [path for method, path in online.requests if method == "GET" and "/resolve/" in path] == fetched


def test_a_revision(online):
    old, new = build(), build()
    old.push_to_hub("org/net", token="x", branch="v1")
    new.push_to_hub("org/net", token="x")
    assert same(semanir_plugin.load("org/net", revision="v1", device="cpu").module, old)
    assert same(semanir_plugin.load("org/net@v1", device="cpu").module, old)
    assert same(semanir_plugin.load("org/net", device="cpu").module, new)
    with pytest.raises(UserError, match=r"^org/net: has no revision 'v2'; name a branch, a tag or a commit of http"):
        semanir_plugin.load("org/net@v2")


def test_without_a_connection_the_cache_serves(online, monkeypatch):
    net = build()
    net.push_to_hub("org/net", token="x")
    semanir_plugin.load("org/net", device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(semanir_plugin.load("org/net", device="cpu").module, net)
    assert same(SemanIR.from_pretrained("org/net", local_files_only=True), net)
    with pytest.raises(UserError, match=r"^no file org/other; nor is it in the hub's cache, and http.* be reached$"):
        semanir_plugin.load("org/other")


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ((401, "GatedRepo"), r"org/net: is gated; accept its terms on http://\S+/org/net, and log in: hf auth login"),
        ((401, "RepoNotFound"), r"no file and no repository http://\S+/org/net, or a private one \(hf auth login\)"),
        ((403, "Forbidden"), r"org/net: the hub refuses \(403\); log in"),
        ((500, "Internal"), r"org/net: http://\S+ answers with 500; try again later"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(online, refusal, told):
    online.refusals["org/net"] = refusal
    with pytest.raises(UserError, match=told) as caught:
        semanir_plugin.load("org/net")
    assert "\n" not in str(caught.value)


def test_a_repository_without_a_network(online):
    online.repositories["org/net"] = {"main": {"README.md": b"soon"}}
    with pytest.raises(UserError, match=r"org/net: the repository has no config.json and no model.safetensors"):
        semanir_plugin.load("org/net")


def test_pushing_without_a_right_to(online):
    with pytest.raises(UserError, match=r"org/net: the hub refuses \(401\); log in with a token"):
        build().push_to_hub("org/net", token="wrong")
    assert not online.repositories


def test_where_the_library_is_missing_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("semanir_plugin.errors.find_spec", lambda _: None)
    for use in (lambda: semanir_plugin.load("org/net"), lambda: build().push_to_hub("org/net")):
        with pytest.raises(UserError, match=r"needs the package huggingface_hub: pip install 'semanir_plugin\[hub\]'"):
            use()


@pytest.mark.parametrize(
    "name",
    ["net.pth", "weights/net.pth", "weights/net.safetensors", "./org/net", "/org/net", "a/b/c", "semanir-mini-x4"],
)
def test_what_is_no_repository(name):
    assert not hub.is_repository(name)


def test_a_folder_that_is_there_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_repository("org/net")
    (tmp_path / "org").mkdir()
    assert not hub.is_repository("org/net"), "more likely misspelt"


def test_what_does_not_know_its_options(tmp_path):
    with pytest.raises(UserError, match="a Conv2d does not know what it was built from; give its config"):
        hub.save_folder(torch.nn.Conv2d(3, 3, 3), tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("name", shipped_weights())
def test_cards_of_shipped_weights(name):
    card = ModelCard(shipped_card(name))
    data = card.data.to_dict()
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == (
        "apache-2.0",
        "semanir_plugin",
        "image-to-image",
    )
    assert (data["datasets"], data["metrics"]) == (["BSD400"], ["psnr", "ssim"])
    found = {each.dataset_name: each.metric_value for each in card.data.eval_results if each.metric_type == "psnr"}
    section = (
        (hub.Path(semanir_plugin.__file__).parent / "weights" / "README.md").read_text().partition(f"## {name}\n")[2]
    )
    assert found["Set5"] == float(re.search(r"\| Set5 \| [\d.]+ / [\d.]+ \| ([\d.]+) ", section)[1])


def test_weights_without_a_card():
    with pytest.raises(UserError, match="no weights 'mine' that come with this package; names: ast-mini-derain"):
        shipped_card("mine")


def test_a_card_is_yaml_and_its_options_an_option_file():
    options = {"type": "SemanIR", "resi_connection": "1conv", "topk": [4, 8], "shift": "none"}
    text = model_card(options, name="no", datasets=["yes", "a: b"], scores={"Set | 5": {"psnr": 30.0}})
    assert ModelCard(text).data.to_dict()["datasets"] == ["yes", "a: b"]
    assert yaml.safe_load(text.rpartition("```yaml\n")[2].partition("```")[0]) == {"network_g": options}
    assert r"| Set \| 5 | 30 |" in text
