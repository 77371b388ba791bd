"""The manifests of a log in order, of which the older ones are read only when they are needed.

A past enters, which can fetch any of its manifests, and what follows it; a sequence leaves. Whoever
needs the newest object of a name, or all of them, asks here and not manifest by manifest. It
checks nothing: that is `chain`'s.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar, overload

from scalple.store.expiry import Expired
from scalple.store.keyedrows import KeyedRows, counted, joined
from scalple.store.layout import OriginLayout
from scalple.store.manifest import Manifest
from scalple.store.merkle import leaf_hash

T = TypeVar("T")


class Past(ABC):
    """The first manifests of a log, which aren't in memory.

    Attributes:
        size: how many they are.
    """

    size: int

    @abstractmethod
    def data(self, n: int) -> bytes:
        """The bytes of one of them."""

    def manifest(self, n: int) -> Manifest:
        """One of them."""
        return Manifest.from_bytes(self.data(n))

    def leaf(self, n: int) -> bytes:
        """The leaf hash of one of them."""
        return leaf_hash(self.data(n))

    def newest(self, name: str) -> Manifest | None:
        """The newest one that names an object so."""
        every = (self.manifest(n) for n in reversed(range(self.size)))
        return next((one for one in every if name in one.objects), None)

    def newest_object(self, name: str) -> tuple[int, str] | None:
        """The newest object of that name: the number of its manifest, and its hash."""
        found = self.newest(name)
        return (found.n, found.objects[name]) if found else None

    def named_by(self, n: int, name: str) -> str | None:
        """The hash of the object that manifest `n` names so."""
        return self.manifest(n).objects.get(name)

    def hashes(self, name: str) -> set[str]:
        """The hashes of all objects of that name."""
        every = (self.manifest(n).objects for n in range(self.size))
        return {named[name] for named in every if name in named}

    def keyed(self) -> list[KeyedRows]:
        """Their audit rows by subject key."""
        return counted(self.manifest(n) for n in range(self.size))


class PastFiles(Past):
    """Manifests that are read from their own files."""

    def __init__(self, layout: OriginLayout, size: int) -> None:
        self.size = size
        self._layout = layout

    def data(self, n: int) -> bytes:
        """The bytes of one of them."""
        return self._layout.manifest(n).read_bytes()


class Continued(Sequence[T]):
    """A sequence whose first items are fetched when they are asked for."""

    def __init__(self, behind: int = 0, fetch: Callable[[int], T] | None = None) -> None:
        self.since: list[T] = []
        """What was appended."""
        self._behind = behind
        self._fetch = fetch

    def append(self, item: T) -> None:
        """One more."""
        self.since.append(item)

    def __len__(self) -> int:
        return self._behind + len(self.since)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        n = at + len(self) if at < 0 else at
        if 0 <= n < self._behind and self._fetch is not None:
            return self._fetch(n)
        if not self._behind <= n < len(self):
            raise IndexError(at)
        return self.since[n - self._behind]


class Manifests(Continued[Manifest]):
    """All manifests of a log."""

    def __init__(self, past: Past | None = None) -> None:
        super().__init__(past.size if past else 0, past.manifest if past else None)
        self.past = past
        self.expired = Expired()
        """What isn't there any more; who opens a log fills it in (`retained`)."""

    def left(self, n: int) -> Manifest:
        """Manifest `n` with what hasn't expired of it; see `Expired.left`."""
        return self.expired.left(self[n])

    def newest(self, name: str) -> Manifest | None:
        """The newest one that names an object so."""
        for one in reversed(self.since):
            if name in one.objects:
                return one
        return self.past.newest(name) if self.past else None

    def newest_object(self, name: str) -> tuple[int, str] | None:
        """The newest object of that name: the number of its manifest, and its hash."""
        for one in reversed(self.since):
            if name in one.objects:
                return one.n, one.objects[name]
        return self.past.newest_object(name) if self.past else None

    def named_by(self, n: int, name: str) -> str | None:
        """The hash of the object that manifest `n` names so."""
        if self.past is not None and n < self.past.size:
            return self.past.named_by(n, name)
        return self[n].objects.get(name)

    def hashes(self, name: str) -> set[str]:
        """The hashes of all objects of that name."""
        found = {one.objects[name] for one in self.since if name in one.objects}
        return found | self.past.hashes(name) if self.past else found

    def keyed(self) -> list[KeyedRows]:
        """The audit rows that are left by subject key; the key that was named last comes last."""
        before = self.past.keyed() if self.past else []
        return joined([*before, *counted(map(self.expired.left, self.since))])


def leaves_of(past: Past | None) -> Continued[bytes]:
    """The leaf hashes of manifests, to be continued."""
    return Continued(past.size, past.leaf) if past else Continued()
