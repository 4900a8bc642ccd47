from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from semanir_plugin.cli import build_parser, main
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


def parsers(parser):
    """Yield a parser and those of all its subcommands."""
    yield parser
    for action in parser._actions:
        for each in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
            yield from parsers(each)


def test_long_flags_are_dashed_but_basicsr_s_and_take_the_other_spelling():
    seen = set()
    for parser in parsers(build_parser()):
        for flag in (each for action in parser._actions for each in action.option_strings if each.startswith("--")):
            seen.add(flag)
            assert flag == flag.lower()
            assert "_" not in flag or flag in {"--force_yml", "--auto_resume", "--local_rank"}
            other = f"--{flag[2:].replace('-', '_') if '-' in flag[2:] else flag[2:].replace('_', '-')}"
            assert parser.spell(other) == flag
            assert parser.spell(f"{other}=a_b-c") == f"{flag}=a_b-c"
    assert seen >= {"--pair-by", "--skip-existing", "--force_yml", "--crop"}


@pytest.mark.parametrize(
    "words",
    [
        ["lmdb", "-i", "a", "-o", "b", "--pair_by", "x_y"],
        ["prepare", "lmdb", "-i", "a", "-o", "b", "--pair-by", "x_y"],
        ["prepare", "lmdb", "-i", "a", "-o", "b", "--pair_by=x_y"],
    ],
)
def test_both_spellings_are_parsed(words):
    assert build_parser().parse_args(words).pair_by == "x_y"
    resume = build_parser().parse_args(["train", "-opt", "x.yml", "--auto-resume", "--force-yml", "a=b"])
    assert (resume.auto_resume, resume.force_yml) == (True, ["a=b"])


def test_overrides_add_up():
    words = ["train", "-opt", "x.yml", "--force_yml", "a=b", "c=d", "--debug", "--force_yml", "e=f"]
    assert build_parser().parse_args(words).force_yml == ["a=b", "c=d", "e=f"]


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
@pytest.mark.parametrize("name", [None, "results/a.json"])
def test_a_full_disk_is_one_line_and_exit_code_2(capsys, monkeypatch, number, name):
    def fail(args):
        raise OSError(number, os.strerror(number), name)

    monkeypatch.setattr("semanir_plugin.basicsr_host.engine.test.test", fail)
    assert main(["test", "-opt", "x.yml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"basicsr test: cannot write {name or 'its output'}: {os.strerror(number)}; mend that")
    assert error.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("pattern", ["*", "train_EDSR*"])
def test_output_that_goes_to_a_full_disk(pattern):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "semanir_plugin.cli", "options", "list", pattern]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("basicsr options: cannot write its output: No space left on device; mend that")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no folder in which a process works")
def test_a_working_directory_that_was_removed(capsys, monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["list", "blocks"]) == 2
    told = "basicsr list: the working directory was removed or cannot be read; cd to another\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore", "", "-o", "out", "--model", "semanir-mini-x2"],
        ["restore", "a.png", "-o", "", "--model", "semanir-mini-x2"],
        ["restore", "a.png", "-o", "out", "--model", ""],
        ["lmdb", "-i", "", "-o", "a.lmdb"],
        ["options", "copy", "train_SemanIR_SRx4.yml", ""],
    ],
)
def test_an_empty_argument_is_not_the_working_directory(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "an argument is empty, as where a variable of the shell is not set; fill it or leave it out" in error
    assert error.count("\n") == 1


def test_a_suffix_may_be_empty(capsys):
    assert main(["restore", "absent.png", "-o", "out", "--model", "semanir-mini-x2", "--suffix", ""]) == 2
    assert "absent.png: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("subcommand", ["train", "test"])
def test_each_subcommand_explains_itself(capsys, subcommand):
    with pytest.raises(SystemExit):
        main([subcommand, "--help"])
    out = capsys.readouterr().out
    assert f"basicsr {subcommand} -opt" in out
    assert "--force_yml" in out


def test_what_a_terminal_cannot_show_is_spelt_out(tmp_path):
    arguments = ["restore", "é.png", "-o", "x.png", "--model", "semanir-mini-x2"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "semanir_plugin.cli", *arguments]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "basicsr restore: \\xe9.png: no such file or folder" in done.stderr


def test_modules_that_lie_about_are_not_taken_for_pythons(tmp_path):
    for name in ("random", "tqdm", "basicsr"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    script = tmp_path / "bin" / "basicsr"
    script.parent.mkdir()
    script.write_text("import sys\nfrom semanir_plugin.cli import main\nsys.exit(main())\n")  # as pip writes it
    safely = [["-P", "-m", "semanir_plugin.cli"]] if sys.version_info >= (3, 11) else []
    for command in ([str(script)], *safely):
        done = subprocess.run(
            [sys.executable, *command, "list", "losses"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout[:6]) == (0, "losses"), done.stderr


@pytest.mark.parametrize("unread", ["stdout", "stderr"])
def test_a_reader_that_goes_ends_no_work(unread, tmp_path):
    read, write = os.pipe()
    os.close(read)
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((8, 8, 3), np.uint8))
    arguments = ["restore", "x.png", "-o", "results", "--model", "semanir-mini-x2"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, unread: write}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "semanir_plugin.cli", *arguments]
    assert subprocess.run(command, env=environment, cwd=tmp_path, **streams).returncode == 0
    os.close(write)
    assert (tmp_path / "results" / "x.png").exists()
