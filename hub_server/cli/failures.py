"""What went wrong, as one line for a person and an exit code for a program."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from hub_server.cli.outcome import CommandFailed, Exit
from hub_server.config import ConfigError, Settings
from hub_server.errors import HubError
from hub_server.storage.private_files import KeysRefused
from hub_server.storage.revision import DatabaseNewer


@contextmanager
def explained(settings: Settings | None = None) -> Iterator[None]:
    """Turn the errors a person can mend into CommandFailed; others pass, with their traceback."""
    try:
        yield
    except ExceptionGroup as group:
        failure = _first_known(group, settings)
        if failure is None:
            raise
        raise failure from group
    except Exception as error:
        failure = failure_of(error, settings)
        if failure is None:
            raise
        raise failure from error


def failure_of(error: BaseException, settings: Settings | None = None) -> CommandFailed | None:
    """Return the explanation of `error`, None when there is none."""
    match error:
        case CommandFailed():
            return error
        case ConfigError():
            return CommandFailed(f"settings: {error}", Exit.SETTINGS)
        case HubError():
            return CommandFailed(error.message, Exit.REFUSED)
        case KeysRefused():
            return CommandFailed(str(error), Exit.KEYS)
        case DatabaseNewer():
            return CommandFailed(
                f"the database is of a newer version of this program, or damaged ({error}); update jtnt, or restore a "
                "backup",
                Exit.DATABASE_NEWER,
            )
        case DBAPIError():
            place = settings.resolved_database_url.rsplit("@", 1)[-1] if settings else "the database"
            return CommandFailed(f"{place} cannot be used: {error.orig}", Exit.DATABASE)
        case OSError():
            return _failure_of_system(error, settings)
        case _:
            return None


def _failure_of_system(error: OSError, settings: Settings | None) -> CommandFailed | None:
    match error.errno:
        case errno.EADDRINUSE:
            return CommandFailed(_port_in_use(error, settings), Exit.PORT_IN_USE)
        case errno.EADDRNOTAVAIL:
            return CommandFailed(f"this machine does not have the address to listen on: {error}", Exit.SETTINGS)
        case errno.EACCES | errno.EPERM | errno.EROFS | errno.ENOTDIR | errno.EEXIST:
            place = error.filename or (settings.data_dir if settings else "the data folder")
            return CommandFailed(
                f"{place} cannot be written ({error.strerror}); give --data-dir a folder of your own", Exit.NOT_WRITABLE
            )
        case errno.ENOSPC | errno.EDQUOT:
            return CommandFailed(f"the disk is full: {error}", Exit.NOT_WRITABLE)
        case errno.ECONNREFUSED | errno.ETIMEDOUT | errno.EHOSTUNREACH if settings and settings.database_url:
            return CommandFailed(f"the database does not answer: {error}", Exit.DATABASE)
        case _:
            return None


def _port_in_use(error: OSError, settings: Settings | None) -> str:
    if settings is not None:
        for key, port in (("people", settings.people.port), ("agents", settings.agents.port)):
            if str(port) in str(error):
                variable = f"JTNT_{key.upper()}__PORT"
                return f"port {port} is in use by another program; stop it, or choose another with {variable}"
    return f"a port is in use by another program: {error}"


def _first_known(group: BaseExceptionGroup[Exception], settings: Settings | None) -> CommandFailed | None:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            failure = _first_known(error, settings)
        else:
            failure = failure_of(error, settings)
        if failure is not None:
            return failure
    return None
