"""Build the package and use it as one gets it: a wheel, on the newest Python that is here, in an empty folder.

First alone: the core must need neither BasicSR nor a compiler, nor what else scripts/test.py installs. Then with
BasicSR, which trains two iterations. The environment is `.venv-core`. Where there is no Python 3.13 or later, it says
so and ends.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bootstrap import (
    CONSTRAINTS,
    ROOT,
    TORCH_CPU_INDEX,
    Environment,
    SetupError,
    create,
    read_pins,
    run_in_venv,
    runs,
)
from build_wheels import BASELINES, BuildError, build, check

VENV = ROOT / ".venv-core"
LEAST = (3, 13)
MINORS = range(19, 12, -1)
PHOTOGRAPH = ROOT / "docs" / "images" / "semanir_mini_x4.jpg"

TRAINING = """\
base: train_SemanIR_mini_SRx4.yml
name: two_iterations
datasets:
  train: {type: BicubicSRDataset, dataroot_gt: photographs, io_backend: {type: disk}, gt_size: 64,
          use_hflip: true, use_rot: true, batch_size_per_gpu: 2}
  val: ~
train: {total_iter: 2, warmup_iter: -1}
logger: {print_freq: 1, use_tb_logger: false}
"""


def main() -> int:
    """Build, install and try; return the exit code."""
    run_in_venv(tests=True)
    python = next(newest_pythons(), None)
    if python is None:
        print("no Python 3.13 or later here: the package is tested on the Python of scripts/test.py alone")
        return 0
    print(f"== the package from its wheel, on {python}", flush=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return try_package(python, Path(folder))
    except (SetupError, BuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def try_package(python: str, folder: Path) -> int:
    """Build it in a folder, and try what was built."""
    wheels = folder / "wheels"
    check(build(wheels, [machine for machine in BASELINES if machine == platform.machine()]))
    venv = install(python, wheels)
    code = test(venv)
    if code == 0:
        venv.run(str(venv.python), "-m", "semanir_plugin.basicsr_host.install", *venv.pinned)
        venv.pip_install("--find-links", str(wheels), "semanir_plugin[basicsr]")
        code = train(venv)
    return code


def newest_pythons() -> Iterator[str]:
    """Yield the interpreters from Python 3.13 on, the newest first; pyenv's also where it hides them."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for minor in MINORS:
        on_path = (shutil.which(f"python3.{minor}", path=folder) for folder in os.get_exec_path())
        hidden = (str(path) for path in sorted(pyenv.glob(f"3.{minor}.*/bin/python3.{minor}")))
        question = f"import sys, ensurepip; sys.exit(sys.version_info[:2] != (3, {minor}))"
        yield from (each for each in (*on_path, *hidden) if each and runs(each, "-c", question))


def install(python: str, wheels: Path) -> Environment:
    """Return an environment with the wheel for this machine, and nothing but what that requires, and pytest."""
    venv = Environment(VENV)
    create(venv, python)
    install_torch(venv)
    venv.pip_install("pytest", "pytest-xdist")
    venv.pip_install("--find-links", str(wheels), "semanir_plugin[plots]")
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
        shutil.copy(PHOTOGRAPH, folder)
        command = [str(venv.python), "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "test_core.py"]
        return subprocess.run(command, cwd=folder, env=environment()).returncode


COMMANDS = (
    ("list", "archs"),
    ("options", "copy", "train_SemanIR_mini_SRx4"),  # on which the training's file stands
    ("train", "-opt", "two_iterations.yml"),
)


def train(venv: Environment) -> int:
    """Train two iterations in an empty folder, as one who begins there."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "photographs").mkdir()
        shutil.copy(PHOTOGRAPH, Path(folder, "photographs"))
        Path(folder, "two_iterations.yml").write_text(TRAINING, encoding="utf-8")
        for arguments in COMMANDS:
            command = [str(venv.python.with_name("basicsr")), *arguments]
            code = subprocess.run(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL).returncode
            if code:
                return code
        if not Path(folder, "experiments/two_iterations/models/net_g_latest.pth").is_file():
            print("error: the training left no network", file=sys.stderr)
            return 1
        return 0


def environment() -> dict[str, str]:
    """Return this environment's variables without the path to other Python modules."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


if __name__ == "__main__":
    sys.exit(main())
