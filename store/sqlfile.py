"""Queries that have a file of their own, and their rows."""

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a session is begun before these are loaded
    import duckdb
    import pyarrow as pa


def sql_file(name: str) -> str:
    """The text of a .sql file of this folder."""
    return resources.files("scalple.store").joinpath(name).read_text("utf-8")


def rows_of(con: "duckdb.DuckDBPyConnection", sql: str, values: Mapping[str, Any]) -> "pa.Table":
    """The rows of a query with named parameters."""
    return con.sql(sql, params=dict(values)).to_arrow_table()
