"""permessage-deflate (RFC 7692) without context takeover, so that one compressed message is good for any client.

No message refers to one before it: a client may get some compressed and others not, past whoever writes the others.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from aiohttp import WSCloseCode
from aiohttp.http import WebSocketError

AGREED: Final = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
_TAKEN_OFFER: Final = re.compile(
    r"permessage-deflate"
    r"(?:;(?:server_no_context_takeover|client_no_context_takeover|client_max_window_bits(?:=(?:[89]|1[0-5]))?))*"
)
"""One that leaves the hub its whole window: a smaller one would need a message compressed for it alone."""
_RAW: Final = -zlib.MAX_WBITS
_LEVEL: Final = 1
_TAIL: Final = b"\x00\x00\xff\xff"
"""The empty block that ends each message and is not sent (RFC 7692, 7.2.1)."""


def is_offered(extensions: str) -> bool:
    """Whether a client that sends this `Sec-WebSocket-Extensions` takes what is AGREED."""
    return any(_is_taken("".join(offer.split())) for offer in extensions.split(","))


def _is_taken(offer: str) -> bool:
    """No parameter may be there twice (RFC 7692, 7)."""
    names = [part.partition("=")[0] for part in offer.split(";")]
    return _TAKEN_OFFER.fullmatch(offer) is not None and len(set(names)) == len(names)


def deflated(text: bytes | memoryview) -> bytes:
    """Return the payload of a compressed message; 64 KiB of samples take under a millisecond."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
    return (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)


def inflated(payload: bytes | bytearray, bytes_max: int) -> bytes:
    """Return the text of a compressed message; never more than a byte beyond `bytes_max` is made of it.

    Raises WebSocketError, with the code to close with.
    """
    try:
        text = zlib.decompressobj(_RAW).decompress(payload + _TAIL, bytes_max + 1)
    except zlib.error as error:
        raise WebSocketError(WSCloseCode.INVALID_TEXT, "not a compressed message") from error
    if len(text) > bytes_max:
        raise WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, f"a message unfolds to more than {bytes_max} bytes")
    return text
