from __future__ import annotations

import pytest
import torch

from semanir_plugin import errors
from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.profiling.attention_inputs import attention_inputs, read_photo
from semanir_plugin.inference.loading import load
from semanir_plugin.ops import build_key_semantics, key_semantic_attention


@pytest.mark.parametrize("stage", [0, 1])
def test_attention_of_them_is_what_the_network_computes(stage, monkeypatch):
    given = attention_inputs(16, stage=stage, size=32)
    seen = []
    network = load("semanir-mini-x4").module
    network.stages[stage].layers[0].attn.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        network(read_photo(32, 32))
        out = key_semantic_attention(
            *given[2:5], build_key_semantics(given.tokens, 64, regions=given.regions), bias=given.bias, scale=1.0
        )
        out = network.stages[stage].layers[0].attn.proj(out.transpose(1, 2).flatten(2))
    torch.testing.assert_close(out, seen[0])
    assert (given.regions is not None) == bool(stage)


def test_larger_windows_have_the_same_weights():
    given = attention_inputs(32, size=32)
    assert given.tokens.shape == (1, 1024, 48)
    assert given.q.shape == given.k.shape == given.v.shape == (1, 3, 1024, 16)
    assert given.bias.shape == (3, 63, 63)
    # Before the first stage windows play no part.
    small = attention_inputs(16, size=32).tokens
    torch.testing.assert_close(given.tokens.view(2, 16, 2, 16, 48).transpose(1, 2).reshape(4, 256, 48), small)


def test_a_folder_of_photographs(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "coffee.png").symlink_to(photos["coffee.png"])
    photo = read_photo(20, 30, tmp_path)
    assert photo.shape == (1, 3, 20, 30)
    assert not torch.equal(photo, read_photo(20, 30))
    for folder, message in ((tmp_path / "empty", "has no PNG or JPEG"), (tmp_path, "has no 5000 x 5000 pixels")):
        with pytest.raises(UserError, match=message):
            read_photo(5000, 5000, folder)


def test_without_scikit_image_it_is_told(monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="needs the package skimage: pip install scikit-image"):
        read_photo(20, 30)
