"""The facts of the metric type `security`, the same for every system."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Updates(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`updates_as_of_ms`: when the machine last heard what there is."""

    updates_available: int
    security_updates: int | None = None
    updates_as_of_ms: int | None = None


class SecurityFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A field is left out where it cannot be told, or there is nothing to tell it of: no guess raises an alert."""

    firewall_enabled: bool | None = None
    firewall: str = ""
    antivirus_enabled: bool | None = None
    antivirus: str = ""
    updates_available: int | None = None
    security_updates: int | None = None
    updates_as_of_ms: int | None = None
    reboot_required: bool | None = None
    automatic_updates_enabled: bool | None = None


class Memo(Struct, frozen=True):
    """What the last process found out at some cost, good as long as `stamp` is the same."""

    stamp: str = ""
    updates: Updates | None = None


class Findings(Struct, frozen=True):
    """What travels back to the daemon."""

    facts: SecurityFacts
    memo: Memo = Memo()


class SecuritySource(Protocol):
    def findings(self, memo: Memo) -> Findings:
        """Return the facts of now. Takes seconds."""
