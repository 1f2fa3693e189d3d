"""Many real agents in one process: `python -m scripts.proofs.telemetry.crew FOLDER…`, until SIGTERM.

Each has its folder, spool, certificate and connection as on a machine of its own; only the process is shared.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from agent_client.agent import Agent
from agent_client.config import load_config
from agent_client.logs import log_to, set_level
from agent_client.paths import Places


async def serve(folders: list[str]) -> None:
    """Run the agents of `folders` until SIGTERM; then each says goodbye."""
    set_level("error")
    agents = []
    for folder in folders:
        places = Places.chosen(folder)
        agents.append(Agent(places, load_config(places)))

    def stop() -> None:
        for agent in agents:
            agent.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with asyncio.TaskGroup() as tasks:
        for agent, folder in zip(agents, folders, strict=True):
            tasks.create_task(agent.run(), name=Path(folder).name)


if __name__ == "__main__":
    log_to()
    asyncio.run(serve(sys.argv[1:]))
