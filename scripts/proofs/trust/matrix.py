"""Every operation by every role, about its own organisation and another, on a hub of each engine."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from protocol.enumerations import Role
from protocol.operations import OPERATIONS
from scripts.proofs.report import Report
from tests.integration.hub import only_faults, running_hub
from tests.integration.matrix import Cell, world
from tests.integration.permissions import MATRIX
from tests.servers.postgres import running_server

DATABASE: Final = "matrix"


async def show(report: Report) -> None:
    for engine in ("sqlite", "postgresql"):
        words = f"permissions, {engine}: every operation by every role, own and other organisation, answers as written"
        await report.show(words, partial(_asked, engine))


async def _asked(engine: str) -> str:
    configuration = structlog.get_config()
    structlog.configure(
        processors=[only_faults, *configuration["processors"]],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="jtnt-prove-matrix-") as name:
            return await _on(engine, Path(name))
    finally:
        structlog.configure(**configuration)


async def _on(engine: str, folder: Path) -> str:
    if engine == "sqlite":
        return await _figures(folder, None)
    with running_server() as server:
        await asyncio.to_thread(server.create, DATABASE)
        return await _figures(folder, server.url_of(DATABASE))


async def _figures(folder: Path, database_url: str | None) -> str:
    assert set(MATRIX) == set(OPERATIONS), set(MATRIX) ^ set(OPERATIONS)
    refused: list[Cell] = []
    done: list[Cell] = []
    async with running_hub(folder / "hub", database_url=database_url) as hub, world(hub, folder) as both:
        for role in Role:
            cells, changed = await both.forbidden(role)
            assert not changed, changed
            refused += cells
            done += await both.allowed(role)
    wrong = [cell for cell in (*refused, *done) if not cell.is_right]
    assert not wrong, wrong
    asked = {(cell.operation, cell.role) for cell in (*refused, *done)}
    assert len(asked) == len(OPERATIONS) * len(Role)
    return (
        f"{len(OPERATIONS)} operations, {len(Role)} roles: {len(refused)} refused or shown nothing with no row "
        f"changed, {len(done)} done"
    )
