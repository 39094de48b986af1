"""The origin of a setting's value: an operator, the code of an application, or the server."""

from __future__ import annotations

from typing import Any, Literal

Origin = Literal["operator", "code", "server"]
Origins = dict[str, Any]  # an Origin for each setting; Origins for a setting that is an object
