"""pgbouncer.ini and what it includes -> what it says of logs, pools and names.

Enters: the path of a pgbouncer.ini. Leaves: `PoolerSettings`, each value with its place. Source: libusual's
cfparser.c and PgBouncer's doc/config.md (1.12 to 1.26): a comment is a line that begins with `;` or `#`, the
last value wins, `%include FILE` is read where it stands (relative to the working directory of the process;
here to the file's own folder where there is none of that name). Passwords in connection strings are not kept.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scalple.ingest.errors import InputError
from scalple.ingest.serversettings import INCLUDES_MAX, LINE_MAX, Setting, Torn, read_settings

_DEPTH_MAX = 10
_HINT = "run this as an account that may, such as postgres or pgbouncer"
_SECTION = re.compile(r"\[(?P<name>[^\]]*)\]\s*")
_PAIR = re.compile(r"(?P<name>[^\s=]+|\"(?:[^\"]|\"\")*\")\s*=\s*(?P<value>.*?)\s*")
_INCLUDE = re.compile(r"%include\s+(?P<file>.+?)\s*")
_PART = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<value>'(?:[^']|'')*'|[^\s']*)")
_SHOWN = frozenset(
    {
        *("host", "port", "dbname", "user", "pool_mode", "pool_size", "min_pool_size"),
        *("reserve_pool", "reserve_pool_size", "max_db_connections", "max_db_client_connections"),
        *("auth_user", "auth_dbname", "client_encoding", "datestyle", "timezone"),
        *("application_name", "load_balance_hosts", "server_lifetime"),
    }
)
"""Options in which nothing secret stands."""
_KEPT = frozenset({"host", "port", "dbname", "user", "pool_mode", "auth_user", "application_name"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of `[databases]` or `[users]`."""

    name: str
    options: Mapping[str, str]
    """What is said of it that matters here; no password."""
    file: Path
    line: int
    text: str | None
    """The line as it stands; None of one that holds more than this program may repeat."""

    @property
    def place(self) -> str:
        """`FILE:LINE`."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class PoolerSettings:
    """What one pgbouncer.ini says."""

    main: Path
    settings: Mapping[str, Setting]
    """Of `[pgbouncer]`, by name."""
    databases: tuple[Entry, ...] = ()
    users: tuple[Entry, ...] = ()
    torn: tuple[Torn, ...] = ()

    def get(self, name: str) -> Setting | None:
        """What is said of a setting, if anything."""
        return self.settings.get(name)

    def value(self, name: str, default: str) -> str:
        """The value that holds."""
        found = self.settings.get(name)
        return default if found is None else found.value

    def number(self, name: str, default: int) -> int:
        """The value of a number or boolean; one that is none counts as the default."""
        word = self.value(name, str(default)).lower()
        if word.isdigit():
            return int(word)
        return {"yes": 1, "on": 1, "true": 1, "no": 0, "off": 0, "false": 0}.get(word, default)

    @property
    def mode(self) -> str:
        """How pools are served that say nothing of their own."""
        return self.value("pool_mode", "session")

    def pools_of_another_mode(self) -> list[Entry]:
        """Databases and users that are served in another mode."""
        return [
            one
            for one in (*self.databases, *self.users)
            if one.options.get("pool_mode", self.mode) != self.mode
        ]


def read_ini(main: Path) -> PoolerSettings:
    """What a pgbouncer.ini says.

    Raises:
        InputError: it can't be read.
    """
    reading = _Reading()
    reading.read(main, read_settings(main, _HINT), 0)
    found = reading.entries
    return PoolerSettings(
        main,
        reading.settings,
        tuple(found.get("databases", {}).values()),
        tuple(found.get("users", {}).values()),
        tuple(reading.torn),
    )


@dataclass(slots=True)
class _Reading:
    """Collects, in the order in which PgBouncer reads."""

    section: str = ""
    settings: dict[str, Setting] = field(default_factory=dict)
    entries: dict[str, dict[str, Entry]] = field(default_factory=dict)
    torn: list[Torn] = field(default_factory=list)
    includes: int = 0

    def read(self, path: Path, text: str, depth: int) -> None:
        for number, line in enumerate(text.split("\n"), 1):
            line = line.strip()
            if not line or line[0] in ";#":
                continue
            if len(line) > LINE_MAX:
                self.torn.append(Torn(f"{path}:{number}", f"has more than {LINE_MAX} characters"))
                continue
            if include := _INCLUDE.fullmatch(line):
                self._include(include["file"], path, number, depth)
            elif section := _SECTION.fullmatch(line):
                self.section = section["name"].strip().lower()
            elif pair := _PAIR.fullmatch(line):
                self._pair(pair["name"].strip('"'), pair["value"], path, number)
            else:
                self.torn.append(Torn(f"{path}:{number}", "is no setting: syntax error"))

    def _pair(self, name: str, value: str, path: Path, number: int) -> None:
        if self.section == "pgbouncer":
            self.settings[name.lower()] = Setting(value, path, number)
        elif self.section in ("databases", "users"):
            parts = {part["name"]: _plain(part["value"]) for part in _PART.finditer(value)}
            kept = {key: said for key, said in parts.items() if key in _KEPT}
            # What isn't a list of such options may hold a password anywhere.
            is_plain = not _PART.sub("", value).strip() and parts.keys() <= _SHOWN
            is_plain = is_plain and not any("=" in said for said in parts.values())
            text = f"{name} = {value}" if is_plain else None
            entry = Entry(name, kept, path, number, text)
            self.entries.setdefault(self.section, {})[name] = entry

    def _include(self, name: str, path: Path, number: int, depth: int) -> None:
        place = f"{path}:{number}"
        self.includes += 1
        if self.includes > INCLUDES_MAX:
            self.torn.append(Torn(place, f"more than {INCLUDES_MAX} files are included"))
            return
        if depth >= _DEPTH_MAX:
            self.torn.append(Torn(place, f"%include is nested deeper than {_DEPTH_MAX}"))
            return
        target = Path(name) if Path(name).exists() else path.parent / name
        try:
            text = read_settings(target, _HINT)
        except InputError as error:
            self.torn.append(Torn(place, f"%include {name}: {error.what}"))
            return
        self.read(target, text, depth + 1)


def _plain(value: str) -> str:
    return value[1:-1].replace("''", "'") if value.startswith("'") else value
