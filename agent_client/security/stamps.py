"""Which files say that updates were installed or became known."""

from typing import Final

INSTALLED: Final = (
    "/var/lib/dpkg/status",
    "/var/lib/rpm",
    "/usr/lib/sysimage/rpm",
    "/lib/apk/db/installed",
    "/var/lib/pacman/local",
)
LISTS: Final = ("/var/lib/apt/lists", "/var/cache/dnf", "/var/cache/libdnf5", "/var/lib/pacman/sync")
SETTINGS: Final = ("/run/reboot-required", "/etc/ufw/ufw.conf")
