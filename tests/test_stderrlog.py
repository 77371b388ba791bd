"""stderr: any log_line_prefix, any cut, and names that look like the rest of a line.

The yardstick prints records as elog.c does, with code of its own.
"""

import datetime as dt
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalple.ingest import sourcefile, stderrhead, stderrlog
from scalple.ingest.container import LogReader, ReadOptions
from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.localised import LABELS, SEVERITIES
from scalple.ingest.prefixguess import KNOWN
from scalple.ingest.records import AMBIGUOUS, NONSTANDARD, UNPROVEN
from scalple.ingest.rejects import Block, Reject
from scalple.ingest.sourcefile import SourceFile
from tests import reads

DEBIAN = "%m [%p] %q%u@%d "
FULL = "%m [%p] %l %c %v %x %e %i %P %Q %q%u@%d %r %a "
LABELS_IN_ORDER = ("DETAIL", "HINT", "QUERY", "CONTEXT", "LOCATION", "STATEMENT")
AUDIT = "AUDIT: SESSION,1,1,READ,SELECT,,,SELECT 1,<none>"


@dataclass
class Entry:
    """One record as the server holds it when it logs."""

    message: str
    severity: str = "LOG"
    values: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    is_session: bool = True


def value(entry: Entry, escape: str) -> str:
    """What an escape prints; names and addresses of a client only for its sessions."""
    defaults = {
        "m": "2026-03-14 11:22:08.123 UTC",
        "t": "2026-03-14 11:22:08 UTC",
        "n": "1773487328.123",
        "s": "2026-03-14 11:22:07 UTC",
        "p": "8841",
        "l": "4",
        "c": "69b544df.2289",
        "e": "00000",
        "x": "0",
        "Q": "-17",
        "b": "client backend",
        "v": "3/17",
        "P": "",
        "u": "app_user",
        "d": "production",
        "a": "psql",
        "r": "10.0.0.5(51234)",
        "h": "10.0.0.5",
        "L": "10.0.0.9",
        "i": "SELECT",
    }
    if not entry.is_session and escape in "audrhLi":
        return ""
    return entry.values.get(escape, defaults[escape])


def prefix_of(setting: str, entry: Entry) -> str:
    """log_status_format(): character by character."""
    out, at = "", 0
    while at < len(setting):
        if setting[at] != "%":
            out += setting[at]
            at += 1
            continue
        at += 1
        width = ""
        while at < len(setting) and setting[at] in "-0123456789":
            width += setting[at]
            at += 1
        if at == len(setting):
            break
        escape = setting[at]
        at += 1
        if escape == "%":
            out += "%"
        elif escape == "q":
            if not entry.is_session:
                return out
        else:
            text = value(entry, escape)
            size = int(width) if width.strip("-") else 0
            out += text.ljust(-size) if size < 0 else text.rjust(size)
    return out


def printed(setting: str, entries: list[Entry]) -> bytes:
    """send_message_to_server_log(): each part behind a prefix, a tab behind each line break."""
    out = ""
    for entry in entries:
        parts = [(entry.severity, entry.message)]
        parts += [(name, entry.labels[name]) for name in LABELS_IN_ORDER if name in entry.labels]
        for word, text in parts:
            tabbed = text.replace("\n", "\n\t")
            out += f"{prefix_of(setting, entry)}{word}:  {tabbed}\n"
    return out.encode("utf-8", "surrogateescape")


def reader(data: bytes, setting: str | None, timezone: str = "UTC") -> LogReader:
    """The file's reader, the prefix stated or recognised."""
    options = ReadOptions(timezone, () if setting is None else (setting,))
    assert stderrlog.looks_like_stderr(data, options)
    return stderrlog.CONTAINER.open(data, "test", options)


def parse(data: bytes, setting: str | None = DEBIAN) -> Block:
    """One parse of a whole file."""
    return reader(data, setting).parse(data, 0, final=True)


def parse_in_reads(data: bytes, setting: str | None, length: int) -> tuple[pa.Table, list[Reject]]:
    """In reads of `length` bytes."""
    one = reader(data, setting)
    table, rejects, _ = reads.parse_in_reads(
        data, length, lambda piece, at, final: one.parse(piece, at, final=final)
    )
    return table, rejects


# -- prefixes -------------------------------------------------------------------------------------

STATED = [
    *(text for text in KNOWN if "%" in text),
    "%m [%-8p] <%10u|%-10d> ",
    "%n %p ",
    "%s %t [%5p] ",
    "%t %%x%%[%p] ",
    "%m %b[%p] %u ",
    "%m [%p] %b %u@%d ",
    "%m [%p] %i %u ",
    "%m %L %h %p:%P:%Q:%q%a:%u:%d: ",
    "[%m] {%c} %q%r ",
]


@pytest.mark.parametrize("setting", STATED)
def test_a_prefix_in_use_gives_back_what_it_was_printed_from(setting: str) -> None:
    if not re.search(r"%[-0-9]*[mtn]", setting):
        with pytest.raises(ConfigError, match="no time"):
            parse(printed(setting, [Entry(AUDIT)]), setting)
        return
    entries = [
        Entry("starting", is_session=False, values={"b": "postmaster"}),
        Entry(AUDIT),
        Entry("two\nlines", values={"r": "2001:db8::7(50001)", "h": "2001:db8::7"}),
        Entry(AUDIT, values={"r": "[local]", "h": "[local]", "v": "", "u": "x", "d": "y"}),
    ]
    block = parse(printed(setting, entries), setting)
    assert block.rejects == []
    assert_same(block, setting, entries)


def assert_same(block: Block, setting: str, entries: list[Entry]) -> None:
    """Every field that the prefix shows is the entry's; the others are NULL."""
    shown = set(re.findall(r"%[-0-9]*([A-Za-z])", setting))
    rows = block.table.to_pylist()
    assert [row["message"] for row in rows] == [entry.message for entry in entries]
    assert [row["error_severity"] for row in rows] == [entry.severity for entry in entries]
    for row, entry in zip(rows, entries, strict=True):
        of = {
            escape: value(entry, escape)
            for escape in shown - {"q"}
            if _is_shown(setting, escape, entry)
        }
        seconds = dt.datetime(2026, 3, 14, 11, 22, 8, tzinfo=dt.UTC)
        fraction = 123_000 if {"m", "n"} & shown else 0
        assert row["log_time"] == seconds + dt.timedelta(microseconds=fraction)
        assert row["user_name"] == (of.get("u") or None)
        assert row["database_name"] == (of.get("d") or None)
        assert row["application_name"] == (of.get("a") or None)
        assert row["process_id"] == (int(of["p"]) if "p" in of else None)
        assert row["session_line_num"] == (int(of["l"]) if "l" in of else None)
        assert row["virtual_transaction_id"] == (of.get("v") or None)
        assert row["sql_state_code"] == of.get("e")
        assert row["leader_pid"] is None
        came_from = re.sub(r"\((\d+)\)$", r":\1", of.get("r") or of.get("h") or "") or None
        assert row["connection_from"] == came_from
        if "c" in of or {"s", "p"} <= of.keys():
            assert row["session_id"] == "69b544df.2289"
        else:
            assert row["session_id"] is None


def _is_shown(setting: str, escape: str, entry: Entry) -> bool:
    before = setting.split("%q", 1)[0] if not entry.is_session else setting
    return bool(re.search(rf"%[-0-9]*{escape}", before))


SEPARATORS = st.sampled_from(
    [" ", " [", "] ", "] [", ": ", "|", " - ", " #", ";", " @", " <", "> "]
)
ESCAPES = st.sampled_from([*"audrhbpcelsvxQ", "-10u", "5p", "-20r", "8l", "12d"])
NAME = st.text(st.sampled_from("abcXYZ_0189"), min_size=1, max_size=12).map(lambda s: "n" + s)


@st.composite
def prefixes(draw: st.DrawFn) -> str:
    """A setting in which something that can't be in a name stands between two values."""
    escapes = draw(st.lists(ESCAPES, max_size=7, unique_by=lambda one: one[-1]))
    escapes.insert(draw(st.integers(0, len(escapes))), draw(st.sampled_from("mtn")))
    text = draw(st.sampled_from(["", "[", "<", "# "]))
    stop = draw(st.integers(0, 2 * len(escapes)))
    for at, escape in enumerate(escapes):
        # The server leaves out what follows %q; a time has to stand before it.
        if at == stop and set("mtn") & set("".join(escapes[:at])):
            text += "%q"
        text += f"%{escape}{draw(SEPARATORS)}"
    return text


@st.composite
def entries_of(draw: st.DrawFn) -> list[Entry]:
    made = []
    for _ in range(draw(st.integers(1, 5))):
        values = {
            "u": draw(NAME),
            "d": draw(NAME),
            "a": draw(NAME),
            "l": str(draw(st.integers(1, 10**9))),
        }
        address = draw(st.sampled_from(["10.0.0.5", "::1", "2001:db8::7", "db-client.example"]))
        values |= {"h": address, "r": f"{address}({draw(st.integers(0, 65535))})"}
        values |= {"p": "8841", "v": draw(st.sampled_from(["", "3/17", "44/4294967295"]))}
        message = draw(
            st.sampled_from([AUDIT, "hello", "a\nb\n\n\tc", "x: y", "é 漢\x0b\u2028z", ""])
        )
        made.append(Entry(message, values=values, is_session=draw(st.booleans())))
    return made


FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(prefixes(), entries_of())
def test_any_prefix_gives_back_what_it_was_printed_from(setting: str, entries: list[Entry]) -> None:
    block = parse(printed(setting, entries), setting)
    assert block.rejects == []
    assert_same(block, setting, entries)


def test_a_prefix_without_a_time_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no time"):
        stderrlog.looks_like_stderr(b"[1] LOG:  x\n", ReadOptions("UTC", ("[%p] ",)))


@pytest.mark.parametrize("setting", [text for text in KNOWN if re.search("%[mt]", text)])
def test_a_common_prefix_is_recognised(setting: str) -> None:
    """Or an equal one: what is read from the lines is the same."""
    entries = [Entry(AUDIT), Entry("x", is_session=False), Entry(AUDIT, "WARNING")] * 3
    data = printed(setting, entries)
    block, stated = parse(data, None), parse(data, setting)
    assert block.rejects == []
    names = ["message", "user_name", "database_name", "process_id", "connection_from"]
    swapped = "%m [%p] %u %d" in setting  # the log itself doesn't tell role and database apart
    assert block.table.select(names).equals(stated.table.select(names)) or swapped


def test_an_unknown_prefix_is_described() -> None:
    for setting in ("<<%m>> #%p# u=%u ", "%t|%p|%c|", "%m [%p] app=%a r=%r c=%c l=%l v=%v "):
        data = printed(setting, [Entry(AUDIT, values={"u": "app_user"})] * 5)
        options = ReadOptions("UTC")
        if not stderrlog.looks_like_stderr(data, options):
            described = stderrlog.seems_stderr(data)
            assert described == setting
            assert parse(data, described).table.num_rows == 5


# -- records --------------------------------------------------------------------------------------

TEXTS = st.sampled_from(
    [
        AUDIT,
        'AUDIT: SESSION,1,1,READ,SELECT,,,"SELECT\n1, ""x""",<none>',
        "SELECT 'a\n2026-03-14 11:22:08.123 UTC [1] a@b LOG:  AUDIT: x'",
        "plain",
        "\n\n",
        "tab\n\ttab",
        "LOG: x",
    ]
)
PIDS = st.sampled_from(["8841", "8842", "9"])


@st.composite
def records(draw: st.DrawFn) -> list[Entry]:
    made = []
    for number in range(draw(st.integers(1, 90))):
        labels = draw(st.dictionaries(st.sampled_from(LABELS_IN_ORDER), TEXTS, max_size=2))
        labels = {name: text for name, text in labels.items() if name != "LOCATION"}
        severity = draw(st.sampled_from(["LOG", "ERROR", "NOTICE"]))
        values = {"p": draw(PIDS), "l": str(number + 1)}
        made.append(Entry(draw(TEXTS), severity, values, labels, draw(st.booleans())))
    return made


def said(table: pa.Table) -> list[tuple[object, ...]]:
    """What each record says."""
    names = (
        "process_id",
        "error_severity",
        "message",
        "detail",
        "context",
        "query",
        "source_offset",
    )
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


@FEW
@given(records(), st.integers(1, 3000), st.sampled_from([DEBIAN, FULL, "%t %p "]))
def test_the_cut_into_reads_changes_nothing(
    entries: list[Entry], length: int, setting: str
) -> None:
    data = printed(setting, entries)
    whole = parse(data, setting)
    table, rejects = parse_in_reads(data, setting, length)
    assert said(table) == said(whole.table)
    assert rejects == whole.rejects == []
    assert whole.consumed == len(data)
    expected = [
        (
            e.severity,
            e.message,
            e.labels.get("DETAIL"),
            e.labels.get("CONTEXT"),
            e.labels.get("STATEMENT"),
        )
        for e in entries
    ]
    found = [row[1:6] for row in said(table)]
    assert found == expected


@FEW
@given(st.data())
def test_foreign_lines_are_kept_and_disturb_no_record(draw: st.DataObject) -> None:
    entries = draw.draw(records())
    lines = printed(DEBIAN, entries).split(b"\n")[:-1]
    heads = [at for at, line in enumerate(lines) if not line.startswith(b"\t")]
    clean = parse(b"\n".join(lines) + b"\n")
    foreign = [b"pg_ctl: could not start server", b"***", b"Segmentation fault", b"\xff\xfe"]
    for at in sorted(draw.draw(st.lists(st.sampled_from(heads), max_size=4)), reverse=True):
        lines.insert(at, draw.draw(st.sampled_from(foreign)))
    data = b"\n".join(lines) + b"\n"
    block = parse(data)
    assert [row[:6] for row in said(block.table)] == [row[:6] for row in said(clean.table)]
    kept = b"\n".join(one.raw for one in block.rejects)
    assert sum(kept.count(one) for one in foreign) == sum(lines.count(one) for one in foreign)
    for length in (80, 1000):
        table, rejects = parse_in_reads(data, DEBIAN, length)
        assert said(table) == said(block.table)
        assert rejects == block.rejects


def test_lines_of_several_processes_between_each_other() -> None:
    one = printed(DEBIAN, [Entry("a", "ERROR", {"p": "1"}, {"DETAIL": "d\nd", "STATEMENT": "s"})])
    two = printed(DEBIAN, [Entry("b", "ERROR", {"p": "2"}, {"CONTEXT": "c", "STATEMENT": "t"})])
    first, second = one.splitlines(True), two.splitlines(True)
    mixed = [first[0], second[0], second[1], first[1], first[2], second[2], first[3]]
    block = parse(b"".join(mixed))
    assert [row[2:6] for row in said(block.table)] == [
        ("a", "d\nd", None, "s"),
        ("b", None, "c", "t"),
    ]


def test_a_label_without_its_record_is_a_reject() -> None:
    data = printed(DEBIAN, [Entry("a", "ERROR", labels={"DETAIL": "d"})]).split(b"\n", 1)[1]
    block = parse(data + printed(DEBIAN, [Entry("b")]))
    assert [row[2] for row in said(block.table)] == ["b"]
    assert [one.reason for one in block.rejects] == ["continues no record before it"]


@pytest.mark.parametrize("language", range(12))
def test_translated_severities_and_labels(language: int) -> None:
    def word(words: str) -> str:
        every = words.split()
        return every[min(language, len(every) - 1)]

    entries = [
        Entry("bad", word(SEVERITIES["ERROR"]), labels={word(LABELS["query"]): "SELECT 1"}),
        Entry(AUDIT, word(SEVERITIES["LOG"]), {"u": "[unknown]"}),
    ]
    data = b""
    for entry in entries:
        data += printed(DEBIAN, [Entry(entry.message, entry.severity, entry.values)])
        for label, text in entry.labels.items():
            data += f"{prefix_of(DEBIAN, entry)}{label}:  {text}\n".encode()
    for setting in (DEBIAN, None):
        block = parse(data, setting)
        assert block.rejects == []
        assert [row[1:3] for row in said(block.table)] == [("ERROR", "bad"), ("LOG", AUDIT)]
        assert said(block.table)[0][5] == "SELECT 1"
        assert block.table["user_name"].to_pylist() == ["app_user", None]


def test_verbose_lines_say_their_state() -> None:
    entries = [
        Entry("00000: " + AUDIT, labels={"LOCATION": "log_audit_event, pgaudit.c:774"}),
        Entry("42P01: no such table", "ERROR", labels={"LOCATION": "parserOpenTable, x.c:1"}),
        Entry("00000: " + AUDIT, labels={"LOCATION": "exec_stmt_raise, pl_exec.c:3911"}),
        Entry("42P01: is what the message itself says", "ERROR"),
        Entry("x"),
    ]
    table = parse(printed(DEBIAN, entries)).table
    assert table["message"].to_pylist()[:2] == [AUDIT, "no such table"]
    assert table["sql_state_code"].to_pylist() == ["00000", "42P01", "00000", None, None]
    assert table["remark"].to_pylist() == [None, None, "forged-line", None, None]
    assert table["message"][3].as_py().startswith("42P01: ")


def test_half_a_verbose_record_waits_and_is_never_lost() -> None:
    verbose = Entry("00000: " + AUDIT, labels={"LOCATION": "log_audit_event, pgaudit.c:774"})
    data = printed(DEBIAN, [verbose, verbose])
    cut = data.rindex(prefix_of(DEBIAN, verbose).encode())
    block = parse(data[:cut])
    assert block.table["message"].to_pylist() == [AUDIT]
    assert data[block.consumed :].count(b"AUDIT") == 1
    followed = data[:cut] + printed(DEBIAN, [Entry("x")] * 3)
    table = parse(followed).table
    assert table["message"].to_pylist()[:2] == [AUDIT, AUDIT]
    assert table["remark"].to_pylist()[:2] == [None, UNPROVEN]


def test_a_warning_that_a_client_may_have_raised_is_not_pgaudits_for_sure() -> None:
    table = parse(printed(DEBIAN, [Entry(AUDIT, "WARNING"), Entry(AUDIT)])).table
    assert table["remark"].to_pylist() == [UNPROVEN, None]


def test_a_prefix_that_changes_in_the_file() -> None:
    data = printed("%m [%p] ", [Entry("a", is_session=False)] * 3)
    setting = "%m <%p> {%u} "
    changed = f'parameter "log_line_prefix" changed to "{setting}"'
    data += printed(setting, [Entry(changed, is_session=False), Entry(AUDIT)])
    data += printed("%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ", [Entry(AUDIT)])
    block = parse(data, None)
    assert block.rejects == []
    assert block.table["user_name"].to_pylist() == [None] * 4 + ["app_user"] * 2
    assert block.table["application_name"].to_pylist() == [None] * 5 + ["psql"]


def test_windows_line_ends() -> None:
    data = printed(DEBIAN, [Entry("a\nb"), Entry(AUDIT)]).replace(b"\n", b"\r\n")
    assert parse(data).table["message"].to_pylist() == ["a\nb", AUDIT]


def test_one_blank_behind_the_severity_as_consoles_show_it() -> None:
    data = printed(DEBIAN, [Entry(AUDIT), Entry("x", "ERROR", labels={"STATEMENT": "s"})])
    block = parse(data.replace(b":  ", b": "))
    assert [row[2] for row in said(block.table)] == [AUDIT, "x"]
    assert block.rejects == []


def test_a_megabyte_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "AUDIT: SESSION,1,1,READ,SELECT,,,\"SELECT '" + 'x"",\n\t' * 400_000 + "'\",<none>"
    path = tmp_path / "big.log"
    path.write_bytes(printed(DEBIAN, [Entry("a"), Entry(text), Entry("c")]))
    monkeypatch.setattr(sourcefile, "BLOCK_BYTES", 50_000)
    one = reader(path.read_bytes()[:9999], DEBIAN)
    file = SourceFile(path)
    pieces = list(file.pieces(lambda data, at, final: one.parse(data, at, final=final)))
    messages = [m for piece in pieces for m in piece.block.table["message"].to_pylist()]
    assert messages == ["a", text, "c"]


def test_half_a_statement_at_the_end_waits() -> None:
    data = printed(DEBIAN, [Entry("a"), Entry('AUDIT: SESSION,1,1,READ,SELECT,,,"a\nb",<none>')])
    cut = data.rindex(b"\n\t") + 1
    block = parse(data[:cut])
    assert block.table["message"].to_pylist() == ["a"]
    assert data[block.consumed :].startswith(b"2026")


# -- names that look like lines -------------------------------------------------------------------


@pytest.mark.parametrize("setting", [DEBIAN, FULL, "%m [%p] %u ", "%m [%p] %q%a "])
def test_a_name_with_a_line_break_stays_a_name(setting: str) -> None:
    entry = Entry(AUDIT, values={"u": "odd\nrole", "a": "psql"})
    block = parse(printed(setting, [Entry("x"), entry, Entry("y")]), setting)
    assert block.rejects == []
    assert block.table["message"].to_pylist() == ["x", AUDIT, "y"]
    if "%u" in setting:
        assert block.table["user_name"].to_pylist()[1] == "odd\nrole"
    assert block.table["remark"].null_count == 3


@pytest.mark.parametrize("setting", [DEBIAN, FULL, "%m [%p] %u ", "%t [%p]: user=%u,db=%d "])
def test_a_stranger_cannot_write_a_statement_into_the_log(setting: str) -> None:
    """User and database of a connection that fails are printed as they are, line breaks included."""
    head = prefix_of(setting, Entry(AUDIT))
    names = {"u": f"\n{head[:60]}", "d": f"LOG:  {AUDIT}\n"[:63]}
    whole = {"u": f"x\n{prefix_of('%m [%p] ', Entry(AUDIT))}LOG:  AUDIT: SESSION,1,1,R", "d": "y"}
    for values in (names, whole):
        failed = Entry('role "x" does not exist', "FATAL", values)
        data = printed(setting, [Entry("a"), failed, Entry("b")])
        for block in (parse(data, setting), *([parse(data, None)] if setting == DEBIAN else [])):
            rows = block.table.to_pylist()
            assert [row["message"] for row in rows][:: len(rows) - 1] == ["a", "b"]
            audit = [row for row in rows if row["message"].startswith("AUDIT")]
            assert all(row["remark"] == AMBIGUOUS for row in audit)


@pytest.mark.parametrize("severity", ["LOG", "ERROR", "DETAIL"])
@pytest.mark.parametrize(
    "message",
    [
        "connection authorized: user=app_user database=production",
        "unexpected EOF on client connection with an open transaction",
        "AUDIT: SESSION,7,1,READ,SELECT,,,SELECT 2,<none>",
    ],
)
def test_an_application_name_that_looks_like_the_end_of_a_prefix(
    severity: str, message: str
) -> None:
    """Neither a statement that was never run, nor the loss of one that was."""
    for name in (f"x {severity}:  {AUDIT}"[:63], f"z {severity}:  x"):
        forged = Entry(message, values={"a": name})
        data = printed("%m [%p] %q%u@%d %a ", [Entry("a"), forged, Entry(AUDIT)])
        for setting in ("%m [%p] %q%u@%d %a ", None):
            block = parse(data, setting)
            rows = block.table.to_pylist()
            audit = [row for row in rows if row["message"].startswith("AUDIT")]
            assert audit[-1]["remark"] is None
            assert {row["remark"] for row in audit[:-1]} <= {AMBIGUOUS}
            kept = b"".join(one.raw for one in block.rejects)
            kept += b"".join(row["message"].encode() for row in audit)
            assert kept.count(b"AUDIT: ") >= data.count(b"AUDIT: ")
            assert [row["detail"] for row in rows] == [None] * len(rows)


def test_text_about_log_lines_far_from_the_prefix_is_not_suspected() -> None:
    text = "AUDIT: SESSION,2,1,READ,SELECT,,,SELECT id FROM lines WHERE text = 'x LOG:  y',<none>"
    assert parse(printed("%m [%p] %q%u@%d %a ", [Entry(text)])).table["remark"].null_count == 1


def test_names_of_a_failed_login_that_are_whole_lines() -> None:
    """The first of them stands behind the true prefix, the last before the true rest."""
    time = "2026-03-14 11:22:09.123 UTC"
    user = f"a@b LOG:  c\n{time} [79] jmueller"
    short = "1773487328.123 [79] jmueller"
    for setting, names in (
        (DEBIAN, {"u": user, "d": "app LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,a,b\n"}),
        (DEBIAN, {"u": user, "d": "app LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,a,b"}),
        (
            "%n [%p] %u@%d ",
            {
                "u": f"a@b LOG:  c\n{short}",
                "d": "p LOG:  AUDIT: SESSION,1,1,R,,,,a,b\n1.123 [8] x@y",
            },
        ),
    ):
        assert all(len(name) <= 63 for name in names.values())
        message = f'password authentication failed for user "{names["u"]}"'
        data = printed(
            setting, [Entry("a")] * 3 + [Entry(message, "FATAL", names)] + [Entry("b")] * 3
        )
        rows = parse(data, setting).table.to_pylist()
        audit = [row for row in rows if row["message"].startswith("AUDIT")]
        assert {row["remark"] for row in audit} <= {AMBIGUOUS}
        assert [row["message"] for row in rows if row["remark"] is None][-2:] == ["b", "b"]


def test_a_guess_that_swaps_role_and_database_is_refused() -> None:
    swapped = "%m [%p] %d@%u "
    told = "connection authorized: user=awagner database=jmueller"
    names = {"u": "awagner", "d": "jmueller"}
    data = printed(swapped, [Entry(told, values=names), Entry(AUDIT, values=names)])
    with pytest.raises(InputError, match="role and database"):
        reader(data, None)
    assert parse(data, swapped).table["user_name"].to_pylist() == ["awagner"] * 2


def test_a_client_that_announces_prefixes_fills_no_memory() -> None:
    text = "".join(f'\nparameter "log_line_prefix" changed to "%m {n} "' for n in range(2000))
    data = printed(DEBIAN, [Entry(f"statement: x{text}"), Entry(f"x{text}", "ERROR")])
    one = reader(data, DEBIAN)
    one.parse(data, 0, final=True)
    assert isinstance(one, stderrlog.StderrReader)
    assert len(one.prefixes) <= 16


@pytest.mark.parametrize(
    "line",
    [
        "2026-03-14 11:22:08.123 UTC [77] jmueller@app whatever",
        "2026-03-14 11:22:08.123 UTC",
        "foreign",
        " indented",
    ],
)
def test_many_lines_of_no_form_cost_a_bounded_number_of_patterns(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counted(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        return stderrhead.match_one(*arguments)  # type: ignore[arg-type]

    for module in ("stderrstrays", "stderrlog"):
        monkeypatch.setattr(f"scalple.ingest.{module}.match_one", counted)
    quoted = 'AUDIT: SESSION,1,1,READ,SELECT,,,"open'
    data = printed(DEBIAN, [Entry("a"), Entry(quoted)]) + f"{line}\n".encode() * 20_000
    block = parse(data + printed(DEBIAN, [Entry("b")]))
    assert block.table["message"][-1].as_py() == "b"
    assert calls < 100


# -- the entries of the brief ---------------------------------------------------------------------

FIRST = (
    "2026-03-14 11:22:08 UTC [8841]: [4-1] user=app_user,db=production,app=psql AUDIT: "
    "SESSION,1,1,READ,SELECT,TABLE,users,SELECT id, email, subscription_tier FROM users "
    "WHERE region = 'EU';\n"
)
SECOND = (
    "2026-03-15 14:23:11 UTC [12847]: LOG:  AUDIT: SESSION,42,1,READ,SELECT,TABLE,app.users,"
    '"SELECT id, email, created_at FROM users WHERE id = $1",<not logged>\n'
)


@pytest.mark.parametrize("width", [None, 60, 75, 100])
def test_the_entries_of_the_brief(width: int | None) -> None:
    text = FIRST + SECOND
    if width is not None:  # as the brief itself prints them
        text = "".join(
            f"{part}\n"
            for line in text.splitlines()
            for part in textwrap.wrap(line, width, break_on_hyphens=False)
        )
    block = parse(text.encode(), None)
    rows = block.table.to_pylist()
    assert block.rejects == []
    assert [row["process_id"] for row in rows] == [8841, 12847]
    assert rows[0]["remark"] == NONSTANDARD
    assert (rows[0]["user_name"], rows[0]["database_name"]) == ("app_user", "production")
    assert rows[0]["application_name"] == "psql"
