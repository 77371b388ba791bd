"""postgresql.conf and what it includes -> the settings that hold, each with its place.

Enters: the path of a postgresql.conf. Leaves: `ServerSettings`: of each setting the value that wins, and the
file and line that say so. Sources: src/backend/utils/misc/guc-file.l and conf_files (PostgreSQL 9.5 to 18):
includes are read where they stand, the last line wins, and postgresql.auto.conf is read after all of them.
Asks no server (see `liveserver`), knows no defaults, changes nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scalple.ingest.errors import InputError

AUTO = "postgresql.auto.conf"
"""What ALTER SYSTEM writes."""
INCLUDES_MAX = 200
"""So many files may be included in all; ones that include each other end there."""
LINE_MAX = 4096
_HINT = "run this as an account that may, such as postgres, or ask the server with --dsn"
_DEPTH_MAX = 10
_NAME = r"[A-Za-z_\x80-\U0010ffff][\w$]*(?:\.[A-Za-z_\x80-\U0010ffff][\w$]*)?"
_WORD = r"[A-Za-z_\x80-\U0010ffff][\w.:/\-]*"
_NUMBER = r"[+-]?(?:0x[0-9A-Fa-f]+|\d*\.\d*(?:[eE][+-]?\d+)?|\d+)[A-Za-z]*"
_VALUE = rf"'(?:[^'\\]|\\.|'')*'|{_WORD}|{_NUMBER}"
_LINE = re.compile(rf"\s*(?P<name>{_NAME})(?:\s*=\s*|\s+)(?P<value>{_VALUE})\s*(?:#.*)?", re.DOTALL)
_NOTHING = re.compile(r"\s*(?:#.*)?")
_ESCAPED = re.compile(r"''|\\([0-7]{1,3}|.)")
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Setting:
    """What is set, and where.

    Attributes:
        value: without quotes.
        file: the file that says so; None where that isn't known, or it isn't said in a file.
        line: in it, from 1.
        source: who says so, in PostgreSQL's words (`configuration file`, `command line`, …).
    """

    value: str
    file: Path | None = None
    line: int | None = None
    source: str = "configuration file"

    @property
    def place(self) -> str | None:
        """`FILE:LINE`, as far as it is known."""
        if self.file is None:
            return None
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"

    @property
    def is_by_alter_system(self) -> bool:
        """A line in any other file would change nothing."""
        return self.file is not None and self.file.name == AUTO


@dataclass(frozen=True, slots=True)
class Torn:
    """A line or file that can't be read.

    Attributes:
        place: `FILE:LINE`, or a file.
        why: what is wrong.
        is_ours: this account may not read it; otherwise the server would refuse it as well.
    """

    place: str
    why: str
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of one server.

    Attributes:
        main: the file to which a new line is added; None where it isn't known.
        data_directory: of the server; None where it isn't known.
        version: the major version; None where it isn't known.
        settings: what is set, by lower-case name.
        torn: what can't be read.
        is_live: the server itself was asked: what isn't there isn't known to it.
    """

    main: Path | None
    data_directory: Path | None
    version: int | None
    settings: Mapping[str, Setting]
    torn: tuple[Torn, ...] = ()
    is_live: bool = False

    def get(self, name: str) -> Setting | None:
        """What is said of a setting, if anything."""
        return self.settings.get(name)

    def value(self, name: str, default: str) -> str:
        """The value that holds."""
        found = self.settings.get(name)
        return default if found is None else found.value

    def flag(self, name: str, default: bool) -> bool:
        """The value of a boolean; one that is none counts as the default."""
        found = self.settings.get(name)
        return default if found is None else read_flag(found.value, default)


def read_flag(text: str, default: bool) -> bool:
    """A boolean as PostgreSQL reads it: any beginning of a word that fits one only."""
    word = text.strip().lower()
    if not word or word == "o":
        return default
    if any(one.startswith(word) for one in _TRUE):
        return True
    return False if any(one.startswith(word) for one in _FALSE) else default


def read_files(main: Path, data_directory: Path | None = None) -> ServerSettings:
    """What a postgresql.conf says, with all that it includes.

    Args:
        main: the postgresql.conf.
        data_directory: where postgresql.auto.conf is, if `main` neither says it nor lies there.

    Raises:
        InputError: `main` itself can't be read.
    """
    reading = _Reading()
    text = read_settings(main, _HINT)
    reading.read(main, text, 0)
    said = reading.settings.get("data_directory")
    directory = data_directory or (Path(said.value) if said else main.parent)
    if not directory.is_absolute():
        directory = main.parent / directory
    auto = directory / AUTO
    try:
        reading.read(auto, read_settings(auto, _HINT), 0)
    except InputError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            is_ours = isinstance(error.__cause__, PermissionError)
            reading.torn.append(Torn(str(auto), error.what, is_ours))
    return ServerSettings(
        main, directory, _version(main, directory), reading.settings, tuple(reading.torn)
    )


def _version(main: Path, directory: Path) -> int | None:
    """From PG_VERSION; Debian has it in the path as well."""
    try:
        text = (directory / "PG_VERSION").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        parts = main.resolve().parts
        text = parts[-3] if len(parts) > 3 and parts[-4] == "postgresql" else ""
    major = text.partition(".")[0]
    return int(major) if major.isdigit() else None


def read_settings(path: Path, hint: str) -> str:
    """A file of settings; bytes that are no UTF-8 stay as they are (`surrogateescape`).

    Raises:
        InputError: it can't be read; says what to do.
    """
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InputError(
            f"can't be read: {(error.strerror or str(error)).lower()}", place=str(path), hint=hint
        ) from error


@dataclass(slots=True)
class _Reading:
    """Collects, in the order in which the server reads."""

    settings: dict[str, Setting] = field(default_factory=dict)
    torn: list[Torn] = field(default_factory=list)
    includes: int = 0

    def read(self, path: Path, text: str, depth: int) -> None:
        for number, line in enumerate(text.split("\n"), 1):
            line = line.removesuffix("\r")
            if len(line) > LINE_MAX:
                self.torn.append(Torn(f"{path}:{number}", f"has more than {LINE_MAX} characters"))
                continue
            if _NOTHING.fullmatch(line):
                continue
            found = _LINE.fullmatch(line)
            if found is None:
                self.torn.append(Torn(f"{path}:{number}", "is no setting: syntax error"))
                continue
            name, value = found["name"].lower(), _unquoted(found["value"])
            if name in ("include", "include_if_exists", "include_dir"):
                self._include(name, value, path, number, depth)
            else:
                self.settings[name] = Setting(value, path, number)

    def _include(self, how: str, value: str, path: Path, number: int, depth: int) -> None:
        place = f"{path}:{number}"
        target = path.parent / value
        if self.includes >= INCLUDES_MAX:
            return
        if depth >= _DEPTH_MAX:
            self.torn.append(Torn(place, f"{how} is nested deeper than {_DEPTH_MAX}"))
            return
        try:
            for one in _included(target) if how == "include_dir" else (target,):
                self.includes += 1
                if self.includes >= INCLUDES_MAX:
                    self.torn.append(Torn(place, f"more than {INCLUDES_MAX} files are included"))
                    return
                self.read(one, read_settings(one, _HINT), depth + 1)
        except InputError as error:
            if how == "include_if_exists" and isinstance(error.__cause__, FileNotFoundError):
                return
            is_ours = isinstance(error.__cause__, PermissionError)
            self.torn.append(Torn(place, f"{how} {target}: {error.what}", is_ours))
        except OSError as error:
            why = f"{how} {target}: {(error.strerror or '').lower()}"
            self.torn.append(Torn(place, why, isinstance(error, PermissionError)))


def _included(directory: Path) -> Iterator[Path]:
    """The files of an include_dir, in the server's order."""
    names = (one for one in directory.iterdir() if one.name.endswith(".conf"))
    yield from sorted(
        (one for one in names if not one.name.startswith(".") and not one.is_dir()),
        key=lambda one: one.name.encode("utf-8", "surrogateescape"),
    )


def _unquoted(text: str) -> str:
    if not text.startswith("'"):
        return text

    def plain(found: re.Match[str]) -> str:
        escaped = found[1]
        if escaped is None:
            return "'"
        if escaped[0] in "01234567":
            return chr(int(escaped, 8) & 0xFF)
        return _LETTERS.get(escaped, escaped)

    return _ESCAPED.sub(plain, text[1:-1])


def quoted(value: str) -> str:
    """A value as it can stand in postgresql.conf and in SQL alike."""
    doubled = value.replace("'", "''").replace("\\", "\\\\")
    return f"'{doubled}'"
