"""Output of commands on its way from agents to people and into the store: shown at once, acknowledged when stored."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import structlog

from hub_server.bus.port import Bus
from hub_server.commands.engine import WAITING_BYTES_MAX, credits_of, kept_of
from hub_server.commands.model import OpenCommands
from hub_server.commands.recorder import Piece, Recorder, Stored
from hub_server.commands.store import CommandStore
from hub_server.events import CommandOutputStored, Deliver
from hub_server.storage.engine import Database
from protocol.codec import BadFrame
from protocol.enumerations import OutputStream, TextEncoding
from protocol.frames import CommandOutput, CommandOutputAck, CommandResult
from protocol.limits import OUTPUT_STORED_MAX_BYTES

log = structlog.get_logger(component="commands")

Ends = dict[OutputStream, int]


class Streams:
    """`_ends`: up to where each stream of an open command is known, stored or about to be."""

    def __init__(
        self, *, database: Database, bus: Bus, store: CommandStore, recorder: Recorder, opened: OpenCommands
    ) -> None:
        self._database = database
        self._bus = bus
        self._store = store
        self._recorder = recorder
        self._opened = opened
        self._ends: dict[str, Ends] = {}
        self._without_credits: dict[str, Deliver] = {}

    def begin(self, command_id: str) -> None:
        """Note that nothing of a new command is stored."""
        self._ends[command_id] = dict.fromkeys(OutputStream, 0)

    def forget(self, command_ids: Iterable[str]) -> None:
        """Ask the store again for where these streams end: they closed, or another hub may have gone on with them."""
        for command_id in command_ids:
            self._ends.pop(command_id, None)

    def waiting(self, command_id: str, stream: OutputStream) -> Sequence[tuple[int, bytes]]:
        """Return the pieces that are shown and not stored, each with its start, in order."""
        return [(piece.start, piece.data) for piece in self._pieces(command_id) if piece.stream is stream]

    def kept_bytes(self, command_id: str, stored: Mapping[OutputStream, int]) -> Ends:
        """Return up to where each stream is kept, given what the store said before or now."""
        ends = dict(stored)
        for piece in self._pieces(command_id):
            ends[piece.stream] = max(ends[piece.stream], piece.start + len(piece.data))
        return ends

    def written_bytes(self, frame: CommandResult) -> Ends:
        """Return what a process wrote: what its agent says, and no less than what was seen of it here."""
        seen = self._ends.get(frame.command_id, {})
        return {
            stream: max(seen.get(stream, 0), frame.output_bytes.get(stream, 0))
            for stream in OutputStream
            if stream in seen or stream in frame.output_bytes
        }

    async def chunk(self, organisation_id: str, agent_id: str, frame: CommandOutput) -> None:
        """Show the bytes that are new, and pass them on to be stored. Raises BadFrame for data that are not base64."""
        data = _bytes_of(frame)
        ends = await self._ends_of(organisation_id, agent_id, frame.command_id)
        if ends is None:
            log.warning("output of a command that is not this agent's", agent_id=agent_id, command_id=frame.command_id)
            self._acknowledge(organisation_id, agent_id, frame, frame.offset + len(data))
            return
        held = ends[frame.stream]
        kept = kept_of(data, offset=frame.offset, held_bytes=held, limit_bytes=OUTPUT_STORED_MAX_BYTES)
        piece = Piece(
            organisation_id=organisation_id,
            agent_id=agent_id,
            command_id=frame.command_id,
            stream=frame.stream,
            start=held,
            data=kept.data,
            ack_offset=kept.offset,
            truncated=kept.truncated,
        )
        if not (self._recorder.has_room(len(kept.data)) and self._recorder.add(piece)):
            self._acknowledge(organisation_id, agent_id, frame, 0)  # it says it again when there is room
            return
        ends[frame.stream] = held + len(kept.data)
        if kept.data:
            self._show(piece)

    def stored(self, stored: Stored) -> None:
        """Acknowledge what a commit took, and say so to whoever waits for room."""
        first = stored.entries[0]
        if stored.is_in_doubt:
            self.forget([first.command_id])
        if stored.is_acknowledged:
            for stream, end in stored.ends.items():
                self._deliver(
                    Deliver(
                        organisation_id=first.organisation_id,
                        agent_id=first.agent_id,
                        frame=CommandOutputAck(
                            command_id=first.command_id, stream=stream, offset=end, credits=self._credits
                        ),
                    )
                )
        if self._without_credits and self._recorder.waiting_bytes <= WAITING_BYTES_MAX // 2:
            waiting, self._without_credits = self._without_credits, {}
            for delivery in waiting.values():
                frame = msgspec.structs.replace(delivery.frame, credits=self._credits)
                self._deliver(msgspec.structs.replace(delivery, frame=frame))

    @property
    def _credits(self) -> int:
        return credits_of(self._recorder.waiting_bytes)

    def _pieces(self, command_id: str) -> list[Piece]:
        return [entry for entry in self._recorder.of(command_id) if isinstance(entry, Piece) and entry.data]

    async def _ends_of(self, organisation_id: str, agent_id: str, command_id: str) -> Ends | None:
        """Return up to where each stream is known; None when the command is not this agent's."""
        opened = self._opened.get(command_id)
        ends = self._ends.get(command_id)
        if opened is not None and opened.agent_id == agent_id and ends is not None:
            return ends
        seen = self.kept_bytes(command_id, dict.fromkeys(OutputStream, 0))
        async with self._database.read(organisation_id) as connection:
            command = await connection.run_sync(self._store.find, organisation_id, command_id)
            if command is None or command.agent_id != agent_id:
                return None
            sizes = await connection.run_sync(self._store.output_sizes, organisation_id, [command_id])
        stored = {stream: max(size, seen[stream]) for stream, size in sizes[command_id].items()}
        ends = self.kept_bytes(command_id, stored)  # an older session of the agent may have said something meanwhile
        return ends if self._opened.get(command_id) is None else self._ends.setdefault(command_id, ends)

    def _acknowledge(self, organisation_id: str, agent_id: str, frame: CommandOutput, offset: int) -> None:
        ack = CommandOutputAck(
            command_id=frame.command_id, stream=frame.stream, offset=offset, credits=self._credits if offset else 0
        )
        self._deliver(Deliver(organisation_id=organisation_id, agent_id=agent_id, frame=ack))

    def _deliver(self, delivery: Deliver) -> None:
        assert isinstance(delivery.frame, CommandOutputAck)
        if delivery.frame.credits == 0:
            self._without_credits[delivery.agent_id] = delivery
        self._bus.publish(delivery)

    def _show(self, piece: Piece) -> None:
        self._bus.publish(
            CommandOutputStored(
                organisation_id=piece.organisation_id,
                agent_id=piece.agent_id,
                command_id=piece.command_id,
                stream=piece.stream,
                offset=piece.start,
                data=piece.data,
            )
        )


def _bytes_of(frame: CommandOutput) -> bytes:
    if frame.encoding is TextEncoding.UTF8:
        return frame.data.encode()
    try:
        return base64.b64decode(frame.data, validate=True)
    except binascii.Error as error:
        raise BadFrame("not base64", "$.data") from error
