"""What frames and operations are made of: moments, words, and the two bases."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

UnixMs = Annotated[int, Meta(ge=0, le=2**53)]
ByteOffset = Annotated[int, Meta(ge=0, le=2**53)]
CommandId = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z-]+$")]
Word = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=4096)]
Hash = Annotated[str, Meta(max_length=128)]


class Body(Struct, frozen=True, rename="camel", kw_only=True):
    """A value inside a frame."""


class Frame(
    Struct,
    frozen=True,
    rename="camel",
    kw_only=True,
    tag_field="type",
    omit_defaults=False,
):
    """Base of every frame; the tag travels as `type`."""
