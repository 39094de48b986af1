"""The module that runs the code of our pages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest


@pytest.fixture
def page() -> Iterator[ModuleType]:
    """Yield a module that the code of a page may run in, one block after the other."""
    module = ModuleType("page_of_the_docs")
    sys.modules[module.__name__] = module  # where type hints are looked up
    yield module
    del sys.modules[module.__name__]
