"""The page in a real browser, served by `basicsr web`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from semanir_plugin.cli import main
from semanir_plugin.web.batch import ARROW, TIMES
from tests.conftest import ROOT

pytest.importorskip("gradio", reason="gradio is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`basicsr web` at any port: its address, its process, and the folder that it keeps files in."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "secret.txt").write_text("secret")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "semanir_plugin.cli", "web", "--port", "0"]
    command += ["--max-pixels", "20000", "--max-upload", "1"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = [process.stdout.readline() for _ in range(2)]
    assert lines[1].startswith("http://127.0.0.1:"), (lines, process.poll() and process.stderr.read())
    yield lines[1].split()[0], process, folder
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def opened(server, browser, tmp_path_factory):
    """The page, once it can be used; downloads go to a folder."""
    folder = tmp_path_factory.mktemp("downloads")
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    browser.get_log("browser")
    browser.get(server[0])
    until(lambda: find(browser, "#restore").is_displayed())
    return browser, folder


def find(browser, selector):
    return browser.find_element("css selector", selector)


def click(browser, selector):
    """Click an element as soon as it stays in one place: those above it change their height when a picture is shown."""
    until(lambda: [find(browser, selector).click()])


def until(condition, seconds=40):
    """Wait for something to be true, whatever it raises before."""
    end, failed = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if result := condition():
                return result
        except Exception as error:  # an element is not there yet, or no longer the same
            failed = error
        time.sleep(0.1)
    raise AssertionError("it did not come true in time") from failed


def drop(browser, *paths):
    """Have exactly these files chosen."""
    clear = "#pictures button[aria-label='Clear']"
    if browser.find_elements("css selector", clear):
        click(browser, clear)
    until(lambda: find(browser, "#pictures input[type=file]")).send_keys("\n".join(map(str, paths)))
    until(lambda: all(path.name in names(browser) for path in paths))


def names(browser):
    """Return the names of the chosen files, of which the page has stems and endings apart."""
    return find(browser, "#pictures").text.replace("\n", "")


def test_a_photograph_is_restored_as_by_the_command(opened, tmp_path, photos):
    browser, downloads = opened
    photo = tmp_path / "my cat.png"
    cv2.imwrite(str(photo), cv2.imread(str(photos["chelsea.png"]))[60:130, 80:180])
    drop(browser, photo)
    click(browser, "#restore")
    until(lambda: "my cat.png" in find(browser, "#download").text)
    assert f"100 {TIMES} 70 {ARROW} 400 {TIMES} 280 pixels" in find(browser, "#result").text
    widths = "return [...document.querySelectorAll('#slider img')].map(each => each.naturalWidth)"
    until(lambda: browser.execute_script(widths) == [400, 400])
    click(browser, "#download")
    until(lambda: [path for path in downloads.iterdir() if path.suffix == ".png"])
    assert main(["restore", str(photo), "-o", str(tmp_path / "by_command.png"), "--model", "semanir-mini-x4-real"]) == 0
    (downloaded,) = downloads.iterdir()
    assert downloaded.name == "my cat.png"
    np.testing.assert_array_equal(cv2.imread(str(downloaded), -1), cv2.imread(str(tmp_path / "by_command.png"), -1))
    assert downloaded.read_bytes() == (tmp_path / "by_command.png").read_bytes()


def test_what_cannot_be_restored_is_a_line(opened, tmp_path):
    browser, _ = opened
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((200, 200, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    drop(browser, tmp_path / "large.png", tmp_path / "broken.png")
    click(browser, "#restore")
    told = until(lambda: find(browser, "#problems").text)
    assert "large.png: has 40,000 pixels; at most 20,000 are restored here" in told
    assert "broken.png: " in told
    assert len(told.splitlines()) == 2


def test_the_example_changes_with_the_network(opened):
    browser, _ = opened
    click(browser, "#offer label[data-testid='Remove noise-radio-label']")
    until(lambda: "grain" in find(browser, "#about").text)
    click(browser, "#example")
    until(lambda: names(browser).count("example.png") == 1)
    click(browser, "#restore")
    # The limit of this server is for its own example too.
    until(lambda: "example.png: has 129,024 pixels" in find(browser, "#problems").text)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_can_be_read(opened, width, theme):
    browser, _ = opened
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        contrast = "const at = (e, p) => getComputedStyle(e)[p].match(/[0-9.]+/g).slice(0, 3).map(Number);"
        contrast += "const l = c => c.map(v => (v /= 255) <= .04 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)"
        contrast += ".reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);"
        contrast += (
            "const a = l(at(document.querySelector('#about p'), 'color')), b = l(at(document.body, 'backgroundColor'));"
        )
        contrast += "return (Math.max(a, b) + .05) / (Math.min(a, b) + .05)"
        until(lambda: browser.execute_script(contrast) > 4.5)
        dark = "return document.body.classList.contains('dark') || !!document.querySelector('.dark')"
        until(lambda: browser.execute_script(dark) == (theme == "dark"))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_nothing_comes_from_elsewhere(opened, server):
    browser, _ = opened
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert len(loaded) > 10
    assert [url for url in loaded if not url.startswith((server[0], "data:", "blob:"))] == []
    told = [entry["message"] for entry in browser.get_log("browser")]
    assert [line for line in told if "Content Security Policy" in line or "ERR_" in line] == []


def get(address, path, **headers):
    host, _, port = address.removeprefix("http://").rstrip("/").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file={folder}/secret.txt",
        "/gradio_api/file=secret.txt",
        "/gradio_api/file={own}/../secret.txt",
        "/gradio_api/file={own}/%2e%2e/secret.txt",
        "/gradio_api/file=/etc/passwd",
        "/file=/etc/passwd",
        "/static/../../../../../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/%2e%2e%2f%2e%2e%2froutes.py",
        "/gradio_api/file=http://127.0.0.1:9/",
        "/monitoring",
    ],
)
def test_no_files_but_its_own(server, path):
    address, _, folder = server
    (own,) = folder.glob("semanir_web_*")
    status, body = get(address, path.format(folder=folder, own=own))
    assert status in (403, 404)
    assert b"secret\n" not in body
    assert b"root:" not in body


def join(address, offer):
    """Ask for something to be restored; return the answer's status."""
    host, _, port = address.removeprefix("http://").rstrip("/").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", "/config")
    functions = json.loads(connection.getresponse().read())["dependencies"]
    number = next(each["id"] for each in functions if len(each["inputs"]) == 5)
    said = {"data": [[], offer, 1, "auto", False], "fn_index": number, "session_hash": "abc"}
    connection.request("POST", "/gradio_api/queue/join", json.dumps(said), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_nothing_that_is_asked_for_copies_a_file_from_elsewhere(server):
    """Nor is anything of it logged, as the last test sees."""
    address, _, folder = server
    assert join(address, {"path": str(folder / "secret.txt"), "meta": {"_type": "gradio.FileData"}}) == 403
    assert join(address, "no such network") == 200
    assert get(address, "/gradio_api/queue/data?session_hash=abc")[0] == 200
    assert not list(folder.glob("semanir_web_*/**/secret.txt"))


def test_other_computers_names_and_large_files(server):
    address, _, folder = server
    assert get(address, "/", Host="evil.example")[0] == 403
    boundary, content = "x", b"0" * (2 << 20)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    host, _, port = address.removeprefix("http://").rstrip("/").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request(
        "POST", "/gradio_api/upload", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    assert connection.getresponse().status == 413
    assert not [path for path in folder.rglob("*.png") if path.stat().st_size >= len(content)]


def test_a_port_that_is_taken_is_one_line(server, capsys):
    port = server[0].rstrip("/").rpartition(":")[2]
    assert main(["web", "--port", port]) == 2
    assert capsys.readouterr().err == (
        f"basicsr web: cannot listen at 127.0.0.1:{port}: the port is taken; name another, or leave --port out\n"
    )


def test_nothing_is_left_when_it_ends(server):
    """The last one: it ends the server."""
    _, process, folder = server
    assert list(folder.glob("semanir_web_*"))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "stopped\n", "")
    assert not list(folder.glob("semanir_web_*"))
