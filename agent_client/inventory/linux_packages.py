"""Installed packages of a Linux machine, by the database of its package manager."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from agent_client.host import Host, lines_of
from agent_client.inventory.packages import packages_from
from protocol.inventory import Package, Packages


def packages_of(host: Host) -> Packages | None:
    """Return those of every package manager that is there; None where there is none that answers."""
    found = [packages for packages in (_dpkg(host), _rpm(host), _apk(host), _pacman(host)) if packages is not None]
    return packages_from(chain.from_iterable(found)) if found else None


def _dpkg(host: Host) -> list[Package] | None:
    lines = lines_of(host, "dpkg-query", "-W", "-f", "${db:Status-Status}\t${binary:Package}\t${Version}\n")
    if lines is None:
        return None
    rows = (line.split("\t") for line in lines)
    return [
        Package(name=row[1], version=row[2], source="dpkg") for row in rows if len(row) == 3 and row[0] == "installed"
    ]


def _rpm(host: Host) -> list[Package] | None:
    if not any(host.path(folder).exists() for folder in ("/var/lib/rpm", "/usr/lib/sysimage/rpm")):
        return None
    lines = lines_of(host, "rpm", "-qa", "--qf", "%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\n")
    if lines is None:
        return None
    rows = (line.split("\t") for line in lines)
    return [
        Package(name=row[0], version=row[1].removeprefix("0:"), source="rpm")
        for row in rows
        if len(row) == 2 and row[0] != "gpg-pubkey"
    ]


def _apk(host: Host) -> list[Package] | None:
    """Read the database itself: a paragraph a package, `P:` its name and `V:` its version."""
    try:
        with host.path("/lib/apk/db/installed").open(encoding="utf-8", errors="replace") as file:
            return [*_apk_packages(file)]
    except OSError:
        return None


def _apk_packages(lines: Iterable[str]) -> Iterator[Package]:
    name = ""
    for line in lines:
        if line.startswith("P:"):
            name = line[2:].strip()
        elif line.startswith("V:") and name:
            yield Package(name=name, version=line[2:].strip(), source="apk")


def _pacman(host: Host) -> list[Package] | None:
    """Read the names of its folders: name-version-release."""
    folder = host.path("/var/lib/pacman/local")
    if not folder.is_dir():
        return None
    found = (re.fullmatch(r"(.+)-([^-]+-[^-]+)", entry.name) for entry in folder.iterdir() if entry.is_dir())
    return [Package(name=match[1], version=match[2], source="pacman") for match in found if match]
