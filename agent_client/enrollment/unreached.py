"""Why nothing came of a call to the hub, in words that say what to do."""

from __future__ import annotations

import errno
import socket
import ssl
from http.client import HTTPException
from typing import Final

RIGHT_PORT: Final = "agents use the agents' port (3001 by default)"
_CHECK: Final = "is the hub running, is the port right, is a firewall between?"
_NO_WAY: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})


def words_for(error: OSError | HTTPException, host: str, port: int) -> str:
    """Return a clause without a full stop; the library's own words only where nothing better is known."""
    match error:
        case ssl.SSLError():
            return _tls_words(error)
        case socket.gaierror():
            return f"the name {host} is not known here; check its spelling, and this machine's DNS"
        case TimeoutError():
            return f"no answer in time from port {port}; {_CHECK}"
        case ConnectionRefusedError():
            return f"nothing listens on port {port}; {_CHECK} {RIGHT_PORT}"
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            return f"port {port} hangs up at once; is it the right one? {RIGHT_PORT}"
        case OSError(errno=number) if number in _NO_WAY:
            return f"this machine has no way to {host}; check its network"
        case _:
            return str(error) or type(error).__name__


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLEOFError):
        return f"it hangs up before TLS is agreed on; is it the right port? {RIGHT_PORT}"
    reason = error.reason or ""
    if reason == "WRONG_VERSION_NUMBER":
        return f"it answers, but not with TLS; is that the dashboard's port? {RIGHT_PORT}"
    if "PROTOCOL" in reason:
        return f"it answers, but not with TLS 1.3, which every hub has; is it the right port? {RIGHT_PORT}"
    return f"TLS fails: {reason.lower().replace('_', ' ') or error}; is it the right port? {RIGHT_PORT}"
