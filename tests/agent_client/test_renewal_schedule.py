"""When a certificate is renewed, and how long a failed try is waited out."""

from __future__ import annotations

from agent_client.certificate import CertificateFacts
from agent_client.renewal.schedule import IssuerWanted, leave_at_ms, renewal_at_ms, retry_seconds
from protocol.identity import AgentIdentity
from tests.agent_client.clock import START_MS

DAY_MS = 86_400_000
ISSUED_MS = START_MS + 300_000


def facts(number: int = 0, *, issuer: str = "old", life_days: float = 30) -> CertificateFacts:
    identity = AgentIdentity("fleet.test", "org-1", f"agent-{number}")
    return CertificateFacts(identity, START_MS, START_MS + int(life_days * DAY_MS), issuer, "sha256")


def test_a_fleet_renews_spread_over_two_thirds_of_a_life_and_a_tenth_around_it() -> None:
    fractions = sorted(
        (renewal_at_ms(facts(number), None) - ISSUED_MS) / (30 * DAY_MS - 300_000) for number in range(2000)
    )
    assert 0.6 <= fractions[0] < 0.602
    assert 0.731 < fractions[-1] <= 0.7334
    assert abs(fractions[1000] - 2 / 3) < 0.01


def test_a_short_life_counts_from_when_it_was_issued_and_not_from_the_date_before() -> None:
    short = facts(life_days=360_000 / DAY_MS)  # a minute, dated back by five
    assert START_MS + 300_000 + 36_000 <= renewal_at_ms(short, None) <= START_MS + 300_000 + 44_000


def test_a_restart_does_not_draw_anew() -> None:
    assert renewal_at_ms(facts(7), None) == renewal_at_ms(facts(7), None)


def test_a_named_issuer_brings_the_renewal_forward_and_never_back() -> None:
    early = IssuerWanted(issuer_sha256="new", leave_at_ms=START_MS + DAY_MS)
    late = IssuerWanted(issuer_sha256="new", leave_at_ms=START_MS + 29 * DAY_MS)
    by_age = renewal_at_ms(facts(), None)
    assert renewal_at_ms(facts(), early) == early.leave_at_ms
    assert renewal_at_ms(facts(), late) == by_age
    assert renewal_at_ms(facts(issuer="new"), early) == renewal_at_ms(facts(issuer="new"), None)


def test_agents_leave_an_issuer_spread_over_the_time_the_hub_gives() -> None:
    moments = sorted(leave_at_ms(facts(number), START_MS, 3600) - START_MS for number in range(2000))
    assert 0 <= moments[0] < 20_000
    assert 3_580_000 < moments[-1] < 3_600_000
    assert leave_at_ms(facts(), START_MS, 0) == START_MS


def test_the_less_life_is_left_the_sooner_a_failed_try_is_repeated() -> None:
    pauses = [retry_seconds(facts(life_days=1), START_MS + at * DAY_MS // 100) for at in (0, 90, 99, 100, 200)]
    assert pauses == [900.0, 432.0, 43.2, 5.0, 5.0]
