"""The golden files: one a message, its exact bytes and a line end.

`python -m tests.protocol.golden_files` writes those that are missing. It never changes one: bytes that have travelled
are a promise, so a change of theirs is made by hand and read in the review.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from protocol.events import name_of
from tests.protocol.examples.bodies import OPEN_BODIES, REST_BODIES, SIGNED_BODIES
from tests.protocol.examples.events import EVENTS
from tests.protocol.examples.frames import FRAMES
from tests.protocol.examples.operations import REFUSAL, REPLIES, REQUESTS

FOLDER: Final = Path(__file__).parent / "golden"


def _file_name(kind: str, name: object) -> str:
    return f"{kind}.{str(name).replace(':', '-')}.json"


EXAMPLES: Final[Mapping[str, msgspec.Struct]] = {
    **{_file_name("frame", frame.__struct_config__.tag): frame for frame in FRAMES},
    **{_file_name("event", name_of(event)): event for event in EVENTS},
    **{_file_name("request", name): request for name, request in REQUESTS.items()},
    **{_file_name("reply", name): reply for name, reply in REPLIES.items()},
    "refusal.json": REFUSAL,
    **{_file_name("rest", type(body).__name__): body for body in REST_BODIES},
    **{_file_name("signed", type(body).__name__): body for body in SIGNED_BODIES},
    **{_file_name("open", type(body).__name__): body for body in OPEN_BODIES},
}


def bytes_of(example: msgspec.Struct) -> bytes:
    return msgspec.json.encode(example) + b"\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, example in EXAMPLES.items():
        path = FOLDER / name
        if not path.exists():
            path.write_bytes(bytes_of(example))
            sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
