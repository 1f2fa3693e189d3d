"""What may be on its way to an agent at a time."""

from datetime import UTC, datetime

from hub_server.commands.model import OpenCommand, OrderWindow
from protocol.enumerations import CommandStatus


def test_a_burst_of_large_orders_is_sent_in_portions_that_the_agents_outbox_holds() -> None:
    window = OrderWindow(512 * 1024)
    orders = [an_open_command(f"c{number}", payload_bytes=100_000) for number in range(5)]
    assert [window.enter(order) for order in orders] == [True, False, False, False, False]
    assert window.enter(orders[0])
    window.leave("a1", "c0")
    assert window.enter(orders[1])
    window.empty("a1")
    assert window.admits(orders[2])


def test_many_small_orders_fly_together_and_agents_do_not_hinder_each_other() -> None:
    window = OrderWindow(512 * 1024)
    assert all(window.enter(an_open_command(f"c{number}", payload_bytes=400)) for number in range(100))
    assert window.enter(an_open_command("other", agent_id="a2", payload_bytes=400_000))


def an_open_command(command_id: str, *, payload_bytes: int, agent_id: str = "a1") -> OpenCommand:
    return OpenCommand(
        id=command_id,
        organisation_id="o",
        agent_id=agent_id,
        status=CommandStatus.PENDING,
        expires_at=datetime(2026, 11, 22, tzinfo=UTC),
        cancel_requested=False,
        payload_bytes=payload_bytes,
    )
