"""The users of this machine that a job may run as."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from msgspec import Struct

if sys.platform != "win32":
    import pwd


class Account(Struct, frozen=True):
    user_id: int
    group_id: int
    groups: list[int]
    name: str
    home: str

    @property
    def is_ours(self) -> bool:
        return sys.platform == "win32" or self.user_id == os.geteuid()

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables that say whose process it is."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


class NoAccount(Exception):
    """The job cannot run as that user; the message says why."""


def account_of(name: str) -> Account:
    """Raises NoAccount where there is no such user, or this process may not become one."""
    if sys.platform == "win32":
        raise NoAccount("this agent does not run jobs as another user on Windows")
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise NoAccount(f"there is no user {name!r} on this machine") from None
    if os.geteuid() not in {0, found.pw_uid}:
        raise NoAccount(f"the agent's executor does not run as root, so it cannot run a job as {name!r}")
    groups = os.getgrouplist(name, found.pw_gid) if os.geteuid() == 0 else []
    return Account(found.pw_uid, found.pw_gid, groups, name, found.pw_dir)
