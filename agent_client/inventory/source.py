"""What every system's inventory is asked for."""

from __future__ import annotations

from typing import Protocol

from protocol.inventory import Hardware, OperatingSystem, Packages, Services


class InventorySource(Protocol):
    """Each section is asked for on its own. None: the machine does not tell it. Takes seconds."""

    def hardware(self) -> Hardware | None: ...

    def operating_system(self) -> OperatingSystem | None: ...

    def packages(self) -> Packages | None: ...

    def services(self) -> Services | None: ...
