"""Secrets of every kind, planted by using a hub as people and machines do, and where each of them turned up."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import pyotp
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from socketio.exceptions import ConnectionError as NotConnected
from sqlalchemy import select
from sqlmodel import SQLModel

from hub_server.signing.strongbox import Strongbox
from hub_server.storage.engine import EVERY_ORGANISATION
from hub_server.telemetry.tables import POSTGRESQL_ONLY
from protocol.frames import HeartbeatAck
from protocol.operations import OPERATIONS
from tests.integration.hub import ADMINISTRATOR, PASSWORD
from tests.integration.machine import Identity, Key, enroll_body, greeted, heartbeat, own_address
from tests.integration.person import Json, Person
from tests.integration.process_hub import ProcessHub

SIGN_IN: Final = "/api/v1/auth/sign-in"
REFRESH: Final = "/api/v1/auth/refresh"
OWN: Final = {"X-Requested-With": "jtnt"}
WITNESS: Final = "wittgenstein"
"""A user's name: no secret, so it must be found in answers, log and database, or the search is blind."""
PRIVATE_FILES: Final = ("secrets.key", "signer.key")


@dataclass(frozen=True, slots=True)
class Said:
    """Something the hub said. `where`: in answer to what."""

    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Canary:
    """A secret in every form that it might leak in. `given_in`: the answers that are there to give it."""

    kind: str
    forms: tuple[bytes, ...]
    given_in: tuple[str, ...] = ()

    def is_in(self, content: bytes) -> bool:
        return any(form in content for form in self.forms)


@dataclass(slots=True)
class Story:
    """What was planted, and all that the hub said meanwhile."""

    canaries: list[Canary] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)

    def plant(self, kind: str, secret: str | bytes, *given_in: str) -> None:
        self.canaries.append(Canary(kind, tuple(forms_of(secret)), given_in))

    def hear(self, where: str, text: str) -> None:
        self.said.append(Said(where, text))

    def told(self) -> list[str]:
        """Return every canary that an answer or event told, other than the one which is there to give it."""
        return [
            f"{canary.kind} in {said.where}"
            for said in self.said
            for canary in self.canaries
            if said.where not in canary.given_in and canary.is_in(said.text.encode(errors="replace"))
        ]

    def found_in(self, where: str, content: bytes) -> list[str]:
        return [f"{canary.kind} in {where}" for canary in self.canaries if canary.is_in(content)]


def forms_of(secret: str | bytes) -> Iterator[bytes]:
    raw = secret.encode() if isinstance(secret, str) else secret
    yield raw
    yield raw.hex().encode()
    for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
        yield encoded.rstrip(b"=")
    if isinstance(secret, str):
        yield quote(secret, safe="").encode()
        yield json.dumps(secret)[1:-1].encode()


class Watcher(Person):
    """A dashboard that tells all it hears to a story."""

    def __init__(self, story: Story, name: str) -> None:
        super().__init__()
        self._story = story
        self._name = name

    async def ask(self, operation: str, /, body: Any = None, **fields: Any) -> Json:
        reply = await super().ask(operation, body, **fields)
        self._story.hear(operation, json.dumps(reply))
        return reply

    async def _heard(self, name: str, data: Json) -> None:
        self._story.hear(f"event {name}", json.dumps(data))
        await super()._heard(name, data)

    async def _refused(self, data: Json) -> None:
        self._story.hear(f"refusal of {self._name}", json.dumps(data))
        await super()._refused(data)


class Author:
    """Lives through a story with a hub."""

    def __init__(self, hub: ProcessHub, folder: Path) -> None:
        self._hub = hub
        self._folder = folder
        self.story: Final = Story()

    async def live(self) -> Story:
        self._plant_keys()
        token = await self._signed_in("sign-in", ADMINISTRATOR, PASSWORD)
        self.story.plant("administrator's password", PASSWORD)
        async with self._dashboard("administrator", token) as person:
            await self._people(person)
            await self._machines(person)
            await self._scripts(person)
            await self._clumsy(person, token)
            await self._everything(person)
        await self._pages()
        return self.story

    # People.

    async def _people(self, person: Watcher) -> None:
        first, second, wrong = (f"canary {secrets.token_hex(9)} {number}" for number in range(3))
        for number, password in enumerate((first, second, wrong)):
            self.story.plant(f"password {number}", password)
        made = await person.do("users:create", username=WITNESS, password=first, role="operator")
        await self._rest("sign-in refused", SIGN_IN, {"username": WITNESS, "password": wrong})
        await self._signed_in("sign-in", WITNESS, first)
        await person.do("users:set-password", userId=made["user"]["id"], password=second)
        token = await self._signed_in("sign-in", WITNESS, second)
        async with self._dashboard(WITNESS, token) as witness:
            await self._second_factor(witness, second)
            third = f"canary {secrets.token_hex(9)} 3"
            self.story.plant("password 3", third)
            await witness.ask("account:set-password", current=second, new=third)

    async def _second_factor(self, witness: Watcher, password: str) -> None:
        begun = await witness.do("account:begin-totp", password=password)
        self.story.plant("seed of codes", begun["secret"], "account:begin-totp")
        self.story.plant("seed of codes, raw", base64.b32decode(begun["secret"] + "=" * (-len(begun["secret"]) % 8)))
        confirmed = await witness.do("account:confirm-totp", code=pyotp.TOTP(begun["secret"]).now())
        for number, code in enumerate(confirmed["recoveryCodes"]):
            self.story.plant(f"recovery code {number}", code, "account:confirm-totp")
        used = confirmed["recoveryCodes"][0]
        await self._signed_in("sign-in", WITNESS, password, otp=used)
        await self._rest("sign-in refused", SIGN_IN, {"username": WITNESS, "password": password, "otp": used})
        renewed = await witness.do("account:new-recovery-codes", password=password, code=confirmed["recoveryCodes"][1])
        for number, code in enumerate(renewed["recoveryCodes"]):
            self.story.plant(f"new recovery code {number}", code, "account:new-recovery-codes")

    async def _signed_in(self, where: str, username: str, password: str, **further: str) -> str:
        """Sign in, refresh twice, use a refresh token again, and sign in anew; return the last access token."""
        token, cookies = "", [""]
        for _ in range(2):
            body = {"username": username, "password": password, **further}
            async with self._hub.people() as http:
                token = await self._token(http, where, SIGN_IN, body)
                if further:
                    return token
                cookies = [next(iter(http.cookie_jar)).value]
                for _ in range(2):
                    await self._token(http, "refresh", REFRESH, None)
                    cookies.append(next(iter(http.cookie_jar)).value)
            for number, cookie in enumerate(cookies):
                self.story.plant(f"refresh token {number}", cookie.rpartition(".")[2], where, "refresh")
        await self._rest("refresh refused", REFRESH, None, {"Cookie": f"jtnt_refresh={cookies[0]}"})
        async with self._hub.people() as http:
            return await self._token(http, where, SIGN_IN, {"username": username, "password": password})

    async def _token(self, http: aiohttp.ClientSession, where: str, path: str, body: Any) -> str:
        async with http.post(path, json=body, headers=OWN) as answer:
            text = await answer.text()
            assert answer.status == 200, text
            self.story.hear(where, f"{dict(answer.headers)} {text}")
            token: str = json.loads(text)["accessToken"]
        self.story.plant("access token", token.rpartition(".")[2], "sign-in", "refresh")
        return token

    # Machines.

    async def _machines(self, person: Watcher) -> None:
        made = await person.do("tokens:create", uses=2)
        secret = made["tokenText"].split(".")[1]
        self.story.plant("enrollment token", secret, "tokens:create")
        key = Key()
        self._plant_key("agent's private key", key.private)
        altered = made["tokenText"].replace(secret, secret[::-1])
        path = "/api/v1/agent/enroll"
        await self._machine_rest("enrollment refused", path, enroll_body(altered, key.csr_pem()))
        reply = await self._machine_rest("enrollment", path, enroll_body(made["tokenText"], key.csr_pem(), "canary-1"))
        identity = self._kept(reply["agent_id"], reply["client_cert_pem"], reply["ca_bundle_pem"], key)
        async with greeted(self._hub, identity) as agent:
            await agent.send(heartbeat())
            await agent.take(HeartbeatAck)
            for frame in agent.inbox.held():
                self.story.hear("frame", str(frame))
            await agent.send(json.dumps({"type": "heartbeat", "clockMs": made["tokenText"]}))
            await agent.ended()

    def _kept(self, agent_id: str, certificate_pem: str, root_pem: str, key: Key) -> Identity:
        home = self._folder / agent_id
        home.mkdir()
        (home / "client.crt").write_text(certificate_pem)
        (home / "client.key").write_bytes(key.pem)
        return Identity(agent_id, "canary-1", home / "client.crt", home / "client.key", root_pem)

    async def _scripts(self, person: Watcher) -> None:
        made = await person.do("organisation-keys:create", name="canary")
        self.story.plant("organisation key", _secret_of(made["keyText"]), "organisation-keys:create")
        body = {"hostname": "canary-2", "osType": "linux", "agentVersion": "1", "csrPem": Key().csr_pem()}
        path = "/api/agents/register"
        for where, key in (("registration", made["keyText"]), ("registration refused", made["keyText"][:-3] + "xyz")):
            await self._machine_rest(where, path, body, {"X-API-Key": key})
        made = await person.do("api-keys:create", name="canary", role="viewer")
        self.story.plant("API key", _secret_of(made["keyText"]), "api-keys:create")
        async with self._dashboard("script", made["keyText"]) as script:
            await script.do("agents:list")
        stranger = Watcher(self.story, "script with a wrong key")
        with suppress(NotConnected):
            await stranger.connect(self._hub.web_url, {"token": made["keyText"][:-3] + "xyz"})

    # Whatever else may carry a secret by mistake.

    async def _clumsy(self, person: Watcher, token: str) -> None:
        """Secrets in the wrong place: what is refused must not be repeated."""
        slip = f"canary slip {secrets.token_hex(9)}"
        self.story.plant("password in the wrong place", slip)
        bodies: tuple[Any, ...] = (
            {"username": 5, "password": slip},
            {"password": slip},
            [slip],
            {"username": "x", "password": [slip]},
        )
        for body in bodies:
            await self._rest("sign-in malformed", SIGN_IN, body)
        await self._rest("sign-in of nobody", SIGN_IN, {"username": "nobody", "password": slip})
        for operation in ("users:create", "account:set-password", "agents:update", "tokens:create", "no:such"):
            await person.ask(operation, password=slip, username=7, role=slip, current=[slip], new=5)
        weak = {"username": "weak", "password": slip[:11], "role": "viewer"}
        self.story.plant("weak password", weak["password"])
        await person.ask("users:create", weak)
        async with self._hub.people() as http:
            headers = {"Authorization": f"Bearer {token}"}
            for path in (f"/nowhere?token={token}", f"/{quote(slip)}", f"/ws/agents/?EIO=4&transport={quote(slip)}"):
                async with http.get(path, headers=headers) as answer:
                    self.story.hear("page that is not there", f"{dict(answer.headers)} {await answer.text()}")
            async with http.post(
                SIGN_IN, data=f'{{"password": "{slip}"', headers={"Content-Type": "application/json"}
            ) as answer:
                self.story.hear("sign-in that is no JSON", await answer.text())

    async def _everything(self, person: Watcher) -> None:
        """Ask all that can be read."""
        agents = await person.do("agents:list")
        for operation in OPERATIONS:
            if operation.endswith((":list", ":get", ":search", ":query")):
                await person.ask(operation, {})
                await person.ask(operation, {"agentId": agents["agents"][0]["id"]})
        for text in ("canary", "password", WITNESS, "create"):
            await person.ask("audit:search", text=text)

    async def _pages(self) -> None:
        async with self._hub.people() as http:
            for path in ("/metrics", "/healthz", "/readyz", "/", "/nowhere"):
                async with http.get(path) as answer:
                    self.story.hear(path, f"{dict(answer.headers)} {await answer.text()}")
        async with self._hub.machine(own_address()) as http, http.get("/api/v1/agent/ca") as answer:
            self.story.hear("/api/v1/agent/ca", await answer.text())

    def _plant_keys(self) -> None:
        keyring = self._hub.authority._keyring
        for record in keyring.records:
            key = keyring._keys.get(record.id)
            if key is None:
                key = Strongbox(self._hub.folder / "signer.key")._open(record.id, record.sealed_key or b"")
            self._plant_key(f"private key {record.use}", key)
        for kind, name in (("secrets key", "secrets.key"), ("signer's key", "signer.key")):
            self.story.plant(kind, base64.b64decode((self._hub.folder / name).read_bytes().split()[-1]))

    def _plant_key(self, kind: str, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.story.plant(f"{kind}, PEM", "".join(pem.splitlines()[1:-1])[40:])
        if isinstance(key, Ed25519PrivateKey):
            self.story.plant(kind, key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
        else:
            self.story.plant(kind, key.private_numbers().private_value.to_bytes(32))

    # How it speaks.

    def _dashboard(self, name: str, token: str) -> _Connected:
        return _Connected(Watcher(self.story, name), self._hub.web_url, token)

    async def _rest(self, where: str, path: str, body: Any, headers: dict[str, str] | None = None) -> None:
        async with self._hub.people() as http, http.post(path, json=body, headers={**OWN, **(headers or {})}) as answer:
            self.story.hear(where, f"{dict(answer.headers)} {await answer.text()}")

    async def _machine_rest(self, where: str, path: str, body: Any, headers: dict[str, str] | None = None) -> Json:
        async with self._hub.machine(own_address()) as http, http.post(path, json=body, headers=headers) as answer:
            text = await answer.text()
            self.story.hear(where, f"{dict(answer.headers)} {text}")
            reply: Json = json.loads(text)
            return reply


class _Connected:
    """A watcher for the time of a block."""

    def __init__(self, watcher: Watcher, url: str, token: str) -> None:
        self._watcher = watcher
        self._url = url
        self._token = token

    async def __aenter__(self) -> Watcher:
        await self._watcher.connect(self._url, {"token": self._token})
        return self._watcher

    async def __aexit__(self, *_: object) -> None:
        await self._watcher.client.disconnect()


def _secret_of(text: str) -> str:
    """Return the secret part of a key: after its id, or all after its prefix."""
    return text.rpartition(".")[2] if "." in text else text.partition("_")[2]


def pages(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Return every file of a hub as it lies on the disk, but those that are there to keep a secret."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in PRIVATE_FILES:
            yield file.name, file.read_bytes()


async def cells(hub: ProcessHub) -> bytes:
    """Return all that a hub's database holds, value by value."""
    found: list[bytes] = []
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        for table in SQLModel.metadata.sorted_tables:
            if hub.database.is_sqlite and table.info == POSTGRESQL_ONLY:
                continue
            for row in (await connection.execute(select(table))).all():
                found += [value if isinstance(value, bytes) else str(value).encode() for value in _flat(row)]
    return b"\n".join(found)


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield bytes(value) if isinstance(value, memoryview) else value
