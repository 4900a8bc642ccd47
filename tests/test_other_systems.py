"""What Windows and macOS lack is taken away here, since no test runs there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from semanir_plugin import atomic_io
from semanir_plugin.inference.shipped_weights import find_weights

# In place of the first line of a program: this package meets a system without what only POSIX, or only Linux, has.
WITHOUT_POSIX = """
import ctypes, importlib, os, pathlib, pkgutil, signal, sys
import basicsr_or_not, torch.multiprocessing
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for module, names in ((os, "fork getuid geteuid sched_getaffinity sysconf O_DIRECTORY statvfs killpg mkfifo"),
                      (signal, "SIGCHLD SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 SIGALRM")):
    for name in names.split():
        vars(module).pop(name, None)
read = pathlib.Path.read_text
def read_text(path, *args, **kwargs):
    if path.parts[:2] == (os.sep, "proc"):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return read(path, *args, **kwargs)
pathlib.Path.read_text = read_text
class Libraries(ctypes.CDLL):
    def __init__(self, name, *args, **kwargs):
        if name is None:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        super().__init__(name, *args, **kwargs)
ctypes.CDLL = Libraries
"""


def run(code, *args, basicsr=False):
    start = WITHOUT_POSIX.replace(
        "basicsr_or_not",
        "semanir_plugin, basicsr, mmengine.optim, filelock, rich.logging" if basicsr else "semanir_plugin",
    )
    environ = {**os.environ, "SEMANIR_NATIVE": "0"}
    return subprocess.run([sys.executable, "-c", start + code, *args], capture_output=True, text=True, env=environ)


def test_a_photograph_is_restored_and_the_largest_tile_refused_in_one_line(tmp_path):
    photograph = tmp_path / "photo.png"
    cv2.imwrite(str(photograph), np.full((160, 192, 3), 99, np.uint8))
    code = "from semanir_plugin.cli import main; sys.exit(main(sys.argv[1:]))"
    restore = ["restore", str(photograph), "--model", "semanir-mini-x2", "-o", str(tmp_path / "restored.png")]
    done = run(code, *restore, "--tile", "auto")
    told = [line for line in done.stderr.splitlines() if not line.startswith("note: semanir-mini-x2 is for")]
    assert (done.returncode, len(told)) == (1, 1), done.stderr
    assert "give a number of pixels" in told[0]
    done = run(code, *restore)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "restored.png")).shape == (320, 384, 3)


def test_every_module_is_imported():
    code = """
import semanir_plugin
for module in pkgutil.walk_packages(semanir_plugin.__path__, "semanir_plugin."):
    if not module.name.endswith(("triton_backend", "triton_kernels", "triton_groups", "triton_group_kernels")):
        importlib.import_module(module.name)
"""
    done = run(code, basicsr=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_syncs_no_folders_keeps_files(tmp_path, monkeypatch, number):
    sync = os.fsync

    def sync_files(descriptor):
        if os.path.samestat(os.fstat(descriptor), tmp_path.stat()):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files)
    atomic_io.write_atomic(b"content", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_tilde_before_no_users_name_is_part_of_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody_of_this_name.pth").touch()
    assert find_weights("~nobody_of_this_name.pth").name == "~nobody_of_this_name.pth"
