from __future__ import annotations

import pytest
import torch

from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.profiling.network_features import stage_inputs
from semanir_plugin.ops import build_key_semantics


def test_windows_are_of_one_map_and_keep_their_similarities_in_more_channels():
    narrow, wide = (stage_inputs(4, (16, 8), channels) for channels in (48, 180))
    assert wide.shape == (4, 128, 180)
    torch.testing.assert_close(wide @ wide.mT, narrow @ narrow.mT, rtol=1e-4, atol=1e-4)
    whole = stage_inputs(1, (24, 24), 48).reshape(24, 24, 48)
    parts = stage_inputs(9, (8, 8), 48).reshape(3, 3, 8, 8, 48)
    torch.testing.assert_close(parts[1, 2], whole[8:16, 16:], rtol=1e-4, atol=1e-4)


def test_keys_are_shared_as_in_networks():
    features = stage_inputs(2, (16, 16), 48)
    noise = torch.randn_like(features)
    used = [build_key_semantics(each, 16).mask()[:, :64].any(1).float().mean() for each in (features, noise)]
    assert used[0] < 0.8 * used[1]


def test_more_than_the_photograph_has_is_one_line():
    with pytest.raises(UserError, match="has no 1024 x 1024 pixels"):
        stage_inputs(4, (512, 512), 48)
