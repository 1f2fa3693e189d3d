"""The hub's keys as people are shown them."""

from __future__ import annotations

from datetime import datetime

from hub_server.pki.engine import ROTATED, Lifetimes, advice, rotates_at, state_of
from hub_server.pki.keyring import Keyring
from hub_server.pki.trust import document_of
from protocol.enumerations import AuthorityState
from protocol.oversight import AuthoritiesListReply, AuthorityView


def advice_on(keyring: Keyring, now: datetime) -> list[str]:
    """Return what a person should do; nothing while the hub helps itself."""
    return advice(keyring.held, now, is_root_at_hand=keyring.root_key is not None)


def overview_of(keyring: Keyring, now: datetime, lifetimes: Lifetimes) -> AuthoritiesListReply:
    views = []
    for record, key in zip(keyring.records, keyring.held, strict=True):
        state = state_of(key, keyring.held, now)
        is_rotated = state is AuthorityState.ACTIVE and key.use in ROTATED
        views.append(
            AuthorityView(
                id=key.id,
                use=key.use,
                state=state,
                not_before=record.not_before,
                not_after=key.not_after,
                rotates_at=rotates_at(key, lifetimes) if is_rotated else None,
            )
        )
    return AuthoritiesListReply(
        authorities=views,
        trust_version=document_of(keyring.trust).version,
        root_at_hand=keyring.root_key is not None,
        root_fingerprint=keyring.root_id,
        advice=advice_on(keyring, now),
    )
