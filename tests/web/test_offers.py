"""Networks that the page offers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from semanir_plugin.archs import SemanIR
from semanir_plugin.errors import UserError
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.purposes import PURPOSES
from semanir_plugin.inference.shipped_weights import shipped_weights
from semanir_plugin.web.example import PICTURE, write_example
from semanir_plugin.web.offers import find_offers
from tests.conftest import TINY_NETWORK

OPTIONS = {"type": "SemanIR", "upscale": 2, "in_chans": 1, "upsampler": "pixelshuffledirect", **TINY_NETWORK}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint that says what it is of, and one that an option file does."""
    folder = tmp_path_factory.mktemp("models")
    net = SemanIR(**{key: value for key, value in OPTIONS.items() if key != "type"})
    save_weights(folder / "mine.safetensors", net, OPTIONS)
    (folder / "other").mkdir()
    torch.save({"params": net.state_dict()}, folder / "other" / "silent.pth")
    lines = [f"  {key}: {value}" for key, value in OPTIONS.items()]
    text = "\n".join(["network_g:", *lines, f"path: {{pretrain_network_g: {folder}/other/silent.pth}}\n"])
    (folder / "mine.yml").write_text(text)
    (folder / "without.yml").write_text("\n".join(["network_g:", *lines, ""]))
    return folder


@pytest.fixture(scope="module")
def offers(folder):
    return find_offers([str(folder / "mine.safetensors"), str(folder / "mine.yml"), "semanir-mini-x2"])


def test_all_that_come_with_the_package_are_in_plain_words():
    assert shipped_weights().keys() <= PURPOSES.keys()
    assert len({each.label for each in PURPOSES.values()}) == len(PURPOSES)


def test_the_users_own_come_first_and_are_told_apart(offers):
    clean = "Enlarge 2 times what is clean"
    assert [offer.label for offer in offers[:3]] == ["mine", "mine (2)", clean]
    others = [each.label for name, each in PURPOSES.items() if name in shipped_weights() and each.label != clean]
    assert [offer.label for offer in offers[3:]] == others
    assert offers[0].about == offers[1].about == "Yours: SemanIR, enlarges 2 times, in gray."
    assert offers[0].descriptor == offers[1].descriptor


def test_what_cannot_be_offered(folder):
    with pytest.raises(UserError, match=r"without\.yml: has no path\.pretrain_network_g"):
        find_offers([str(folder / "without.yml")])
    with pytest.raises(UserError, match="did you mean 'semanir-mini-x4'"):
        find_offers(["semanir-mini-x5"])


def test_every_network_has_an_example_that_it_makes_better(offers, tmp_path):
    for offer in offers:
        example = Image.open(write_example(offer, tmp_path))
        mode = "L" if offer.descriptor.in_channels == 1 else "RGB"
        assert example.mode == mode
        if offer.source not in PURPOSES:
            assert example.size == (224, 144)
            continue
        picture = Image.open(PICTURE).convert(mode)
        box, scale = (156, 96, 288, 156), offer.descriptor.scale  # in the middle, where the cat is
        part = example.crop(tuple(side // scale for side in box))
        restored = np.asarray(offer.load("cpu").restore(part), float)
        before = np.asarray(part.resize((132, 60), Image.Resampling.BICUBIC), float)
        truth = np.asarray(picture.crop(box), float)
        assert np.abs(restored - truth).mean() < np.abs(before - truth).mean(), offer.label
