"""Enrollment, step by step (seed 000, "Enrollment Flow")."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

import msgspec

from agent_client.certificate import described
from agent_client.collectors.machine import boot_id, describe_machine
from agent_client.config import Config, ConfigError, load_config, save_config
from agent_client.enrollment.errors import AlreadyEnrolled, BadAnswer, EnrollmentError
from agent_client.enrollment.hub import HubDoor
from agent_client.enrollment.key import AgentKey
from agent_client.enrollment.validation import ChainFacts, check_reply, pinned_root
from agent_client.paths import (
    CA_BUNDLE,
    CERTIFICATE_TERMS,
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
    CONFIG,
    PENDING_KEY,
    POLICY,
    SETTINGS,
    Places,
)
from agent_client.renewal.pairs import Pairs
from agent_client.store.secure import SecureStore, StoreError
from agent_client.trust.document import save_trust
from agent_client.turns import FilesBusy, Turn
from agent_client.version import AGENT_VERSION
from protocol.codec import split_path
from protocol.enrollment import EnrollmentSystemInformation, EnrollPending, EnrollReply, EnrollRequest
from protocol.identity import EnrollmentToken

POLL_MIN_SECONDS: Final = 1
POLL_MAX_SECONDS: Final = 60
TURN_WAIT_SECONDS: Final = 10.0
TURN_LOOK_SECONDS: Final = 0.02

Say = Callable[[str], None]


class Enrollment:
    """One try to join, safe against a crash at any point.

    The key is on disk before the token is sent, and a further try with the same token uses it again, so that a lost
    answer can be asked for anew. `config.json` is written last, and only with it is the agent enrolled.
    """

    def __init__(self, places: Places, door: HubDoor, token: EnrollmentToken, say: Say) -> None:
        self._places = places
        self._door = door
        self._token = token
        self._say = say
        self._certs = SecureStore(places.certs)
        self._state = SecureStore(places.state)

    def run(self, *, force: bool, approval_timeout_seconds: float) -> Config:
        """Return the configuration of the enrolled agent. Raises EnrollmentError or StoreError."""
        if SecureStore(self._places.config).exists(CONFIG) and not force:
            raise AlreadyEnrolled(
                f"this machine is already enrolled ({self._places.config / CONFIG}); --force gives it a new identity"
            )
        for folder in (self._places.config, self._places.state, self._places.certs):
            SecureStore(folder).prepare()
        key = self._key()
        self._say(f"asking {self._door.address.url} for its certificates")
        root_pem = pinned_root(self._door.fetch_ca().ca_bundle_pem, self._token.pin)
        self._say("the hub's root is the one the token names; enrolling")
        reply = self._ask(key, root_pem, approval_timeout_seconds)
        facts = check_reply(reply, key.public_der(), self._token.pin, datetime.now(UTC))
        config = self._configuration(reply, facts)
        with ExitStack() as turn:
            self._take_turn(turn)
            self._save(key, reply, facts, config)
        return config

    def _key(self) -> AgentKey:
        """Return the key of an interrupted try, or a new one, which is on disk when this returns."""
        if self._certs.exists(PENDING_KEY):
            self._say("using the key that an earlier try made here")
            return AgentKey.from_pem(self._certs.load(PENDING_KEY))
        key = AgentKey.generate()
        self._certs.save(PENDING_KEY, key.to_pem())
        return key

    def _ask(self, key: AgentKey, root_pem: str, approval_timeout_seconds: float) -> EnrollReply:
        request = EnrollRequest(
            token=self._token.text,
            csr_pem=key.request_pem(),
            agent_version=AGENT_VERSION,
            boot_id=boot_id(),
            sysinfo=_system_information(),
        )
        deadline = time.monotonic() + approval_timeout_seconds
        while isinstance(answer := self._door.enroll(request, root_pem), EnrollPending):
            wait_seconds = min(max(answer.poll_after_sec, POLL_MIN_SECONDS), POLL_MAX_SECONDS)
            if time.monotonic() + wait_seconds > deadline:
                raise EnrollmentError("the hub still waits for a person's approval; run the same command again later")
            self._say(f"waiting for a person to approve this machine on the hub; its key is {key.fingerprint}")
            time.sleep(wait_seconds)
        return answer

    def _take_turn(self, turn: ExitStack) -> None:
        """Wait while the daemon changes its files. Raises FilesBusy when it does not end in time."""
        deadline = time.monotonic() + TURN_WAIT_SECONDS
        while True:
            try:
                turn.enter_context(Turn(self._places).taken())
            except FilesBusy:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(TURN_LOOK_SECONDS)
            else:
                return

    def _save(self, key: AgentKey, reply: EnrollReply, facts: ChainFacts, config: Config) -> None:
        SecureStore(self._places.config).delete(CONFIG)  # from here to the end the machine is not enrolled
        Pairs(self._places).forget_next()
        self._certs.save(CLIENT_KEY, key.to_pem())
        self._certs.save(
            CLIENT_CERTIFICATE, described(reply.client_cert_pem, facts.identity, facts.not_before, facts.not_after)
        )
        self._certs.save(CA_BUNDLE, reply.ca_bundle_pem.encode())
        save_trust(self._places, reply.trust)
        self._state.save(POLICY, msgspec.json.encode(reply.policy))
        self._state.delete(SETTINGS)
        self._state.delete(CERTIFICATE_TERMS)
        save_config(self._places, config)
        self._certs.delete(PENDING_KEY)

    def _configuration(self, reply: EnrollReply, facts: ChainFacts) -> Config:
        """Return the configuration to write; settings that people made in an earlier one stay."""
        identity = {
            "agent_id": facts.identity.agent_id,
            "organisation_id": facts.identity.organisation_id,
            "trust_domain": facts.identity.trust_domain,
            "hub_url": self._door.address.url,
            "websocket_url": reply.websocket_url,
        }
        try:
            earlier = msgspec.to_builtins(load_config(self._places))
        except (ConfigError, StoreError):
            earlier = {}
        try:
            return msgspec.convert(earlier | identity, Config)
        except msgspec.ValidationError as error:
            raise BadAnswer(
                f"the hub's answer cannot be kept as a configuration: {split_path(str(error))[0]}"
            ) from error


def _system_information() -> EnrollmentSystemInformation:
    machine = describe_machine()
    return EnrollmentSystemInformation(
        hostname=machine.hostname,
        os=machine.os,
        os_version=machine.os_version,
        arch=machine.arch,
        cpu_count=machine.cpu_count,
        memory_total_bytes=machine.memory_total_bytes,
        ip_addresses=machine.ip_addresses,
    )
