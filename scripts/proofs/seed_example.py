"""Seed 004, "Dashboard Connection": the example as it is written there, on the real library from npm."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from hatch_build import npm_here
from tests.system.demo import Demo

DEADLINE_SECONDS: Final = 30.0
EXAMPLE: Final = """
const { io } = require('socket.io-client');
const socket = io('%(url)s', {
  path: '/ws/agents',
  auth: { token: '%(token)s' }
});

socket.on('agents:status', (data) => {
  console.log('Current agents:', data.agents.length);
});

socket.on('agent:metrics', (data) => {
  console.log('New metrics from', data.agentId, data.metricData);
});
"""
WATCH: Final = """
socket.io.on('open', () => console.log('opened by', socket.io.engine.transport.name));
socket.on('connect_error', (error) => { console.log('refused:', error.message); process.exit(1); });
socket.on('agent:metrics', () => process.exit(0));
"""


async def seed_example(demo: Demo, dashboard: Path) -> str:
    """Run the example with a token from sign-in until it has seen both events; return what it printed.

    `dashboard`: a folder whose npm packages are installed. Raises AssertionError when either does not come.
    """
    text = EXAMPLE % {"url": demo.url, "token": await demo.sign_in()} + WATCH
    process = await asyncio.create_subprocess_exec(
        npm_here().argv[0],
        "--input-type=commonjs",
        "-e",
        text,
        cwd=dashboard,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = said.decode()
    assert process.returncode == 0, lines
    for expected in (
        "opened by polling",
        "Current agents:",
        f"New metrics from {demo.agent.agent_id}",
        "cpu_percent",
    ):
        assert expected in lines, f"{expected!r} is not in:\n{lines}"
    return ", ".join(line for line in lines.splitlines()[:2])
