"""How many tokens a text takes: an estimate without a tokenizer, exact where one is installed and at hand.

What an answer really took is in its usage; this is for what must be known before a model is asked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

CHARACTERS_A_TOKEN = 4
"""Characters of English text or code in one token, on the average."""
EXACT_LIMIT = 200_000
"""Characters above which a text is estimated: a tokenizer would hold the event loop for too long."""
_O200K = ("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "chatgpt", "o1", "o3", "o4", "gpt-oss")
_CL100K = ("gpt-4", "gpt-3.5")
_FILES = {
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
"""Each vocabulary's file in tiktoken's cache, and the SHA-256 of what is in it.

Where the file is missing, or holds something else, tiktoken would fetch it from the network.
"""


def count_tokens(text: str, model: str = "") -> int:
    """Return how many tokens a text takes.

    With tiktoken installed and the model's vocabulary in the folder that `TIKTOKEN_CACHE_DIR` names it is counted,
    else it is a quarter of the text's length. Nothing is ever fetched.

    Args:
        text: Any text.
        model: The model that the text goes to; without one it is estimated.
    """
    if model and len(text) <= EXACT_LIMIT and (count := _counter(model)) is not None:
        return count(text)
    return estimated_tokens(len(text))


def estimated_tokens(characters: int) -> int:
    """Return how many tokens a text of that length takes, about."""
    return -(-characters // CHARACTERS_A_TOKEN)


@lru_cache(maxsize=32)
def _counter(model: str) -> Callable[[str], int] | None:
    """Return what counts for a model, or None where its vocabulary is not known or not at hand."""
    name = model.rpartition("/")[2].lower()
    vocabulary = "o200k_base" if name.startswith(_O200K) else "cl100k_base" if name.startswith(_CL100K) else ""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", "")
    if not vocabulary or not folder or not _is_at_hand(Path(folder), vocabulary):
        return None
    try:
        import tiktoken

        encoding: Any = tiktoken.get_encoding(vocabulary)
    except Exception:  # noqa: BLE001 - whatever ails a tokenizer that is not ours: an estimate does
        return None
    return lambda text: len(encoding.encode_ordinary(text))


def _is_at_hand(folder: Path, vocabulary: str) -> bool:
    name, digest = _FILES[vocabulary]
    try:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    except OSError:
        return False
