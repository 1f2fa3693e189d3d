"""What checks find on machines: judged when something is new, stored when it changed; on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.exc import OperationalError
from sqlmodel import col

from hub_server.bus.port import Overflow
from hub_server.events import ComplianceChanged
from hub_server.fleet.tables import AgentRow
from hub_server.policies.compliance import AGAIN_AFTER_SECONDS, STORED_AT_ONCE
from hub_server.policies.tables import ComplianceRow
from hub_server.policies.worker import ComplianceKeeper
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AlertSeverity, Role
from protocol.policies import (
    Check,
    CheckOperator,
    CheckState,
    ComplianceList,
    ComplianceSummary,
    ComplianceTotals,
    Fact,
    PoliciesDelete,
)
from tests.hub_server.policies.builders import FIREWALL, OPENSSL, World, person

AGE = Check(name="Updates", fact=Fact.UPDATES_AGE_DAYS, operator=CheckOperator.AT_MOST, value=30)
VERSION = Check(name="Agent", fact=Fact.AGENT_VERSION, operator=CheckOperator.VERSION_AT_LEAST, value="2.0")
VERSION_CRITICAL = msgspec.structs.replace(VERSION, severity=AlertSeverity.CRITICAL)
DAY_SECONDS = 86_400


async def rows(world: World) -> int:
    async with world.database.read(EVERY_ORGANISATION) as connection:
        return await connection.scalar(select(func.count()).select_from(ComplianceRow)) or 0


async def test_results_say_what_was_found_and_since_when(world: World) -> None:
    await world.add("a", "web")
    world.tell("a", firewall_enabled=True)
    made = await world.make("Web", FIREWALL, OPENSSL, tags=["web"])
    await world.compliance.round()
    started = world.clock.now()
    assert await world.states() == {("a", "Firewall"): "passed", ("a", "OpenSSL"): "unknown"}

    world.clock.advance(60)
    world.tell("a", firewall_enabled=False)
    world.install("a", openssl="3.0.9")
    await world.compliance.round()
    [first, second] = await world.results()
    assert {first.check, second.check} == {"Firewall", "OpenSSL"}
    firewall = first if first.check == "Firewall" else second
    assert (firewall.state.value, firewall.found, firewall.hostname) == ("failed", "false", "host-a")
    assert (firewall.policy, firewall.policy_id) == ("Web", made.id)
    assert firewall.expected == "security.firewall_enabled is true"
    assert firewall.since == world.clock.now() > started

    failed_at = world.clock.now()
    world.clock.advance(60)
    world.tell("a", firewall_enabled=True)
    world.install("a", openssl="3.0.10")
    await world.compliance.round()
    by_check = {one.check: one for one in await world.results()}
    assert (by_check["Firewall"].state.value, by_check["Firewall"].since) == ("passed", world.clock.now())
    assert (by_check["OpenSSL"].found, by_check["OpenSSL"].since) == ("3.0.10", failed_at)


async def test_nothing_new_is_not_judged_again_and_the_inventory_is_read_once(world: World) -> None:
    await world.add("a")
    world.install("a", openssl="3.0.9")
    await world.make("All", OPENSSL, FIREWALL)
    assert await world.compliance.round() == 1
    assert await world.compliance.round() == 0
    world.tell("a", firewall_enabled=True)
    assert await world.compliance.round() == 1
    assert world.reads == ["a"]
    world.install("a", openssl="3.0.14")
    assert await world.compliance.round() == 1
    assert world.reads == ["a", "a"]
    assert await world.states() == {("a", "Firewall"): "passed", ("a", "OpenSSL"): "passed"}


async def test_ages_grow_without_anybody_saying_so(world: World) -> None:
    await world.add("a")
    as_of_ms = int(world.clock.now().timestamp() * 1000)
    world.tell("a", updates_as_of_ms=as_of_ms)
    await world.make("All", AGE)
    await world.compliance.round()
    assert await world.states() == {("a", "Updates"): "passed"}
    world.clock.advance(31 * DAY_SECONDS)
    assert await world.compliance.round() == 1
    [result] = await world.results()
    assert (result.state.value, result.found) == ("failed", "31")
    world.clock.advance(AGAIN_AFTER_SECONDS - 1)
    assert await world.compliance.round() == 0


async def test_results_follow_policies_tags_and_versions(world: World) -> None:
    await world.add("a", "web")
    await world.add("b", "db")
    web = await world.make("Web", FIREWALL, tags=["web"])
    every = await world.make("All", VERSION)
    await world.compliance.round()
    assert await world.states() == {
        ("a", "Firewall"): "unknown",
        ("a", "Agent"): "failed",
        ("b", "Agent"): "failed",
    }
    world.tag("a", "db", version="2.1")
    await world.compliance.round()
    assert await world.states() == {("a", "Agent"): "passed", ("b", "Agent"): "failed"}
    world.tag("a", "web", version="2.1")
    await world.change(every.id, msgspec.structs.replace(VERSION, name="Newest agent"), name="All")
    await world.compliance.round()
    assert set(await world.states()) == {("a", "Firewall"), ("a", "Newest agent"), ("b", "Newest agent")}
    await world.change(web.id, FIREWALL, name="Web", tags=["web"], enabled=False)
    await world.policies.delete(world.admin, PoliciesDelete(policy_id=every.id))
    await world.compliance.round()
    assert await rows(world) == 0


async def test_a_change_of_one_policy_judges_only_machines_whose_checks_changed(world: World) -> None:
    await world.add("a", "web")
    await world.add("b", "db")
    await world.make("Web", FIREWALL, tags=["web"])
    await world.compliance.round()
    await world.make("Databases", VERSION, tags=["db"])
    assert await world.compliance.round() == 1


async def test_severity_is_that_of_the_check_as_it_is_now(world: World) -> None:
    await world.add("a")
    made = await world.make("All", FIREWALL)
    await world.compliance.round()
    before = await world.results()
    world.clock.advance(60)
    await world.change(made.id, msgspec.structs.replace(FIREWALL, severity=AlertSeverity.CRITICAL), name="All")
    await world.compliance.round()
    [after] = await world.results()
    assert (after.severity, after.since) == (AlertSeverity.CRITICAL, before[0].since)


async def test_a_restart_judges_anew_and_writes_nothing_that_is_the_same(world: World) -> None:
    await world.add("a")
    await world.make("All", FIREWALL)
    await world.compliance.round()
    before = await world.results()
    world.clock.advance(60)
    await world.restart()
    assert await world.compliance.round() == 1
    assert (await world.results(), world.store.saved) == (before, 1)


async def test_results_of_a_policy_that_went_while_the_hub_was_down_go_too(world: World) -> None:
    await world.add("a")
    made = await world.make("All", FIREWALL)
    await world.compliance.round()
    await world.change(made.id, FIREWALL, enabled=False)
    await world.restart()  # before a round saw it
    await world.compliance.round()
    assert await rows(world) == 0
    assert await world.compliance.round() == 0


async def test_a_machine_that_was_deleted_meanwhile_harms_no_other(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.add(name)
    await world.make("All", FIREWALL)
    async with world.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(delete(AgentRow).where(col(AgentRow.id) == "b"))
    await world.compliance.round()
    assert {agent_id for agent_id, _ in await world.states()} == {"a", "c"}
    del world.boxes["b"]
    world.compliance.forget("b")
    assert await world.compliance.round() == 0


async def test_lists_are_filtered_counted_and_put_worst_first(world: World) -> None:
    for name, enabled in (("a", True), ("b", False), ("c", None)):
        await world.add(name)
        if enabled is not None:
            world.tell(name, firewall_enabled=enabled)
    made = await world.make("All", FIREWALL)
    other = await world.make("More", VERSION)
    await world.compliance.round()
    listed = await world.compliance.list(world.viewer, ComplianceList(policy_id=made.id))
    assert [one.agent_id for one in listed.results] == ["b", "c", "a"]
    assert (listed.total, listed.totals) == (3, ComplianceTotals(passed=1, failed=1, unknown=1))
    failed = await world.compliance.list(world.viewer, ComplianceList(state=CheckState.FAILED, limit=2))
    assert (failed.total, len(failed.results), failed.totals.failed) == (4, 2, 4)
    of_one = await world.compliance.list(world.viewer, ComplianceList(agent_id="a"))
    assert [(one.check, one.state.value) for one in of_one.results] == [("Agent", "failed"), ("Firewall", "passed")]

    summary = await world.compliance.summary(world.viewer, ComplianceSummary())
    assert summary.machines == ComplianceTotals(failed=3)
    assert [(one.policy, one.machines, one.results) for one in summary.policies] == [
        ("All", listed.totals, listed.totals),
        ("More", ComplianceTotals(failed=3), ComplianceTotals(failed=3)),
    ]
    await world.policies.delete(world.admin, PoliciesDelete(policy_id=other.id))
    assert (await world.compliance.summary(world.viewer, ComplianceSummary())).machines == listed.totals


async def test_another_organisation_sees_no_results(world: World) -> None:
    await world.add("a")
    await world.make("All", FIREWALL)
    await world.compliance.round()
    stranger = person("another", Role.ORG_ADMIN)
    assert (await world.compliance.list(stranger, ComplianceList())).total == 0
    assert (await world.compliance.list(stranger, ComplianceList(agent_id="a"))).results == []
    assert (await world.compliance.summary(stranger, ComplianceSummary())).machines == ComplianceTotals()


async def test_a_large_fleet_leaves_others_their_turn(world: World) -> None:
    for number in range(2 * STORED_AT_ONCE):
        await world.add(f"m{number:03}")
    await world.make("All", FIREWALL, VERSION)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        other = tasks.create_task(others())
        await world.compliance.round()
        other.cancel()
    assert turns > 2 * STORED_AT_ONCE  # one for each machine at least
    assert await rows(world) == 4 * STORED_AT_ONCE


async def test_the_keeper_judges_a_changed_policy_at_once_and_outlives_a_database_that_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add("a")
    keeper = ComplianceKeeper(policies=world.policies, compliance=world.compliance)
    judged = asyncio.Event()
    original = world.compliance.round

    async def failing_once() -> int:
        if not keeper.failures:
            raise OperationalError("select 1", {}, OSError("no route"))
        count = await original()
        judged.set()
        return count

    monkeypatch.setattr(world.compliance, "round", failing_once)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeper.run())
        await world.make("All", FIREWALL)
        await judged.wait()
        running.cancel()
    assert keeper.failures == 1
    assert await world.states() == {("a", "Firewall"): "unknown"}


async def test_it_is_said_when_the_worst_that_fails_is_of_another_severity(world: World) -> None:
    await world.add("a")
    world.tell("a", firewall_enabled=False)
    made = await world.make("All", FIREWALL)
    heard: list[AlertSeverity | None] = []
    with world.bus.subscribe(frozenset({"compliance"}), name="t", capacity=9, overflow=Overflow.DROP_OLDEST) as said:
        await world.compliance.round()
        await world.change(made.id, FIREWALL, VERSION_CRITICAL, name="All")
        await world.compliance.round()
        world.clock.advance(60)
        world.tell("a", firewall_enabled=True)
        assert await world.compliance.round() == 1  # the other still fails
        await world.policies.delete(world.admin, PoliciesDelete(policy_id=made.id))
        await world.compliance.round()
        for event in await said.batch(9):
            assert isinstance(event, ComplianceChanged)
            heard.append(event.severity)
    assert heard == [AlertSeverity.WARNING, AlertSeverity.CRITICAL, None]


async def beside(world: World) -> World:
    """Return another hub on the same database, to which none of the machines is connected."""
    database = Database(world.database.engine.url.render_as_string(hide_password=False), hub_id="beside")
    other = World(database, world.bus, world.clock, world.organisation_id)
    other.boxes = dict(world.boxes)
    other.elsewhere = set(world.boxes)
    await other.restart()
    return other


async def test_a_hub_that_does_not_know_a_machine_leaves_what_was_found(world: World) -> None:
    """It has no sample, or one from long ago: what it would say is not so."""
    await world.add("a")
    world.tell("a", firewall_enabled=True, updates_as_of_ms=int(world.clock.now().timestamp() * 1000))
    world.install("a", openssl="3.0.13")
    await world.make("All", FIREWALL, OPENSSL, AGE)
    await world.compliance.round()
    found, judged_at = await world.states(), world.clock.now()
    assert set(found.values()) == {"passed"}
    other = await beside(world)
    try:
        other.samples = dict(world.samples)
        world.clock.advance(40 * DAY_SECONDS)
        assert await other.compliance.round() == 1
        assert (await world.states(), {one.since for one in await world.results()}) == (found, {judged_at})
        other.samples.clear()
        await other.change((await world.results())[0].policy_id, FIREWALL, OPENSSL, AGE, VERSION)
        await other.compliance.round()
        assert await world.states() == {**found, ("a", "Agent"): "failed"}
    finally:
        await other.database.close()


async def test_a_machine_that_is_away_is_judged_by_several_checks(world: World) -> None:
    world.elsewhere.add("a")
    await world.add("a")
    await world.make("All", FIREWALL, OPENSSL, VERSION)
    await world.compliance.round()
    assert await world.states() == {("a", "Firewall"): "unknown", ("a", "OpenSSL"): "unknown", ("a", "Agent"): "failed"}


async def test_the_hub_that_a_machine_comes_to_says_what_its_checks_find(world: World) -> None:
    await world.add("a")
    world.tell("a", firewall_enabled=True)
    await world.make("All", FIREWALL)
    await world.compliance.round()
    other = await beside(world)
    try:
        await other.compliance.round()
        world.elsewhere, other.elsewhere = {"a"}, set()
        other.tell("a", firewall_enabled=False)
        await world.compliance.round()
        await other.compliance.round()
        assert await world.states() == {("a", "Firewall"): "failed"}
        world.clock.advance(AGAIN_AFTER_SECONDS)
        await world.compliance.round()
        assert await world.states() == {("a", "Firewall"): "failed"}
        world.elsewhere, other.elsewhere = set(), {"a"}
        await world.compliance.round()
        assert await world.states() == {("a", "Firewall"): "passed"}
    finally:
        await other.database.close()


async def test_no_alert_is_raised_by_a_hub_that_does_not_know(world: World) -> None:
    await world.add("a", version="1.0")
    await world.make("All", VERSION_CRITICAL)
    world.tag("a", version="2.1")
    await world.compliance.round()
    other = await beside(world)
    other.tag("a", version="1.0")
    try:
        with world.bus.subscribe(
            frozenset({"compliance"}), name="t", capacity=10, overflow=Overflow.DROP_OLDEST
        ) as subscription:
            await other.compliance.round()
            events = await subscription.batch(10) if subscription.buffered else []
        assert [event.severity for event in events if isinstance(event, ComplianceChanged)] == [None]
    finally:
        await other.database.close()


async def test_a_machine_that_is_deleted_while_others_are_stored_stops_no_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for agent_id in ("a", "b"):
        await world.add(agent_id)
        world.tell(agent_id, firewall_enabled=True)
    await world.make("All", FIREWALL)
    await world.compliance.round()
    save = world.store.save

    async def meanwhile(*arguments: Any, **named: Any) -> None:
        del world.boxes["b"]
        world.compliance.forget("b")
        await save(*arguments, **named)

    monkeypatch.setattr(world.store, "save", meanwhile)
    world.clock.advance(60)
    world.tell("a", firewall_enabled=False)
    world.tell("b", firewall_enabled=True)
    assert await world.compliance.round() == 2
    assert (await world.states())["a", "Firewall"] == "failed"
