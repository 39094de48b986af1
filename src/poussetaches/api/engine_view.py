"""What the API may know of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class EngineView(Protocol):
    """The engine as it is seen from outside; nothing here changes it."""

    @property
    def paused(self) -> bool:
        """Tell whether the server is paused."""

    @property
    def in_flight(self) -> int:
        """How many attempts are on the wire."""

    def held(self) -> Mapping[str, str]:
        """Return the origins that are held, with the errors that they are held for."""

    def stuck(self) -> list[str]:
        """Return what does not move and ought to, in words; empty when all is well."""
