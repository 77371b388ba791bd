"""A naive reading of policies, one rule and one row at a time: what `scalple.correlate.policies` has to find.

Shares no code with it. Also the events and people that the rows of the tests cite.
"""

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Sequence
from typing import Any

from scalple.correlate.policyrules import Hours, Person, Policy

PERSONAL = {"public.users.iban": "keep-last-4", "public.users.email": "email"}
DETAILS: dict[int, dict[str, Any] | None] = {
    1: {"groups": ["billing"], "ticket": "CHG-1"},
    2: {"groups": [], "purpose": "support"},
    3: {"ticket": 7},
    4: None,
}
PEOPLE = (
    Person("anna", "human", ("billing", "dpo"), None, "2026-03-10T00:00:00+00:00"),
    Person("anna", "human", ("support",), "2026-03-12T00:00:00+00:00", None),
    Person("bot", None, None, "2026-03-11T00:00:00+00:00", None),
)
Truth = bool | None
"""None is unknown."""


def some(answers: Iterable[Truth]) -> Truth:
    found = list(answers)
    return True if True in found else None if None in found else False


def every(answers: Iterable[Truth]) -> Truth:
    found = list(answers)
    return False if False in found else None if None in found else True


def like(pattern: str, text: str) -> bool:
    """`*` is any text; without regular expressions."""
    if "*" not in pattern:
        return pattern == text
    head, _, rest = pattern.partition("*")
    if not text.startswith(head):
        return False
    return any(like(rest, text[at:]) for at in range(len(head), len(text) + 1))


def parts_like(pattern: str, name: str) -> bool:
    wanted, given_ = pattern.split("."), name.split(".")
    return len(wanted) == len(given_) and all(
        like(w, g) for w, g in zip(wanted, given_, strict=True)
    )


def moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def valid(person: Person, when: dt.datetime) -> bool:
    since, until = moment(person.valid_from), moment(person.valid_until)
    return (since is None or since <= when) and (until is None or when < until)


def said(row: dict[str, Any]) -> dict[str, Any]:
    for cited in row["attribution_evidence"] or []:
        detail = DETAILS.get(int(cited.rpartition("#")[2]))
        if detail:
            return detail
    return {}


def is_named(policy: Policy, row: dict[str, Any]) -> bool:
    enough = {"proven": 1, "confirmed": 2, "claimed": 3}
    rank = enough.get(row["attribution_grade"], 9)
    if row["session_user_id"] is None or rank > enough[policy.trust]:
        return False
    return not policy.authn or any(like(one, row["session_authn"] or "") for one in policy.authn)


def term(policy: Policy, text: str, row: dict[str, Any], people: Sequence[Person]) -> Truth:
    named = is_named(policy, row)
    if text in ("*", "unattributed"):
        return text == "*" or not named
    kind, _, pattern = text.partition(":")
    if kind == "role":
        return None if row["db_role"] is None else like(pattern, row["db_role"])
    if not named:
        return None
    mine = [one for one in people if one.actor == row["session_user_id"]]
    now = [one for one in mine if valid(one, row["log_time"])]
    if text == "unlisted":
        return not mine
    if kind == "actor":
        return like(pattern, row["session_user_id"])
    if kind == "kind":
        told = row["actor_kind"] or next((one.kind for one in (now or mine) if one.kind), None)
        return None if told is None else told == pattern
    if any(one.groups is not None for one in (now or mine)):
        return any(like(pattern, group) for one in now for group in one.groups or ())
    groups = said(row).get("groups")
    return None if groups is None else any(like(pattern, group) for group in groups)


def unexcused(policy: Policy, key: str, excuses: tuple[str, ...], row: dict[str, Any]) -> Truth:
    if not is_named(policy, row):
        return None
    given_ = said(row).get(key)
    return given_ is None or not any(like(one, str(given_)) for one in excuses)


def at_that_time(hours: Hours, when: dt.datetime) -> bool:
    local = when.astimezone(zoneinfo.ZoneInfo(hours.timezone))
    minute = local.hour * 60 + local.minute

    def begins(day: dt.date) -> bool:
        return day.weekday() in hours.days and day.isoformat() not in hours.holidays

    yesterday = local.date() - dt.timedelta(days=1)
    if hours.begin < hours.end:
        inside = begins(local.date()) and hours.begin <= minute < hours.end
    else:
        inside = (begins(local.date()) and minute >= hours.begin) or (
            begins(yesterday) and minute < hours.end
        )
    return inside != hours.outside


def spelt_out(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(one for name in names for one in (PERSONAL if name == "personal" else (name,)))


def touched(policy: Policy, row: dict[str, Any]) -> Iterable[Truth]:
    untold = None if row["class"] in ("READ", "WRITE", None) else False
    if policy.databases:
        name = row["database"]
        yield None if name is None else any(like(one, name) for one in policy.databases)
    if policy.classes:
        yield None if row["class"] is None else row["class"] in policy.classes
    if policy.shapes:
        yield untold if row["access_shape"] is None else row["access_shape"] in policy.shapes
    if policy.rows_over is not None:
        count = row["rows_returned"]
        yield untold if count is None else count > policy.rows_over
    tables, columns = row["affected_tables"], row["columns_accessed"]
    if policy.tables or policy.unless_tables:
        wanted = policy.tables or ("*.*",)
        yield (
            untold
            if tables is None
            else any(
                any(parts_like(one, table) for one in wanted)
                and not any(parts_like(one, table) for one in policy.unless_tables)
                for table in tables
            )
        )
    if policy.columns or policy.unless_columns:
        wanted = spelt_out(policy.columns or ("*.*.*",))
        excused = spelt_out(policy.unless_columns)
        if any(
            any(parts_like(one, column) for one in wanted)
            and not any(parts_like(one, column) for one in excused)
            for column in columns or ()
        ):
            yield True
        elif columns is not None and row["columns_basis"] in ("parsed", "star-expanded"):
            yield False
        elif tables is None:
            yield untold
        else:
            # Perhaps one of the table's columns that the rule names and doesn't excuse.
            perhaps = any(
                any(parts_like(one.rpartition(".")[0], table) for one in wanted)
                and not any(
                    one.rpartition(".")[2] == "*" and parts_like(one.rpartition(".")[0], table)
                    for one in excused
                )
                for table in tables
            )
            yield untold if perhaps else False


def broken(policy: Policy, row: dict[str, Any], people: Sequence[Person]) -> Truth:
    answers = [
        some(term(policy, one, row, people) for one in policy.actors),
        every(
            None if answer is None else not answer
            for answer in (term(policy, one, row, people) for one in policy.unless_actors)
        ),
        *touched(policy, row),
    ]
    if policy.unless_ticket:
        answers.append(unexcused(policy, "ticket", policy.unless_ticket, row))
    if policy.unless_purpose:
        answers.append(unexcused(policy, "purpose", policy.unless_purpose, row))
    if policy.when is not None:
        answers.append(at_that_time(policy.when, row["log_time"]))
    return every(answers)


def read_out(
    policies: Sequence[Policy], people: Sequence[Person], row: dict[str, Any]
) -> list[str] | None:
    """The findings of a row."""
    own = row["findings"] or []
    found = [one for one in own if one != "rolled-back"]
    if row["attribution_grade"] != "pooler" and "forged-line" not in own:
        mine = [one for one in people if one.actor == row["session_user_id"]]
        if mine and not any(valid(one, row["log_time"]) for one in mine):
            ended = [moment(one.valid_until) for one in mine if one.valid_until]
            after = any(end is not None and end <= row["log_time"] for end in ended)
            found.append("after-offboarding" if after else "before-onboarding")
        in_order = sorted(policies, key=lambda one: one.name)
        answers = {one.name: broken(one, row, people) for one in in_order}
        if "ambiguous-line" in own:
            answers = {name: None if one else one for name, one in answers.items()}
            found = [one for one in found if "boarding" not in one]
        found += [f"policy:{name}" for name, one in answers.items() if one]
        found += [f"policy-unknown:{name}" for name, one in answers.items() if one is None]
    return [*found, *(one for one in own if one == "rolled-back")] or None
