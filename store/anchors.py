"""Checkpoints that were published outside the writer's reach, and what they say of a store.

Signed checkpoints enter, as they were kept in a directory, in a file, in a saved mail; a verdict on
a chain leaves: it continues all of them, or faults say which it doesn't. An anchor counts only with
the signature of the key that the log had at its size. It publishes to directories; buckets are
`anchorbucket`'s, witnesses `witness`'s. It keeps nothing secret: a checkpoint holds no row.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scalple.ingest.errors import ConfigError, InputError, VerificationError
from scalple.store import durable
from scalple.store.chain import Chain, check_signer
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.layout import origin_layout
from scalple.store.merkle import CompactRange
from scalple.store.note import VerifierKey

_NOTE = re.compile(
    rb"^(?P<origin>[^\n]+)\n[0-9]+\n[A-Za-z0-9+/]{43}=\n\n(?:\xe2\x80\x94 [^\n]+(?:\n|\Z))+",
    re.MULTILINE,
)
_SIGNATURE = re.compile(rb"^\xe2\x80\x94 ", re.MULTILINE)
FILE_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Anchor:
    """One signed checkpoint, not yet checked, and where it was found."""

    place: str
    origin: str
    note: bytes


def name(head: Checkpoint) -> str:
    """Where an anchor lies below its directory or prefix.

    The root is part of the name, so that two checkpoints of one size can both be kept.
    """
    return f"{head.origin}/{head.size:020d}-{head.root.hex()}"


def in_text(data: bytes, place: str) -> list[Anchor]:
    """Every checkpoint in a text, whatever stands around it.

    Raises:
        InputError: there is none, or a signature that belongs to none.
    """
    text = data.replace(b"\r\n", b"\n")
    notes = list(_NOTE.finditer(text))
    signed = sum(len(_SIGNATURE.findall(note[0])) for note in notes)
    if not notes or signed != len(_SIGNATURE.findall(text)):
        raise InputError(
            "holds no checkpoint"
            if not notes
            else "holds a signature that belongs to no checkpoint",
            place=place,
            hint="a checkpoint is five lines or more, kept as `anchor` wrote them",
        )
    return [
        Anchor(place, note["origin"].decode(errors="replace"), note[0].rstrip(b"\n") + b"\n")
        for note in notes
    ]


def in_path(path: Path) -> list[Anchor]:
    """The checkpoints of a file, or of all files below a directory.

    Raises:
        InputError: a file holds none, or can't be read.
    """
    if not path.exists():
        raise InputError("no such file or directory", place=str(path), hint="check --anchors")
    files = [path]
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file())
    if not files:
        raise InputError("nothing is anchored here", place=str(path), hint="check --anchors")
    found = []
    for file in files:
        try:
            if file.stat().st_size > FILE_BYTES_MAX:
                raise InputError("too large to be a file of checkpoints", place=str(file))
            found += in_text(file.read_bytes(), str(file))
        except OSError as error:
            raise InputError(f"can't be read: {error.strerror}", place=str(file)) from error
    return found


def compare(
    anchors: Iterable[Anchor], chains: Mapping[str, Chain | None], *, whole: bool
) -> tuple[list[str], dict[str, list[VerificationError]]]:
    """What the anchors show of a store: notes, and of each anchored origin its faults.

    A fault is an anchor that none of the log's keys signed, or not the one of its time; a log that
    doesn't continue it; two checkpoints of one size that contradict each other.

    Args:
        anchors: as they were kept.
        chains: the checked chain of each origin; None where it is broken, which nothing is compared
            with.
        whole: these are all origins of the store, so that an anchored one that is missing was
            taken away.
    """
    by_origin: dict[str, list[Anchor]] = {}
    for anchor in anchors:
        by_origin.setdefault(anchor.origin, []).append(anchor)
    notes = []
    faults: dict[str, list[VerificationError]] = {}
    for origin, given in sorted(by_origin.items()):
        if chain := chains.get(origin):
            faults[origin], newest = _compare_origin(given, chain)
            if not faults[origin]:
                notes.append(
                    f"{origin}: continues {len(given)} anchor(s), the newest of size {newest}"
                )
        elif whole and origin not in chains:
            fault = f"origin {origin!r} is anchored and isn't in this store"
            faults[origin] = [VerificationError(fault, place=given[0].place)]
    notes += [
        f"{origin}: not anchored there" for origin in sorted(chains.keys() - by_origin.keys())
    ]
    return notes, faults


def _compare_origin(anchors: Sequence[Anchor], chain: Chain) -> tuple[list[VerificationError], int]:
    """Every fault, and the largest size that is anchored."""
    head = chain.head
    known: dict[int, tuple[bytes, str]] = {head.size: (head.root, "the store's own head")}
    signers: dict[int, list[tuple[Checkpoint, VerifierKey, str]]] = {}
    faults = []
    for anchor in anchors:
        try:
            checkpoint, signer = _opened(anchor, chain)
        except VerificationError as error:
            faults.append(error)
            continue
        root, place = known.setdefault(checkpoint.size, (checkpoint.root, anchor.place))
        if root != checkpoint.root:
            faults.append(
                VerificationError(
                    f"equivocation: two checkpoints of {chain.origin} at size {checkpoint.size}, "
                    "both signed by its key",
                    place=anchor.place,
                    expected=f"root {root.hex()} ({place})",
                    found=checkpoint.root.hex(),
                )
            )
        signers.setdefault(checkpoint.size, []).append((checkpoint, signer, anchor.place))
    for size, root in _roots(chain, signers).items():
        expected, place = known[size]
        if root != expected:
            faults.append(
                VerificationError(
                    f"log was rewritten: root at size {size} differs from the anchored one",
                    place=place,
                    expected=expected.hex(),
                    found=root.hex(),
                )
            )
        faults += _of_another_time(chain, [one for one in signers[size] if one[0].root == root])
    largest = max(known)
    if largest > head.size:
        faults.append(
            VerificationError(
                "log was cut",
                place=known[largest][1],
                expected=f"{largest} manifests or more, as anchored",
                found=head.size,
            )
        )
    return faults, max(signers, default=0)


def _of_another_time(
    chain: Chain, opened: Iterable[tuple[Checkpoint, VerifierKey, str]]
) -> Iterator[VerificationError]:
    """Anchors that a key of the log signed before it was in force, or after."""
    for checkpoint, signer, place in opened:
        try:
            check_signer(chain, checkpoint, signer)
        except VerificationError as error:
            yield error.at(place)


def _opened(anchor: Anchor, chain: Chain) -> tuple[Checkpoint, VerifierKey]:
    try:
        return open_checkpoint(anchor.note, chain.keys)
    except VerificationError as error:
        raise VerificationError(
            f"anchor of {anchor.origin}: {error.fault}",
            place=anchor.place,
            expected=error.expected,
            found=error.found,
            hint="the log was signed anew with another key, or cut back to before a change of keys; "
            "or the anchor isn't of this log",
        ) from error


def _roots(chain: Chain, sizes: Iterable[int]) -> dict[int, bytes]:
    """The chain's root at each of these sizes that it has reached, in one pass."""
    wanted = set(sizes)
    tree = CompactRange()
    found = {0: tree.root()} if 0 in wanted else {}
    for leaf in chain.leaf_hashes:
        tree = tree.append(leaf)
        if tree.size in wanted:
            found[tree.size] = tree.root()
    return found


def publish(directory: Path, head: Checkpoint, note: bytes) -> bool:
    """Puts a checkpoint into a directory; False if it is there already.

    Raises:
        ConfigError: there is no such directory.
        StoreError: it can't be written.
        VerificationError: another text is there under its name.
    """
    if not directory.is_dir():
        raise ConfigError("no such directory", place=str(directory), hint="make it, or mount it")
    origin_layout(directory, head.origin)  # the name becomes a path
    path = directory / name(head)
    durable.make_directory(path.parent)
    try:
        durable.create(path, note)
    except FileExistsError:
        if path.read_bytes() != note:
            raise VerificationError("holds another checkpoint", place=str(path)) from None
        return False
    return True
