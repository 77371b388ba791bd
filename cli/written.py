"""An answer, written: as table, JSON, JSON Lines, CSV, Parquet or HTML.

Enters: an `Answer`, and what was asked. Leaves: text, or Parquet's bytes. The table is for people: few columns,
seconds, possible accesses grouped by template; the other formats have everything.
"""

import io
from typing import Any, TextIO

from scalple.cli import render
from scalple.cli.answer import BESIDE, Answer
from scalple.cli.expiredlines import expired_lines
from scalple.cli.report import Asked, page
from scalple.correlate.recordcolumns import AUDIT

TEXT_SHOWN = 200
"""How much of a statement the table for people shows; the other formats have all."""
GROUPS_SHOWN = 20
"""How many templates of possible accesses, and how many subjects, the table for people shows."""
ROW_COLUMNS = (
    "log_id",
    "log_time",
    "session_user_id",
    "session_email",
    "on_behalf_of",
    "attribution_grade",
    "attribution_candidates",
    "attribution_evidence",
    "findings",
    "rows_returned",
    "command",
    "query",
    "parameters",
    "columns_accessed",
    "affected_tables",
)
"""What a table of direct accesses is made of."""
COLUMNS = ("time", "actor", "grade", "rows", "what", "log_id")


def written(
    found: Answer, form: str, shown: int | None, asked: Asked, terminal: TextIO | None
) -> str | bytes:
    """The answer in one of the formats; a table shows at most `shown` direct accesses, and as many
    templates. With `terminal` a table is written there, as wide as it is, and nothing is returned."""
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(found.rows(), sink, compression="zstd")
        return bytes(sink.getvalue().to_pybytes())
    out = io.StringIO()
    if form == "html":
        out.write(page(found, asked))
    elif form == "json":
        render.write_json(found.parts, out)
    elif form in ("jsonl", "csv"):
        _write_flat(found, form, out)
    else:
        _write_tables(found, shown, asked.about_subject, terminal or out)
    return out.getvalue()


def _write_flat(found: Answer, form: str, out: TextIO) -> None:
    """Rows only: what each of them is part of comes first."""
    if "breach" in found.parts:
        table = found.rows()
        rows, columns = render.items(table), table.column_names
    else:
        names = ("direct", "possible") if form == "csv" else ("direct", "possible", "refused")
        rows = [{"part": part, **row} for part in names for row in found.parts[part]]
        columns = ["part", "log_id", *dict(AUDIT), *dict(BESIDE)]
    if form == "csv":
        render.write_csv(rows, columns, out)
    else:
        render.write_jsonl(rows, out)


def _write_tables(found: Answer, shown: int | None, about_subject: bool, out: TextIO) -> None:
    most = GROUPS_SHOWN if shown is None else shown
    if "breach" in found.parts:
        _write_breach(found, most, out)
    else:
        if "activity" in found.parts:
            write_activity(found.parts["activity"], most, out, len(found.parts["direct"]))
        direct = found.parts["direct"]
        lines = [_line(row) for row in direct[:shown]]
        title = f"Direct ({len(direct)})"
        render.write_table(lines, COLUMNS, out, title=title, empty="none", folding=["what"])
        if len(lines) < len(direct):
            out.write(f"… and {len(direct) - len(lines)} more; without --rows all of them\n")
        if found.parts["refused"]:
            _write_refused(found.parts["refused"], shown, out)
        if about_subject:
            title = f"Possible: could have shown this person's data ({found.possible})"
            _write_possible(found, title, most, out)
    write_coverage(found.parts["coverage"], out)


def _write_breach(found: Answer, most: int, out: TextIO) -> None:
    reach = found.parts["breach"]
    for part, title in _PARTS.items():
        if (one := reach[part]) is None:
            continue
        people = one["subjects"]
        out.write(
            f"{title}: {one['statements']:,} statements"
            + (f" from {one['first'][:19]}Z to {one['last'][:19]}Z" if one["first"] else "")
            + f", {one['rows_returned'] or 0:,} rows returned as far as logged; "
            f"{len(people):,} identifiers named; {one['failed']:,} statements failed\n"
        )
        if one["columns"]:
            out.write(f"  columns: {', '.join(one['columns'])}\n")
        lines = [
            {
                "identifier": who["identifier"],
                "value": who["value"] if who["value"] is not None else f"#{who['token']:016x}",
                "statements": who["statements"],
                "first": f"{who['first'][:19]}Z",
                "last": f"{who['last'][:19]}Z",
            }
            for who in people[:most]
        ]
        if lines:
            render.write_table(lines, list(lines[0]), out)
        if len(people) > most:
            out.write(f"… and {len(people) - most} more; --format csv has all\n")
    title = f"Possible: read personal data and named nobody ({found.possible})"
    _write_possible(found, title, most, out)


_PARTS = {
    "certain": "Certain",
    "uncertain": "Uncertain: the actor is one of several candidates",
}


def write_activity(done: dict[str, Any], most: int, out: TextIO, rows: int) -> None:
    """What was done, at a glance; `rows` counts every record, those of one statement too."""
    if not done["statements"]:
        return
    records = f" ({rows:,} records)" if rows != done["statements"] else ""
    out.write(
        f"{done['statements']:,} statements{records} from {done['first'][:19]}Z to {done['last'][:19]}Z, "
        f"{done['rows_returned'] or 0:,} rows returned as far as logged, {done['failed']:,} failed; "
        f"{done['subjects']:,} subjects named\n"
    )
    for title, told, all_of_them in (
        ("the last days", done["days"][-most:] if most else [], len(done["days"])),
        ("tables", done["tables"][:most], len(done["tables"])),
        ("subjects", [_shown(one) for one in done["most_subjects"][:most]], done["subjects"]),
    ):
        if told:
            lines = [{name: _short(value) for name, value in row.items()} for row in told]
            render.write_table(lines, list(lines[0]), out, title=title)
        if len(told) < all_of_them:
            out.write(f"… and {all_of_them - len(told):,} more {title.removeprefix('the last ')}\n")


def _shown(one: dict[str, Any]) -> dict[str, Any]:
    value = one["value"] if one["value"] is not None else f"#{one['token']:016x}"
    rest = {name: one[name] for name in ("statements", "first", "last")}
    return {"identifier": one["identifier"], "value": value, **rest}


def _short(value: Any) -> Any:
    """A time in seconds."""
    is_time = isinstance(value, str) and len(value) == 27 and value[-1] == "Z" and value[10] == "T"
    return f"{value[:19]}Z" if is_time else value


def _write_refused(rows: list[dict[str, Any]], shown: int | None, out: TextIO) -> None:
    """What was asked for and not given."""
    lines = [
        {
            "time": f"{row['log_time'][:10]}\n{row['log_time'][11:19]}Z",
            "actor": _actor(row),
            "grade": row["attribution_grade"],
            "sqlstate": row["sqlstate"],
            "what": " ".join((row["query"] or row["message"] or "").split())[:TEXT_SHOWN],
            "id": row["id"],
        }
        for row in rows[:shown]
    ]
    columns = ("time", "actor", "grade", "sqlstate", "what", "id")
    render.write_table(lines, columns, out, title=f"Refused ({len(rows)})", folding=["what"])


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """A row as people like to read it: few columns, and seconds."""
    return {
        "time": f"{row['log_time'][:10]}\n{row['log_time'][11:19]}Z",
        "actor": _actor(row),
        "grade": "\n".join((row["attribution_grade"], *(row["findings"] or ()))),
        "rows": row["rows_returned"],
        "what": _what(row),
        "log_id": row["log_id"],
    }


def _actor(row: dict[str, Any]) -> str:
    names = [row["session_user_id"], row["session_email"]]
    if row["on_behalf_of"]:
        names.append(f"for {row['on_behalf_of']}")
    return "\n".join(name for name in names if name) or "-"


def _what(row: dict[str, Any]) -> str:
    """The statement, or what it touched where the statement isn't shown."""
    if row["query"] is None:
        touched = row["columns_accessed"] or row["affected_tables"] or []
        return f"{row['command']} {', '.join(touched)}"
    text = " ".join(row["query"].split())
    if row["parameters"]:
        text += f"  [{', '.join('NULL' if one is None else one for one in row['parameters'])}]"
    return text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 1] + "…"


def _write_possible(found: Answer, title: str, count: int, out: TextIO) -> None:
    """Grouped by template: how often each could have shown somebody."""
    lines = [
        {
            "times": one["times"],
            "actor": _actor(one),
            "why": one["reason"],
            "rows": one["rows"],
            "one of them": _what(one),
            "log_id": one["log_id"],
        }
        for one in found.groups[:count]
    ]
    columns = ("times", "actor", "why", "rows", "one of them", "log_id")
    render.write_table(lines, columns, out, title=title, empty="none", folding=["one of them"])
    if found.templates > count:
        out.write(f"… and {found.templates - count} more templates; --format json has all\n")


def write_coverage(coverage: dict[str, Any], out: TextIO) -> None:
    """What the answer rests on, in a few lines."""
    share = coverage["attributed_share"]
    text = "nothing to attribute" if share is None else f"{share:.2%} of people's statements named"
    grades = ", ".join(f"{count:,} {grade}" for grade, count in coverage["by_grade"].items())
    missing = sum(coverage["gaps"].values())
    period = (
        f" from {coverage['first'][:19]}Z to {coverage['last'][:19]}Z" if coverage["first"] else ""
    )
    out.write(
        f"Coverage: {coverage['statements']:,} statements{period}; {text}\n"
        f"  {grades or 'no grades'}\n"
        f"  {missing:,} gaps, {coverage['unparsed']:,} unparsed, "
        f"{coverage['denied']:,} refused ({coverage['denied_named']:,} of them named)\n"
    )
    out.writelines(f"  {line}\n" for line in expired_lines(coverage["expired"]))
