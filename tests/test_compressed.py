"""Compressed files: any reading gives the same bytes, and damage takes only what it must."""

import bz2
import gzip
import lzma
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.ingest.compressed import Decompressed, compression

DATA = b"".join(b"%08d the quick brown fox %d\n" % (n, n * n) for n in range(60_000))


def packed(kind: str, data: bytes) -> bytes:
    """The data, compressed."""
    if kind == "zstd":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as out:
            out.write(data)
        return bytes(sink.getvalue())
    if kind == "gzip":
        return gzip.compress(data)
    return bz2.compress(data) if kind == "bzip2" else lzma.compress(data)


@pytest.fixture(scope="module", params=["gzip", "zstd", "bzip2", "xz"])
def file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A file of two members, as after an append."""
    kind: str = request.param
    path = tmp_path_factory.mktemp(kind) / "packed"
    path.write_bytes(packed(kind, DATA[:1_000_000]) + packed(kind, DATA[1_000_000:]))
    return kind, path


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, 400_000)), max_size=8))
def test_any_reading_gives_what_was_compressed(
    file: tuple[str, Path], reads: list[tuple[int, int]]
) -> None:
    kind, path = file
    assert compression(path.read_bytes()[:8]) == kind
    stream = Decompressed(path, kind)
    for begin, length in reads:
        assert stream.read(begin, length) == DATA[begin : begin + length]
    assert stream.measure() == len(DATA)
    assert stream.damage is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_stream_that_breaks_off_gives_the_same_bytes_however_it_is_read(
    file: tuple[str, Path], share: float, tmp_path: Path
) -> None:
    kind, path = file
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    found = set()
    for length in (1000, 70_000, 10_000_000):
        stream, whole = Decompressed(cut, kind), b""
        while part := stream.read(len(whole), length):
            whole += part
        assert stream.damage
        found.add(whole)
    (kept,) = found
    assert DATA.startswith(kept)
    assert len(kept) > (share - 0.25) * len(DATA) or kind in ("bzip2", "zstd")


def test_garbage_behind_the_end_is_told(file: tuple[str, Path], tmp_path: Path) -> None:
    kind, path = file
    bad = tmp_path / "bad"
    bad.write_bytes(path.read_bytes() + b"garbage that is no member" * 10)
    stream = Decompressed(bad, kind)
    assert stream.read(0, len(DATA) + 1000) == DATA
    assert stream.damage or kind in ("bzip2", "xz")  # which let anything follow
