"""What this agent shows to a hub, and whom it believes."""

from __future__ import annotations

from msgspec import Struct

from agent_client.renewal.inheritance import Inheritance
from agent_client.renewal.pairs import Pairs
from agent_client.renewal.recovery import Recovery
from agent_client.renewal.renewal import Renewal
from agent_client.trust.keeper import TrustKeeper


class Papers(Struct, frozen=True):
    inheritance: Inheritance
    pairs: Pairs
    trust: TrustKeeper
    renewal: Renewal
    recovery: Recovery
