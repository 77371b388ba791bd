"""Makes an index again from the log and compares: is what questions read what was committed?

A chain that was read whole enters; notes and faults leave, which name the file. Nothing that the index says is believed, but for where its runs begin and end. The
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
from scalple.store import compaction, durable, resume, strict
from scalple.store.chain import (
    Chain,
    placed,
    read_bytes,
    read_chain,
    read_checkpoint,
    read_own_keys,
)
from scalple.store.digestnames import FACTS
from scalple.store.index import NUMBERING_FACTS, Index, IndexFile, Run, content_of, open_index
from scalple.store.layout import OriginLayout
from scalple.store.manifest import sha256_hex
from scalple.store.merging import RunMaker

HINT = "the index is derived: deleting index/ loses nothing, and `compact` makes it again"


def check_index(
    layout: OriginLayout, chain: Chain, *, since: int = 0, files_only: bool = False
) -> tuple[list[str], list[VerificationError]]:
    """Notes on what lies in the index's directory; and what there says something else than the log, or
    isn't the index's.

    Args:
        layout: the origin.
        chain: its manifests up to the signed head.
        since: runs that end before this manifest aren't made again, but for the hashes of files.
        files_only: no run is.
    """
    if not stat.S_ISDIR(layout.index.lstat().st_mode):
        return [], []  # `inventory`'s
    checked = _Checked(layout, chain, chain.tree.size if files_only else since)
    with _kept(layout):
        with checked.faulty():
            checked.notes += resume.check(layout, chain)
        if layout.index_head.exists():
            with checked.faulty(), placed(layout.index_head):
                checked.check_head()
        if not checked.is_newer:
            checked.check_names()
    return checked.notes, checked.faults


class _Checked:
    """What was found so far."""

    def __init__(self, layout: OriginLayout, chain: Chain, since: int) -> None:
        self.notes: list[str] = []
        self.faults: list[VerificationError] = []
        self.is_newer = False
        """An index was made while the rest was looked at."""
        self._layout = layout
        self._chain = chain
        self._since = since
        self._named: set[str] = set()

    @contextmanager
    def faulty(self) -> Iterator[None]:
        """What goes wrong in it is a fault; the rest is looked at all the same."""
        try:
            yield
        except VerificationError as error:
            self.faults.append(error)

    def check_head(self) -> None:
        """The head, and what it names.

        Raises:
            VerificationError: it isn't this log's.
        """
        layout, size = self._layout, self._chain.tree.size
        keys = read_own_keys(layout)  # one more than the chain has, if it was changed meanwhile
        index, signer = open_index(read_bytes(layout.index_head), keys)
        self._named = {one.name for one in index.files}
        if size < index.size <= read_checkpoint(layout, keys)[0].size:
            self.is_newer = True
            self.notes.append(f"{layout.origin}: an index was made meanwhile, not checked")
            return
        if index.size > size:
            raise VerificationError(
                f"log was cut: the index holds {index.size} manifests, found {size}"
            )
        if signer != self._chain.key_at(size):
            self.notes.append(
                f"{layout.origin}: the index is signed by a key that the log had before, and isn't "
                "used; `compact` makes it anew"
            )
        if index.size < size:
            self.notes.append(
                f"{layout.origin}: the index holds the first {index.size} manifests of {size}"
            )
        self._check_whole(index)

    def _check_whole(self, index: Index) -> None:
        layout = self._layout
        prefix = read_chain(layout, index.size, self._chain.first_key)
        if index.root != self._chain.root_at(index.size).hex():
            raise VerificationError(f"index: it isn't this log's: root {index.root}", hint=HINT)
        if prefix.tree.root().hex() != index.root:
            raise VerificationError("the log changed while it was read")
        begins, hashed = dict.fromkeys(KINDS, 0), 0
        for run in index.runs:
            if run.end > self._since:
                with self.faulty():
                    self._check_run(prefix, run, begins)
            else:
                hashed = run.end
                self._check_hashes(run.files)
            begins = _ends(prefix, run, begins)
            self._expect(f"manifests before {run.end}", {"ends": run.ends}, {"ends": begins})
        others = [one for one in index.files if one not in _of_runs(index)]
        if index.size <= self._since:
            self._check_hashes(others)
        else:
            compare = _Comparison(layout, others, self.faults)
            made = compaction.whole(layout, prefix, None, index.runs, compare)
            compare.finish()
            self._expect("head", _without_files(index), _without_files(made))
        if hashed:
            self.notes.append(
                f"{layout.origin}: of the index of the first {hashed} manifests files were hashed, "
                "not compared with the log"
            )

    def _check_hashes(self, files: list[IndexFile]) -> None:
        for file in files:
            with self.faulty():
                _read(self._layout, file)

    def _check_run(self, chain: Chain, run: Run, begins: dict[str, int]) -> None:
        """Makes one run again."""
        compare = _Comparison(self._layout, run.files, self.faults)
        maker = RunMaker(run.first, begins, compare)
        for n in range(run.first, run.end):
            compaction.add_commit(maker, self._layout, chain, n)
        made = maker.finish()
        compare.finish()
        self._expect(
            f"manifests {run.first} to {run.end - 1}", _without_files(run), _without_files(made)
        )

    def _expect(self, what: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
        for name, value in expected.items():
            if found[name] != value:
                self.faults.append(
                    VerificationError(
                        f"index, {what}: {name} differs",
                        place=str(self._layout.index_head),
                        hint=HINT,
                        expected=value,
                        found=found[name],
                    )
                )

    def check_names(self) -> None:
        """Files of the last index, or left by a crash, are harmless; anything else isn't ours."""
        layout, left = self._layout, 0
        for path in sorted(layout.index.iterdir()):
            with self.faulty():
                if not stat.S_ISREG(path.lstat().st_mode):
                    raise VerificationError("no regular file", place=str(path))
                content = content_of(path.name)
                unfinished = path.name.endswith(durable.TEMPORARY_SUFFIX)
                if path in (layout.index_head, layout.resume) or path.name in self._named:
                    continue
                is_ours = unfinished or (content and sha256_hex(read_bytes(path)) == content[1])
                if not is_ours:
                    raise VerificationError("not part of the index", place=str(path), hint=HINT)
                left += 1
        if left:
            self.notes.append(f"{layout.index}: {left} files of an earlier index")


def _ends(chain: Chain, run: Run, begins: dict[str, int]) -> dict[str, int]:
    """Where the rows of a run end."""
    ends = dict(begins)
    for n in range(run.first, run.end):
        for record in chain.manifests[n].segments:
            ends[record.kind] += record.rows
    return ends


def _of_runs(index: Index) -> list[IndexFile]:
    return [one for run in index.runs for one in run.files]


def _without_files(said: Index | Run) -> dict[str, Any]:
    """All else that a head says."""
    plain: dict[str, Any] = strict.plain(said)
    plain.pop("runs", None)
    for one in (plain, plain.get("numbering") or {}):
        one.pop("files", None)
        one.pop("positions", None)
    return plain


def _read(layout: OriginLayout, file: IndexFile) -> bytes:
    """The bytes of a file.

    Raises:
        VerificationError: it is missing, or they are others.
    """
    path = layout.index / file.name
    stored = read_bytes(path)
    if sha256_hex(stored) != file.sha256:
        raise VerificationError(
            "SHA-256 differs",
            place=str(path),
            hint=HINT,
            expected=file.sha256,
            found=sha256_hex(stored),
        )
    return stored


class _Comparison:
    """A sink for files that are made again: each must be the next one of its kind."""

    def __init__(
        self, layout: OriginLayout, files: list[IndexFile], faults: list[VerificationError]
    ) -> None:
        self._layout = layout
        self._left = list(files)
        self._faults = faults

    def __call__(self, holds: str, data: bytes, first_seq: int, rows: int) -> None:
        try:
            self._compare(holds, data, first_seq, rows)
        except VerificationError as error:
            self._faults.append(error)

    def _compare(self, holds: str, data: bytes, first_seq: int, rows: int) -> None:
        file = next((one for one in self._left if one.holds == holds), None)
        if file is None:
            raise VerificationError(
                f"index: a file of {holds} is missing",
                place=str(self._layout.index_head),
                hint=HINT,
            )
        self._left.remove(file)
        stored = _read(self._layout, file)
        is_same = stored == data or _same(holds, stored, data)
        if not is_same or (file.first_seq, file.rows) != (first_seq, rows):
            raise VerificationError(
                f"isn't what the log says of {holds}",
                place=str(self._layout.index / file.name),
                hint=HINT,
                expected=f"{rows} rows from {first_seq}, SHA-256 {sha256_hex(data)}",
                found=f"{file.rows} rows from {file.first_seq}, SHA-256 {file.sha256}",
            )

    def finish(self) -> None:
        """None may be left."""
        for file in self._left:
            place = str(self._layout.index / file.name)
            self._faults.append(
                VerificationError("the log makes no such file", place=place, hint=HINT)
            )


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


@contextmanager
def _kept(layout: OriginLayout) -> Iterator[None]:
    """No compaction removes files meanwhile."""
    descriptor = os.open(layout.index, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
