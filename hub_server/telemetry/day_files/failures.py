"""The errors of SQLite and of the disk stop here."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from hub_server.storage.sqlite_files import refuses_values
from hub_server.telemetry.packing import BadChunk
from hub_server.telemetry.port import StoreFailed

MESSAGE_MAX_CHARS: Final = 500


@contextmanager
def failures() -> Iterator[None]:
    """Raise StoreFailed for what fails in the block."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreFailed(_said_of(error), temporary=not refuses_values(error)) from error
    except OSError as error:
        raise StoreFailed(_said_of(error), temporary=True) from error
    except BadChunk as error:
        raise StoreFailed(_said_of(error), temporary=True) from error
    except (OverflowError, ValueError, msgspec.MsgspecError) as error:  # what cannot even be written down
        raise StoreFailed(_said_of(error), temporary=False) from error


def _said_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:MESSAGE_MAX_CHARS]
