"""What `basicsr web` says before it serves anything."""

from __future__ import annotations

import socket
import sys

import pytest

from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.web import server


def test_without_gradio_one_line_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["web"]) == 2
    expected = "basicsr web: basicsr web needs the package gradio: pip install 'semanir_plugin[web]'\n"
    assert capsys.readouterr().err == expected.replace("basicsr web: basicsr web", "basicsr web: the page")


def test_the_first_free_port_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(server, "FIRST_PORT", port)
        with server._listening("127.0.0.1", None) as opened:
            assert port < opened.getsockname()[1] < port + server.TRIED
        monkeypatch.setattr(server, "TRIED", 1)
        all_taken = pytest.raises(UserError, match="are all taken; name another: --port")
        with all_taken, server._listening("127.0.0.1", None):
            pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_here(host, capsys):
    with pytest.raises(UserError, match="name an address of this computer: --host"), server._listening(host, 0):
        pass
