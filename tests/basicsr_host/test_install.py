"""BasicSR's wheel, built of its source with the set-up repaired."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.metadata
import io
import subprocess
import tarfile
import threading
import zipfile

import pytest

from semanir_plugin.basicsr_host import install

# BasicSR's set-up as far as it is repaired; what it lists is never built.
SETUP = """
from setuptools import setup

version_file = 'basicsr/version.py'

def get_version():
    with open(version_file, 'r') as f:
        exec(compile(f.read(), version_file, 'exec'))
    return locals()['__version__']

if __name__ == '__main__':
    setup(
        name='basicsr',
        version=get_version(),
        packages=['basicsr'],
        setup_requires=['cython', 'numpy', 'torch'],
        install_requires=open('requirements.txt').read().split(),
    )
"""
SOURCE = {
    "setup.py": SETUP,
    "requirements.txt": "numpy\ntb-nightly\ntorch",
    "setup.cfg": "[egg_info]\ntag_build = \ntag_date = 0\n",
    "basicsr/__init__.py": "",
    "basicsr/version.py": "__version__ = '1.4.2'",
}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def sdist(tmp_path, monkeypatch):
    """Puts a source of the given files into an index that pip is configured for, in an empty working directory."""
    index = tmp_path / "index" / "basicsr"
    index.mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def write(files):
        with tarfile.open(index / install.SDIST, "w:gz") as archive:
            for name, text in files.items():
                info = tarfile.TarInfo(f"basicsr-1.4.2/{name}")
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
        content = (index / install.SDIST).read_bytes()
        links = f'<a href="basicsr-1.4.1.tar.gz">1</a><a href="{install.SDIST}#sha256=x">2</a>'
        (index / "index.html").write_text(links)
        monkeypatch.setattr(install, "SHA256", hashlib.sha256(content).hexdigest())
        return index / install.SDIST

    handler = functools.partial(QuietHandler, directory=tmp_path / "index")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
        yield write
        server.shutdown()
        thread.join()


def test_installed_basicsr_is_the_repaired_one():
    """That of `.venv`, which scripts/bootstrap.py built of PyPI's source."""
    basicsr = importlib.metadata.distribution("basicsr")
    assert basicsr.version == "1.4.2+semanir"
    assert {"tensorboard", "torch>=1.7"} <= set(basicsr.requires)
    assert not install.is_installed("tb-nightly")


def test_wheel_is_built_of_the_repaired_source(sdist, tmp_path):
    sdist(SOURCE)
    wheel = install.build_wheel(tmp_path / "wheels", isolated=False)
    assert wheel.name == "basicsr-1.4.2+semanir-py3-none-any.whl"
    metadata = zipfile.ZipFile(wheel).read("basicsr-1.4.2+semanir.dist-info/METADATA").decode()
    assert [line for line in metadata.splitlines() if line.startswith("Requires-Dist")] == [
        f"Requires-Dist: {name}" for name in ("numpy", "tensorboard", "torch")
    ]


def test_source_in_the_working_directory_is_taken(sdist, tmp_path, monkeypatch):
    sdist(SOURCE).rename(install.SDIST)
    monkeypatch.setattr(install, "urlopen", None)
    assert (install.unpack_source(tmp_path) / "setup.py").read_text() == SETUP


@pytest.mark.parametrize("wrong", sorted({name for name, _, _ in install.REPAIRS}))
def test_another_source_is_not_built(sdist, tmp_path, wrong):
    sdist({**SOURCE, wrong: "x"})
    with pytest.raises(install.InstallError, match=rf"basicsr-1.4.2.tar.gz: {wrong} has not '.*' once"):
        install.build_wheel(tmp_path)


def test_what_the_user_must_mend_is_one_line_and_exit_code_2(sdist, capfd):
    assert install.main([]) == 2
    sdist(SOURCE).write_bytes(b"tampered with")
    assert install.main([]) == 2
    lacking, tampered = capfd.readouterr().err.splitlines()
    assert lacking == (
        "error: cannot download basicsr-1.4.2.tar.gz: the package index lacks it; "
        "put the file into this folder and run again"
    )
    assert tampered.startswith("error: basicsr-1.4.2.tar.gz is not what PyPI has under this name: its SHA-256 is not")


def test_arguments_are_pips_and_tb_nightly_goes_first(sdist, monkeypatch):
    sdist(SOURCE)
    calls = []
    monkeypatch.setattr(install, "pip", lambda *words: calls.append(words))
    monkeypatch.setattr(install, "build_wheel", lambda folder, isolated: calls.append(isolated))
    monkeypatch.setattr(install, "is_installed", {"tb-nightly": True}.get)
    assert install.main(["--no-build-isolation", "--user"]) == 0
    isolated, uninstalled, (*words, _, requirement) = calls
    assert not isolated
    assert uninstalled == ("uninstall", "--yes", "tb-nightly", "tensorboard")
    assert (*words, requirement) == ("install", "--user", "--find-links", "basicsr==1.4.2+semanir")


def test_exit_code_is_pips(sdist, monkeypatch):
    sdist(SOURCE)

    def fail(*words):
        raise subprocess.CalledProcessError(7, "pip")

    monkeypatch.setattr(install, "pip", fail)
    assert install.main([]) == 7
