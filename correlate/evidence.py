"""Everything that is known about connections, ready to be joined with statements.

Enters: events of identity files and pooler logs (columns of EVIDENCE). Leaves: clients with
their pools, intervals and actors; which server connection belongs to which pool; which span of
time the pooler's log covers. The rules that derive them stand in intervals.sql and clients.sql.
"""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.calculator import calculator
from scalple.correlate.closedpool import ClosedPools, Spans, spans_of
from scalple.correlate.evidencesql import periods_sql, read_sql, silences_sql
from scalple.correlate.logbatch import Bools, Ints
from scalple.correlate.numbered import Numbered
from scalple.correlate.pairing import Pairing
from scalple.correlate.pernumber import PerNumber
from scalple.correlate.rules import Rules
from scalple.ingest.epoch import microseconds

Endpoint = tuple[str, int]

LINK_SLACK_US = 5_000_000
"""By so much without a difference of clocks: the server's session id counts whole seconds."""

_LAST_FIXED = (1, 22)
"""First PgBouncer that replays an empty name (commit 9d20ec50), so that a reset leaks nothing."""


def link_slack(rules: Rules) -> dt.timedelta:
    """How far the pooler's and the server's note of one connection may lie apart."""
    return dt.timedelta(microseconds=LINK_SLACK_US, milliseconds=rules.clocks.skew_ms)


@dataclass(slots=True)
class Numbers:
    """Numbers that stay, whatever becomes known later."""

    keys: Numbered[Endpoint | str] = field(default_factory=Numbered)
    """Of endpoints and tags."""
    pools: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of (database, role)."""
    tagged_pools: set[int] = field(default_factory=set)
    """Those that ever had a client with a tag."""

    def pool_table(self) -> pa.Table:
        """pool, database, db_role."""
        return pa.table(
            {
                "pool": pa.array(self.pools.values(), pa.int64()),
                "database": pa.array([database for database, _ in self.pools], pa.string()),
                "db_role": pa.array([role for _, role in self.pools], pa.string()),
            }
        )


class Evidence:
    """Clients, pools and server links, derived from all events known so far.

    Args:
        events: columns of EVIDENCE; `seq` identifies each event in the store.
        rules: who is behind role names, and what stands before PostgreSQL.
        before: what was known earlier, of the same log: its keys and pools keep their numbers.
        horizon: what was over by then is missing among the events (`present`), and known from before.
    """

    def __init__(
        self,
        events: pa.Table,
        rules: Rules,
        before: "Evidence | None" = None,
        horizon: dt.datetime | None = None,
    ) -> None:
        self.horizon = horizon
        self.horizon_us = None if horizon is None else microseconds(horizon)
        self.events = events
        self._numbers: Numbers = Numbers() if before is None else before._numbers
        con = calculator(events.num_rows)
        con.register("events", events)
        roles = rules.actors.roles
        con.register(
            "role_actors",
            pa.table(
                {
                    "role": pa.array(list(roles), pa.string()),
                    "actor": pa.array(list(roles.values()), pa.string()),
                }
            ),
        )
        skew = rules.clocks.skew_ms
        con.execute(f"CREATE TEMP TABLE clocks AS SELECT to_milliseconds({int(skew)}) AS skew")
        self.link_slack_us = link_slack(rules) // dt.timedelta(microseconds=1)
        """How far the pooler's and the server's note of one connection may lie apart."""
        con.register("numbered_pools", self._numbers.pool_table())
        con.execute(f"CREATE TEMP TABLE periods AS {periods_sql('events')}")
        con.execute(f"CREATE TEMP TABLE silences AS {silences_sql('events')}")
        con.execute(read_sql("intervals.sql"))
        con.execute(read_sql("clients.sql"))
        self.clients: pa.Table = con.sql("FROM clients ORDER BY client").to_arrow_table()
        self.pools: dict[tuple[str, str], int] = {
            (database, role): pool
            for pool, database, role in con.sql(
                "SELECT pool, database, db_role FROM pools"
            ).fetchall()
        }
        self._numbers.pools |= self.pools
        self._role_of = {pool: role for (_, role), pool in self.pools.items()}
        self._links = self._read_links(con)
        self.links_locally: bool = con.sql(
            "SELECT count(*) > 0 FROM events WHERE event = 'server-connect' AND client_port IS NULL"
        ).fetchall()[0][0]
        """The pooler reaches PostgreSQL through a unix socket, at least at times."""
        self.identity_holes: int = con.sql("SELECT count(*) FROM identity_holes").fetchall()[0][0]
        """In how many places a sidecar's numbering shows that events are missing."""
        self.has_identities: bool = con.sql("SELECT count(*) > 0 FROM identity_events").fetchall()[
            0
        ][0]
        """Somebody says who is behind connections."""
        self.begun_late: list[tuple[str, int]] = con.sql(
            "SELECT sidecar, min(sidecar_seq) FROM identity_events GROUP BY sidecar "
            "HAVING min(sidecar_seq) > 1 AND arg_min(event, sidecar_seq) <> 'start' ORDER BY 1"
        ).fetchall()
        """Sidecars whose first events aren't here, and the number of the first that is."""
        self.opens_late_ms: list[float] = [
            row[0] for row in con.sql(read_sql("late_opens.sql")).fetchall()
        ]
        """By how much `open` events come after the pooler's logins, where they do: clocks differ."""
        self.sessions_early_ms: list[float] = []
        """By how much sessions begin before the pooler says that it opened them: the same."""
        self._read_coverage(con)
        self._number_keys()
        con.execute(read_sql("pairing.sql"))
        self.pairing = Pairing.read(con, self.endpoints)
        """Who was on which server connection, as the pooler's log says at `verbose=2`."""
        self.closed = ClosedPools(
            self._spans(con, "unannounced"),
            self._spans(con, "drifted"),
            self._tails(con),
            self._seen_since_us,
        )
        if before is not None and self.horizon_us is not None:
            self.closed = self.closed.since(before.closed, self.horizon_us)
        con.close()

    def _read_links(self, con: duckdb.DuckDBPyConnection) -> dict[Endpoint, list[tuple[int, int]]]:
        links: dict[Endpoint, list[tuple[int, int]]] = {}
        rows = con.sql(
            "SELECT client_addr, client_port, epoch_us(ts), database, db_role FROM server_links"
        ).fetchall()
        for address, port, ts_us, database, role in rows:
            links.setdefault((address, port), []).append((ts_us, self.pools[(database, role)]))
        return links

    def _read_coverage(self, con: duckdb.DuckDBPyConnection) -> None:
        since, until = con.sql(
            "SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM events WHERE source = 'pgbouncer' "
            # One that logs no connections says nothing about where a session came from.
            "AND EXISTS (FROM events WHERE event IN ('server-connect', 'client-login'))"
        ).fetchall()[0]
        self.pooler_since_us: int | None = since
        self.pooler_until_us: int | None = until
        versions = [row[0] for row in con.sql("SELECT version FROM process_ups").fetchall()]
        # Until a process is gone whose beginning isn't in the log.
        first, end = con.sql(
            "SELECT greatest(epoch_us(min(ts)), (SELECT max(epoch_us(gone)) FROM processes "
            "WHERE NOT begins_here)), epoch_us((SELECT until FROM coverage)) FROM process_ups"
        ).fetchall()[0]
        self._seen_since_us: tuple[int, int] | None = None if first is None else (first, end)
        """While the pooler's log tells of every client: a process that was up before its first line
        may have had clients before, as long as it was there."""
        self.resets_leak = not versions or any(_version(v) < _LAST_FIXED for v in versions)
        self.checks_idle_servers = not versions or any(_version(v) < (1, 25) for v in versions)
        self.short_names_only = not versions or any(_version(v) < (1, 20) for v in versions)
        self.too_long_us = [
            row[0]
            for row in con.sql(
                "SELECT epoch_us(ts) FROM events WHERE event = 'too-long-value' ORDER BY ts"
            ).fetchall()
        ]

    def _number_keys(self) -> None:
        """Numbers for what statements are joined by, endpoints and tags, in one order."""
        addresses = self.clients.column("client_addr").to_pylist()
        ports = self.clients.column("client_port").to_pylist()
        ends = list(zip(addresses, ports, strict=True))
        self.endpoints: dict[Endpoint, int] = {end: self._numbers.keys.of(end) for end in ends}
        """Key of each endpoint."""
        self.client_endpoint = np.array([self.endpoints[end] for end in ends], np.int64)
        tags = self.clients.column("tag").to_pylist()
        self.tags: dict[str, int] = {
            tag: self._numbers.keys.of(tag) for tag in tags if tag is not None
        }
        """Key of each tag."""
        self.client_tag = np.array([self.tags.get(tag, -1) for tag in tags], np.int64)
        """Key of the tag that each client bore, or -1."""
        tagged = self.client_tag >= 0
        pooled = _ints(self.clients, "pool", -1) >= 0
        opened = _ints(self.clients, "open_seq", -1)
        self.connection_of = PerNumber(self.client_tag[tagged], opened[tagged])
        """Per key the connection that a tag belongs to; -1 for endpoints."""
        self._endpoint_of = PerNumber(self.client_tag[tagged], self.client_endpoint[tagged])
        borne = np.concatenate([self.client_endpoint[pooled], self.client_tag[tagged & pooled]])
        self._pooled_keys = PerNumber(borne, np.ones_like(borne), 0)
        self.later_tags = self._later_tags()
        """Keys of tags that a connection didn't begin with: their first SET is the sidecar's own."""
        self.client_pool = _ints(self.clients, "pool", -1)
        of_tagged = self.client_pool[tagged & pooled]
        self._numbers.tagged_pools |= {int(pool) for pool in np.unique(of_tagged)}
        self.tagged_pools = np.array(sorted(self._numbers.tagged_pools), np.int64)
        """Pools that sidecars speak of."""
        self.client_since_us = _ints(self.clients, "since", -(2**62))
        self.client_connected_us = _ints(self.clients, "connected", -(2**62))
        """When each one's connection to the pooler began."""
        self.client_until_us = _ints(self.clients, "until", 2**62)
        self.client_there_since_us = _ints(self.clients, "there_since", -(2**62))
        """By the pooler's own clock, whoever it was."""
        self.client_there_until_us = _ints(self.clients, "there_until", 2**62)
        self.client_opened_us = _ints(self.clients, "opened", -1)
        self.client_actor: list[str | None] = self.clients.column("actor").to_pylist()

    def endpoint_of(self, keys: Ints) -> Ints:
        """The key of each one's endpoint: an endpoint's own, a tag's client's."""
        found = self._endpoint_of.of(keys)
        return np.where(found >= 0, found, keys)

    def is_pooled(self, keys: Ints) -> Bools:
        """Whether a client of the pooler's bears each key."""
        return np.asarray(self._pooled_keys.of(keys) > 0)

    def forget(self, held: set[int], before_us: int) -> None:
        """Let go of keys that neither this evidence nor anybody else holds, and of doubts about pools that
        were over by then."""
        self._numbers.keys.keep({*held, *self.endpoints.values(), *self.tags.values()})
        self.closed = self.closed.forgetting(before_us)

    def _later_tags(self) -> set[int]:
        first = self.clients.column("identity_seq").to_pylist()
        opened = self.clients.column("open_seq").to_pylist()
        return {
            int(key)
            for key, word, begin in zip(self.client_tag, first, opened, strict=True)
            if key >= 0 and word != begin
        }

    def _tails(self, con: duckdb.DuckDBPyConnection) -> dict[int, np.ndarray[Any, Any]]:
        """Per pool when clients ended whose statements went on."""
        rows = con.sql(
            "SELECT pool, list(epoch_us(tail) ORDER BY tail) FROM drifted WHERE tail IS NOT NULL "
            "GROUP BY pool"
        ).fetchall()
        return {pool: np.array(tails, np.int64) for pool, tails in rows}

    def _spans(self, con: duckdb.DuckDBPyConnection, table: str) -> Spans:
        """Spans of time, per pool."""
        rows = con.sql(f"SELECT pool, epoch_us(since), epoch_us(until) FROM {table}").fetchall()
        return spans_of(rows)

    def pools_of_server_connection(
        self, endpoint: Endpoint, started_us: int, role: str | None
    ) -> list[int] | None:
        """The pools of that role whose server connection this can be; None if the pooler noted none.

        The pooler's name of a database may be another than the server's, a role's can't.
        """
        found = [
            (ts_us, pool)
            for ts_us, pool in self._links.get(endpoint, ())
            if abs(ts_us - started_us) <= self.link_slack_us
        ]
        if not found:
            return None
        nearest = min(ts_us for ts_us, _ in found)
        # What is known by its id alone began at some time of a whole second.
        if started_us % 1_000_000 and nearest - started_us > 1000:
            self.sessions_early_ms.append((nearest - started_us) / 1000)
        return sorted({pool for _, pool in found if self._role_of[pool] == role})

    @property
    def covered(self) -> bool:
        """Whether there is a pooler's log at all."""
        return self.pooler_since_us is not None

    def covers(self, started_us: int) -> bool:
        """Whether the pooler's log would show a server connection opened at that time."""
        return (
            self.pooler_since_us is not None
            and self.pooler_until_us is not None
            and self.pooler_since_us <= started_us <= self.pooler_until_us
        )


def _version(text: str | None) -> tuple[int, ...]:
    parts = (text or "").split(".")[:2]
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in parts)


def _ints(table: pa.Table, name: str, null: int) -> Ints:
    column = pc.fill_null(table.column(name).cast(pa.int64()), null)
    return np.asarray(column.combine_chunks().to_numpy(zero_copy_only=False), np.int64)
