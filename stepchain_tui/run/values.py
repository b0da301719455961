"""How a value is kept: inside its event, or, where it is large, in a content-addressed file beside the store."""

from __future__ import annotations

from typing import Any

import msgspec

INLINE_LIMIT = 64 * 1024
"""Bytes of JSON above which a value is kept in a file of its own."""
OUTPUT_LIMIT = 10 * 1024 * 1024
"""Bytes of JSON above which a value is refused: write a file instead."""
PREVIEW_LENGTH = 2_000
"""Characters of a large value's JSON that are kept beside its reference."""


class BlobReference(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Names a large value by its content.

    Attributes:
        sha256: Hex digest of the value's JSON bytes, and the file's name.
        bytes: Size of the JSON.
        preview: The first 2,000 characters of the JSON.
    """

    sha256: str
    bytes: int
    preview: str


class Kept(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A value as events carry it: `value` itself, or `blob` where the JSON is over 64 KiB."""

    value: Any = None
    blob: BlobReference | None = None
