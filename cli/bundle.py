"""An answer with the proofs of all its rows in one file, and what such a file proves.

Enters: an answer and an open store, or the file's bytes and public keys. Leaves: a ZIP archive of
`answer.json` and `proof.json`; or the rows that are proven, after each row of the answer was found
to be what the log says of it. That the answer leaves nothing out isn't shown by it.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from scalple.cli import render
from scalple.cli.answer import BESIDE
from scalple.correlate.record import AUDIT, DENIED
from scalple.ingest.errors import InputError, VerificationError
from scalple.store import proof
from scalple.store.note import VerifierKey
from scalple.store.proof import Proven
from scalple.store.reader import StoreReader
from scalple.store.rowid import RowId

ROWS_MAX = 20_000
"""A proof has about two kilobytes a row."""
PARTS = ("direct", "possible", "refused")
ANSWER, PROOF = "answer.json", "proof.json"


def bundle(reader: StoreReader, parts: dict[str, Any], as_of: datetime | None) -> bytes:
    """The archive.

    Raises:
        InputError: the answer has too many rows, or none.
    """
    ids = [RowId.parse(_id(row)) for part in PARTS for row in parts[part]]
    if not ids:
        raise InputError(
            "an answer without rows: there is nothing to prove, and that there is nothing can't be",
            place="--bundle",
            hint="leave it out; the answer says what it covers, and what expired",
        )
    if len(ids) > ROWS_MAX:
        raise InputError(
            f"an answer of {len(ids):,} rows; a bundle holds {ROWS_MAX:,}",
            hint="narrow it down: --since, --until",
        )
    made = proof.make(reader, [one for one in ids if one is not None])
    document = {"as_of": render.plain(as_of), **parts}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(ANSWER, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
        archive.writestr(PROOF, proof.to_bytes(made))
    return out.getvalue()


def is_bundle(data: bytes) -> bool:
    """It is an archive rather than a proof."""
    return data[:2] == b"PK"


def check_bundle(data: bytes, keys: Mapping[str, Sequence[VerifierKey]]) -> list[Proven]:
    """The rows that a bundle proves; its answer says the same of them.

    Raises:
        VerificationError: a proof fails, or a row of the answer isn't what the log says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sorted(archive.namelist()) != [ANSWER, PROOF]:
                raise VerificationError(f"a bundle holds {ANSWER} and {PROOF}, each once")
            answer = proof.strict_json(archive.read(ANSWER))
            proven = proof.check(archive.read(PROOF), keys)
        _check_form(answer)
        said = [(part, row) for part in PARTS for row in answer[part]]
        as_of = None if answer["as_of"] is None else datetime.fromisoformat(answer["as_of"])
        known = shown(proven, as_of)
        for part, row in said:
            _compare(part, row, known)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise VerificationError(f"not a bundle: {type(error).__name__}: {error}") from error
    return proven


def _check_form(answer: dict[str, Any]) -> None:
    """An answer says what answers say, each row once."""
    if unknown := answer.keys() - {"as_of", "coverage", "activity", "unsearched", *PARTS}:
        raise VerificationError(f"answer: unknown key {min(unknown)}")
    rows = [row for part in PARTS for row in answer[part]]
    names = [_id(row) for row in rows]
    if not all(isinstance(answer[part], list) for part in PARTS) or len(set(names)) < len(names):
        raise VerificationError("answer: a row stands in it twice")
    known = {"log_id", "id", *AUDIT.names, *DENIED.names, *BESIDE}
    if unknown := {key for row in rows for key in row} - known:
        raise VerificationError(f"answer: unknown key {min(unknown)}")


def _compare(part: str, row: dict[str, Any], known: Mapping[str, dict[str, Any]]) -> None:
    name = _id(row)
    if name not in known:
        raise VerificationError(f"{part}: no proof of {name}")
    differing = [
        key
        for key, value in known[name].items()
        if key not in row or json.dumps(row[key]) != json.dumps(value)  # 1 isn't true
    ]
    if differing:
        raise VerificationError(f"{part}: {name} differs from the log in {', '.join(differing)}")


def _id(row: Mapping[str, Any]) -> str:
    if ("log_id" in row) == ("id" in row):
        raise VerificationError("answer: a row has not one id")
    return str(row["log_id"] if "log_id" in row else row["id"])


def shown(proven: list[Proven], as_of: datetime | None) -> dict[str, dict[str, Any]]:
    """id -> the row as questions show it: audit rows with their newest revisions."""
    rows = {str(one.id): render.plain(one.values) for one in proven}
    revisions = sorted(
        (one for one in proven if one.id.kind == "revisions"),
        key=lambda one: (one.id.origin, one.id.seq),
    )
    for one in revisions:
        if as_of is None or one.committed_at <= as_of:
            row = rows.get(f"{one.id.origin}#{one.values['audit_seq']}")
            if row is not None:
                row.update(_changes(json.loads(one.values["changes"])))
    return rows


def _changes(changes: dict[str, Any]) -> dict[str, Any]:
    """Changed columns, as JSON shows them: sealed values are hexadecimal in a revision."""
    found = {name: value for name, value in changes.items() if name in AUDIT.names}
    for one in found.get("subjects") or ():
        one["sealed"] = render.plain(bytes.fromhex(one["sealed"])) if one["sealed"] else None
    return found
