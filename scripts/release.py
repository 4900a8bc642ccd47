"""Release what is green: check everything, build, tag. Nothing is uploaded: the last line says how.

python3 scripts/release.py 0.2.0            # refuses, with the reason, or tags v0.2.0
python3 scripts/release.py 0.2.0 --check    # only what takes no time
"""

from __future__ import annotations

import argparse
import configparser
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bootstrap import ROOT, run_in_venv

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
CHECKS = (("scripts/test.py",), ("scripts/check_package.py",), ("scripts/demo.py", "--seconds", "30"))
"""What must pass, in this order, before anything is tagged."""


class RefusedError(Exception):
    """Why there is no release."""


def main() -> int:
    """Release a version; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("version", help="such as 0.2.0")
    parser.add_argument("--check", action="store_true", help="only look whether it could be released")
    args = parser.parse_args()
    run_in_venv(tests=True)
    try:
        refuse(list(objections(ROOT, args.version)))
        if not args.check:
            release(args.version)
    except RefusedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def release(version: str) -> None:
    """Check, build and tag.

    Raises:
        RefusedError: Something is not green.
    """
    for check in CHECKS:
        if subprocess.run([sys.executable, *check], cwd=ROOT).returncode:
            raise RefusedError(f"{' '.join(check)} fails; mend that and run again")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    if subprocess.run([sys.executable, "scripts/build_wheels.py"], cwd=ROOT).returncode:
        raise RefusedError("scripts/build_wheels.py fails; mend that and run again")
    refuse(list(objections(ROOT, version)))  # the checks took their time
    git(ROOT, "tag", "--annotate", f"v{version}", "--message", f"Version {version}\n\n{changes_of(ROOT, version)}")
    print(f"tagged v{version}; now: git push origin main v{version} && twine upload dist/*")


def refuse(reasons: list[str]) -> None:
    """Do nothing if there are no reasons.

    Raises:
        RefusedError: There are some.
    """
    if reasons:
        raise RefusedError("\n       ".join(reasons))


def objections(root: Path, version: str) -> Iterator[str]:
    """Yield, each with what mends it, why a repository cannot be released as a version."""
    if not VERSION.fullmatch(version):
        yield f"'{version}' is no version; write MAJOR.MINOR.PATCH"
        return
    if git(root, "status", "--porcelain"):
        yield "there are changes that are not committed; commit or remove them"
    if (branch := git(root, "rev-parse", "--abbrev-ref", "HEAD")) != "main":
        yield f"this is branch {branch}; releases are made of main"
    yield from _wrong_versions(root, version)
    if not changes_of(root, version):
        yield f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)' with changes; write it"
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg", encoding="utf-8")
    if "Source = https://" not in config["metadata"]["project_urls"]:
        yield "project_urls of setup.cfg has no 'Source = https://...', by which an index shows links; add it"


def _wrong_versions(root: Path, version: str) -> Iterator[str]:
    tags = [tag.removeprefix("v") for tag in git(root, "tag", "--list", "v*").split()]
    last = max((tag for tag in tags if VERSION.fullmatch(tag)), key=numbers, default=None)
    if last and numbers(version) <= numbers(last):
        yield f"{version} is not newer than {last}, which is tagged; choose the next"
    for name, pattern in (
        ("semanir_plugin/__init__.py", r'__version__ = "(.+)"'),
        ("CITATION.cff", r"version: (\d.+)"),
    ):
        found = re.search(rf"^{pattern}$", (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        if found is None or found[1] != version:
            yield f"{name} has version {found and found[1]}; set it to {version}"


def numbers(version: str) -> tuple[int, ...]:
    """Return the parts of a version, to be compared."""
    return tuple(map(int, version.split(".")))


def changes_of(root: Path, version: str) -> str:
    """Return what CHANGELOG.md has of a version that has a date; nothing where there is no such section."""
    log = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    head = rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)\n"
    found = re.search(rf"{head}(.*?)(?=^## |\Z)", log, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def git(root: Path, *arguments: str) -> str:
    """Return what git prints.

    Raises:
        RefusedError: It fails.
    """
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RefusedError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
