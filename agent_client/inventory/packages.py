"""Lists of packages in the one form in which the same packages have the same hash."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.inventory import ITEMS_MAX, Package, Packages

_NAME_MAX_CHARS: Final = 128
_VERSION_MAX_CHARS: Final = 256


def packages_from(packages: Iterable[Package]) -> Packages:
    """Return them sorted and without repetition, so that the same packages have the same hash."""
    unique = sorted(
        {(one.name[:_NAME_MAX_CHARS], one.version[:_VERSION_MAX_CHARS], one.source) for one in packages if one.name}
    )
    return Packages(
        items=[Package(name=name, version=version, source=source) for name, version, source in unique[:ITEMS_MAX]]
    )
