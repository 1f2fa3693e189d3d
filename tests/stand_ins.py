"""Modules in place of modules, for the one that is tested: whole hubs run in threads of the same process."""

from __future__ import annotations

from types import ModuleType
from typing import Any


def stand_in(module: ModuleType, **instead: Any) -> ModuleType:
    """Return what has all of `module`, but for what is given."""
    other = ModuleType(module.__name__)
    other.__dict__.update(vars(module) | instead)
    return other
