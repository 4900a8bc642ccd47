"""Run a script of this repository in ``.venv``, which it creates and completes first.

A script imports ``run_in_venv`` and calls it before importing anything that may not be installed. Where nothing is
missing that takes milliseconds and prints nothing. This file imports the standard library only, and Pythons too old
for the package can read it, so that they give a clear message rather than a syntax error.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["run_in_venv"]

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"
TEST_CONSTRAINTS = ROOT / "scripts" / "constraints-tests.txt"
INSTALL_BASICSR = ROOT / "semanir_plugin" / "basicsr_host" / "install.py"

EXTRAS = "basicsr"
TEST_EXTRAS = "basicsr,export,hub,spandrel,video,web,docs,dev"

# The first that is found makes the environment where the calling one is none of these; 3.14 is untested.
SUPPORTED = ((3, 13), (3, 12), (3, 11), (3, 10), (3, 14))
# What a marker calls an operating system, and what `sys.platform` does.
SYSTEMS = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PIN = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)"
    r'(?:; python_version (?P<op><|>=) "3\.(?P<minor>\d+)"|; platform_system == "(?P<system>Linux|Darwin|Windows)")?'
)


class SetupError(Exception):
    """Error that stops the set-up: its cause and remedy, in one line."""


def run_in_venv(torch: str | None = None, tests: bool = False) -> None:
    """Install what is missing in ``.venv``, then run the calling script there with the same arguments.

    Returns only in a process that already runs in a complete ``.venv``, or at once if the environment variable
    ``SEMANIR_VENV`` is 0, which says that the calling interpreter has all that is needed. Ends the process with exit
    code 2 and one line on stderr if the installation fails; the next run continues it.

    Args:
        torch: ``"cpu"`` or ``"cuda"``. By default the environment variable ``SEMANIR_TORCH`` decides, then what is
            installed, then whether ``nvidia-smi`` runs.
        tests: Whether what the tests need belongs to it: the optional parts of the package, and tools.
    """
    if os.environ.get("SEMANIR_VENV") == "0":
        return
    try:
        torch = torch or os.environ.get("SEMANIR_TORCH") or None
        installed = ensure_complete(Environment(VENV, tests), torch)
    except (SetupError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the next run continues", file=sys.stderr)
        sys.exit(130)
    if installed or Path(sys.prefix).resolve() != VENV.resolve():
        run_again(Environment(VENV).python)


def run_again(python: Path) -> None:
    """Replace this process by the same script in another interpreter."""
    command = [str(python), *sys.argv]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":  # there, execv returns to the shell before the new process ends
        sys.exit(subprocess.run(command).returncode)
    os.execv(python, command)


def ensure_complete(venv: Environment, torch: str | None) -> bool:
    """Install whatever ``venv`` lacks; return whether anything had to be."""
    if torch not in (None, "cpu", "cuda"):
        raise SetupError(f"unknown build of torch '{torch}': set SEMANIR_TORCH to 'cpu' or 'cuda'")
    if venv.is_fresh() and not venv.missing(torch):
        return False
    install(venv, torch)
    missing = venv.missing(torch)
    if missing:
        raise SetupError(f"still missing after the installation: {', '.join(missing)} (log: {venv.log})")
    venv.stamp.write_text(venv.fingerprint(), encoding="utf-8")
    return True


class Environment:
    """A virtual environment as its files describe it, without starting its interpreter."""

    def __init__(self, path: Path, tests: bool = False) -> None:
        windows = os.name == "nt"
        self.path = path
        self.extras = TEST_EXTRAS if tests else EXTRAS
        self.python = path / ("Scripts/python.exe" if windows else "bin/python")
        self.log = path / "install.log"
        self.stamp = path / ("installed-for-tests" if tests else "installed")
        self.constraints = (CONSTRAINTS, TEST_CONSTRAINTS) if tests else (CONSTRAINTS,)
        self._site_packages = "Lib/site-packages" if windows else "lib/python3*/site-packages"

    @property
    def pinned(self) -> tuple[str, ...]:
        """What pip install takes, to install the tested versions."""
        files = (CONSTRAINTS, TEST_CONSTRAINTS)
        return ("--progress-bar", "off", *(part for each in files for part in ("--constraint", str(each))))

    def pins(self, version: tuple[int, int]) -> dict[str, str]:
        """Versions of all that belongs into it, by normalised name."""
        return {name: pin for file in self.constraints for name, pin in read_pins(file, version).items()}

    def version(self) -> tuple[int, int] | None:
        """Python's version, None where there is no environment."""
        config = self.path / "pyvenv.cfg"
        text = config.read_text(encoding="utf-8") if config.is_file() else ""
        found = re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", text, re.MULTILINE)
        return (int(found[1]), int(found[2])) if found else None

    def dist_infos(self) -> list[Path]:
        """The metadata folders of everything installed."""
        return list(self.path.glob(f"{self._site_packages}/*.dist-info"))

    def installed(self) -> dict[str, str]:
        """Versions of all installed distributions by normalised name."""
        pairs = (info.name[: -len(".dist-info")].partition("-") for info in self.dist_infos())
        return {normalise(name): version for name, _, version in pairs}

    def torch(self) -> str | None:
        """Return the build of torch that is installed, if any: ``"cpu"`` or ``"cuda"`` (any other)."""
        version = self.installed().get("torch")
        return version and ("cpu" if version.endswith("+cpu") else "cuda")

    def missing(self, torch: str | None = None) -> list[str]:
        """Pinned packages that are absent, of another version or, for torch, of another build than asked for."""
        version = self.version()
        if version is None:
            return ["Python"]
        have = self.installed()
        pins = self.pins(version)
        missing = [f"{name}=={pin}" for name, pin in pins.items() if not is_version(have.get(name, ""), pin)]
        if "semanir-plugin" not in have:
            missing.append("semanir_plugin")
        if torch and sys.platform == "linux" and self.torch() != torch:
            missing.append(f"torch for {torch}")
        return missing

    def fingerprint(self) -> str:
        """Digest of all that an installation depends on; the editable install depends on where the repository lies."""
        pins = b"\0".join(each.read_bytes() for each in self.constraints)
        parts = (pins, (ROOT / "setup.cfg").read_bytes(), f"{ROOT} {self.version()}".encode())
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def is_fresh(self) -> bool:
        """Return whether an installation succeeded here and nothing that it depends on has changed since."""
        return (
            self.python.exists()
            and self.stamp.is_file()
            and self.stamp.read_text(encoding="utf-8") == self.fingerprint()
        )

    def discard_partial(self) -> None:
        """Forget packages that an interrupted pip, which writes INSTALLER after all files, would take for installed."""
        for info in self.dist_infos():
            if not (info / "INSTALLER").is_file():
                shutil.rmtree(info)

    def run(self, *command: str) -> None:
        """Run a command in the repository root, output into the log; raises SetupError with its last error."""
        with self.log.open("a", encoding="utf-8") as log:
            print("$", *command, file=log, flush=True)
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        if done.returncode:
            output = self.log.read_text(encoding="utf-8", errors="replace").rpartition("\n$ ")[2]
            raise SetupError(f"{last_error(output)} (log: {self.log})")

    def pip(self, *arguments: str) -> None:
        """Run pip; isolated (-I), lest it takes packages on PYTHONPATH for installed ones."""
        self.run(str(self.python), "-I", "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments)

    def pip_install(self, *arguments: str) -> None:
        """Install with the pinned versions."""
        self.pip("install", *self.pinned, *arguments)


def is_version(found: str, pin: str) -> bool:
    """Compare as PEP 440 does: a pin without a local label takes any."""
    return pin in (found, found.partition("+")[0])


def normalise(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(path: Path, python: tuple[int, int]) -> dict[str, str]:
    """Read the pinned version of every package, by normalised name, that applies to a Python version on this system."""
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pin = PIN.fullmatch(line)
        if pin is None:
            raise SetupError(f"{path}: cannot read '{line}': write 'name==1' or 'name==1; python_version < \"3.11\"'")
        below = python < (3, int(pin["minor"] or 0))
        here = pin["system"] is None or SYSTEMS[pin["system"]] == sys.platform
        if here and (pin["op"] is None or below == (pin["op"] == "<")):
            pins[normalise(pin["name"])] = pin["version"]
    return pins


def last_error(output: str) -> str:
    """Find the line of pip's output that says why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    errors = [line[len("ERROR: ") :] for line in lines if re.match("ERROR: (?!ResolutionImpossible)", line)]
    return (errors or lines)[-1]


def install(venv: Environment, torch: str | None) -> None:
    """Create the environment and install everything: PyTorch's build first, which what follows then keeps."""
    python = None if is_usable(venv) else find_python()
    with step(1, "virtual environment .venv"):
        if python:
            create(venv, python)
        venv.discard_partial()
    torch = torch or venv.torch() or detect_torch()
    pins = read_pins(CONSTRAINTS, venv.version() or SUPPORTED[0])
    with step(2, f"PyTorch {pins['torch']} ({'CPU' if torch == 'cpu' else 'CUDA'})"):
        install_torch(venv, torch, pins)
    with step(3, "build tools"):
        venv.pip_install("wheel", "setuptools")
    with step(4, f"BasicSR {pins['basicsr']}"):
        venv.run(str(venv.python), "-I", str(INSTALL_BASICSR), "--no-build-isolation", *venv.pinned)
    with step(5, "semanir_plugin and what it needs"):
        venv.pip_install("--no-build-isolation", "--editable", f".[{venv.extras}]")


@contextmanager
def step(number: int, title: str) -> Iterator[None]:
    """Announce a step of the installation and print the time it took."""
    print(f"[{number}/5] {title} ... ", end="", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print("stopped", file=sys.stderr)
        raise
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)


def is_usable(venv: Environment) -> bool:
    """Return whether ``venv`` has pip; raise SetupError if its Python is unsupported, rather than remove it unasked."""
    version = venv.version()
    if version and version not in SUPPORTED:
        found = ".".join(map(str, version))
        raise SetupError(f"{venv.path} has Python {found}, needed is {supported()}: remove it and run again")
    return version is not None and runs(str(venv.python), "-I", "-m", "pip", "--version")


def find_python() -> str:
    """Choose the interpreter that creates the environment."""
    python = next(candidates(), None)
    if python is None:
        this = ".".join(map(str, sys.version_info[:2]))
        raise SetupError(f"this is Python {this} and no other is on PATH: install {supported()} and run again")
    if not runs(python, "-c", "import ensurepip"):
        raise SetupError(f"{python} cannot create virtual environments: install python3-venv and run again")
    return python


def candidates() -> Iterator[str]:
    """Supported interpreters: this one, else those on PATH that run (pyenv has shims that do not)."""
    if sys.version_info[:2] in SUPPORTED:
        yield sys.executable
        return
    for major, minor in SUPPORTED:
        for folder in os.get_exec_path():
            python = shutil.which(f"python{major}.{minor}", path=folder)
            if python and runs(python, "-c", f"import sys; sys.exit(sys.version_info[:2] != ({major}, {minor}))"):
                yield python


def create(venv: Environment, python: str) -> None:
    """Make a new environment in place of whatever lies there."""
    if venv.path.exists():
        shutil.rmtree(venv.path)
    venv.path.mkdir()
    venv.run(python, "-m", "venv", str(venv.path))


def supported() -> str:
    """The supported Python versions in words."""
    return f"Python 3.{min(SUPPORTED)[1]} to 3.{max(SUPPORTED)[1]}"


def runs(*command: str) -> bool:
    """Return whether a command can be started and succeeds."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def detect_torch() -> str:
    """Choose CUDA where an NVIDIA driver answers, else the CPU."""
    return "cuda" if runs("nvidia-smi") else "cpu"


def install_torch(venv: Environment, torch: str, pins: dict[str, str]) -> None:
    """Install torch and torchvision: a CPU build never downloads CUDA's libraries."""
    torch_pin, vision_pin = f"torch=={pins['torch']}", f"torchvision=={pins['torchvision']}"
    if sys.platform == "linux" and venv.torch() not in (None, torch):
        venv.pip("uninstall", "--yes", "torch", "torchvision")  # to pip, both builds are the same version
    if torch == "cuda" or sys.platform != "linux":
        venv.pip_install(torch_pin, vision_pin)
        return
    try:
        venv.pip_install(f"{torch_pin}+cpu")
    except SetupError:  # the usual case: PyPI has no CPU build
        install_from_torch_index(venv, f"{torch_pin}+cpu", f"{vision_pin}+cpu")
    else:  # PyPI's CUDA build of torchvision, which semanir_plugin makes importable beside a CPU torch
        venv.pip_install("--no-deps", vision_pin)


def install_from_torch_index(venv: Environment, *pins: str) -> None:
    """Install CPU builds from PyTorch's own index."""
    try:
        venv.pip_install("--extra-index-url", TORCH_CPU_INDEX, *pins)
    except SetupError as error:
        cure = "or take PyPI's, of about 3 GB, by the environment variable SEMANIR_TORCH=cuda"
        raise SetupError(f"no {pins[0]}: {error}; make {TORCH_CPU_INDEX} reachable, {cure}") from error
