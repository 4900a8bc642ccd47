from __future__ import annotations

import cv2
import numpy as np
import pytest

from semanir_plugin.basicsr_host.data import MixedDegradationDataset
from semanir_plugin.basicsr_host.scoring import PROTOCOLS
from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.leaderboard.test_sets import TestSet, TestSetOptions
from semanir_plugin.pixels import to_float, to_uint8


@pytest.fixture
def folders(tmp_path, photos):
    photo = cv2.imread(str(photos["coffee.png"]))
    for folder, factor in (("gt", 1), ("lq", 2)):
        (tmp_path / folder).mkdir()
        for index in range(2):
            image = photo[40 * index : 40 * index + 46, 100:168]
            cv2.imwrite(str(tmp_path / folder / f"{index}.png"), cv2.resize(image, (68 // factor, 46 // factor)))
    return tmp_path


def make(folders, protocol="sr_y_crop", scale=2, **options):
    options = {key: str(folders / value) if key in ("gt", "lq") else value for key, value in options.items()}
    return TestSet("x", TestSetOptions(**options), PROTOCOLS[protocol], scale)


def test_inputs_are_files_where_they_are_named(folders):
    test_set = make(folders, gt="gt", lq="lq")
    test_set.check()
    sample = test_set.sample(1)
    assert sample.name == "1"
    assert np.array_equal(to_uint8(sample.input), cv2.imread(str(folders / "lq" / "1.png")))
    assert np.array_equal(to_uint8(sample.truth), cv2.imread(str(folders / "gt" / "1.png")))
    assert not np.array_equal(make(folders, gt="gt").sample(1).input, sample.input)


def test_ground_truths_are_cropped_to_what_inputs_cover(folders):
    image = cv2.imread(str(folders / "gt" / "1.png"))
    cv2.imwrite(str(folders / "gt" / "1.png"), image[:45, :67])
    cv2.imwrite(str(folders / "lq" / "1.png"), to_uint8(to_float(image[:22, :33])))
    test_set = make(folders, gt="gt", lq="lq")
    test_set.check()
    assert test_set.sample(1).truth.shape == (44, 66, 3)


@pytest.mark.parametrize("depth", [8, 16])
def test_drawn_degradations_are_those_of_the_dataset(folders, depth):
    options = {"degradations": {"motion_blur": {"length": 9, "quality": 75}}, "seed": 3}
    if depth == 16:
        path = str(folders / "gt" / "1.png")
        cv2.imwrite(path, cv2.imread(path).astype(np.uint16) * 256 + 100)
    sample = make(folders, "drawn_rgb", 1, gt="gt", **options).sample(1)
    files = {"phase": "val", "dataroot_gt": str(folders / "gt"), "io_backend": {"type": "disk"}}
    other = MixedDegradationDataset({**files, **options})[1]
    assert np.array_equal(sample.input[..., ::-1].transpose(2, 0, 1), other["lq"])
    assert np.array_equal(to_float(to_uint8(sample.truth))[..., ::-1].transpose(2, 0, 1), other["gt"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gt": "none"}, "none: no such folder; name a folder"),
        ({"gt": "empty"}, r"empty: no images \(.*\) in it"),
        ({"gt": "gt", "lq": "empty"}, r"empty: no images \(.*\) in it"),
        ({"gt": "gt", "lq": "few"}, "gt: no input in .*few for 1;"),
        ({"gt": "gt", "lq": "gt"}, "0.png is 68x46, but .*0.png is 68x46 at scale 2; make the sizes fit"),
        ({"gt": "damaged"}, "0.png cannot be read: truncated PNG; replace it"),
        ({"gt": "small"}, "0.png is 68x14, but both sides need 15 pixels; take it out"),
    ],
)
def test_what_is_wrong_with_folders_is_told(folders, options, message):
    for name in ("empty", "few", "damaged", "small"):
        (folders / name).mkdir()
    image = cv2.imread(str(folders / "lq" / "0.png"))
    cv2.imwrite(str(folders / "few" / "0.png"), image)
    (folders / "damaged" / "0.png").write_bytes((folders / "gt" / "0.png").read_bytes()[:200])
    cv2.imwrite(str(folders / "small" / "0.png"), cv2.imread(str(folders / "gt" / "0.png"))[:14])
    with pytest.raises(UserError, match=message) as error:
        make(folders, **options).check()
    assert "\n" not in str(error.value)


def test_the_digest_is_of_contents_names_and_condition(folders):
    def digest(**options):
        return make(folders, "denoising_gray", 1, **{"gt": "gt", "sigma": 25, **options}).digest

    known = {digest()}
    assert digest() in known
    for change in (
        lambda: digest(sigma=15),
        lambda: digest(lq="gt"),
        lambda: (folders / "gt" / "1.png").rename(folders / "gt" / "2.png") and digest(),
        lambda: (folders / "gt" / "2.png").write_bytes((folders / "gt" / "0.png").read_bytes()) and digest(),
        lambda: (folders / "gt" / "2.png").unlink() or digest(),
    ):
        found = change()
        assert found not in known
        known.add(found)


def test_the_digest_is_of_the_degradation_and_its_seed(folders):
    drawn = [
        ({"noise": {"sigma": 25}}, 0),
        ({"noise": {"sigma": 50}}, 0),
        ({"noise": {"sigma": 25, "quality": 50}}, 0),
        ({"rain": {"amount": 25}}, 0),
        ({"noise": {"sigma": 25}}, 1),
    ]
    sets = [make(folders, "drawn_rgb", 1, gt="gt", degradations=each, seed=seed) for each, seed in drawn]
    assert len({each.digest for each in sets}) == len(drawn)
    assert sets[0].digest == make(folders, "drawn_rgb", 1, gt="gt", degradations=drawn[0][0]).digest
