from __future__ import annotations

import argparse
import os
import subprocess
import sys

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
