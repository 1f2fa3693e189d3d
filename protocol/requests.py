"""What every operation's request and reply have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from protocol.elements import Word
from protocol.enrollment import ErrorBody
from protocol.enumerations import AgentStatus

Limit = Annotated[int, Meta(ge=1, le=1000)]
Offset = Annotated[int, Meta(ge=0, le=2**53)]
Label = Annotated[str, Meta(max_length=128)]
Ids = Annotated[list[Word], Meta(max_length=1000)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=64)]
Percent = Annotated[float, Meta(ge=0, le=100)]


class Request(Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """A mistyped field is refused, never ignored."""


class Reply(Struct, frozen=True, rename="camel", kw_only=True):
    ok: Literal[True] = True


class Refusal(Struct, frozen=True, rename="camel", kw_only=True):
    error: ErrorBody
    ok: Literal[False] = False


class AgentFilter(Request, frozen=True):
    """Every given condition must hold. `text` is found in name, host name, site, tags or address, in any case; `ids`:
    none but these.
    """

    text: Label = ""
    status: list[AgentStatus] = field(default_factory=list)
    tags: list[Label] = field(default_factory=list)
    site: Label | None = None
    ids: Ids | None = None
