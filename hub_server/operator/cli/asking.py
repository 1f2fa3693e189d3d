"""Ctrl-C, or a polite end, while a person is asked for something."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hub_server.operator.cli.outcome import Exit, Failed

_LEAVING: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def leavable() -> Iterator[None]:
    """Let Ctrl-C end what is asked inside the block at once: asyncio would wait for the answer, on a silent terminal.

    So does SIGTERM, which would leave the terminal silent for whatever comes after. The block may hold up the event
    loop: nothing else runs beside it. Raises Failed.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in _LEAVING}
    try:
        yield
    except KeyboardInterrupt:
        print(file=sys.stderr)  # what was asked stands on a line without an end
        raise Failed("left before it was done", Exit.CANCELLED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
