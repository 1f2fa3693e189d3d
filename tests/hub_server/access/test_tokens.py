"""Access tokens without a database: what a JWT must say, and what is refused."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from hub_server.access.tokens import ALGORITHM, AUDIENCE, ISSUER, AccessTokens
from hub_server.errors import Unauthenticated
from protocol.enumerations import Role
from tests.clocks import FakeClock

KEY = Ed25519PrivateKey.generate()
CLOCK = FakeClock()
NOW = int(CLOCK.now().timestamp())
GOOD: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "u",
    "org": "o",
    "role": "viewer",
    "sid": "s",
    "iat": NOW,
    "exp": NOW + 600,
}


def signed(claims: dict[str, Any]) -> str:
    key = OKPKey.import_key(
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": _base64url(KEY.public_key().public_bytes_raw()),
            "d": _base64url(KEY.private_bytes_raw()),
        }
    )
    return jwt.encode({"alg": ALGORITHM}, claims, key, algorithms=[ALGORITHM])


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def tokens() -> AccessTokens:
    return AccessTokens(KEY, CLOCK, 600)


def test_what_was_issued_is_read(tokens: AccessTokens) -> None:
    text = tokens.issue(user_id="u", organisation_id="o", role=Role.VIEWER, session_id="s")
    claims = tokens.read(text)
    assert (claims.sub, claims.org, claims.role, claims.sid, claims.exp) == ("u", "o", Role.VIEWER, "s", NOW + 600)
    assert claims == tokens.read(signed(GOOD))


@pytest.mark.parametrize("missing", GOOD)
def test_every_claim_is_required(tokens: AccessTokens, missing: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(signed({name: value for name, value in GOOD.items() if name != missing}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "another"},
        {"aud": "another"},
        {"aud": []},
        {"role": "god"},
        {"exp": NOW},
        {"exp": "soon"},
        {"exp": 1e400},
        {"iat": NOW + 60},
        {"sub": 5},
        {"org": None},
    ],
    ids=str,
)
def test_a_wrong_claim_is_refused(tokens: AccessTokens, wrong: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(signed(GOOD | wrong))


def test_the_algorithm_is_fixed(tokens: AccessTokens) -> None:
    public = KEY.public_key().public_bytes_raw()
    confused = jwt.encode({"alg": "HS256"}, GOOD, OctKey.import_key(public), algorithms=["HS256"])
    body = signed(GOOD).split(".")[1]
    unsigned = f"{_base64url(json.dumps({'alg': 'none'}).encode())}.{body}."
    for text in (confused, unsigned, unsigned + signed(GOOD).split(".")[2]):
        with pytest.raises(Unauthenticated):
            tokens.read(text)


@pytest.mark.parametrize("text", ["", "a.b.c", "....", "é", "\0", "x" * 5000, "eyJhbGciOiJFZDI1NTE5In0.e30."])
def test_what_is_no_token_is_refused(tokens: AccessTokens, text: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(text)
