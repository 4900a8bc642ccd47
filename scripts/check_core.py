"""Tests the core as one gets it who has no BasicSR: a wheel, on the newest Python that is here, in an empty folder.

The core must not need BasicSR, nor what else scripts/test.py installs. The environment is `.venv-core`, with what the
core requires and pytest. Where there is no Python 3.13 or later, it says so and ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bootstrap import CONSTRAINTS, ROOT, TORCH_CPU_INDEX, Environment, SetupError, create, read_pins, runs

VENV = ROOT / ".venv-core"
LEAST = (3, 13)
MINORS = range(19, 12, -1)


def main() -> int:
    """Build, install and test; return the exit code."""
    python = next(newest_pythons(), None)
    if python is None:
        print("no Python 3.13 or later here: the core is tested on the Python of scripts/test.py alone")
        return 0
    print(f"== the core from its wheel, on {python}", flush=True)
    try:
        venv = install(python)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return test(venv)


def newest_pythons() -> Iterator[str]:
    """Yield the interpreters from Python 3.13 on, the newest first; pyenv's also where it hides them."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for minor in MINORS:
        on_path = (shutil.which(f"python3.{minor}", path=folder) for folder in os.get_exec_path())
        hidden = (str(path) for path in sorted(pyenv.glob(f"3.{minor}.*/bin/python3.{minor}")))
        check = f"import sys, ensurepip; sys.exit(sys.version_info[:2] != (3, {minor}))"
        yield from (each for each in (*on_path, *hidden) if each and runs(each, "-c", check))


def install(python: str) -> Environment:
    """Return an environment with the wheel of this repository, made anew but for what it requires."""
    venv = Environment(VENV)
    if (venv.version() or (0, 0)) < LEAST:
        create(venv, python)
    venv.discard_partial()
    if venv.torch() is None:
        install_torch(venv)
    venv.pip_install("setuptools", "wheel", "pytest")
    with tempfile.TemporaryDirectory() as folder:
        venv.pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, str(ROOT))
        (wheel,) = Path(folder).glob("*.whl")
        venv.pip_install("--force-reinstall", "--no-deps", str(wheel))
        venv.pip_install(f"{wheel}[plots]")  # and what it requires
    return venv


def install_torch(venv: Environment) -> None:
    """Install torch for the CPU; from PyPI, whose build brings CUDA's libraries, where it cannot be had elsewhere."""
    pin = f"torch=={read_pins(CONSTRAINTS, LEAST)['torch']}"
    try:
        venv.pip_install("--extra-index-url", TORCH_CPU_INDEX, f"{pin}+cpu")
    except SetupError:
        venv.pip_install(pin)


def test(venv: Environment) -> int:
    """Run the core's tests away from the repository, on what was installed."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "tests" / "test_core.py", folder)
        shutil.copy(ROOT / "docs" / "images" / "semanir_mini_x4.jpg", folder)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [str(venv.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_core.py"]
        return subprocess.run(command, cwd=folder, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
