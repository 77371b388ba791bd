"""The part of the evidence that statements to come can depend on: what lets logs be followed for months.

Enters: events (columns of EVIDENCE), and a time before which nothing to come began. Leaves: fewer events that
say the same about everything after it; rows `elapsed` stand for those left out where a numbering or a
rhythm would seem broken, and in the connect of a server connection stands how many of its transactions are left
out. The rules stand in present.sql and passed_pairs.sql. Changes nothing that is stored.
"""

import datetime as dt

import pyarrow as pa

from scalple.correlate.calculator import calculator
from scalple.correlate.evidencesql import periods_sql, read_sql, silences_sql
from scalple.correlate.record import EVIDENCE

_MILLISECONDS = dt.timedelta(milliseconds=10)
"""Both logs cut times to milliseconds."""


def present(events: pa.Table, horizon: dt.datetime, link_slack: dt.timedelta) -> pa.Table:
    """The events that matter from `horizon` on, in their order.

    Args:
        events: columns of EVIDENCE.
        horizon: nothing to come began before.
        link_slack: how far a statement may lie behind the pooler's line of its transaction
            (`Evidence.link_slack_us`): by so much earlier than the horizon a transaction has to be over.
    """
    with calculator(events.num_rows) as con:
        con.register("events", events)
        con.execute('CREATE TEMP TABLE horizon AS SELECT $at::TIMESTAMPTZ AS "at"', {"at": horizon})
        con.execute(f"CREATE TEMP TABLE periods AS {periods_sql('events')}")
        con.execute(
            f"CREATE TEMP TABLE silent AS SELECT seq FROM ({silences_sql('events')}) "
            "WHERE reason = 'pooler-log-silent'"
        )
        con.execute(
            'CREATE TEMP TABLE pairs_until AS SELECT $at::TIMESTAMPTZ AS "at"',
            {"at": horizon - link_slack - _MILLISECONDS},
        )
        con.execute(read_sql("pairing.sql"))
        con.execute(read_sql("passed_pairs.sql"))
        con.execute(read_sql("present.sql"))
        kept = con.sql(
            "SELECT e.* REPLACE (coalesce(p.detail, e.detail) AS detail) "
            "FROM events e JOIN present USING (seq) LEFT JOIN passed_pairs p USING (seq)"
        ).to_arrow_table()
        passed = con.sql("SELECT *, 'elapsed' AS event FROM elapsed").to_arrow_table()
    rest = [
        passed.column(name).cast(EVIDENCE.field(name).type)
        if name in passed.column_names
        else pa.nulls(passed.num_rows, EVIDENCE.field(name).type)
        for name in EVIDENCE.names
    ]
    whole = pa.concat_tables([kept.cast(EVIDENCE), pa.Table.from_arrays(rest, schema=EVIDENCE)])
    return whole.sort_by("seq")
