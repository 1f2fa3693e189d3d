"""What outlives sessions, and every session works on."""

from __future__ import annotations

from msgspec import Struct

from agent_client.cadence import Cadence
from agent_client.clock import Clock
from agent_client.control.status import Board
from agent_client.desired import DesiredState
from agent_client.execution.link import ExecutorLink
from agent_client.inventory.shelf import Shelf
from agent_client.spool.spool import Spool
from agent_client.witness import Witness


class Parts(Struct, frozen=True):
    clock: Clock
    spool: Spool
    jobs: ExecutorLink
    desired: DesiredState
    cadence: Cadence
    board: Board
    witness: Witness
    shelf: Shelf
    boot_id: str
