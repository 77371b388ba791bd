"""The part of the evidence that statements to come can depend on: what lets logs be followed for months.

Enters: events (columns of EVIDENCE), and a time before which nothing to come began. Leaves: fewer events that
say the same about everything after it; rows `elapsed` stand for those left out where a numbering or a
rhythm would seem broken. The rules stand in present.sql. Changes nothing that is stored.
"""

import datetime as dt

import duckdb
import pyarrow as pa

from scalple.correlate.evidencesql import periods_sql, read_sql, silences_sql
from scalple.correlate.record import EVIDENCE


def present(events: pa.Table, horizon: dt.datetime) -> pa.Table:
    """The events that matter from `horizon` on, in their order."""
    with duckdb.connect(":memory:", config={"threads": 2}) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("events", events)
        con.execute('CREATE TEMP TABLE horizon AS SELECT $at::TIMESTAMPTZ AS "at"', {"at": horizon})
        con.execute(read_sql("macros.sql"))
        con.execute(f"CREATE TEMP TABLE periods AS {periods_sql('events')}")
        con.execute(
            f"CREATE TEMP TABLE silent AS SELECT seq FROM ({silences_sql('events')}) "
            "WHERE reason = 'pooler-log-silent'"
        )
        con.execute(read_sql("present.sql"))
        kept = con.sql("SELECT e.* FROM events e JOIN present USING (seq)").to_arrow_table()
        passed = con.sql("SELECT *, 'elapsed' AS event FROM elapsed").to_arrow_table()
    rest = [
        passed.column(name).cast(EVIDENCE.field(name).type)
        if name in passed.column_names
        else pa.nulls(passed.num_rows, EVIDENCE.field(name).type)
        for name in EVIDENCE.names
    ]
    whole = pa.concat_tables([kept.cast(EVIDENCE), pa.Table.from_arrays(rest, schema=EVIDENCE)])
    return whole.sort_by("seq")
