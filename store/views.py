"""The views that questions are asked of: audit, evidence, denied, gaps, unparsed, revisions; expired.

A store enters; a DuckDB connection leaves that can read the store's checked segments and no
other file, and whose configuration is locked. `audit` shows the newest revision of each row.
What a user's own SQL may do with the connection is `guard`'s; questions are `query`'s.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import duckdb

from scalple.correlate.evidencesql import silences_sql
from scalple.correlate.recordcolumns import AUDIT, KINDS, SUBJECTS
from scalple.ingest.columntypes import BIGINT, TEXT, TEXTS, TIME, UBIGINT
from scalple.store import session
from scalple.store.expiry import DIGEST
from scalple.store.reader import StoreReader
from scalple.store.rows import make_table
from scalple.store.sqlfile import sql_file

REVISABLE = (
    "success",
    "sqlstate",
    "session_user_id",
    "session_email",
    "actor_kind",
    "on_behalf_of",
    "peer_addr",
    "peer_port",
    "session_authn",
    "attribution_grade",
    "attribution_method",
    "attribution_reason",
    "attribution_evidence",
    "attribution_candidates",
    "subjects",
    "findings",
)
"""The derived columns that later evidence may change; what was logged never changes."""


_AUDIT = dict(AUDIT)


def connect(
    store_dir: Path, origin: str | None = None, as_of: datetime | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection with the views over one origin of a store, or over all of them.

    With `as_of`, what was known then: rows and revisions committed later are left out.

    Raises:
        ConfigError: there is no store, or no such origin in it.
        VerificationError: a head, a chain or a segment isn't intact.
    """
    return connect_reader(StoreReader.open(store_dir, origin), as_of)


def connect_reader(
    reader: StoreReader,
    as_of: datetime | None = None,
    access: StoreReader | None = None,
    digests: Sequence[Path] | None = None,
) -> duckdb.DuckDBPyConnection:
    """A connection with the views over what a reader covers; `as_of` as in `connect`.

    `access` covers the log of questions, for the view of that name. Who gives
    `digests` may read these as well, and has no view `gaps`: it knows a shorter way.
    """
    readers = {kind: access if access and kind == "access" else reader for kind in KINDS}
    paths = {
        kind: [str(segment.path.absolute()) for segment in one.segments(kind, as_of)]
        for kind, one in readers.items()
    }
    known = {kind: _known(one.ends(kind, as_of)) for kind, one in readers.items()}
    con = session.take()
    allowed = [path for found in paths.values() for path in found]
    allowed += [str(path.absolute()) for path in digests or ()]
    con.execute("SET allowed_paths = $1", [allowed])
    con.execute("SET enable_external_access = false")
    for kind in KINDS:
        if kind not in ("audit", "gaps"):
            rows = _rows(kind, "id", f"/{kind}#", paths[kind], known[kind])
            con.execute(f"CREATE VIEW {kind} AS {rows}")
    audit = audit_sql(paths["audit"], known["audit"], revised=bool(paths["revisions"]))
    con.execute(f"CREATE VIEW audit AS {audit}")
    gaps = _rows("gaps", "id", "/gaps#", paths["gaps"], known["gaps"])
    con.execute(f"CREATE VIEW committed_gaps AS {gaps}")
    if digests is None:
        con.execute(f"CREATE VIEW gaps AS {gaps_sql()}")
    _tell_expired(
        con, [reader, access] if access and access.origins != reader.origins else [reader]
    )
    con.execute("SET lock_configuration = true")
    return con


_EXPIRED = {
    "origin": TEXT,
    "kind": TEXT,
    "rows": BIGINT,
    "first_seq": UBIGINT,
    "oldest": TIME,
    "newest": TIME,
    "expired_at": TIME,
    "manifest": BIGINT,
    "profiles": TEXTS,
    "reason": TEXT,
}


def _tell_expired(con: duckdb.DuckDBPyConnection, readers: Sequence[StoreReader]) -> None:
    """The table `expired`: what isn't there any more, and why."""
    rows = [
        {
            "origin": origin,
            "kind": part.kind,
            "rows": part.rows,
            "first_seq": part.first_seq,
            "oldest": datetime.fromisoformat(part.oldest) if part.oldest else None,
            "newest": datetime.fromisoformat(part.newest) if part.newest else None,
            "expired_at": datetime.fromisoformat(act.decided_at),
            "manifest": n,
            "profiles": list(act.profiles),
            "reason": act.reason,
        }
        for reader in readers
        for origin in reader.origins
        for n, act in reader.expired(origin).acts
        for part in act.parts
        if part.kind != DIGEST
    ]
    columns = {name: (kind, [row[name] for row in rows]) for name, kind in _EXPIRED.items()}
    make_table(con, "expired", columns, temporary=False)


def audit_sql(paths: list[str], where: str = "true", *, revised: bool) -> str:
    """The rows of `audit` that these files hold; `where` is said of them as committed."""
    committed = _rows("audit", "log_id", "#", paths, where)
    return _revised(committed) if revised else committed


def _known(ends: Mapping[str, int]) -> str:
    """What had been committed, where files hold later rows as well."""
    later = [f"(origin = '{origin}' AND seq >= {end})" for origin, end in ends.items()]
    return f"NOT ({' OR '.join(later)})" if later else "true"


def _rows(kind: str, id_name: str, between: str, paths: list[str], where: str) -> str:
    """The rows of a kind as committed, the id first; no rows when there is no segment."""
    if not paths:
        columns = ", ".join(f'NULL::{of} AS "{name}"' for name, of in KINDS[kind])
        return f"SELECT NULL::VARCHAR AS {id_name}, {columns} WHERE false"
    columns = ", ".join(f'"{name}"' for name, _ in KINDS[kind])
    row_id = f"origin || '{between}' || seq AS {id_name}"
    return f"SELECT {row_id}, {columns} FROM read_parquet({path_list(paths)}) WHERE {where}"


def gaps_sql(audit: str | None = None, evidence: str | None = None) -> str:
    """What is missing, in the columns of the committed rows.

    `audit`: a SELECT of the origin, log_time and attribution_reason of all statements; by default
    the view of that name. `evidence`: a relation with what is read of the evidence, likewise.
    """
    columns = ", ".join(f'"{name}"' for name, _ in KINDS["gaps"])
    beside = "" if audit is None else f"audit AS ({audit}), "
    if evidence is not None:
        beside += f"evidence AS (FROM {evidence}), "
    return (
        f"SELECT id, {columns} FROM (WITH {beside}committed AS (FROM committed_gaps), "
        f"silences AS ({silences_sql('evidence')}) FROM ({sql_file('gaps.sql')}))"
    )


def _revised(audit: str) -> str:
    newest = ",\n    ".join(
        f"arg_max(changes->'$.{name}', seq) FILTER (json_exists(changes, '$.{name}')) AS {name}"
        for name in REVISABLE
    )
    revised = sql_file("revised.sql").format(columns=newest, revisions="revisions")
    changed = ", ".join(
        f'CASE WHEN r."{name}" IS NULL THEN a."{name}" ELSE {_from_json(name)} END AS "{name}"'
        for name in REVISABLE
    )
    return (
        f"SELECT a.* REPLACE ({changed}) FROM ({audit}) AS a "
        f"LEFT JOIN ({revised}) AS r ON r.origin = a.origin AND r.audit_seq = a.seq"
    )


def _from_json(name: str) -> str:
    kind = _AUDIT[name]
    if name == "subjects":  # JSON has no bytes: `sealed` is hexadecimal there
        text = SUBJECTS.replace("BLOB", "VARCHAR")
        fields = 'token := s.token, "column" := s."column", basis := s.basis'
        sealed = "sealed := unhex(s.sealed)"
        return f"list_transform(r.subjects::{text}, lambda s: struct_pack({fields}, {sealed}))"
    if kind == TEXTS:
        return f'r."{name}"::{kind}'
    return f"(r.\"{name}\"->>'$')::{kind}"


def path_list(paths: list[str]) -> str:
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"[{quoted}]"
