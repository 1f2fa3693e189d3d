"""What machines are made of: taken from agents section by section, shown to people."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Final, Protocol

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.clock import Clock
from hub_server.inventory.model import Assembly, NotInventory, StoredSection, checked, section_of
from hub_server.inventory.store import InventoryStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.frames import Error, Inventory, InventoryAck
from protocol.inventory import Section
from protocol.telemetry import InventoryGet, InventoryGetReply, InventorySection

log = structlog.get_logger(component="inventory")

ASSEMBLIES_MAX: Final = 256
"""Sections that are coming in parts at one time. Beyond it the oldest is given up; its agent sends it again later."""
ASSEMBLIES_MAX_BYTES: Final = 32 * 1024 * 1024
"""What all of them may take, likewise."""


class Machines(Protocol):
    """Whether an organisation has an agent."""

    def exists(self, organisation_id: str, agent_id: str) -> bool: ...

    def get(self, organisation_id: str, agent_id: str) -> object:
        """Raises NotFound."""


class InventoryService:
    def __init__(self, *, database: Database, clock: Clock, store: InventoryStore, machines: Machines) -> None:
        self._database = database
        self._clock = clock
        self._store = store
        self._machines = machines
        self._hashes: dict[str, dict[str, str]] = {}
        self._assemblies: OrderedDict[tuple[str, str], Assembly] = OrderedDict()
        self.held_bytes = 0
        """What the parts take that wait for others."""

    async def load(self) -> None:
        async with self._database.read(EVERY_ORGANISATION) as connection:
            for agent_id, section, digest in await self._store.load_hashes(connection):
                self._hashes.setdefault(agent_id, {})[section] = digest

    def hashes(self, agent_id: str) -> Mapping[str, str]:
        """Return the hash of each section this hub holds, for `welcome`."""
        return self._hashes.get(agent_id, {})

    async def receive(self, organisation_id: str, agent_id: str, frame: Inventory) -> InventoryAck | Error | None:
        """Take one part. Returns the acknowledgement once the whole section is stored, None while parts are missing."""
        try:
            stored = self._whole(organisation_id, agent_id, frame)
        except NotInventory as refused:
            log.warning("inventory refused", agent_id=agent_id, section=frame.section, reason=str(refused)[:300])
            return Error(code="invalid_inventory", message=str(refused)[:4096], reply_to="inventory")
        if stored is None:
            return None
        if self.hashes(agent_id).get(stored.section) != stored.hash and not await self._save(stored):
            return None
        return InventoryAck(section=stored.section, hash=stored.hash)

    async def get(self, principal: Principal, request: InventoryGet) -> InventoryGetReply:
        organisation_id = authorize(principal, Permission.FLEET_READ)
        self._machines.get(organisation_id, request.agent_id)
        async with self._database.read(organisation_id) as connection:
            stored = await self._store.of_agent(connection, organisation_id, request.agent_id)
        return InventoryGetReply(
            sections=[
                InventorySection(section=each.section, hash=each.hash, at=each.stored_at, body=each.body)
                for each in stored
            ]
        )

    async def bodies(self, organisation_id: str, agent_id: str, sections: Collection[Section]) -> Mapping[Section, str]:
        """Return the bodies of these sections as JSON; one that never came is missing."""
        async with self._database.read(organisation_id) as connection:
            return await self._store.bodies(connection, organisation_id, agent_id, sections)

    def forget(self, agent_id: str) -> None:
        self._hashes.pop(agent_id, None)
        for key in [key for key in self._assemblies if key[0] == agent_id]:
            self._taken(key)

    def _whole(self, organisation_id: str, agent_id: str, frame: Inventory) -> StoredSection | None:
        """Return the section once this was its last part. Raises NotInventory."""
        section = section_of(frame.section)
        key = (agent_id, section.value)
        before = self._taken(key)
        if before is None or before.hash != frame.hash or frame.part == 1:
            before = Assembly(frame.hash)
        assembly = before.with_part(frame.part, checked(section, frame.body))
        if assembly is None:  # a part before it was given up: the section comes again in the next session
            return None
        if len(assembly.parts) < frame.parts:
            self._keep(key, assembly)
            return None
        return StoredSection(organisation_id, agent_id, section, frame.hash, self._clock.now(), assembly.whole())

    def _keep(self, key: tuple[str, str], assembly: Assembly) -> None:
        self._assemblies[key] = assembly
        self.held_bytes += assembly.size_bytes
        while len(self._assemblies) > ASSEMBLIES_MAX or self.held_bytes > ASSEMBLIES_MAX_BYTES:
            self._taken(next(iter(self._assemblies)))

    def _taken(self, key: tuple[str, str]) -> Assembly | None:
        assembly = self._assemblies.pop(key, None)
        if assembly is not None:
            self.held_bytes -= assembly.size_bytes
        return assembly

    async def _save(self, stored: StoredSection) -> bool:
        """Store a section; False when its agent was deleted meanwhile, or the database does not take it."""
        try:
            async with self._database.write(stored.organisation_id) as connection:
                await self._store.save(connection, stored)
        except (DBAPIError, PoolTimeout, OSError) as error:
            if self._machines.exists(stored.organisation_id, stored.agent_id):
                log.warning("inventory not stored", agent_id=stored.agent_id, error=str(error)[:500])
            return False
        self._hashes.setdefault(stored.agent_id, {})[stored.section.value] = stored.hash
        return True
