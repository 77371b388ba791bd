"""stderr: bytes of PostgreSQL's plain log -> server log records as columns.

Enters: a block of bytes that starts at a line's start, and the prefixes its lines may have. Leaves:
a table of TABLE_SCHEMA, and the lines that are no record. Source: src/backend/utils/error/elog.c,
send_message_to_server_log() and append_with_tabs().

A record is a line `prefix SEVERITY:  message`, the lines behind it that begin with a tab, and the
lines `prefix DETAIL:  …` (HINT, QUERY, CONTEXT, LOCATION, STATEMENT) of the same process that follow
soon (`stderrgroups`). Lines are matched by one pattern per prefix over whole columns
(`stderrhead`); Python looks only at lines that no prefix matches, and at those that a client's
chosen name may have made look like another.

Doesn't open files, guess a time zone, or look into messages. Which record belongs to which session
is for `correlate`.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scalple.ingest.container import EMPTY, RECORD_BYTES_MAX, Container, ReadOptions
from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.lineprefix import LinePrefix, problem, read_prefix
from scalple.ingest.localised import ENGLISH, LABEL_OF, SEVERITY_OF, UNKNOWN
from scalple.ingest.logtime import LogTimes
from scalple.ingest.prefixguess import SEVERITY, describe, known_prefixes, ranked, share
from scalple.ingest.records import Lacks
from scalple.ingest.rejects import Block, Reject
from scalple.ingest.stderrgroups import LONG, WITHOUT_PREFIX, read_groups
from scalple.ingest.stderrhead import ENGLISH_WORDS, match_heads, match_one, shows_marks
from scalple.ingest.stderrlines import Lines

Ints = npt.NDArray[np.int64]

__all__ = ["CONTAINER", "WITHOUT_PREFIX", "StderrReader", "looks_like_stderr", "seems_stderr"]

SAMPLE_LINES = 1000
RECOGNISED_SHARE = 0.5
"""Part of a file's first lines that one prefix must match, if nobody stated it."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\b\d{10}\.\d{3}\b")
_TIME_WITHIN = 300
_ANNOUNCED = re.compile(
    rb'(?m)^[^\t\n][^\n]*?:  [^\n"]{0,40}"log_line_prefix" [^"\n]{1,80} "([^"\n]{1,200})"$'
)
_ANNOUNCED_MAX = 16
_FOREIGN_WORD = re.compile(
    rf"({'|'.join(map(re.escape, {*SEVERITY_OF, *LABEL_OF} - set(ENGLISH)))})\s?: {{1,2}}".encode()
)


@dataclass(slots=True)
class StderrReader:
    """Reads one file.

    Args:
        times: resolves the zone of the time stamps.
        prefixes: the prefix of the file's lines first, then others that it was seen to have.
        words: severities and labels to look for first, as a pattern.
        is_crlf: lines end as on Windows.
        lacks: what the log doesn't show, besides what its prefix lacks.
    """

    times: LogTimes
    prefixes: list[LinePrefix]
    words: str = ENGLISH_WORDS
    is_crlf: bool = False
    lacks: Lacks = Lacks(0)  # noqa: RUF009 (immutable)
    _known: list[LinePrefix] = field(default_factory=known_prefixes)

    def parse(self, data: bytes, offset: int, *, final: bool) -> Block:
        """The records of a block.

        A record is complete when enough lines follow it; at the end of the file the last one is
        taken as it is, unless it is pgAudit's and its quotes are open.
        """
        consumed = data.rfind(b"\n") + 1
        if not consumed:
            return _too_long(data, offset)
        self._note_announced(data)
        lines = Lines(data, consumed, self.is_crlf)
        heads = self._match(lines)
        groups = read_groups(lines, heads, self.lacks)
        end = groups.last_end(final=final)
        if end == 0:
            return _too_long(data, offset) if not final else Block(EMPTY, [], 0)
        return groups.block(end, offset, self.times)

    def look_for_marks(self, head: bytes) -> None:
        """By the file's first bytes, so that it is the same wherever the reading begins."""
        end = head.rfind(b"\n") + 1
        if not end or not shows_marks(self._match(Lines(head, end, self.is_crlf))):
            self.lacks |= Lacks.MARKS

    def next_start(self, data: bytes) -> int | None:
        """Where the first line that is a record's begins, behind the first line."""
        begin = data.find(b"\n") + 1
        if not begin:
            return None
        starts = self._record_starts(data[begin:])
        return begin + starts[0] if starts else None

    def record_end(self, data: bytes, place: int) -> int:
        """Lines that complete a record follow it at once: up to the next record they are its."""
        begin = data.rfind(b"\n", 0, place) + 1 if data[place - 1 : place] != b"\n" else place
        rest = data[begin:]
        starts = [begin + start for start in self._record_starts(rest) if begin + start >= place]
        return starts[0] if starts else max(place, begin + rest.rfind(b"\n") + 1)

    def _record_starts(self, data: bytes) -> list[int]:
        end = data.rfind(b"\n") + 1
        if not end:
            return []
        lines = Lines(data, end, self.is_crlf)
        heads = self._match(lines)
        words = heads.column("word").to_pylist()
        return [
            int(lines.starts[line])
            for line, word in zip(heads.column("line").to_pylist(), words, strict=True)
            if word is None or word.decode() in SEVERITY_OF
        ]

    def _note_announced(self, data: bytes) -> None:
        """The server says so when its prefix changes; lines so far have been read with the old."""
        if b'"log_line_prefix"' not in data:
            return
        for found in _ANNOUNCED.findall(data):
            text = found.decode("utf-8", "replace")
            full = len(self.prefixes) >= _ANNOUNCED_MAX
            if not full and problem(text) is None and text not in map(_text_of, self.prefixes):
                self.prefixes.append(read_prefix(text))

    def _match(self, lines: Lines) -> pa.Table:
        """HEADS of all lines, in order; what the first prefix doesn't match is tried with others."""
        at = np.flatnonzero(lines.may_begin)
        found, missed = match_heads(lines.array, at, self.prefixes[0], self.words)
        parts, at = [found], at[missed]
        if not len(at):
            return found
        sample = [lines.text(line) for line in at[:SAMPLE_LINES].tolist()]
        stated = list(self.prefixes)
        others = [
            one
            for one in ranked(sample, self._known)
            if one.text not in [known.text for known in stated]
        ]
        for prefix in (*stated, *others):
            if len(at):
                found, missed = match_heads(lines.array, at, prefix, SEVERITY)
                parts, at = [*parts, found], at[missed]
        for line in at[lines.lengths(at) > LONG].tolist():
            one = match_one(line, lines.bytes_of(line), self.prefixes[0])
            parts += [one] if one is not None else []
        whole = pa.concat_tables(parts).combine_chunks()
        order = np.argsort(whole.column("line").to_numpy(), kind="stable")
        return whole.take(pa.array(order))


def _text_of(prefix: LinePrefix) -> str:
    return prefix.text


def _too_long(data: bytes, offset: int) -> Block:
    """Nothing complete yet; more than any record takes is given up, so that memory is bounded."""
    if len(data) <= RECORD_BYTES_MAX:
        return Block(EMPTY, [], 0)
    return Block(EMPTY, [Reject(offset, data, "no record in 256 MiB")], len(data))


# -- recognition ---------------------------------------------------------------------------------


def _sample(head: bytes) -> list[str]:
    lines = head[: head.rfind(b"\n") + 1].split(b"\n") or [head]
    texts = [line.rstrip(b"\r").decode("utf-8", "replace") for line in lines if line[:1] != b"\t"]
    filled = [text for text in texts if text.strip()][:SAMPLE_LINES]
    # Lines that were wrapped by a copy begin with no time.
    return [text for text in filled if _TIME.search(text, 0, _TIME_WITHIN)] or filled


def looks_like_stderr(head: bytes, options: ReadOptions) -> bool:
    """Whether lines begin with the stated prefix, or with one of the common ones."""
    sample = _sample(head)
    if options.log_line_prefixes:
        return any(share(sample, _stated(text)) > 0 for text in options.log_line_prefixes)
    best = ranked(sample, known_prefixes())
    return bool(best) and (
        sum(share(sample, one) for one in best[:1]) >= RECOGNISED_SHARE
        or _covered(sample, best) >= RECOGNISED_SHARE
    )


def _covered(sample: list[str], prefixes: list[LinePrefix]) -> float:
    """Part of the lines that any of the prefixes matches: it may change within the sample."""
    left = sample
    for prefix in prefixes:
        left = [line for line in left if not share([line], prefix)]
    return 1 - len(left) / max(len(sample), 1)


def seems_stderr(head: bytes) -> str | None:
    """The prefix that lines seem to have, if they look like PostgreSQL's at all."""
    return describe(_sample(head))


def _stated(text: str) -> LinePrefix:
    if why := problem(text):
        raise ConfigError(
            f"log_line_prefix {text!r} can't be used: {why}",
            hint="give it as it stands in postgresql.conf, trailing blank included",
        )
    return read_prefix(text)


def _open(head: bytes, place: str, options: ReadOptions) -> StderrReader:
    sample = _sample(head)
    if options.log_line_prefixes:
        stated = [_stated(text) for text in options.log_line_prefixes]
        prefixes = sorted(stated, key=lambda one: -share(sample, one))
    else:
        best = ranked(sample, known_prefixes())
        if not best:
            raise InputError("no line begins with a known log_line_prefix", place=place)
        prefixes = [_checked(read_prefix(best[0].text), sample, place)]
    words = SEVERITY if _FOREIGN_WORD.search(head) else ENGLISH_WORDS
    first = head.partition(b"\n")[0]
    reader = StderrReader(LogTimes(options.timezone, place), prefixes, words, first.endswith(b"\r"))
    reader.look_for_marks(head)
    return reader


_AUTHORIZED = re.compile(r"connection authorized: user=(\S+) database=(\S+)(?: |$)")


def _checked(guess: LinePrefix, sample: list[str], place: str) -> LinePrefix:
    """Which of two names is the role only the server's own word tells: it must not contradict.

    Raises:
        InputError: it does.
    """
    pattern = re.compile(rf"{guess.pattern}LOG: {{1,2}}(?P<message>.*)")
    for line in sample:
        found = pattern.match(line)
        told = _AUTHORIZED.match(found["message"]) if found else None
        if found is None or told is None or not {"u", "d"} & set(guess.escapes):
            continue
        names = {"f_u": told[1], "f_d": told[2]}
        shown = {name: found[name] for name in names if name in found.re.groupindex}
        if any(value not in (names[name], *UNKNOWN) for name, value in shown.items()):
            raise InputError(
                f"its lines look like log_line_prefix {guess.text!r}, but role and database are "
                "others in what the server says of connections",
                place=place,
                hint="state the prefix: --log-line-prefix '…', as it stands in postgresql.conf",
            )
    return guess


CONTAINER = Container("a stderr log", looks_like_stderr, _open)
