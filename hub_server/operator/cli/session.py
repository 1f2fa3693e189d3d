"""Which hub a command is about, and who asks."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import structs

from hub_server.operator.address import HubAddress, anchors_in
from hub_server.operator.client import Operator
from hub_server.operator.errors import NotSignedIn
from hub_server.operator.saved import HubBook, SavedHub, SavedSignIn, config_folder
from hub_server.operator.tokens import FixedToken, TokenSource

HUB_VARIABLE: Final = "JTNT_HUB"
TOKEN_VARIABLE: Final = "JTNT_TOKEN"  # noqa: S105  the name of a variable


def meant_hub(options: argparse.Namespace, book: HubBook, environment: Mapping[str, str] = os.environ) -> SavedHub:
    """Return the hub of --hub, of JTNT_HUB or of the last login, as it is remembered. Raises NotSignedIn."""
    named: str | None = options.hub or environment.get(HUB_VARIABLE)
    known = book.read()
    url = HubAddress.parse(named).url if named else known.current
    if not url:
        raise NotSignedIn("which hub? Sign in with `jtnt login URL`, or set JTNT_HUB and JTNT_TOKEN")
    hub = known.hubs.get(url) or SavedHub(url=url)
    ca: Path | None = options.ca
    return hub if ca is None else structs.replace(hub, ca_pem=anchors_in(ca).ca_pem, pinned_pem=None)


@asynccontextmanager
async def connected(options: argparse.Namespace) -> AsyncIterator[Operator]:
    """The hub that is meant, until the block ends. Raises what Operator raises when it begins."""
    book = HubBook(config_folder())
    hub = meant_hub(options, book)
    api_key = os.environ.get(TOKEN_VARIABLE)
    tokens: TokenSource = FixedToken(api_key) if api_key else SavedSignIn(book, hub)
    async with Operator(HubAddress.parse(hub.url), tokens, anchors=hub.anchors) as operator:
        yield operator
