"""Install BasicSR, built from its source with what is wrong with its set-up repaired.

    python -m semanir_plugin.basicsr_host.install [--no-build-isolation] [what pip install takes]

PyPI has BasicSR 1.4.2 as source only. Its setup.py fails on Python 3.13 and later, and asks for the whole of PyTorch to
build what is Python alone; its requirements name a TensorBoard that does not start. The wheel built here says so by its
version, 1.4.2+semanir. This file imports the standard library only, and runs where nothing else is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

__all__ = ["InstallError", "build_wheel"]

SDIST = "basicsr-1.4.2.tar.gz"
SHA256 = "b89b595a87ef964cda9913b4d99380ddb6554c965577c0c10cb7b78e31301e87"
REQUIREMENT = "basicsr==1.4.2+semanir"

# File of the source, what is wrong in it, and what stands there instead.
REPAIRS = (
    # Since Python 3.13, `exec` no longer leaves what it defines in `locals()`.
    ("setup.py", "version_file, 'exec'))", "version_file, 'exec'), globals())"),
    ("setup.py", "return locals()", "return globals()"),
    # The CUDA extensions alone need them, which are not built.
    ("setup.py", "setup_requires=['cython', 'numpy', 'torch'],", ""),
    # The last tb-nightly imports pkg_resources, which setuptools no longer has; its files are tensorboard's.
    ("requirements.txt", "tb-nightly", "tensorboard"),
    ("setup.cfg", "tag_build = ", "tag_build = +semanir"),
)


class InstallError(Exception):
    """Error that stops the installation: its cause and remedy, in one line."""


def main(arguments: Sequence[str]) -> int:
    """Build the wheel and install it with what it requires; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m semanir_plugin.basicsr_host.install",
        description=__doc__.partition("\n")[0],
        epilog="Other arguments go to pip install.",
    )
    parser.add_argument("--no-build-isolation", action="store_true", help="build with the setuptools that is installed")
    options, for_pip = parser.parse_known_args(arguments)
    try:
        install(for_pip, isolated=not options.no_build_isolation)
    except (InstallError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:  # pip has said why
        return error.returncode
    return 0


def install(for_pip: Sequence[str], isolated: bool) -> None:
    """Build the wheel in a temporary folder, and have pip install it from there."""
    with tempfile.TemporaryDirectory() as folder:
        build_wheel(Path(folder), isolated)
        if is_installed("tb-nightly"):  # removing it later would take tensorboard's files away
            pip("uninstall", "--yes", "tb-nightly", "tensorboard")
        pip("install", *for_pip, "--find-links", folder, REQUIREMENT)


def build_wheel(folder: Path, isolated: bool = True) -> Path:
    """Build the repaired BasicSR's wheel, which suits every Python and system.

    Args:
        folder: Where the wheel is put.
        isolated: Whether pip downloads setuptools for it; else that of this environment builds it.

    Raises:
        InstallError: The source cannot be had, or is another than that of BasicSR 1.4.2.
        CalledProcessError: pip failed, and has said why.
    """
    with tempfile.TemporaryDirectory() as temporary:
        source = unpack_source(Path(temporary))
        repair(source)
        flags = ["--no-deps"] if isolated else ["--no-deps", "--no-build-isolation"]
        pip("wheel", *flags, "--wheel-dir", str(folder), str(source))
    return next(folder.glob("basicsr-*.whl"))


def unpack_source(folder: Path) -> Path:
    """Unpack the source that lies in the working directory, or is downloaded, and return its folder."""
    here = Path(SDIST)
    content = here.read_bytes() if here.is_file() else download()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InstallError(f"{SDIST} is not what PyPI has under this name: its SHA-256 is not {SHA256}; remove it")
    archive = folder / SDIST
    archive.write_bytes(content)
    shutil.unpack_archive(archive, folder)
    return folder / SDIST.removesuffix(".tar.gz")


def download() -> bytes:
    """Download the source from the index that pip uses; pip itself would run its setup.py at once."""
    try:
        with urlopen(f"{find_index()}/basicsr/", timeout=60) as page:
            links = re.findall(r'href="([^"]+)"', page.read().decode())
            link = next(link for link in links if f"/{SDIST}" in f"/{link}")
            address = urljoin(page.url, html.unescape(link))
        with urlopen(address, timeout=60) as file:
            result: bytes = file.read()
            return result
    except (OSError, StopIteration) as error:
        reason = "the package index lacks it" if isinstance(error, StopIteration) else error
        raise InstallError(f"cannot download {SDIST}: {reason}; put the file into this folder and run again") from error


def find_index() -> str:
    """Return the package index that pip is configured for."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return (os.environ.get("PIP_INDEX_URL") or configured or "https://pypi.org/simple").rstrip("/")


def repair(source: Path) -> None:
    """Mend the unpacked source."""
    for name, wrong, right in REPAIRS:
        path = source / name
        text = path.read_text(encoding="utf-8")
        if text.count(wrong) != 1:
            raise InstallError(f"{SDIST}: {name} has not '{wrong}' once, which is to be repaired")
        path.write_text(text.replace(wrong, right), encoding="utf-8")


def is_installed(name: str) -> bool:
    """Return whether a distribution is installed."""
    return any(True for _ in importlib.metadata.distributions(name=name))


def pip(*arguments: str) -> None:
    """Run pip; isolated (-I), lest it takes packages on PYTHONPATH for installed ones."""
    command = [sys.executable, "-I", "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
