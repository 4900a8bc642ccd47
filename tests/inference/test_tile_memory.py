from __future__ import annotations

import platform
import resource
import sys
from pathlib import Path

import pytest
import torch

from semanir_plugin.archs.semanir_unet_arch import SemanIRUNet
from semanir_plugin.errors import UserError
from semanir_plugin.inference import tile_memory
from semanir_plugin.inference.tile_memory import TileCost, free_memory, largest_tile, peak_memory
from semanir_plugin.inference.tiling import restore_tiled
from tests.memory import measure_alone

CPU = torch.device("cpu")
MIB = 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory of the host is measured on Linux only")


def hungry(x):
    """Takes 1200 bytes for each pixel of an RGB image, and gives one of twice the size."""
    return x.repeat(1, 100, 1, 1)[:, :3].clone().repeat_interleave(2, -1).repeat_interleave(2, -2)


def bytes_of(path, key):
    lines = Path(path).read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def test_the_peak_is_measured():
    peak = peak_memory(lambda: torch.ones(100 * MIB // 4).sum(), CPU)
    assert 95 * MIB < peak < 120 * MIB


def test_what_the_process_kept_of_earlier_calls_counts():
    def run():
        return [torch.ones(16_000 // 4) for _ in range(5000)]

    run()
    assert 70 * MIB < peak_memory(run, CPU) < 120 * MIB


def test_the_tile_grows_with_the_memory():
    image = torch.rand(1, 3, 700, 500)
    tiles = [largest_tile(hungry, image, overlap=32, multiple_of=8, free=2 * 1200 * side**2) for side in (256, 1024)]
    assert all(tile % 8 == 0 for tile in tiles)
    # Input and output come to the 1200 bytes, and the system counts in pages.
    assert 200 <= tiles[0] <= 256
    assert 800 <= tiles[1] <= 1024


def test_a_tile_stays_within_the_memory():
    shape = {"embed_dim": 8, "depths": [1, 1], "refinement_depth": 1, "head_dim": 8, "window_sizes": [16, 8]}
    net, image, free = SemanIRUNet(**shape, topk=16).eval(), torch.rand(1, 3, 330, 420), 256 * MIB
    tile = largest_tile(net, image, overlap=32, multiple_of=16, free=free)
    assert 128 <= tile < 330
    with torch.no_grad():
        peak = peak_memory(lambda: restore_tiled(net, image, tile=tile, multiple_of=16), CPU)
    # What glibc keeps makes a measurement vary by half; that is what the other half of the memory is for.
    assert free / 16 < peak < free + image.numel() * 4


ESTIMATE = """
import torch
from semanir_plugin.inference.tile_memory import measure_tiles, peak_memory
from semanir_plugin.inference.tile_sources import TensorSource
from semanir_plugin.inference.tiling import restore_in_rows
from tests.inference.test_tile_memory import CPU, hungry

image = torch.rand(1, 3, 1, 1).expand(1, 3, 700, 3000)  # wide, so that rows of tiles count
cost = measure_tiles(hungry, TensorSource(image), multiple_of=1, device=CPU)

def run(side):
    for band in restore_in_rows(hungry, image, tile=side):
        del band

for side in (256, 400):
    print(cost.peak(side), peak_memory(lambda: run(side), CPU))
"""


def test_the_estimate_is_what_bands_take():
    told = measure_alone("-c", ESTIMATE)
    pairs = [map(float, line.split()) for line in told.splitlines()]
    assert len(pairs) == 2
    assert all(0.7 * peak < estimate < 1.5 * peak for estimate, peak in pairs), told


def test_host_and_device_are_counted_apart_where_they_are_two():
    cost = TileCost(pixel=1000, values=12, width=1000, together=False)
    row = 2 * 4 * 12 * 1000
    assert cost.side(host=2 * row * 500, device=2 * 1000 * 400**2) == 400
    assert cost.side(host=2 * row * 300, device=2 * 1000 * 400**2) == 300
    both = TileCost(pixel=1000, values=12, width=1000, together=True)
    assert both.side(host=round(2 * both.peak(250)), device=2**60) == 250
    assert both.side(host=-5, device=2**60) == 0


def test_what_the_caller_holds_of_the_result_is_left(monkeypatch):
    image = torch.rand(1, 3, 700, 500)
    monkeypatch.setattr(tile_memory, "free_memory", lambda device: 400 * MIB)
    sides = [largest_tile(hungry, image, overlap=32, held=held) for held in (0, 300 * MIB, 500 * MIB)]
    assert sides[0] > 1.5 * sides[1] > 1.5 * sides[2] == 1.5 * 33


def test_without_memory_tiles_are_as_small_as_they_can_be():
    assert largest_tile(hungry, torch.rand(1, 3, 200, 300), overlap=20, multiple_of=16, free=0) == 48


def test_a_network_that_needs_next_to_nothing():
    assert largest_tile(lambda x: x, torch.rand(1, 3, 200, 300), overlap=0, free=2 * 24 * 400**2) <= 400


def test_small_images_are_measured_whole():
    image = torch.rand(1, 3, 40, 300)
    seen = []
    largest_tile(lambda x: seen.append(x.shape) or hungry(x), image, overlap=32, multiple_of=16, free=MIB)
    assert set(seen) == {(1, 3, 48, 128)}


def test_the_restored_image_takes_its_part(monkeypatch):
    image = torch.rand(1, 3, 700, 500)
    monkeypatch.setattr(tile_memory, "free_memory", lambda device: 4 * 4 * image.numel() + 100)
    assert largest_tile(hungry, image, overlap=32) == 33


def test_free_memory_of_the_host():
    available = bytes_of("/proc/meminfo", "MemAvailable")
    assert 0 < free_memory(CPU) < 1.1 * available


def test_a_limit_of_the_process_counts(monkeypatch):
    size = bytes_of("/proc/self/status", "VmSize")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (size + 64 * MIB, resource.RLIM_INFINITY))
    assert 32 * MIB < free_memory(CPU) < 96 * MIB
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    assert free_memory(CPU) > 96 * MIB


@pytest.mark.parametrize(
    ("line", "folder", "limit", "usage"),
    [
        ("0::/jobs/7", "v2/jobs/7", "memory.max", "memory.current"),
        ("0::/jobs/7", "v2/jobs", "memory.max", "memory.current"),
        ("0::/not/seen/in/the/container", "v2", "memory.max", "memory.current"),
        ("4:cpu,memory:/jobs/7", "v1/jobs/7", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
    ids=["version 2", "of a parent", "inside a container", "version 1"],
)
def test_a_limit_of_the_container_counts(tmp_path, monkeypatch, line, folder, limit, usage):
    kinds = [
        ("", "v2", "memory.max", "memory.current"),
        ("memory", "v1", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ]
    monkeypatch.setattr(tile_memory, "_CGROUPS", [(kind, str(tmp_path / root), *names) for kind, root, *names in kinds])
    monkeypatch.setattr(tile_memory, "_OWN_CGROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text(f"9:pids:/x\n{line}\n")
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / usage).write_text(f"{5 * MIB}\n")
    (tmp_path / folder / limit).write_text(f"{12 * MIB}\n")
    assert free_memory(CPU) == 7 * MIB
    (tmp_path / folder / limit).write_text("max\n" if limit == "memory.max" else f"{2**62}\n")
    assert free_memory(CPU) > 7 * MIB


@pytest.mark.parametrize("error", [TypeError("LoadLibrary() argument 1 must be str, not None"), OSError("no dlopen")])
def test_a_system_without_a_library_of_the_process_itself(monkeypatch, error):
    def refuse(name):
        raise error

    monkeypatch.setattr(tile_memory.ctypes, "CDLL", refuse)
    tile_memory._give_back_unused()


def test_a_sandbox_that_tells_only_some(tmp_path, monkeypatch):
    (tmp_path / "status").write_text("Name: python\n")
    with pytest.raises(OSError, match="has no VmHWM"):
        tile_memory._kib(str(tmp_path / "status"), "VmHWM")


def test_a_system_that_does_not_tell(monkeypatch):
    def refuse(*args):
        raise FileNotFoundError(2, "No such file", "/proc/meminfo")

    monkeypatch.setattr(tile_memory, "_kib", refuse)
    with pytest.raises(UserError, match=r"val\.tile: auto cannot .*/proc/meminfo.*give a number of pixels"):
        free_memory(CPU)
    with pytest.raises(UserError, match=r"val\.tile: auto cannot measure memory"):
        peak_memory(lambda: None, CPU)


FAULTS = """
import ctypes, resource
from semanir_plugin.inference.tile_memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(48 << 20)
    ctypes.memset(block, 1, 48 << 20)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = [faults(), faults()]
keep_freed_memory()
faults()
print(min(before), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves")
def test_freed_memory_is_kept_for_the_next_tile():
    before, kept = map(int, measure_alone("-c", FAULTS, environment={}).split())
    assert before > 20, "pages, perhaps of 2 MiB"
    assert kept < before / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves")
def test_what_the_environment_says_of_freed_memory_holds():
    before, after = map(int, measure_alone("-c", FAULTS).split())
    assert after > before / 2
