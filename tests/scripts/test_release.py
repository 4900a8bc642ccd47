from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import release

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

FILES = {
    "semanir_plugin/__init__.py": '__version__ = "1.2.0"\n',
    "CITATION.cff": "cff-version: 1.2.0\nversion: 1.2.0\n",
    "CHANGELOG.md": "## 1.2.0 (2026-01-02)\n\n### Added\n\n- This.\n\n## 1.1.0 (2025-01-02)\n\n- That.\n",
    "setup.cfg": "[metadata]\nproject_urls =\n    Source = https://example.org/semanir\n",
}


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """One that can be released as 1.2.0."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "all")
    git(tmp_path, "tag", "v1.1.0")
    return tmp_path


def test_what_is_green_is_released_with_its_changes(repository):
    assert list(release.objections(repository, "1.2.0")) == []
    assert release.changes_of(repository, "1.2.0") == "### Added\n\n- This."


@pytest.mark.parametrize("version", ["1.2", "v1.2.0", "1.2.0rc1", "01.2.0"])
def test_what_is_no_version_is_refused(repository, version):
    assert list(release.objections(repository, version)) == [f"'{version}' is no version; write MAJOR.MINOR.PATCH"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("semanir_plugin/__init__.py", '__version__ = "1.1.0"\n', "__init__.py has version 1.1.0; set it to 1.2.0"),
        ("CITATION.cff", "cff-version: 1.2.0\n", "CITATION.cff has version None; set it to 1.2.0"),
        ("CHANGELOG.md", "## 1.2.0 (unreleased)\n\n- This.\n", "CHANGELOG.md has no section '## 1.2.0 (YYYY-MM-DD)'"),
        ("CHANGELOG.md", "## 1.2.0 (2026-01-02)\n\n## 1.1.0 (2025-01-02)\n\n- This.\n", "CHANGELOG.md has no section"),
        ("setup.cfg", "[metadata]\nproject_urls =\n    BasicSR = https://example.org\n", "no 'Source = https://...'"),
    ],
)
def test_what_is_not_told_everywhere_is_refused(repository, name, text, reason):
    (repository / name).write_text(text)
    git(repository, "commit", "-am", "change")
    (objection,) = release.objections(repository, "1.2.0")
    assert reason in objection


def test_changes_branches_and_older_versions_are_refused(repository):
    (repository / "new.txt").touch()
    git(repository, "checkout", "-b", "feature")
    git(repository, "tag", "v1.10.0")
    reasons = list(release.objections(repository, "1.2.0"))
    assert [reason.partition(";")[0] for reason in reasons] == [
        "there are changes that are not committed",
        "this is branch feature",
        "1.2.0 is not newer than 1.10.0, which is tagged",
    ]


def test_a_check_that_fails_leaves_no_tag(repository, monkeypatch):
    monkeypatch.setattr(release, "ROOT", repository)
    monkeypatch.setattr(release, "CHECKS", (("-c", "raise SystemExit(1)"),))
    with pytest.raises(release.RefusedError, match="fails; mend that"):
        release.release("1.2.0")
    assert "v1.2.0" not in release.git(repository, "tag")
