"""A working directory with a world around it that no command may touch."""

from __future__ import annotations

from pathlib import Path

import pytest


def _listing(folder: Path) -> dict[str, object]:
    paths = (path for path in folder.rglob("*") if "work" not in path.relative_to(folder).parts)
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch) -> Path:
    """Folder around the working directory; at the end it must be as it was."""
    (tmp_path / "work").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious.txt").write_text("precious")
    monkeypatch.chdir(tmp_path / "work")
    before = _listing(tmp_path)
    yield tmp_path
    assert _listing(tmp_path) == before, "something was written outside the working directory"


@pytest.fixture
def witness(world) -> Path:
    """A file that is there only if something was executed."""
    path = Path("executed").absolute()
    yield path
    assert not path.exists(), "it was executed"
