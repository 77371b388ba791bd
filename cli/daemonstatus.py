"""What the daemon says about itself: figures, and what keeps it from keeping up.

Enters: rounds that were made. Leaves: metrics, and faults for `/ready`. Numbers only, no data of anybody.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scalple.cli.following import Following
from scalple.ingest.errors import ScalpleError
from scalple.ingest.follower import Follower, Lag
from scalple.ingest.intake import Intake
from scalple.ingest.statuspage import Collector, CounterMetricFamily, GaugeMetricFamily, Metric

STALLED_S = 60.0
"""Without a round for so long it isn't well."""


@dataclass
class DaemonState:
    """Figures since the start, read from another thread."""

    rounds: int = 0
    failures: int = 0
    """Failed attempts since the last round that went well."""
    failed: int = 0
    failing: str | None = None
    bytes_read: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    grades: Counter[str] = field(default_factory=Counter)
    late_events: int = 0
    commits: int = 0
    unrevised: int = 0
    """Statements that evidence came late for, and whose log was gone."""
    is_revising: bool = False
    intake: Intake | None = None
    """Takes events of other hosts."""
    lag: dict[str, Lag] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    """By kind of source, how many there are."""
    problems: dict[str, str] = field(default_factory=dict)
    senders_problems: Counter[str] = field(default_factory=Counter)
    """Of each sender, files of his that are none of events: his trouble, and no other's."""
    last_round: float | None = None
    round_s: float = 0.0
    newest: float | None = None
    """When the newest statement was logged, in seconds since 1970."""
    more: list[Collector] = field(default_factory=list)
    """Metrics of what is done besides following."""
    _followers: Mapping[str, Follower] = field(default_factory=dict)
    """Of the last round, by kind of source."""
    _told: set[str] = field(default_factory=set)
    _all_read: dict[str, float] = field(default_factory=dict)
    """When all of a source was committed, or it was first looked at."""

    def note(self, following: Following, read: int, seconds: float) -> None:
        """A round went well."""
        self.rounds += 1
        self.failures, self.failing = 0, None
        self.bytes_read += read
        rows, grades, late = following.take_counts()
        self.rows.update(rows)
        self.grades.update(grades)
        self.late_events += late
        self.commits += following.outcome.commits
        following.outcome.commits = 0
        self.unrevised += following.revisions.take_missing()
        self.is_revising = following.revisions.is_waiting
        self._note_problems(following)
        self.last_round, self.round_s = time.monotonic(), seconds
        self._followers = following.followers
        self._note_lag()
        self.newest = following.newest.timestamp() if following.newest else None

    def note_failure(self, why: str, followers: Mapping[str, Follower] | None = None) -> None:
        """A round failed, or couldn't be begun: nothing is committed, and the logs go on growing.

        Args:
            why: what was wrong.
            followers: those of the round; without, those of the last one. They read nothing any more, and
                still know what is committed.
        """
        self.failures += 1
        self.failed += 1
        self.failing = why
        self._followers = followers or self._followers
        for follower in self._followers.values():
            with contextlib.suppress(ScalpleError, OSError):  # the files can't be looked at either
                follower.scan()
            follower.close()
        self._note_lag()

    def _note_lag(self) -> None:
        now = time.monotonic()
        self.lag = {source: one.lag() for source, one in self._followers.items()}
        self.files = {source: one.files for source, one in self._followers.items()}
        if self.intake is not None and self.lag:
            self.intake.note_backlog(self.lag["identity"].bytes)
        for source, lag in self.lag.items():
            if not lag.bytes or source not in self._all_read:
                self._all_read[source] = now

    def _note_problems(self, following: Following) -> None:
        """What a sender has sent doesn't say anything of this host."""
        problems, senders = dict(following.problems), Counter[str]()
        for path in following.unlike:
            sender = self.intake.sender_of(path) if self.intake is not None else None
            if sender is not None:
                senders[sender] += 1
                problems.pop(str(path), None)
        self.problems, self.senders_problems = problems, senders

    def lag_s(self, source: str) -> float:
        """Seconds since all of a source was committed; 0 while it is."""
        lag = self.lag.get(source)
        return time.monotonic() - self._all_read[source] if lag and lag.bytes else 0.0

    def news(self, following: Following) -> list[str]:
        """What wasn't said before."""
        said = [f"{path}: {why}" for path, why in following.problems.items()]
        if self.late_events:
            said.append(
                "events came later than statements that they speak of; those are attributed anew"
            )
        if self.unrevised:
            said.append(
                "the log of statements is gone that late events may speak of: they keep their "
                "attribution (gaps: log-gone)"
            )
        fresh = [one for one in said if one not in self._told]
        self._told = set(said)
        return fresh


def faults(state: DaemonState) -> list[str]:
    """Why it isn't well; empty if it is."""
    wrong = []
    if state.failing is not None:
        wrong.append("the last round failed")
    if state.last_round is None:
        wrong.append("nothing was read yet")
    elif time.monotonic() - state.last_round > STALLED_S + 10 * state.round_s:
        wrong.append("no round for a long time")
    if state.files and not any(state.files.values()):
        wrong.append("nothing is followed: no file matches [sources]")
    elif state.files and not state.files["postgres"]:
        wrong.append("no server log is followed: no file matches postgres under [sources]")
    if state.problems:
        wrong.append(f"{len(state.problems)} file(s) can't be read: its log says which")
    return wrong


def counters(state: DaemonState) -> Collector:
    """Its metrics."""
    return _Counters(state)


class _Counters(Collector):
    def __init__(self, state: DaemonState) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        state = self._state
        for name, text, value in (
            ("rounds", "Rounds made", state.rounds),
            ("failed_rounds", "Rounds that failed", state.failed),
            ("commits", "Commits", state.commits),
            ("read_bytes", "Bytes read from logs", state.bytes_read),
            ("late_events", "Events later than statements that they speak of", state.late_events),
            ("unrevised", "Statements with late evidence whose log is gone", state.unrevised),
        ):
            yield CounterMetricFamily(f"scalple_{name}", text, value=value)
        for name, text, label, counts in (
            ("rows", "Rows committed, by kind", "kind", state.rows),
            ("statements", "Statements, by grade of attribution", "grade", state.grades),
        ):
            family = CounterMetricFamily(f"scalple_{name}", text, labels=[label])
            for key, value in dict(counts).items():
                family.add_metric([key], value)
            yield family
        if state.intake is not None:
            yield from _of_intake(state.intake, state.senders_problems)
        behind = GaugeMetricFamily(
            "scalple_lag_bytes", "Bytes not committed yet", labels=["source"]
        )
        since = GaugeMetricFamily(
            "scalple_lag_seconds", "Seconds since all of a source was committed", labels=["source"]
        )
        there = GaugeMetricFamily(
            "scalple_followed_files", "Files that there are of a source", labels=["source"]
        )
        for source, count in dict(state.files).items():
            there.add_metric([source], count)
        yield there
        quiet = GaugeMetricFamily(
            "scalple_quiet_seconds", "Seconds since a source has grown", labels=["source"]
        )
        for source, lag in dict(state.lag).items():
            behind.add_metric([source], lag.bytes)
            since.add_metric([source], state.lag_s(source))
            if lag.since_growth_s is not None:
                quiet.add_metric([source], lag.since_growth_s)
        yield from (behind, since, quiet)
        if state.last_round is not None:
            yield GaugeMetricFamily(
                "scalple_round_age_seconds",
                "Seconds since the last round",
                time.monotonic() - state.last_round,
            )
        yield GaugeMetricFamily("scalple_ready", "Whether all is well", int(not faults(state)))
        yield GaugeMetricFamily(
            "scalple_revising",
            "Whether late evidence waits or is worked on",
            int(state.is_revising),
        )
        yield GaugeMetricFamily(
            "scalple_unreadable_files", "Files that can't be read", len(state.problems)
        )
        if state.newest is not None:
            yield GaugeMetricFamily(
                "scalple_newest_statement_seconds", "When the newest was logged", state.newest
            )
        for one in state.more:
            yield from one.collect()


def _of_intake(intake: Intake, unreadable: Counter[str]) -> Iterable[Metric]:
    yield CounterMetricFamily(
        "scalple_intake_bytes", "Bytes of events taken from other hosts", intake.taken_bytes
    )
    asked = CounterMetricFamily(
        "scalple_intake_requests", "Requests, by the status of the answer", labels=["status"]
    )
    for status, count in dict(intake.counts).items():
        asked.add_metric([status], count)
    yield asked
    refused = CounterMetricFamily(
        "scalple_intake_refused", "Requests that were wrong, by sender", labels=["sender"]
    )
    files = GaugeMetricFamily(
        "scalple_intake_unreadable_files", "Files that are none of events", labels=["sender"]
    )
    for sender in sorted({one.name for one in intake.senders} | set(unreadable)):
        refused.add_metric([sender], intake.refused[sender])
        files.add_metric([sender], unreadable[sender])
    yield from (refused, files)
