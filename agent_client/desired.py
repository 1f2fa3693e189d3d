"""Desired state: what the hub wants this agent to be. Checked, saved, applied; its hash kept for the next `hello`."""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeVar, assert_never

import msgspec
from msgspec import Struct

from agent_client.cadence import Cadence
from agent_client.errors import AgentError
from agent_client.logs import Log
from agent_client.paths import CA_BUNDLE, LOCAL_POLICY, POLICY, SETTINGS, Places
from agent_client.spool.database import Database, DatabaseError
from agent_client.store.secure import SecureStore, StoreError
from agent_client.trust.document import TrustError, load_trust, save_trust
from protocol.codec import split_path
from protocol.desired import AgentConfig, AgentPolicy
from protocol.enumerations import DesiredName
from protocol.envelope import SignedTrust, TrustDocument
from protocol.frames import Desired, DesiredApplied, DesiredRejected, StateHashes

T = TypeVar("T")
_HASHED: Final = (DesiredName.CONFIG, DesiredName.POLICY, DesiredName.TRUST)

_log = Log("desired")


class Unacceptable(AgentError):
    """Desired state this agent does not apply; the message says why."""

    code: ClassVar[str] = "desired_unacceptable"


class LocalPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`local-policy.json` beside the configuration: it narrows what the hub may do, and no hub can lift it."""

    allowed_actions: list[str]


class DesiredState:
    """Applies what the hub offers. What is saved survives; what is refused changes nothing."""

    def __init__(self, places: Places, database: Database, cadence: Cadence, trust_domain: str) -> None:
        self._places = places
        self._store = SecureStore(places.state)
        self._database = database
        self._cadence = cadence
        self._trust_domain = trust_domain
        self._trust: TrustDocument | None = None

    def apply(self, desired: Desired) -> DesiredApplied | DesiredRejected:
        try:
            self._apply(desired.name, desired.body)
            with self._database.transaction():
                self._database.set_meta(_key(desired.name), desired.hash)
        except (Unacceptable, StoreError, TrustError, DatabaseError) as error:
            _log.warn("desired state rejected", name=desired.name, reason=str(error))
            return DesiredRejected(name=desired.name, hash=desired.hash, reason=str(error)[:4096])
        _log.info("desired state applied", name=desired.name, hash=desired.hash)
        return DesiredApplied(name=desired.name, hash=desired.hash)

    def hashes(self) -> StateHashes:
        """Return the hashes of what is applied; empty where a file it stands for is gone."""
        files = {DesiredName.CONFIG: SETTINGS, DesiredName.POLICY: POLICY}
        known = {
            name.value: self._database.meta(_key(name))
            for name in _HASHED
            if name not in files or self._store.exists(files[name])
        }
        return StateHashes(**known)

    def allowed_actions(self) -> frozenset[str]:
        """Return what the organisation's policy and this machine's both allow. Raises StoreError or Unacceptable."""
        allowed = frozenset(_decoded(self._store.load(POLICY), AgentPolicy, POLICY).allowed_actions)
        local = SecureStore(self._places.config)
        if not local.exists(LOCAL_POLICY):
            return allowed
        return allowed & frozenset(_decoded(local.load(LOCAL_POLICY), LocalPolicy, LOCAL_POLICY).allowed_actions)

    def trust(self) -> TrustDocument:
        """Return the stored trust document, read at the first call. Raises StoreError or TrustError."""
        if self._trust is None:
            _, self._trust = load_trust(self._places)
        return self._trust

    def _apply(self, name: DesiredName, body: dict[str, Any]) -> None:
        match name:
            case DesiredName.CONFIG:
                settings = _converted(body, AgentConfig)
                self._store.save(SETTINGS, msgspec.json.encode(settings))
                self._cadence.apply(settings)
            case DesiredName.POLICY:
                self._store.save(POLICY, msgspec.json.encode(_converted(body, AgentPolicy)))
            case DesiredName.TRUST:
                self._apply_trust(_converted(body, SignedTrust))
            case DesiredName.CERTIFICATE | DesiredName.SCHEDULE:
                raise Unacceptable(f"this version of the agent does not apply {name.value!r}")
            case _:
                assert_never(name)

    def _apply_trust(self, offered: SignedTrust) -> None:
        stored, current = load_trust(self._places)
        if offered.document == stored.document:
            return
        # Imported here: trust changes seldom, and the import costs megabytes of every machine's memory.
        from agent_client.trust.root import verify_trust  # noqa: PLC0415

        bundle = SecureStore(self._places.certs).load(CA_BUNDLE)
        document = verify_trust(offered, bundle, self._trust_domain)
        if document.version <= current.version:
            raise Unacceptable(
                f"the trust document never goes back: {document.version} was offered, {current.version} is applied"
            )
        save_trust(self._places, offered)
        self._trust = document


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
