"""A hub's life: load, work, listen, and on a signal drain in order."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web

from hub_server.gateway.admission import Admission
from hub_server.gateway.gate import Gate, listen
from hub_server.gateway.visitors import Stage, Visitors

log = structlog.get_logger(component="hub")

RESTART_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 10.0
GC_THRESHOLDS: Final = (5000, 50, 1000)  # a full collection walks every session: 300 ms at 10,000 agents
SWITCH_SECONDS: Final = 0.0005
"""How long a thread that computes keeps the others from it, the event loop among them: Python's own 5 ms are what a
message may take altogether. It costs some 2 % of the time that threads compute side by side."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Where an application is served. `port` 0 takes any free one. `tls`: returns the context of the next handshake."""

    name: str
    application: web.Application
    host: str
    port: int
    tls: Callable[[], ssl.SSLContext] | None
    handshake_timeout_seconds: float
    handshakes_at_once: int
    admission: Admission
    deadlines: Mapping[Stage, float]


@dataclass(frozen=True, slots=True)
class Worker:
    """A long-running part; it ends by cancellation, and is started again when it fails."""

    name: str
    run: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Hub:
    """What a hub is made of, in the order it is started; `drain` runs in order when it stops."""

    load: Sequence[Callable[[], Awaitable[object]]]
    workers: Sequence[Worker]
    listeners: Sequence[Listener]
    drain: Sequence[Callable[[], Awaitable[None]]]
    became_ready: Callable[[bool], None]


async def run(hub: Hub, *, stop: asyncio.Event, listening: Callable[[dict[str, int]], None]) -> None:
    """Run `hub` until `stop` is set. `listening` is told the ports once all listeners are open.

    Raises OSError when a port is taken.
    """
    with ExitStack() as bound:  # first, so that a port that is taken ends the start before anything runs
        sockets = [bound.enter_context(listen(listener.host, listener.port)) for listener in hub.listeners]
        for load in hub.load:
            await load()
        await _work(hub, sockets, stop, listening)


async def _work(
    hub: Hub, sockets: Sequence[socket.socket], stop: asyncio.Event, listening: Callable[[dict[str, int]], None]
) -> None:
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as open_listeners:
        running = [tasks.create_task(_supervise(worker), name=worker.name) for worker in hub.workers]
        try:
            # Before the first connection: of what is frozen later nothing is collected until the heap is thawed. No
            # collection comes first: it looks through 190,000 objects for 100 ms and finds some hundreds.
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            sys.setswitchinterval(SWITCH_SECONDS)
            for listener, bound in zip(hub.listeners, sockets, strict=True):
                await open_listeners.enter_async_context(_serving(listener, bound, tasks))
            ports = {
                listener.name: bound.getsockname()[1] for listener, bound in zip(hub.listeners, sockets, strict=True)
            }
            hub.became_ready(True)
            log.info("hub listening", **{f"{name}_port": port for name, port in ports.items()})
            listening(ports)
            await stop.wait()
            hub.became_ready(False)
            log.info("hub stopping")
            await _drain(hub)
        finally:
            for task in running:
                task.cancel()


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _supervise(worker: Worker) -> None:
    while True:
        try:
            await worker.run()
        except Exception:  # one part of the hub is isolated: it is told and started again
            log.exception("worker failed; started again", worker=worker.name)
        await asyncio.sleep(RESTART_SECONDS)


async def _drain(hub: Hub) -> None:
    for drain in hub.drain:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await drain()
        except TimeoutError:
            log.warning("drain took too long", step=getattr(drain, "__qualname__", ""))
        except Exception:  # the steps that follow must run whatever one of them broke
            log.exception("drain step failed", step=getattr(drain, "__qualname__", ""))


@asynccontextmanager
async def _serving(listener: Listener, bound: socket.socket, tasks: asyncio.TaskGroup) -> AsyncIterator[None]:
    runner = web.AppRunner(listener.application, access_log=None, shutdown_timeout=3)
    await runner.setup()
    assert runner.server is not None
    visitors = Visitors(runner.server, listener.admission, listener.deadlines)
    gate = Gate(
        bound,
        visitors.receive,
        listener.admission,
        tls=listener.tls,
        at_once=listener.handshakes_at_once,
        timeout_seconds=listener.handshake_timeout_seconds,
    )
    accepting = tasks.create_task(gate.run(), name=f"accept-{listener.name}")
    try:
        yield
    finally:
        accepting.cancel()
        await runner.cleanup()
        await visitors.end()
