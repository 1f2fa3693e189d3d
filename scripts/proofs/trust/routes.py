"""Every route, by every method, in every spelling, without credentials."""

from __future__ import annotations

import ssl

from scripts.proofs.report import Report
from scripts.proofs.trust.own_hub import own_hub
from tests.integration import routes


async def show(report: Report) -> None:
    await report.show("routes: no spelling of any lets a stranger in, and nothing is changed by any", _shown)


async def _shown() -> str:
    tables: dict[str, set[tuple[str, str]]] = {}
    with routes.seen_tables(tables):
        async with own_hub() as (hub, _):
            before = await hub.rows()
            tls = ssl.create_default_context(cadata=hub.authority.root_pem)
            people_port, agents_port = (int(url.rsplit(":", 1)[1]) for url in (hub.web_url, hub.agent_url))
            people = await routes.ask_all("people", tables["people"], people_port, tls=None)
            agents = await routes.ask_all("agents", tables["agents"], agents_port, tls=tls)
            changed = await hub.changed_since(before)
    assert not people.wrong, people.wrong
    assert not agents.wrong, agents.wrong
    assert not changed, changed
    statuses = people.statuses + agents.statuses
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    return f"{statuses.total()} requests to {sum(map(len, tables.values()))} routes; {answers}"
