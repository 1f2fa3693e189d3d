"""The guard itself."""

import socket

import pytest

from tests.loopback import LeftTheMachine, is_local


@pytest.mark.parametrize(
    "address", [("127.0.0.1", 1), ("127.8.0.3", 1), ("::1", 1, 0, 0), ("localhost", 1), "/tmp/socket"]
)
def test_this_machine_is_local(address: object) -> None:
    assert is_local(address)


@pytest.mark.parametrize("address", [("192.0.2.1", 1), ("2001:db8::1", 1, 0, 0), ("example.org", 443)])
def test_other_machines_are_not(address: object) -> None:
    assert not is_local(address)


def test_a_test_cannot_reach_another_machine() -> None:
    with socket.socket() as tried, pytest.raises(LeftTheMachine):
        tried.connect(("192.0.2.1", 9))
