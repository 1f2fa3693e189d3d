"""The hubs a person has signed in to, in a file of their own, and the sign-in that lives there.

`hubs.json` holds secrets: it is for its user alone, and written whole. Several programs may use one sign-in: its
refresh token is good once, so whoever renews it holds the folder's lock.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field, structs

from hub_server.errors import KeysRefused
from hub_server.operator.address import Anchors, HubAddress
from hub_server.operator.doors import SignedIn, SignInDoor
from hub_server.operator.errors import KeyUnusable, NotSignedIn
from hub_server.operator.tokens import Token
from hub_server.storage.private_files import exclusive, read_private, write_private

FILE_NAME: Final = "hubs.json"
KEY_NAME: Final = "operator.key"
FOLDER_NAME: Final = "jtnt"
GOOD_FOR_SECONDS: Final = 30.0
"""A token that ends sooner is renewed before it is used."""


class SavedHub(Struct, frozen=True, kw_only=True):
    """`refresh_cookie`: empty when signed out. `access_expires_at`: seconds since the epoch."""

    url: str
    username: str = ""
    refresh_cookie: str = ""
    access_token: str = ""
    access_expires_at: float = 0.0
    ca_pem: str | None = None
    pinned_pem: str | None = None

    @property
    def anchors(self) -> Anchors:
        return Anchors(ca_pem=self.ca_pem, pinned_pem=self.pinned_pem)

    def __repr__(self) -> str:
        return f"SavedHub(url={self.url!r}, username={self.username!r})"


class Book(Struct, frozen=True, kw_only=True):
    """`current`: the URL that is meant when none is named."""

    current: str = ""
    hubs: dict[str, SavedHub] = field(default_factory=dict)


def config_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where a person's own settings of this product are."""
    if sys.platform == "win32":
        return Path(environment.get("APPDATA") or Path.home() / "AppData" / "Roaming") / FOLDER_NAME
    return Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / FOLDER_NAME


class HubBook:
    """Raises KeyUnusable from every method when the file is damaged, open to others, or cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / FILE_NAME

    def read(self) -> Book:
        try:
            return msgspec.json.decode(read_private(self._path), type=Book)
        except FileNotFoundError:
            return Book()
        except (KeysRefused, OSError) as error:
            raise KeyUnusable(str(error)) from error
        except msgspec.MsgspecError as error:
            raise KeyUnusable(f"{self._path} is damaged ({error}); remove it and run `jtnt login` again") from error

    def find(self, url: str) -> SavedHub | None:
        return self.read().hubs.get(url)

    def save(self, hub: SavedHub, *, is_current: bool) -> None:
        """Remember `hub` in place of what was known of its URL."""
        with self._held():
            self._put(hub, is_current=is_current)

    def renew(self, url: str, spent: Token, door: SignInDoor) -> Token:
        """Return a token in place of `spent`: another program's when it has renewed it meanwhile. Blocking.

        Raises NotSignedIn when the sign-in has ended, and what `door.refresh` raises.
        """
        with self._held():
            hub = self.find(url)
            if hub is None or not hub.refresh_cookie:
                raise _signed_out(url)
            present = token_of(hub)
            if present.text != spent.text and present.lasts(GOOD_FOR_SECONDS):
                return present
            renewed = with_sign_in(hub, door.refresh(hub.refresh_cookie))
            self._put(renewed, is_current=False)
            return token_of(renewed)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep other programs out until the block ends."""
        try:
            with exclusive(self.folder):
                yield
        except OSError as error:
            raise KeyUnusable(f"{self.folder} cannot be used: {error}") from error

    def _put(self, hub: SavedHub, *, is_current: bool) -> None:
        book = self.read()
        book = structs.replace(book, current=hub.url if is_current else book.current, hubs={**book.hubs, hub.url: hub})
        write_private(self._path, msgspec.json.format(msgspec.json.encode(book)))


class SavedSignIn:
    """Tokens of a sign-in that is saved."""

    def __init__(self, book: HubBook, hub: SavedHub) -> None:
        self._book = book
        self._url = hub.url
        self._door = SignInDoor(HubAddress.parse(hub.url), hub.anchors)

    async def token(self) -> Token:
        hub = await asyncio.to_thread(self._book.find, self._url)
        if hub is None or not hub.refresh_cookie:
            raise _signed_out(self._url)
        token = token_of(hub)
        return token if token.lasts(GOOD_FOR_SECONDS) else await self.renewed(token)

    async def renewed(self, spent: Token, /) -> Token:
        return await asyncio.to_thread(self._book.renew, self._url, spent, self._door)


def with_sign_in(hub: SavedHub, signed_in: SignedIn) -> SavedHub:
    return structs.replace(
        hub,
        refresh_cookie=signed_in.refresh_cookie,
        access_token=signed_in.access_token,
        access_expires_at=time.time() + signed_in.expires_in_seconds,
    )


def without_sign_in(hub: SavedHub) -> SavedHub:
    return structs.replace(hub, refresh_cookie="", access_token="", access_expires_at=0.0)


def token_of(hub: SavedHub) -> Token:
    return Token(hub.access_token, hub.access_expires_at)


def _signed_out(url: str) -> NotSignedIn:
    return NotSignedIn(f"you are not signed in to {url}: run `jtnt login {url}`")
