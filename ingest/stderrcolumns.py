"""What stderr records say, as the columns of TABLE_SCHEMA.

Enters: heads and texts, and which of them are records and which complete those. Leaves: the table,
and the records of which a field is not what PostgreSQL writes there. Decides nothing about lines.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.container import complete
from scalple.ingest.fields import UNSOUND, sift
from scalple.ingest.localised import UNKNOWN
from scalple.ingest.logtime import LogTimes, NotATimeError
from scalple.ingest.records import FORGED, UNPROVEN, Lacks

if TYPE_CHECKING:
    from scalple.ingest.stderrgroups import Groups

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_UNKNOWN = pa.array(sorted(UNKNOWN), pa.string())
_PLACE = r" at character \d+$"
_AUDITED = "log_audit_event"
"""The function of pgaudit.c that writes AUDIT records, as verbose logs tell."""


def columns_of(
    groups: "Groups", kept: Ints, labels: Ints, texts: pa.Array, offset: int, times: LogTimes
) -> tuple[pa.Table, list[tuple[int, str]]]:
    """(table, (ordinal, reason) of the records left out).

    Args:
        groups: the block's heads.
        kept: ordinals of the records.
        labels: ordinals of the labels that complete them.
        texts: each head's text, binary.
        offset: where the block stands in the file, in bytes.
        times: resolves the time stamps.
    """
    said = groups.heads.take(pa.array(kept)).combine_chunks()
    columns = _from_head(said, times, groups.lacks)
    messages, broken = _text(texts.take(pa.array(kept)))
    columns["message"] = messages
    completed, also_broken = _from_labels(groups, kept, labels, texts)
    location = completed.pop("location")
    columns |= completed
    states = _states(said, columns, location)
    columns["message"], columns["sql_state_code"] = states
    columns["error_severity"] = _severities(groups, kept)
    columns["message"] = _without_place(columns["message"], columns["error_severity"])
    verbose = pc.is_valid(said.column("state").combine_chunks())
    columns["remark"] = _remarks(groups, kept, columns, location, verbose)
    columns["lines"] = pa.array(_line_counts(kept, groups.owner[labels]), pa.int32())
    starts = groups.lines.starts[said.column("line").to_numpy()]
    columns["source_offset"] = pa.array(starts.astype(np.uint64) + np.uint64(offset))
    bad = broken | also_broken
    table = pa.table(columns)
    sound, unsound = sift(table.filter(pa.array(~bad)), times, lacking=True)
    left_out = [(int(kept[at]), "not valid UTF-8") for at in np.flatnonzero(bad).tolist()]
    fine = np.flatnonzero(~bad)
    left_out += [(int(kept[fine[at]]), UNSOUND) for at in unsound.tolist()]
    named = dict(zip(sound.column_names, sound.columns, strict=True))
    return complete(named, sound.num_rows), left_out


def _text(values: pa.Array) -> tuple[pa.Array, Bools]:
    """As text; where it isn't any, empty, and which those are."""
    try:
        return values.cast(pa.string()), np.zeros(len(values), bool)
    except pa.ArrowInvalid:
        found = [_decoded(value) for value in values.to_pylist()]
        bad = np.array([one is None for one in found], bool)
        return pa.array([one or "" for one in found], pa.string()), bad


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _from_head(said: pa.Table, times: LogTimes, lacks: Lacks) -> dict[str, pa.Array]:
    def encoded(escape: str) -> pa.DictionaryArray:
        values = said.column(f"f_{escape}").combine_chunks().dictionary_encode()
        texts = [value.decode("utf-8", "replace") for value in values.dictionary.to_pylist()]
        return _recoded(values.indices, texts)

    def name(escape: str) -> pa.DictionaryArray:
        values = encoded(escape)
        known = pc.if_else(
            pc.is_in(values.dictionary, _UNKNOWN), pa.scalar(None, pa.string()), values.dictionary
        )
        return _recoded(values.indices, known.to_pylist())

    def number(escape: str, kind: pa.DataType) -> pa.Array:
        return said.column(f"f_{escape}").combine_chunks().cast(pa.string()).cast(kind)

    process = number("p", pa.int32())
    return {
        "log_time": _time(said),
        "user_name": name("u"),
        "database_name": name("d"),
        "application_name": name("a"),
        "process_id": process,
        "connection_from": _came_from(encoded("r"), encoded("h")),
        "session_id": _session(said, encoded("c"), process, times),
        "session_line_num": number("l", pa.int64()),
        "virtual_transaction_id": said.column("f_v").combine_chunks().cast(pa.string()),
        "backend_type": encoded("b"),
        "leader_pid": number("P", pa.int32()),
        "lacks": _lacks(said, lacks),
    }


def _recoded(indices: pa.Array, values: list[str | None]) -> pa.DictionaryArray:
    """The same rows over other words, of which several may be alike."""
    distinct = pa.array(values, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(distinct.indices.take(indices), distinct.dictionary)


def _lacks(said: pa.Table, besides: Lacks) -> pa.Array:
    """Where no client is served, %a prints nothing: a parallel worker's name stays unsaid."""
    given = said.column("lacks").combine_chunks()
    lacks = pc.bit_wise_or(given, pa.scalar(int(besides), pa.uint16()))
    unsaid = pc.bit_wise_or(lacks, pa.scalar(int(Lacks.NAME), pa.uint16()))
    return pc.if_else(pc.is_null(said.column("f_a").combine_chunks()), unsaid, lacks)


def _time(said: pa.Table) -> pa.Array:
    """%m, else %t, else %n as %m writes it."""
    stamp = pc.coalesce(said.column("f_m"), said.column("f_t")).combine_chunks().cast(pa.string())
    epoch = said.column("f_n").combine_chunks().cast(pa.string())
    if epoch.null_count == len(epoch):
        return stamp
    moment = pc.replace_substring(epoch, ".", "").cast(pa.int64()).cast(pa.timestamp("ms"))
    text = pc.strftime(moment, "%Y-%m-%d %H:%M:%S")
    return pc.coalesce(stamp, pc.binary_join_element_wise(text, "UTC", " "))


def _came_from(remote: pa.DictionaryArray, host: pa.DictionaryArray) -> pa.Array:
    """%r as csvlog writes it, `address:port`; else %h."""
    if remote.null_count == len(remote):
        return host
    written = pc.replace_substring_regex(remote.dictionary, r"^(.*)\((\d+)\)$", r"\1:\2")
    ours = _recoded(remote.indices, written.to_pylist())
    if host.null_count == len(host):
        return ours
    return pc.coalesce(ours.cast(pa.string()), host.cast(pa.string())).dictionary_encode()


def _session(
    said: pa.Table, given: pa.DictionaryArray, process: pa.Array, times: LogTimes
) -> pa.Array:
    """%c, or what it would be: session start and process id in hexadecimal."""
    begun = said.column("f_s").combine_chunks()
    if given.null_count == 0 or begun.null_count == len(begun):
        return given
    texts = begun.cast(pa.string()).to_pylist()
    pairs = list(zip(texts, process.to_pylist(), strict=True))
    distinct = [pair for pair in dict.fromkeys(pairs) if None not in pair]
    try:
        moments = times.resolve(pa.array([text for text, _ in distinct], pa.string()))
    except NotATimeError:
        return given
    ids = {
        pair: f"{moment // 1_000_000:x}.{pair[1]:x}"
        for pair, moment in zip(distinct, moments.cast(pa.int64()).to_pylist(), strict=True)
    }
    made = pa.array([ids.get(pair) for pair in pairs], pa.string())
    return pc.coalesce(given.cast(pa.string()), made).dictionary_encode()


def _from_labels(
    groups: "Groups", kept: Ints, labels: Ints, texts: pa.Array
) -> tuple[dict[str, pa.Array], Bools]:
    """detail, context, query and location of the records; which hold what is no text."""
    columns: dict[str, pa.Array] = {}
    bad = np.zeros(len(kept), bool)
    kinds = np.array([groups.fields[code] for code in groups.word_of[labels].tolist()], object)
    place = np.searchsorted(kept, groups.owner[labels])
    for name in ("detail", "context", "query", "location"):
        mine = np.flatnonzero(kinds == name)
        if not len(mine):
            columns[name] = pa.nulls(len(kept), pa.string())
            continue
        values, broken = _text(texts.take(pa.array(labels[mine])))
        bad[place[mine[broken]]] = True
        at = np.full(len(kept), -1, np.int64)
        at[place[mine]] = np.arange(len(mine))
        columns[name] = values.take(pa.array(at, mask=at < 0))
    return columns, bad


def _states(
    said: pa.Table, columns: dict[str, pa.Array], location: pa.Array
) -> tuple[pa.Array, pa.Array]:
    """(messages, sqlstates): what looks like one counts where the record is verbose."""
    given = said.column("f_e").combine_chunks().cast(pa.string())
    told = said.column("state").combine_chunks().cast(pa.string())
    messages = columns["message"]
    if told.null_count == len(told):
        return messages, given
    # Without its LOCATION line a record isn't verbose: the five characters are the message's. But
    # a statement never gets lost by that: see `_remarks`.
    verbose = pc.or_(pc.is_valid(location), pc.starts_with(messages, "AUDIT: "))
    whole = pc.binary_join_element_wise(told, messages, ": ")
    messages = pc.if_else(pc.or_(verbose, pc.is_null(told)), messages, whole)
    state = pc.coalesce(given, pc.if_else(verbose, told, pa.scalar(None, pa.string())))
    return messages, state


def _without_place(messages: pa.Array, severity: pa.DictionaryArray) -> pa.Array:
    """An error's place in its statement has a column of its own elsewhere."""
    errors = pc.is_in(severity.cast(pa.string()), pa.array(["ERROR", "FATAL", "PANIC"]))
    if not pc.any(errors).as_py():
        return messages
    short = pc.replace_substring_regex(messages.filter(errors), _PLACE, "")
    return pc.replace_with_mask(messages, errors, short)


def _severities(groups: "Groups", kept: Ints) -> pa.DictionaryArray:
    codes = groups.word_of[kept]
    indices = pa.array(codes.astype(np.int32), mask=codes < 0)
    return _recoded(indices, groups.severities)


def _remarks(
    groups: "Groups",
    kept: Ints,
    columns: dict[str, pa.Array],
    location: pa.Array,
    verbose: pa.Array,
) -> pa.Array:
    """What makes a record less than PostgreSQL's own word."""
    remarks = {
        int(np.searchsorted(kept, one)): remark
        for one, remark in groups.remarks.items()
        if one in kept
    }
    audit = pc.starts_with(columns["message"], "AUDIT: ")
    elsewhere = pc.and_(audit, pc.fill_null(pc.invert(pc.starts_with(location, _AUDITED)), False))
    severity = columns["error_severity"].cast(pa.string())
    # A warning that a client raises leaves its mark in CONTEXT only, which terse logs leave out; and
    # what looks like half a verbose record may be a message that begins so.
    odd = pc.or_(pc.fill_null(pc.not_equal(severity, "LOG"), False), verbose)
    bare = pc.and_(pc.is_null(location), pc.is_null(columns["context"]))
    unproven = pc.and_(pc.and_(audit, bare), odd)
    for which, remark in ((elsewhere, FORGED), (unproven, UNPROVEN)):
        for row in np.flatnonzero(np.asarray(which.to_numpy(zero_copy_only=False), bool)).tolist():
            remarks.setdefault(row, remark)
    words = sorted(set(remarks.values()))
    codes = np.full(len(kept), -1, np.int32)
    for row, remark in remarks.items():
        codes[row] = words.index(remark)
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


def _line_counts(kept: Ints, owners: Ints) -> Ints:
    """How many lines with a prefix of its own each record takes."""
    place = np.searchsorted(kept, owners)
    return 1 + np.bincount(place, minlength=len(kept)).astype(np.int64)
