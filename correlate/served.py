"""The pooler's clients, and clients without a pooler, as columns that statements are joined with.

Enters: evidence. Leaves: for an endpoint, pool and time the client that lived there, and per
client the columns that name its actor. Knows nothing of runs and grades.
"""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.calculator import FEW, calculator
from scalple.correlate.evidence import Evidence
from scalple.correlate.evidencesql import read_sql
from scalple.correlate.logbatch import Bools, Ints
from scalple.correlate.record import TEXTS
from scalple.correlate.sessions import Session
from scalple.ingest.records import TEXT


def evidence_id(origin: str, seq: int) -> str:
    """The id under which the view `evidence` shows that row."""
    return f"{origin}/evidence#{seq}"


class Served:
    """Everyone who can have been served.

    Args:
        origin: the log's name, which evidence ids begin with.
        evidence: everything known about connections.
    """

    def __init__(self, origin: str, evidence: Evidence) -> None:
        self._evidence = evidence
        self._own: duckdb.DuckDBPyConnection | None = None
        self._sql = read_sql("attribution.sql")
        self._sql_cut = read_sql("cut_names.sql")
        self._sql_gone = read_sql("gone_clients.sql")
        # Each client can be found by its endpoint, and by its tag.
        tagged = np.flatnonzero(evidence.client_tag >= 0)
        client = np.concatenate([np.arange(len(evidence.client_endpoint)), tagged])
        self._table = pa.table(
            {
                "client": client,
                "key": np.concatenate([evidence.client_endpoint, evidence.client_tag[tagged]]),
                "pool": evidence.client_pool[client],
                "since": evidence.client_since_us[client],
                "until": evidence.client_until_us[client],
                "there_since": evidence.client_there_since_us[client],
                "there_until": evidence.client_there_until_us[client],
            }
        )
        clients = evidence.clients
        self.texts = {
            name: clients.column(name).combine_chunks().cast(TEXT).dictionary_encode()
            for name in (
                "actor",
                "email",
                "actor_kind",
                "on_behalf_of",
                "peer_addr",
                "authn",
            )
        }
        self.peer_port = clients.column("peer_port").combine_chunks().cast(pa.int32())
        self.by_role = _flags(clients, "by_role")
        self.contradicted = _flags(clients, "contradicted")
        self.named = np.array([one is not None for one in evidence.client_actor], bool)
        ids = zip(
            clients.column("identity_seq").to_pylist(),
            clients.column("pooler_seq").to_pylist(),
            strict=True,
        )
        self.evidence = pa.array(
            [[evidence_id(origin, int(seq)) for seq in pair if seq is not None] for pair in ids],
            TEXTS,
        )

    def join(
        self,
        key: Ints,
        pool: Ints,
        time_us: Ints,
        time_end_us: Ints,
        seen_us: Ints | None = None,
    ) -> tuple[Ints, Ints]:
        """(the latest such client, how many) of each statement's key, pool and time: from … to at most.

        With `seen_us`, of those whom the pooler had at that moment by its own clock.
        """
        n = len(key)
        client = np.full(n, -1, np.int64)
        wanted = np.flatnonzero(key >= 0)
        if not len(wanted) or not self._table.num_rows:
            return client, np.zeros(n, np.int64)
        statements = {
            "row": wanted,
            "key": key[wanted],
            "pool": pool[wanted],
            "log_time": time_us[wanted],
            "log_time_end": time_end_us[wanted],
            "seen": pa.nulls(len(wanted), pa.int64()) if seen_us is None else seen_us[wanted],
        }
        found = self._ask(self._sql, statements=pa.table(statements))
        rows = found.column("row").to_numpy()
        np.maximum.at(client, rows, found.column("client").to_numpy())
        return client, np.bincount(rows, minlength=n)

    def last_gone(self, rows: Ints, key: Ints, pool: Ints, time_us: Ints) -> tuple[Ints, Ints]:
        """(row, client): who bore each key last, for statements after they have gone.

        A statement is logged when it is done, which may be after the pooler saw its client leave.
        """
        statements = {"row": rows, "key": key, "pool": pool, "log_time": time_us}
        found = self._ask(self._sql_gone, statements=pa.table(statements))
        return found.column("row").to_numpy(), found.column("client").to_numpy()

    def join_cut(
        self,
        rows: Ints,
        forms: Ints,
        pool: Ints,
        time_us: Ints,
        time_end_us: Ints,
        ordinal: Ints,
        wholes: pa.Table,
    ) -> tuple[Ints, Ints, Ints]:
        """(row, client, how many) for statements under names that the server cut.

        Args:
            rows: positions of statements; a position may come with several forms.
            forms: a form of the name, per element of `rows`.
            pool, time_us, time_end_us, ordinal: per element of `rows`.
            wholes: what was replayed in full (see `labels.Wholes`).
        """
        statements = {
            "row": rows,
            "form": forms,
            "pool": pool,
            "log_time": time_us,
            "log_time_end": time_end_us,
            "ordinal": ordinal,
        }
        found = self._ask(self._sql_cut, statements=pa.table(statements), wholes=wholes)
        row, client, matches = (found.column(name).to_numpy() for name in found.column_names)
        return row, client, matches

    def _ask(self, sql: str, **tables: pa.Table) -> pa.Table:
        """The answer to a question about these tables and `served`."""
        rows = max(one.num_rows for one in (self._table, *tables.values()))
        con = self._own
        if rows <= FEW:
            con = calculator(rows)
        elif con is None:
            con = self._own = calculator(rows)
        for name, table in (tables | {"served": self._table}).items():
            con.register(name, table)
        found = con.sql(sql).to_arrow_table()
        if con is not self._own:
            con.close()
        return found

    def same_database(
        self, sessions: list[Session], position: Ints, unpooled: Bools, client: Ints, matches: Ints
    ) -> tuple[Ints, Ints]:
        """Unpooled: an event of another database or role, or a stale one, isn't this session's."""
        pairs = np.flatnonzero(unpooled & (client >= 0))
        if not len(pairs):
            return client, matches
        databases = self._evidence.clients.column("database")
        roles = self._evidence.clients.column("db_role")
        opened = self._evidence.client_opened_us
        stride = len(self.named)
        distinct, back = np.unique(position[pairs] * stride + client[pairs], return_inverse=True)
        fits = []
        for pair in distinct.tolist():
            session, one = sessions[pair // stride], pair % stride
            fits.append(
                databases[one].as_py() in (None, session.database)
                and roles[one].as_py() in (None, session.role)
                and session.announced_by(opened[one] if opened[one] >= 0 else None)
            )
        wrong = pairs[~np.array(fits, bool)[back]]
        client[wrong], matches[wrong] = -1, 0
        return client, matches

    def same_actor(self, sessions: list[Session], position: Ints, client: Ints) -> Bools:
        actors: dict[str | None, int] = {None: -1}
        of_client = np.array(
            [actors.setdefault(one, len(actors)) for one in self._evidence.client_actor] or [-1]
        )
        of_session = np.array([actors.get(one.actor, -2) for one in sessions], np.int64)[position]
        return np.asarray(of_session == np.where(client >= 0, of_client[np.maximum(client, 0)], -3))


def _flags(clients: pa.Table, name: str) -> Bools:
    if not clients.num_rows:
        return np.zeros(0, bool)
    return np.asarray(pc.fill_null(clients.column(name), False).to_numpy(), bool)
