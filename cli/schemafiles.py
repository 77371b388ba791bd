"""The files that say what the database's tables are: read, dated, and refused if they say nothing.

Enters: what --schema or `[sources] schema` name. Leaves: `SchemaText`s, which the store records, and
the `DatedSchema`s that these are. A file's time is the one that is given with it, or that it says
itself (a snapshot's `taken_at`, or a comment `-- taken_at: TIME`); without any it always holds.
"""

import datetime as dt
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalple.cli.options import files, moment
from scalple.cli.sources import seems
from scalple.correlate import blankschema, schematext, snapshot
from scalple.correlate.rightstimeline import DatedRights, says_rights
from scalple.correlate.schematimeline import BEGINNING, DatedSchema
from scalple.ingest.container import ReadOptions
from scalple.ingest.epoch import EPOCH, microseconds
from scalple.ingest.errors import InputError, ScalpleError, VerificationError

_WITH_TIME = re.compile(r"(\d{4}-\d\d-\d\d[^=/]*)=(.+)", re.DOTALL)
_HEAD = 1 << 16
_HINT = "give what `pg_dump --schema-only` or `scalple-ingest schema snapshot` writes"


@dataclass(frozen=True, slots=True)
class SchemaText:
    """A schema as it is read and recorded.

    Attributes:
        text: DDL, or a snapshot.
        since: the time from which it holds; None if it always did.
        reaches_back: it is used for what was earlier too, if nothing older is known.
    """

    text: str
    since: dt.datetime | None = None
    reaches_back: bool = False


def read_all(named: tuple[tuple[str, dt.datetime | None], ...]) -> tuple[SchemaText, ...]:
    """The schemas that files hold, oldest first; DDL of the same time is one.

    Args:
        named: paths or patterns, each with the time from which it holds, if that was said.

    Raises:
        InputError: a file can't be read, or defines no table or view.
    """
    found: list[SchemaText] = []
    for pattern, since in named:
        found += [_read(path, since) for path in files((pattern,))]
    by_time: dict[object, list[SchemaText]] = {}
    for at, one in enumerate(found):
        alone = at if snapshot.is_snapshot(one.text) else None
        by_time.setdefault((one.since, one.reaches_back, alone), []).append(one)
    merged = [
        SchemaText("\n".join(one.text for one in same), same[0].since, same[0].reaches_back)
        for same in by_time.values()
    ]
    return tuple(sorted(merged, key=lambda one: (one.since is not None, one.since or EPOCH)))


def option(value: str) -> tuple[str, dt.datetime | None]:
    """`FILE` or `TIME=FILE`, as on the command line.

    Raises:
        ConfigError: what stands before the `=` is no time.
    """
    match = _WITH_TIME.fullmatch(value)
    if match is None or Path(value).exists():
        return value, None
    return match[2], moment(match[1], "--schema")


def dated(texts: tuple[SchemaText, ...]) -> tuple[DatedSchema, ...]:
    """What the schemas say, for the layers below."""
    found = []
    for one in texts:
        is_snapshot = snapshot.is_snapshot(one.text)
        catalog = schematext.catalog_of(one.text)
        # Who dates schemas tells what there was; otherwise the declarations may be newer.
        if one.since is not None or len(texts) > 1:
            for table in catalog.tables.values():
                table.exact = table.complete
        found.append(
            DatedSchema(
                catalog,
                BEGINNING if one.since is None else microseconds(one.since),
                one.reaches_back,
                is_whole=is_snapshot,
                database=snapshot.read(one.text).database if is_snapshot else None,
            )
        )
    return tuple(found)


def rights(texts: tuple[SchemaText, ...]) -> tuple[DatedRights, ...]:
    """Who could do what, as far as snapshots among them say it."""
    found = []
    for one in texts:
        if snapshot.is_snapshot(one.text):
            taken = snapshot.read(one.text)
            told = DatedRights(
                taken, microseconds(one.since or taken.taken_at), microseconds(taken.taken_at)
            )
            found += [told] if says_rights(taken) else []
    return tuple(found)


def without_values(text: str) -> str:
    """A schema's text as the store keeps it: no literal of it, no comment."""
    if not snapshot.is_snapshot(text):
        return blankschema.without_values(text)
    value = json.loads(text)
    for relation in value["relations"]:
        if relation.get("query"):
            relation["query"] = blankschema.without_values(relation["query"])
    return json.dumps(value, ensure_ascii=False)


def functions_sql(texts: tuple[SchemaText, ...]) -> str:
    """The definitions of functions, or what stands for them where a snapshot names the arguments."""
    found = []
    for one in texts:
        if snapshot.is_snapshot(one.text):
            for function in snapshot.read(one.text).functions:
                arguments = ", ".join(
                    f'"{name}" text' if name else "text" for name in function.arguments
                )
                found.append(f"CREATE FUNCTION {function.name}({arguments}) RETURNS text;")
        else:
            found.append(one.text)
    return "\n".join(found)


def to_bytes(texts: tuple[SchemaText, ...]) -> bytes:
    """For the store."""
    value = [
        {
            "since": one.since.isoformat() if one.since else None,
            "reaches_back": one.reaches_back,
            "text": one.text,
        }
        for one in texts
    ]
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def from_bytes(data: bytes) -> tuple[SchemaText, ...]:
    """The inverse.

    Raises:
        VerificationError: the object holds no schemas.
    """
    try:
        value: list[dict[str, Any]] = json.loads(data)
        return tuple(
            SchemaText(
                str(one["text"]),
                dt.datetime.fromisoformat(one["since"]) if one["since"] else None,
                bool(one["reaches_back"]),
            )
            for one in value
        )
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"the recorded schemas can't be read: {error}") from error


def _read(path: Path, since: dt.datetime | None) -> SchemaText:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("is no text in UTF-8", place=str(path), hint=_HINT) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"can't read the schema: {reason}", place=str(path), hint="check --schema"
        ) from error
    _refuse_log(path, text)
    try:
        said = schematext.taken_at(text)
        is_something = schematext.defines_anything(text)
    except ScalpleError as error:
        raise InputError(error.what, place=str(path), hint=_HINT) from error
    except ValueError as error:
        raise InputError(
            f"its taken_at is no time: {error}",
            place=str(path),
            hint="for example -- taken_at: 2026-04-01T00:00:00Z",
        ) from error
    if not is_something:
        raise InputError(
            "holds no CREATE TABLE or VIEW that can be read", place=str(path), hint=_HINT
        )
    return SchemaText(text, since or said, since is None and said is not None)


def _refuse_log(path: Path, text: str) -> None:
    """A server log may quote any number of CREATE TABLEs, and is no schema all the same."""
    if snapshot.is_snapshot(text):
        return
    what, hint = seems(text[:_HEAD].encode(), ReadOptions())
    if what is not None:
        raise InputError(
            f"is no schema: it seems to be {what}", place=str(path), hint=hint or _HINT
        )
