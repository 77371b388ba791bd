"""The TOML configuration: read, checked, and turned into plain values for the layers below.

Enters: a path. Leaves: `Config`. Unknown keys are refused with the line at fault; relative paths
are relative to the file. Secrets never stand in the file, only paths to them.
"""

import datetime as dt
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from scalple.cli import policysection
from scalple.cli.daemonsection import DaemonSection
from scalple.cli.intakesection import IntakeSection, ShipSection
from scalple.cli.policysection import PolicySection
from scalple.cli.retentionsection import RetentionSection
from scalple.cli.s3section import S3Section
from scalple.cli.section import Pattern, Section
from scalple.cli.sidecarsection import SidecarSection
from scalple.correlate import keeping, maskingrules
from scalple.correlate.rules import COMMENT_FORMS, Actors, Claims, Clocks, Pooler, Rules
from scalple.ingest.errors import ConfigError

ORIGIN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


CommentForm = Literal["sqlcommenter", "metabase", "redash", "looker", "supabase", "dbt"]
_NAME = r"[^.\s]+(?: +[^.\s]+)*"  # as the server keeps it: no quotes; blanks only within
_COLUMN = re.compile(rf"{_NAME}\.{_NAME}\.{_NAME}")
_FUNCTION = re.compile(rf"(?!.*[()]){_NAME}\.{_NAME}")


HARMLESS = "none"
"""In the place of a masking rule: the column holds no personal data."""


def _masking_rule(value: object) -> object:
    """A rule's name, or `{ keep = PATTERN }` as the name that the layers below know."""
    if isinstance(value, dict):
        pattern = value.get("keep")
        if set(value) != {"keep"} or not isinstance(pattern, str):
            raise ValueError("a rule of one's own is { keep = 'PATTERN' }")
        if fault := keeping.fault(pattern):
            raise ValueError(f"the pattern {pattern!r} {fault}")
        return keeping.PREFIX + pattern
    if isinstance(value, str) and value.startswith(keeping.PREFIX):
        raise ValueError("a rule of one's own is { keep = 'PATTERN' }")
    return value


MaskingRule = Annotated[str, BeforeValidator(_masking_rule)]


def _in_utc(value: object) -> object:
    """TOML's local dates and times are in UTC."""
    if isinstance(value, dt.datetime):
        return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time(), dt.UTC)
    return value


class SchemaFile(Section):
    """A schema, and the time from which it holds."""

    file: str
    since: Annotated[dt.datetime, BeforeValidator(_in_utc), Field(alias="from", strict=True)]


class Sources(Section):
    """Where the logs are."""

    postgres: tuple[str, ...] = ()
    pgbouncer: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    log_line_prefix: str | tuple[str, ...] = ()
    """Of stderr logs, as in postgresql.conf; recognised from the file where it isn't stated."""
    timezone: str | None = None
    """PostgreSQL's log_timezone; needed only where it is not UTC."""
    schema_files: Annotated[tuple[str | SchemaFile, ...], Field(alias="schema")] = ()
    """CREATE TABLE statements, such as pg_dump --schema-only writes, or snapshots."""

    def dated_schemas(self) -> tuple[tuple[str, dt.datetime | None], ...]:
        """Paths, and the times from which they hold."""
        return tuple(
            (one, None) if isinstance(one, str) else (one.file, one.since)
            for one in self.schema_files
        )

    def log_line_prefixes(self) -> tuple[str, ...]:
        """One or several."""
        stated = self.log_line_prefix
        return (stated,) if isinstance(stated, str) else stated


class PoolerSection(Section):
    """What stands before PostgreSQL."""

    kind: Literal["pgbouncer", "none"] = "pgbouncer"
    mode: Literal["transaction", "session", "statement"] = "transaction"


class ActorsSection(Section):
    """Who is behind PostgreSQL's own names."""

    roles: dict[str, str] = Field(default={})
    identities: dict[str, str] = Field(default={})
    emails: dict[str, str] = Field(default={})
    group_roles: dict[str, str] = Field(default={})
    """Group -> the database role that its members have in person."""
    file: str | None = None
    """CSV of people: groups, kinds, and from when to when they were here."""


class ClaimsSection(Section):
    """What of a client's own words is read: never more than `claimed`."""

    comments: tuple[CommentForm, ...] = Field(default=COMMENT_FORMS, validate_default=True)
    comment_keys: tuple[str, ...] = Claims().comment_keys
    comment_patterns: tuple[Pattern, ...] = ()
    name_patterns: tuple[Pattern, ...] = ()


class ClocksSection(Section):
    """How well the clocks of the hosts agree that write the logs."""

    skew_ms: Annotated[int, Field(ge=0, le=60_000, strict=True)] = 0


class Keys(Section):
    """Paths of key files; without them keys are made beside a local store."""

    subject_key_file: str | None = None
    subject_key_period: Literal["month", "quarter", "year"] | None = None
    """Each has a key of its own, made when it begins; subject_key_file is then the one of before."""
    subject_key_directory: str | None = None
    """Where those are."""
    former_subject_key_files: tuple[str, ...] = ()
    """Of earlier periods, so that their subjects can be looked up."""
    signing_key_file: str | None = None
    access_key_file: str | None = None


class Config(Section):
    """A whole configuration; every key is optional."""

    origin: Annotated[str, Field(pattern=ORIGIN)] | None = None
    store: str | None = None
    access: Literal["on", "off"] = "on"
    """Whether questions asked of the store are logged; `off` is recorded in the store."""
    only_host: Annotated[bool, Field(strict=True)] = False
    """No other host writes to the store, though it lies on a network file system."""
    sources: Sources = Sources()
    pooler: PoolerSection = PoolerSection()
    identifiers: dict[str, tuple[str, ...]] = Field(default={})
    personal_data: dict[str, MaskingRule] = Field(default={})
    functions: dict[str, tuple[str, ...]] = Field(default={})
    actors: ActorsSection = ActorsSection()
    claims: ClaimsSection = ClaimsSection()
    clocks: ClocksSection = ClocksSection()
    policy: tuple[PolicySection, ...] = ()
    sidecar: SidecarSection = SidecarSection()
    daemon: DaemonSection = DaemonSection()
    intake: IntakeSection = IntakeSection()
    ship: ShipSection = ShipSection()
    keys: Keys = Keys()
    retention: RetentionSection = RetentionSection()
    s3: S3Section = S3Section()

    def rules(self) -> Rules:
        """The declarations that shape rows, as the layers below know them.

        Raises:
            ConfigError: the list of people can't be read.
        """
        file, people = (
            policysection.people(Path(self.actors.file)) if self.actors.file else ((), ())
        )
        emails = {one.actor: one.email for one in file if one.email}
        return Rules(
            identifiers=self.identifiers,
            personal_data={c: rule for c, rule in self.personal_data.items() if rule != HARMLESS},
            harmless=tuple(c for c, rule in self.personal_data.items() if rule == HARMLESS),
            actors=Actors(
                self.actors.roles,
                self.actors.identities,
                emails | self.actors.emails,
                self.actors.group_roles,
            ),
            functions=self.functions,
            pooler=Pooler(self.pooler.kind, self.pooler.mode),
            claims=Claims(**dict(self.claims), variables=self.sidecar.variables),
            clocks=Clocks(self.clocks.skew_ms),
            policies=tuple(one.policy() for one in self.policy),
            people=people,
        )


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: it can't be read, is no TOML, or holds something unknown; names the line.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise ConfigError(
            f"can't read the configuration: {reason}", place=str(path), hint="check --config"
        ) from error
    try:
        config = Config.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise _fault(path, text, error) from error
    except RecursionError as error:
        raise ConfigError("not valid TOML: nested too deeply", place=str(path)) from error
    except ValueError as error:  # TOMLDecodeError is one, a number with thousands of digits another
        raise ConfigError(f"not valid TOML: {error}", place=str(path)) from error
    _check_columns(path, text, config)
    has_roles = bool(config.actors.roles or config.actors.group_roles)
    policysection.check(config.policy, path, text, bool(config.actors.file), has_roles)
    _check_functions(path, text, config)
    _check_keeping(path, text, config)
    return _absolute(config, path.resolve().parent)


def _fault(path: Path, text: str, error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False)[0]
    keys = [str(part) for part in first["loc"]]
    name = ".".join(keys)
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(_known_keys(keys[:-1])))
        return ConfigError(
            f"unknown key {name!r}", place=_place(path, text, keys), hint=f"known here: {known}"
        )
    return ConfigError(f"{name}: {first['msg']}", place=_place(path, text, keys))


def _known_keys(sections: list[str]) -> list[str]:
    model: type[BaseModel] = Config
    for name in sections:
        if name.isdigit():
            continue  # the place in an array of tables
        found = model.model_fields[name].annotation if name in model.model_fields else None
        kinds = [one for one in (found, *get_args(found)) if isinstance(one, type)]
        inner = next((one for one in kinds if issubclass(one, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _place(path: Path, text: str, keys: list[str]) -> str:
    """`file:line` of a key: its own line, or the line of the nearest section above it."""
    if keys[0] == "policy" and len(keys) > 1:
        return f"{path}:{policysection.line(text, int(keys[1]), keys[2:])}"
    section: list[str] = []
    best = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            section = [part.strip("\"' ") for part in header[1].split(".")]
            if section == keys[: len(section)]:
                best = number
        elif found := re.match(r"""\s*(?:"([^"]+)"|'([^']+)'|([\w.-]+))\s*=""", line):
            key = next(part for part in found.groups() if part is not None)
            if [*section, key] == keys[: len(section) + 1]:
                return f"{path}:{number}"
    return f"{path}:{best}"


def _check_columns(path: Path, text: str, config: Config) -> None:
    for name, columns in config.identifiers.items():
        for column in columns:
            if not _COLUMN.fullmatch(column):
                raise ConfigError(
                    f"{column!r} is not schema.table.column",
                    place=_place(path, text, ["identifiers", name]),
                )
    for column, rule in config.personal_data.items():
        if not _COLUMN.fullmatch(column):
            raise ConfigError(
                f"{column!r} is not schema.table.column",
                place=_place(path, text, ["personal_data", column]),
            )
        place = _place(path, text, ["personal_data", column])
        fault = None if rule == HARMLESS else maskingrules.fault(rule)
        if rule == HARMLESS and any(column in many for many in config.identifiers.values()):
            fault = f"{column!r} is an identifier, whose values are always masked"
        if fault:
            raise ConfigError(fault, place=place, hint=maskingrules.RULES_HINT)


def _check_functions(path: Path, text: str, config: Config) -> None:
    for function, named in config.functions.items():
        place = _place(path, text, ["functions", function])
        if not _FUNCTION.fullmatch(function):
            raise ConfigError(
                f"{function!r} is not schema.name", place=place, hint="without brackets or types"
            )
        for identifier in named:
            if identifier and identifier not in config.identifiers:
                known = ", ".join(sorted(config.identifiers))
                raise ConfigError(
                    f"{identifier!r} is not declared under [identifiers]",
                    place=place,
                    hint=f'known there: {known or "none"}; "" for an argument that names nobody',
                )


def _check_keeping(path: Path, text: str, config: Config) -> None:
    try:
        config.retention.policy()
    except ConfigError as error:
        place = _place(path, text, ["retention"])
        raise ConfigError(error.what, place=place, hint=error.hint) from error


def _absolute(config: Config, base: Path) -> Config:
    def whole(one: str | None) -> str | None:
        return one if one is None or "://" in one else os.path.normpath(base / one)

    def wholes(many: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(os.path.normpath(base / one) for one in many)

    sources: dict[str, Any] = {
        name: wholes(getattr(config.sources, name))
        for name in ("postgres", "pgbouncer", "identity")
    }
    sources["schema_files"] = tuple(
        os.path.normpath(base / one)
        if isinstance(one, str)
        else one.model_copy(update={"file": os.path.normpath(base / one.file)})
        for one in config.sources.schema_files
    )
    return config.model_copy(
        update={
            "store": whole(config.store),
            "sources": config.sources.model_copy(update=sources),
            "s3": config.s3.model_copy(update={"cache_dir": whole(config.s3.cache_dir)}),
            "actors": config.actors.model_copy(update={"file": whole(config.actors.file)}),
            "sidecar": _absolute_files(config.sidecar, base),
            "intake": _absolute_files(config.intake, base),
            "ship": _absolute_files(config.ship, base).model_copy(
                update={"events": wholes(config.ship.events)}
            ),
            "keys": Keys(
                subject_key_file=whole(config.keys.subject_key_file),
                subject_key_period=config.keys.subject_key_period,
                subject_key_directory=whole(config.keys.subject_key_directory),
                former_subject_key_files=wholes(config.keys.former_subject_key_files),
                signing_key_file=whole(config.keys.signing_key_file),
                access_key_file=whole(config.keys.access_key_file),
            ),
        }
    )


_S = TypeVar("_S", bound=Section)


def _absolute_files(section: _S, base: Path) -> _S:
    """The section with its files' paths absolute; addresses stay as they are."""

    def whole(model: Section) -> dict[str, Any]:
        paths: dict[str, Any] = {
            name: os.path.normpath(base / value)
            for name, value in model
            if isinstance(value, str)
            and (name.endswith("_file") or name in ("events", "directory"))
        }
        for name, value in model:
            if isinstance(value, Section):
                paths[name] = value.model_copy(update=whole(value))
            elif isinstance(value, tuple) and any(isinstance(one, Section) for one in value):
                paths[name] = tuple(one.model_copy(update=whole(one)) for one in value)
        return paths

    return section.model_copy(update=whole(section))
