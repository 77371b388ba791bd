"""How long records are kept: ages, profiles of the law, and what several of them mean together.

Texts such as "6 months" and names of profiles enter; a `Policy` leaves, or an error that names both
sides of a conflict. Knows no store and no clock: who asks says what time it is.
"""

import calendar
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scalple.ingest.errors import ConfigError

_AGE = re.compile(r"([1-9][0-9]{0,4}) (day|week|month|year)s?")
_MONTHS = {"month": 1, "year": 12}
_DAYS = {"day": 1, "week": 7}
YEARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Age:
    """So many calendar months, or so many days; the other one is 0."""

    months: int = 0
    days: int = 0

    @classmethod
    def parse(cls, text: str) -> "Age":
        """From `6 months`, `400 days`, `2 years`, `10 weeks`.

        Raises:
            ValueError: it is no such text, or more than 200 years.
        """
        found = _AGE.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no age: write '6 months', '400 days' or '2 years'")
        count, unit = int(found[1]), found[2]
        age = cls(count * _MONTHS.get(unit, 0), count * _DAYS.get(unit, 0))
        if age.months > 12 * YEARS_MAX or age.days > 365 * YEARS_MAX:
            raise ValueError(f"{text!r} is more than {YEARS_MAX} years")
        return age

    def __str__(self) -> str:
        if self.days:
            return f"{self.days} day{'s' * (self.days > 1)}"
        if self.months % 12:
            return f"{self.months} month{'s' * (self.months > 1)}"
        years = self.months // 12
        return f"{years} year{'s' * (years > 1)}"

    def before(self, now: datetime) -> datetime:
        """The moment that long ago; of a day that the month hasn't, its last one."""
        if self.days:
            return now - timedelta(days=self.days)
        year, month = divmod(now.year * 12 + now.month - 1 - self.months, 12)
        day = min(now.day, calendar.monthrange(year, month + 1)[1])
        return now.replace(year=year, month=month + 1, day=day)

    def exceeds(self, other: "Age") -> bool:
        """Whether it can be longer than the other one, whatever the date."""
        if bool(self.days) == bool(other.days):
            return (self.months, self.days) > (other.months, other.days)
        return self._days()[1] > other._days()[0]

    def _days(self) -> tuple[int, int]:
        """The fewest and the most days that it can have."""
        if self.days:
            return self.days, self.days
        lengths = [(one - self.before(one)).days for one in _every_day()]
        return min(lengths), max(lengths)


def _every_day() -> Iterator[datetime]:
    """Days around years that are leap years, and around one that isn't although it is a fourth."""
    for year in (2097, 2397):
        yield from (datetime(year, 1, 1) + timedelta(days=n) for n in range(8 * 365))


@dataclass(frozen=True, slots=True)
class Profile:
    """What a law, or whoever applies it, asks for.

    Attributes:
        name: as the configuration has it.
        at_least: not shorter than that.
        at_most: not longer than that.
        needs_limit: it asks for a limit without naming one.
        source: where it stands.
    """

    name: str
    at_least: Age | None
    at_most: Age | None
    source: str
    needs_limit: bool = False


PROFILES = {
    one.name: one
    for one in (
        Profile("gdpr", None, None, "GDPR Art. 5(1)(e)", needs_limit=True),
        Profile(
            "cnil",
            Age(months=6),
            Age(months=12),
            "CNIL, délibération 2021-122 of 14 October 2021 (journalisation)",
        ),
        Profile(
            "cnil-internal-control",
            Age(months=6),
            Age(months=36),
            "CNIL, délibération 2021-122 of 14 October 2021, logs for internal control",
        ),
        Profile(
            "garante-192",
            Age(months=24),
            None,
            "Garante, provvedimento 192 of 12 May 2011, 4.2.2 (inquiries in banks)",
        ),
        Profile(
            "garante-administrators",
            Age(months=6),
            None,
            "Garante, provvedimento of 27 November 2008 (system administrators)",
        ),
        Profile("hipaa", Age(months=72), None, "HIPAA, 45 CFR 164.316(b)(2)(i) and 164.528"),
        Profile("pci-dss", Age(months=12), None, "PCI DSS 4.0, requirement 10.5.1"),
    )
}
"""Name -> profile (docs/RETENTION.md)."""
GDPR_DEFAULT = Age(months=12)
"""The limit where one is asked for and nothing names it: the upper one of the CNIL."""


@dataclass(frozen=True, slots=True)
class Limit:
    """An age, and who asks for it."""

    age: Age
    source: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What a configuration means.

    Attributes:
        profiles: their names.
        at_least: the longest of the minimums, if there is one.
        at_most: the shortest of the maximums; None: nothing ever expires.
    """

    profiles: tuple[str, ...] = ()
    at_least: Limit | None = None
    at_most: Limit | None = None

    def before(self, now: datetime) -> datetime | None:
        """What is wholly older than this expires."""
        if self.at_most is None:
            return None
        ends = [one.age.before(now) for one in (self.at_most, self.at_least) if one]
        return min(ends)


def combined(
    profiles: Sequence[str], at_least: Age | None = None, at_most: Age | None = None
) -> Policy:
    """Several profiles, and the operator's own ages, as one policy.

    Raises:
        ConfigError: no such profile, or a minimum that is above a maximum; names both.
    """
    unknown = [name for name in profiles if name not in PROFILES]
    if unknown:
        raise ConfigError(
            f"no retention profile {unknown[0]!r}", hint=f"known: {', '.join(PROFILES)}"
        )
    chosen = [PROFILES[name] for name in dict.fromkeys(profiles)]
    least = [Limit(one.at_least, _named(one)) for one in chosen if one.at_least]
    most = [Limit(one.at_most, _named(one)) for one in chosen if one.at_most]
    least += [Limit(at_least, "keep_at_least")] if at_least else []
    most += [Limit(at_most, "keep_at_most")] if at_most else []
    longest = _last(least, lambda one, other: one.age.exceeds(other.age))
    shortest = _last(most, lambda one, other: other.age.exceeds(one.age))
    asking = [one for one in chosen if one.needs_limit]
    if asking and shortest is None:
        shortest = _default(asking[0], longest)
    if longest and shortest and longest.age.exceeds(shortest.age):
        raise ConfigError(
            f"{longest.source} keeps records at least {longest.age}, {shortest.source} at most "
            f"{shortest.age}: both can't be",
            place="[retention]",
            hint="leave one of them out, or split the store: one per law",
        )
    return Policy(tuple(one.name for one in chosen), longest, shortest)


def _named(profile: Profile) -> str:
    return f"{profile.name} ({profile.source})"


def _default(asking: Profile, longest: Limit | None) -> Limit:
    if longest and longest.age.exceeds(GDPR_DEFAULT):
        raise ConfigError(
            f"{_named(asking)} asks for a limit, and {longest.source} for at least {longest.age}",
            place="[retention]",
            hint='say how long at most: keep_at_most = "…"',
        )
    return Limit(GDPR_DEFAULT, f"the default of {_named(asking)}")


def _last(limits: list[Limit], is_further: Callable[[Limit, Limit], bool]) -> Limit | None:
    found = None
    for one in limits:
        if found is None or is_further(one, found):
            found = one
    return found
