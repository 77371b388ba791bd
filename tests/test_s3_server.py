"""A real S3 server, radosgw: what it can do is believed only where it is seen (`make test-s3`).

Debian's radosgw refuses to overwrite in plain buckets, and silently doesn't in buckets with versions.
So the same server can hold a store in the one and is refused in the other, where a mirror still fits.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalple.ingest.errors import StoreError
from scalple.store import source
from scalple.store.mirror import UNSAFE, Mirror
from scalple.store.probe import RACERS, probe
from scalple.store.reader import StoreReader
from scalple.store.verify import verify
from tests.s3server import Place, serving
from tests.store.sample import make_store
from tests.store.test_remote import commit, expected, queries

pytestmark = pytest.mark.skipif("S3_SERVER" not in os.environ, reason="make test-s3")
ROUNDS = 20


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The server."""
    with serving() as url:
        yield url
    source.unmount()


def test_a_plain_bucket_has_one_winner_in_every_round(endpoint: str, tmp_path: Path) -> None:
    place = Place(endpoint, "plain", tmp_path)
    found = [probe(place.bucket) for _ in range(ROUNDS)]
    assert {one.winners for one in found} == {1}
    assert all(one.creates_once for one in found)
    assert not any(one.replaces_if_match for one in found)  # it refuses every If-Match
    for _ in range(3):  # so that heads are replaced without
        commit(place.see())
    assert queries(place.see()) == expected(3)


def test_a_bucket_with_object_lock_is_refused_as_a_store_and_fits_a_mirror(
    endpoint: str, tmp_path: Path
) -> None:
    place = Place(endpoint, "locked", tmp_path / "seen", retain_days=1)
    found = probe(place.bucket)
    assert (found.creates_once, found.winners, found.object_lock) == (False, RACERS, True)
    with pytest.raises(StoreError, match="doesn't keep a created object"):
        commit(place.see())
    store = make_store(tmp_path / "local", 2)
    told: list[str] = []
    for _ in range(2):
        job = Mirror(place.bucket, told.append)
        job.prepare()
        job.copy(StoreReader.open(store), "db1")
        make_store(store, 1)
    assert told == [UNSAFE, UNSAFE]
    report = verify(place.see(whole=True))
    assert report.manifests == 3
    assert any("older heads in the bucket" in note for note in report.notes)
    name = next(key for key, _ in place.bucket.names("db1/segments/"))
    held = place.bucket.client.head_object(**place.key(name))
    assert held["ObjectLockMode"] == "GOVERNANCE"
