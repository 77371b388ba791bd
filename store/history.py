"""What a bucket that keeps versions still knows of a store.

A store in a bucket and the checked chains enter; notes and faults leave. Old heads are
anchors that nobody had to publish: with Object Lock nobody can take them away. A manifest that was
deleted, or a file that once had other bytes, is nobody's honest doing. Without versions it says so.
"""

from collections.abc import Mapping

from scalple.ingest.errors import InputError, VerificationError
from scalple.store import anchors
from scalple.store.anchors import Anchor
from scalple.store.chain import Chain
from scalple.store.keys import public_keys_text
from scalple.store.layout import manifest_number, segment_parts
from scalple.store.source import Source


def check(
    remote: Source, chains: Mapping[str, Chain]
) -> tuple[list[str], dict[str, list[VerificationError]]]:
    """Notes on what older versions show, and of each origin what they contradict."""
    old: list[Anchor] = []
    notes: list[str] = []
    faults: dict[str, list[VerificationError]] = {origin: [] for origin in chains}
    if remote.keeps_versions is None:
        notes.append("whether the bucket keeps versions isn't told: older heads weren't looked at")
    for path, contents, is_there in remote.history():
        is_own = path.name in ("checkpoint", "public-key")
        origin = path.parent.name if is_own else path.parent.parent.name
        if origin not in chains or (path.parent.name == "index" and not is_own):
            continue  # an index is derived, and isn't used in a bucket
        if path.name == "checkpoint":
            for data in contents:
                try:
                    old += anchors.in_text(data, f"{path}, an older version")
                except InputError:
                    notes.append(f"{path}: a version is no checkpoint at all")
        elif path.name == "public-key" and _grew(contents, chains[origin]):
            continue
        elif len(set(contents)) > 1:
            fault = "was overwritten: its versions differ"
            faults[origin].append(VerificationError(fault, place=str(path)))
        elif not is_there and (
            manifest_number(path.name) is not None or _is_named(path.name, chains[origin])
        ):
            faults[origin].append(VerificationError("was deleted", place=str(path)))
    if old:
        told, found = anchors.compare(old, chains, whole=False)
        notes += [f"{x} (older heads in the bucket)" for x in told if "not anchored" not in x]
        for origin, some in found.items():
            faults[origin] += some
    return notes, faults


def _grew(contents: list[bytes], chain: Chain) -> bool:
    """Whether every list of keys is a beginning of the log's, as where keys were changed."""
    keys = public_keys_text(chain.keys)
    return all(data and keys.startswith(data) and data.endswith(b"\n") for data in contents)


def _is_named(name: str, chain: Chain) -> bool:
    """Whether a manifest names the segment, and it hasn't expired."""
    return segment_parts(name) is not None and any(
        segment.file == name
        for manifest in map(chain.manifests.expired.left, chain.manifests)
        for segment in manifest.segments
    )
