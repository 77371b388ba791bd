"""Logs that are followed while they are written: read in steps, with the evidence that there is at each.

Enters: three files, and how far each had been written at some moments. Leaves: what was attributed, step
by step. Does what a daemon does between files and store; knows nothing of the truth.
"""

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.correlator import Correlator
from scalple.correlate.eventsathand import EventsAtHand
from scalple.correlate.evidence import Evidence, link_slack
from scalple.correlate.present import present
from scalple.correlate.record import EVIDENCE
from scalple.correlate.rules import Rules
from scalple.ingest import identity, pgbouncer
from scalple.ingest.container import ReadOptions
from scalple.ingest.containers import recognised
from scalple.ingest.logtime import LogTimes
from scalple.ingest.pairinglines import PairingLines
from tests.attribute_logs import ORIGIN, Attributed, Batches, numbered
from tests.simulation import Setting, World

FOR_EVER = timedelta(days=1000)

READ = ReadOptions(timezone="UTC")
Moment = tuple[int, int, int]
"""Lengths of the server's log, the pooler's and the events, in bytes."""


class Watched(World):
    """A world that notes how far its files were written, at each step."""

    def __init__(self, setting: Setting, seed: int) -> None:
        super().__init__(setting, seed)
        self.lines: list[tuple[int, int, int]] = []

    def tick(self, low: int = 20, high: int = 400) -> int:
        self.lines.append((len(self.postgres), len(self.pooler), len(self.events)))
        return super().tick(low, high)

    def moments(
        self, files: Sequence[Path], count: int, chance: random.Random, lag: int = 0
    ) -> list[Moment]:
        """Some moments, ascending; the evidence of each may be a little ahead of the server's log, and the
        events up to `lag` steps behind."""
        ends = [_line_ends(path) for path in files]
        chosen = sorted(chance.sample(range(len(self.lines)), min(count, len(self.lines))))
        found, said = [], 0
        for at in chosen:
            later = min(at + chance.choice([0, 0, 1, 5]), len(self.lines) - 1)
            server, (_, pooler, events) = self.lines[at][0], self.lines[later]
            if lag:
                events = said = max(said, self.lines[max(0, at - chance.randint(0, lag))][2])
            found.append((ends[0][server], ends[1][pooler], ends[2][events]))
        last = tuple(one[-1] for one in ends)
        return [*found, (last[0], last[1], last[2])]


def _line_ends(path: Path) -> list[int]:
    ends = [0]
    for line in path.read_bytes().splitlines(keepends=True):
        ends.append(ends[-1] + len(line))
    return ends


def attribute_live(
    server: Path,
    pooler: Path,
    events: Path,
    rules: Rules,
    moments: Sequence[Moment],
    forget_us: int | None = None,
    *,
    forget_pairs: bool = True,
    near: timedelta | None = None,
    watch: Callable[[Correlator], None] = lambda _: None,
) -> Attributed:
    """Attribute the server's log as it grew.

    Args:
        server, pooler, events: the files as they were in the end.
        rules: as the operator would declare them.
        moments: how far they had been written each time that somebody looked.
        forget_us: evidence that doesn't matter any more so long after it is left out.
        forget_pairs: transactions of open server connections likewise.
        near: events are at hand as a daemon has them (`EventsAtHand`), whose horizon follows so closely.
        watch: called at each moment.
    """
    log, told, said = server.read_bytes(), pooler.read_bytes(), events.read_bytes()
    container = recognised(log[:65536], READ)
    assert container is not None
    reader = container.open(log[:65536], str(server), READ)
    times, pairing = LogTimes("UTC", "pgbouncer"), PairingLines()
    known = numbered([])
    evidence = Evidence(known, rules)
    correlator = Correlator(ORIGIN, rules, evidence)
    batches = Batches(correlator, [])
    at, number, latest, horizon = [0, 0, 0], 0, None, None
    hand = None if near is None else EventsAtHand(known, None, rules, near, kept=0)
    for end, told_end, said_end in moments:
        parts = []
        block = pgbouncer.parse_log(
            told[at[1] : told_end], at[1], pooler.name, times, pairing=pairing
        )
        at[1] += block.consumed
        parts.append(block.table)
        block = identity.parse_events(said[at[2] : said_end], at[2], events.name)
        at[2] += block.consumed
        parts.append(block.table)
        fresh = numbered(parts)
        if hand is not None:
            hand.learn(_appended(known.slice(0, 0), fresh, number), latest)
            number += fresh.num_rows
            evidence = Evidence(hand.events, rules, evidence, hand.horizon)
            correlator.renew(evidence)
        elif fresh.num_rows:
            known = _appended(known, fresh, number)
            number += fresh.num_rows
            evidence = Evidence(known, rules, evidence, horizon)
            correlator.renew(evidence)
            if forget_us is not None and latest is not None:
                horizon = latest - timedelta(microseconds=forget_us)
                slack = link_slack(rules) if forget_pairs else FOR_EVER
                known = present(known, horizon, slack)
                evidence = Evidence(known, rules, evidence, horizon)
                correlator.renew(evidence)
        block = reader.parse(log[at[0] : end], at[0], final=False)
        at[0] += block.consumed
        since_us = correlator.leads_back(block.table)
        if hand is not None and hand.reach(block.table, latest, since_us):
            evidence = Evidence(hand.events, rules, evidence, hand.horizon)
            correlator.renew(evidence)
        if block.table.num_rows:
            logged = pc.max(block.table.column("log_time")).as_py()
            latest = logged if latest is None else max(latest, logged)
        if block.table.num_rows or block.rejects:
            batches.add(block)
        watch(correlator)
    batches.add(reader.parse(log[at[0] :], at[0], final=True))
    return batches.result()


def _appended(known: pa.Table, fresh: pa.Table, number: int) -> pa.Table:
    seq = pa.array(range(number, number + fresh.num_rows), pa.uint64())
    fresh = fresh.set_column(fresh.schema.get_field_index("seq"), "seq", seq)
    return pa.concat_tables([known.cast(EVIDENCE), fresh.cast(EVIDENCE)])
