"""History through a real hub and a real store: samples as they are, rollups of what is not packed yet, and groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from protocol.frames import MetricsAck, Sample
from tests.integration.hub import RunningHub
from tests.integration.machine import Identity, enroll, greeted, metrics, now_ms
from tests.integration.person import known_to, watching

MINUTE_MS: Final = 60_000
SAMPLES: Final = 360
"""One a minute: six hours."""
PER_POINT: Final = 5


async def measured(hub: RunningHub, identity: Identity, end_ms: int, *, step: float) -> None:
    """Let a machine tell six hours up to `end_ms`; each value of its processor is `step` more than the one before."""
    samples = [
        Sample(
            seq=number + 1,
            ts=end_ms - (SAMPLES - number) * MINUTE_MS,
            metric_type="system",
            metric_data={"cpu_percent": number * step, "network_bytes_sent": number},
        )
        for number in range(SAMPLES)
    ]
    async with greeted(hub, identity) as agent:
        for half in (samples[: SAMPLES // 2], samples[SAMPLES // 2 :]):
            await agent.send(metrics(*half))
            await agent.take(MetricsAck)


async def test_history_answers_for_machines_and_for_groups(
    either_hub: RunningHub, either_token: str, folder: Path
) -> None:
    end_ms = now_ms() // (PER_POINT * MINUTE_MS) * PER_POINT * MINUTE_MS
    starts = [end_ms - (SAMPLES - number) * MINUTE_MS for number in range(0, SAMPLES, PER_POINT)]
    asked: dict[str, Any] = {"metrics": ["cpu_percent", "network_bytes_sent"], "from": starts[0], "to": end_ms}
    async with watching(either_hub, either_token) as person:
        slow, fast = [await enroll(either_hub, folder, f"history-{name}") for name in ("slow", "fast")]
        for machine, step in ((slow, 1.0), (fast, 3.0)):
            await known_to(person, machine.agent_id)
            await measured(either_hub, machine, end_ms, step=step)

        every = await person.do("metrics:query", agentIds=[fast.agent_id], **asked)
        assert (every["resolution"], every["resolutionSec"]) == ("raw", 0)
        assert every["series"][0]["values"]["cpu_percent"] == [3.0 * number for number in range(SAMPLES)]

        rolled = await person.do("metrics:query", agentIds=[slow.agent_id], maxPoints=100, **asked)
        assert (rolled["resolution"], rolled["resolutionSec"]) == ("5m", 300)
        (series,) = rolled["series"]
        firsts = range(0, SAMPLES, PER_POINT)
        assert series["timestamps"] == starts
        assert series["values"] == {
            "cpu_percent": [first + 2.0 for first in firsts],
            "network_bytes_sent": [first + 4 for first in firsts],
        }
        assert series["minima"] == {"cpu_percent": [float(first) for first in firsts]}
        assert series["maxima"] == {"cpu_percent": [first + 4.0 for first in firsts]}

        both = await person.do("metrics:query", filter={"text": "history-"}, groupBy="os", maxPoints=100, **asked)
        (group,) = both["series"]
        assert (group["group"], group["agents"], group["agentId"]) == ("linux", 2, "")
        assert group["values"]["cpu_percent"] == [2 * (first + 2.0) for first in firsts]
        assert group["values"]["network_bytes_sent"] == [2 * (first + 4) for first in firsts]
        assert group["maxima"]["cpu_percent"] == [3 * (first + 4.0) for first in firsts]
