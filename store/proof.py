"""Proofs that rows are in the signed log, and their check with nothing but the public key.

Enters: ids of rows and a store; or the bytes of a proof and verifier keys. Leaves: the proof, or
the rows that it proves. A proof holds, for each row, its canonical bytes, its salt and the path to
its segment's root; the manifest that names that root; and a C2SP tlog-proof of the manifest, signed
checkpoint included (docs/FORMAT.md, "Proof"). It shows that the rows are in the log, not that the
log holds no others. Beside an audit row stand its revisions and the evidence that it cites.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from scalple.correlate.record import KINDS
from scalple.ingest.errors import InputError, VerificationError
from scalple.store import merkle
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.decoding import decode_row
from scalple.store.encoding import encode_rows
from scalple.store.expiry import Expiry
from scalple.store.manifest import Manifest
from scalple.store.note import VerifierKey
from scalple.store.parts import Part
from scalple.store.reader import StoreReader
from scalple.store.rowid import RowId
from scalple.store.rowtree import SALT_BYTES, salts

VERSION = 1
_FORM = {"v": int, "proves": list, "rows": list, "manifests": list}
_ROW_FORM = {
    "id": str,
    "origin": str,
    "kind": str,
    "seq": int,
    "manifest": int,
    "row": str,
    "salt": str,
    "path": list,
}
_MANIFEST_FORM = {"origin": str, "n": int, "manifest": str, "tlog_proof": str}
_TLOG_PROOF = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proven:
    """A row that is in the log.

    Attributes:
        id: as questions show it.
        values: what was hashed, by column.
        head: the checkpoint that covers it.
        committed_at: when it was committed, by the writer's clock.
    """

    id: RowId
    values: dict[str, Any]
    head: Checkpoint
    committed_at: datetime


def make(reader: StoreReader, ids: Iterable[RowId]) -> dict[str, Any]:
    """A proof of audit rows, with what was revised of them and the evidence they cite.

    Raises:
        InputError: there is no such row.
        VerificationError: a segment isn't what its manifest says.
    """
    maker = _Maker(reader)
    asked = list(dict.fromkeys(ids))
    for one in asked:
        maker.want(one)
    rows = maker.rows()
    cited = [RowId.parse(text) for row in rows for text in row["cites"]]
    for one in dict.fromkeys(one for one in cited if one is not None):
        if one not in asked and not maker.expired(one):
            maker.want(one)
    rows += maker.rows()
    return {
        "v": VERSION,
        "proves": [str(one) for one in asked],
        "rows": [{name: row[name] for name in row if name != "cites"} for row in rows],
        "manifests": maker.manifests(),
    }


class _Maker:
    """Reads each segment once, for all the rows that are wanted of it."""

    def __init__(self, reader: StoreReader) -> None:
        self._reader = reader
        self._wanted: dict[str, tuple[Part, list[RowId]]] = {}
        self._named: dict[tuple[str, int], None] = {}

    def want(self, row: RowId) -> None:
        part = self._reader.part(row.origin, row.kind, row.seq) if row.kind in KINDS else None
        if part is None and (act := self.expired(row)) is not None:
            raise InputError(
                f"row {row} has expired ({act.reason}; on {act.decided_at[:10]}): nothing of it is left "
                "but its place in the log",
                hint="a proof that was made before still checks",
            )
        if part is None:
            raise InputError(
                f"there is no row {row}", hint="ids are shown as log_id by query and sql"
            )
        self._wanted.setdefault(part.record.file, (part, []))[1].append(row)

    def expired(self, row: RowId) -> Expiry | None:
        """By which act a row expired, if it did."""
        if row.origin not in self._reader.origins:
            return None
        return self._reader.expired(row.origin).of_row(row.kind, row.seq)

    def rows(self) -> list[dict[str, Any]]:
        """Those wanted since the last call, audit rows followed by their revisions."""
        wanted, self._wanted = self._wanted, {}
        found = [row for part, ids in wanted.values() for row in self._of(part, ids)]
        audit = {(row["origin"], row["seq"]) for row in found if row["kind"] == "audit"}
        if audit:
            for one in self._revising(audit):
                self.want(one)
            revising, self._wanted = self._wanted, {}
            found += [row for part, ids in revising.values() for row in self._of(part, ids)]
        return found

    def _revising(self, audit: set[tuple[str, int]]) -> Iterator[RowId]:
        for ref in self._reader.segments("revisions"):
            table = ref.table()
            pairs = zip(table["seq"].to_pylist(), table["audit_seq"].to_pylist(), strict=True)
            for seq, of in pairs:
                if (ref.origin, of) in audit:
                    yield RowId(ref.origin, "revisions", seq)

    def _of(self, part: Part, ids: list[RowId]) -> list[dict[str, Any]]:
        segment, tree = part.read()
        salt = salts(segment.salt_key, segment.table.num_rows)
        self._named[part.layout.origin, part.n] = None
        found = []
        for one in sorted(ids, key=lambda row: row.seq):
            at = one.seq - part.record.first_seq
            batch = segment.table.slice(at, 1).combine_chunks().to_batches()[0]
            data = encode_rows(batch, np.zeros((1, 0), np.uint8))[0].as_py()
            values = decode_row(KINDS[one.kind], data)
            found.append(
                {
                    "id": str(one),
                    "origin": one.origin,
                    "kind": one.kind,
                    "seq": one.seq,
                    "manifest": part.n,
                    "row": _b64(data),
                    "salt": _b64(salt[at].tobytes()),
                    "path": [_b64(step) for step in tree.inclusion_proof(at, tree.size)],
                    "cites": _cited(values),
                }
            )
        return found

    def manifests(self) -> list[dict[str, Any]]:
        """Each manifest that a row stands under, with its proof."""
        found = []
        trees: dict[str, merkle.Tree] = {}
        for origin, n in sorted(self._named):
            chain = self._reader.chain(origin)
            tree = trees.get(origin) or merkle.Tree(b"".join(chain.leaf_hashes))
            trees[origin] = tree
            path = tree.inclusion_proof(n, tree.size)
            lines = [_TLOG_PROOF, f"index {n}", *map(_b64, path), "", ""]
            head = self._reader.signed_head(origin)
            found.append(
                {
                    "origin": origin,
                    "n": n,
                    "manifest": chain.manifests[n].to_bytes().decode(),
                    "tlog_proof": "\n".join(lines) + head,
                }
            )
        return found


def _cited(values: Mapping[str, Any]) -> list[str]:
    """Ids that a row cites; a revision names its own evidence."""
    return [*(values.get("attribution_evidence") or ()), *(values.get("evidence") or ())]


def check(data: bytes, keys: Mapping[str, Sequence[VerifierKey]]) -> list[Proven]:
    """The rows that a proof proves, in its order.

    Args:
        data: the proof's bytes.
        keys: origin -> its public keys, known from elsewhere; any of them may have signed.

    Raises:
        VerificationError: it proves nothing; says which step fails.
    """
    try:
        proof = strict_json(data)
        if type(proof["v"]) is not int or proof["v"] != VERSION:
            raise VerificationError(f"proof of version {proof['v']}, {VERSION} is known here")
        _check_form(proof, data)
        heads = {
            (one["origin"], one["n"]): _check_manifest(one, keys) for one in proof["manifests"]
        }
        found = [_check_row(row, heads) for row in proof["rows"]]
        asked = proof["proves"]
        proven = [str(one.id) for one in found]
        if missing := [one for one in asked if one not in proven]:
            raise VerificationError(f"no proof of {missing[0]}")
        if set(proven[: len(asked)]) != set(asked) or len(set(asked)) < len(asked):
            raise VerificationError("the rows asked for aren't the first ones, each once")
    except VerificationError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise VerificationError(f"not a proof: {type(error).__name__}: {error}") from error
    return found


def to_bytes(made: dict[str, Any]) -> bytes:
    """A proof as its file holds it; `check` takes it in no other spelling."""
    return (json.dumps(made, ensure_ascii=False, indent=1) + "\n").encode()


def _check_form(proof: dict[str, Any], data: bytes) -> None:
    """Nothing stands in a proof that isn't checked, and each thing is said in one way only."""
    if to_bytes(proof) != data:
        raise VerificationError("proof isn't written as `prove` writes it")
    for known, parts in (
        (_FORM, [proof]),
        (_ROW_FORM, proof["rows"]),
        (_MANIFEST_FORM, proof["manifests"]),
    ):
        for part in parts:
            if list(part) != list(known):
                raise VerificationError(f"proof: unknown, missing or moved keys: {list(part)}")
            if wrong := [name for name, kind in known.items() if type(part[name]) is not kind]:
                raise VerificationError(f"proof: {wrong[0]} is of another type")
    rows = [row["id"] for row in proof["rows"]]
    manifests = [(one["origin"], one["n"]) for one in proof["manifests"]]
    if not rows or len(set(rows)) < len(rows) or len(set(manifests)) < len(manifests):
        raise VerificationError("proof: no row, or a row or manifest twice")


def strict_json(data: bytes) -> Any:
    """JSON in which no object says one thing twice: readers differ in which one they believe.

    Raises:
        ValueError: it does, or isn't JSON.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("an object has a key twice")
        return found

    try:
        return json.loads(data, object_pairs_hook=once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _check_manifest(
    one: Mapping[str, Any], keys: Mapping[str, Sequence[VerifierKey]]
) -> tuple[Manifest, Checkpoint]:
    origin = one["origin"]
    if origin not in keys:
        raise VerificationError(
            f"no public key of origin {origin!r}", hint="give its key with --public-key FILE"
        )
    data = one["manifest"].encode()
    manifest = Manifest.from_bytes(data)
    index, path, note = _parse_tlog_proof(one["tlog_proof"])
    head, _ = open_checkpoint(note, keys[origin])
    if (manifest.origin, manifest.n) != (origin, one["n"]) or index != manifest.n:
        raise VerificationError(f"manifest {one['n']} of {origin} is another one")
    merkle.verify_inclusion(merkle.leaf_hash(data), index, head.size, path, head.root)
    return manifest, head


def _parse_tlog_proof(text: str) -> tuple[int, list[bytes], bytes]:
    lines, _, note = text.partition("\n\n")
    first, index, *path = lines.split("\n")
    number = int(index.removeprefix("index "))
    if first != _TLOG_PROOF or index != f"index {number}":
        raise VerificationError("not a tlog-proof")
    return number, [_from_b64(one) for one in path], note.encode()


def _check_row(
    row: Mapping[str, Any], heads: Mapping[tuple[str, int], tuple[Manifest, Checkpoint]]
) -> Proven:
    found = RowId(row["origin"], row["kind"], row["seq"])
    if str(found) != row["id"] or (found.origin, row["manifest"]) not in heads:
        raise VerificationError(f"{row['id']}: stands under no manifest of the proof")
    manifest, head = heads[found.origin, row["manifest"]]
    record = next(
        (
            one
            for one in manifest.segments
            if one.kind == found.kind and one.first_seq <= found.seq < one.first_seq + one.rows
        ),
        None,
    )
    if record is None:
        raise VerificationError(f"{found}: its manifest holds no such row")
    data, salt = _from_b64(row["row"]), _from_b64(row["salt"])
    if len(salt) != SALT_BYTES:
        raise VerificationError(f"{found}: its salt hasn't {SALT_BYTES} bytes")
    merkle.verify_inclusion(
        merkle.leaf_hash(salt + data),
        found.seq - record.first_seq,
        record.rows,
        [_from_b64(one) for one in row["path"]],
        bytes.fromhex(record.rows_root),
    )
    values = decode_row(KINDS[found.kind], data)
    if (values["seq"], values["origin"]) != (found.seq, found.origin):
        raise VerificationError(f"{found}: the row is {values['origin']} {values['seq']}")
    return Proven(found, values, head, datetime.fromisoformat(manifest.committed_at))


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_b64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise VerificationError("not base64") from error
    if _b64(data) != text:
        raise VerificationError("not canonical base64")
    return data
