"""Where the agent keeps its files (seed 000, "Storage Locations")."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

CONFIG: Final = "config.json"
LOCAL_POLICY: Final = "local-policy.json"
CLIENT_CERTIFICATE: Final = "client.crt"
CLIENT_KEY: Final = "client.key"
PENDING_KEY: Final = "enrollment.key"
CA_BUNDLE: Final = "ca-bundle.crt"
TRUST: Final = "trust.json"
POLICY: Final = "policy.json"
SETTINGS: Final = "settings.json"
CERTIFICATE_TERMS: Final = "certificate-terms.json"
WITNESS: Final = "witness.json"


class Places(Struct, frozen=True):
    """Three directories: `config` for people's settings, `certs` for keys and certificates, `state` for the rest."""

    config: Path
    certs: Path
    state: Path

    @classmethod
    def inside(cls, data_dir: Path) -> Places:
        """Return places that all lie in one folder, as tests and demos want them."""
        directory = data_dir.absolute()
        return cls(directory, directory / "certs", directory)

    @classmethod
    def of_system(cls, platform: str = sys.platform) -> Places:
        if platform == "win32":
            directory = Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "JTNT" / "Agent"
            return cls(directory, directory / "certs", directory)
        if platform == "darwin":
            directory = Path("/Library/Application Support/JTNT/Agent")
            return cls(directory, directory / "certs", directory)
        state = Path("/var/lib/jtnt-agent")
        return cls(Path("/etc/jtnt-agent"), state / "certs", state)

    @classmethod
    def chosen(cls, data_dir: str | None) -> Places:
        return cls.inside(Path(data_dir)) if data_dir else cls.of_system()

    @property
    def option(self) -> str:
        """Return what a command needs behind it to act on these places: ` --data-dir DIR`, or nothing."""
        return "" if self == Places.of_system() else f" --data-dir {shlex.quote(str(self.state))}"

    @property
    def database(self) -> Path:
        return self.state / "spool.db"

    @property
    def marks(self) -> Path:
        """Apart from the spool, so that it tells when that was deleted or put back to an earlier state."""
        return self.state / "marks"

    @property
    def lock(self) -> Path:
        return self.state / "agentd.lock"

    @property
    def files_lock(self) -> Path:
        """Held by whoever changes the identity's files."""
        return self.state / "files.lock"

    @property
    def control_socket(self) -> Path:
        return self.state / "agentd.sock"

    @property
    def control_secret(self) -> Path:
        """Used where there are no Unix sockets: the port and the secret of the loopback listener."""
        return self.state / "agentd.port"

    @property
    def plugins_file(self) -> Path:
        return self.config / "plugins.toml"

    @property
    def plugins(self) -> Path:
        """Programs and Python modules that `plugins.toml` names."""
        return self.config / "plugins"

    @property
    def inventory(self) -> Path:
        """The sections of the inventory as they were collected last, until the hub holds them."""
        return self.state / "inventory"
