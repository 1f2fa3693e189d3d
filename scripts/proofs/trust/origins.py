"""Whose pages may use the hub: over plain loopback, direct TLS, and behind a named proxy."""

from __future__ import annotations

import ssl

import trustme

from scripts.proofs.report import Report
from scripts.proofs.trust.own_hub import own_hub
from tests.integration.test_origins import PUBLIC, Browser, browser, hostile


async def show(report: Report) -> None:
    await report.show("origins: over plain loopback hostile pages get nothing, the true one works", _plain)
    await report.show("origins: over direct TLS hostile pages get nothing, the true one works", _direct_tls)
    await report.show("origins: behind a named proxy hostile pages get nothing, the true one works", _proxied)


async def _plain() -> str:
    async with own_hub() as (hub, _), browser(hub.web_url) as visitor:
        return await _only(hub.web_url, visitor)


async def _direct_tls() -> str:
    authority, tls = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(tls)
    with authority.issue_cert("localhost").private_key_and_cert_chain_pem.tempfile() as pem:
        async with own_hub(people={"certificate": pem, "key": pem}) as (hub, _):
            url = hub.web_url.replace("http://127.0.0.1", "https://localhost")
            async with browser(url, tls=tls) as visitor:
                return await _only(url, visitor)


async def _proxied() -> str:
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "jtnt.example", "X-Forwarded-For": "192.0.2.9"}
    people = {"trusted_proxies": ["127.0.0.1"]}
    async with own_hub(people=people) as (hub, _), browser(hub.web_url, said) as visitor:
        return await _only(PUBLIC, visitor)


async def _only(true: str, visitor: Browser) -> str:
    """Every hostile origin is turned away at every door; the true one goes through all of them."""
    opened = {origin: await visitor.opened(origin) for origin in hostile(true).values()}
    let_in = {origin: doors for origin, doors in opened.items() if any(doors.values())}
    assert not let_in, let_in
    doors = await visitor.opened(true)
    assert all(doors.values()), doors
    return f"{len(opened)} hostile origins x {len(doors)} doors: 0 open; {true}: all {len(doors)} open"
