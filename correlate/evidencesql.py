"""The queries over events (columns of EVIDENCE): their text, where several parts ask them.

In: the name of a relation. Out: SQL. Asks nothing itself. What is counted in a window is counted as
`count(CASE WHEN … THEN 1 END)`: of 80,000 rows `count(*) FILTER (…) OVER` takes fifteen times as long.
"""

from importlib import resources


def read_sql(name: str) -> str:
    """A .sql file of this folder."""
    return resources.files("scalple.correlate").joinpath(name).read_text("utf-8")


def silences_sql(events: str) -> str:
    """A SELECT of when sources fell silent, over a relation with the columns of EVIDENCE."""
    return read_sql("silences.sql").format(events=events, periods=periods_sql(events))


def periods_sql(events: str) -> str:
    """A SELECT of how often poolers write their statistics, over such a relation."""
    return read_sql("periods.sql").format(events=events)
