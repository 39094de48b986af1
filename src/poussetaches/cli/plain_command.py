"""Commands whose options and arguments stay text.

Typer converts values with pydantic, whose import takes 5 MB and a tenth of the server's start.
Ours are texts, which ``load_settings`` reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer._click.exceptions import MissingParameter
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer._click import Context, Parameter


class TextOption(TyperOption):
    """An option whose value stays text."""

    def process_value(self, ctx: Context, value: object) -> object:
        return value if self.callback is None else self.callback(ctx, self, value)


class TextArgument(TyperArgument):
    """An argument whose value stays text."""

    def process_value(self, ctx: Context, value: object) -> object:
        if self.required and self.value_is_missing(value):
            raise MissingParameter(ctx=ctx, param=self)
        return value

    def display_type_rich(self, ctx: Context) -> str:
        """Return nothing for the help: the type is always text."""
        return ""


class PlainCommand(TyperCommand):
    """A command with text options and arguments."""

    def get_params(self, ctx: Context) -> list[Parameter]:
        return _as_text(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of commands with text options."""

    def get_params(self, ctx: Context) -> list[Parameter]:
        return _as_text(super().get_params(ctx))


def _as_text(parameters: list[Parameter]) -> list[Parameter]:
    for parameter in parameters:
        if isinstance(parameter, TyperOption):
            parameter.__class__ = TextOption
        elif isinstance(parameter, TyperArgument):
            parameter.__class__ = TextArgument
    return parameters
