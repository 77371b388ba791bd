"""The files of an index and its head, as `verify` reads them: their hashes, and what else a head says.

Opens no Parquet: that is `indexcompare`'s.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from scalple.ingest.errors import VerificationError
from scalple.store import strict
from scalple.store.chain import read_bytes
from scalple.store.index import Index, IndexFile, Run
from scalple.store.layout import OriginLayout
from scalple.store.manifest import sha256_hex

HINT = "the index is derived: deleting index/ loses nothing, and `compact` makes it again"


def differences(
    layout: OriginLayout, what: str, found: Mapping[str, Any], expected: Mapping[str, Any]
) -> Iterator[VerificationError]:
    """A fault for everything that a part of the head should say and doesn't."""
    for name, value in expected.items():
        if found[name] != value:
            yield VerificationError(
                f"index, {what}: {name} differs",
                place=str(layout.index_head),
                hint=HINT,
                expected=value,
                found=found[name],
            )


def without_files(said: Index | Run) -> dict[str, Any]:
    """All else that a head says."""
    plain: dict[str, Any] = strict.plain(said)
    plain.pop("runs", None)
    for one in (plain, plain.get("numbering") or {}):
        one.pop("files", None)
        one.pop("positions", None)
    return plain


def read_file(layout: OriginLayout, file: IndexFile) -> bytes:
    """The bytes of a file.

    Raises:
        VerificationError: it is missing, or they are others.
    """
    path = layout.index / file.name
    stored = read_bytes(path)
    if sha256_hex(stored) != file.sha256:
        raise VerificationError(
            "SHA-256 differs",
            place=str(path),
            hint=HINT,
            expected=file.sha256,
            found=sha256_hex(stored),
        )
    return stored
