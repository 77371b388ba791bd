"""A local store, copied to a bucket commit by commit.

A store directory and a bucket enter; whatever of the signed log isn't in the bucket yet leaves, in an
order in which the bucket is a store at every moment: segments and objects, then manifests, then the log's keys
and the head that covers them. It can be stopped anywhere and run again. It copies only what was checked, and
refuses when the bucket holds another log, or a longer one. It takes nothing away but, where that is
asked for, files of what the log says has expired.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scalple.ingest.errors import ConfigError, VerificationError
from scalple.store.bucket import SMALL_BYTES, Bucket
from scalple.store.chain import Chain, placed, read_bytes, read_object
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.keys import public_keys_text
from scalple.store.layout import OriginLayout, origin_layout
from scalple.store.manifest import sha256_hex
from scalple.store.note import VerifierKey
from scalple.store.probe import MIRROR, Capabilities, is_beside, probe, quick_probe
from scalple.store.reader import StoreReader
from scalple.store.retained import files_of, gone_files

COPIES_AT_ONCE = 4
KNOWN_MAX = 20_000
"""Of so many objects it is remembered that they are there."""
UNSAFE = (
    "this bucket doesn't keep a created object from being overwritten: mirror from one machine only, "
    "and don't use it as the store itself"
)


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What one run did for one origin."""

    origin: str
    before: int
    """Manifests that the mirror's head covered."""
    after: int
    files: int
    """Segments and objects that were copied."""
    bytes: int
    removed: int = 0
    """Files of what has expired that were removed from the bucket."""
    left: int = 0
    """Those that are still in it."""


class Mirror:
    """Copies to one prefix.

    Args:
        bucket: where to.
        note: is told what the operator should know.
        removes: whether files go that only what has expired needs.
    """

    def __init__(
        self, bucket: Bucket, note: Callable[[str], None], *, removes: bool = False
    ) -> None:
        self._removes = removes
        self._bucket = bucket
        self._note = note
        self._safe = True
        self._known: dict[str, None] = {}
        """Keys of objects that were created or found, the oldest first: many commits name the same."""

    def prepare(self) -> Capabilities:
        """Find out what the bucket can do; wholly when nothing is there yet.

        Raises:
            ConfigError: objects are to be retained, and it has no Object Lock; or something else is
                there.
        """
        is_new = not [name for name in self._bucket.folders() if not is_beside(f"{name}/")]
        is_mirror = self._bucket.get(MIRROR, at_most=SMALL_BYTES) is not None
        if not is_new and not is_mirror:
            raise ConfigError(
                "holds something that `mirror` hasn't made",
                place=self._bucket.url,
                hint="give a prefix of its own",
            )
        found = probe(self._bucket) if is_new else quick_probe(self._bucket)
        self._safe = found.creates_once
        if not self._safe:
            self._note(UNSAFE)
        if not is_mirror:
            self._create(MIRROR, b"written by scalple-ingest mirror\n")
        return found

    def copy(self, reader: StoreReader, origin: str) -> Mirrored:
        """Bring one origin of the mirror to the head that the reader has checked.

        Raises:
            VerificationError: the bucket's log isn't a beginning of this one.
            StoreError, CommitError: the bucket can't be written; run again.
        """
        here = origin_layout(reader.directory, origin)
        chain, note = reader.chain(origin), reader.signed_head(origin).encode()
        found = self.head(here, chain.keys)
        there = found[1] if found else None
        if there is not None:
            self.check_size(here, chain, there)
            self.check_root(here, there, chain.root_at(there.size))
        if there is None:
            self._list_keys(chain, chain.tree.size)
        files, copied = self._copy_files(here, chain)
        # A run that was stopped may have left manifests beyond the head: the same bytes, or refused.
        self._copy_manifests(here, chain, range(there.size if there else 0, chain.tree.size))
        self._list_keys(chain, chain.tree.size)  # before the head that a new one signs
        self._sign(here, note)
        removed, left = self._remove_expired(
            here, chain
        )  # the head that covers the expiry is there
        before = there.size if there else 0
        return Mirrored(origin, before, chain.tree.size, files, copied, removed, left)

    def copy_commits(self, here: OriginLayout, chain: Chain, commits: range) -> tuple[int, int]:
        """Bring everything of some commits to the mirror, which has all before them: no head yet.

        What lies there already is found by trying to create it: nothing is listed.

        Args:
            here: the origin.
            chain: its manifests, which were checked.
            commits: which ones.

        Returns:
            How many segments and objects were copied, and their bytes.

        Raises:
            VerificationError: other bytes are there.
            StoreError, CommitError: as `copy`.
        """
        every = [files_of(here, chain.manifests.left(n)) for n in commits]
        wanted = {path: sha256 for files in every for path, sha256 in files.items()}
        missing = [one for one in wanted.items() if self._key(here, one[0]) not in self._known]
        copied = self._copy_all(here, missing)
        for path, _ in missing:
            if path.parent == here.objects:
                self._known[self._key(here, path)] = None
        while len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._copy_manifests(here, chain, commits)
        return len(missing), copied

    def put_head(
        self, here: OriginLayout, chain: Chain, size: int, head: bytes, before: bytes | None
    ) -> None:
        """Let the mirror's head cover what was copied.

        Args:
            here: the origin.
            chain: its manifests.
            size: how many of them the head covers.
            head: the signed note.
            before: the mirror's head as it was read; None where there was none.

        Raises:
            VerificationError: it is another one by now.
            StoreError, CommitError: as `copy`.
        """
        self._list_keys(chain, size)  # before the head that a new one signs
        key = f"{here.origin}/checkpoint"
        if before is None:
            self._create(key, head)
        else:
            self._replace(key, head, before)

    def forget(self) -> None:
        """Nothing is remembered any more of what is there."""
        self._known.clear()

    def _copy_manifests(self, here: OriginLayout, chain: Chain, commits: range) -> None:
        for n in commits:
            key = f"{here.origin}/manifests/{here.manifest(n).name}"
            self._create(key, self._manifest(here, chain, n))

    def _remove_expired(self, here: OriginLayout, chain: Chain) -> tuple[int, int]:
        """(how many files were removed, how many of them are still there)."""
        gone = {self._key(here, path) for path in gone_files(here, chain)}
        if not gone:
            return 0, 0
        names = [*self._bucket.names(f"{here.origin}/segments/")]
        names += self._bucket.names(f"{here.origin}/objects/")
        there = sorted(gone & {name for name, _ in names})
        removed = sum(self._bucket.delete(key) for key in there) if self._removes else 0
        return removed, len(there) - removed

    def head(
        self, here: OriginLayout, keys: Sequence[VerifierKey]
    ) -> tuple[bytes, Checkpoint] | None:
        """The mirror's signed head and what it covers; None where there is none yet.

        Raises:
            VerificationError: no key of the log has signed it.
        """
        key = f"{here.origin}/checkpoint"
        data = self._bucket.get(key, at_most=SMALL_BYTES)
        if data is None:
            return None
        with placed(self._bucket.place(key)):
            return data, open_checkpoint(data, keys)[0]

    def check_size(self, here: OriginLayout, chain: Chain, there: Checkpoint) -> None:
        """Returns when the mirror's log isn't longer; raises VerificationError otherwise."""
        if there.size > chain.tree.size:
            raise VerificationError(
                f"the mirror has {there.size} manifests, this store only {chain.tree.size}: "
                "it was cut, or is another one",
                place=self._bucket.place(f"{here.origin}/checkpoint"),
            )

    def check_root(self, here: OriginLayout, there: Checkpoint, root: bytes) -> None:
        """Returns when the mirror's log is one with that root.

        Raises:
            VerificationError: it isn't.
        """
        if root != there.root:
            raise VerificationError(
                f"the mirror holds another log: root {there.root.hex()} at size {there.size}",
                place=self._bucket.place(f"{here.origin}/checkpoint"),
            )

    def _copy_files(self, here: OriginLayout, chain: Chain) -> tuple[int, int]:
        present = dict(self._bucket.names(f"{here.origin}/segments/"))
        present |= dict(self._bucket.names(f"{here.origin}/objects/"))
        left = [chain.manifests.left(n) for n in range(chain.tree.size)]
        records = [record for manifest in left for record in manifest.segments]
        for record in records:
            key = self._key(here, here.segments / record.file)
            if present.get(key, record.bytes) != record.bytes:
                raise VerificationError(
                    f"the mirror has {present[key]} bytes there, expected {record.bytes}",
                    place=self._bucket.place(key),
                )
        every = {
            path: sha256 for manifest in left for path, sha256 in files_of(here, manifest).items()
        }
        wanted = sorted(every.items(), key=lambda file: (file[0].parent == here.objects, file))
        missing = [one for one in wanted if present.get(self._key(here, one[0])) is None]
        return len(missing), self._copy_all(here, missing)

    def _copy_all(self, here: OriginLayout, files: Sequence[tuple[Path, str]]) -> int:
        """Copies files, some at a time; how many bytes they have."""

        def copy(file: tuple[Path, str]) -> int:
            path, sha256 = file
            data = read_object(here, sha256) if path.parent == here.objects else read_bytes(path)
            if sha256_hex(data) != sha256:
                raise VerificationError(f"SHA-256 differs: expected {sha256}", place=str(path))
            self._create(self._key(here, path), data)
            return len(data)

        if not files:
            return 0
        with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
            return sum(pool.map(copy, files))

    def _manifest(self, here: OriginLayout, chain: Chain, n: int) -> bytes:
        """As it was checked, even if another is there by now."""
        data = chain.manifests[n].to_bytes()
        if read_bytes(here.manifest(n)) != data:
            raise VerificationError("changed while it was copied", place=str(here.manifest(n)))
        return data

    def _list_keys(self, chain: Chain, size: int) -> None:
        """The keys of the log's beginning. The mirror's may be the first of them, or more of the log's, where
        a run was stopped."""
        key, keys = f"{chain.origin}/public-key", public_keys_text(chain.keys_at(size))
        before = self._bucket.get(key, at_most=SMALL_BYTES)
        if before is None:
            self._create(key, keys)
        elif not public_keys_text(chain.keys).startswith(before):
            place = self._bucket.place(key)
            raise VerificationError("the mirror has another public key", place=place)
        elif len(before) < len(keys):
            self._replace(key, keys, before)

    def _sign(self, here: OriginLayout, note: bytes) -> None:
        key = f"{here.origin}/checkpoint"
        before = self._bucket.get(key, at_most=SMALL_BYTES)
        if before is None:
            self._create(key, note)
        elif before != note:
            self._replace(key, note, before)

    def _create(self, key: str, data: bytes) -> None:
        try:
            self._bucket.create(key, data, conditional=self._safe)
        except FileExistsError as error:
            raise VerificationError(
                "the mirror has other bytes there", place=self._bucket.place(key)
            ) from error

    def _replace(self, key: str, data: bytes, before: bytes) -> None:
        try:
            self._bucket.replace(key, data, before)
        except FileExistsError as error:
            raise VerificationError(
                "another mirror is being written there", place=self._bucket.place(key)
            ) from error

    @staticmethod
    def _key(here: OriginLayout, path: Path) -> str:
        return path.relative_to(here.store_dir).as_posix()
