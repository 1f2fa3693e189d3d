"""This agent as a witness of the hub's audit chain: the newest checkpoints, kept where no hub can reach them."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from agent_client.errors import AgentError
from agent_client.logs import Log
from agent_client.paths import WITNESS, Places
from agent_client.store.secure import SecureStore, StoreError
from protocol.frames import Checkpoint

KEPT_MAX: Final = 10

_decoder: Final = msgspec.json.Decoder(list[Checkpoint])
_log = Log("witness")


class WitnessUnreadable(AgentError):
    code: ClassVar[str] = "witness_unreadable"


class Witness:
    def __init__(self, places: Places) -> None:
        self._store = SecureStore(places.state)

    def checkpoints(self) -> list[Checkpoint]:
        """Return what is kept, in the order it came. Raises StoreError or WitnessUnreadable."""
        if not self._store.exists(WITNESS):
            return []
        try:
            return _decoder.decode(self._store.load(WITNESS))
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise WitnessUnreadable(f"{self._store.directory / WITNESS} cannot be read: {error}; remove it") from error

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint as the hub gave it. One that cannot be kept is said, and stops nothing."""
        try:
            kept = self.checkpoints()
        except (StoreError, WitnessUnreadable) as error:
            _log.error("kept checkpoints not usable, beginning anew", reason=str(error))
            kept = []
        if checkpoint in kept:
            return
        try:
            self._store.save(WITNESS, msgspec.json.encode([*kept, checkpoint][-KEPT_MAX:]))
        except StoreError as error:
            _log.error("checkpoint not kept", number=checkpoint.number, reason=str(error))
