"""Checkpoints known from elsewhere, held against the logs that `verify` has read.

Files, sizes or anchors enter, beside what is known of each origin. Leaves: notes of what a checkpoint shows, or
a fault with the origin whose log was cut or rewritten. Signatures of heads and manifests were checked
before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scalple.ingest.errors import ConfigError, VerificationError
from scalple.store import anchors, history, witness
from scalple.store.anchors import Anchor
from scalple.store.chain import Chain, check_signer, placed
from scalple.store.checkpoint import open_checkpoint, origin_of
from scalple.store.layout import OriginLayout
from scalple.store.note import VerifierKey
from scalple.store.source import Source
from scalple.store.verifyreport import Fault
from scalple.store.witness import WitnessKey


@dataclass(slots=True)
class OriginState:
    """What is known of one origin while it is checked."""

    layout: OriginLayout
    outside: list[VerifierKey]
    chain: Chain | None = None
    busy: bool = False
    since: int = 0
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def continues(path: Path, origins: Sequence[OriginState]) -> list[str]:
    """Step 5."""
    data = _given(path)
    with placed(path):
        one = _named(data, origins)
        size = _size_of(one, data, path)
    return [] if size is None else [f"{one.layout.origin}: continues the checkpoint of size {size}"]


def begin_at(text: str, origins: Sequence[OriginState]) -> None:
    """Commits covered by this checkpoint (a file, or the size of one) aren't read again."""
    path = Path(text)
    if text.isascii() and text.isdigit() and len(text) < 20 and not path.exists():
        if len(origins) != 1:
            raise ConfigError(
                "a size, and several logs", place="--since-checkpoint", hint="give --origin NAME"
            )
        one, size = origins[0], int(text)
        if one.chain is not None and size > one.chain.tree.size:
            _cut(one, size, str(one.layout.checkpoint))
            return
        how = "by its number alone: give its file to show that it was this log's"
    else:
        data = _given(path)
        with placed(path):
            one = _named(data, origins)
            found = _size_of(one, data, path)
        if found is None:
            return
        size, how = found, "which is this log's beginning"
    one.since = max(one.since, size)
    one.notes.append(
        f"{one.layout.origin}: only files of manifests from {size} on were read; the rest is covered "
        f"by the checkpoint of size {size}, {how}"
    )


def held_against(
    anchored: Sequence[Anchor],
    witnesses: Sequence[WitnessKey],
    origins: Sequence[OriginState],
    *,
    whole: bool,
) -> tuple[list[str], list[Fault]]:
    """Step 5, of anchors: notes, and faults of origins that aren't here. With witnesses each anchor
    must be cosigned by one of them; `whole`: these are all origins of the store."""
    by_name = {one.layout.origin: one for one in origins}
    believed: list[Anchor] = []
    elsewhere: list[Fault] = []
    for anchor in anchored:
        if not witnesses or witness.cosigned(anchor.note, witnesses):
            believed.append(anchor)
            continue
        what = f"anchor of {anchor.origin} isn't cosigned by a witness that was given"
        one = by_name.get(anchor.origin)
        (one.faults if one else elsewhere).append(Fault(anchor.place, what))
    chains = {one.layout.origin: one.chain for one in origins}
    notes, faults = anchors.compare(believed, chains, whole=whole) if believed else ([], {})
    for name, some in faults.items():
        found = [Fault.of(error, name) for error in some]
        (by_name[name].faults if name in by_name else elsewhere).extend(found)
    return notes, elsewhere


def look_back(remote: Source, origins: Sequence[OriginState]) -> list[str]:
    """What older versions in a bucket show of origins whose chain is intact."""
    chains = {one.layout.origin: one.chain for one in origins if one.chain is not None}
    notes, faults = history.check(remote, chains)
    for one in origins:
        place = str(one.layout.directory)
        one.faults += [Fault.of(error, place) for error in faults.get(one.layout.origin, ())]
    return notes


def _named(data: bytes, origins: Sequence[OriginState]) -> OriginState:
    name = origin_of(data)
    for one in origins:
        if one.layout.origin == name:
            return one
    raise VerificationError(f"checkpoint of another origin: {name!r}")


def _size_of(one: OriginState, data: bytes, path: Path) -> int | None:
    """The size of a checkpoint that is a beginning of this log; else the origin has a fault.

    Raises:
        VerificationError: none of the log's keys signed it.
    """
    if one.chain is None:
        return None
    earlier, signer = open_checkpoint(data, one.chain.keys)
    if earlier.size > one.chain.tree.size:
        _cut(one, earlier.size, str(path))
        return None
    root = one.chain.root_at(earlier.size)
    if root != earlier.root:
        one.faults.append(
            Fault(
                str(path),
                f"log was rewritten: root at size {earlier.size} differs",
                earlier.root.hex(),
                root.hex(),
            )
        )
        return None
    check_signer(one.chain, earlier, signer)
    return earlier.size


def _cut(one: OriginState, size: int, place: str) -> None:
    assert one.chain is not None
    found = f"{one.chain.tree.size}"
    one.faults.append(Fault(place, "log was cut", f"{size} manifests or more", found))


def _given(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read: {error.strerror}", place=str(path)) from error
