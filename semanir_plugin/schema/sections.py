"""Sections of an option file compared with declarations; what is wrong with them is collected, with its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_origin

from semanir_plugin.errors import UserError, describe_unknown, near_match
from semanir_plugin.option_files import OptionFile
from semanir_plugin.schema.declarations import options_of, pick_options
from semanir_plugin.schema.sources import uses_extra_keywords
from semanir_plugin.schema.values import Hint, conforms, describe_hint, describe_value, parameter_hints, without_null

__all__ = ["OptionError", "Problems", "Section"]

Keys = tuple[str, ...]
Table = Iterable[tuple[str, Any]]  # what iterating one of BasicSR's registries gives
T = TypeVar("T")


class OptionError(UserError):
    """Error that names every problem of an option file, one in a line, as many as `MOST`.

    Args:
        problems: Complete lines.
    """

    MOST = 10

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))

    @property
    def lines(self) -> tuple[str, ...]:
        """What to tell the user."""
        rest = len(self.problems) - self.MOST
        shown = tuple(str(UserError(each)) for each in self.problems[: self.MOST])
        return (*shown, f"and {rest} more") if rest > 0 else shown

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass
class Problems:
    """What was found in an option file.

    Attributes:
        warnings: What is suspicious, one in a line.
    """

    warnings: list[str] = field(default_factory=list)
    _errors: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def add(self, place: str, message: str) -> None:
        """Add an error."""
        path, _, line = place.rpartition(":")
        key = (path, int(line)) if line.isdigit() else (place, 0)
        self._errors.setdefault(f"{place}: {message}", key)

    def __bool__(self) -> bool:
        return bool(self._errors)

    def raise_all(self) -> None:
        """Raise what was added, by line, and after it the warnings: a misspelt key may be why another one is missing.

        Raises:
            OptionError: Something was.
        """
        if self._errors:
            errors = sorted(self._errors, key=lambda each: self._errors[each])
            raise OptionError([*errors, *(f"warning: {each}" for each in self.warnings)])


@dataclass(frozen=True)
class Section:
    """A mapping of an option file, with its key path for messages.

    Attributes:
        file: The file.
        keys: Where it stands.
        values: The mapping.
        problems: Where its problems go, and those of its sections.
        strict: Whether a key that nothing reads is an error, or else a warning: BasicSR ignores it.
    """

    file: OptionFile
    keys: Keys
    values: dict[str, Any]
    problems: Problems
    strict: bool = True

    @classmethod
    def top(cls, file: OptionFile) -> Section:
        """Return the whole of a file."""
        return cls(file, (), file.data, Problems())

    def report(self, message: str, at: str | None = None) -> None:
        """Add a problem of this section, placed at the line of one of its keys where `at` is given."""
        self.problems.add(self.file.where(self.keys if at is None else (*self.keys, at)), self._locate(message))

    def warn(self, message: str, at: str) -> None:
        """Add a warning, placed at the line of a key."""
        self.problems.warnings.append(f"{self.file.where((*self.keys, at))}: {self._locate(message)}")

    def _locate(self, message: str) -> str:
        return ": ".join(filter(None, [":".join(self.keys), message]))

    @contextmanager
    def reporting(self, at: str | None = None) -> Iterator[None]:
        """Report a user's error that ends a part of the checks, and go on after it."""
        try:
            yield
        except UserError as error:
            self.report(str(error), at)

    def sub(self, key: str, *, strict: bool | None = None) -> Section:
        """Return the section under a key, empty where the key is missing, null, or, which is reported, no section."""
        value = self.values.get(key)
        if not isinstance(value, dict | None):
            self.report(f"{key} must be a section of its own, not {value!r}", at=key)
        content = value if isinstance(value, dict) else {}
        strict = self.strict if strict is None else strict
        return Section(self.file, (*self.keys, key), content, self.problems, strict)

    def subs(self) -> dict[str, Section]:
        """Return all sections of this one by their keys, without those that are null, or, which is reported, none."""
        sections = {key: self.sub(key) for key, value in self.values.items() if value is not None}
        return {key: section for key, section in sections.items() if isinstance(self.values[key], dict)}

    def check_keys(self, known: Collection[str], owner: str | None = None, *, strict: bool | None = None) -> bool:
        """Return whether all keys are known; others are reported, as warnings where this is not strict."""
        strict = self.strict if strict is None else strict
        unknown = [key for key in self.values if key not in known]
        for key in unknown:
            if strict:
                self.report(describe_unknown("key", key, known, owner), at=key)
            else:
                near = near_match(key, known)
                hint = f"; did you mean '{near}'?" if near else ""
                self.warn(f"nothing reads the key '{key}'{f' of {owner}' if owner else ''}{hint}", at=key)
        return not unknown or not strict

    def require(self, *keys: str) -> bool:
        """Return whether all these keys are there and not null; report those that are not."""
        missing = [key for key in keys if self.values.get(key) is None]
        if missing:
            self.report(f"missing {', '.join(map(repr, missing))}: add {'it' if len(missing) == 1 else 'them'}")
        return not missing

    def check_value(self, key: str, hint: Hint, *, whole: bool = True) -> bool:
        """Return whether the value of a key, if it is there, conforms to a type hint; report it if not.

        Args:
            key: Of the value.
            hint: Its type.
            whole: Whether floats without a fraction pass for whole numbers.
        """
        if key not in self.values or conforms(self.values[key], hint, whole=whole):
            return True
        self.report(f"{key} must be {describe_hint(hint)}, not {describe_value(self.values[key])}", at=key)
        return False

    def check_values(self, hints: Mapping[str, Hint]) -> bool:
        """Return whether all values conform to the hints of their keys."""
        right = [self.check_value(key, hints[key]) for key in self.values if key in hints]  # all of them are told
        return all(right)

    def read(self, kind: type[T], *, to_train: bool = False) -> T | None:
        """Return a declared section's options; None where some cannot be right, which is reported.

        Keys that it does not declare are left to `check_keys`. Null stands for the default.

        Args:
            kind: Dataclass of options. A method `problems()` of it yields (option, problem) for values that contradict
                one another.
            to_train: Whether options that a training needs must be there.
        """
        options = options_of(kind)
        needed = [each.name for each in options if each.required or (to_train and each.required_to_train)]
        whole = self.require(*needed)
        given = {each.name: without_null(each.hint) for each in options if self.values.get(each.name) is not None}
        right = [self._check_given(name, hint) for name, hint in given.items()]
        if not whole or not all(right):
            return None
        picked = pick_options(kind, self.values)
        found = list(getattr(picked, "problems", tuple)())
        for key, problem in found:
            self.report(problem, at=key)
        return None if found else picked

    def _check_given(self, key: str, hint: Hint) -> bool:
        if get_origin(hint) is Mapping:
            self.sub(key)  # which reports what is none
            return isinstance(self.values[key], dict)
        return self.check_value(key, hint)

    def look_up(self, kind: str, table: Table, key: str = "type") -> Any:
        """Return the entry of a registry or table that the section's `type` names; None, reported, if there is none."""
        if not self.require(key):
            return None
        # The registry's own look-up falls back to the suffix under which BasicSR registers what others may replace.
        known = {name.removesuffix("_basicsr"): target for name, target in sorted(table, reverse=True)}
        name = str(self.values[key])
        if name.removesuffix("_basicsr") not in known:
            self.report(describe_unknown(kind, name, known), at=key)
        return known.get(name.removesuffix("_basicsr"))

    def check_call(
        self,
        target: Callable[..., Any],
        *,
        given: Collection[str] = (),
        extra: Collection[str] = (),
        owner: str | None = None,
        hints: Mapping[str, Hint] | None = None,
    ) -> bool:
        """Compare keys and values with the parameters of what will be called with them, and with their annotations.

        Args:
            target: A constructor or function.
            given: Parameters that the caller fills in.
            extra: Keys that are read by others.
            owner: What messages call it; by default its name.
            hints: Types and ranges of options of that kind, by name, which come before the annotations.

        Returns:
            Whether the call can be right.
        """
        owner = owner or target.__name__
        takes = {each.name: each for each in options_of(target) if each.name not in given}
        known = True
        if not uses_extra_keywords(target):
            own = target.__module__.partition(".")[0] == "semanir_plugin"
            known = self.check_keys({*takes, *extra}, owner, strict=own or not _ignores_others(target))
        missing = [name for name, each in takes.items() if each.required and name not in self.values]
        if missing:
            self.report(f"{owner} needs {', '.join(map(repr, missing))}")
        hints, types = hints or {}, parameter_hints(target)
        right = self.check_values({name: hints[name] for name in takes.keys() & hints.keys()})
        for name in takes.keys() & (types.keys() - hints.keys()):
            right &= self.check_value(name, types[name], whole=False)  # it is called with the value as it is
        return known and right and not missing


def _ignores_others(target: Callable[..., Any]) -> bool:
    """Return whether a call with an unknown keyword is possible."""
    return any(each.kind is each.VAR_KEYWORD for each in inspect.signature(target).parameters.values())
