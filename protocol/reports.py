"""Kinds of `event` frames: what an agent reports of itself, with the fields of their `data`."""

from typing import Final

GAP: Final = "gap"
"""Sequences of a stream that the hub will not get: stream, epoch, cause, dropped, first_seq, last_seq, from_ms, to_ms.

Every sequence from first_seq to last_seq is missing. cause: bytes, age, disk (entries lost for want of room), restored
(lost with a spool that went back), renewed (nothing is lost, dropped is 0: it comes, or came, under another epoch).
"""
DISCONNECTED: Final = "disconnected"
"""A session ended: code, reason, at_ms, for_ms (until the next one), attempts (that one included)."""
STARTED: Final = "started"
"""The daemon began: version, boot_id, clean (whether its last end was an orderly one), down_ms (null at first)."""
CLOCK_STEPPED: Final = "clock_stepped"
"""The machine's wall clock jumped against its monotonic one: by_ms."""
COLLECTOR_FAILING: Final = "collector_failing"
"""collector, reason. A plugin's collector is `custom.<plugin>`."""
COLLECTOR_RECOVERED: Final = "collector_recovered"
"""collector, failures."""
SPOOL_DAMAGED: Final = "spool_damaged"
"""moved_to: where the unreadable file lies now."""
SPOOL_RENEWED: Final = "spool_renewed"
"""The spool is not as the agent left it. cause: restored (it went back to an earlier state: new epochs), deleted (it
was gone: new epochs), rescued (deleted under the running agent, which put it back whole).
"""
SPOOL_FULL: Final = "spool_full"
"""The disk took no sample: since_ms, dropped."""
