"""Desired state: what the hub wants this agent to be. Checked, saved, applied; its hash kept for the next `hello`."""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeVar, assert_never

import msgspec
from msgspec import Struct

from agent_client.cadence import Cadence
from agent_client.errors import AgentError
from agent_client.logs import Log
from agent_client.paths import CERTIFICATE_TERMS, POLICY, SETTINGS, Places
from agent_client.renewal.renewal import Renewal
from agent_client.spool.database import Database, DatabaseError
from agent_client.store.secure import SecureStore, StoreError
from agent_client.trust.document import TrustError
from agent_client.trust.keeper import TrustKeeper
from agent_client.turns import Turn
from protocol.codec import split_path
from protocol.desired import AgentConfig, AgentPolicy, CertificateTerms
from protocol.enumerations import DesiredName
from protocol.envelope import SignedTrust
from protocol.frames import Desired, DesiredApplied, DesiredRejected, StateHashes

T = TypeVar("T")
_HASHED: Final = (DesiredName.CONFIG, DesiredName.POLICY, DesiredName.TRUST, DesiredName.CERTIFICATE)

_log = Log("desired")


class Unacceptable(AgentError):
    """Desired state this agent does not apply; the message says why."""

    code: ClassVar[str] = "desired_unacceptable"


class DesiredState:
    """Applies what the hub offers. What is saved survives; what is refused changes nothing."""

    def __init__(self, database: Database, cadence: Cadence, trust: TrustKeeper, renewal: Renewal, turn: Turn) -> None:
        self._turn = turn
        self._places = places = turn.places
        self._store = SecureStore(places.state)
        self._database = database
        self._cadence = cadence
        self._trust = trust
        self._renewal = renewal

    async def apply(self, desired: Desired) -> DesiredApplied | DesiredRejected:
        try:
            await self._apply(desired.name, desired.body)
            with self._database.transaction():
                self._database.set_meta(_key(desired.name), desired.hash)
        except (Unacceptable, StoreError, TrustError, DatabaseError) as error:
            _log.warn("desired state rejected", name=desired.name, reason=str(error))
            return DesiredRejected(name=desired.name, hash=desired.hash, reason=str(error)[:4096])
        _log.info("desired state applied", name=desired.name, hash=desired.hash)
        return DesiredApplied(name=desired.name, hash=desired.hash)

    def hashes(self) -> StateHashes:
        """Return the hashes of what is applied; empty where a file it stands for is gone."""
        files = {
            DesiredName.CONFIG: SETTINGS,
            DesiredName.POLICY: POLICY,
            DesiredName.CERTIFICATE: CERTIFICATE_TERMS,
        }
        known = {
            name.value: self._database.meta(_key(name))
            for name in _HASHED
            if name not in files or self._store.exists(files[name])
        }
        return StateHashes(**known)

    async def _apply(self, name: DesiredName, body: dict[str, Any]) -> None:
        match name:
            case DesiredName.CONFIG:
                settings = _converted(body, AgentConfig)
                self._save(SETTINGS, settings)
                self._cadence.apply(settings)
            case DesiredName.POLICY:
                self._save(POLICY, _converted(body, AgentPolicy))
            case DesiredName.TRUST:
                await self._trust.accept(_converted(body, SignedTrust))
            case DesiredName.CERTIFICATE:
                self._renewal.want_issuer(_converted(body, CertificateTerms))
            case DesiredName.SCHEDULE:
                raise Unacceptable(f"this version of the agent does not apply {name.value!r}")
            case _:
                assert_never(name)

    def _save(self, name: str, value: Struct) -> None:
        with self._turn.taken():
            self._store.save(name, msgspec.json.encode(value))


def stored_settings(places: Places) -> AgentConfig:
    """Return the settings the hub gave last, or the defaults. Raises StoreError or Unacceptable."""
    store = SecureStore(places.state)
    return _decoded(store.load(SETTINGS), AgentConfig, SETTINGS) if store.exists(SETTINGS) else AgentConfig()


def _key(name: DesiredName) -> str:
    return f"desired_{name.value}_hash"


def _converted(body: dict[str, Any], shape: type[T]) -> T:
    try:
        return msgspec.convert(body, shape)
    except msgspec.ValidationError as error:
        message, path = split_path(str(error))
        raise Unacceptable(f"{path}: {message}") from error


def _decoded(raw: bytes, shape: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(raw, type=shape)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Unacceptable(f"{name} cannot be read: {error}") from error
