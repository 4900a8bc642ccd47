from __future__ import annotations

import importlib

import basicsr.archs
import pytest
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)

from semanir_plugin.registry import ARCHS, Registry


def test_importing_registers_in_the_hosts_registries():
    assert {"SemanIR", "Bicubic"} <= set(ARCH_REGISTRY.keys())
    assert "SemanIRModel" in MODEL_REGISTRY
    assert {"FFTLoss", "PSNRLoss", "SSIMLoss"} <= set(LOSS_REGISTRY.keys())
    assert {"calculate_psnr_b", "calculate_ssim_rgb3d", "calculate_lpips"} <= set(METRIC_REGISTRY.keys())
    own = {"GaussianNoiseDataset", "JPEGDataset", "DemosaicDataset", "BicubicSRDataset", "MixedPairedDataset"}
    own |= {"RealWorldDataset", "MixedDegradationDataset"}
    assert own <= set(DATASET_REGISTRY.keys())
    assert basicsr.archs.build_network({"type": "Bicubic", "upscale": 2}).upscale == 2


@pytest.mark.parametrize("name", ["semanir_plugin.archs.bicubic_arch", "semanir_plugin.archs", "semanir_plugin"])
def test_a_reload_does_not_trip_already_registered(name):
    before = ARCH_REGISTRY.get("Bicubic")
    module = importlib.import_module(name)
    try:
        importlib.reload(module)
        assert ARCH_REGISTRY.get("Bicubic").__module__ == before.__module__
    finally:
        ARCH_REGISTRY._obj_map["Bicubic"] = before


def test_two_owners_of_a_name_are_told():
    registry, host = Registry("arch", "ARCH_REGISTRY"), {}
    registry.mirror_in(host)

    @registry.register
    def net():
        pass

    assert registry.find("net") is host["net"] is net
    other = type("net", (), {"__module__": "somewhere.else"})
    with pytest.raises(KeyError, match=r"'net' is already registered by tests\.test_registry"):
        registry.register(other)


def test_what_the_host_alone_has_is_found_and_what_nobody_has_is_told():
    assert ARCHS.find("SwinIR") is ARCH_REGISTRY.get("SwinIR")
    assert "SwinIR" not in ARCHS
    with pytest.raises(KeyError, match="unknown architecture 'SwimIR'; did you mean 'SwinIR'"):
        ARCHS.find("SwimIR")
