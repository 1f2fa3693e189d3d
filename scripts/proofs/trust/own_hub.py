"""A hub in this process for proofs that ask it from outside: quiet, and in a folder that is gone afterwards."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from tests.integration.hub import FAULTS, RunningHub, only_faults, running_hub


@asynccontextmanager
async def own_hub(**settings: Any) -> AsyncIterator[tuple[RunningHub, Path]]:
    """Yield the hub and a folder for whoever talks to it. Raises AssertionError when anything made the hub fail."""
    configuration = structlog.get_config()
    structlog.configure(
        processors=[only_faults, *configuration["processors"]],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
    )
    for name in ("engineio", "socketio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    FAULTS.clear()
    try:
        with tempfile.TemporaryDirectory(prefix="jtnt-prove-") as name:
            folder = Path(name)
            async with running_hub(folder / "hub", **settings) as hub:
                yield hub, folder
        assert not FAULTS, FAULTS
    finally:
        structlog.configure(**configuration)
