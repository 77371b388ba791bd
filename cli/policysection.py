"""`[[policy]]`: rules about who may touch what, checked and turned into plain values.

Enters: tables of the TOML file. Leaves: `Policy`s, and the line at fault where one can't be followed.
What a rule means stands in docs/POLICIES.md and `scalple.correlate.policies`.
"""

import re
import zoneinfo
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from scalple.cli.section import Section
from scalple.correlate.policyactors import ANYBODY, KINDS_OF_TERM, UNATTRIBUTED, UNLISTED
from scalple.correlate.policyrules import ACTOR, PERSONAL, Hours, Person, Policy
from scalple.ingest.actorfile import ActorFile, Listed
from scalple.ingest.errors import ConfigError

if TYPE_CHECKING:  # it brings the parser along, and every question reads a configuration
    from scalple.correlate.catalog import Catalog

NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_SYSTEM_SCHEMAS = ("pg_catalog", "information_schema")


def _term(text: str) -> str:
    if text in (ANYBODY, UNATTRIBUTED, UNLISTED):
        return text
    kind, colon, pattern = text.partition(":")
    if not colon or kind not in KINDS_OF_TERM or not pattern:
        kinds = ", ".join(f"{one}:NAME" for one in KINDS_OF_TERM)
        raise ValueError(f"{text!r} is none of {kinds}, unattributed, unlisted, *")
    if kind == "kind" and pattern not in ("human", "service", "agent"):
        raise ValueError(f"kind {pattern!r} is none of human, service, agent")
    return text


def _parts(count: int, form: str, text: str) -> str:
    if text.count(".") != count - 1 or not all(text.split(".")):
        raise ValueError(f"{text!r} is not {form} (each may hold *)")
    return text


def _table(text: str) -> str:
    return _parts(2, "schema.table", text)


def _column(text: str) -> str:
    return text if text == PERSONAL else _parts(3, "schema.table.column", text)


def _days(text: str) -> str:
    first, _, last = text.partition("-")
    if first not in DAYS or (last or first) not in DAYS:
        raise ValueError(f"{text!r} is no day such as mon, nor days such as mon-fri")
    return text


def _clock(text: str) -> str:
    if not _CLOCK.fullmatch(text):
        raise ValueError(f"{text!r} is no time such as 08:00")
    return text


def _zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {text!r}") from error
    return text


Pattern = Annotated[str, Field(min_length=1)]
Patterns = tuple[Pattern, ...]
Terms = tuple[Annotated[str, AfterValidator(_term)], ...]
Tables = tuple[Annotated[str, AfterValidator(_table)], ...]
Columns = tuple[Annotated[str, AfterValidator(_column)], ...]
Clock = Annotated[str, AfterValidator(_clock)]
Class = Literal["READ", "WRITE", "FUNCTION", "ROLE", "DDL", "MISC", "MISC_SET"]
Shape = Literal["point", "range", "full", "aggregate", "export", "write", "none"]


class WhenSection(Section):
    """A time of the week."""

    days: Annotated[tuple[Annotated[str, AfterValidator(_days)], ...], Field(min_length=1)] = DAYS
    begin: Annotated[Clock, Field(alias="from")] = "00:00"
    until: Clock = "24:00"
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    outside: Annotated[bool, Field(strict=True)] = False
    holidays: tuple[date, ...] = ()

    @model_validator(mode="after")
    def _lasts(self) -> "WhenSection":
        if _minutes(self.begin) == _minutes(self.until) or self.begin == "24:00":
            raise ValueError(f"from {self.begin} until {self.until} is no time at all")
        return self

    def hours(self) -> Hours:
        """As the rules know it."""
        return Hours(
            tuple(sorted({day for text in self.days for day in _day_numbers(text)})),
            _minutes(self.begin),
            _minutes(self.until),
            self.timezone,
            self.outside,
            tuple(sorted(day.isoformat() for day in self.holidays)),
        )


class PolicySection(Section):
    """One rule; all that it says has to be so."""

    name: Annotated[str, Field(pattern=NAME)]
    actors: Annotated[Terms, Field(min_length=1)] = (ANYBODY,)
    unless_actors: Terms = ()
    trust: Literal["proven", "confirmed", "claimed"] = "confirmed"
    authn: Patterns = ()
    databases: Patterns = ()
    tables: Tables = ()
    unless_tables: Tables = ()
    columns: Columns = ()
    unless_columns: Columns = ()
    classes: tuple[Class, ...] = ()
    shapes: tuple[Shape, ...] = ()
    rows_over: Annotated[int, Field(ge=0, strict=True)] | None = None
    when: WhenSection | None = None
    unless_ticket: Patterns = ()
    unless_purpose: Patterns = ()
    unless_entitled: Literal["actor", "role"] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "PolicySection":
        if self.tables and self.columns:
            raise ValueError("give tables or columns, not both: write two rules")
        empty = [name for name in self.model_fields_set if getattr(self, name) == ()]
        if empty:
            raise ValueError(f"{empty[0]} is empty: leave it out")
        if not self.model_fields_set - {"name", "trust", "authn"}:
            raise ValueError("says nothing: every statement would break it")
        return self

    def policy(self) -> Policy:
        """As the rules know it."""
        said = {name: value for name, value in self if name != "when"}
        return Policy(**said, when=self.when.hours() if self.when else None)


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def _day_numbers(text: str) -> list[int]:
    first, _, last = text.partition("-")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return [day % len(DAYS) for day in range(begin, end + 1 if begin <= end else end + 8)]


def people(path: Path) -> tuple[list[Listed], tuple[Person, ...]]:
    """The lines of the list of people, and their periods.

    Raises:
        ConfigError: it can't be read or understood; names the line.
    """
    file = ActorFile(path)
    lines = list(file.lines())
    return lines, tuple(
        Person(
            one.actor,
            one.kind,
            one.groups if file.tells_groups else None,
            one.valid_from.isoformat() if one.valid_from else None,
            one.valid_until.isoformat() if one.valid_until else None,
        )
        for one in lines
    )


def check(
    policies: Iterable[PolicySection], path: Path, text: str, has_people: bool, has_roles: bool
) -> None:
    """Raises ConfigError where rules don't go with each other or with the rest of the file."""
    names: set[str] = set()
    for at, one in enumerate(policies):
        if one.name in names:
            raise ConfigError(
                f"there is another policy of the name {one.name!r}",
                place=f"{path}:{line(text, at, ['name'])}",
            )
        names.add(one.name)
        for key in ("actors", "unless_actors"):
            if UNLISTED in getattr(one, key) and not has_people:
                raise ConfigError(
                    f"policy {one.name}: {UNLISTED!r} needs a list of people",
                    place=f"{path}:{line(text, at, [key])}",
                    hint="name one: [actors] file",
                )
        if one.unless_entitled == ACTOR and not has_roles:
            raise ConfigError(
                f"policy {one.name}: nobody's own database roles are known",
                place=f"{path}:{line(text, at, ['unless_entitled'])}",
                hint="say whose they are: [actors] roles or group_roles",
            )


def check_rights(policies: Iterable[PolicySection | Policy], has_rights: bool) -> None:
    """Raises ConfigError where a rule asks for rights of which no snapshot tells."""
    asking = [one.name for one in policies if one.unless_entitled is not None]
    if asking and not has_rights:
        raise ConfigError(
            f"policy {asking[0]}: unless_entitled needs snapshots of who may do what",
            hint="give --schema what `scalple-ingest schema snapshot` writes, taken from time to time",
        )


def check_names(
    policies: Iterable[PolicySection],
    path: Path,
    catalogs: Sequence["Catalog"],
    declared: Iterable[str],
) -> None:
    """Whether the schema has, or once had, what rules name without `*`; a rule for what isn't there finds nothing.

    Raises:
        ConfigError: it hasn't; names the line.
    """
    own = {column.rpartition(".")[0] for column in declared}
    for at, one in enumerate(policies):
        for key in ("tables", "unless_tables", "columns", "unless_columns"):
            for name in getattr(one, key):
                is_free = "*" in name or name == PERSONAL
                if not is_free and not any(_is_there(name, one, own) for one in catalogs):
                    text = path.read_text("utf-8")
                    raise ConfigError(
                        f"policy {one.name}: the schema has no {name}",
                        place=f"{path}:{line(text, at, [key])}",
                        hint="check its spelling, and that the schema is the newest one",
                    )


def _is_there(name: str, catalog: "Catalog", declared: set[str]) -> bool:
    if name.partition(".")[0] in _SYSTEM_SCHEMAS:
        return True
    schema, relation, *column = name.split(".")
    table = f"{schema}.{relation}"
    if table in catalog.views or (table in declared and table not in catalog.tables):
        return True
    found = catalog.tables.get(table)
    if found is None:
        return False
    return not column or not found.complete or column[0] in found.columns


def line(text: str, index: int, keys: list[str]) -> int:
    """The line of a key of the policy with that number, or of its header."""
    seen, best, here, inner = -1, 1, False, False
    for number, content in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.]+)\s*\]", content):
            if header[1] == "[[" and header[2] == "policy":
                seen += 1
                if seen == index:
                    best = number
            here = seen == index and header[2].partition(".")[0] == "policy"
            inner = here and header[2] == "policy.when"
            if inner and keys[:1] == ["when"]:
                best = number
        elif here and (key := re.match(r"""\s*["']?([\w-]+)["']?\s*=""", content)):
            path = ["when", key[1]] if inner else [key[1]]
            if path == keys[: len(path)]:
                best = number
    return best
