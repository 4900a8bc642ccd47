from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.degradations.linear_light import from_linear, to_linear


def test_the_curve_is_srgbs():
    values = np.array([0, 0.04, 0.04045, 0.5, 188 / 255, 1], np.float32)
    expected = [0, 0.04 / 12.92, 0.0031308, 0.21404, 0.50289, 1]
    np.testing.assert_allclose(to_linear(values), expected, rtol=2e-5)


@pytest.mark.parametrize("shape", [(256,), (16, 4, 4)])
def test_there_and_back(shape):
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(shape)
    there = to_linear(values)
    assert there.dtype == from_linear(there).dtype == np.float32
    np.testing.assert_allclose(from_linear(there), values, atol=1e-6)
