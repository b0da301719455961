"""How a value is kept: inside its event, or, where it is large, in a content-addressed file beside the store."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

INLINE_LIMIT = 64 * 1024
"""Bytes of JSON above which a value is kept in a file of its own."""
OUTPUT_LIMIT = 10 * 1024 * 1024
"""Bytes of JSON above which a value is refused: write a file instead."""
PREVIEW_LENGTH = 2_000
"""Characters of a large value's JSON that are kept beside its reference."""


Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""A hash in hex digits."""
Suffix = Annotated[str, msgspec.Meta(pattern=r"^(\.[a-z0-9]{1,10})?\Z")]
"""The end of a file's name, or nothing."""


class BlobReference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Names a file beside the store by its content: a large value, or bytes that belong to a result.

    Attributes:
        sha256: Hex digest of the file's bytes.
        suffix: The end of the file's name, such as `.png`; empty for a large value.
        bytes: Size of the file.
        preview: The first 2,000 characters of a large value's JSON.
    """

    sha256: Sha256
    suffix: Suffix = ""
    bytes: int
    preview: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.sha256 + self.suffix


class Kept(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A value as events carry it: `value` itself, or `blob` where the JSON is over 64 KiB; with the `files` of it."""

    value: Any = None
    blob: BlobReference | None = None
    files: tuple[BlobReference, ...] = ()

    @property
    def references(self) -> tuple[BlobReference, ...]:
        """Every file that the value needs."""
        return self.files if self.blob is None else (self.blob, *self.files)
