"""The answer to a question, written as table, JSON, JSON Lines or CSV.

Enters: `direct`, `possible`, `refused` and `coverage`, as the JSON contract has them (docs/CLI_JSON.md). Leaves
text. The table is for people: few columns, seconds, possible accesses grouped by template.
"""

from collections import Counter
from typing import Any, TextIO

from scalple.cli import render
from scalple.correlate.record import AUDIT

TEXT_SHOWN = 200
"""How much of a statement the table for people shows; the other formats have all."""
GROUPS_SHOWN = 20
"""How many templates of possible accesses the table for people shows."""
COLUMNS = ("time", "actor", "grade", "rows", "what", "log_id")


def write_answer(
    answer: dict[str, Any],
    form: str,
    about_subject: bool,
    shown: int | None,
    out: TextIO,
) -> None:
    """Write an answer; a table shows at most `shown` direct accesses, and as many templates."""
    if form == "json":
        render.write_json(answer, out)
        return
    rows = [{"part": part, **row} for part in ("direct", "possible") for row in answer[part]]
    if form == "jsonl":
        rows += [{"part": "refused", **row} for row in answer["refused"]]
    if form == "jsonl":
        render.write_jsonl(rows, out)
        return
    if form == "csv":
        columns = list(rows[0]) if rows else ["part", "log_id", *AUDIT.names]
        render.write_csv(rows, columns, out)
        return
    direct, possible = answer["direct"], answer["possible"]
    lines = [_line(row) for row in direct[:shown]]
    title = f"Direct ({len(direct)})"
    render.write_table(lines, COLUMNS, out, title=title, empty="none", folding=["what"])
    if len(lines) < len(direct):
        out.write(f"… and {len(direct) - len(lines)} more; without --rows all of them\n")
    if answer["refused"]:
        _write_refused(answer["refused"], shown, out)
    if about_subject:
        _write_possible(possible, GROUPS_SHOWN if shown is None else shown, out)
    write_coverage(answer["coverage"], out)


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
        "grade": row["attribution_grade"],
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


def _write_possible(rows: list[dict[str, Any]], count: int, out: TextIO) -> None:
    """Grouped by template: how often each could have shown the subject."""
    example = {(row["query_fingerprint"], _actor(row)): row for row in rows}
    groups = Counter((row["query_fingerprint"], _actor(row)) for row in rows)
    lines = [
        {
            "times": times,
            "actor": actor,
            "shape": example[(template, actor)]["access_shape"],
            "one of them": _what(example[(template, actor)]),
            "log_id": example[(template, actor)]["log_id"],
        }
        for (template, actor), times in groups.most_common()
    ]
    title = f"Possible: could have shown this person's data ({len(rows)})"
    columns = ("times", "actor", "shape", "one of them", "log_id")
    shown = lines[:count]
    render.write_table(shown, columns, out, title=title, empty="none", folding=["one of them"])
    if len(lines) > count:
        out.write(f"… and {len(lines) - count} more templates; --format json has all\n")


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
