"""An index opened for reading: the log up to some manifest, without reading its files one by one.

An origin's layout, its key and the memory of checked files enter; an `Indexed` leaves, whose files
all have the bytes that its signed head says. What it says of the log is believed because the key's
owner signed it; that it is the log under today's head is for `chain` to find out.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from scalple.ingest.errors import VerificationError
from scalple.store.chain import Chain, read_bytes, read_own_keys, read_settled
from scalple.store.index import MANIFESTS, PARTS, Index, IndexFile, Run, open_index
from scalple.store.keyedrows import KeyedRows, joined
from scalple.store.layout import OriginLayout
from scalple.store.manifest import Manifest, positions_from_bytes
from scalple.store.manifests import Manifests, Past, leaves_of
from scalple.store.note import VerifierKey
from scalple.store.retained import read_expired
from scalple.store.source import source_of
from scalple.store.verified import VerifiedFiles

if TYPE_CHECKING:  # most questions do without
    import pyarrow as pa

GROUP_ROWS = 64
"""How many manifests stand together in a file: whoever wants one unpacks them all."""


class Indexed(Past):
    """The manifests of an index, and where its rows are."""

    def __init__(self, layout: OriginLayout, index: Index) -> None:
        self.index = index
        self.size = index.size
        self.layout = layout
        self._firsts = [run.first for run in index.runs]
        self._cuts: dict[tuple[int, datetime], tuple[int, dict[str, int]]] = {}
        self._group = lru_cache(maxsize=8)(self._read_group)

    def path(self, file: IndexFile) -> Path:
        """Where a file of it is."""
        return self.layout.index / file.name

    def chain(self) -> Chain:
        """The log up to its end, to be continued."""
        positions = positions_from_bytes(read_bytes(self.path(self.index.positions)))
        return Chain(
            self.index.origin,
            Manifests(self),
            leaves_of(self),
            self.index.tree,
            self.index.last_sha256,
            dict(self.index.runs[-1].ends),
            {one.generation: one for one in positions},
            [one.rotation for one in self.index.rotations],
        )

    def data(self, n: int) -> bytes:
        """The bytes of a manifest."""
        return bytes(self._column(n, "data"))

    def leaf(self, n: int) -> bytes:
        """The leaf hash of a manifest."""
        return bytes(self._column(n, "leaf"))

    def newest(self, name: str) -> Manifest | None:
        """The newest manifest that names an object so."""
        for run in reversed(self.index.runs):
            if name in run.newest:
                return self.manifest(run.newest[name])
        return None

    def newest_object(self, name: str) -> tuple[int, str] | None:
        """The newest object of that name; of few the index says it without the manifest."""
        for run in reversed(self.index.runs):
            if name in run.newest:
                n, hashes = run.newest[name], run.hashes.get(name, ())
                return n, hashes[0] if len(hashes) == 1 else self.manifest(n).objects[name]
        return None

    def named_by(self, n: int, name: str) -> str | None:
        """The hash of the object that a manifest names so; likewise."""
        run = self.index.runs[bisect_right(self._firsts, n) - 1]
        newest, hashes = run.newest.get(name, -1), run.hashes.get(name, ())
        if newest < n:
            return None
        if newest == n and len(hashes) == 1:
            return hashes[0]
        return self.manifest(n).objects.get(name)

    def hashes(self, name: str) -> set[str]:
        """The hashes of all objects of that name."""
        found: set[str] = set()
        for run in self.index.runs:
            if name in run.hashes:
                found.update(run.hashes[name])
            elif name in run.newest:
                named = (self.manifest(n).objects for n in range(run.first, run.end))
                found.update(objects[name] for objects in named if name in objects)
        return found

    def keyed(self) -> list[KeyedRows]:
        """Audit rows by subject key."""
        return joined(one for run in self.index.runs for one in run.keyed)

    def parts(self, run: Run) -> "pa.Table":
        """The segments that a run was made of: `kind`, `n`, `first_seq`, `rows`, `salt_key`."""
        import pyarrow.parquet as pq  # most questions do without

        return pq.read_table(self.path(run.holding(PARTS)[0]))

    def ends(self, run: Run, until: datetime | None) -> tuple[int, dict[str, int]]:
        """How many of a run's manifests were committed by then, in a row; and where rows ended."""
        if until is None or datetime.fromisoformat(run.committed_by) <= until:
            return run.end, run.ends
        if (run.first, until) not in self._cuts:
            self._cuts[run.first, until] = self._cut(run, until)
        return self._cuts[run.first, until]

    def _cut(self, run: Run, until: datetime) -> tuple[int, dict[str, int]]:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        times = pq.read_table(self.path(run.holding(MANIFESTS)[0]), columns=["committed_at"])
        is_later = [datetime.fromisoformat(one) > until for one in times[0].to_pylist()]
        end = run.first + is_later.index(True)
        parts = self.parts(run)
        later = parts.filter(pc.greater_equal(parts["n"], end))
        firsts = {
            kind: pc.min(later.filter(pc.equal(later["kind"], kind))["first_seq"]).as_py()
            for kind in run.ends
        }
        return end, {
            kind: last if firsts[kind] is None else firsts[kind] for kind, last in run.ends.items()
        }

    def _column(self, n: int, name: str) -> bytes:
        at = bisect_right(self._firsts, n) - 1
        group, place = divmod(n - self._firsts[at], GROUP_ROWS)
        found: bytes = self._group(at, group, name)[place]
        return found

    def _read_group(self, at: int, group: int, name: str) -> list[bytes]:
        import pyarrow.parquet as pq

        path = self.path(self.index.runs[at].holding(MANIFESTS)[0])
        column = pq.ParquetFile(path).read_row_group(group, columns=[name])[0]
        values: list[bytes] = column.to_pylist()
        return values


@dataclass(frozen=True, slots=True)
class Opened:
    """An origin that was read.

    Attributes:
        chain: up to the signed head.
        beyond: how many manifests lie behind it.
        indexed: the index that the chain's beginning is from, if there is one that can be used.
        notes: why not, if that isn't plain.
    """

    chain: Chain
    beyond: int
    indexed: Indexed | None
    notes: tuple[str, ...]


def open_origin(layout: OriginLayout, verified: VerifiedFiles) -> Opened:
    """An origin with its index; where that can't be used, without it.

    Raises:
        VerificationError: head or chain aren't intact.
    """
    try:
        indexed, signer = _open_indexed(layout, verified)
        chain, beyond = read_settled(layout, past=indexed.chain() if indexed else None)
        expired = chain.manifests.expired = read_expired(layout, chain.manifests)
        if indexed is not None and expired.last is not None and expired.last >= indexed.size:
            raise VerificationError("made before rows expired", place=str(layout.index_head))
        expected = chain.key_at(chain.tree.size)
        if indexed is None or signer == expected:
            return Opened(chain, beyond, indexed, ())
        raise VerificationError(
            "signed by a key that the log had before", place=str(layout.index_head)
        )
    except (VerificationError, OSError) as error:
        chain, beyond = read_settled(layout)  # what is wrong with the log itself is said here
        chain.manifests.expired = read_expired(layout, chain.manifests)
        return Opened(chain, beyond, None, (_ignored(layout, error),))


def _open_indexed(
    layout: OriginLayout, verified: VerifiedFiles
) -> tuple[Indexed | None, VerifierKey | None]:
    """The index, whose files have the bytes that it says, and who signed it."""
    if source_of(layout.store_dir) or not layout.index_head.exists():
        return None, None  # what lies in a bucket isn't brought here
    index, signer = open_index(read_bytes(layout.index_head), read_own_keys(layout))
    indexed = Indexed(layout, index)
    for file in index.files:
        verified.check(indexed.path(file), file.sha256, file.bytes)
    return indexed, signer


def _ignored(layout: OriginLayout, error: Exception) -> str:
    """What the operator should know of an index that isn't used."""
    return (
        f"{layout.origin}: the index isn't used, the answer takes longer: {error}; "
        "`compact` makes it anew"
    )
