"""A simulated agent that lives through its certificates: renews in time, changes over, and verifies every job."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub_server.bench.agent import AGENT_VERSION, now_ms
from hub_server.bench.identities import identity_file, write_private
from hub_server.bench.websocket import ClientSocket
from protocol.codec import decode_hub_frame, encode
from protocol.desired import CertificateTerms
from protocol.enumerations import CommandOutcome, CommandReason, DesiredName, JobState
from protocol.envelope import SignedTrust
from protocol.frames import (
    AgentFrame,
    CertificateReply,
    CertificateRequest,
    Command,
    CommandAccepted,
    CommandResult,
    CommandResultAck,
    CommandStarted,
    Desired,
    DesiredApplied,
    Error,
    Heartbeat,
    Hello,
    HubFrame,
    JobProgress,
    Refuse,
    StreamState,
    StreamStates,
    Welcome,
)
from protocol.identity import AgentIdentity
from protocol.limits import PROTOCOL_VERSION
from scripts.load.trust import Distrusted, Trust

RENEW_AT: Final = 2 / 3
SPREAD: Final = 0.1
ANSWER_SECONDS: Final = 15.0
WELCOME_SECONDS: Final = 15.0
ASK_AGAIN_SECONDS: Final = 2.0
HEARTBEAT_SECONDS: Final = 5.0


class AskedTooOften(Exception):
    """The hub wants to be asked later."""


class Seen:
    """What a fleet of renewing agents went through."""

    def __init__(self) -> None:
        self.renewals = 0
        self.handovers = 0
        self.jobs_accepted = 0
        self.signers: set[str] = set()
        self.asked_again: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()


class Line:
    """One connection of an agent."""

    def __init__(self, agent: RenewingAgent) -> None:
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.socket: ClientSocket | None = None
        self.is_leaving = False
        self._agent = agent

    def opened(self, socket: ClientSocket) -> None:
        self.socket = socket
        self.send(self._agent.hello())

    def received(self, text: bytes) -> None:
        self._agent.heard(self, decode_hub_frame(text))

    def closed(self, code: int, reason: str) -> None:
        self.socket = None
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError(f"closed {code}: {reason}"))
        if not self.is_leaving:
            self._agent.lost(self, f"closed {code}: {reason}")

    def send(self, frame: AgentFrame) -> None:
        if self.socket is not None:
            self.socket.send(encode(frame))

    def leave(self) -> None:
        self.is_leaving = True
        if self.socket is not None:
            self.socket.close()


Dial = Callable[[Line, int], Awaitable[ClientSocket]]
"""Opens a connection with the certificate that agent `number` has in its file now."""


class RenewingAgent:
    """`run` ends by cancellation. A connection that the agent did not leave itself is a problem, and is made anew."""

    def __init__(self, number: int, *, folder: Path, root_pem: str, dial: Dial, seen: Seen) -> None:
        self.number = number
        self._file = identity_file(folder, number)
        self._dial = dial
        self._seen = seen
        self._trust = Trust(root_pem)
        self._line: Line | None = None
        self._answer: asyncio.Future[CertificateReply] | None = None
        self._terms: CertificateTerms | None = None
        self._journal: dict[str, CommandResult] = {}
        self._renew_at = 0.0
        self._wake = asyncio.Event()
        self._read_certificate()

    @property
    def is_connected(self) -> bool:
        return self._line is not None and self._line.socket is not None

    @property
    def issuer(self) -> str:
        """Return the SHA-256 of the CA that issued the certificate in use."""
        return self._issuer

    @property
    def trust_version(self) -> int:
        return self._trust.version

    async def connect(self) -> None:
        """Open the first session. Raises OSError, TimeoutError."""
        self._line = await self._greeted()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            while True:
                self._wake.clear()
                try:
                    async with asyncio.timeout(max(0.0, self._renew_at - time.monotonic())):
                        await self._wake.wait()
                except TimeoutError:
                    await self._renew()
                if not self.is_connected:
                    await self._come_back()

    def leave(self) -> None:
        """End the session that is left."""
        if self._line is not None:
            self._line.leave()

    def hello(self) -> Hello:
        empty = StreamState(epoch=1, oldest=1, newest=0)
        return Hello(
            protocol=(PROTOCOL_VERSION, PROTOCOL_VERSION),
            agent_version=AGENT_VERSION,
            boot_id=f"simulated-{self.number}",
            clock_ms=now_ms(),
            monotonic_ms=int(time.monotonic() * 1000),
            streams=StreamStates(live=empty, backfill=empty, events=empty),
            capabilities=["exec"],
            jobs=[JobProgress(command_id=command_id, state=JobState.FINISHED) for command_id in self._journal],
        )

    def heard(self, line: Line, frame: HubFrame) -> None:
        match frame:
            case Welcome():
                for result in self._journal.values():
                    line.send(result)
                if not line.welcomed.done():
                    line.welcomed.set_result(None)
            case Desired():
                self._desired(frame)
                line.send(DesiredApplied(name=frame.name, hash=frame.hash))
            case Command():
                self._obey(line, frame)
            case CommandResultAck():
                self._journal.pop(frame.command_id, None)
            case CertificateReply():
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(frame)
            case Error() if frame.code == "rate_limited":
                if self._answer is not None and not self._answer.done():
                    self._answer.set_exception(AskedTooOften(frame.message))
            case Refuse() | Error():
                self._seen.problems[f"{frame.code}: {frame.message}"] += 1
            case _:
                pass

    def lost(self, line: Line, why: str) -> None:
        self._seen.problems[f"session lost: {why}"] += 1
        if line is self._line:
            self._wake.set()

    def _desired(self, frame: Desired) -> None:
        match frame.name:
            case DesiredName.TRUST:
                try:
                    self._trust.take(msgspec.convert(frame.body, SignedTrust))
                except Distrusted as wrong:
                    self._seen.problems[str(wrong)] += 1
            case DesiredName.CERTIFICATE:
                self._terms = msgspec.convert(frame.body, CertificateTerms)
                self._plan()
            case _:
                pass

    def _plan(self) -> None:
        """Renew at two thirds of the certificate's life, earlier when another authority shall issue it."""
        start, end = self._life
        due = start + (end - start) * RENEW_AT * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311  no secret
        if self._terms is not None and self._terms.issuer_sha256 != self._issuer:
            due = min(due, time.time() + random.uniform(0, self._terms.over_sec))  # noqa: S311
        self._renew_at = time.monotonic() + due - time.time()
        self._wake.set()

    async def _renew(self) -> None:
        """Make before break: a new key, its certificate, a second session on it, and only then the end of the first."""
        older, key = self._line, Ed25519PrivateKey.generate()
        if older is None or not self.is_connected:
            return
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
        csr_pem = request.public_bytes(Encoding.PEM).decode()
        self._answer = asyncio.get_running_loop().create_future()
        try:
            older.send(CertificateRequest(request_id=f"renew-{now_ms()}", csr_pem=csr_pem))
            async with asyncio.timeout(ANSWER_SECONDS):
                reply = await self._answer
        except (AskedTooOften, TimeoutError) as later:
            self._seen.asked_again[type(later).__name__] += 1
            self._renew_at = time.monotonic() + ASK_AGAIN_SECONDS
            return
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        await asyncio.to_thread(write_private, self._file, private + reply.certificate_pem.encode())
        self._seen.renewals += 1
        try:
            self._line = await self._greeted()
        except (OSError, TimeoutError) as error:
            self._seen.problems[f"no second session: {type(error).__name__}: {error}"] += 1
            self._renew_at = time.monotonic() + ASK_AGAIN_SECONDS
            return
        self._read_certificate()
        self._plan()
        self._heartbeat()
        older.leave()
        self._seen.handovers += 1

    async def _come_back(self) -> None:
        try:
            self._line = await self._greeted()
        except (OSError, TimeoutError) as error:
            self._seen.problems[f"not back: {type(error).__name__}: {error}"] += 1
            await asyncio.sleep(ASK_AGAIN_SECONDS)
            self._wake.set()

    async def _greeted(self) -> Line:
        line = Line(self)
        async with asyncio.timeout(WELCOME_SECONDS):
            await self._dial(line, self.number)
            await line.welcomed
        return line

    def _read_certificate(self) -> None:
        leaf, issuer = x509.load_pem_x509_certificates(self._file.read_bytes())[:2]
        self.agent_id = agent_id_of(leaf)
        self._issuer = hashlib.sha256(issuer.public_bytes(Encoding.DER)).hexdigest()
        self._life = (time.time(), leaf.not_valid_after_utc.timestamp())
        self._plan()

    async def _beat(self) -> None:
        await asyncio.sleep(random.uniform(0, HEARTBEAT_SECONDS))  # noqa: S311
        while True:
            self._heartbeat()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _heartbeat(self) -> None:
        if self._line is not None:
            self._line.send(Heartbeat(clock_ms=now_ms(), monotonic_ms=int(time.monotonic() * 1000)))

    def _obey(self, line: Line, command: Command) -> None:
        """Say what a real agent says of a command that prints nothing; nothing is run. Its end is said until heard."""
        command_id, ts = command.command_id, now_ms()
        if command_id not in self._journal:
            self._journal[command_id] = self._result(command, ts)
        if self._journal[command_id].status is CommandOutcome.COMPLETED:
            line.send(CommandAccepted(command_id=command_id, ts=ts))
            line.send(CommandStarted(command_id=command_id, ts=ts))
        line.send(self._journal[command_id])

    def _result(self, command: Command, ts: int) -> CommandResult:
        try:
            self._trust.check(command, self.agent_id, ts)
        except Distrusted as wrong:
            self._seen.problems[str(wrong)] += 1
            reason = CommandReason.DENIED_BY_AGENT
            return CommandResult(command_id=command.command_id, status=CommandOutcome.FAILED, reason=reason)
        self._seen.jobs_accepted += 1
        self._seen.signers.update(signature.key_id for signature in command.signatures)
        return CommandResult(
            command_id=command.command_id, status=CommandOutcome.COMPLETED, exit_code=0, started_at=ts, finished_at=ts
        )


def agent_id_in(file: Path) -> str:
    """Return whose certificate a file of `hub_server.bench.identities` holds."""
    return agent_id_of(x509.load_pem_x509_certificates(file.read_bytes())[0])


def agent_id_of(leaf: x509.Certificate) -> str:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return AgentIdentity.parse(uri).agent_id
