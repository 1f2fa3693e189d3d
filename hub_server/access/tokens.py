"""The secrets people and scripts show: a signed access token that lives for minutes, an opaque refresh token for days,
an API key for months.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from msgspec import Struct, ValidationError, convert

from hub_server.clock import Clock
from hub_server.errors import Unauthenticated
from protocol.enumerations import Role

ALGORITHM: Final = "Ed25519"  # RFC 9864 names the curve where "EdDSA" left it open
ISSUER: Final = "jtnt-hub"
AUDIENCE: Final = "jtnt-people"
MAX_CHARS: Final = 4096
API_KEY_PREFIX: Final = "jtntk_"
_REFRESH_PREFIX: Final = "jtntr_"


class Claims(Struct, frozen=True):
    """What an access token says. `sub`: user, `org`: organisation, `sid`: the family of refresh tokens it came with."""

    iss: str
    aud: str
    sub: str
    org: str
    role: Role
    sid: str
    exp: int
    iat: int


class AccessTokens:
    def __init__(self, key: Ed25519PrivateKey, clock: Clock, lifetime_seconds: int) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._key = OKPKey.import_key(pem)
        self._clock = clock
        self.lifetime_seconds: Final = lifetime_seconds
        self._registry = jwt.JWTClaimsRegistry(
            now=lambda: int(clock.now().timestamp()),
            leeway=0,
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": AUDIENCE},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )

    def issue(self, *, user_id: str, organisation_id: str, role: Role, session_id: str) -> str:
        now = int(self._clock.now().timestamp())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "org": organisation_id,
            "role": role.value,
            "sid": session_id,
            "iat": now,
            "exp": now + self.lifetime_seconds,
        }
        return jwt.encode({"alg": ALGORITHM}, claims, self._key, algorithms=[ALGORITHM])

    def read(self, text: str) -> Claims:
        """Raises Unauthenticated unless `text` is an access token of this hub that has not expired."""
        if len(text) > MAX_CHARS:
            raise _refused()
        try:
            token = jwt.decode(text, self._key, algorithms=[ALGORITHM])
            self._registry.validate(token.claims)
            return convert(token.claims, Claims)
        except (JoseError, ValidationError, ValueError, TypeError) as error:
            raise _refused() from error


class RefreshToken(Struct, frozen=True):
    """`jtntr_<id>.<secret>`; the database holds the secret's hash."""

    id: str
    secret: str

    @classmethod
    def generate(cls) -> RefreshToken:
        return cls(secrets.token_hex(16), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> RefreshToken:
        """Raises Unauthenticated for a text that is none."""
        parts = _parts_of(text, _REFRESH_PREFIX)
        if parts is None:
            raise signed_out()
        return cls(*parts)

    @property
    def text(self) -> str:
        return f"{_REFRESH_PREFIX}{self.id}.{self.secret}"

    @property
    def secret_sha256(self) -> bytes:
        return hashlib.sha256(self.secret.encode()).digest()

    def __repr__(self) -> str:
        return f"RefreshToken(id={self.id!r})"


class ApiKey(Struct, frozen=True):
    """`jtntk_<id>.<secret>`; the database holds the secret's hash."""

    id: str
    secret: str

    @classmethod
    def generate(cls) -> ApiKey:
        return cls(secrets.token_hex(8), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> ApiKey:
        """Raises Unauthenticated for a text that is none."""
        parts = _parts_of(text, API_KEY_PREFIX)
        if parts is None:
            raise key_refused()
        return cls(*parts)

    @property
    def text(self) -> str:
        return f"{API_KEY_PREFIX}{self.id}.{self.secret}"

    @property
    def secret_sha256(self) -> bytes:
        return hashlib.sha256(self.secret.encode()).digest()

    def __repr__(self) -> str:
        return f"ApiKey(id={self.id!r})"


def _parts_of(text: str, prefix: str) -> tuple[str, str] | None:
    """Return id and secret of `<prefix><id>.<secret>`, None for any other text."""
    identifier, _, secret = text.removeprefix(prefix).partition(".")
    if not text.startswith(prefix) or not text.isascii() or not text.isprintable():
        return None
    return (identifier, secret) if 0 < len(identifier) <= 64 and 0 < len(secret) <= 128 else None


def expiry_of(claims: Claims, now: datetime) -> datetime:
    """Return when the token of `claims` ends."""
    return datetime.fromtimestamp(0, now.tzinfo) + timedelta(seconds=claims.exp)


def signed_out() -> Unauthenticated:
    return Unauthenticated("you are signed out; sign in again")


def key_refused() -> Unauthenticated:
    return Unauthenticated("the API key is not valid, has expired or was revoked; make another")


def _refused() -> Unauthenticated:
    return Unauthenticated("the access token is not valid or has expired; refresh it or sign in again")
