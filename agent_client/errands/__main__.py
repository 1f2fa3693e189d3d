"""The process of one errand."""

from __future__ import annotations

import sys

import msgspec

from agent_client.errands.desk import do
from agent_client.errands.shapes import Errand


def main() -> None:
    decoder: msgspec.json.Decoder[Errand] = msgspec.json.Decoder(Errand)
    sys.stdout.buffer.write(msgspec.json.encode(do(decoder.decode(sys.stdin.buffer.read()))))


if __name__ == "__main__":
    main()
