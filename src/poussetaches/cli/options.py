"""Options that are handed over as they were written.

Typer's own turn each value into its type with pydantic. To import that takes 5 MB and a tenth of
the time in which the server starts, and ours are texts, which ``load_settings`` reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperCommand, TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer._click import Context, Parameter


class WrittenOption(TyperOption):
    """An option whose value stays as it was written."""

    def process_value(self, ctx: Context, value: object) -> object:
        return value if self.callback is None else self.callback(ctx, self, value)


class PlainCommand(TyperCommand):
    """A command with such options."""

    def get_params(self, ctx: Context) -> list[Parameter]:
        return _as_written(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of commands with such options of its own."""

    def get_params(self, ctx: Context) -> list[Parameter]:
        return _as_written(super().get_params(ctx))


def _as_written(parameters: list[Parameter]) -> list[Parameter]:
    for parameter in parameters:
        if isinstance(parameter, TyperOption):
            parameter.__class__ = WrittenOption
    return parameters
