"""The agents' listener as a machine without a certificate sees it: real HTTPS, and all it is sent is written down."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509 import load_pem_x509_csr

from protocol.codes import ErrorCode
from protocol.desired import AgentPolicy
from protocol.enrollment import CaReply, EnrollReply, EnrollRequest, ErrorBody, ErrorReply, RecoverRequest
from tests.agent_client.fleet import AGENT, Fleet

Reply = tuple[int, Any]


@dataclass
class Door:
    """A listener of `fleet`; `change` may alter the enroll reply, `answer` replaces it."""

    fleet: Fleet
    host: str = "127.0.0.1"
    port: int = 0
    claims_bundle: str | None = None
    recover: Callable[[RecoverRequest], Reply] | None = None
    recoveries: list[RecoverRequest] = field(default_factory=list)
    change: Callable[[EnrollReply], EnrollReply] = lambda reply: reply
    answer: Callable[[EnrollRequest], Reply] | None = None
    received: list[bytes] = field(default_factory=list)
    requests: list[EnrollRequest] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    @property
    def everything(self) -> bytes:
        return b"\n".join(self.received)

    def reply(self, method: str, path: str, body: bytes) -> Reply:
        match method, path:
            case "GET", "/api/v1/agent/ca":
                return 200, CaReply(ca_bundle_pem=self.claims_bundle or self.fleet.bundle_pem, trust=self.fleet.trust())
            case "POST", "/api/v1/agent/enroll":
                request = msgspec.json.decode(body, type=EnrollRequest)
                self.requests.append(request)
                return self.answer(request) if self.answer else (200, self.change(self.enrolled(request)))
            case "POST", "/api/v1/agent/recover" if self.recover is not None:
                recovery = msgspec.json.decode(body, type=RecoverRequest)
                self.recoveries.append(recovery)
                return self.recover(recovery)
            case _:
                return 404, error(ErrorCode.NOT_FOUND, "no such thing")

    def enrolled(self, request: EnrollRequest | RecoverRequest, **certificate: Any) -> EnrollReply:
        request_key = load_pem_x509_csr(request.csr_pem.encode())
        assert request_key.is_signature_valid
        public_key = request_key.public_key()
        assert isinstance(public_key, Ed25519PublicKey)
        return EnrollReply(
            agent_id=AGENT,
            client_cert_pem=self.fleet.client_certificate(public_key, **certificate),
            ca_bundle_pem=self.fleet.bundle_pem,
            trust=self.fleet.trust(),
            policy=AgentPolicy(),
            websocket_url=f"wss://{self.host}:{self.port}/ws/agents",
            next_heartbeat_sec=30,
        )


def error(code: ErrorCode, message: str, **more: Any) -> ErrorReply:
    return ErrorReply(error=ErrorBody(code=code, message=message, **more))


class _Handler(BaseHTTPRequestHandler):
    """Answers as the server's door says."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.door.received.append(f"{self.requestline}\n{self.headers}".encode() + body)
        status, value = self.server.door.reply(self.command, self.path, body)
        encoded = value if isinstance(value, bytes) else msgspec.json.encode(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST = _serve  # noqa: N815  the names are http.server's

    def log_message(self, *_: object) -> None:
        """Say nothing: pytest shows what matters."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, door: Door) -> None:
        super().__init__((door.host, door.port), _Handler)
        self.door = door

    def handle_error(self, *_: object) -> None:
        """A client that does not trust this server hangs up; that is what the tests want."""


@contextmanager
def listening(
    door: Door,
    folder: Path,
    certified_by: Fleet | None = None,
    name: str = "127.0.0.1",
    only_clients_of: Fleet | None = None,
    newest_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    verify_mode: ssl.VerifyMode = ssl.CERT_REQUIRED,
) -> Iterator[Door]:
    """Serve `door` with a certificate for `name` until the block ends. Its TLS sends alerts; asyncio's does not."""

    folder.mkdir(exist_ok=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest_tls
    context.load_cert_chain(*(certified_by or door.fleet).server_files(folder, name))
    if only_clients_of is not None:
        context.load_verify_locations(cadata=only_clients_of.root.pem)
        context.verify_mode = verify_mode
    server = _Server(door)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    door.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield door
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()
