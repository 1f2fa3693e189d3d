"""Real identities for simulated agents: pin checked, key made, token and CSR sent, certificate kept."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import Counter
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from hub_server.bench.agent import AGENT_VERSION, address_of, machine
from hub_server.bench.orders import Enroll
from protocol.enrollment import CaReply, EnrollmentSystemInformation, EnrollReply, EnrollRequest, ErrorReply
from protocol.identity import JoinString, pin_of, pins_match

ANCHORS: Final = "anchors.pem"
REQUEST_DEADLINE: Final = aiohttp.ClientTimeout(total=60)
ATTEMPTS: Final = 5
OK: Final = 200
SERVER_NAME: Final = "localhost"
PRIVATE: Final = 0o600


class NoIdentity(Exception):
    """The hub gave no certificate; the message is its own."""


def identity_file(folder: Path, number: int) -> Path:
    """Return where key and certificate chain of agent `number` are."""
    return folder / f"{number:05}.pem"


async def enroll_all(plan: Enroll) -> Counter[str]:
    """Enroll all agents of `plan` and return what went wrong, with its count."""
    join = JoinString.parse(plan.join_string)
    folder = Path(plan.folder)
    anchors = await trusted_anchors(join)
    keep_anchors(folder, anchors)
    context = client_context(anchors)
    problems: Counter[str] = Counter()
    waiting = iter(range(plan.first, plan.first + plan.count))

    async def enroll_some() -> None:
        for number in waiting:
            try:
                chain, key = await enrolled(join, context, number)
            except (NoIdentity, aiohttp.ClientError, TimeoutError) as error:
                problems[f"not enrolled: {error}"] += 1
                continue
            write_private(identity_file(folder, number), key + chain)

    async with asyncio.TaskGroup() as tasks:
        for index in range(plan.at_once):
            tasks.create_task(enroll_some(), name=f"enroll-{index}")
    return problems


async def trusted_anchors(join: JoinString) -> str:
    """Return the hub's CA bundle once its root is the one that the token names. Raises NoIdentity."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE  # what comes is checked against the pin, and nothing is said before that
    url = f"{loopback_url(join)}/api/v1/agent/ca"
    async with aiohttp.ClientSession(timeout=REQUEST_DEADLINE) as http, http.get(url, ssl=blind) as answer:
        answer.raise_for_status()
        bundle = msgspec.json.decode(await answer.read(), type=CaReply).ca_bundle_pem
    root = x509.load_pem_x509_certificates(bundle.encode())[0]
    public_key = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if not pins_match(pin_of(public_key), join.token.pin):
        raise NoIdentity("the hub's root is not the one that the token names")
    return root.public_bytes(Encoding.PEM).decode()


async def enrolled(join: JoinString, context: ssl.SSLContext, number: int) -> tuple[bytes, bytes]:
    """Return certificate chain and key of agent `number`, both PEM. Raises NoIdentity, ClientError, TimeoutError."""
    key = Ed25519PrivateKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    described = machine(number)
    body = EnrollRequest(
        token=join.token.text,
        csr_pem=request.public_bytes(Encoding.PEM).decode(),
        agent_version=AGENT_VERSION,
        boot_id=f"simulated-{number}",
        sysinfo=EnrollmentSystemInformation(
            hostname=described.hostname,
            os=described.os,
            os_version=described.os_version,
            arch=described.arch,
            cpu_count=described.cpu_count,
            memory_total_bytes=described.memory_total_bytes,
            ip_addresses=described.ip_addresses,
        ),
    )
    reply = await posted(f"{loopback_url(join)}/api/v1/agent/enroll", context, msgspec.json.encode(body), number)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return reply.client_cert_pem.encode(), private


async def posted(url: str, context: ssl.SSLContext, body: bytes, number: int) -> EnrollReply:
    """Return the hub's answer; a busy hub is asked again after the time it names."""
    said = ""
    connector = aiohttp.TCPConnector(local_addr=(address_of(number), 0), ssl=context)
    async with aiohttp.ClientSession(connector=connector, timeout=REQUEST_DEADLINE) as http:
        for _ in range(ATTEMPTS):
            headers = {"Content-Type": "application/json"}
            async with http.post(url, data=body, headers=headers, server_hostname=SERVER_NAME) as answer:
                raw = await answer.read()
                if answer.status == OK:
                    return msgspec.json.decode(raw, type=EnrollReply)
            error = msgspec.json.decode(raw, type=ErrorReply).error
            said = f"{error.code}: {error.message}"
            if error.retry_after_sec is None:
                break
            await asyncio.sleep(error.retry_after_sec)
    raise NoIdentity(said)


def client_context(anchors: str) -> ssl.SSLContext:
    """Return a TLS 1.3 context that trusts this hub's root alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=anchors)
    return context


def identity_context(folder: Path, anchors: str, number: int) -> ssl.SSLContext:
    """Return the context of agent `number`, with its certificate."""
    context = client_context(anchors)
    context.load_cert_chain(identity_file(folder, number))
    return context


def keep_anchors(folder: Path, anchors: str) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / ANCHORS).write_text(anchors)


def write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "wb") as file:
        file.write(content)


def loopback_url(join: JoinString) -> str:
    """Return the hub's address as the numbers that all loopback sources can reach."""
    return f"https://127.0.0.1:{join.port}"
