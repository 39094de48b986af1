"""Options and arguments that are handed over as they were written.

Typer's own turn each value into its type with pydantic. To import that takes 5 MB and a tenth of
the time in which the server starts, and ours are texts, which ``load_settings`` reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer._click.exceptions import MissingParameter
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer._click import Context, Parameter


class WrittenOption(TyperOption):
    """An option whose value stays as it was written."""

    def process_value(self, ctx: Context, value: object) -> object:
        return value if self.callback is None else self.callback(ctx, self, value)


class WrittenArgument(TyperArgument):
    """An argument whose value stays as it was written."""

    def process_value(self, ctx: Context, value: object) -> object:
        if self.required and self.value_is_missing(value):
            raise MissingParameter(ctx=ctx, param=self)
        return value


class PlainCommand(TyperCommand):
    """A command with such options and arguments."""

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
        elif isinstance(parameter, TyperArgument):
            parameter.__class__ = WrittenArgument
    return parameters
