"""The cache of a store in a bucket: what several readers do to it at once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scalple.ingest.errors import StoreError
from scalple.store.cache import Cache


def test_a_full_cache_takes_no_file_from_under_its_writer(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    folder = cache.store / "db1" / "segments"
    folder.mkdir(parents=True)
    begun, abandoned = folder / ".one.77-aa.tmp", folder / ".two.78-bb.tmp"
    for path in (begun, abandoned):
        path.write_bytes(b"x" * 400)
    long_ago = time.time() - 7200
    os.utime(abandoned, (long_ago, long_ago))
    cache.add(folder / "three", b"y" * 500)
    assert begun.exists()
    assert not abandoned.exists()
    with pytest.raises(StoreError, match="the cache is full"):
        cache.add(folder / "four", b"z" * 700)
    assert begun.exists()
    cache.close()


def test_what_is_being_written_counts_for_others_that_write_at_once(tmp_path: Path) -> None:
    size, room = 100_000, 3
    for round_ in range(40):
        cache = Cache(tmp_path / str(round_), room * size)
        folder = cache.store / "db1" / "segments"
        paths = [folder / str(n) for n in range(8)]
        for path in paths:
            cache.hold(path)  # so that none goes for another

        def add(path: Path, cache: Cache = cache) -> bool:
            try:
                cache.add(path, b"x" * size)
            except StoreError as error:
                assert "the cache is full" in str(error)
                return False
            return True

        with ThreadPoolExecutor(len(paths)) as pool:
            added = sum(pool.map(add, paths))
        assert added == room == sum(1 for _ in folder.iterdir())
        cache.close()
