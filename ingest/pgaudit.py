"""pgAudit's message (`AUDIT: SESSION,1,1,READ,…`) -> its fields as columns.

Enters: a text column of log messages. Leaves: `PAYLOAD_SCHEMA`, one row per AUDIT message, and
which messages begin like one but aren't well formed. Source: pgaudit.c, log_audit_event() and
append_valid_csv(): nine fields, ten when `pgaudit.log_rows` is on for that statement.

All payloads of a batch go through one CSV read. Each is given a random first field: a message
that smuggles in line breaks or open quotes can't reproduce it, so that no row can slip out of
step with its record; a batch in which one does is split by a strict pattern instead.

Doesn't say whether pgAudit wrote the message (any user can `RAISE LOG` one): see
`scalple.correlate`.
"""

import secrets

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())

PAYLOAD_SCHEMA = pa.schema(
    [
        ("audit_type", _DICTIONARY),
        ("statement_id", pa.int64()),
        ("substatement_id", pa.int64()),
        ("class", _DICTIONARY),
        ("command", _DICTIONARY),
        ("object_type", _DICTIONARY),
        ("object_name", _DICTIONARY),
        ("statement", _DICTIONARY),
        ("parameter", pa.string()),
        ("rows", pa.int64()),
    ]
)
_FIELDS = PAYLOAD_SCHEMA.names

NOT_LOGGED = "<not logged>"
PREVIOUSLY_LOGGED = "<previously logged>"
NO_PARAMETERS = "<none>"

_MARK = "AUDIT: "
_QUOTED = r'"(?:[^"]|"")*"'
_VALUE = rf'(?:{_QUOTED}|[^",\r\n]*)'
# "(?s)" is not needed: no "." in it, and [^"] matches line breaks.
_STRICT = (
    r"^AUDIT: (?P<audit_type>SESSION|OBJECT),(?P<statement_id>\d{1,18}),"
    r"(?P<substatement_id>\d{1,18}),(?P<class>[A-Z]+),"
    + ",".join(
        rf"(?P<{name}>{_VALUE})"
        for name in ("command", "object_type", "object_name", "statement", "parameter")
    )
    + r"(?:,(?P<rows>\d{1,18}))?$"
)


_LENIENT = (
    r"^AUDIT: (?P<audit_type>SESSION|OBJECT),(?P<statement_id>\d{1,18}),"
    r"(?P<substatement_id>\d{1,18}),(?P<class>[A-Z]+),"
    rf"(?P<command>{_VALUE}),(?P<object_type>{_VALUE}),(?P<object_name>{_VALUE}),"
    r"(?P<statement>(?s:[^\"].*?))(?:,(?P<parameter><none>|<not logged>)(?:,(?P<rows>\d{1,18}))?)?\s*$"
)
"""Unquoted, whatever it holds, and with nothing or a placeholder behind it."""


def is_audit(messages: pa.Array) -> pa.BooleanArray:
    """Which messages begin like pgAudit's; NULL counts as not."""
    return pc.fill_null(pc.starts_with(messages, _MARK), False)


def split_payloads(
    messages: pa.Array, lenient: npt.NDArray[np.bool_] | None = None
) -> tuple[pa.Table, pa.BooleanArray]:
    """Split AUDIT messages into their fields.

    Args:
        messages: text, each beginning with `AUDIT: ` (see `is_audit`).
        lenient: which of them may lack the quotes around their statement, and what follows it.

    Returns:
        A table of `PAYLOAD_SCHEMA` with the well-formed ones in order, and which those are.
    """
    everything = pa.array(np.ones(len(messages), bool))
    if not len(messages):
        return PAYLOAD_SCHEMA.empty_table(), everything
    for width in (10, 9):
        table = _read(messages, secrets.token_hex(8), width)
        if table is not None:
            return table, everything
    table, ok = _split_strict(messages, _STRICT)
    if lenient is None or not (lenient & ~np.asarray(ok)).any():
        return table, ok
    return _with_lenient(messages, table, np.asarray(ok), lenient)


def _with_lenient(
    messages: pa.Array, table: pa.Table, ok: npt.NDArray[np.bool_], lenient: npt.NDArray[np.bool_]
) -> tuple[pa.Table, pa.BooleanArray]:
    """What the strict pattern doesn't match, as copies in texts for people have it."""
    rest = np.flatnonzero(lenient & ~ok)
    more, fits = _split_strict(messages.take(pa.array(rest)), _LENIENT)
    found = rest[np.asarray(fits)]
    order = np.argsort(np.concatenate([np.flatnonzero(ok), found]), kind="stable")
    both = pa.concat_tables([table, more]).combine_chunks().take(pa.array(order))
    ok = ok.copy()
    ok[found] = True
    return both.unify_dictionaries(), pa.array(ok)


def _read(messages: pa.Array, nonce: str, width: int) -> pa.Table | None:
    data = _lines(messages, nonce)
    longest = pc.max(pc.binary_length(messages)).as_py()
    names = ["nonce", *_FIELDS[:width]]
    types = {name: PAYLOAD_SCHEMA.field(name).type for name in names[1:]}
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(
                column_names=names, block_size=max(4 << 20, 2 * longest)
            ),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={"nonce": _DICTIONARY, **types},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(messages) or not _well_formed(table, nonce):
        return None
    if width == 9:
        table = table.append_column("rows", pa.nulls(table.num_rows, pa.int64()))
    return table.select(_FIELDS).cast(PAYLOAD_SCHEMA).unify_dictionaries()


def _well_formed(table: pa.Table, nonce: str) -> bool:
    """Every row carries the nonce and a type, and both ids."""

    def distinct(name: str) -> set[object]:
        return set(pc.unique(table.column(name)).to_pylist())

    return (
        distinct("nonce") == {nonce}
        and distinct("audit_type") <= {"SESSION", "OBJECT"}
        and table.column("statement_id").null_count == 0
        and table.column("substatement_id").null_count == 0
        and table.column("class").null_count == 0
    )


def _lines(messages: pa.Array, nonce: str) -> pa.Buffer:
    """`<nonce>,SESSION,…` a line, as one buffer."""
    joined = pc.binary_join_element_wise(
        pc.binary_replace_slice(messages.cast("binary"), 0, len(_MARK), f"{nonce},".encode()),
        b"",
        b"\n",
    )
    offsets = np.frombuffer(joined.buffers()[1], np.int32)
    return joined.buffers()[2].slice(0, int(offsets[len(joined)]))


def _split_strict(messages: pa.Array, pattern: str) -> tuple[pa.Table, pa.BooleanArray]:
    """One pattern for the whole message; what doesn't match is left out."""
    parts = pc.extract_regex(messages, pattern)
    ok = pc.is_valid(parts)
    parts = parts.filter(ok)
    columns = []
    for field in PAYLOAD_SCHEMA:
        column = pc.struct_field(parts, field.name)
        if field.name in ("command", "object_type", "object_name", "statement", "parameter"):
            column = _unquote(column)
        else:
            column = pc.if_else(pc.equal(column, ""), None, column)
        if pa.types.is_dictionary(field.type):
            column = column.dictionary_encode()
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=PAYLOAD_SCHEMA), ok


def _unquote(column: pa.Array) -> pa.Array:
    """Undo append_valid_csv(); a field that isn't there is NULL."""
    quoted = pc.starts_with(column, '"')
    inner = pc.replace_substring_regex(column, r'(?s)^"(.*)"$', r"\1")
    inner = pc.replace_substring(inner, '""', '"')
    plain = pc.if_else(pc.equal(column, ""), None, column)
    return pc.if_else(quoted, inner, plain)
