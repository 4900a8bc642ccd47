"""Other people's packages, whose architectures, models, datasets, losses and metrics option files can name.

Such a package registers what it has when it is imported, in BasicSR's registries or in `semanir_plugin.registry`. It is
imported where the command line names it (`import_named`), where an option file does (`import_for`), or always, if it is
installed and announces itself (`import_installed`) by an entry point:

    [options.entry_points]
    semanir_plugin.extensions =
        my_archs = my_archs
"""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from semanir_plugin.errors import UserError, one_line

if TYPE_CHECKING:
    from semanir_plugin.option_files import OptionFile

__all__ = ["GROUP", "import_for", "import_installed", "import_named", "imported"]

GROUP = "semanir_plugin.extensions"
"""Group of the entry points by which an installed package announces modules of its own."""

_imported: dict[str, None] = {}  # in their order

_logger = logging.getLogger(__name__)


def import_installed() -> None:
    """Import the modules that installed packages announce; a warning tells of each that cannot be imported."""
    for entry in metadata.entry_points(group=GROUP):
        try:
            importlib.import_module(entry.module)
        except Exception as error:  # none of them may stop a command that may not need it
            owner = entry.dist.name if entry.dist else entry.module
            _logger.warning(f"{owner} extends this package, but {_describe(error)}; correct it, or uninstall it")
        else:
            _imported[entry.module] = None


def import_named(modules: Iterable[str]) -> None:
    """Import modules that the command line names, each by its name or as a `.py` file.

    A name is looked for among what is installed, then in the working directory.

    Raises:
        UserError: There is no such module, another one of its name comes first, or it fails when it is imported.
    """
    for module in modules:
        path = Path(module)
        is_file = path.suffix == ".py"
        name, folder = (path.stem, path.parent) if is_file else (module, Path())
        if str(folder.resolve()) not in sys.path:
            sys.path.append(str(folder.resolve()))  # behind all else, so that nothing there takes another's place
        imported = _import_or_tell(name, f"--import {module}")
        if is_file and not (imported.__file__ and path.is_file() and path.samefile(imported.__file__)):
            found = f"{imported.__file__ or name} is found first: rename the file" if path.is_file() else "no such file"
            raise UserError(f"--import {module}: {found}")
        _imported[name] = None


def imported() -> list[str]:
    """Return the modules that were imported here, which a new process has to import as well."""
    return list(_imported)


def import_for(file: OptionFile) -> list[str]:
    """Import the modules in the `imports` of an option file: those that are installed or named on the command line.

    Returns:
        Warnings: option files come from strangers, so each module is told that is installed but announces nothing.

    Raises:
        UserError: `imports` is no list of names, or a module is neither installed nor named, or cannot be imported.
    """
    modules = file.data.get("imports") or []
    where = f"{file.where(('imports',))}: imports"
    if not isinstance(modules, list) or not all(isinstance(each, str) for each in modules):
        raise UserError(f"{where} must be a list of modules, such as [my_archs], not {modules!r}")
    warnings = []
    for name in (each for each in modules if each not in _imported):
        owner = _installed_owner(name)
        if owner is None:
            raise UserError(
                f"{where}: {name!r} is not installed, and so a file alone cannot have it imported; if you trust it, "
                f"name it on the command line: basicsr --import {name} ..."
            )
        _import_or_tell(name, where)
        _imported[name] = None
        warnings.append(f"{where}: {name} is imported, a module of {owner}")
    return warnings


def _installed_owner(name: str) -> str | None:
    """Return the installed distribution that a module is of; None where there is none, or it is a program to run."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts) or "__main__" in parts:
        return None
    owners = metadata.packages_distributions().get(parts[0])
    if owners:
        return owners[0]
    try:  # an editable installation may not say what modules it has
        return metadata.distribution(parts[0]).name
    except metadata.PackageNotFoundError:
        return None


def _import_or_tell(name: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a module may raise anything
        raise UserError(f"{where}: {_describe(error)}; correct it") from error


def _describe(error: Exception) -> str:
    """Say in one line what stopped an import, and where, if that is in the module and not before it is found."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}"
    lines = [each for each in traceback.extract_tb(error.__traceback__) if not _is_machinery(each.filename)]
    return f"{lines[-1].filename}:{lines[-1].lineno}: {one_line(error)}" if lines else one_line(error)


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen") or filename in (__file__, importlib.__file__)
