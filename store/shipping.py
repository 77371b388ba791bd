"""A mirror that is kept up while its store is being written: step by step, each of bounded size.

An origin that another process writes, and a mirror, enter; after each step the mirror is a store with some
commits more. What is left to do follows from the two heads alone, so that nothing is remembered
anywhere, and a step that was broken off is done again. Doesn't wait, and doesn't try twice.

In between the mirror gets heads that the local store has replaced long ago: a head says nothing but size
and root, and Ed25519 signs the same text the same way, so that they come out byte for byte as they were.
Where the key isn't at hand, or another one was in force then, the mirror's head waits for the newest one.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.store.chain import Chain, read_bytes, read_settled
from scalple.store.checkpoint import Checkpoint
from scalple.store.indexed import Opened, open_origin
from scalple.store.layout import OriginLayout
from scalple.store.merkle import CompactRange
from scalple.store.mirror import Mirror
from scalple.store.note import VerifierKey
from scalple.store.retained import read_expired
from scalple.store.verified import VerifiedFiles, default_cache_file

STEP_COMMITS = 200
STEP_BYTES = 32 << 20
"""A step ends with the commit in which it has so many bytes of segments."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did.

    Attributes:
        size: how many commits the mirror's head covers now.
        left: how many commits are still to be copied.
        commits: how many were.
        files: segments and objects that were copied.
        bytes: of them.
    """

    size: int
    left: int
    commits: int = 0
    files: int = 0
    bytes: int = 0


class Shipping:
    """Keeps one origin of a mirror up; make one anew after any error.

    Args:
        mirror: which is prepared.
        here: the origin.
        private: the key that its heads are signed with, if it is at hand.
        step_commits: at most so many commits at once.
    """

    def __init__(
        self,
        mirror: Mirror,
        here: OriginLayout,
        private: Ed25519PrivateKey | None,
        step_commits: int = STEP_COMMITS,
    ) -> None:
        self._mirror = mirror
        self._here = here
        self._private = private
        self._key = VerifierKey.of(here.origin, private) if private is not None else None
        self._step_commits = step_commits
        self._verified = VerifiedFiles(default_cache_file())
        self._opened: Opened | None = None
        self._index_head: bytes | None = None
        self._there: CompactRange | None = None
        """What was copied."""
        self._head: bytes | None = None
        """The mirror's head."""
        self._covered = -1
        """How many commits it covers."""

    def step(self) -> Step:
        """Bring some more commits there, if there are any.

        Raises:
            VerificationError: the bucket's log isn't a beginning of this one, or this one isn't intact.
            StoreError, CommitError, OSError: one of them can't be read or written.
        """
        chain = self._read()
        if self._there is None:
            self._there = self._find(chain)
        first, last = self._there.size, chain.tree.size
        if first == last and self._covered == last:
            return Step(last, 0)
        tree = self._there
        for n in range(first, self._end(chain, first)):
            tree = tree.append(chain.leaf_hashes[n])
        commits = range(first, tree.size)
        files, copied = self._mirror.copy_commits(self._here, chain, commits)
        if head := self._head_of(chain, tree):
            self._mirror.put_head(self._here, chain, tree.size, head, self._head)
            self._head, self._covered = head, tree.size
        self._there = tree
        return Step(max(0, self._covered), last - tree.size, len(commits), files, copied)

    def _read(self) -> Chain:
        """The log up to its head as it is now. An index that is newer is taken at once: files of the one
        before the last are removed."""
        here = self._here
        index = read_bytes(here.index_head) if here.index_head.exists() else None
        if self._opened is None or index != self._index_head:
            self._opened = None
            self._mirror.forget()
            self._opened, self._index_head = open_origin(here, self._verified), index
        elif read_bytes(here.checkpoint) != self._opened.chain.signed:
            opened, self._opened = (
                self._opened,
                None,
            )  # a chain that couldn't be continued is no use
            chain, _ = read_settled(here, past=opened.chain)
            chain.manifests.expired = read_expired(here, chain.manifests)
            self._opened = opened
        return self._opened.chain

    def _find(self, chain: Chain) -> CompactRange:
        """What the mirror has, which is a beginning of the log."""
        found = self._mirror.head(self._here, chain.keys)
        if found is None:
            return CompactRange()
        self._head, there = found
        self._covered = there.size
        self._mirror.check_size(self._here, chain, there)
        tree = self._tree_at(chain, there.size)
        self._mirror.check_root(self._here, there, tree.root())
        return tree

    def _tree_at(self, chain: Chain, size: int) -> CompactRange:
        indexed = self._opened.indexed if self._opened else None
        if size == chain.tree.size:
            return chain.tree
        tree = indexed.index.tree if indexed and indexed.size <= size else CompactRange()
        for n in range(tree.size, size):
            tree = tree.append(chain.leaf_hashes[n])
        return tree

    def _end(self, chain: Chain, first: int) -> int:
        """Where the next step ends at the earliest."""
        held, end = 0, first
        limit = min(chain.tree.size, first + self._step_commits)
        while end < limit and held < STEP_BYTES:
            held += sum(one.bytes for one in chain.manifests.left(end).segments)
            end += 1
        return end

    def _head_of(self, chain: Chain, tree: CompactRange) -> bytes | None:
        """The signed head of so many commits, as the store had it; None where it can't be made."""
        if tree.size == chain.tree.size:
            return chain.signed
        if self._private is None or not tree.size or chain.key_at(tree.size) != self._key:
            return None
        return Checkpoint(chain.origin, tree.size, tree.root()).sign(self._private)
