"""Who could change a file: what the agent runs with its own rights must be the agent's or root's alone."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

from agent_client.errors import AgentError

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Untrusted(AgentError):
    """Somebody else could change the file; the message says who and what mends it."""

    code: ClassVar[str] = "untrusted_file"
    exit_code: ClassVar[int] = 77


def check_unchangeable(path: Path) -> Path:
    """Return what `path` leads to, when only root and this agent's user can change it or put another there.

    A folder on the way, also that of a symbolic link, may be open to all only with its sticky bit, as /tmp. Raises
    Untrusted, or OSError when it does not exist. Windows is not checked.
    """
    real = path.resolve(strict=True)
    if sys.platform != "win32":
        _check(real, is_folder=False)
        for folder in dict.fromkeys(_folders_on_the_way(path.absolute())):
            _check(folder, is_folder=True)
    return real


def check_absent(path: Path) -> None:
    """Check that only root and this agent's user can have removed `path`, which is not there, or can put it there.

    Raises Untrusted, or OSError. Windows is not checked.
    """
    if sys.platform == "win32":
        return
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    for step in dict.fromkeys(_folders_on_the_way(folder / path.name)):
        _check(step, is_folder=True)


def _folders_on_the_way(path: Path) -> Iterator[Path]:
    """Yield each folder in which an entry decides where `path`, which leads somewhere, leads to."""
    folder, rest = Path(path.anchor), [*path.parts[1:]]
    while rest:
        yield folder
        step = folder / rest.pop(0)
        if step.name == "..":
            folder = folder.parent
        elif step.is_symlink():
            target = step.readlink()
            folder = Path(target.anchor) if target.is_absolute() else folder
            rest = [*(part for part in target.parts if part != target.anchor), *rest]
        else:
            folder = step


def _check(path: Path, *, is_folder: bool) -> None:
    status = path.stat()
    if status.st_uid not in {0, os.geteuid()}:
        raise Untrusted(f"{path} belongs to user {status.st_uid}; run `chown root {path}`")
    if status.st_mode & _OTHERS_WRITE and not (is_folder and status.st_mode & stat.S_ISVTX):
        raise Untrusted(f"{path} can be written by others; run `chmod go-w {path}`")
