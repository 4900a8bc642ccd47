"""The page as it is built, without a browser."""

from __future__ import annotations

import asyncio

import pytest

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.errors import UserError
from semanir_plugin.web.offers import Offer
from semanir_plugin.web.page import build_page
from semanir_plugin.web.workshop import Workshop

pytest.importorskip("gradio", reason="gradio is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    offers = [
        Offer("With keys", "Chooses keys.", "a.pth", descriptor=NetworkDescriptor(topk=(16, 64))),
        Offer("Without", "<b>Bold</b>", "folder/b.pth"),
    ]
    return build_page(Workshop(offers, tmp_path_factory.mktemp("web"), most_pixels=1), local=True, measurable=False)


def component(page, name):
    return next(block for block in page.blocks.values() if getattr(block, "elem_id", None) == name)


def test_addresses_are_not_fetched(page):
    pictures = component(page, "pictures")
    for address in ("http://127.0.0.1:9/a.png", "https://example.com/a.png", "file:///etc/passwd"):
        with pytest.raises(UserError, match="addresses are not fetched"):
            asyncio.run(pictures.async_move_resource_to_block_cache(address))


def test_it_tells_nobody_of_itself(page):
    assert page.analytics_enabled is False
    assert all(
        function.api_visibility == "private" for function in page.fns.values() if function.targets[0][1] != "unload"
    )


def test_networks_are_described_in_text(page):
    assert component(page, "about").value == "<p>Chooses keys. <code>a.pth</code></p>"
    (choose,) = [function.fn for function in page.fns.values() if function.name == "choose"]
    about, topk = choose("Without")
    assert about == "<p>&lt;b&gt;Bold&lt;/b&gt; <code>b.pth</code></p>"
    assert topk.visible is False
    assert choose("With keys")[1].value == 64
