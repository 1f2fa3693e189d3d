"""The signer's process. Its one argument is its Terms as JSON; the hub, or `jtnt-hub signer`, starts it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import msgspec

from hub_server.signing.desk import Desk
from hub_server.signing.door import converse, listen, receive
from hub_server.signing.model import Refusal, Refused, Terms, frame_of
from hub_server.storage.private_files import KeysRefused


def main() -> None:
    terms = msgspec.json.decode(sys.argv[1], type=Terms)
    if terms.listen is None:
        _serve_the_hub(terms)
    else:
        _serve_all(terms, Path(terms.listen))


def _serve_the_hub(terms: Terms) -> None:
    """It ends with the hub's end of the socket: a signal for the whole group is the hub's to obey."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    try:
        desk = Desk(terms)
    except (KeysRefused, OSError) as error:
        connection.sendall(frame_of(Refused(0, Refusal.KEYS, f"the signer cannot start: {error}")))
        return
    converse(connection, desk)


def _serve_all(terms: Terms, path: Path) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        desk = Desk(terms)
        with listen(path) as listener:
            receive(listener, desk, terms.users)
    except (KeysRefused, OSError) as error:
        sys.exit(f"the signer cannot start: {error}")
    except KeyboardInterrupt:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
