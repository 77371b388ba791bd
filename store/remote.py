"""A store in a bucket, seen through a directory here that has the layout of a local store.

A bucket's prefix enters; a directory leaves that the reader, the writer and `verify` use like any
other. Opening brings checkpoints, public keys and manifests; segments and objects are fetched when
they are needed and checked against the hash that the manifest names. What is written is written to
the bucket first: the manifest's conditional create is the commit. A head that this machine has seen
is remembered in the directory, so that a bucket that was put back is noticed.
"""

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scalple.ingest.errors import RaceError, StoreError, VerificationError
from scalple.store import cache, layout, remotehead
from scalple.store.bucket import SMALL_BYTES, Bucket, Version
from scalple.store.bucketsettings import BucketSettings
from scalple.store.cache import Cache
from scalple.store.checkpoint import open_checkpoint
from scalple.store.layout import OriginLayout, origin_layout
from scalple.store.manifest import MANIFEST_BYTES_MAX, sha256_hex
from scalple.store.probe import MIRROR, is_beside, probe, quick_probe
from scalple.store.remotehead import RemoteHead, root_here
from scalple.store.source import Wanted
from scalple.store.verified import VerifiedFiles

MANIFESTS_AT_ONCE = 8
FILES_AT_ONCE = 4
_ORIGIN = re.compile(r"_access|[a-z0-9][a-z0-9._-]{0,62}")


class RemoteStore:
    """The Source of a store in a bucket (see `source`).

    Args:
        bucket: the store's prefix.
        cached: where it is kept here.
        whole: opening brings manifests beyond the signed head as well, for `verify` and who writes.
            Questions go by the head, and say that there is more.
        may_write: the log of questions may be written too.
        verified: files whose bytes were checked before.
    """

    def __init__(
        self,
        bucket: Bucket,
        cached: Cache,
        *,
        whole: bool = False,
        may_write: bool = False,
        verified: VerifiedFiles | None = None,
    ) -> None:
        self.notes: list[str] = []
        """What a user should know of the state of the bucket."""
        self.bucket = bucket
        self._cache = cached
        self._whole = whole
        self._may_write = may_write
        self._is_steady = False
        self._seen: dict[Path, bytes] = {}
        """Heads and lists of keys as the bucket had them: only these are replaced."""
        self._verified = verified or VerifiedFiles(cached.store.with_name("verified.json"))

    @property
    def url(self) -> str:
        """As a user names it."""
        return self.bucket.url

    @property
    def may_write(self) -> bool:
        """Whether keys were given, so that the log of questions can be written."""
        return self._may_write

    @property
    def directory(self) -> Path:
        """What stands for the store here."""
        return self._cache.store

    def open(self) -> None:
        """Bring every origin's head and manifests.

        Raises:
            VerificationError: an origin isn't what this machine has seen of it, or not signed.
            StoreError, ConfigError: the bucket can't be read.
        """
        if self._may_write and self._is_mirror():
            self._may_write = False
        there = [name for name in self.bucket.folders() if _ORIGIN.fullmatch(name)]
        for origin in there:
            self._refresh(origin, whole=self._whole)
        for path in sorted(self.directory.iterdir()):
            if path.name in there:
                continue
            if (path / "checkpoint").exists():
                raise self._gone(f"origin {path.name!r} isn't there any more", path)
            shutil.rmtree(path, ignore_errors=True)

    def refresh(self, origin: str) -> None:
        """Bring head and all manifests of one origin as they are now; raises as `open`."""
        self._refresh(origin, whole=True)

    def _refresh(self, origin: str, *, whole: bool) -> None:
        with self._cache.locked(alone=True):
            state = remotehead.settled(self.bucket, origin, whole)
            here = origin_layout(self.directory, origin)
            if state is None:
                if here.checkpoint.exists():
                    raise self._gone("the checkpoint isn't there any more", here.checkpoint)
                return
            self._check_remembered(here, state)
            self._bring(here, state, whole)

    @contextmanager
    def steady(self) -> Iterator[None]:
        """While it lasts, no other process here brings newer heads, and nothing is added here."""
        with self._cache.locked(alone=False):
            self._is_steady = True
            try:
                yield
            finally:
                self._is_steady = False

    def _check_remembered(self, here: OriginLayout, state: RemoteHead) -> None:
        """The bucket's key and log continue those that this machine has seen."""
        if not here.checkpoint.exists() or not here.public_key.exists():
            return
        # A log that changed its key has one line more.
        if not state.public_key.startswith(here.public_key.read_bytes()):
            raise self._gone("the public key is another one", here.public_key)
        try:
            seen, _ = open_checkpoint(here.checkpoint.read_bytes(), state.keys)
        except VerificationError:
            self.notes.append(f"{here.origin}: the head in the cache was damaged, and is forgotten")
            here.checkpoint.unlink()
            return
        if seen.size > state.head.size:
            raise self._gone(
                f"{state.head.size} manifests, and there were {seen.size}", here.checkpoint
            )
        self._download_manifests(here, state, whole=False)
        if root_here(here, seen.size) != seen.root:
            raise self._gone(f"another root at size {seen.size}", here.checkpoint)

    def _bring(self, here: OriginLayout, state: RemoteHead, whole: bool) -> None:
        for path in (here.segments, here.manifests, here.objects):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._download_manifests(here, state, whole)
        self._seen[here.checkpoint] = state.checkpoint
        self._seen[here.public_key] = state.public_key
        cache.write(here.public_key, state.public_key)
        cache.write(here.checkpoint, state.checkpoint)
        beyond = len(state.manifests) - state.head.size
        if beyond and not whole:
            self.notes.append(
                f"{here.origin}: {beyond} manifest(s) beyond the signed head are left out: a commit "
                "or a mirror is under way, or an older checkpoint was put back"
            )

    def _download_manifests(self, here: OriginLayout, state: RemoteHead, whole: bool) -> None:
        """Those that aren't here; all of them if these don't make the root that is signed."""
        wanted = [n for n in state.manifests if whole or n < state.head.size]
        for path in here.manifests.glob("*"):
            if layout.manifest_number(path.name) not in wanted:
                path.unlink(missing_ok=True)
        self._download(here, [n for n in wanted if not here.manifest(n).exists()])
        if root_here(here, state.head.size) != state.head.root:
            self._download(here, wanted)

    def _download(self, here: OriginLayout, numbers: list[int]) -> None:
        def one(n: int) -> None:
            key = f"{here.origin}/manifests/{here.manifest(n).name}"
            data = self.bucket.get(key, at_most=MANIFEST_BYTES_MAX)
            if data is None:
                raise VerificationError("manifest is missing", place=self.bucket.place(key))
            cache.write(here.manifest(n), data)

        with ThreadPoolExecutor(MANIFESTS_AT_ONCE) as pool:
            list(pool.map(one, numbers))

    def fetch(self, wanted: Iterable[Wanted]) -> None:
        """Put files into the directory; one that is here with other bytes is fetched anew.

        Raises:
            VerificationError: it is missing in the bucket, or has other bytes there.
            StoreError: the bucket can't be read, or the cache is too small.
        """
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            missing = [one for one in wanted if not self._is_here(one)]
            list(pool.map(self._fetch, missing))
        self._verified.save()

    def _is_here(self, wanted: Wanted) -> bool:
        path, sha256, size = wanted
        if not self._cache.hold(path):
            return False
        try:
            self._verified.check(path, sha256, size)
        except VerificationError:
            return False
        return True

    def _fetch(self, wanted: Wanted) -> None:
        path, sha256, size = wanted
        self._cache.add(path, self.read(path, sha256))
        self._verified.check(path, sha256, size)

    def load(self, path: Path, sha256: str) -> bytes:
        """The bytes of a file, from here if they have this hash, and else as the bucket has them: who
        asks checks them. No other process can take the file away in between.

        Raises:
            VerificationError: it is missing in the bucket.
            StoreError: as `fetch`.
        """
        with contextlib.suppress(OSError):
            if self._cache.hold(path) and sha256_hex(data := path.read_bytes()) == sha256:
                return data
        data = self._there(path)
        if sha256_hex(data) == sha256 and not self._is_steady:
            self._cache.add(path, data)
        return data

    def read(self, path: Path, sha256: str) -> bytes:
        """The bytes of a file as the bucket has them; raises as `fetch`."""
        data = self._there(path)
        if (found := sha256_hex(data)) != sha256:
            place = self.bucket.place(self._key(path))
            raise VerificationError("SHA-256 differs", place=place, expected=sha256, found=found)
        return data

    def _there(self, path: Path) -> bytes:
        data = self.bucket.get(self._key(path))
        if data is None:
            raise VerificationError("missing", place=self.bucket.place(self._key(path)))
        return data

    def opener(self, share: int) -> "RemoteOpener":
        """How one of so many processes opens it to read."""
        bucket = self.bucket
        return RemoteOpener(
            bucket.url,
            bucket.settings,
            bucket.pauses,
            self.directory.parent,
            self._cache.share(share),
        )

    def prepare_writing(self, origin: str) -> None:
        """Probe the bucket: wholly before the origin's first commit, shortly before later ones.

        Raises:
            StoreError: it is a mirror; or it doesn't refuse to overwrite, so that two writers could
                both commit.
        """
        if self._is_mirror():
            raise StoreError(
                "is a mirror, which only `mirror` writes",
                place=self.url,
                hint="write to the store that it copies, or make it a store of its own (docs/S3.md)",
            )
        is_new = self.bucket.get(f"{origin}/checkpoint", at_most=SMALL_BYTES) is None
        found = probe(self.bucket) if is_new else quick_probe(self.bucket)
        if not found.creates_once:
            told = "" if found.winners is None else f" ({found.winners} of 16 created one key)"
            raise StoreError(
                f"this bucket doesn't keep a created object from being overwritten{told}: two "
                "writers could both believe that they committed",
                place=self.url,
                hint="keep the store in a directory and copy it here: scalple-ingest mirror",
            )

    def _is_mirror(self) -> bool:
        return self.bucket.get(MIRROR, at_most=SMALL_BYTES) is not None

    def create(self, path: Path, data: bytes) -> None:
        """Create a file in the bucket; for a manifest that is the commit.

        Raises:
            RaceError: another writer was faster; nothing was committed.
            StoreError: other bytes are there, or it can't be written.
            CommitError: it may or may not be there.
        """
        place = self.bucket.place(self._key(path))
        try:
            self.bucket.create(self._key(path), data)
        except FileExistsError as error:
            if layout.manifest_number(path.name) is not None:
                raise RaceError(
                    "another writer has committed in between; this batch isn't in the store",
                    place=place,
                    hint="one writer per origin; run again, it goes on behind the other's commit",
                ) from error
            raise StoreError(
                "something else is there already",
                place=place,
                hint="was this origin begun with another signing key?",
            ) from error
        if path.name in ("checkpoint", "public-key"):
            self._seen[path] = data

    def replace(self, path: Path, data: bytes) -> None:
        """Replace the signed head, or the list of keys, in the bucket.

        Raises:
            StoreError: another writer has signed a newer one; what was committed stays, and is under
                it.
            CommitError: the old one or the new one may be there.
        """
        try:
            self.bucket.replace(self._key(path), data, self._seen[path])
        except FileExistsError as error:
            raise StoreError(
                "another writer has signed a newer head; what this one has committed stays",
                place=self.bucket.place(self._key(path)),
                hint="one writer per origin; run again",
            ) from error
        self._seen[path] = data

    def names(self) -> Iterator[tuple[Path, int]]:
        """Every file of the store in the bucket, as a path below the directory, and its length."""
        for key, length in self.bucket.names():
            if not is_beside(key):
                yield self._path(key), length

    @property
    def keeps_versions(self) -> bool | None:
        """Whether the bucket keeps what was replaced; None when it doesn't say."""
        said = self.bucket.ask("get_bucket_versioning")
        return None if said is None else "Status" in said

    def history(self) -> Iterator[tuple[Path, list[bytes], bool]]:
        """Files that were replaced or deleted: all their contents, and whether one is there now.

        Empty where the bucket keeps no versions.
        """
        if not self.keeps_versions:
            return
        versions: dict[str, list[Version]] = {}
        for one in self.bucket.versions():
            if not is_beside(one.key):
                versions.setdefault(one.key, []).append(one)
        current = {key for key, _ in self.bucket.names()}
        for key, found in versions.items():
            if len(found) > 1 or key not in current:
                kept = [one.version for one in found if not one.deletion]
                contents = [self.bucket.get(key, version=version) for version in kept]
                there = [data for data in contents if data is not None]
                yield self._path(key), there, key in current

    def close(self) -> None:
        """Let go of the cache."""
        self._cache.close()

    def _key(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()

    def _path(self, key: str) -> Path:
        """Only keys that are paths as they stand can belong to a store."""
        path = Path(f"{self.directory}/{key}")
        if self._key(path) != key:
            raise VerificationError("not part of the store", place=self.bucket.place(key))
        return path

    def _gone(self, what: str, path: Path) -> VerificationError:
        return VerificationError(
            f"the bucket isn't what this machine has seen of it: {what}",
            place=self.bucket.place(self._key(path)),
            hint=f"if that was meant, remove {self.directory.parent}",
        )


@dataclass(frozen=True, slots=True)
class RemoteOpener:
    """Opens a store in a bucket in another process, in the directory where it is here already: heads
    and manifests are there, and what else is fetched is for all of them.

    Attributes:
        url: of the store.
        settings: how its bucket is reached.
        pauses: between one try and the next.
        directory: of the cache.
        bytes_max: how much this process may add to it.
    """

    url: str
    settings: BucketSettings
    pauses: tuple[float, ...]
    directory: Path
    bytes_max: int

    def __call__(self) -> RemoteStore:
        """Opens it; nothing is sent yet. Don't close it: the directory isn't this process's."""
        cached = Cache(self.directory, self.bytes_max, keeps=False)
        bucket = Bucket(self.url, self.settings, self.pauses)
        return RemoteStore(bucket, cached, verified=VerifiedFiles(None))
