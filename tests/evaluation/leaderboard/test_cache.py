from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from semanir_plugin.evaluation.leaderboard.cache import Cache, are_numbers
from semanir_plugin.evaluation.leaderboard.model_cost import NO_COST
from semanir_plugin.evaluation.leaderboard.run import _has_cost


@pytest.fixture
def cache(tmp_path):
    cache = Cache(tmp_path)
    cache.save("key", "cat", {"scores": {"psnr": 1 / 3}}, {"images/a/cat.png": np.full((3, 5, 3), 7, np.uint8)})
    cache.save("key", "dog", {"scores": {"psnr": float("inf")}})
    return cache


def test_records_come_back_to_the_last_digit(cache):
    assert cache.load("key", "cat")["scores"] == {"psnr": 1 / 3}
    assert cache.load("key", "dog")["scores"] == {"psnr": float("inf")}
    assert cache.load("key", "cow") is None
    assert cache.load("other", "cat") is None


@pytest.mark.parametrize(
    "damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes() + b"x")]
)
def test_a_record_needs_its_images(cache, tmp_path, damage):
    damage(tmp_path / "images" / "a" / "cat.png")
    assert cache.load("key", "cat") is None
    assert cache.load("key", "dog") is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_damaged_record_does_not_count(cache, tmp_path, content):
    (tmp_path / "cache" / "key" / "dog.json").write_bytes(content)
    assert cache.load("key", "dog") is None


def test_a_record_of_which_a_digit_has_changed_does_not_count(cache, tmp_path):
    path = tmp_path / "cache" / "key" / "cat.json"
    path.write_text(path.read_text().replace("0.33", "0.43", 1))
    assert cache.load("key", "cat") is None
    assert cache.holds("key", "cat")
    assert not cache.holds("key", "cow")


def test_a_record_without_a_checksum_or_of_another_place_does_not_count(cache, tmp_path):
    folder = tmp_path / "cache" / "key"
    (folder / "cow.json").write_bytes((folder / "dog.json").read_bytes())
    assert cache.load("key", "cow") is None
    record = json.loads((folder / "dog.json").read_text())
    assert record.pop("sha256")
    (folder / "dog.json").write_text(json.dumps(record))
    assert cache.load("key", "dog") is None


def test_keys_tell_apart_everything_they_are_made_of():
    hashes = ["1" * 64, "2" * 64, "3" * 64]
    key = Cache.key(*hashes, protocol="sr-v1")
    assert key == "111111111111-222222222222-333333333333-sr-v1"
    others = {Cache.key(*hashes[::-1], protocol="sr-v1"), Cache.key(*hashes, protocol="sr-v2")}
    assert key not in others
    assert len(others) == 2


@pytest.mark.parametrize("path", ["/dev/zero", "../outside.png", "."])
def test_images_are_files_of_the_folder(tmp_path, path):
    cache = Cache(tmp_path / "results")
    (tmp_path / "outside.png").write_bytes(b"")
    cache.save("key", "a", {"scores": {}})
    file = cache.folder / "cache" / "key" / "a.json"
    record = {"scores": {}, "files": {path: hashlib.sha256(b"").hexdigest()}}
    file.write_text(json.dumps({**record, "sha256": Cache._checksum("key", "a", record)}))
    assert cache.load("key", "a") is None


@pytest.mark.parametrize(
    "scores", [{}, {"psnr": "1"}, {"psnr": [1]}, {"psnr": None}, {"psnr": 1, "x": 1}, [], None, "psnr"]
)
def test_a_record_of_another_form_does_not_count(cache, scores):
    cache.save("key", "a", {"scores": scores})
    assert cache.load("key", "a", lambda record: are_numbers(record["scores"], ["psnr"])) is None
    cache.save("key", "b", {})
    assert cache.load("key", "b", lambda record: are_numbers(record["scores"], ["psnr"])) is None


def test_records_nested_too_deeply_do_not_count(cache, tmp_path):
    cache.save("key", "a", {})
    next(tmp_path.rglob("a.json")).write_text("[" * 100_000)
    assert cache.load("key", "a") is None


@pytest.mark.parametrize("change", [{"time_low_ms": None}, {"time_ms": "1"}, {"more": 1}, {"params": [1]}])
def test_a_cost_of_another_form_does_not_count(change):
    times = {"time_ms": 2.0, "time_low_ms": 1, "time_high_ms": 3.0}
    assert _has_cost({"cost": NO_COST})
    assert _has_cost({"cost": {**NO_COST, **times}})
    assert not _has_cost({"cost": {**NO_COST, **times, **change}})
