"""An agent's folder as the first version left it after its enrollment: its keys, in its order, in its files."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

from agent_client.certificate import chain_of
from agent_client.config import load_config
from agent_client.paths import CLIENT_CERTIFICATE, CONFIG, TRUST, Places
from agent_client.store.secure import SecureStore
from tests.agent_client.fleet import AGENT, Fleet, now_ms

DAY_MS = 86_400_000


def enroll_as_earlier(fleet: Fleet, places: Places, port: int, *, days: float = 30, **more: Any) -> None:
    """Put that version's files in place; people have set short waits in its configuration."""
    fleet.enroll_by_hand(places, port, days=days, **more)
    certs, config, state = SecureStore(places.certs), SecureStore(places.config), SecureStore(places.state)
    certs.save(CLIENT_CERTIFICATE, chain_of(certs.load(CLIENT_CERTIFICATE)).encode())
    said = msgspec.to_builtins(load_config(places))
    keys = ("agent_id", "organisation_id", "trust_domain", "hub_url", "websocket_url")
    identity = {key: said.pop(key) for key in keys}
    written = identity | {"certificate_not_after_ms": now_ms() + int(days * DAY_MS)} | said
    config.save(CONFIG, json.dumps(written, indent=2).encode() + b"\n")
    state.save(TRUST, msgspec.json.encode(fleet.sign_exactly(_trust_document(fleet))))
    state.save("policy.json", b'{"version":1,"allowedActions":["exec"]}')
    assert said
    assert identity["agent_id"] == AGENT


def _trust_document(fleet: Fleet) -> bytes:
    """Return a document with the keys that version knew."""
    signer = {
        "keyId": fleet.signer.key_id,
        "publicKey": base64.b64encode(fleet.signer.public_bytes).decode(),
        "notAfterMs": now_ms() + 3650 * DAY_MS,
    }
    document = {
        "kind": "jtnt.trust.v1",
        "version": 1,
        "issuedAtMs": now_ms(),
        "trustDomain": fleet.trust_document().trust_domain,
        "issuingAuthorities": [
            {"use": "agents", "certificatePem": fleet.agents_ca.pem},
            {"use": "servers", "certificatePem": fleet.servers_ca.pem},
        ],
        "signers": [signer],
        "updateKeys": [],
        "revokedKeyIds": [],
    }
    return json.dumps(document).encode()
