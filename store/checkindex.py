"""Makes an index again from the log and compares: is what questions read what was committed?

A chain that was read whole and the origin's key enter; notes leave, or a VerificationError that
names the file. Nothing that the index says is believed, but for where its runs begin and end. The
bytes of files may differ where another version of a library wrote them; what they hold may not.
"""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scalple.correlate.record import KINDS
from scalple.ingest.errors import VerificationError
from scalple.store import compaction, durable, resume
from scalple.store.chain import Chain, placed, read_bytes, read_chain, read_checkpoint
from scalple.store.digestnames import FACTS
from scalple.store.index import NUMBERING_FACTS, Index, IndexFile, Run, content_of, open_index
from scalple.store.layout import OriginLayout
from scalple.store.manifest import sha256_hex
from scalple.store.merging import RunMaker
from scalple.store.note import VerifierKey

HINT = "the index is derived: deleting index/ loses nothing, and `compact` makes it again"


def check_index(layout: OriginLayout, key: VerifierKey, chain: Chain) -> list[str]:
    """Notes on what lies in the index's directory.

    Raises:
        VerificationError: it says something else than the log, or holds what isn't the index's.
    """
    if not layout.index.exists():
        return []
    notes = resume.check(layout, key, chain)
    with _kept(layout):
        named: set[str] = set()
        if layout.index_head.exists():
            with placed(layout.index_head):
                index = open_index(read_bytes(layout.index_head), key)
                if chain.tree.size < index.size <= read_checkpoint(layout, key).size:
                    return [*notes, f"{layout.origin}: an index was made meanwhile, not checked"]
                _check_whole(layout, index, chain)
            named = {one.name for one in index.files}
            if index.size < chain.tree.size:
                notes.append(
                    f"{layout.origin}: the index holds the first {index.size} manifests of "
                    f"{chain.tree.size}"
                )
        return notes + _check_names(layout, named)


def _check_whole(layout: OriginLayout, index: Index, chain: Chain) -> None:
    if index.size > chain.tree.size:
        raise VerificationError(
            f"log was cut: the index holds {index.size} manifests, found {chain.tree.size}"
        )
    prefix = read_chain(layout, index.size)
    if index.root != chain.root_at(index.size).hex() or prefix.tree.root().hex() != index.root:
        raise VerificationError(f"index: it isn't this log's: root {index.root}", hint=HINT)
    begins = dict.fromkeys(KINDS, 0)
    for run in index.runs:
        begins = _check_run(layout, prefix, run, begins)
    compare = _Comparison(layout, [one for one in index.files if one not in _of_runs(index)])
    made = compaction.whole(layout, prefix, None, index.runs, compare)
    compare.finish()
    _expect("head", _without_files(index), _without_files(made))


def _check_run(
    layout: OriginLayout, chain: Chain, run: Run, begins: dict[str, int]
) -> dict[str, int]:
    """Makes one run again; where its rows end."""
    compare = _Comparison(layout, run.files)
    maker = RunMaker(run.first, begins, compare)
    for n in range(run.first, run.end):
        compaction.add_commit(maker, layout, chain, n)
    made = maker.finish()
    compare.finish()
    _expect(f"manifests {run.first} to {run.end - 1}", _without_files(run), _without_files(made))
    return made.ends


def _of_runs(index: Index) -> list[IndexFile]:
    return [one for run in index.runs for one in run.files]


def _without_files(said: Index | Run) -> dict[str, Any]:
    """All else that a head says."""
    plain: dict[str, Any] = json.loads(said.model_dump_json())
    plain.pop("runs", None)
    for one in (plain, plain.get("numbering") or {}):
        one.pop("files", None)
        one.pop("positions", None)
    return plain


def _expect(what: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    wrong = [name for name in expected if found[name] != expected[name]]
    if wrong:
        raise VerificationError(
            f"index, {what}: {wrong[0]}: expected {expected[wrong[0]]}, found {found[wrong[0]]}",
            hint=HINT,
        )


class _Comparison:
    """A sink for files that are made again: each must be the next one of its kind."""

    def __init__(self, layout: OriginLayout, files: list[IndexFile]) -> None:
        self._layout = layout
        self._left = list(files)

    def __call__(self, holds: str, data: bytes, first_seq: int, rows: int) -> None:
        file = next((one for one in self._left if one.holds == holds), None)
        if file is None:
            raise VerificationError(f"index: a file of {holds} is missing", hint=HINT)
        self._left.remove(file)
        path = self._layout.index / file.name
        stored = read_bytes(path)
        if sha256_hex(stored) != file.sha256:
            raise VerificationError(
                f"SHA-256 differs: expected {file.sha256}, found {sha256_hex(stored)}",
                place=str(path),
                hint=HINT,
            )
        is_same = stored == data or _same(holds, stored, data)
        if not is_same or (file.first_seq, file.rows) != (first_seq, rows):
            raise VerificationError(
                f"isn't what the log says: expected a file of {holds} with SHA-256 "
                f"{sha256_hex(data)}, found {file.sha256}",
                place=str(path),
                hint=HINT,
            )

    def finish(self) -> None:
        """Returns when none is left."""
        if self._left:
            place = self._layout.index / self._left[0].name
            raise VerificationError("the log makes no such file", place=str(place), hint=HINT)


def _same(holds: str, stored: bytes, made: bytes) -> bool:
    """The same rows in the same order; facts by their values."""
    try:
        one, other = (pq.read_table(pa.BufferReader(data)) for data in (stored, made))
    except (pa.ArrowException, OSError):
        return False
    if holds not in (FACTS, NUMBERING_FACTS) or one.num_columns != 2:
        return bool(one.equals(other))
    try:
        facts = [[json.loads(fact) for fact in table[1].to_pylist()] for table in (one, other)]
    except (ValueError, TypeError):
        return False
    return facts[0] == facts[1] and bool(one[0].equals(other[0]))


def _check_names(layout: OriginLayout, named: set[str]) -> list[str]:
    """Files of the last index, or left by a crash, are harmless; anything else isn't ours."""
    left = 0
    for path in sorted(layout.index.iterdir()):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise VerificationError("no regular file", place=str(path))
        content = content_of(path.name)
        unfinished = path.name.endswith(durable.TEMPORARY_SUFFIX)
        if path in (layout.index_head, layout.resume) or path.name in named:
            continue
        if not unfinished and (content is None or sha256_hex(read_bytes(path)) != content[1]):
            raise VerificationError("not part of the index", place=str(path), hint=HINT)
        left += 1
    return [f"{layout.index}: {left} files of an earlier index"] if left else []


@contextmanager
def _kept(layout: OriginLayout) -> Iterator[None]:
    """No compaction removes files meanwhile."""
    descriptor = os.open(layout.index, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
