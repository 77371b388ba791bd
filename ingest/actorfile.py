"""The identity file: which actors there are, and from when to when.

Enters: a CSV with a header, one actor a line: `actor` and, if known, `email`, `kind` (human, service,
agent), `groups` (parted by spaces), `valid_from` and `valid_until` (RFC 3339 or a date, UTC; until
is exclusive). Leaves: the actors valid at a moment. To revoke somebody is to remove the line or to
end it. Several lines may give one actor several periods.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scalple.ingest.errors import ConfigError

_COLUMNS = frozenset({"actor", "email", "kind", "groups", "valid_from", "valid_until"})
_KINDS = frozenset({"human", "service", "agent"})


@dataclass(frozen=True, slots=True)
class Listed:
    """One line."""

    actor: str
    email: str | None
    kind: str | None
    groups: tuple[str, ...]
    valid_from: datetime | None
    valid_until: datetime | None


class ActorFile:
    """The file's contents.

    Args:
        path: the CSV.

    Raises:
        ConfigError: it can't be read or understood; names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, list[Listed]] = {}
        self.tells_groups = False
        """There is a column for groups."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                self._read(csv.DictReader(file, strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"can't read the identity file: {reason}", place=str(path)) from error

    def _read(self, rows: "csv.DictReader[str]") -> None:
        columns = set(rows.fieldnames or ())
        if "actor" not in columns or columns - _COLUMNS:
            raise ConfigError(
                "the first line has to name the columns: "
                f"actor, and of {', '.join(sorted(_COLUMNS - {'actor'}))} what is there",
                place=f"{self.path}:1",
            )
        self.tells_groups = "groups" in columns
        for row in rows:
            place = f"{self.path}:{rows.line_num}"
            if None in row or None in row.values():
                raise ConfigError("more or fewer fields than columns", place=place)
            one = _listed({name: text.strip() for name, text in row.items()}, place)
            self._lines.setdefault(one.actor, []).append(one)

    def lines(self) -> Iterator[Listed]:
        """Everything it says, actor by actor."""
        for lines in self._lines.values():
            yield from lines

    def find(self, actor: str, now: datetime) -> Listed | None:
        """The actor's line that is valid now."""
        for one in self._lines.get(actor, ()):
            if (one.valid_from is None or one.valid_from <= now) and (
                one.valid_until is None or now < one.valid_until
            ):
                return one
        return None


def _listed(row: dict[str, str], place: str) -> Listed:
    if not row["actor"]:
        raise ConfigError("a line without an actor", place=place)
    kind = row.get("kind") or None
    if kind is not None and kind not in _KINDS:
        raise ConfigError(f"kind {kind!r} is none of {', '.join(sorted(_KINDS))}", place=place)
    return Listed(
        row["actor"],
        row.get("email") or None,
        kind,
        tuple(row.get("groups", "").split()),
        _moment(row.get("valid_from", ""), place),
        _moment(row.get("valid_until", ""), place),
    )


def _moment(text: str, place: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no time", place=place, hint="write 2026-03-31 or 2026-03-31T18:00:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
