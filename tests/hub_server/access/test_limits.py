import pytest

from hub_server.access.limits import AttemptLimits, network_of
from hub_server.errors import RateLimited
from tests.clocks import FakeClock


def test_memory_is_bounded_and_the_quietest_is_forgotten(clock: FakeClock) -> None:
    limits = AttemptLimits(clock, burst=1, capacity=100)
    limits.spend("first")
    limits.spend("busy")
    for number in range(99):
        limits.spend(f"other {number}")
        with pytest.raises(RateLimited):
            limits.check("busy")
    limits.spend("first")
    assert len(limits._attempts) == 100


def test_a_bucket_fills_again_up_to_its_burst(clock: FakeClock) -> None:
    limits = AttemptLimits(clock, burst=2, per_second=0.5)
    for _ in range(2):
        limits.spend("a")
    with pytest.raises(RateLimited) as limited:
        limits.spend("a")
    assert limited.value.retry_after_seconds == 2
    clock.advance(3600)
    for _ in range(2):
        limits.spend("a")
    with pytest.raises(RateLimited):
        limits.spend("a")


def test_a_good_attempt_costs_nothing(clock: FakeClock) -> None:
    limits = AttemptLimits(clock, burst=1)
    for _ in range(5):
        limits.spend("a")
        limits.give_back("a")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_machine_counts_with_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
