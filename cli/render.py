"""Arrow tables -> what a person or a program reads on stdout.

Enters: rows. Leaves: text as table, JSON, JSON Lines or CSV. The shapes of JSON are a contract
(docs/CLI_JSON.md). Decides nothing about what is shown.
"""

import base64
import csv
import datetime as dt
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from scalple.cli.columns import Column, drawn

if TYPE_CHECKING:  # other formats than tables needn't wait for it
    import pyarrow as pa
    from rich.console import Console

FORMATS = ("table", "json", "jsonl", "csv")
COLUMN_WIDTH_MIN = 9
TABLE_WIDTH = 120
"""Columns of a table that doesn't go to a terminal."""


_AS_THEY_ARE = (str, int, bool)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: times as RFC 3339 in UTC, bytes as base64."""
    if value is None or type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, dt.datetime):  # one without a zone is UTC, as everywhere in the store
        in_utc = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
        return in_utc.isoformat(timespec="microseconds") + "Z"
    if isinstance(value, dt.date | dt.time | dt.timedelta):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no NaN and no infinity
    if isinstance(value, float | int | str | bool) or value is None:
        return value
    return str(value)


def items(table: "pa.Table") -> list[dict[str, Any]]:
    """Rows as JSON objects; of columns with one name the later ones get a number."""
    names = column_names(table)
    columns = [_values(column) for column in table.columns]
    return [plain(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _values(column: "pa.ChunkedArray") -> list[Any]:
    """Python's values; those that Python has none for (`infinity`, nanoseconds) as DuckDB's text."""
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        import duckdb  # late: few values need it
        import pyarrow as pa

        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'")
            found = con.from_arrow(pa.table({"v": column})).project("v::VARCHAR").fetchall()
        return [_value(one, text) for one, (text,) in zip(column, found, strict=True)]
    return values


def _value(scalar: "pa.Scalar", text: str | None) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        return text


def column_names(table: "pa.Table") -> list[str]:
    """The table's names, each once: `count`, `count_1`."""
    names: list[str] = []
    for name in table.column_names:
        rivals = (f"{name}_{n}" for n in range(1, table.num_columns + 1))
        names.append(next(n for n in (name, *rivals) if n not in names))
    return names


def write_json(value: Any, out: TextIO) -> None:
    """One JSON document."""
    json.dump(plain(value), out, ensure_ascii=False, indent=1)
    out.write("\n")


def write_jsonl(rows: Iterable[dict[str, Any]], out: TextIO) -> None:
    """One JSON object a line."""
    out.writelines(json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows)


def write_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str], out: TextIO) -> None:
    """RFC 4180 with a header; NULL is empty, nested values are JSON."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])


def _cell(value: Any) -> str:
    value = plain(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_rows(table: "pa.Table", form: str, out: TextIO) -> None:
    """Rows of any query."""
    if form == "json":
        write_json(items(table), out)
    elif form == "jsonl":
        write_jsonl(items(table), out)
    elif form == "csv":
        write_csv(items(table), column_names(table), out)
    else:
        write_table(items(table), column_names(table), out)


def write_table(
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    out: TextIO,
    *,
    title: str | None = None,
    empty: str = "no rows",
    folding: Sequence[str] | None = None,
) -> None:
    """A table for people; where room is short only the `folding` columns give way, or all."""
    if _is_plain(out) and rows and len(columns) * COLUMN_WIDTH_MIN <= TABLE_WIDTH:
        shown = [
            Column([name, *cells], is_numeric, folding is None or name in folding)
            for name, cells, is_numeric in _cells(rows, columns)
        ]
        if (text := drawn(shown, title, TABLE_WIDTH)) is not None:
            out.write(text)
            return
    _write_rich(rows, columns, out, title, empty, folding)


def _cells(
    rows: Sequence[dict[str, Any]], columns: Sequence[str]
) -> Iterator[tuple[str, list[str], bool]]:
    """Name, texts, and whether they are numbers, of each column."""
    for name in columns:
        values = [row[name] for row in rows]
        numeric = all(isinstance(one, int | float | None) for one in values)
        yield name, [text_of(one) for one in values], numeric


def _is_plain(out: TextIO) -> bool:
    """Nobody wants colours, and the lines of a table can be written."""
    asked = ("FORCE_COLOR", "TTY_COMPATIBLE")
    encoding = getattr(out, "encoding", None) or "utf-8"
    return not (
        _is_terminal(out) or any(one in os.environ for one in asked)
    ) and encoding.lower().startswith("utf")


def _write_rich(
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    out: TextIO,
    title: str | None,
    empty: str,
    folding: Sequence[str] | None,
) -> None:
    """The same for a terminal, as wide as it is, and for letters that are wider than others."""
    from rich.table import Table

    console = terminal(out)
    if not rows:
        console.print(empty if title is None else f"{title}: {empty}", highlight=False)
        return
    if len(columns) * COLUMN_WIDTH_MIN > console.width:
        _write_records(rows, columns, console)
        return
    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    texts = []
    for name, cells, is_numeric in _cells(rows, columns):
        shown.add_column(
            name,
            justify="right" if is_numeric else "left",
            overflow="fold",
            no_wrap=folding is not None and name not in folding,
        )
        texts.append(cells)
    for row in zip(*texts, strict=True):
        shown.add_row(*row)
    console.print(shown, highlight=False, markup=False)


def _write_records(
    rows: Sequence[dict[str, Any]], columns: Sequence[str], console: "Console"
) -> None:
    """More columns than fit side by side: one below the other, without those that are NULL."""
    from rich.table import Table

    for row in rows:
        record = Table(show_header=False, box=None, pad_edge=False)
        record.add_column(no_wrap=True, style="bold")
        record.add_column(overflow="fold")
        for name in columns:
            if row[name] is not None:
                record.add_row(name, text_of(row[name]))
        console.print(record, highlight=False, markup=False)
        console.print()


def text_of(value: Any) -> str:
    """A cell for people: control characters can't rewrite the terminal."""
    if value is None:
        return ""
    if isinstance(value, list):
        text = ", ".join(text_of(one) for one in value)
    elif isinstance(value, dict):
        text = json.dumps(plain(value), ensure_ascii=False)
    else:
        text = str(plain(value))
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def terminal(out: TextIO) -> "Console":
    """A rich console; wide when the output is no terminal, so that nothing is folded there."""
    from rich.console import Console

    interactive = _is_terminal(out)
    return Console(
        file=out,
        width=None if interactive else TABLE_WIDTH,
        soft_wrap=not interactive,
        emoji=False,  # `:key:` in a statement stays what it is
    )


def _is_terminal(out: TextIO) -> bool:
    return out.isatty() if not isinstance(out, io.StringIO) else False
