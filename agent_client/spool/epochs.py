"""New epochs for a spool that went back to an earlier state: nothing in it is taken for what the hub has already."""

from __future__ import annotations

from collections.abc import Mapping

from agent_client.spool.gaps import RENEWED, Gap, complement
from agent_client.spool.ledger import STREAMS, Ledger, Stream
from protocol.frames import SequenceRange, StreamAck
from protocol.ranges import SequenceRanges

Border = dict[Stream, int]
"""By stream the last sequence from before it went back; later ones may stand for something else at the hub."""


def renewed(ledger: Ledger, border: Border, acks: Mapping[str, StreamAck], at_ms: int) -> None:
    """Let every stream begin a new epoch, in which entries keep their sequences. Inside a transaction.

    What the hub has of the time before is deleted. Gaps say, in the old epoch, what moved and what was lost with the
    newer state; in the new one, which sequences are not used.
    """
    old = ledger.epochs()
    for stream in STREAMS:
        ack = acks.get(stream)
        held = SequenceRanges(ack.ranges) if ack and ack.epoch == old[stream] else SequenceRanges()
        last = border[stream]
        ledger.delete(stream, _up_to(last, held))
        kept = SequenceRanges((seq, seq) for seq in ledger.sequences(stream))
        lost = complement(held, last + 1, held.newest)
        epoch = ledger.renew_epoch(stream)
        ledger.miss(
            [
                *(Gap.of(stream, old[stream], RENEWED, span, at_ms) for span in _up_to(last, kept)),
                *(Gap.of(stream, old[stream], "restored", span, at_ms) for span in lost),
                *(Gap.of(stream, epoch, RENEWED, span, at_ms) for span in complement(kept, 1, ledger.newest(stream))),
            ]
        )


def _up_to(last: int, ranges: SequenceRanges) -> list[SequenceRange]:
    return [(first, min(end, last)) for first, end in ranges if first <= last]
