"""The source of a setting's value: an operator, the code of an application, or the server."""

from __future__ import annotations

from typing import Any, Literal

Source = Literal["operator", "code", "server"]
Sources = dict[str, Any]  # a Source for each setting; Sources for a setting that is an object
