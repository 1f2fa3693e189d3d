"""The machine as short-lived processes ask it: its tools by argv, its files by path. Not used by the daemon itself."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

OUTPUT_MAX_BYTES: Final = 8 * 1024 * 1024
TEXT_MAX_BYTES: Final = 1024 * 1024
TIMEOUT_SECONDS: Final = 60.0
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Answer(NamedTuple):
    exit_code: int
    output: str


class Host(Protocol):
    def ask(self, *argv: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Answer | None:
        """Return how a tool ended and what it wrote to standard output; None where there is none, or no answer."""

    def path(self, absolute: str) -> Path:
        """Return where a file of the machine is to be read."""

    def is_root(self) -> bool: ...


class LocalHost:
    """This machine. Tools see fixed search paths and the C locale."""

    def ask(self, *argv: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Answer | None:
        try:
            process = subprocess.Popen(  # noqa: S603  argv alone; it ends with the group of this process
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
            )
        except OSError:
            return None
        timer = threading.Timer(timeout_seconds, process.kill)
        timer.start()
        with process:
            assert process.stdout is not None
            output = process.stdout.read(OUTPUT_MAX_BYTES + 1)
            if len(output) > OUTPUT_MAX_BYTES:
                process.kill()
        timer.cancel()
        if len(output) > OUTPUT_MAX_BYTES or process.returncode < 0:
            return None
        return Answer(process.returncode, output.decode(errors="replace"))

    def path(self, absolute: str) -> Path:
        return Path(absolute)

    def is_root(self) -> bool:
        return sys.platform == "win32" or os.geteuid() == 0


def text_of(host: Host, absolute: str) -> str:
    """Return the text of a file without blanks around it; empty where it cannot be read."""
    try:
        with host.path(absolute).open("rb") as file:
            return file.read(TEXT_MAX_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""


def lines_of(host: Host, *argv: str) -> list[str] | None:
    """Return the lines that a tool wrote; None where it did not end well."""
    answer = host.ask(*argv)
    return answer.output.splitlines() if answer is not None and answer.exit_code == 0 else None


def ask_powershell(host: Host, script: str) -> bytes:
    """Return what a script wrote; nothing where there is no PowerShell or no answer."""
    encoded = base64.b64encode(script.encode("utf-16-le")).decode()
    answer = host.ask("powershell.exe", "-NoProfile", "-NonInteractive", "-EncodedCommand", encoded, timeout_seconds=90)
    return answer.output.encode() if answer is not None else b""


def _environment() -> Mapping[str, str]:
    if sys.platform == "win32":
        return os.environ
    return {"PATH": _PATH, "LC_ALL": "C", "HOME": os.environ.get("HOME", "/"), "DEBIAN_FRONTEND": "noninteractive"}
