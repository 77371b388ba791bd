"""How many audit rows were committed under each subject key, by what manifests say of it.

Manifests enter in order, or counts of some; one list of counts leaves. Which key an object names isn't
looked up here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from scalple.store.manifest import Count, Manifest, Sha256

SUBJECT_KEY = "subject-key"
"""What a manifest calls the object with the id of the key that the tokens were made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRows:
    """What was committed under one key."""

    sha256: Sha256 | None
    """Of the object; None: the manifests name no key."""
    rows: Count
    """Of kind `audit`."""
    first: str
    """`committed_at` of the first of these manifests."""
    last: str


def counted(manifests: Iterable[Manifest]) -> list[KeyedRows]:
    """By key; the one that was named last comes last."""
    return joined(one for manifest in manifests for one in of_manifest(manifest))


def of_manifest(manifest: Manifest) -> list[KeyedRows]:
    """What one of them says; nothing where it names no key and has no rows."""
    sha256, when = manifest.objects.get(SUBJECT_KEY), manifest.committed_at
    rows = sum(one.rows for one in manifest.segments if one.kind == "audit")
    return [KeyedRows(sha256=sha256, rows=rows, first=when, last=when)] if sha256 or rows else []


def joined(parts: Iterable[KeyedRows]) -> list[KeyedRows]:
    """Counts that follow one another as one; the key that was named last comes last."""
    found: dict[str | None, tuple[int, str, str]] = {}
    for one in parts:
        rows, first, _ = found.pop(one.sha256, (0, one.first, ""))
        found[one.sha256] = rows + one.rows, first, one.last
    return [
        KeyedRows(sha256=sha256, rows=rows, first=first, last=last)
        for sha256, (rows, first, last) in found.items()
    ]
