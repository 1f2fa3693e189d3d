"""Modules that libraries import at their start and seldom use: loaded when something of them is first asked for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Final

_GIVING_WAY: Final = threading.Lock()


class Later(ModuleType):
    """Stands for the module of its name, and has all that is in there."""

    def __getattr__(self, name: str) -> object:
        with _GIVING_WAY:  # whoever comes second would take the real module away
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def put_off(names: Iterable[str]) -> None:
    """Let `import NAME` load none of these from now on, but what is asked of it. One that is loaded stays."""
    for name in names:
        sys.modules.setdefault(name, Later(name))
