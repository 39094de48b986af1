"""One row of the table of settings: its field in a group, and the names derived from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

from poussetaches.core.setting_names import PREFIX
from poussetaches.settings.value_types import ValueType

T = TypeVar("T")
G = TypeVar("G")


def setting(type: ValueType[T], default: T, help: str, *, secret: bool = False) -> T:
    """Declare a setting as a dataclass field; the type checker sees its default."""
    found: Any = field(default=default, metadata={"type": type, "help": help, "secret": secret})
    return found  # type: ignore[no-any-return]  # as with dataclasses.field


def optional(
    type: ValueType[T], help: str, *, default: T | None = None, secret: bool = False
) -> T | None:
    """Declare a setting that may be ``none``."""
    return setting(type, default, help, secret=secret)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Settings of one part of the server. All durations are seconds, all sizes bytes."""

    title: ClassVar[str]
    prefix: ClassVar[str] = ""  # of the settings' names


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    group: Group
    field: Field[Any]

    @property
    def name(self) -> str:
        """The key in the file; flag and environment variable follow from it."""
        return self.group.prefix + self.field.name

    @property
    def type(self) -> ValueType[object]:
        """The type of its value."""
        found: ValueType[object] = self.field.metadata["type"]
        return found

    @property
    def default(self) -> object:
        """The default; a setting whose default is None may be set to ``none``."""
        return self.field.default

    @property
    def help(self) -> str:
        """Its description, in one or two sentences."""
        return str(self.field.metadata["help"])

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown."""
        return bool(self.field.metadata["secret"])

    @property
    def env(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str | None:
        """The flag; secrets have none, since all users of a machine can list its processes."""
        return None if self.secret else "--" + self.name.replace("_", "-")

    @property
    def is_list(self) -> bool:
        """Whether its flag may be repeated."""
        return isinstance(self.default, tuple)

    @property
    def allowed(self) -> str:
        """The allowed values, as the end of a sentence that begins with "give"."""
        return f"{self.type.allowed}, or none" if self._may_be_none else self.type.allowed

    @property
    def _may_be_none(self) -> bool:
        return self.default is None and not self.secret

    def read(self, raw: object) -> object:
        """Return the value of a text or of a TOML value.

        Raises:
            ValueError: it is not allowed.
        """
        if raw == "none" and self._may_be_none:
            return None
        return self.type.read(raw)


def settings_in(groups: object) -> Iterator[Setting]:
    """Yield the settings of all groups, in order; ``groups`` is a dataclass of groups."""
    for group in _groups_of(groups).values():
        for each in fields(group):
            yield Setting(group, each)


def grouped(groups: G, values: Mapping[str, object]) -> G:
    """Return the groups with the values of the settings that are named."""
    changes: dict[str, Any] = {
        name: replace(group, **_own_values(group, values))
        for name, group in _groups_of(groups).items()
    }
    return replace(groups, **changes)  # type: ignore[type-var]  # it is a dataclass


def _groups_of(groups: Any) -> dict[str, Group]:
    return {each.name: getattr(groups, each.name) for each in fields(groups)}


def _own_values(group: Group, values: Mapping[str, object]) -> dict[str, Any]:
    names = {each.name: group.prefix + each.name for each in fields(group)}
    return {field: values[name] for field, name in names.items() if name in values}
