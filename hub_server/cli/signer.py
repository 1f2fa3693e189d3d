"""`jtnt-hub signer`: the signer of commands as a service of its own user."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from hub_server.cli.outcome import CommandFailed, Exit
from hub_server.signing.model import SIGNATURES_BURST, SIGNATURES_PER_SECOND, Terms

if sys.platform != "win32":
    import pwd


def signer(
    *,
    listen: Annotated[Path, Parameter(help="The Unix socket to make; `[signer] socket` of the hub names it.")],
    key_file: Annotated[Path, Parameter(help="Made where it is not; move the hub's signer.key here to go on with it.")],
    log_file: Annotated[Path, Parameter(help="A line of JSON for each command that is signed.")],
    user: Annotated[
        tuple[str, ...], Parameter(negative="", help="Who may ask, beside this user and root: the hub's user.")
    ] = (),
    organisation: Annotated[
        tuple[str, ...], Parameter(negative="", help="Id of an organisation to sign for; all by default.")
    ] = (),
    per_second: Annotated[float, Parameter(help="Signatures in the long run.")] = SIGNATURES_PER_SECOND,
    burst: Annotated[int, Parameter(help="Signatures at once.")] = SIGNATURES_BURST,
) -> None:
    """Sign commands for the hub of another user, until SIGTERM or Ctrl-C.

    The hub starts a signer by itself where no `[signer] socket` is set; that one is safe from whoever has the database
    and the hub's memory, but not from whoever may do all that the hub's user may. This one is: only its own user can
    read the key.
    """
    if per_second <= 0 or burst < 1:
        raise CommandFailed("--per-second and --burst take more than 0", Exit.USAGE)
    terms = Terms(
        key_file=str(key_file.absolute()),
        log_file=str(log_file.absolute()),
        per_second=per_second,
        burst=burst,
        organisations=list(organisation),
        listen=str(listen.absolute()),
        users=[_number_of(name) for name in user],
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = [sys.executable, "-P", "-m", "hub_server.signing", msgspec.json.encode(terms).decode()]
    # The command line's own modules stay behind: the signer is small.
    os.execve(sys.executable, arguments, environment)  # noqa: S606


def _number_of(name: str) -> int:
    if sys.platform == "win32":
        raise CommandFailed("a signer of another user is for Unix systems", Exit.USAGE)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise CommandFailed(f"there is no user {name!r} on this machine", Exit.USAGE) from error
