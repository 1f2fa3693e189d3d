"""Names that identify: an agent's URI in its certificate, enrollment tokens, join strings."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN_PREFIX: Final = "jtnte"  # noqa: S105
PIN_BYTES: Final = 16
SECRET_BYTES: Final = 32

_NAME = r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}"
_URI: Final = re.compile(rf"spiffe://({_NAME})/org/({_NAME})/agent/({_NAME})")
_TOKEN: Final = re.compile(
    rf"{TOKEN_PREFIX}_([0-9A-Za-z]{{1,32}})\.([0-9A-Za-z]{{1,64}})\.([0-9A-Za-z]{{1,32}})\.([0-9A-Za-z]{{1,8}})"
)


class MalformedIdentity(ValueError):
    """A token, join string or identity URI that does not have its form. The message says what to do."""


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who an agent is: the single URI in its certificate's subject alternative names."""

    trust_domain: str
    organisation_id: str
    agent_id: str

    @property
    def uri(self) -> str:
        return f"spiffe://{self.trust_domain}/org/{self.organisation_id}/agent/{self.agent_id}"

    @classmethod
    def parse(cls, uri: str) -> AgentIdentity:
        """Raises MalformedIdentity unless `uri` has exactly the form that `uri` writes."""
        match = _URI.fullmatch(uri)
        if match is None:
            raise MalformedIdentity(f"not an agent identity: {uri[:200]!r}")
        return cls(*match.groups())


def base62(data: bytes) -> str:
    """Return `data` in base62; a leading 1 bit keeps leading zero bytes."""
    number = int.from_bytes(b"\x01" + data)
    digits = []
    while number:
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def from_base62(text: str) -> bytes:
    number = 0
    for character in text:
        digit = ALPHABET.find(character)
        if digit < 0:
            raise MalformedIdentity(f"{character!r} is no base62 digit")
        number = number * 62 + digit
    data = number.to_bytes((number.bit_length() + 7) // 8)
    if not data.startswith(b"\x01"):
        raise MalformedIdentity("not a base62 value of whole bytes")
    return data[1:]


def pin_of(public_key_der: bytes) -> bytes:
    """Return the first 128 bits of SHA-256 over a SubjectPublicKeyInfo in DER."""
    return hashlib.sha256(public_key_der).digest()[:PIN_BYTES]


@dataclass(frozen=True, slots=True)
class EnrollmentToken:
    """`jtnte_<id>.<secret>.<pin>.<crc>`: a one-time secret with the pin of the root that may hear it."""

    id: str
    secret: bytes
    pin: bytes

    @classmethod
    def generate(cls, pin: bytes) -> EnrollmentToken:
        return cls(base62(secrets.token_bytes(8)), secrets.token_bytes(SECRET_BYTES), pin)

    @classmethod
    def parse(cls, text: str) -> EnrollmentToken:
        """Raises MalformedIdentity for a text that is no token, or one that was cut or mistyped."""
        match = _TOKEN.fullmatch(text.strip())
        if match is None:
            raise MalformedIdentity(
                f"not an enrollment token: it should look like {TOKEN_PREFIX}_….….….…; copy the whole line again"
            )
        token_id, secret, pin, crc = match.groups()
        if _checksum(f"{token_id}.{secret}.{pin}") != crc:
            raise MalformedIdentity(
                "the enrollment token was cut or mistyped (its checksum is wrong); copy the whole line again"
            )
        parsed = cls(token_id, from_base62(secret), from_base62(pin))
        if len(parsed.secret) != SECRET_BYTES or len(parsed.pin) != PIN_BYTES:
            raise MalformedIdentity("the enrollment token has parts of the wrong length; ask for a new one")
        if parsed.text != text.strip():
            raise MalformedIdentity("the enrollment token is written in another way than it was made; copy it again")
        return parsed

    @property
    def text(self) -> str:
        body = f"{self.id}.{base62(self.secret)}.{base62(self.pin)}"
        return f"{TOKEN_PREFIX}_{body}.{_checksum(body)}"

    @property
    def secret_sha256(self) -> bytes:
        """What the hub stores in place of the secret."""
        return hashlib.sha256(self.secret).digest()

    def __repr__(self) -> str:
        return f"EnrollmentToken(id={self.id!r})"


def pins_match(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


@dataclass(frozen=True, slots=True)
class JoinString:
    """`jtnt://<host>:<port>/#<token>`: everything a machine needs to join, in one line to paste."""

    host: str
    port: int
    token: EnrollmentToken

    @classmethod
    def parse(cls, text: str) -> JoinString:
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError as error:
            raise MalformedIdentity("the join string's host or port is malformed; copy the whole line again") from error
        if parts.scheme != "jtnt" or not parts.hostname or port is None:
            raise MalformedIdentity(
                "not a join string: it should look like jtnt://host:port/#jtnte_…; copy the whole line again"
            )
        return cls(parts.hostname, port, EnrollmentToken.parse(parts.fragment))

    @property
    def text(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"jtnt://{host}:{self.port}/#{self.token.text}"

    @property
    def hub_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


def key_id_of(public_key: bytes) -> str:
    """Return the name of a raw public key in signatures and trust documents."""
    return base64.b32encode(hashlib.sha256(public_key).digest()[:10]).decode().lower()


def _checksum(body: str) -> str:
    return base62(zlib.crc32(body.encode()).to_bytes(4))
