from __future__ import annotations

import logging

import cv2
import pytest
import torch

from semanir_plugin.archs import NetworkDescriptor
from semanir_plugin.archs.semanir_arch import SemanIR
from semanir_plugin.blocks import SizeRequirements
from semanir_plugin.inference import restoration
from semanir_plugin.inference.reduced_precision import reduced_precision
from semanir_plugin.inference.restoration import Restoration, RestorationOptions
from semanir_plugin.schema.declarations import value_problems
from tests.conftest import TINY_NETWORK

EIGHTS = NetworkDescriptor(size=SizeRequirements(multiple_of=8), topk=(12,))


def restoring(**options):
    return Restoration(descriptor=EIGHTS, options=RestorationOptions(**options))


@pytest.fixture(scope="module")
def photo(photos) -> torch.Tensor:
    """(1, 3, 61, 146) in [0, 1]."""
    image = cv2.imread(str(photos["astronaut.png"]))[60:121, 150:296, ::-1]
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return SemanIR(upscale=2, upsampler="pixelshuffledirect", **TINY_NETWORK).eval()


def test_a_network_is_given_what_it_takes(net, photo):
    seen = []
    output = Restoration(descriptor=EIGHTS).restore(lambda x: seen.append(x.shape) or net(x), photo)
    assert seen == [(1, 3, 64, 152)]
    assert output.shape == (1, 3, 122, 292)
    torch.testing.assert_close(output, net(photo).detach())


@pytest.mark.parametrize("self_ensemble", [False, True])
def test_tiles_are_blended_into_the_whole(net, photo, self_ensemble):
    photo = photo[..., :56, :144]  # multiples of 8, or windows of a flipped whole and of flipped tiles would differ
    whole = restoring(self_ensemble=self_ensemble).restore(net, photo)
    tiled = restoring(self_ensemble=self_ensemble, tile=64).restore(net, photo)
    assert tiled.shape == whole.shape == (1, 3, 112, 288)
    assert 0 < (tiled - whole).abs().max() < 0.3 * whole.std()
    assert not tiled.requires_grad


def test_the_ensemble_is_of_each_tile(net, photo):
    seen = []
    restoring(self_ensemble=True, tile=56, tile_overlap=16).restore(
        lambda x: seen.append(x.shape[-2:]) or net(x), photo
    )
    assert set(seen) == {(56, 40), (40, 56)}
    assert len(seen) == 8 * 2 * 4


@pytest.mark.parametrize("self_ensemble", [False, True])
@pytest.mark.parametrize(("tile", "tiles"), [(None, 1), (64, 4)])
def test_rows_are_those_of_the_whole_and_progress_is_by_tiles(net, photo, self_ensemble, tile, tiles):
    told = [], []
    ways = restoring(self_ensemble=self_ensemble, tile=tile)
    whole = ways.restore(net, photo, progress=lambda *each: told[0].append(each))
    bands = ways.restore_in_rows(net, photo, device="cpu", progress=lambda *each: told[1].append(each))
    assert torch.equal(torch.cat(list(bands), dim=-2), whole)
    assert told[0] == told[1] == [(done, tiles) for done in range(1, tiles + 1)]


def test_precision_is_that_of_passes(net, photo):
    restored = Restoration(descriptor=EIGHTS, precision=torch.bfloat16).restore(net, photo)
    with reduced_precision(net, "cpu", torch.bfloat16):
        torch.testing.assert_close(restored, Restoration(descriptor=EIGHTS).restore(net, photo), rtol=0, atol=0)
    assert not torch.equal(restored.float(), Restoration(descriptor=EIGHTS).restore(net, photo))


def test_keys_per_query(net, photo):
    few, many = (restoring(topk=topk, tile=64).restore(net, photo) for topk in (3, 12))
    assert not torch.allclose(few, many)
    torch.testing.assert_close(many, restoring(tile=64).restore(net, photo))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, None),
        ({"topk": 0}, "topk must be a whole number of at least 1"),
        ({"tile": 64, "tile_overlap": -1}, "tile_overlap must be"),
        ({"tile_overlap": 32}, "tile_overlap needs tile: a number, or auto"),
        ({"tile": "auto", "tile_overlap": 32}, None),
        (
            {"tile": 32},
            "a tile of 32 leaves no room beside an overlap of 32; use 33, better 66, or a smaller tile_overlap",
        ),
        (
            {"tile": 32, "tile_overlap": 64},
            "a tile of 32 leaves no room beside an overlap of 64; use 65, better 130, or a smaller tile_overlap",
        ),
        ({"tile": 1, "tile_overlap": 0}, None),
    ],
    ids=str,
)
def test_options_that_contradict_one_another(options, told):
    chosen = RestorationOptions(**options)
    problems = [*value_problems(chosen), *chosen.problems()]
    assert len(problems) == (1 if told else 0)
    assert all(problem.startswith(told) and option in problem for option, problem in problems)


@pytest.mark.parametrize(
    ("options", "descriptor", "told"),
    [
        ({"topk": 3}, NetworkDescriptor(), "topk is for networks that choose keys, which Net does not; leave it out"),
        (
            {"tile": 32},
            EIGHTS,
            "a tile of 32 leaves no room beside an overlap of 32; use 33, better 66, or a smaller tile_overlap",
        ),
        ({"tile": 33, "topk": 3}, EIGHTS, None),
        (
            {"tile": 40, "tile_overlap": 33},
            EIGHTS,
            "a tile of 40 leaves no room beside an overlap of 33; use 41, better 82, or a smaller tile_overlap",
        ),
    ],
    ids=str,
)
def test_options_that_do_not_go_with_a_network(options, descriptor, told):
    assert [told for _, told in RestorationOptions(**options).problems_with(descriptor, "Net")] == [told][: bool(told)]


def test_a_tile_with_the_least_room_restores(net, photo):
    restoring(tile=33).restore(net, photo[..., :8, :8])


def test_the_tile_is_chosen_once_and_for_images_that_are_not_small(net, photo, monkeypatch, caplog):
    chosen = []

    def choose(forward, image, *, overlap, multiple_of, device, held):
        chosen.append((image.shape, overlap, multiple_of))
        return 64

    monkeypatch.setattr(restoration, "largest_tile", choose)
    ways, seen = restoring(tile="auto", tile_overlap=24), []
    with caplog.at_level(logging.INFO, "semanir_plugin"):
        for image in (photo[..., :128], photo, photo):
            ways.restore(lambda x: seen.append(x.shape[-2:]) or net(x), image)
    assert chosen == [(photo.shape, 24, 8)]
    assert seen == [(64, 128), *[(64, 56)] * 8]
    assert caplog.messages == ["val.tile: auto; tiles of up to 64 pixels fit into free memory."]


def test_a_chosen_tile_restores(net, photo):
    torch.testing.assert_close(restoring(tile="auto").restore(net, photo), net(photo).detach())
