"""What `doctor` found -> text for people, or JSON for programs (docs/DOCTOR.md).

Enters: a `Report`. Leaves: text. Decides nothing.
"""

import io
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from scalple.cli import render
from scalple.cli.findings import NOTE, SEVERITIES, Finding, Fix
from scalple.cli.logfindings import Volume, size
from scalple.cli.lookupcost import LookupCost
from scalple.cli.shown import shown, shown_json
from scalple.correlate.reachable import ORDER, UNPOOLED, WITH_SIDECAR, WITHOUT_SIDECAR, Reach
from scalple.ingest.liveserver import LiveServer
from scalple.ingest.logtail import LogSample, PoolerSample

VERSION = 1
_WAYS = {
    WITH_SIDECAR: "through a sidecar and the pooler",
    WITHOUT_SIDECAR: "through the pooler alone",
    UNPOOLED: "straight to PostgreSQL",
}
_NEEDS = {"restart": "restart", "reload": "reload"}
_WIDTH_MAX = 100
_TAB = "\t"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `doctor` says.

    Attributes:
        checked: what was looked at: `postgres`, `pgbouncer`, `config`, `account`.
        reach: the best grade for each way in which statements come.
        findings: what was found.
        volume: of the log to come; None where too little is known.
        lookup: what a question costs; None likewise.
        log, pooler_log: what the logs say; None where none was read.
        live: the server, if it was asked.
    """

    checked: Mapping[str, str | None]
    reach: Sequence[Reach]
    findings: Sequence[Finding]
    volume: Volume | None
    lookup: LookupCost | None
    log: LogSample | None
    pooler_log: PoolerSample | None
    live: LiveServer | None

    @property
    def possible(self) -> str:
        """The best grade of any way but round the pooler, where there is one."""
        ways = [one for one in self.reach if one.way != UNPOOLED] or list(self.reach)
        return max((one.grade for one in ways), key=ORDER.index)

    def sorted(self) -> list[Finding]:
        """The worst first."""
        return sorted(self.findings, key=lambda one: SEVERITIES.index(one.severity))

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "v": VERSION,
            "possible": self.possible,
            "reach": [asdict(one) for one in self.reach],
            "counts": {
                severity: sum(one.severity == severity for one in self.findings)
                for severity in SEVERITIES
            },
            "findings": [one.plain() for one in self.sorted()],
            "volume": asdict(self.volume) if self.volume else None,
            "lookup": asdict(self.lookup) if self.lookup else None,
            "clock": {"ahead_s": self.live.ahead_s, "within_s": self.live.within_s}
            if self.live
            else None,
            "log": self._log(),
            "checked": dict(self.checked),
        }

    def _log(self) -> dict[str, Any] | None:
        log = self.log
        if log is None:
            return None
        return {
            "path": str(log.path),
            "form": log.form,
            "first": log.first,
            "last": log.last,
            "zone": log.zone,
            "bytes": log.total_bytes,
            "written": log.written,
        }


def worst(findings: Sequence[Finding]) -> str | None:
    """The worst severity; None if nothing was found."""
    return min((one.severity for one in findings), key=SEVERITIES.index, default=None)


def write(report: Report, out: TextIO, *, as_json: bool) -> None:
    """The report."""
    if as_json:
        text = io.StringIO()
        render.write_json(report.plain(), text)
        out.write(shown_json(text.getvalue()))
        return
    width = min(_WIDTH_MAX, shutil.get_terminal_size((_WIDTH_MAX, 24)).columns)
    # Names and lines of other people's files stand in there.
    said = _lines(report, max(width, 40))
    out.writelines(f"{shown(line, keeps=_TAB)}\n" for line in said)


def _lines(report: Report, width: int) -> Iterator[str]:
    checked = [f"{name} {value}" for name, value in report.checked.items() if value]
    yield from textwrap.wrap(f"Looked at: {', '.join(checked)}", width)
    yield ""
    yield "The best grade that statements can get:"
    for one in report.reach:
        yield f"  {_WAYS[one.way]:<33} {one.grade}"
        for why in one.limits:
            yield from _indented(f"- {why}", 6, width)
        if one.needs and one.grade in ("proven", "confirmed"):
            yield from _indented(f"+ needs {one.needs}", 6, width)
    yield ""
    yield from _figures(report, width)
    for finding in report.sorted():
        yield from _finding(finding, width)
    counts = report.plain()["counts"]
    said = ", ".join(
        f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items()
    )
    yield (
        said if worst(report.findings) not in (None, NOTE) else f"{said}: nothing has to be changed"
    )


def _figures(report: Report, width: int) -> Iterator[str]:
    volume, cost = report.volume, report.lookup
    if volume is None:
        said = "Expected log: too little is known yet; run this again after some hours of work"
    else:
        basis = (
            f"by {volume.measured_s / 3600:,.1f} h of it"
            if volume.basis == "log"
            else "by the statements that PgBouncer has counted, once pgAudit logs them; a rough guess"
        )
        said = (
            f"Expected log: {size(volume.bytes_per_day)} and {volume.records_per_day:,} records a day, "
            f"{volume.audits_per_day:,} of them pgAudit's ({basis})"
        )
    yield from textwrap.wrap(said, width)
    if cost is not None:
        files = f" in {cost.files:,} files ({size(cost.bytes or 0)})" if cost.files else ""
        when = "" if cost.basis == "store" else " after a year"
        yield from textwrap.wrap(
            f"A question about a person: about {cost.seconds:.1f} s{when}, {cost.statements:,} "
            f"statements{files}",
            width,
        )
    if report.live is not None:
        yield f"Server's clock: {report.live.ahead_s:+.3f} s, to within {report.live.within_s:.3f} s"
    if report.log is not None and report.log.last is not None:
        yield f"Last record: {render.plain(report.log.last)} ({report.log.path})"
    yield ""


def _finding(finding: Finding, width: int) -> Iterator[str]:
    first, *rest = textwrap.wrap(finding.what, width - 9) or [""]
    yield f"{finding.severity:<8} {first}"
    yield from (f"         {line}" for line in rest)
    yield f"   where {finding.where}"
    yield from _fix(finding.fix, width)
    yield f"   code  {finding.code}"
    yield ""


def _fix(fix: Fix, width: int) -> Iterator[str]:
    first, *rest = textwrap.wrap(_do(fix), width - 9)
    yield f"   fix   {first}"
    yield from (f"         {line}" for line in rest)
    # Exactly as they are to be written: never wrapped.
    yield from (f"           {line}" for line in (*fix.lines, *fix.sql))
    yield from (f"           # {line}" for line in fix.commands)


def _do(fix: Fix) -> str:
    said = fix.do
    if fix.lines and fix.file:
        section = f", section [{fix.section}]" if fix.section else ""
        how = f"in place of line {fix.replaces}" if fix.replaces else "as a new line"
        said += f"; in {fix.file}{section}, {how}"
    return f"{said} ({_NEEDS[fix.needs]})" if fix.needs else said


def _indented(text: str, by: int, width: int) -> Iterator[str]:
    blank = " " * by
    yield from textwrap.wrap(text, width, initial_indent=blank, subsequent_indent=f"{blank}  ")
