from __future__ import annotations

import errno
import os
import random
import re
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from semanir_plugin import atomic_io
from semanir_plugin.atomic_io import open_atomic, remove_unfinished, save_atomic, write_atomic, write_together
from semanir_plugin.errors import UserError
from semanir_plugin.inference.safe_loading import load_checkpoint
from tests.conftest import ROOT

CONTENT = {"weight": torch.arange(35.0).reshape(5, 7), "iter": 12, "names": ["a", "b"]}


@contextmanager
def files_of_at_most(size):
    """A disk that is full after so many bytes, as far as this process is concerned."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def equal(a, b):
    return (
        a.keys() == b.keys()
        and torch.equal(a["weight"], b["weight"])
        and all(a[key] == b[key] for key in ("iter", "names"))
    )


def test_no_damaged_bit_is_loaded(tmp_path):
    path = tmp_path / "a.pth"
    save_atomic(CONTENT, path)
    whole = path.read_bytes()
    draw = random.Random(0)
    first = whole.index(CONTENT["weight"].numpy().tobytes())
    positions = [*draw.sample(range(len(whole)), 600), *range(first, first + 140)]
    refused = [why for position in positions if (why := refusal(path, flipped(whole, position, draw.randrange(8))))]
    assert len(refused) >= 140, "each byte of the tensor"
    assert all(re.search("damaged|refused", why) for why in refused)
    assert not any("\n" in why for why in refused)


def flipped(content, position, bit):
    damaged = bytearray(content)
    damaged[position] ^= 1 << bit
    return damaged


def refusal(path, content):
    """Why a file of this content is refused; None where it holds what it should: padding may be anything."""
    path.write_bytes(content)
    try:
        assert equal(load_checkpoint(path), CONTENT)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
def test_a_truncated_file_is_not_loaded(tmp_path, keep):
    path = tmp_path / "a.pth"
    save_atomic(CONTENT, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match=r"damaged|has 0 bytes"):
        load_checkpoint(path)


def test_what_torch_wrote_before_it_had_checksums_is_loaded(tmp_path):
    torch.save(CONTENT, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert equal(load_checkpoint(tmp_path / "old.pth"), CONTENT)


def write_in_parts(path):
    with open_atomic(path) as file:
        for _ in range(40):
            file.write(bytes(1000))


@pytest.mark.parametrize("size", [0, 700, 2000, 30_000])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_atomic(torch.ones(10_000), path),
        lambda path: write_atomic(bytes(40_000), path),
        write_in_parts,
    ],
)
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, write, size):
    path = tmp_path / "a.pth"
    path.write_bytes(b"before")
    with files_of_at_most(size), pytest.raises(OSError, match=r"a\.pth") as failed:
        write(path)
    assert failed.value.errno == errno.EFBIG
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def pair(tmp_path):
    """Two files of which the first names the second, as they were; and what they are to become."""
    contents = {tmp_path / "a.xml": b"graph", tmp_path / "a.bin": bytes(40_000)}
    for path in contents:
        path.write_bytes(b"before")
    return contents


def test_of_files_that_belong_together_all_are_written_or_none(pair, tmp_path):
    with files_of_at_most(20_000), pytest.raises(OSError, match="a\\."):
        write_together(pair)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(pair, b"before")
    write_together(pair)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == pair


def test_no_file_is_beside_another_than_its_own_where_a_kill_comes_between(pair, tmp_path, monkeypatch):
    replace = Path.replace

    def killed(self, target):
        if list(pair)[1].read_bytes() != b"before":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_together(pair)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_then_the_name(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, Path.replace

    def recorded_fsync(descriptor):
        steps.append("folder" if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_dir() else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", lambda self, target: steps.append("name") or replace(self, target))
    save_atomic(CONTENT, tmp_path / "a.pth")
    assert steps == ["file", "name", "folder"]


def test_a_file_whose_parts_do_not_all_come_is_not_there(tmp_path):
    def parts():
        yield bytes(1000)
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_atomic(tmp_path / "a.png") as file:
        file.writelines(parts())
    assert list(tmp_path.iterdir()) == []


def test_halves_of_files_are_removed_and_nothing_else(tmp_path):
    save_atomic(CONTENT, tmp_path / "a.pth")
    (tmp_path / ".b.pth.123.456.tmp").write_bytes(b"half")
    (tmp_path / ".[c].png.1.2.tmp").write_bytes(b"half")
    remove_unfinished(tmp_path, "[c].png")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.pth.123.456.tmp", "a.pth"]
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


WRITING = """
import sys, time
from semanir_plugin import atomic_io
from semanir_plugin.atomic_io import open_atomic
with open_atomic(sys.argv[1]) as file:
    file.write(b"whole")
    print("writing", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def writing(path):
    """Another process that is writing a file until it is told to go on."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout.readline() == b"writing\n"
    with process:
        yield process


def test_what_another_process_is_writing_stays(tmp_path):
    path = tmp_path / "a.pth"
    with writing(path) as process:
        write_atomic(b"mine", path)
        remove_unfinished(tmp_path, "a.pth")
        remove_unfinished(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2
        process.communicate(b"\n")
    assert process.returncode == 0
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_was_writing_goes(tmp_path):
    with writing(tmp_path / "a.pth") as process:
        process.kill()
    assert len(list(tmp_path.iterdir())) == 1
    remove_unfinished(tmp_path, "a.pth")
    assert not list(tmp_path.iterdir())


def test_what_this_process_is_writing_stays(tmp_path):
    with open_atomic(tmp_path / "a.pth") as file:
        file.write(b"whole")
        remove_unfinished(tmp_path)
    assert (tmp_path / "a.pth").read_bytes() == b"whole"


def test_where_nothing_can_be_locked_what_is_old_goes(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", fail)
    for name, age in (("old", 100_000), ("new", 1000)):
        path = tmp_path / f".{name}.1.2.tmp"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age, time.time() - age))
    write_atomic(b"whole", tmp_path / "a.pth")
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.1.2.tmp", "a.pth"]


def test_a_file_that_is_found_before_it_is_locked_is_opened_again(tmp_path, monkeypatch):
    lock, tries = atomic_io._lock, []

    def late(file):
        tries.append(file.name)
        if len(tries) == 1:
            Path(file.name).unlink()
        return lock(file)

    monkeypatch.setattr(atomic_io, "_lock", late)
    write_atomic(b"whole", tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == b"whole"
    assert len(set(tries)) == 2


@pytest.mark.parametrize(
    "name", ["a" * 251 + ".pth", "\u00e4" * 125 + ".pth", "\udcff" * 251 + ".pth", "a" * 96 + ".pth"]
)
def test_a_name_of_any_length_that_fits_is_written_and_cleared(tmp_path, name):
    path = tmp_path / name
    with open_atomic(path):
        [temporary] = tmp_path.iterdir()
    assert len(os.fsencode(temporary.name)) <= 143
    temporary.write_bytes(b"half")
    (tmp_path / f".{'a' * 80}.1.2.tmp").write_bytes(b"of another name")
    remove_unfinished(tmp_path, name)
    assert len(list(tmp_path.iterdir())) == 2
