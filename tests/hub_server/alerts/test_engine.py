"""The first rules, as seed 004 states them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.alerts.engine import RANK, Cease, ChangeSeverity, Effect, Raise, evaluate
from hub_server.alerts.model import Standing
from protocol.enumerations import AlertSeverity
from protocol.frames import MetricValue
from protocol.operations import Thresholds
from tests.hub_server.alerts.builders import standing

WARNING, ERROR, CRITICAL = AlertSeverity.WARNING, AlertSeverity.ERROR, AlertSeverity.CRITICAL
DEFAULTS = Thresholds()


def raised(kind: str, **data: MetricValue) -> list[Effect]:
    return evaluate(DEFAULTS, kind, data, {})


@pytest.mark.parametrize(
    ("metric", "key", "warning", "critical"),
    [("cpu_percent", "cpu", 80, 90), ("memory_percent", "memory", 80, 90), ("disk_percent", "disk", 75, 90)],
)
def test_a_percentage_above_its_threshold_raises(metric: str, key: str, warning: float, critical: float) -> None:
    for value, severity in (
        (warning, None),
        (warning + 0.1, WARNING),
        (critical, WARNING),
        (critical + 0.1, CRITICAL),
        (100, CRITICAL),
    ):
        effects = raised("system", **{metric: value})
        assert [(type(effect), effect.key) for effect in effects] == ([(Raise, key)] if severity else [])
        assert all(isinstance(effect, Raise) and effect.severity is severity for effect in effects)


def test_messages_are_the_seeds() -> None:
    assert raised("system", disk_percent=78.5) == [Raise("disk", "disk", WARNING, "Disk usage high: 78.5%")]
    assert raised("system", disk_percent=95, disk_mount="/var") == [
        Raise("disk", "disk", CRITICAL, "Disk usage critical: 95.0% on /var")
    ]
    assert raised("security", firewall_enabled=False, antivirus_enabled=False, updates_available=11) == [
        Raise("firewall", "firewall", ERROR, "Firewall is disabled"),
        Raise("antivirus", "antivirus", ERROR, "Antivirus is disabled"),
        Raise("updates", "updates", WARNING, "Updates available: 11"),
    ]


def test_what_is_well_or_unknown_raises_nothing() -> None:
    assert raised("security", firewall_enabled=True, antivirus_enabled=True, updates_available=10) == []
    assert raised("security", firewall_enabled=None, antivirus_enabled="no", updates_available="many") == []
    assert raised("system", cpu_percent=None, memory_percent="99", disk_percent=[]) == []
    assert raised("custom.ups", cpu_percent=99) == []
    assert raised("system", firewall_enabled=False) == []


def test_a_missing_value_changes_no_alert() -> None:
    assert evaluate(DEFAULTS, "system", {}, standing("cpu", CRITICAL)) == []
    assert evaluate(DEFAULTS, "security", {}, standing("firewall", ERROR)) == []


def test_severity_follows_the_value_both_ways() -> None:
    up = evaluate(DEFAULTS, "system", {"cpu_percent": 95}, standing("cpu", WARNING))
    assert up == [ChangeSeverity("cpu", CRITICAL, "CPU usage critical: 95.0%")]
    down = evaluate(DEFAULTS, "system", {"cpu_percent": 84}, standing("cpu", CRITICAL))
    assert down == [ChangeSeverity("cpu", WARNING, "CPU usage high: 84.0%")]


@pytest.mark.parametrize("value", [75.1, 79, 81, 90])
def test_an_alert_does_not_flap_around_its_threshold(value: float) -> None:
    assert evaluate(DEFAULTS, "system", {"cpu_percent": value}, standing("cpu", WARNING)) == []


def test_an_alert_ceases_well_below_its_threshold() -> None:
    assert evaluate(DEFAULTS, "system", {"cpu_percent": 75}, standing("cpu", WARNING)) == [Cease("cpu")]
    assert evaluate(DEFAULTS, "system", {"cpu_percent": 3}, standing("cpu", CRITICAL)) == [Cease("cpu")]
    assert evaluate(DEFAULTS, "security", {"firewall_enabled": True}, standing("firewall", ERROR)) == [
        Cease("firewall")
    ]
    assert evaluate(DEFAULTS, "security", {"updates_available": 10}, standing("updates", WARNING)) == [Cease("updates")]


def test_a_resolved_alert_comes_back_only_when_it_is_worse() -> None:
    resolved = standing("cpu", WARNING, is_open=False)
    assert evaluate(DEFAULTS, "system", {"cpu_percent": 85}, resolved) == []
    assert evaluate(DEFAULTS, "system", {"cpu_percent": 95}, resolved) == [
        Raise("cpu", "cpu", CRITICAL, "CPU usage critical: 95.0%")
    ]
    assert evaluate(DEFAULTS, "system", {"cpu_percent": 84}, standing("cpu", CRITICAL, is_open=False)) == []
    assert evaluate(DEFAULTS, "system", {"cpu_percent": 5}, resolved) == [Cease("cpu")]


def test_an_agent_may_have_thresholds_of_its_own() -> None:
    strict = Thresholds(cpu_warning=4, cpu_critical=20, updates_warning=0)
    assert evaluate(strict, "system", {"cpu_percent": 5}, {}) != []
    assert evaluate(strict, "system", {"cpu_percent": 2}, standing("cpu", WARNING)) == [Cease("cpu")]
    assert evaluate(strict, "security", {"updates_available": 1}, {}) != []


steps = st.lists(
    st.tuples(
        st.sampled_from(["cpu_percent", "memory_percent", "disk_percent"]),
        st.one_of(st.none(), st.floats(0, 100), st.integers(0, 100)),
        st.booleans(),
    ),
    max_size=40,
)


@given(steps=steps, warning=st.floats(0, 100), critical=st.floats(0, 100))
def test_an_agents_alerts_follow_its_values(
    steps: list[tuple[str, float | None, bool]], warning: float, critical: float
) -> None:
    """One alert a key at most; the same sample twice changes nothing; a resolved one only rises."""
    thresholds = Thresholds(
        cpu_warning=warning,
        cpu_critical=critical,
        memory_warning=warning,
        memory_critical=critical,
        disk_warning=warning,
        disk_critical=critical,
    )
    held: dict[str, Standing] = {}
    for metric, value, resolves in steps:
        for effect in evaluate(thresholds, "system", {metric: value}, held):
            _apply(effect, held)
        assert evaluate(thresholds, "system", {metric: value}, held) == []
        key = metric.removesuffix("_percent")
        if value is not None and value > critical:
            assert held[key].severity is CRITICAL
        if resolves and key in held:
            held[key] = Standing("a", key, held[key].severity, "", False)


def _apply(effect: Effect, held: dict[str, Standing]) -> None:
    before = held.get(effect.key)
    match effect:
        case Raise():
            assert before is None or (not before.is_open and RANK[effect.severity] > RANK[before.severity])
            held[effect.key] = Standing("a", effect.type, effect.severity, effect.message, True)
        case ChangeSeverity():
            assert before is not None
            assert before.is_open
            assert before.severity is not effect.severity
            held[effect.key] = Standing("a", before.type, effect.severity, effect.message, True)
        case Cease():
            assert before is not None
            del held[effect.key]
