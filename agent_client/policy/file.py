"""`policy.toml`: where it is, whose it must be, and what it says at the moment."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent_client.ownership import Untrusted, check_absent, check_unchangeable
from agent_client.paths import CONFIG, Places
from agent_client.policy.terms import BadPolicy, Policy, policy_of

FILE_MAX_BYTES: Final = 256 * 1024
_NAME: Final = "policy.toml"


class NoPolicy(Struct, frozen=True):
    """There is no file: whatever the hub's signer signs may run."""


class Unusable(Struct, frozen=True):
    """There is a file that cannot be believed or read: nothing may run. The message says what mends it."""

    message: str


PolicyState = NoPolicy | Policy | Unusable


def default_path(platform: str = sys.platform) -> Path:
    if platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "JTNT" / _NAME
    if platform == "darwin":
        return Path("/Library/Application Support/JTNT") / _NAME
    return Path("/etc/jtnt") / _NAME


class PolicyFile:
    """Asked anew when a job comes and when it begins. The file is parsed when it changed."""

    def __init__(self, path: Path, chosen_in: Path | None = None) -> None:
        """`chosen_in`: the configuration that names another path than the default, which must be as safe itself."""
        self.path: Final = path
        self._chosen_in = chosen_in
        self._seen: tuple[int, ...] = ()
        self._parsed: Policy | Unusable | None = None

    @classmethod
    def of(cls, places: Places, chosen: str | None) -> PolicyFile:
        """`chosen`: `policy_file` of the configuration in `places`, None for the machine's usual one."""
        return cls(default_path()) if chosen is None else cls(Path(chosen), places.config / CONFIG)

    def current(self) -> PolicyState:
        try:
            if self._chosen_in is not None:
                check_unchangeable(self._chosen_in)
            try:
                self.path.lstat()
            except FileNotFoundError:
                return self._absent()
            real = check_unchangeable(self.path)
            status = real.stat()
            stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
            if self._parsed is None or stamp != self._seen:
                self._parsed, self._seen = _parsed(real.read_bytes(), str(self.path)), stamp
            return self._parsed
        except Untrusted as error:
            return Unusable(f"no job runs here: {error}")
        except OSError as error:
            return Unusable(
                f"no job runs here: {error.filename or self.path} cannot be read: {error.strerror or error}"
            )

    def _absent(self) -> NoPolicy | Unusable:
        """Without a file everything may run, unless one was wanted. Raises Untrusted or OSError."""
        if self._chosen_in is not None:
            return Unusable(f"no job runs here: {self._chosen_in} names {self.path} as the policy, and there is none")
        check_absent(self.path)
        return NoPolicy()


def _parsed(content: bytes, path: str) -> Policy | Unusable:
    # Most machines have no policy; the parser would stay in memory.
    import tomllib  # noqa: PLC0415

    if len(content) > FILE_MAX_BYTES:
        return Unusable(f"no job runs here: {path} is larger than {FILE_MAX_BYTES} bytes")
    try:
        return policy_of(tomllib.loads(content.decode()), path)
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        return Unusable(f"no job runs here: {path} is not TOML: {error}")
    except BadPolicy as error:
        return Unusable(f"no job runs here: {path}: {error}")
