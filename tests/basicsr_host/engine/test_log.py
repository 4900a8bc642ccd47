from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from semanir_plugin.basicsr_host.engine.log import LogFile, quiet_threads


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_once_and_without_a_traceback(capsys):
    logger = logging.Logger("test")
    logger.addHandler(LogFile("/dev/full"))
    logger.error("one")
    logger.error("two")
    error = capsys.readouterr().err
    assert error == "/dev/full: the log ends here: OSError: [Errno 28] No space left on device\n"


def test_a_writer_thread_fails_in_silence_and_any_other_does_not(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))

    def run(error):
        def fail():
            raise error

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    with quiet_threads():
        run(OSError(28, "No space left on device"))
        run(EOFError())
        run(ValueError())
    run(OSError())
    assert told == [ValueError, OSError]
