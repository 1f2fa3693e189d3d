"""What a client shows the hub to be let in."""

from __future__ import annotations

import time
from typing import Final, Protocol

from msgspec import Struct

from hub_server.operator.errors import NotSignedIn

API_KEY_PREFIX: Final = "jtntk_"


class Token(Struct, frozen=True):
    """An access token, or an API key. `expires_at`: seconds since the epoch; None: it is not known."""

    text: str
    expires_at: float | None = None

    def lasts(self, seconds: float) -> bool:
        return self.expires_at is None or self.expires_at - time.time() > seconds

    @property
    def is_api_key(self) -> bool:
        return self.text.startswith(API_KEY_PREFIX)

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at!r})"


class TokenSource(Protocol):
    async def token(self) -> Token:
        """Return one that is good as far as is known. Raises NotSignedIn, or NotConnected."""

    async def renewed(self, spent: Token, /) -> Token:
        """Return one in place of `spent`, which the hub takes no more or soon will not. Raises as `token` does."""


class FixedToken:
    """One token for as long as it lasts: an API key of a script."""

    def __init__(self, text: str) -> None:
        self._token = Token(text)

    async def token(self) -> Token:
        return self._token

    async def renewed(self, _spent: Token, /) -> Token:
        raise NotSignedIn("the hub does not take this token; it was revoked, has ended, or is of another hub")
