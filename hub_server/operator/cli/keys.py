"""`jtnt keys`: the key with which a person signs orders beside the hub."""

from __future__ import annotations

import argparse
import base64
import getpass
from pathlib import Path
from typing import Final

import msgspec

from hub_server.operator.cli.asking import leavable
from hub_server.operator.cli.outcome import Exit, Failed
from hub_server.operator.errors import KeyUnusable
from hub_server.operator.keys import OperatorKey, needs_passphrase
from hub_server.operator.saved import KEY_NAME, config_folder
from hub_server.storage.private_files import write_private
from protocol.identity import key_id_of

PUBLIC_SUFFIX: Final = ".pub"
PASSPHRASE_MIN_CHARS: Final = 8


async def keys(options: argparse.Namespace) -> int:
    path = config_folder() / KEY_NAME
    line = _made(options, path) if options.verb == "make" else _line_beside(path)
    key_id = _id_in(line)
    if options.as_json:
        print(msgspec.json.encode({"keyId": key_id, "publicLine": line, "path": str(path)}).decode())
        return Exit.DONE
    print(line)
    if options.verb == "make":
        print(f"\nKey {key_id} is in {path}. Give the line above to whoever administers the hub:")
        print("  jtnt-hub operator-keys add NAME FILE-WITH-THE-LINE")
    return Exit.DONE


def _made(options: argparse.Namespace, path: Path) -> str:
    """Make the key and return its public line."""
    with leavable():
        passphrase = None if options.no_passphrase else _new_passphrase()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = OperatorKey.generate()
    key.store(path, passphrase)
    line = key.public_line(options.name or getpass.getuser())
    write_private(_public(path), f"{line}\n".encode())
    return line


def _line_beside(path: Path) -> str:
    """Return the public line as it was made. Raises KeyUnusable when there is no key."""
    needs_passphrase(path)
    try:
        return _public(path).read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise KeyUnusable(f"{_public(path)} cannot be read: {error}") from error


def _new_passphrase() -> str:
    passphrase = getpass.getpass("New passphrase of the key: ")
    if len(passphrase) < PASSPHRASE_MIN_CHARS:
        raise Failed(f"a passphrase has {PASSPHRASE_MIN_CHARS} characters at least; or say --no-passphrase", Exit.USAGE)
    if getpass.getpass("Once more: ") != passphrase:
        raise Failed("these two are not the same; nothing was made", Exit.USAGE)
    return passphrase


def _id_in(line: str) -> str:
    try:
        return key_id_of(base64.b64decode(line.split()[2], validate=True))
    except (IndexError, ValueError) as error:
        raise KeyUnusable("the public line beside the key is damaged; make a new key") from error


def _public(path: Path) -> Path:
    return path.with_name(path.name + PUBLIC_SUFFIX)
