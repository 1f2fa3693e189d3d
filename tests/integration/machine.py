"""A raw agent: a real certificate by real enrollment, and a WebSocket that sends whatever it is told."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol.codec import decode_hub_frame, encode_text
from protocol.elements import Frame
from protocol.enumerations import Lane
from protocol.frames import Heartbeat, Hello, HubFrame, Metrics, Sample, StateHashes, StreamState, StreamStates, Welcome
from protocol.identity import AgentIdentity
from protocol.limits import SUBPROTOCOL
from tests.integration.hub import RunningHub
from tests.integration.inbox import DEADLINE_SECONDS, Inbox

BOOT_ID: Final = "boot-of-tests"
VERSION: Final = "9.9.9"
F = TypeVar("F", bound=Frame)
_addresses = itertools.count(2)


def own_address() -> str:
    """Return a loopback address that nobody used yet: limits by address are then a test's own."""
    number = next(_addresses)
    return f"127.1.{number // 250}.{number % 250 + 1}"


class Key:
    """A key pair of an agent."""

    def __init__(self, pem: bytes | None = None) -> None:
        loaded = load_pem_private_key(pem, None) if pem else Ed25519PrivateKey.generate()
        assert isinstance(loaded, Ed25519PrivateKey)
        self.private = loaded

    @property
    def pem(self) -> bytes:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def csr_pem(self) -> str:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.private, None)
        return request.public_bytes(Encoding.PEM).decode()


def enroll_body(token: str, csr_pem: str, hostname: str = "raw-agent") -> dict[str, Any]:
    return {
        "token": token,
        "csr_pem": csr_pem,
        "agent_version": VERSION,
        "boot_id": BOOT_ID,
        "sysinfo": {"hostname": hostname, "os": "linux", "cpu_count": 2, "ip_addresses": ["192.0.2.7"]},
    }


@dataclass(frozen=True, slots=True)
class Identity:
    """An enrolled agent: who it is, and the files of its certificate and key."""

    agent_id: str
    hostname: str
    certificate: Path
    key: Path
    root_pem: str

    def name(self) -> AgentIdentity:
        """Return what the certificate says."""
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        return AgentIdentity.parse(uri)

    def tls(self) -> ssl.SSLContext:
        return tls_with(self.root_pem, self.certificate, self.key)


def tls_with(root_pem: str, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Return a client context; without a certificate it shows none."""
    context = ssl.create_default_context(cadata=root_pem)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


async def enroll(hub: RunningHub, folder: Path, hostname: str = "raw-agent", token: str | None = None) -> Identity:
    """Join the hub as a new machine called `hostname`."""
    key = Key()
    body = enroll_body(token or await hub.mint(), key.csr_pem(), hostname)
    async with hub.machine(own_address()) as session, session.post("/api/v1/agent/enroll", json=body) as answer:
        reply = await answer.json()
        assert answer.status == 200, reply
    home = folder / reply["agent_id"]
    home.mkdir()
    (home / "client.crt").write_text(reply["client_cert_pem"])
    (home / "client.key").write_bytes(key.pem)
    return Identity(reply["agent_id"], hostname, home / "client.crt", home / "client.key", reply["ca_bundle_pem"])


class Door(Protocol):
    """Where agents connect."""

    @property
    def socket_url(self) -> str: ...


class AgentSocket:
    """One connection. Everything the hub says is kept in `inbox` until a test takes it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.inbox: Inbox[HubFrame] = Inbox("frames of the hub")

    async def read(self) -> None:
        """Collect frames until the connection ends."""
        with suppress(ConnectionClosed):
            async for message in self.connection:
                self.inbox.put(decode_hub_frame(message))

    async def send(self, frame: Frame | str | bytes) -> None:
        """Send a frame, or any text, or any bytes as a binary frame."""
        await self.connection.send(encode_text(frame) if isinstance(frame, Frame) else frame)

    async def take(
        self,
        kind: type[F],
        match: Callable[[F], bool] = lambda _: True,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> F:
        """Return the oldest frame of this kind that matches."""
        found = await self.inbox.take(
            lambda frame: isinstance(frame, kind) and match(frame), deadline_seconds=deadline_seconds
        )
        assert isinstance(found, kind)
        return found

    async def greet(self, **changes: Any) -> Welcome:
        await self.send(hello(**changes))
        return await self.take(Welcome)

    async def ended(self, deadline_seconds: float = DEADLINE_SECONDS) -> tuple[int, str]:
        """Return the close code and reason that the hub gave; 1006 when it just went away."""
        async with asyncio.timeout(deadline_seconds):
            await self.connection.wait_closed()
        return self.connection.close_code or 1006, self.connection.close_reason or ""


@asynccontextmanager
async def connected(
    hub: Door,
    tls: ssl.SSLContext,
    *,
    subprotocols: Sequence[str] = (SUBPROTOCOL,),
    reads: bool = True,
    receive_buffer_bytes: int | None = None,
) -> AsyncIterator[AgentSocket]:
    """An agent's WebSocket after its upgrade, before its `hello`. `reads` False: nobody takes what the hub sends."""
    options: Mapping[str, Any] = {}
    if receive_buffer_bytes is not None:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        plain.setblocking(False)
        host, port = hub.socket_url.removeprefix("wss://").split("/")[0].split(":")
        await asyncio.get_running_loop().sock_connect(plain, (host, int(port)))
        options = {"sock": plain, "server_hostname": host}
    async with connect(
        hub.socket_url,
        ssl=tls,
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        compression=None,
        max_size=None,
        max_queue=1 if not reads else 64,
        ping_interval=None,
        open_timeout=DEADLINE_SECONDS,
        close_timeout=1,
        proxy=None,
        **options,
    ) as connection:
        agent = AgentSocket(connection)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(agent.read()) if reads else None
            try:
                yield agent
            finally:
                await connection.close()
                if reader is not None:
                    reader.cancel()


@asynccontextmanager
async def greeted(hub: RunningHub, identity: Identity, **changes: Any) -> AsyncIterator[AgentSocket]:
    """An agent that has had its welcome."""
    async with connected(hub, identity.tls()) as agent:
        await agent.greet(**changes)
        yield agent


def now_ms() -> int:
    return int(time.time() * 1000)


def hello(**changes: Any) -> Hello:
    empty = StreamState(epoch=7, oldest=1, newest=0)
    fields: dict[str, Any] = {
        "protocol": (1, 1),
        "agent_version": VERSION,
        "boot_id": BOOT_ID,
        "clock_ms": now_ms(),
        "monotonic_ms": 1000,
        "streams": StreamStates(live=empty, backfill=empty, events=empty),
        "hashes": StateHashes(),
    }
    return Hello(**{**fields, **changes})


def heartbeat(clock_ms: int | None = None) -> Heartbeat:
    return Heartbeat(clock_ms=now_ms() if clock_ms is None else clock_ms, monotonic_ms=2000)


def sample(seq: int, **values: Any) -> Sample:
    data = {"cpu_percent": 12.5, "memory_percent": 40.0, "disk_percent": 30.0, **values}
    return Sample(seq=seq, ts=now_ms(), metric_type="system", metric_data=data)


def metrics(*samples: Sample, epoch: int = 7, lane: Lane = Lane.LIVE) -> Metrics:
    return Metrics(epoch=epoch, lane=lane, samples=list(samples))
