"""Repairs of what in BasicSR downloads weights."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from basicsr.archs import inception
from basicsr.archs.vgg_arch import VGGFeatureExtractor
from basicsr.utils import download_util

from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.downloads import download, telling_what_to_fetch

__all__ = ["REPAIRS"]


def told_what_to_fetch(function: Callable[..., Any]) -> Callable[..., Any]:
    """A perceptual loss, or FID, without its weights ends after a minute with an error that names neither file nor URL.

    So it does where there is no network, or a proxy in between.
    """
    function = inspect.unwrap(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        with telling_what_to_fetch():
            return function(*args, **options)

    return wrapper


REPAIRS: tuple[Repair, ...] = (
    (VGGFeatureExtractor, "__init__", told_what_to_fetch(VGGFeatureExtractor.__init__)),
    (inception, "fid_inception_v3", told_what_to_fetch(inception.fid_inception_v3)),
    (download_util, "download_url_to_file", download),
)
