"""What passes to the page's server, and what does not."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from semanir_plugin.web import gate as gate_module
from semanir_plugin.web.gate import Gate


async def _inner(scope, receive, send):
    body = (await receive())["body"] if scope["method"] == "POST" else b""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body or b"passed"})


def ask(gate, path, method="GET", said=b"{}", **headers):
    """Return status, body and headers of an answer."""
    sent, parts = [], [{"body": said[:9], "more_body": True}, {"body": said[9:]}]

    async def receive():
        return parts.pop(0)

    async def send(message):
        sent.append(message)

    told = [(key.encode(), value.encode()) for key, value in {"host": "127.0.0.1:7860", **headers}.items()]
    asyncio.run(gate({"type": "http", "path": path, "method": method, "headers": told}, receive, send))
    return sent[0]["status"], sent[1]["body"].decode(), dict(sent[0]["headers"])


@pytest.fixture
def gate(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "result.png").touch()
    (tmp_path / "secret.txt").touch()
    os.symlink(tmp_path / "secret.txt", tmp_path / "own" / "link.png")
    return Gate(_inner, tmp_path / "own", local=True)


@pytest.mark.parametrize(
    "path", ["/", "/config", "/assets/index.js", "/gradio_api/heartbeat/abc123", "/gradio_api/queue/data"]
)
def test_what_the_page_needs(gate, path):
    status, body, headers = ask(gate, path)
    assert (status, body) == (200, "passed")
    assert b"default-src 'self'" in headers[b"content-security-policy"], "a browser refuses what is elsewhere"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/monitoring"),
        ("GET", "/gradio_api/proxy=http://somewhere.hf.space/"),
        ("GET", "/gradio_api/vibe-code"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/component_server"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/stream/a/b/c/playlist.m3u8"),
        ("PUT", "/"),
        ("POST", "/"),
        ("GET", "/gradio_api/heartbeat/../file"),
    ],
)
def test_what_it_does_not(gate, method, path):
    assert ask(gate, path, method)[:2] == (404, "there is no such page")


def test_files_of_its_folder_alone(gate, tmp_path):
    own = tmp_path / "own"
    assert ask(gate, f"/gradio_api/file={own}/result.png")[0] == 200
    elsewhere = (
        f"{tmp_path}/secret.txt",
        f"{own}/../secret.txt",
        f"{own}/link.png",
        "../secret.txt",
        "/etc/passwd",
        "http://127.0.0.1/secret.txt",
        f"file://{tmp_path}/secret.txt",
        f"{own}",
        f"{own}/result.png\0",
        f"{own}/" + "a" * 5000,
        "",
    )
    for name in elsewhere:
        assert ask(gate, f"/gradio_api/file={name}")[:2] == (403, "this file is not served"), name


def test_names_of_other_computers(gate, tmp_path):
    assert ask(gate, "/", host="evil.example:7860")[:2] == (
        403,
        "this page is for this computer, not for evil.example:7860",
    )
    assert ask(gate, "/", host="localhost:7860")[0] == ask(gate, "/", host="[::1]:7860")[0] == 200
    assert ask(Gate(_inner, tmp_path, local=False), "/", host="box.lan:7860")[0] == 200


def test_requests_of_other_pages(gate):
    upload = "/gradio_api/upload"
    assert ask(gate, upload, "POST", origin="http://evil.example")[0] == 403
    assert ask(gate, upload, "POST", origin="null")[0] == 403
    assert ask(gate, upload, "POST", origin="http://127.0.0.1:7860")[0] == 200


def test_a_full_disk_takes_nothing_in(gate, monkeypatch):
    monkeypatch.setattr(gate_module, "LEAST_FREE", 1 << 80)
    assert ask(gate, "/gradio_api/upload", "POST")[:2] == (507, "the disk is nearly full; try again later")
    assert ask(gate, "/")[0] == 200


def test_requests_that_name_other_files_or_addresses(gate, tmp_path):
    """Gradio copies what any component is given to where it is served from, or fetches it."""

    def join(name):
        said = json.dumps({"data": [[], {"path": name, "meta": {"_type": "gradio.FileData"}}]})
        return ask(gate, "/gradio_api/queue/join", "POST", said.encode())

    own = tmp_path / "own"
    status, body, _ = join(f"{own}/result.png")
    assert (status, json.loads(body)["data"][1]["path"]) == (200, f"{own}/result.png")
    elsewhere = ("/etc/passwd", f"{own}/../secret.txt", f"{own}/link.png", f"{own}", "http://192.0.2.1/a.png", "a\0", 3)
    for name in elsewhere:
        assert join(name)[:2] == (403, "drop a file; no others are taken, and addresses are not fetched"), name
    twice = f'{{"path": "/etc/passwd", "p\\u0061th": "{own}/result.png"}}'
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/api/predict/"):
        assert ask(gate, path, "POST", twice.encode())[0] == 403


@pytest.mark.parametrize(
    ("said", "status"), [(b"", 400), (b"{", 400), (b"[" * 100_000, 400), (b" " * (1 << 20) + b"{}", 413)]
)
def test_requests_that_are_no_json_or_too_long(gate, said, status):
    assert ask(gate, "/gradio_api/queue/join", "POST", said)[0] == status
