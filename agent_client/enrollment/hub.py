"""The hub's REST, as an agent without a certificate sees it: the chain for all, enrollment at the proven hub alone."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from agent_client.enrollment.errors import BadAnswer, HubNotReached, HubRefused, WrongAddress, WrongHub
from agent_client.enrollment.unreached import RIGHT_PORT, words_for
from agent_client.transport.tls import anchored_context, bare_context
from agent_client.version import AGENT_VERSION
from protocol.codec import split_path
from protocol.codes import ErrorCode
from protocol.enrollment import CaReply, EnrollPending, EnrollReply, EnrollRequest, ErrorReply, RecoverRequest

T = TypeVar("T")
CA_PATH: Final = "/api/v1/agent/ca"
ENROLL_PATH: Final = "/api/v1/agent/enroll"
RECOVER_PATH: Final = "/api/v1/agent/recover"
ANSWER_MAX_BYTES: Final = 256 * 1024
TIMEOUT_SECONDS: Final = 20.0


class HubAddress(Struct, frozen=True):
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> HubAddress:
        """Raises WrongAddress unless `url` is https://host:port."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port or 443
        except ValueError as error:
            raise WrongAddress(f"--hub {url!r}: the host or the port cannot be read") from error
        if (
            parts.scheme != "https"
            or not parts.hostname
            or parts.path not in {"", "/"}
            or parts.query
            or parts.fragment
        ):
            raise WrongAddress(f"--hub {url!r}: it should look like https://hub.example.com:3001")
        return cls(parts.hostname, port)

    @classmethod
    def of_socket(cls, url: str) -> HubAddress:
        """Return the listener of a socket's address, wss://host:port/path, or of its https one."""
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or 443)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


class Answer(Struct, frozen=True):
    status: int
    body: bytes


class HubDoor:
    """Calls the agents' listener, each time over a new connection. Every call is bounded in time and size."""

    def __init__(self, address: HubAddress, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.address = address
        self._timeout_seconds = timeout_seconds

    def fetch_ca(self) -> CaReply:
        """Return what whoever answers claims: its chain, and a trust document. Neither proves anything by itself.

        Raises HubNotReached or BadAnswer.
        """
        context = bare_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        answer = self._call("GET", CA_PATH, None, context)
        if answer.status != HTTPStatus.OK:
            raise BadAnswer(
                f"{self.address.url} does not answer like a hub (HTTP status {answer.status}); "
                f"check the address: {RIGHT_PORT}"
            )
        return _decoded(answer.body, CaReply)

    def enroll(self, request: EnrollRequest, root_pem: str) -> EnrollReply | EnrollPending:
        """Send the token, over a connection verified against the pinned root and for the host's name.

        Raises HubNotReached, WrongHub, HubRefused or BadAnswer.
        """
        context = bare_context()
        context.load_verify_locations(cadata=root_pem)
        return self._join(ENROLL_PATH, msgspec.json.encode(request), context)

    def recover(self, request: RecoverRequest, anchors_pem: str) -> EnrollReply | EnrollPending:
        """Ask for a new certificate, over a connection verified against the trust document's authorities.

        Raises as `enroll` does.
        """
        return self._join(RECOVER_PATH, msgspec.json.encode(request), anchored_context(anchors_pem))

    def _join(self, path: str, body: bytes, context: ssl.SSLContext) -> EnrollReply | EnrollPending:
        answer = self._call("POST", path, body, context)
        match answer.status:
            case HTTPStatus.OK:
                return _decoded(answer.body, EnrollReply)
            case HTTPStatus.ACCEPTED:
                return _decoded(answer.body, EnrollPending)
            case status:
                raise _refusal(status, answer.body)

    def knock(self, context: ssl.SSLContext) -> int:
        """Return the HTTP status of the chain's address, asked for with a context that shows a certificate."""
        return self._call("GET", CA_PATH, None, context).status

    def _call(self, method: str, path: str, body: bytes | None, context: ssl.SSLContext) -> Answer:
        host, port = self.address.host, self.address.port
        connection = HTTPSConnection(host, port, timeout=self._timeout_seconds, context=context)
        headers = {"User-Agent": f"jtnt-agent/{AGENT_VERSION}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read(ANSWER_MAX_BYTES + 1)
        except ssl.SSLCertVerificationError as error:
            raise WrongHub(f"the hub at {self.address.url} cannot prove who it is: {error.verify_message}") from error
        except (OSError, HTTPException) as error:
            words = words_for(error, host, port)
            raise HubNotReached(f"cannot reach the hub at {self.address.url}: {words}") from error
        finally:
            connection.close()
        if len(content) > ANSWER_MAX_BYTES:
            raise BadAnswer(f"the answer of {self.address.url} is too large for a hub's")
        return Answer(response.status, content)


def _refusal(status: int, body: bytes) -> HubRefused:
    try:
        error = msgspec.json.decode(body, type=ErrorReply).error
    except (msgspec.MsgspecError, UnicodeError):
        return HubRefused(f"the hub refused with HTTP status {status}", "unknown")
    later = f"; try again in {error.retry_after_sec} s" if error.retry_after_sec is not None else ""
    field = error.path.removeprefix("$").removeprefix(".") if error.path else ""
    place = f" (field `{field}`)" if field and error.code == ErrorCode.INVALID_REQUEST else ""
    return HubRefused(f"the hub refused: {error.message}{place}{later}", error.code)


def _decoded(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadAnswer(
            f"the hub's answer is not understood: {split_path(str(error))[0]}; check the address: {RIGHT_PORT}"
        ) from error
