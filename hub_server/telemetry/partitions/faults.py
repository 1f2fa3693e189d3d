"""The errors of the database and of its driver stop here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asyncpg import InterfaceError, PostgresError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hub_server.telemetry.port import StoreFailed

NO_PARTITION: Final = "23514"
MESSAGE_MAX_CHARS: Final = 500
_REFUSED: Final = ("22", "23")
"""Classes of SQLSTATE: data that cannot be, and constraints."""


class PartitionMissing(StoreFailed):
    """Rows belong to a table that another hub's retention dropped."""


@contextmanager
def failures() -> Iterator[None]:
    """Raise StoreFailed for what fails in the block."""
    try:
        yield
    except DBAPIError as error:
        raise _failed(error, sqlstate_of(error.orig)) from error
    except PostgresError as error:
        raise _failed(error, sqlstate_of(error)) from error
    except (InterfaceError, SQLAlchemyError, OSError) as error:
        raise _failed(error, "") from error
    except (ValueError, OverflowError) as error:  # what cannot even be sent
        raise StoreFailed(_said_of(error), temporary=False) from error


def sqlstate_of(error: object) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _failed(error: Exception, sqlstate: str) -> StoreFailed:
    if sqlstate == NO_PARTITION and "no partition" in str(error):
        return PartitionMissing(_said_of(error), temporary=True)
    return StoreFailed(_said_of(error), temporary=sqlstate[:2] not in _REFUSED)


def _said_of(error: Exception) -> str:
    return str(error)[:MESSAGE_MAX_CHARS] or type(error).__name__
