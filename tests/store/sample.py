"""Small stores to read, break and mend: rows of every kind, positions, objects."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.correlate.record import KINDS
from scalple.store import keys
from scalple.store.manifest import Position
from scalple.store.writer import StoreWriter

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
RULES = b'{"identifiers":{}}'


def table(
    kind: str, first_seq: int, rows: Sequence[dict[str, Any]], origin: str = "db1"
) -> pa.Table:
    """Rows of a kind; what isn't given is NULL. Short text arrives as dictionaries."""
    full = [{"seq": first_seq + at, "origin": origin, **row} for at, row in enumerate(rows)]
    made = pa.Table.from_pylist(full, schema=KINDS[kind])
    coded = made["origin"].dictionary_encode()
    return made.set_column(1, "origin", coded)


def statements(first_seq: int, count: int, origin: str = "db1") -> pa.Table:
    """Audit rows that all differ."""
    rows = [
        {
            "log_time": NOON,
            "database": "app",
            "query": f"SELECT * FROM users WHERE id = {first_seq + at}",
            "parameters": ["a", None, ""] if at % 2 else None,
            "session_user_id": "employee_id_2291",
            "attribution_grade": "proven",
            "affected_tables": ["public.users"],
            "subjects": [{"token": at, "column": "id", "basis": "literal", "sealed": b"\x00\x01"}],
            "findings": [],
        }
        for at in range(count)
    ]
    return table("audit", first_seq, rows, origin)


def position(begin: int, end: int, name: str = "postgresql.csv", **more: Any) -> Position:
    """A position in a file whose head is its name."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Position(
        source="postgres",
        path=f"/var/log/{name}",
        head_sha256=digest,
        head_bytes=64,
        begin=begin,
        end=end,
        sha256=digest,
        tail_sha256=digest,
        **more,
    )


def other_kinds(n: int, origin: str = "db1") -> dict[str, pa.Table]:
    """One row of every kind but audit and revisions, for the n-th commit."""
    rows: dict[str, dict[str, Any]] = {
        "evidence": {"source": "identity", "event": "open", "ts": NOON, "client_port": 1000 + n},
        "denied": {"sqlstate": "42501", "message": "permission denied"},
        "gaps": {"reason": "session-hole", "missing": n},
        "unparsed": {"reason": "no pgAudit record", "raw": b"\xff\x00"},
    }
    return {kind: table(kind, n, [row], origin) for kind, row in rows.items()}


def signing_key(store: Path) -> Ed25519PrivateKey:
    """The key beside the store, made on first use."""
    return keys.signing_key(store, None).private


def open_writer(store: Path, origin: str = "db1", *, create: bool = True) -> StoreWriter:
    """The writer with the key beside the store."""
    return StoreWriter.open(store, origin, signing_key(store), create=create, clock=lambda: NOON)


def make_store(store: Path, commits: int = 3, origin: str = "db1") -> Path:
    """A store of `commits` manifests, four audit rows each, and rows of the other kinds."""
    with open_writer(store, origin) as writer:
        for n in range(writer.head_size, writer.head_size + commits):
            tables = {"audit": statements(4 * n, 4, origin), **other_kinds(n, origin)}
            writer.commit(tables, [position(100 * n, 100 * n + 100)], {"rules": RULES})
    return store


def make_revised_store(store: Path, commits: int) -> Path:
    """The same, and a commit that revises audit row 5 by evidence 3."""
    make_store(store, commits)
    with open_writer(store) as writer:
        change = {
            "audit_seq": 5,
            "changes": json.dumps({"session_user_id": "employee_id_1044"}),
            "evidence": ["db1/evidence#3"],
            "revised_at": NOON,
        }
        writer.commit({"revisions": table("revisions", 0, [change])}, [], {})
    return store


def files(directory: Path) -> list[Path]:
    """Every file below a directory, in order."""
    return sorted(path for path in directory.rglob("*") if path.is_file())
