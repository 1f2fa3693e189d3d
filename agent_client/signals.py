"""Signals, heard by the event loop.

What loop.add_signal_handler does, but for `inspect` and the parts of the compiler that this loads, a megabyte, to look
at one function; and what comes before there is a loop is not lost.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

_HEARD_AT_ONCE: Final = 64


class Signals:
    """What a loop hears of signals: their numbers come out of `ear`."""

    def __init__(self, ear: socket.socket) -> None:
        self._ear = ear
        self._answers: Mapping[int, Callable[[], None]] = {}
        self._came: set[int] = set()

    def answer(self, answers: Mapping[int, Callable[[], None]]) -> None:
        """Let the running loop call these from now on, and none that were given before."""
        self._answers = answers
        if sys.platform != "win32":  # that loop hears none; Ctrl-C is a KeyboardInterrupt there
            asyncio.get_running_loop().add_reader(self._ear, self._hear)

    def came(self, numbers: Collection[int]) -> bool:
        """Tell whether one of these was ever heard, or waits to be: what waits is not answered any more."""
        with suppress(BlockingIOError):
            while heard := self._ear.recv(_HEARD_AT_ONCE):
                self._came.update(heard)
        return not self._came.isdisjoint(numbers)

    def _hear(self) -> None:
        """Whoever asked what came may have emptied the ear since the loop found something in it."""
        with suppress(BlockingIOError):
            for number in self._ear.recv(_HEARD_AT_ONCE):
                self._came.add(number)
                if number in self._answers:
                    self._answers[number]()


@contextmanager
def heard(numbers: Collection[int]) -> Iterator[Signals]:
    """Inside the block these signals do nothing but be heard, and after it nothing. For a process's main thread.

    asyncio.run, inside it, leaves SIGINT alone where that is one of them. Without effect on Windows.
    """
    ear, mouth = socket.socketpair()
    with ear, mouth:
        ear.setblocking(False)
        mouth.setblocking(False)
        if sys.platform != "win32":
            signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
            for number in numbers:
                signal.signal(number, _noted)
        try:
            yield Signals(ear)
        finally:
            if sys.platform != "win32":
                signal.set_wakeup_fd(-1)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Its number is in the ear already."""
