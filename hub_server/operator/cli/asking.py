"""Ctrl-C while a person is asked for something."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hub_server.operator.cli.outcome import Exit, Failed


@contextmanager
def leavable() -> Iterator[None]:
    """Let Ctrl-C end what is asked inside the block at once: asyncio would wait for the answer, on a silent terminal.

    The block may hold up the event loop: nothing else runs beside it. Raises Failed.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print(file=sys.stderr)  # what was asked stands on a line without an end
        raise Failed("left before it was done", Exit.CANCELLED) from None
    finally:
        signal.signal(signal.SIGINT, before)
