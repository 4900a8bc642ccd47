from __future__ import annotations

import pytest

from semanir_plugin.basicsr_host.scoring import PROTOCOLS
from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.leaderboard.published import _load, published_rows
from semanir_plugin.evaluation.leaderboard.results import _with_average
from semanir_plugin.evaluation.leaderboard.test_sets import TestSet, TestSetOptions


def rows(protocol, sets, scale=1, wanted=None):
    protocol = PROTOCOLS[protocol]
    test_sets = [TestSet(name, TestSetOptions(gt="-", **options), protocol, scale) for name, options in sets.items()]
    found = published_rows(protocol, test_sets, scale, wanted)
    assert all(row["kind"] == "published" and row["source"] for row in found)
    return {row["model"]: {name: cell["scores"] for name, cell in row["cells"].items()} for row in found}, found


def test_figures_are_those_of_the_scale():
    by_name, found = rows("sr_y_crop", {"Set5": {}, "mine": {}}, 3)
    assert by_name["SemanIR-S"] == {"Set5": {"psnr": 34.99, "ssim": 0.9366}}
    assert by_name["IPT"] == {"Set5": {"psnr": 34.81}}
    assert next(row for row in found if row["model"] == "SwinIR")["parameters"] == 11_940_000
    assert rows("sr_y_crop", {"Set5": {}}, 8)[0] == {}


def test_light_networks_stand_beside_large_ones_with_their_own_sources():
    by_name, found = rows("sr_y_crop", {"Set5": {}, "Urban100": {}}, 4)
    assert by_name["SwinIR-light"] == {
        "Set5": {"psnr": 32.44, "ssim": 0.8976},
        "Urban100": {"psnr": 26.47, "ssim": 0.7980},
    }
    rows_by_name = {row["model"]: row for row in found}
    assert rows_by_name["SwinIR-light"]["parameters"] == 897_000
    sources = {name: rows_by_name[name]["source"] for name in ("SwinIR", "IMDN", "ELAN-light", "SRFormer-light")}
    assert [source.partition(" (")[0] for source in sources.values()] == [
        *("README of github.com/Amazingren/SemanIR", "SwinIR", "ELAN", "SRFormer"),
    ]
    assert "source" not in rows_by_name


def test_figures_are_those_of_the_level():
    sets = {f"a{s}": {"sigma": s, "benchmark": "Set12"} for s in (15, 50, 40)}
    by_name, _ = rows("denoising_gray", sets)
    assert by_name["Restormer"] == {"a15": {"psnr": 33.42}, "a50": {"psnr": 28.00}}
    assert by_name["Restormer (blind)"]["a15"] == {"psnr": 33.35}
    by_name, _ = rows("jpeg_gray", {"classic5": {"quality": 30}})
    assert by_name["SwinIR"] == {"classic5": {"psnr": 33.73, "ssim": 0.8961}}
    by_name, _ = rows("jpeg_color", {"LIVE1": {"quality": 10}})
    assert by_name["JPEG"] == {"LIVE1": {"psnr": 25.69, "ssim": 0.7430}}


@pytest.mark.parametrize(
    ("protocol", "name", "row", "scores"),
    [
        ("deblurring_rgb", "HIDE", "Restormer", {"psnr": 31.22, "ssim": 0.942}),
        ("demosaicking_crop10", "McMaster", "Matlab", {"psnr": 34.43}),
        ("weather_rgb", "RainDrop", "SemanIR", {"psnr": 30.82}),
    ],
)
def test_figures_without_levels(protocol, name, row, scores):
    assert rows(protocol, {name: {}})[0][row] == {name: scores}


@pytest.mark.parametrize(
    ("protocol", "sets"),
    [
        ("all_in_one_3", ("SOTS", "Rain100L", "BSD68_15", "BSD68_25", "BSD68_50")),
        ("all_in_one_5", ("SOTS", "Rain100L", "BSD68_25", "GoPro", "LOL")),
    ],
)
def test_sets_of_several_tasks_and_their_mean(protocol, sets):
    levels = {name: {"sigma": int(name.partition("_")[2])} if "_" in name else {} for name in sets}
    by_name, found = rows(protocol, levels)
    assert by_name["PromptIR"]["BSD68_25"] == {"all_in_one_3": {"psnr": 31.31, "ssim": 0.888}}.get(
        protocol, {"psnr": 31.47, "ssim": 0.886}
    )
    assert all(list(each) == list(sets) for each in by_name.values())
    place = "three_tasks" if protocol.endswith("3") else "five_tasks"
    for row in found:
        average = _with_average(row, [{"name": name} for name in sets])["cells"]["average"]["scores"]
        printed = dict(zip(("psnr", "ssim"), _load()["all_in_one"][place][row["model"]]["average"], strict=True))
        assert average == pytest.approx(printed, abs=0.04)


def test_some_methods():
    assert list(rows("sr_y_crop", {"Set5": {}}, 4, ["SwinIR", "RCAN"])[0]) == ["RCAN", "SwinIR"]
    with pytest.raises(UserError, match="unknown method 'SwinR'; did you mean 'SwinIR'"):
        rows("sr_y_crop", {"Set5": {}}, 4, ["SwinR"])


def test_protocols_of_which_nothing_is_known():
    with pytest.raises(UserError, match="published by the protocol 'basicsr_rgb_mod12' are known; remove published"):
        rows("basicsr_rgb_mod12", {"Set5": {}}, 4)
