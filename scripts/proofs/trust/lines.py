"""Trust: nothing can be walked around. Each line runs in full length and prints what it saw."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final

from scripts.proofs.report import Report
from scripts.proofs.trust import (
    audit,
    canaries,
    enrollment,
    fuzzing,
    matrix,
    origins,
    revocation,
    rotation,
    routes,
    slow_clients,
    sockets,
    tls,
)

Line = Callable[[Report], Coroutine[None, None, None]]
LINES: Final[tuple[Line, ...]] = (
    matrix.show,
    tls.show,
    revocation.show,
    enrollment.show,
    rotation.show,
    sockets.show,
    origins.show,
    canaries.show,
    audit.show,
    routes.show,
    slow_clients.show,
    fuzzing.show,
)


async def prove(report: Report) -> None:
    for line in LINES:
        await line(report)
