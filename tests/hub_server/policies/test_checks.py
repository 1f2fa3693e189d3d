"""Facts of machines compared with what a check expects, and versions put in order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.errors import InvalidRequest
from hub_server.policies.checks import (
    DAY_MS,
    SecurityFacts,
    check_all,
    expected_words,
    inventory_readings,
    section_of,
    security_reading,
    verdict_of,
)
from hub_server.policies.model import Asked, Reading
from hub_server.policies.versions import version_key
from protocol.enumerations import AlertSeverity
from protocol.inventory import Section
from protocol.policies import KINDS, Check, CheckOperator, Fact, FactKind
from tests.hub_server.policies.builders import FIREWALL, OPENSSL

Op = CheckOperator


def check(fact: Fact, operator: Op, value: Any = None, subject: str = "") -> Check:
    return Check(name="c", fact=fact, operator=operator, value=value, subject=subject)


@pytest.mark.parametrize("body", ["", "{", '{"items": 1}', "[]"])
def test_a_section_that_cannot_be_read_tells_nothing(body: str) -> None:
    asked = Asked(Fact.PACKAGE, "openssl")
    assert inventory_readings([asked], {Section.PACKAGES: body}) == {asked: None}


@pytest.mark.parametrize(
    ("fact", "operator", "value", "reading", "state", "found"),
    [
        (Fact.FIREWALL_ENABLED, Op.EQUALS, True, (True,), "passed", "true"),
        (Fact.FIREWALL_ENABLED, Op.EQUALS, True, (False,), "failed", "false"),
        (Fact.FIREWALL_ENABLED, Op.EQUALS, True, None, "unknown", None),
        (Fact.OS_NAME, Op.EQUALS, "debian gnu/linux", ("Debian GNU/Linux",), "passed", "Debian GNU/Linux"),
        (Fact.OS_NAME, Op.NOT_EQUALS, "Ubuntu", ("Ubuntu",), "failed", "Ubuntu"),
        (Fact.OS_NAME, Op.CONTAINS, "DEBIAN", ("Debian GNU/Linux",), "passed", "Debian GNU/Linux"),
        (Fact.OS_NAME, Op.ONE_OF, ["Ubuntu", "Fedora"], ("Debian",), "failed", "Debian"),
        (Fact.OS_NAME, Op.ONE_OF, ["Ubuntu", "debian"], ("Debian",), "passed", "Debian"),
        (Fact.UPDATES_AGE_DAYS, Op.AT_MOST, 30, (30,), "passed", "30"),
        (Fact.UPDATES_AGE_DAYS, Op.AT_MOST, 30, (31,), "failed", "31"),
        (Fact.CPU_CORES, Op.AT_LEAST, 4, (2,), "failed", "2"),
        (Fact.CPU_CORES, Op.EQUALS, 4, (4.0,), "passed", "4"),
        (Fact.CPU_CORES, Op.NOT_EQUALS, 4, (4,), "failed", "4"),
        (Fact.PACKAGE, Op.VERSION_AT_LEAST, "3.0.13", ("3.0.9-1",), "failed", "3.0.9-1"),
        (Fact.PACKAGE, Op.VERSION_AT_LEAST, "3.0.13", ("3.0.13-1~deb12u1",), "passed", "3.0.13-1~deb12u1"),
        (Fact.PACKAGE, Op.VERSION_AT_LEAST, "3.0.13", ("3.1.0", "3.0.9"), "failed", "3.0.9"),
        (Fact.PACKAGE, Op.VERSION_AT_LEAST, "3.0.13", (), "failed", "absent"),
        (Fact.PACKAGE, Op.PRESENT, None, (), "failed", "absent"),
        (Fact.PACKAGE, Op.PRESENT, None, ("1",), "passed", "1"),
        (Fact.PACKAGE, Op.ABSENT, None, (), "passed", "absent"),
        (Fact.PACKAGE, Op.ABSENT, None, ("0.17",), "failed", "0.17"),
        (Fact.PACKAGE, Op.ABSENT, None, None, "unknown", None),
        (Fact.SERVICE_STATE, Op.NOT_EQUALS, "running", (), "passed", "absent"),
        (Fact.SERVICE_STATE, Op.EQUALS, "running", (), "failed", "absent"),
    ],
)
def test_what_a_check_says_of_a_reading(
    fact: Fact, operator: Op, value: Any, reading: Reading, state: str, found: str | None
) -> None:
    verdict = verdict_of(check(fact, operator, value, "x"), reading)
    assert (verdict.state.value, verdict.found) == (state, found)


def test_a_found_text_is_bounded() -> None:
    verdict = verdict_of(check(Fact.OS_NAME, Op.EQUALS, "x"), ("y" * 5000,))
    assert len(verdict.found or "") == 256


INVENTORY = {
    Section.HARDWARE: {"cpuCores": 8, "model": ""},
    Section.OS: {"name": "Debian GNU/Linux", "kernel": "6.1.0-18-amd64"},
    Section.PACKAGES: {
        "items": [{"name": "linux", "version": "6.1"}, {"name": "linux", "version": "5.10"}, {"name": "bash"}]
    },
    Section.SERVICES: {"items": [{"name": "ssh.service", "state": "running", "starts": "enabled"}]},
}


@pytest.mark.parametrize(
    ("fact", "subject", "reading"),
    [
        (Fact.CPU_CORES, "", (8,)),
        (Fact.MODEL, "", None),
        (Fact.MEMORY_BYTES, "", None),
        (Fact.OS_NAME, "", ("Debian GNU/Linux",)),
        (Fact.OS_KERNEL, "", ("6.1.0-18-amd64",)),
        (Fact.PACKAGE, "linux", ("6.1", "5.10")),
        (Fact.PACKAGE, "bash", ("",)),
        (Fact.PACKAGE, "telnetd", ()),
        (Fact.SERVICE_STATE, "ssh", ("running",)),
        (Fact.SERVICE_STARTS, "ssh.service", ("enabled",)),
        (Fact.SERVICE_STATE, "telnet", ()),
    ],
)
def test_readings_of_the_inventory(fact: Fact, subject: str, reading: Reading) -> None:
    bodies = {section: msgspec.json.encode(body) for section, body in INVENTORY.items()}
    asked = Asked(fact, subject)
    assert inventory_readings([asked], bodies) == {asked: reading}
    assert inventory_readings([asked], {}) == {asked: None}


def test_readings_of_security_facts() -> None:
    now_ms = 100 * DAY_MS
    facts = SecurityFacts(
        now_ms - 3 * DAY_MS,
        {"firewall_enabled": False, "updates_available": 7, "updates_as_of_ms": now_ms - 40 * DAY_MS - 5},
    )

    def reading(fact: Fact) -> Reading:
        return security_reading(fact, facts, now_ms)

    assert reading(Fact.FIREWALL_ENABLED) == (False,)
    assert reading(Fact.UPDATES_AVAILABLE) == (7,)
    assert reading(Fact.UPDATES_AGE_DAYS) == (40,)
    assert reading(Fact.FACTS_AGE_DAYS) == (3,)
    assert reading(Fact.ANTIVIRUS_ENABLED) is None
    assert security_reading(Fact.FIREWALL_ENABLED, None, now_ms) is None
    odd = SecurityFacts(now_ms, {"firewall_enabled": 1, "updates_available": True, "updates_as_of_ms": "yesterday"})
    for fact in (Fact.FIREWALL_ENABLED, Fact.UPDATES_AVAILABLE, Fact.UPDATES_AGE_DAYS):
        assert security_reading(fact, odd, now_ms) is None


def test_every_fact_has_a_kind_and_a_place_where_it_is_read() -> None:
    assert set(KINDS) == set(Fact)
    for fact in Fact:
        is_from_security = fact.value.startswith("security.")
        assert (section_of(fact) is None) is (is_from_security or fact is Fact.AGENT_VERSION)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (check(Fact.PACKAGE, Op.PRESENT), "subject"),
        (check(Fact.OS_NAME, Op.EQUALS, "x", "bash"), "subject"),
        (check(Fact.OS_NAME, Op.PRESENT), "operator"),
        (check(Fact.OS_NAME, Op.AT_LEAST, 3), "operator"),
        (check(Fact.FIREWALL_ENABLED, Op.CONTAINS, "x"), "operator"),
        (check(Fact.OS_ARCH, Op.VERSION_AT_LEAST, "1"), "operator"),
        (check(Fact.FIREWALL_ENABLED, Op.EQUALS, "yes"), "value"),
        (check(Fact.FIREWALL_ENABLED, Op.EQUALS), "value"),
        (check(Fact.UPDATES_AVAILABLE, Op.AT_MOST, True), "value"),
        (check(Fact.OS_NAME, Op.EQUALS, " "), "value"),
        (check(Fact.OS_NAME, Op.ONE_OF, []), "value"),
        (check(Fact.PACKAGE, Op.ABSENT, "1", "telnetd"), "value"),
        (Check(name=" ", fact=Fact.OS_NAME, operator=Op.EQUALS, value="x"), "name"),
        (Check(name="FIREWALL", fact=Fact.OS_NAME, operator=Op.EQUALS, value="x"), "name"),
    ],
)
def test_a_check_that_cannot_be_is_refused_with_its_place(wrong: Check, path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_all([FIREWALL, wrong])
    assert refused.value.path == f"$.terms.checks[1].{path}"


def test_what_a_check_expects_is_told_in_words() -> None:
    check_all([FIREWALL, OPENSSL])
    assert expected_words(OPENSSL) == "package openssl is version ≥ 3.0.13"
    assert expected_words(FIREWALL) == "security.firewall_enabled is true"
    assert expected_words(check(Fact.PACKAGE, Op.ABSENT, subject="telnetd")) == "package telnetd is absent"
    assert expected_words(check(Fact.OS_NAME, Op.ONE_OF, ["a", "b"])) == "os.name is one of a, b"
    assert OPENSSL.severity is AlertSeverity.WARNING


def test_versions_are_in_the_order_of_package_managers() -> None:
    ordered = [
        "0.9",
        "1.0~beta1",
        "1.0~rc1",
        "1.0",
        "1.0-1",
        "1.0-1ubuntu2",
        "1.0-2",
        "1.0-10",
        "1.0a",
        "1.0+git1",
        "1.0.1",
        "1.2",
        "1.10",
        "2.0",
        "1:0.1",
    ]
    for one, other in pairwise(ordered):
        assert version_key(one) < version_key(other), (one, other)
    assert version_key("v1.02") == version_key("1.2")
    assert version_key("6.8.0-45-generic") < version_key("6.8.0-50")
    assert version_key("12 (bookworm)") > version_key("12")


@given(st.lists(st.text(alphabet="0123456789.~-+:^abv ", max_size=12), max_size=6))
def test_any_texts_can_be_put_in_order(texts: list[str]) -> None:
    keys = sorted(map(version_key, texts))
    assert all(one <= other for one, other in pairwise(keys))


def test_flags_are_compared_with_true_or_false_only() -> None:
    assert {fact for fact, kind in KINDS.items() if kind is FactKind.FLAG} == {
        Fact.FIREWALL_ENABLED,
        Fact.ANTIVIRUS_ENABLED,
        Fact.AUTOMATIC_UPDATES_ENABLED,
        Fact.REBOOT_REQUIRED,
    }
