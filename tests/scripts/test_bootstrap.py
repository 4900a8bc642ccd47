from __future__ import annotations

import configparser
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
import bootstrap

pytestmark = pytest.mark.skipif(os.name == "nt", reason="interpreters and nvidia-smi are played by shell scripts")

ROOT = bootstrap.ROOT
CONSTRAINTS = """\
# a comment

torch==2.13.0
types-PyYAML==6.0.12
numpy==2.4.6; python_version >= "3.11"
numpy==2.2.6; python_version < "3.11"
"""
SYSTEMS = ("Linux", "Darwin", "Windows")
INSTALLED = ("torch-2.13.0+cpu", "types_pyyaml-6.0.12", "numpy-2.4.6", "semanir_plugin-0.1.0")


def executable(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def started(monkeypatch):
    """The commands that would have replaced this process."""
    commands = []
    monkeypatch.setattr(bootstrap.os, "execv", lambda path, command: commands.append(command))
    return commands


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """A complete environment whose Python notes its arguments and fails, as pip would, on those matching `reject`."""
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(CONSTRAINTS)
    monkeypatch.setattr(bootstrap, "CONSTRAINTS", constraints)
    monkeypatch.setattr(bootstrap, "TEST_CONSTRAINTS", tmp_path / "constraints-tests.txt")
    bootstrap.TEST_CONSTRAINTS.write_text("pytest==9.2.0\n")
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.delenv("SEMANIR_TORCH", raising=False)
    monkeypatch.delenv("SEMANIR_VENV", raising=False)
    venv = bootstrap.Environment(tmp_path / ".venv")
    executable(
        venv.python,
        f"""cd {tmp_path}
        echo "$@" >> calls
        if echo "$@" | grep -q -f reject; then
            echo "ERROR: first"; echo "ERROR: no such wheel"
            exit 1
        fi""",
    )
    (tmp_path / "reject").touch()
    (venv.path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    for name in INSTALLED:
        dist_info(venv, name).mkdir(parents=True)
        (dist_info(venv, name) / "INSTALLER").touch()
    venv.stamp.write_text(venv.fingerprint())
    return venv


def dist_info(venv, name):
    return venv.path / "lib/python3.11/site-packages" / f"{name}.dist-info"


def calls(venv):
    """The arguments of each call of pip, less those that all of them have."""
    path = venv.path.parent / "calls"
    text = path.read_text() if path.exists() else ""
    common = r"-I -m pip --no-input --disable-pip-version-check | --progress-bar off --constraint \S+ --constraint \S+"
    return re.sub(common, "", text).splitlines()


def pretend(monkeypatch, **attributes):
    """Let bootstrap, and nothing else, see another `sys`."""
    defaults = {"version_info": (3, 11), "executable": sys.executable, "platform": "linux", "prefix": "/usr"}
    stand_in = SimpleNamespace(**{**vars(sys), **defaults, **attributes})
    monkeypatch.setattr(bootstrap, "sys", stand_in)


# What is pinned


@pytest.mark.parametrize("python", bootstrap.SUPPORTED)
@pytest.mark.parametrize("tests", [False, True])
def test_every_direct_dependency_is_pinned_for_every_supported_python(python, tests, monkeypatch):
    pretend(monkeypatch)
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras, environment = config["options.extras_require"], bootstrap.Environment(bootstrap.VENV, tests)
    asked = [config["options"]["install_requires"], *(extras[each] for each in environment.extras.split(","))]
    requirements = "\n".join(asked)
    lines = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    names = {bootstrap.normalise(re.split(r"[=<>;[]", line)[0]) for line in lines}
    assert {"torch", "triton", *(["pytest", "gradio"] if tests else [])} <= names
    assert names <= set(environment.pins(python))


@pytest.mark.parametrize(("python", "numpy"), [((3, 10), "2.2.6"), ((3, 11), "2.4.6"), ((3, 14), "2.4.6")])
def test_markers_choose_the_pin(venv, python, numpy):
    pins = bootstrap.read_pins(bootstrap.CONSTRAINTS, python)
    assert pins == {"torch": "2.13.0", "types-pyyaml": "6.0.12", "numpy": numpy}


@pytest.mark.parametrize(
    ("platform", "pins"), [("linux", {"a": "1"}), ("darwin", {"b": "2"}), ("win32", {"c": "3"}), ("freebsd14", {})]
)
def test_markers_choose_the_system(tmp_path, monkeypatch, platform, pins):
    pretend(monkeypatch, platform=platform)
    path = tmp_path / "constraints.txt"
    lines = [f'{pin}; platform_system == "{name}"' for pin, name in zip(["a==1", "b==2", "c==3"], SYSTEMS, strict=True)]
    path.write_text("\n".join(lines))
    assert bootstrap.read_pins(path, (3, 11)) == pins


@pytest.mark.parametrize(
    "line", ["numpy>=2", "numpy", 'numpy==2; sys_platform == "linux"', 'numpy==2; platform_system == "linux"']
)
def test_a_constraint_that_cannot_be_checked_is_an_error(tmp_path, line):
    path = tmp_path / "constraints.txt"
    path.write_text(line)
    with pytest.raises(bootstrap.SetupError, match=re.escape(line)):
        bootstrap.read_pins(path, (3, 11))


# What is missing


def test_a_complete_environment_misses_nothing(venv):
    assert venv.is_fresh()
    assert venv.missing() == []


def test_what_tests_need_is_missed_by_tests_alone(venv):
    for_tests = bootstrap.Environment(venv.path, tests=True)
    assert not for_tests.is_fresh()
    assert for_tests.missing() == ["pytest==9.2.0"]
    for_tests.stamp.write_text(for_tests.fingerprint())
    bootstrap.TEST_CONSTRAINTS.write_text("pytest==9.3.0\n")
    assert not for_tests.is_fresh()
    assert venv.is_fresh()


@pytest.mark.parametrize(
    ("gone", "instead", "missing"),
    [
        ("types_pyyaml-6.0.12", None, "types-pyyaml==6.0.12"),
        ("numpy-2.4.6", "numpy-2.2.6", "numpy==2.4.6"),
        ("torch-2.13.0+cpu", "torch-2.12.0+cpu", "torch==2.13.0"),
        ("semanir_plugin-0.1.0", None, "semanir_plugin"),
    ],
)
def test_absent_and_other_versions_are_missing(venv, gone, instead, missing):
    folder = dist_info(venv, gone)
    folder.rename(dist_info(venv, instead) if instead else venv.path / "removed")
    assert venv.missing() == [missing]


@pytest.mark.parametrize(("installed", "missing"), [("1.4.2", True), ("1.4.2+semanir", False)])
def test_a_pin_with_a_local_label_takes_no_other_build(venv, installed, missing):
    bootstrap.CONSTRAINTS.write_text(CONSTRAINTS + "basicsr==1.4.2+semanir\n")
    dist_info(venv, f"basicsr-{installed}").mkdir()
    assert venv.missing() == ["basicsr==1.4.2+semanir"] * missing


def test_the_build_of_torch_is_checked_only_if_asked_for(venv, monkeypatch):
    pretend(monkeypatch)
    assert venv.missing("cpu") == []
    assert venv.missing("cuda") == ["torch for cuda"]


def test_a_changed_pin_or_python_makes_the_environment_stale(venv):
    bootstrap.CONSTRAINTS.write_text(CONSTRAINTS + "tqdm==4.70.1\n")
    assert not venv.is_fresh()
    bootstrap.CONSTRAINTS.write_text(CONSTRAINTS)
    assert venv.is_fresh()
    (venv.path / "pyvenv.cfg").write_text("version = 3.12.1\n")
    assert not venv.is_fresh()


def test_a_package_whose_installation_was_interrupted_is_forgotten(venv):
    (dist_info(venv, "numpy-2.4.6") / "INSTALLER").unlink()
    venv.discard_partial()
    assert venv.missing() == ["numpy==2.4.6"]


# Which Python


def test_a_supported_python_is_used_itself(monkeypatch):
    pretend(monkeypatch, version_info=(3, 10))
    assert bootstrap.find_python() == sys.executable


def test_an_unsupported_python_looks_for_one_that_runs(tmp_path, monkeypatch):
    pretend(monkeypatch, version_info=(3, 9))
    executable(tmp_path / "shims/python3.12", "exit 127")
    executable(tmp_path / "shims/python3.11", "exit 127")
    works = executable(tmp_path / "bin/python3.11", "exit 0")
    executable(tmp_path / "bin/python3.10", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:{tmp_path}/bin")
    assert bootstrap.find_python() == str(works)


def test_a_python_without_ensurepip_is_told(tmp_path, monkeypatch):
    pretend(monkeypatch, version_info=(3, 15))
    executable(tmp_path / "python3.12", 'case "$*" in *ensurepip*) exit 1;; esac')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(bootstrap.SetupError, match=r"python3\.12 cannot create .* install python3-venv"):
        bootstrap.find_python()


# Which torch


@pytest.mark.parametrize(("nvidia_smi", "torch"), [("exit 0", "cuda"), ("exit 9", "cpu"), (None, "cpu")])
def test_cuda_where_nvidia_smi_runs(tmp_path, monkeypatch, nvidia_smi, torch):
    if nvidia_smi:
        executable(tmp_path / "nvidia-smi", nvidia_smi)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap.detect_torch() == torch


PINS = {"torch": "2.13.0", "torchvision": "0.28.0"}
LOCAL = ["install torch==2.13.0+cpu", "install --no-deps torchvision==0.28.0"]
INDEX = f"install --extra-index-url {bootstrap.TORCH_CPU_INDEX} torch==2.13.0+cpu torchvision==0.28.0+cpu"
PLAIN = "install torch==2.13.0 torchvision==0.28.0"


@pytest.mark.parametrize(
    ("torch", "platform", "reject", "expected"),
    [
        ("cpu", "linux", "", LOCAL),
        ("cpu", "linux", r"^.*constraints-tests.txt torch==2.13.0+cpu", [LOCAL[0], INDEX]),
        ("cpu", "darwin", "", [PLAIN]),
        ("cuda", "linux", "", ["uninstall --yes torch torchvision", PLAIN]),
    ],
)
def test_torch_comes_from_where_no_cuda_is_downloaded_unasked(venv, monkeypatch, torch, platform, reject, expected):
    pretend(monkeypatch, platform=platform)
    if reject:
        (venv.path.parent / "reject").write_text(reject + "\n")
    bootstrap.install_torch(venv, torch, PINS)
    assert calls(venv) == expected


def test_a_cpu_build_that_cannot_be_had_is_told_with_the_cure(venv, monkeypatch):
    pretend(monkeypatch)
    (venv.path.parent / "reject").write_text("torch==2.13.0+cpu\n")
    with pytest.raises(
        bootstrap.SetupError, match=r"^no torch==2.13.0\+cpu: no such wheel .*; make .* SEMANIR_TORCH=cuda$"
    ):
        bootstrap.install_torch(venv, "cpu", PINS)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("ERROR: (from versions: none)\nERROR: No wheel for x\n\n[notice] new pip", "No wheel for x"),
        ("ERROR: Cannot install x and y\nBecause\nERROR: ResolutionImpossible: see", "Cannot install x and y"),
        ("Error: venv stumbled\n", "Error: venv stumbled"),
        ("", "no output"),
    ],
)
def test_the_line_that_says_why_pip_failed(output, reason):
    assert bootstrap.last_error(output) == reason


# The whole


def test_a_complete_environment_starts_nothing_but_the_script(venv, started, monkeypatch, capfd):
    pretend(monkeypatch, argv=["scripts/demo.py", "--data", "a b"])
    bootstrap.run_in_venv()
    assert started == [[str(venv.python), "scripts/demo.py", "--data", "a b"]]
    pretend(monkeypatch, prefix=str(venv.path))
    bootstrap.run_in_venv()
    assert len(started) == 1
    assert calls(venv) == []
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_is_installed_in_five_steps_then_verified(venv, monkeypatch, capfd):
    pretend(monkeypatch)
    dist_info(venv, "numpy-2.4.6").rename(venv.path / "removed")
    bootstrap.CONSTRAINTS.write_text(CONSTRAINTS + "torchvision==0.28.0\nbasicsr==1.4.2+semanir\n")
    with pytest.raises(SystemExit) as ended:
        bootstrap.run_in_venv()
    assert ended.value.code == 2
    assert calls(venv)[1:] == [
        *LOCAL,
        "install wheel setuptools",
        f"-I {bootstrap.INSTALL_BASICSR} --no-build-isolation",
        "install --no-build-isolation --editable .[basicsr]",
    ]
    *steps, error = capfd.readouterr().err.splitlines()
    assert [step[:5] for step in steps] == [f"[{number}/5]" for number in range(1, 6)]
    assert "still missing after the installation: numpy==2.4.6" in error
    assert not venv.is_fresh()


def test_an_interpreter_with_all_that_is_needed_may_be_kept(venv, monkeypatch, started):
    pretend(monkeypatch)
    venv.stamp.unlink()
    monkeypatch.setenv("SEMANIR_VENV", "0")
    bootstrap.run_in_venv()
    assert started == calls(venv) == []


def test_a_failing_pip_is_told_in_one_line_with_the_log(venv, monkeypatch, capfd):
    pretend(monkeypatch)
    venv.stamp.unlink()
    bootstrap.CONSTRAINTS.write_text(CONSTRAINTS + "torchvision==0.28.0\nbasicsr==1.4.2+semanir\n")
    (venv.path.parent / "reject").write_text("setuptools\n")
    with pytest.raises(SystemExit) as ended:
        bootstrap.run_in_venv()
    assert ended.value.code == 2
    assert capfd.readouterr().err.splitlines()[-2:] == [
        "[3/5] build tools ... stopped",
        f"error: no such wheel (log: {venv.log})",
    ]


@pytest.mark.parametrize(
    ("version", "torch", "message"),
    [
        ((3, 15), None, "this is Python 3.15 and no other is on PATH: install Python 3.10 to 3.14 and run again"),
        ((3, 11), "rocm", "unknown build of torch 'rocm': set SEMANIR_TORCH to 'cpu' or 'cuda'"),
    ],
)
def test_what_the_user_must_mend_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capfd, version, torch, message):
    pretend(monkeypatch, version_info=version)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SEMANIR_TORCH", torch or "")
    with pytest.raises(SystemExit) as ended:
        bootstrap.run_in_venv()
    assert ended.value.code == 2
    assert capfd.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / ".venv").exists()


def test_an_environment_of_an_unsupported_python_is_not_removed(venv, capfd):
    (venv.path / "pyvenv.cfg").write_text("version = 3.15.0\n")
    with pytest.raises(SystemExit):
        bootstrap.run_in_venv()
    assert "has Python 3.15, needed is Python 3.10 to 3.14" in capfd.readouterr().err
    assert venv.python.exists()
