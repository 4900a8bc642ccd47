from __future__ import annotations

import os
import subprocess
import sys

import pytest

from semanir_plugin.cli import main
from tests.conftest import ROOT


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "importtime", "-m", "semanir_plugin.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_help_does_not_import_torch():
    result = run("--help")
    assert result.returncode == 0
    assert "train" in result.stdout
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "semanir_plugin.cli" in imported
    assert not imported & {"torch", "basicsr", "numpy", "yaml"}


def test_help_imports_nothing_heavy():
    heavy = "torch", "basicsr", "mmengine", "numpy", "cv2", "matplotlib", "rich", "yaml"
    code = (
        "import sys; from semanir_plugin.cli import build_parser; build_parser().format_help(); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "-opt", "x.yml", "--auto_resme"], ["unknown argument '--auto_resme'", "'--auto_resume'"]),
        (["train", "-opt", "x.yml", "--auto"], ["unknown argument '--auto'"]),
        (["test", "-opt", "x.yml", "--auto_resume"], ["basicsr test", "unknown argument '--auto_resume'"]),
        (["train"], ["-opt"]),
        (["tain"], ["tain", "train"]),
        ([], ["SUBCOMMAND"]),
        (["train", "-opt", "x.yml", "--launcher", "mpi"], ["mpi", "pytorch"]),
    ],
)
def test_misspelt_arguments_are_one_line_and_exit_code_2(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_a_missing_option_file_is_one_line(capsys):
    assert main(["train", "-opt", "no/such.yml"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no/such.yml" in error


def test_a_failure_of_ours_is_one_line_and_exit_code_1(capsys, monkeypatch):
    def fail(args):
        raise RuntimeError("something\nbroke")

    monkeypatch.setattr("semanir_plugin.basicsr_host.engine.test.test", fail)
    assert main(["test", "-opt", "x.yml"]) == 1
    error = capsys.readouterr().err
    assert error == "basicsr test: failed with RuntimeError: something broke (--debug shows where)\n"


@pytest.mark.parametrize("subcommand", ["train", "test"])
def test_each_subcommand_explains_itself(capsys, subcommand):
    with pytest.raises(SystemExit):
        main([subcommand, "--help"])
    out = capsys.readouterr().out
    assert f"basicsr {subcommand} -opt" in out
    assert "--force_yml" in out
