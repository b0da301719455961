"""Whatever is kept, cached, deleted, cleared and swept, in any order: what is referred to is there, nothing else."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from stepchain_tui.run.values import BlobReference, Kept
from stepchain_tui.store import Batch, JSONLStore, SQLiteStore
from tests.unit.test_store_files import cached, make_old, make_run, make_store, path_of

_MOVES = 60


class Story:
    """A random day of a store, and what must be there after each move.

    Args:
        store: The store.
        seed: Decides everything.
    """

    def __init__(self, store: SQLiteStore | JSONLStore, seed: int) -> None:
        self.store, self.random = store, random.Random(seed)
        self.runs: dict[str, Kept] = {}
        self.cache: dict[str, Kept] = {}
        self.known: dict[str, BlobReference] = {}
        self.made = 0

    def value(self) -> Kept:
        """A value with some files, of few contents, so that they are shared."""
        files = tuple(
            self.store.keep_file(bytes([self.random.randrange(4)]), suffix=self.random.choice((".png", ".wav")))
            for _ in range(self.random.randrange(4))
        )
        blob = (
            self.store.keep("large " * (20_000 + self.random.randrange(2))).blob if self.random.random() < 0.3 else None
        )
        kept = Kept(None if blob else "small", blob=blob, files=files)
        self.known.update({reference.name: reference for reference in kept.references})
        return kept

    async def move(self) -> None:
        """Do one thing."""
        match self.random.choice(
            ("run", "run", "entry", "both", "orphan", "delete", "delete", "clear", "sweep", "open")
        ):
            case "run":
                self._commit(self.value(), in_cache=False)
            case "entry":
                key, kept = self.random.choice("abc"), self.value()
                self.cache[key] = kept
                self.store.commit(Batch(cache=[cached(key, kept)]))
            case "both":
                self._commit(self.value(), in_cache=True)
            case "orphan":
                self.value()
            case "delete" if self.runs:
                gone = self.random.choice(sorted(self.runs))
                del self.runs[gone]
                await self.store.delete_run(gone)
            case "clear":
                self.cache.clear()
                await self.store.clear_cache()
            case "sweep":
                for reference in self.known.values():
                    if path_of(self.store, reference).exists():
                        make_old(self.store, reference)
                await self.store.sweep_files()
                assert self.there() == set(self.uses()) | self.shared_contents()
            case "open":
                await self.store.close()
                await self.store.open()

    def _commit(self, kept: Kept, *, in_cache: bool) -> None:
        self.made += 1
        batch = make_run(kept, f"run-{self.made}")
        self.runs[f"run-{self.made}"] = kept
        if in_cache:
            self.cache["a"] = kept
            batch.cache = [cached("a", kept)]
        self.store.commit(batch)

    def uses(self) -> Counter[str]:
        """How often each file is referred to."""
        return Counter(
            reference.name for kept in (*self.runs.values(), *self.cache.values()) for reference in kept.references
        )

    def shared_contents(self) -> set[str]:
        """Files that a `JSONLStore` leaves because one of the same content with another name is referred to."""
        hashes = {name[:64] for name in self.uses()} if isinstance(self.store, JSONLStore) else set()
        return {name for name in self.there() if name[:64] in hashes}

    def there(self) -> set[str]:
        """The files that there are."""
        assert self.store.folder is not None
        return {path.name for path in self.store.folder.rglob("*") if path.is_file()}

    async def check(self) -> None:
        """Hold the store against what must be there."""
        for kept in (*self.runs.values(), *self.cache.values()):
            await self.store.load_value(kept)
            for reference in kept.files:
                assert len(await self.store.load_file(reference)) == 1
        for key in "abc":
            found = await self.store.find_cached(key)
            assert (None if found is None else found.output) == self.cache.get(key)
        if isinstance(self.store, SQLiteStore):
            assert await self.store.integrity_check(full=True) == []
            assert dict(await self.store._reading().fetch("SELECT sha256, uses FROM blobs")) == self.uses()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
async def test_what_is_referred_to_is_there(kind: str, seed: int, tmp_path: Path) -> None:
    store = make_store(kind, tmp_path)
    assert isinstance(store, SQLiteStore | JSONLStore)
    await store.open()
    story = Story(store, seed)
    for _ in range(_MOVES):
        await story.move()
        await story.check()
    await store.close()
