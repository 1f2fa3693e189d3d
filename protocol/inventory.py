"""What a machine is made of and what is installed on it, in sections that travel on their own, each when it changed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, field

from protocol.elements import Body, Text, Word

Count = Annotated[int, Meta(ge=0, le=2**53)]
ITEMS_MAX: Final = 20_000
PARTS_MAX: Final = 64
PART_MAX_BYTES: Final = 128 * 1024


class Section(StrEnum):
    HARDWARE = "hardware"
    OS = "os"
    PACKAGES = "packages"
    SERVICES = "services"


class Drive(Body, frozen=True):
    name: Text
    model: Text = ""
    size_bytes: Count = 0
    rotational: bool | None = None


class Hardware(Body, frozen=True):
    """Empty or 0 where the machine does not tell."""

    manufacturer: Text = ""
    model: Text = ""
    serial: Text = ""
    board: Text = ""
    firmware: Text = ""
    cpu_model: Text = ""
    cpu_cores: Count = 0
    cpu_threads: Count = 0
    memory_total_bytes: Count = 0
    virtualization: Text = ""
    drives: list[Drive] = field(default_factory=list)


class OperatingSystem(Body, frozen=True):
    name: Text = ""
    version: Text = ""
    kernel: Text = ""
    arch: Text = ""
    timezone: Text = ""
    installed_at: Text = ""


class Package(Body, frozen=True):
    name: Word
    version: Text = ""
    source: Text = ""
    """Which package manager knows it: dpkg, rpm, apk, pacman, brew, windows."""


class Packages(Body, frozen=True):
    items: list[Package]


class ServiceUnit(Body, frozen=True):
    name: Word
    state: Text = ""
    """As the service manager says: running, exited, failed, stopped."""
    starts: Text = ""
    """enabled, disabled, static, automatic, manual."""


class Services(Body, frozen=True):
    items: list[ServiceUnit]


SECTIONS: Final = {
    Section.HARDWARE: Hardware,
    Section.OS: OperatingSystem,
    Section.PACKAGES: Packages,
    Section.SERVICES: Services,
}


def hash_of(body: Mapping[str, Any]) -> str:
    """Return the hash of a section's whole body as it travels: SHA-256 over JSON with sorted keys and no blanks."""
    return sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
