"""The option files that come with this package, and the names that stand for one of them with a value set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from semanir_plugin.plain_yaml import parse_yaml

__all__ = ["SCHEMA_LINE", "Recipe", "find_recipe", "recipe_folder", "shipped_recipes"]

SCHEMA_LINE = "# yaml-language-server: $schema="
"""How an option file tells editors the JSON schema that completes and checks it."""

_ALIASES = "aliases.yml"


@dataclass(frozen=True)
class Recipe:
    """An option file, by its own name or by one that stands for it with values set.

    Attributes:
        name: The name.
        path: The file.
        values: Options of its top level that the name sets, such as `{"sigma": 25}`.
    """

    name: str
    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """What the file says first of itself."""
        with self.path.open(encoding="utf-8") as file:
            return next(line.lstrip("# ").rstrip() for line in file if not line.startswith(SCHEMA_LINE))

    def __str__(self) -> str:
        values = " and ".join(f"{key} {value}" for key, value in self.values.items())
        return f"{self.path.name} of this package" + (f", with {values}" if values else "")


def recipe_folder() -> Path:
    """Return the folder of the shipped option files: in a clone, `options`, to which a link in the package leads."""
    package = Path(__file__).parent
    linked = package / "recipes"
    return (linked if linked.is_dir() else package.parent / "options").resolve()  # links may be checked out as files


@cache
def shipped_recipes() -> dict[str, Recipe]:
    """Return the shipped option files by their names, which end with `.yml`, sorted."""
    folder = recipe_folder()
    recipes = {path.name: Recipe(path.name, path) for path in folder.glob("*.yml") if path.name != _ALIASES}
    table, _ = parse_yaml((folder / _ALIASES).read_text(encoding="utf-8"), lambda line: f"{folder / _ALIASES}:{line}")
    for name, values in table.items():
        recipes[name] = Recipe(name, folder / values.pop("recipe"), values)
    return dict(sorted(recipes.items()))


def find_recipe(name: str | os.PathLike[str]) -> Recipe | None:
    """Return the shipped option file of a name, with or without `.yml`, alone or in a folder called `options`."""
    path, known = Path(name), shipped_recipes()
    if path.parent != Path() and path.parent.name != "options":
        return None  # a file of the user's, who has mistaken its folder
    return known.get(path.name) or known.get(f"{path.name}.yml")
