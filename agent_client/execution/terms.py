"""Under what terms orders are carried out: whom this machine obeys, and what is allowed; read from disk each time."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final, TypeVar

import msgspec
from msgspec import Struct

from agent_client.config import PositiveSeconds, RunningJobs
from agent_client.errors import AgentError
from agent_client.execution.places import ExecutorPlaces
from agent_client.execution.verification import Audience
from agent_client.paths import CA_BUNDLE, CONFIG, LOCAL_POLICY, POLICY, TRUST, Places
from agent_client.policy.file import NoPolicy, PolicyFile, PolicyState
from agent_client.store.secure import SecureStore
from agent_client.trust.document import TrustError, parse_trust
from protocol.desired import AgentPolicy
from protocol.elements import Word
from protocol.envelope import SignedTrust, TrustDocument

T = TypeVar("T")
PINNED: Final = "identity.json"


class TermsUnusable(AgentError):
    """A file that says what is allowed cannot be used; the message names it."""

    code: ClassVar[str] = "terms_unusable"


class LocalPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`local-policy.json` beside the configuration: it narrows what the hub may do, and no hub can lift it."""

    allowed_actions: list[str]


class Settings(Struct, frozen=True):
    """What the executor needs of the agent's configuration. A daemon that is another user may not have checked it."""

    agent_id: Word
    organisation_id: Word
    trust_domain: Word
    running_jobs_max: RunningJobs = 8
    kill_grace_seconds: PositiveSeconds = 5.0
    executor_idle_seconds: PositiveSeconds = 60.0
    policy_file: str | None = None


class Identity(Struct, frozen=True):
    """What an executor apart from its daemon took at its first start, and keeps: nobody else's orders count."""

    agent_id: str
    organisation_id: str
    trust_domain: str
    root_pem: str
    trust_version: int = 0


class Terms(Struct, frozen=True):
    """Under what terms jobs run; asked anew for each order, because the hub may change them."""

    audience: Audience
    trust: TrustDocument
    allowed_actions: frozenset[str]
    policy: PolicyState = NoPolicy()


def settings_of(places: Places, owner: int | None = None) -> Settings:
    """Raises StoreError or TermsUnusable."""
    return _decoded(SecureStore(places.config, owner).load(CONFIG), Settings, CONFIG)


def allowed_actions(places: Places, owner: int | None = None) -> frozenset[str]:
    """Return what the organisation's policy and this machine's both allow. Raises StoreError or TermsUnusable."""
    allowed = frozenset(_decoded(SecureStore(places.state, owner).load(POLICY), AgentPolicy, POLICY).allowed_actions)
    local = SecureStore(places.config, owner)
    if not local.exists(LOCAL_POLICY):
        return allowed
    return allowed & frozenset(_decoded(local.load(LOCAL_POLICY), LocalPolicy, LOCAL_POLICY).allowed_actions)


class TermsOnDisk:
    """Reads the daemon's files. The trust document is read again when its file has changed."""

    def __init__(self, places: ExecutorPlaces) -> None:
        self._places = places
        self._agent = places.agent
        self._owner = self._agent.state.stat().st_uid if places.is_apart else None
        self._seen: tuple[int, int, int] | None = None
        self._trust: TrustDocument | None = None
        self._policy_file: PolicyFile | None = None
        self._policy_chosen: str | None = None
        self._pinned = self._pin() if places.is_apart else None

    @property
    def settings(self) -> Settings:
        return settings_of(self._agent, self._owner)

    def __call__(self) -> Terms:
        """Raises AgentError where the files do not say what is allowed, or say what must not be believed."""
        settings = self.settings
        pinned = self._pinned
        if pinned is not None and (pinned.agent_id, pinned.organisation_id) != (
            settings.agent_id,
            settings.organisation_id,
        ):
            raise TermsUnusable(
                f"this executor serves agent {pinned.agent_id}, and the machine is enrolled as {settings.agent_id}; "
                f"remove {self._places.folder / PINNED} to let it serve that one"
            )
        audience = Audience(settings.organisation_id, settings.agent_id)
        allowed = allowed_actions(self._agent, self._owner)
        return Terms(audience, self._trusted(), allowed, self._policy(settings.policy_file).current())

    def _policy(self, chosen: str | None) -> PolicyFile:
        """An executor apart from its daemon lets nobody but the machine's owner choose the file."""
        if self._policy_file is None or chosen != self._policy_chosen:
            self._policy_file = PolicyFile.of(self._agent, None if self._places.is_apart else chosen)
            self._policy_chosen = chosen
        return self._policy_file

    def _trusted(self) -> TrustDocument:
        path = SecureStore(self._agent.state, self._owner).verified(TRUST)
        status = path.stat()
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._trust is None or seen != self._seen:
            self._trust, self._seen = self._verified(path), seen
        return self._trust

    def _verified(self, path: Path) -> TrustDocument:
        """The daemon has checked the root's signature; one that is another user is not believed."""
        raw = SecureStore(self._agent.state, self._owner).load(TRUST)
        signed = _decoded(raw, SignedTrust, str(path))
        if self._pinned is None:
            return parse_trust(signed)
        # Imported here: an executor beside its daemon has no use for it.
        from agent_client.trust.root import verify_trust  # noqa: PLC0415

        pinned = self._pinned
        document = verify_trust(signed, pinned.root_pem.encode(), pinned.trust_domain)
        if document.version < pinned.trust_version:
            raise TrustError(
                f"the trust document never goes back: {document.version} is offered, {pinned.trust_version} was seen"
            )
        if document.version > pinned.trust_version:
            self._pinned = msgspec.structs.replace(pinned, trust_version=document.version)
            SecureStore(self._places.folder).save(PINNED, msgspec.json.encode(self._pinned))
        return document

    def _pin(self) -> Identity:
        store = SecureStore(self._places.folder)
        if not store.exists(PINNED):
            settings = self.settings
            bundle = SecureStore(self._agent.certs, self._owner).load(CA_BUNDLE).decode("ascii", "replace")
            identity = Identity(settings.agent_id, settings.organisation_id, settings.trust_domain, bundle)
            store.save(PINNED, msgspec.json.encode(identity))
        return _decoded(store.load(PINNED), Identity, PINNED)


def _decoded(raw: bytes, shape: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(raw, type=shape)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise TermsUnusable(f"{name} cannot be read: {error}") from error
