"""`python -m agent_client.inventory FOLDER`: collects every section and puts it on the shelf in FOLDER.

What a section fails with is said on standard error, and the exit code is 1; the others are there all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from agent_client.host import Host, LocalHost
from agent_client.inventory.shelving import put_sections
from agent_client.inventory.source import InventorySource
from protocol.elements import Body
from protocol.inventory import Section


def main() -> int:
    source = source_of(LocalHost(), sys.platform)
    if source is None:
        return 0
    bodies, faults = collected(source)
    put_sections(Path(sys.argv[1]), bodies)
    if faults:
        sys.stderr.write("; ".join(faults) + "\n")
    return 1 if faults else 0


def collected(source: InventorySource) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the bodies by section, and what the missing ones failed with."""
    bodies, faults = {}, []
    asked: tuple[tuple[Section, Callable[[], Body | None]], ...] = (
        (Section.HARDWARE, source.hardware),
        (Section.OS, source.operating_system),
        (Section.PACKAGES, source.packages),
        (Section.SERVICES, source.services),
    )
    for section, ask in asked:
        try:
            body = ask()
        except Exception as error:  # noqa: BLE001  one section is isolated from the others, and said
            faults.append(f"{section.value}: {type(error).__name__}: {error}")
            continue
        if body is not None:
            bodies[section.value] = msgspec.to_builtins(body)
    return bodies, faults


def source_of(host: Host, platform: str) -> InventorySource | None:
    """Each system's own code is loaded on that system alone."""
    if platform.startswith("linux"):
        from agent_client.inventory.linux import LinuxInventory  # noqa: PLC0415

        return LinuxInventory(host)
    if platform == "darwin":
        from agent_client.inventory.macos import MacosInventory  # noqa: PLC0415

        return MacosInventory(host)
    if platform == "win32":
        from agent_client.inventory.windows import WindowsInventory  # noqa: PLC0415

        return WindowsInventory(host)
    return None


if __name__ == "__main__":
    sys.exit(main())
