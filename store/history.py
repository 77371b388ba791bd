"""What a bucket that keeps versions still knows of a store.

A store in a bucket and the checked chains enter; notes leave, or a VerificationError. Old heads are
anchors that nobody had to publish: with Object Lock nobody can take them away. A manifest that was
deleted, or a file that once had other bytes, is nobody's honest doing. Without versions it says so.
"""

from collections.abc import Mapping

from scalple.ingest.errors import InputError, VerificationError
from scalple.store import anchors
from scalple.store.anchors import Anchor
from scalple.store.chain import Chain
from scalple.store.layout import manifest_number, segment_parts
from scalple.store.note import VerifierKey
from scalple.store.source import Source


def check(remote: Source, heads: Mapping[str, tuple[VerifierKey, Chain]]) -> list[str]:
    """Notes on what older versions show.

    Raises:
        VerificationError: they contradict the store.
    """
    old: list[Anchor] = []
    notes = []
    if remote.keeps_versions is None:
        notes.append("whether the bucket keeps versions isn't told: older heads weren't looked at")
    for path, contents, is_there in remote.history():
        origin = path.parent.name if path.name in ("checkpoint", "public-key") else None
        if path.name == "checkpoint" and origin in heads:
            for data in contents:
                try:
                    old += anchors.in_text(data, f"{path}, an older version")
                except InputError:
                    notes.append(f"{path}: a version is no checkpoint at all")
        elif path.parent.parent.name not in heads and origin not in heads:
            continue
        elif len(set(contents)) > 1:
            raise VerificationError("was overwritten: its versions differ", place=str(path))
        elif not is_there and (
            manifest_number(path.name) is not None or _is_named(path.name, heads)
        ):
            raise VerificationError("was deleted", place=str(path))
    if old:
        notes += [f"{note} (older heads in the bucket)" for note in _compared(old, heads)]
    return notes


def _is_named(name: str, heads: Mapping[str, tuple[VerifierKey, Chain]]) -> bool:
    """Whether a manifest names the segment."""
    if segment_parts(name) is None:
        return False
    chains = [chain for _, chain in heads.values()]
    return any(
        segment.file == name
        for chain in chains
        for manifest in chain.manifests
        for segment in manifest.segments
    )


def _compared(old: list[Anchor], heads: Mapping[str, tuple[VerifierKey, Chain]]) -> list[str]:
    told = anchors.compare(old, heads, whole=False)
    return [note for note in told if "not anchored" not in note]
