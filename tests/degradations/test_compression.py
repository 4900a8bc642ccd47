from __future__ import annotations

import cv2
import numpy as np
import pytest

from semanir_plugin.degradations import compress_jpeg


@pytest.fixture
def photo(photos):
    return cv2.imread(str(photos["coffee.png"]))[:61, :86]


@pytest.mark.parametrize("quality", [10, 40])
def test_colours_are_subsampled(photo, quality):
    def encode(sampling):
        flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        return cv2.imdecode(cv2.imencode(".jpg", photo, flags)[1], cv2.IMREAD_COLOR)

    compressed = compress_jpeg(photo, quality)
    np.testing.assert_array_equal(compressed, encode(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420))
    assert not np.array_equal(compressed, encode(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444))


@pytest.mark.parametrize("shape", [(61, 86), (1, 1), (7, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_shape_is_kept(photo, shape, channels):
    image = photo[: shape[0], : shape[1], :channels]
    compressed = compress_jpeg(image, 10)
    assert compressed.shape == image.shape
    assert compressed.dtype == np.uint8


def test_views_that_are_not_contiguous(photo):
    view = photo[::-1].transpose(1, 0, 2)
    np.testing.assert_array_equal(compress_jpeg(view, 10), compress_jpeg(view.copy(order="C"), 10))


def test_lower_quality_is_further_away(photo):
    errors = [np.abs(compress_jpeg(photo, quality).astype(int) - photo).mean() for quality in (5, 30, 90)]
    assert errors == sorted(errors, reverse=True)
