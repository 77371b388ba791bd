"""Rules about who may touch what -> findings on the rows.

Enters: rows with who ran them (attribution), what they touched (enrichment) and when. Leaves: the rows'
findings with `policy:<name>` where a rule was broken, `policy-unknown:<name>` where that can't be said
because something it depends on isn't known, and `after-offboarding` and `before-onboarding`. Each
condition is worked out once per distinct actor, access or minute; per row there is only arithmetic. A
row's findings depend on that row, its evidence and the rules alone, so that evaluating it again (a
revision, a dry run) says the same. Nobody is stopped by this, and no grade changes.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scalple.correlate.calledby import CALLED
from scalple.correlate.circumstances import CitedEvents
from scalple.correlate.codes import coded_lists, coded_texts, combined
from scalple.correlate.entitled import Judge
from scalple.correlate.entitledrows import OF_STATEMENT, EntitledRows, Judgements
from scalple.correlate.logbatch import Ints, numbers
from scalple.correlate.policyaccess import Access, access_answer, is_read_or_written
from scalple.correlate.policyactors import Someone, actor_answer
from scalple.correlate.policyhours import hours_answers
from scalple.correlate.policyrules import Policy
from scalple.correlate.policyterms import NO, UNKNOWN, YES
from scalple.correlate.record import AUDIT, TEXTS
from scalple.correlate.rightschanges import RightsChanges
from scalple.correlate.rightstimeline import RightsTimeline
from scalple.correlate.rules import Rules
from scalple.correlate.sharing import shared
from scalple.correlate.tenures import Tenures
from scalple.ingest.records import AMBIGUOUS, FORGED, TEXT, UNPROVEN

Answers = npt.NDArray[np.uint8]

BROKEN: Final = "policy:"
UNTOLD: Final = "policy-unknown:"
AFTER, BEFORE = "after-offboarding", "before-onboarding"
OF_PEOPLE = (
    "session_user_id",
    "actor_kind",
    "attribution_grade",
    "session_authn",
    "attribution_evidence",
    "findings",
)
"""Columns of a row that say who it was, and what attribution found."""
OF_ACCESS = ("affected_tables", "columns_accessed", "columns_basis", "access_shape")
"""Columns that say what was touched."""
AS_LOGGED = ("log_time", "database", "db_role", "class", "rows_returned")
_BY_THE_POOLER = "pooler"
_REMEMBERED = 1 << 16
_BASE = 3  # answers are digits of this base
_DIGITS = 39  # so many fit in 63 bits
_PEOPLE = 2
"""The first two answers of a row are no rule's: was it after, before the actor's time."""


class Policies:
    """All rules in force.

    Args:
        rules: policies, people and personal data, as the operator declared them.
        events: evidence (columns of EVIDENCE) that rows cite.
        timeline: who could do what when; without it, nothing is known of that.
    """

    def __init__(
        self, rules: Rules, events: pa.Table, timeline: RightsTimeline | None = None
    ) -> None:
        self._policies = sorted(rules.policies, key=lambda one: one.name)
        self.in_force = bool(self._policies or rules.people)
        self._width = _PEOPLE + len(self._policies)
        self._personal = tuple(sorted(rules.personal_data))
        self.renew(events)
        self._tenures = Tenures(rules.people)
        self._of_actors: dict[Someone, list[int]] = {}
        self._of_accesses: dict[Access, list[int]] = {}
        rights = timeline if timeline is not None else RightsTimeline((), RightsChanges())
        judge = Judge(rights.rights, rules.actors, self._personal)
        self._entitled = EntitledRows(judge, rights)
        self.asks_rights = any(one.unless_entitled for one in self._policies)
        """Some rule needs the columns OF_STATEMENT."""

    def renew(self, events: pa.Table) -> None:
        """Go on with the events that rows cite from now on."""
        self._events = CitedEvents(events if self.in_force else events.slice(0, 0))

    def findings(self, rows: pa.Table, last: str = "", *, people_only: bool = False) -> pa.Array:
        """The rows' findings with those of the policies, in place of what earlier rules found.

        Args:
            rows: the columns AS_LOGGED, OF_PEOPLE, OF_ACCESS and OF_STATEMENT, as in AUDIT; of the
                latter two those that are missing are unknown. Also `called` (`calledby`), if there
                is anything to say.
            last: a finding that stays behind them.
            people_only: no rule is looked at, only whether the actors were here at that time.
        """
        own, lists = coded_lists(rows.column("findings"))
        answers, _ = self._rated(rows, people_only=people_only)
        distinct, place = combined([own, *_packed(answers)])
        merged = []
        for code, *words in distinct:
            row = _unpacked(words, self._width)
            merged.append(self._merged(lists[code] if code >= 0 else (), row, last))
        return shared(place, pa.array(merged, TEXTS))

    def judgements(self, rows: pa.Table) -> list[tuple[Policy, Answers, Judgements]]:
        """Per rule that asks for rights its answers, and what it says of the rows' rights.

        Args:
            rows: as for `findings`.
        """
        answers, judged = self._rated(rows)
        return [
            (self._policies[at - _PEOPLE], answers[:, at], one)
            for at, one in sorted(judged.items())
        ]

    def _rated(
        self, rows: pa.Table, *, people_only: bool = False
    ) -> tuple[Answers, dict[int, Judgements]]:
        """Per row: was it after, before the actor's time; is each rule broken. And judgements."""
        for name in (*AS_LOGGED, *OF_ACCESS, CALLED):
            if name not in rows.column_names:
                kind = TEXT if name == CALLED else AUDIT.field(name).type
                rows = rows.append_column(name, pa.nulls(rows.num_rows, kind))
        own, lists = coded_lists(rows.column("findings"))
        people, accesses = self._people(rows), self._accesses(rows)
        answers = np.minimum(self._who(*people), self._what(*accesses))
        self._circumstances(rows, answers)
        most = np.array([*map(_most_of, lists), YES], np.uint8)[own]
        answers = np.minimum(answers, most[:, None])
        if people_only:
            answers[:, _PEOPLE:] = NO
            return answers, {}
        return answers, self._rights(rows, people, accesses, answers) if self.asks_rights else {}

    def _circumstances(self, rows: pa.Table, answers: Answers) -> None:
        """What is looked at row by row."""
        for at, policy in enumerate(self._policies, start=_PEOPLE):
            conditions = []
            if policy.when is not None:
                conditions.append(hours_answers(policy.when, rows.column("log_time")))
            if policy.rows_over is not None:
                conditions.append(_more_rows(rows, policy.rows_over))
            for condition in conditions:
                answers[:, at] = np.minimum(answers[:, at], condition)

    def _rights(
        self,
        rows: pa.Table,
        people: tuple[list[Someone], Ints],
        accesses: tuple[list[Access], Ints],
        answers: Answers,
    ) -> dict[int, Judgements]:
        """Whether a right was missing, where everything else that a rule says may be so."""
        for name, kind in OF_STATEMENT.items():
            if name not in rows.column_names:
                rows = rows.append_column(name, pa.nulls(rows.num_rows, kind))
        statements = self._entitled.statements(rows, people, accesses)
        found = {}
        for at, policy in enumerate(self._policies, start=_PEOPLE):
            if policy.unless_entitled is None:
                continue
            found[at] = self._entitled.judged(policy, statements, answers[:, at] != NO)
            told = np.array([*(one.answer for one in found[at].distinct), YES], np.uint8)
            answers[:, at] = np.minimum(answers[:, at], told[found[at].place])
        return found

    def _people(self, rows: pa.Table) -> tuple[list[Someone], Ints]:
        """Everybody who ran them, and which of them each row has."""
        epoch = self._tenures.epochs(numbers(rows.column("log_time").cast(pa.int64()), 0))
        cited, lists = coded_lists(rows.column("attribution_evidence"))
        said = [self._events.of(one) for one in lists]
        kinds = {one: code for code, one in enumerate(dict.fromkeys(said))}
        spoken = np.array([*(kinds[one] for one in said), -1], np.int64)[cited]
        names = ("session_user_id", "actor_kind", "attribution_grade", "session_authn", "db_role")
        texts = [coded_texts(rows.column(name)) for name in names]
        distinct, place = combined([epoch, spoken, *(codes for codes, _ in texts)])
        known = list(kinds)
        people = []
        for when, words, *rest in distinct:
            actor, kind, grade, authn, role = _values(rest, texts)
            tenure = self._tenures.at(actor, when) if actor is not None else None
            circumstances = known[words] if words >= 0 else None
            people.append(Someone(actor, kind, grade, authn, role, circumstances, tenure))
        return people, place

    def _who(self, people: list[Someone], place: Ints) -> Answers:
        table = []
        for one in people:
            if one not in self._of_actors:
                _make_room(self._of_actors)
                self._of_actors[one] = self._of_actor(one)
            table.append(self._of_actors[one])
        return np.array(table, np.uint8).reshape(-1, self._width)[place]

    def _of_actor(self, one: Someone) -> list[int]:
        if one.grade == _BY_THE_POOLER:
            return [NO] * self._width
        after = one.tenure is not None and one.tenure.is_after
        before = one.tenure is not None and one.tenure.is_before
        people = [YES if told else NO for told in (after, before)]
        return [*people, *(actor_answer(rule, one) for rule in self._policies)]

    def _accesses(self, rows: pa.Table) -> tuple[list[Access], Ints]:
        """All that was touched, and what of it by each row."""
        tables, table_lists = coded_lists(rows.column("affected_tables"))
        columns, column_lists = coded_lists(rows.column("columns_accessed"))
        names = ("columns_basis", "access_shape", "class", "database", CALLED)
        texts = [coded_texts(rows.column(name)) for name in names]
        distinct, place = combined([tables, columns, *(codes for codes, _ in texts)])
        accesses = [
            Access(
                table_lists[touched] if touched >= 0 else None,
                column_lists[read] if read >= 0 else None,
                *_values(rest, texts),
            )
            for touched, read, *rest in distinct
        ]
        return accesses, place

    def _what(self, accesses: list[Access], place: Ints) -> Answers:
        table = []
        for access in accesses:
            if access not in self._of_accesses:
                _make_room(self._of_accesses)
                rated = (access_answer(rule, access, self._personal) for rule in self._policies)
                self._of_accesses[access] = [*[YES] * _PEOPLE, *rated]
            table.append(self._of_accesses[access])
        return np.array(table, np.uint8).reshape(-1, self._width)[place]

    def _merged(self, own: tuple[str, ...], row: list[int], last: str) -> list[str] | None:
        """Findings in their order: those of attribution, of people, of rules, the last one."""
        kept = [one for one in own if not is_of_policies(one)]
        found = [name for name, told in zip((AFTER, BEFORE), row, strict=False) if told == YES]
        for prefix, wanted in ((BROKEN, YES), (UNTOLD, UNKNOWN)):
            found += [
                prefix + rule.name
                for rule, told in zip(self._policies, row[_PEOPLE:], strict=True)
                if told == wanted
            ]
        behind = [one for one in kept if one == last]
        return [*(one for one in kept if one != last), *found, *behind] or None


def with_policies(
    policies: Policies, rows: pa.Table, answers: pa.Table, last: str, *, people_only: bool = False
) -> pa.Table:
    """The columns that attribution owns, with the findings of the policies among them.

    Args:
        policies: what is in force.
        rows: the columns AS_LOGGED and OF_ACCESS, as far as they are known.
        answers: what attribution says of the same rows.
        last: a finding that stays behind those of the policies.
        people_only: as for `Policies.findings`.
    """
    if not policies.in_force or not answers.num_rows:
        return answers
    for name in OF_PEOPLE:
        rows = rows.append_column(name, answers.column(name))
    found = policies.findings(rows, last, people_only=people_only)
    return answers.set_column(answers.column_names.index("findings"), "findings", found)


def is_of_policies(finding: str) -> bool:
    """Whether policies, rather than attribution, found it."""
    return finding.startswith((BROKEN, UNTOLD)) or finding in (AFTER, BEFORE)


def _most_of(findings: tuple[str, ...]) -> int:
    """How much can be said of a row whose line may not be pgAudit's."""
    if FORGED in findings:
        return NO
    return UNKNOWN if AMBIGUOUS in findings or UNPROVEN in findings else YES


def _more_rows(rows: pa.Table, limit: int) -> Answers:
    returned = rows.column("rows_returned")
    codes, kinds = coded_texts(rows.column("class"))
    touches = np.array([*map(is_read_or_written, kinds), is_read_or_written(None)], bool)[codes]
    untold = np.where(touches, UNKNOWN, NO)
    told = np.where(numbers(returned, 0) > limit, YES, NO)
    return np.where(returned.is_valid().to_numpy(), told, untold).astype(np.uint8)


def _values(codes: list[int], texts: list[tuple[Ints, list[str | None]]]) -> list[str | None]:
    """The texts of one combination of codes."""
    return [
        values[code] if code >= 0 else None for code, (_, values) in zip(codes, texts, strict=True)
    ]


def _make_room(remembered: dict[Any, list[int]]) -> None:
    if len(remembered) >= _REMEMBERED:
        remembered.clear()


def _packed(answers: Answers) -> list[Ints]:
    """The answers of each row as few numbers."""
    parts = [answers[:, at : at + _DIGITS] for at in range(0, answers.shape[1], _DIGITS)]
    return [
        part.astype(np.int64) @ (_BASE ** np.arange(part.shape[1], dtype=np.int64))
        for part in parts
    ]


def _unpacked(words: list[int], width: int) -> list[int]:
    digits = [word // _BASE**place % _BASE for word in words for place in range(_DIGITS)]
    return digits[:width]
