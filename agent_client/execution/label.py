"""A label that the kernel hands from a process to all that come of it: neither a new session, nor another parent, nor
an empty environment takes it off.

It is the soft limit of file locks, which Linux keeps and inherits and has not heeded since 2.4.25 (getrlimit(2)). A
program can put it off, as it can change each of its limits, but none does so by the way; PAM does (`su -`).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

if sys.platform == "linux":
    import resource

_LIMIT: Final = 10
_LINE: Final = b"Max file locks"
_UNLIMITED: Final = b"unlimited"
_DIGEST_BYTES: Final = 8
_BITS_SPARED: Final = 2


def label_of(job_id: str) -> int:
    """Return the label of a job, the same in each life of the executor: 62 bits, never 0."""
    digest = hashlib.blake2b(job_id.encode(), digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(digest, "big") >> _BITS_SPARED or 1


def label_in(limits: bytes) -> int:
    """Return the label that `/proc/PID/limits` tells, 0 where there is none."""
    for line in limits.splitlines():
        if line.startswith(_LINE):
            soft = line.removeprefix(_LINE).split()[0]
            return 0 if soft == _UNLIMITED else int(soft)
    return 0


class Labels:
    """Gives labels. One a process, which wears each itself for the moment in which a job's process is made."""

    def __init__(self) -> None:
        self._own: tuple[int, int] | None = None
        if sys.platform == "linux":
            with suppress(ValueError, OSError):
                self._own = resource.getrlimit(_LIMIT)

    @property
    def own(self) -> int:
        """The label of this process itself, 0 for none."""
        return max(self._own[0], 0) if self._own is not None else 0

    @contextmanager
    def worn(self, job_id: str) -> Iterator[None]:
        """Give the job's label to the process that is made inside the block, before anything else is waited for.

        Without effect where the system has no such limit, holds it too low, or lets nobody change it (a sandbox).
        Raises nothing of its own: the process that was made would be taken for one that could not be.
        """
        if self._own is None or not _is_put_on(label_of(job_id), self._own[1]):
            yield
            return
        try:
            yield
        finally:
            _is_put_on(*self._own)


def _is_put_on(soft: int, hard: int) -> bool:
    if sys.platform == "linux":
        with suppress(ValueError, OSError):
            resource.setrlimit(_LIMIT, (soft, hard))
            return True
    return False
