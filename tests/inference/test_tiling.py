from __future__ import annotations

import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from semanir_plugin.archs.semanir_arch import SemanIR
from semanir_plugin.archs.semanir_unet_arch import SemanIRUNet
from semanir_plugin.inference.tile_sources import PixelSource, TensorSource
from semanir_plugin.inference.tiling import _cover, least_tile, restore_in_rows, restore_tiled
from tests.memory import measure_alone


@pytest.fixture(scope="module")
def photo(photos) -> torch.Tensor:
    """A crop of odd height and another width, (1, 3, 121, 186) in [0, 1], double precision."""
    image = cv2.imread(str(photos["coffee.png"]))[100:221, 200:386, ::-1]
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].double() / 255


def enlarge(x, scale=3):
    return x.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


class Local(nn.Module):
    """A convolutional network that looks `layers` pixels far."""

    def __init__(self, layers: int, scale: int = 1) -> None:
        super().__init__()
        convs = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(layers)]
        self.layers = nn.Sequential(*(each for conv in convs for each in (conv, nn.Tanh())))
        self.scale = scale

    def forward(self, x):
        return enlarge(self.layers(x), self.scale)


@pytest.mark.parametrize("multiple_of", [1, 8])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 16), (48, 0), (40, 32), (64, 17), (186, 8), (1000, 32), (33, 1)])
def test_tiles_cover_every_pixel_once(photo, tile, overlap, multiple_of):
    restored = restore_tiled(enlarge, photo, tile=tile, overlap=overlap, multiple_of=multiple_of, batch_size=3)
    torch.testing.assert_close(restored, enlarge(photo), rtol=0, atol=1e-12)


@pytest.mark.parametrize("overlap", [16, 24, 33])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_network_that_looks_no_further_than_a_quarter_of_the_overlap(photo, overlap, scale):
    net = Local(overlap // 4, scale).double()
    with torch.no_grad():
        whole = net(photo)
    tiled = restore_tiled(net, photo, tile=64, overlap=overlap)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)
    short = restore_tiled(net, photo, tile=64, overlap=overlap // 4)
    assert (short - whole).abs().max() > 1e-6, "or this would tell nothing"


@pytest.mark.parametrize(("depths", "overlap"), [([1], 48), ([1, 1], 96)], ids=["one stage", "shifted windows"])
def test_windows_are_those_of_the_whole_image(photo, depths, overlap):
    # A stage carries what differs at a tile's border through one window and a few pixels of convolutions.
    shape = {"embed_dim": 8, "depths": depths, "num_heads": [2] * len(depths), "window_size": 8, "topk": 12}
    net = SemanIR(upscale=2, upsampler="pixelshuffledirect", **shape).eval().double()
    with torch.no_grad():
        whole = net(photo)
    tiled = restore_tiled(net, photo, tile=120, overlap=overlap, multiple_of=8)
    assert tiled.shape == whole.shape
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-9)
    apart = restore_tiled(net, photo[..., :120, :], tile=119, overlap=overlap)
    assert (apart - whole[..., :240, :]).abs().max() > 1e-6


def test_a_u_shaped_network_agrees_within_the_tiles(photo):
    shape = {"embed_dim": 4, "depths": [1, 1], "refinement_depth": 1, "head_dim": 4, "window_sizes": [8, 4]}
    net = SemanIRUNet(**shape, topk=12, shift="none").eval().double()
    whole = net(photo).detach()
    tiled = restore_tiled(net, photo, tile=112, overlap=64, multiple_of=8)
    correction = (whole - photo).abs().mean()
    assert correction > 1e-3
    assert (tiled - whole).abs().mean() < correction / 100


def test_each_tile_decides_by_itself_which_prompts_it_takes(photo):
    shape = {"embed_dim": 4, "depths": [1, 1], "refinement_depth": 1, "head_dim": 4, "window_sizes": [8, 4]}
    net, seen = SemanIRUNet(**shape, topk=12, shift="none", prompts=3).eval().double(), []
    for parameter in net.prompts.parameters():
        parameter.data.mul_(30)
    net.prompts.weigh.register_forward_hook(lambda *given: seen.append(given[2].softmax(-1)))
    left = photo[..., :48, :48]
    both = torch.cat([left, 1 - left], dim=3)  # of two kinds
    tiled = restore_tiled(net, both, tile=48, overlap=0, multiple_of=8)
    with torch.no_grad():
        whole, alone = net(both), net(left)
    first, second, *_ = seen
    assert (first - second).abs().max() > 0.01
    torch.testing.assert_close(seen[-1], first)
    torch.testing.assert_close(tiled[..., :48], alone)
    assert (tiled - whole).abs().mean() > 0.01 * (alone - left).abs().mean(), "as the page on restoring says"


class Tilting(nn.Module):
    """Adds an error that grows towards the borders of what it is given, and is of opposite sign on opposite ones."""

    def forward(self, x):
        ramps = [torch.linspace(-1, 1, size, dtype=x.dtype) ** 5 for size in x.shape[-2:]]
        return x - (ramps[0][:, None] + ramps[1]) / 4


def test_there_is_no_seam(photo):
    flat = torch.full_like(photo, 0.5)

    def steepest(overlap):
        restored = restore_tiled(Tilting(), flat, tile=64, overlap=overlap)[..., 20:-20, 20:-20]
        return max(restored.diff(dim=dim).abs().max().item() for dim in (-1, -2))

    assert steepest(0) > 0.1
    assert steepest(32) < 0.01


@pytest.mark.parametrize(("height", "width"), [(7, 5), (1, 1), (64, 200), (65, 64)])
def test_any_size(height, width):
    image = torch.rand(2, 3, height, width)
    restored = restore_tiled(enlarge, image, tile=64, overlap=16, multiple_of=16)
    torch.testing.assert_close(restored, enlarge(image))


ENLARGE = """
import torch
from semanir_plugin.inference.tile_memory import peak_memory
from semanir_plugin.inference.tiling import restore_tiled
from tests.inference.test_tiling import Local

image, net, restored = torch.rand(1, 3, 1000, 500).repeat(1, 1, 3, 8), Local(1, scale=2), []  # 3000 x 4000

def enlarge():
    restored.append(restore_tiled(net, image, tile=256, overlap=32, multiple_of=64))

print(peak_memory(enlarge, torch.device("cpu")), *restored[0].shape)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory of the host is measured on Linux only")
def test_memory_is_that_of_one_output_and_a_row_of_tiles():
    """A photograph of 12 megapixels: 137 MiB as it is, 549 MiB enlarged; a row of tiles is 47 MiB."""
    peak, *shape = map(int, measure_alone("-c", ENLARGE).split())
    assert shape == [1, 3, 6000, 8000]
    output, row = 3 * 6000 * 8000 * 4, 3 * 512 * 8064 * 4
    assert output < peak < output + 2 * row + 64 * 2**20  # two rows where a band lives on as the next is begun
    assert peak + 3 * 3000 * 4000 * 4 < 2 * 10**9


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(("tile", "overlap", "multiple_of"), [(48, 16, 8), (40, 36, 1), (64, 0, 16), (1000, 32, 8)])
def test_bands_are_the_result_from_top_to_bottom(photo, tile, overlap, multiple_of, batch_size):
    net, how = Local(3, scale=2).double(), {"overlap": overlap, "multiple_of": multiple_of, "batch_size": batch_size}
    bands = list(restore_in_rows(net, photo, tile=tile, **how))  # kept, none may change as others come
    assert len(bands) == len(_cover(121, tile, overlap, multiple_of).starts)
    assert torch.equal(torch.cat(bands, dim=-2), restore_tiled(net, photo, tile=tile, **how))
    assert not bands[0].requires_grad


def test_bands_come_as_soon_as_their_tiles_are_restored(photo):
    calls = []
    bands = restore_in_rows(lambda x: calls.append(1) or x, photo, tile=64, overlap=16)
    assert calls == []
    next(bands)
    assert len(calls) == 5, "a row of four, and one to know that it is over"


@pytest.mark.parametrize("batch_size", [1, 4])
def test_progress_is_told_by_tiles(photo, batch_size):
    told = []
    restore_tiled(
        lambda x: x, photo, tile=64, overlap=16, batch_size=batch_size, progress=lambda *each: told.append(each)
    )
    assert told == [(done, 12) for done in range(batch_size, 13, batch_size)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("colours", [1, 3])
def test_pixels_become_floats_tile_by_tile(dtype, colours):
    whole = np.iinfo(dtype).max if dtype != np.float32 else 1
    pixels = (np.random.default_rng(0).random((70, 90, colours)) * whole).astype(dtype)[:, ::-1]
    image = torch.from_numpy(pixels.astype(np.float32) / np.float32(whole)).permute(2, 0, 1)[None]
    seen, net = [], Local(2)
    how = {"tile": 32, "overlap": 8, "multiple_of": 16}
    restored = restore_tiled(lambda x: seen.append(x.view(-1).dtype) or net(x), PixelSource(pixels, 3), **how)
    assert torch.equal(restored, restore_tiled(net, image.expand(-1, 3, -1, -1).contiguous(), **how))
    assert set(seen) == {torch.float32}


def test_only_tiles_visit_the_device(photo):
    cuts, devices = [], []

    class Counted(TensorSource):
        def cut(self, rows, columns):
            cuts.append((len(rows), len(columns)))
            return super().cut(rows, columns)

    def on_device(x):
        devices.append(x.device.type)
        return torch.zeros(x.shape)

    restored = restore_tiled(on_device, Counted(photo), tile=64, overlap=16, device="meta")
    assert (set(cuts), set(devices), restored.device.type) == ({(51, 59)}, {"meta"}, "cpu")


def test_tiles_have_one_size_and_aligned_places_and_come_in_batches():
    seen, image = [], torch.arange(200 * 136.0).view(1, 1, 200, 136)

    def record(x):
        seen.append(x)
        return x

    restore_tiled(record, image, tile=60, overlap=20, multiple_of=8, batch_size=4)
    assert [len(x) for x in seen] == [4, 4, 4, 3]
    assert {x.shape[-2:] for x in seen} == {(64, 64)}
    corners = torch.cat(seen)[:, 0, 0, 0].long()
    rows, columns = corners.div(136, rounding_mode="floor"), corners % 136
    assert sorted(set(rows.tolist())) == [0, 32, 64, 96, 136]
    assert sorted(set(columns.tolist())) == [0, 32, 72]


@pytest.mark.parametrize("multiple_of", [1, 8])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 17), (40, 24), (33, 0)])
def test_tiles_are_few_and_overlap_by_what_is_asked(tile, overlap, multiple_of):
    for size in range(1, 400):
        axis = _cover(size, tile, overlap, multiple_of)
        strides = [after - before for before, after in pairwise(axis.starts)]
        assert axis.starts[0] == 0
        assert 0 <= axis.size - size < multiple_of
        assert all(start % multiple_of == 0 for start in [*axis.starts, axis.side])
        assert all(0 < stride <= axis.side - overlap for stride in strides)
        side = -(-tile // multiple_of) * multiple_of
        assert axis.side <= min(side, axis.size)
        assert len(strides) == max(-(-(axis.size - side) // ((side - overlap) // multiple_of * multiple_of)), 0)
        smaller = axis.side - multiple_of  # would not do
        assert smaller + len(strides) * ((smaller - overlap) // multiple_of * multiple_of) < axis.size


def test_precision_is_at_least_single():
    image = torch.rand(1, 3, 40, 40)
    assert restore_tiled(lambda x: x.bfloat16(), image, tile=32, overlap=8).dtype == torch.float32
    assert restore_tiled(lambda x: x, image.double(), tile=32, overlap=8).dtype == torch.float64


def test_nothing_is_kept_for_a_backward_pass(photo):
    assert not restore_tiled(Local(2).double(), photo, tile=64, overlap=16).requires_grad


def test_channels_may_change(photo):
    assert restore_tiled(lambda x: x[:, :1], photo, tile=64, overlap=16).shape == (1, 1, 121, 186)


def test_the_image_is_left_alone(photo):
    before = photo.clone()
    restore_tiled(lambda x: x, photo, tile=1000)
    assert torch.equal(photo, before)


@pytest.mark.parametrize(
    ("tile", "overlap", "multiple_of", "least"), [(64, 32, 64, 128), (32, 32, 1, 33), (8, 1, 8, 16)]
)
def test_tiles_that_leave_no_room(photo, tile, overlap, multiple_of, least):
    assert least_tile(overlap, multiple_of) == least
    with pytest.raises(
        ValueError, match=f"tiles of {tile} pixels cannot overlap by {overlap}: they need {least} pixels"
    ):
        restore_tiled(enlarge, photo[..., :8, :8], tile=tile, overlap=overlap, multiple_of=multiple_of)
    restore_tiled(enlarge, photo[..., :50, :40], tile=least, overlap=overlap, multiple_of=multiple_of)


@pytest.mark.parametrize("wrong", [lambda x: x[..., ::2], lambda x: x[..., :-1, :-1], lambda x: enlarge(x)[..., :-3]])
def test_what_is_no_enlargement_is_told(photo, wrong):
    with pytest.raises(ValueError, match=r"a tile of 51 x 59 became \d+ x \d+, which is no whole multiple"):
        restore_tiled(wrong, photo, tile=64, overlap=16)
