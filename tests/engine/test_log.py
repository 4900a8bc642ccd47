from __future__ import annotations

import logging
from pathlib import Path

import pytest

from semanir_plugin.engine.log import LogFile


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_once_and_without_a_traceback(capsys):
    logger = logging.Logger("test")
    logger.addHandler(LogFile("/dev/full"))
    logger.error("one")
    logger.error("two")
    error = capsys.readouterr().err
    assert error == "/dev/full: the log ends here: OSError: [Errno 28] No space left on device\n"
